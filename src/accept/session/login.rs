//! AUTH within a session (RFC 4954 §4): only within TLS, only once, and not inside a transaction.

use super::{Encryption, Session, State};
use crate::accept::ClientAccess;
use crate::accept::CloseReason;
use crate::accept::replies;
use crate::accept::rules::Offer;
use crate::accept::step::{LoginOutcome, Step};
use crate::smtp::error::CommandError;
use crate::smtp::line::LineError;
use crate::smtp::sasl::{AuthCommand, SaslExchange, SaslFault, SaslStep, Secret};
use std::sync::Arc;

/// So many wrong passwords end a session: whoever types gets another try or two, whoever guesses has to
/// connect again.
const FAILED_LOGINS_LIMIT: u32 = 3;

impl Session {
    /// Whether AUTH stands in the answer to EHLO: where it can be used now.
    pub(super) fn auth_offer(&self) -> Offer {
        match (self.rules.auth, self.channel, &self.user) {
            (Offer::Yes, Encryption::Tls, None) => Offer::Yes,
            (Offer::Yes | Offer::No, Encryption::Tls | Encryption::Clear, _) => Offer::No,
        }
    }

    pub(super) fn auth(&mut self, state: State, command: &AuthCommand) -> (State, Step) {
        if self.rules.auth == Offer::No {
            return self.bad_command(state, CommandError::NotImplemented);
        }
        if self.channel == Encryption::Clear {
            return self.bad(state, replies::auth_needs_tls());
        }
        if self.user.is_some() {
            return self.bad(state, replies::bad_sequence("you are logged in already"));
        }
        if self.hello.is_none() {
            return self.bad(state, replies::bad_sequence("send EHLO first"));
        }
        if !matches!(state, State::AwaitMail) {
            return self.bad(state, replies::bad_sequence("AUTH is not possible within a transaction"));
        }
        self.goes_on(SaslExchange::begin(command))
    }

    /// The next line of the client in an exchange.
    pub(super) fn response(&mut self, exchange: SaslExchange, line: Result<Secret, LineError>) -> (State, Step) {
        match line {
            Ok(line) => self.goes_on(exchange.on(&line)),
            Err(error) => self.bad(State::AwaitMail, replies::auth_line(error)),
        }
    }

    fn goes_on(&mut self, step: SaslStep) -> (State, Step) {
        match step {
            SaslStep::Challenge(exchange, text) => {
                (State::Exchanging(exchange), Step::Challenge(replies::challenge(text)))
            }
            SaslStep::Complete(credentials) => (State::LoggingIn, Step::LogIn(credentials)),
            SaslStep::Fault(SaslFault::Refused) => self.login_failed(),
            SaslStep::Fault(fault) => self.bad(State::AwaitMail, replies::auth_fault(fault)),
        }
    }

    pub(super) fn login_ended(&mut self, outcome: LoginOutcome) -> (State, Step) {
        match outcome {
            LoginOutcome::Right(user) => {
                self.user = Some(Arc::clone(&user));
                self.standing = ClientAccess::Permitted;
                (State::AwaitMail, Step::Send(replies::logged_in()))
            }
            LoginOutcome::Wrong => self.login_failed(),
            LoginOutcome::NotNow => self.bad(State::AwaitMail, replies::auth_busy()),
        }
    }

    fn login_failed(&mut self) -> (State, Step) {
        self.failed_logins += 1;
        if self.failed_logins >= FAILED_LOGINS_LIMIT {
            let reply = replies::too_many_failed_logins();
            return (State::Ended, Step::Close(reply, CloseReason::TooManyFailedLogins));
        }
        self.bad(State::AwaitMail, replies::auth_refused())
    }
}
