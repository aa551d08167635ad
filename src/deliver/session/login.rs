//! Logging in, between EHLO and MAIL (RFC 4954). Only inside TLS to a server that is proven to be the
//! right one; whatever goes wrong with it is ours to set right, and no recipient's fault.

use super::{Session, State, Step};
use crate::deliver::auth::{LoginExchange, LoginMechanism};
use crate::deliver::egress::Login;
use crate::outcome::{Cause, EgressFailure, TlsVerdict};
use crate::smtp::reply::{Reply, Severity};

/// What stands for the words of a server that repeat the login.
const WITHHELD: &str = "(withheld: it repeats the login)";
/// What a server says that does not know the mechanism, or wants a stronger one (RFC 4954 §4, §6).
const ANOTHER_MECHANISM: [u16; 2] = [504, 534];

/// Who we are, and what makes each login another one.
#[derive(Clone, Debug)]
pub(crate) struct LoginJob {
    /// The name and its password.
    pub login: Login,
    /// Random, and printable without a comma.
    pub nonce: String,
}

/// How far the login has come.
#[derive(Debug, Default)]
pub(super) enum LoginState {
    #[default]
    Before,
    /// With those that are left to try, the strongest first.
    Trying(LoginExchange, Vec<LoginMechanism>),
    Done,
}

impl Session {
    /// The first line of the login, or its failure; nothing where there is none to come.
    pub(super) fn log_in(&mut self) -> Option<Step> {
        let LoginState::Before = self.login else { return None };
        let job = self.job.login.as_ref()?;
        match self.tls {
            Some(TlsVerdict::Dane { .. } | TlsVerdict::WebPki { .. } | TlsVerdict::WebPkiAndDane { .. }) => {}
            Some(TlsVerdict::ClearText | TlsVerdict::Unauthenticated { .. }) | None => {
                return Some(self.fail_login(EgressFailure::LoginUnprotected { cause: None }));
            }
        }
        let usable = LoginMechanism::usable(&self.offered.auth, &job.login);
        Some(self.try_next(usable))
    }

    fn try_next(&mut self, mut usable: Vec<LoginMechanism>) -> Step {
        let Some(job) = self.job.login.as_ref() else { return self.before_mail() };
        if usable.is_empty() {
            let (peer, offered) = (self.job.peer.clone(), self.offered.auth.clone());
            return self.fail_login(EgressFailure::LoginNotOffered { peer, offered });
        }
        let (exchange, line) = LoginExchange::begin(usable.remove(0), &job.login, &job.nonce);
        self.login = LoginState::Trying(exchange, usable);
        self.state = State::Auth;
        Step::SendSecret(line)
    }

    pub(super) fn after_auth(&mut self, reply: Reply) -> Step {
        let LoginState::Trying(mut exchange, left) = std::mem::take(&mut self.login) else {
            return self.fail(self.protocol("a reply that nothing asked for"));
        };
        let peer = self.job.peer.clone();
        match (reply.severity(), reply.code) {
            (Severity::Intermediate, _) => match exchange.answer(&reply.text()) {
                Ok(line) => {
                    self.login = LoginState::Trying(exchange, left);
                    Step::SendSecret(line)
                }
                Err(detail) => self.fail_login(EgressFailure::LoginUnsound { peer, detail: detail.to_owned() }),
            },
            (Severity::Completed, _) => match exchange.ended() {
                Ok(()) => {
                    self.login = LoginState::Done;
                    self.before_mail()
                }
                Err(detail) => self.fail_login(EgressFailure::LoginUnsound { peer, detail: detail.to_owned() }),
            },
            (Severity::Permanent, code) if ANOTHER_MECHANISM.contains(&code) && !left.is_empty() => self.try_next(left),
            // It has no place for us now, whoever we are.
            (Severity::Transient, 421) => self.fail(self.rejected(self.without_secrets(reply))),
            (Severity::Transient | Severity::Permanent, _) => {
                let reply = self.without_secrets(reply);
                self.fail_login(EgressFailure::LoginRefused { peer, reply })
            }
        }
    }

    /// A failure of TLS before a login, told as what it is: the reason for not logging in.
    pub(super) fn as_egress(&self, cause: Cause) -> Cause {
        let is_before = self.job.login.is_some() && matches!(self.login, LoginState::Before);
        if !is_before || cause.unprotected().is_none() {
            return cause;
        }
        let failure = EgressFailure::LoginUnprotected { cause: Some(Box::new(cause)) };
        Cause::EgressFailed { host: self.job.peer.host.clone(), failure }
    }

    fn fail_login(&mut self, failure: EgressFailure) -> Step {
        self.fail(Cause::EgressFailed { host: self.job.peer.host.clone(), failure })
    }

    fn without_secrets(&self, mut reply: Reply) -> Reply {
        for line in &mut reply.lines {
            if self.job.login.as_ref().is_some_and(|job| job.login.is_repeated_in(line)) {
                WITHHELD.clone_into(line);
            }
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, Job, StartTlsUse, Transfer};
    use super::*;
    use crate::outcome::{DemandedBy, Peer, Phase};
    use crate::smtp::reply::ReplyParser;

    fn session(tls: TlsVerdict, auth: &str) -> (Session, Step) {
        let job = Job {
            hostname: "relay.test".into(),
            peer: Peer { host: "smart.test".into(), address: "192.0.2.1:587".parse().unwrap() },
            starttls: StartTlsUse::Required(DemandedBy::Operator),
            require_tls: false,
            most_recipients: None,
            transfer: Transfer::Data,
            message: None,
            login: Some(LoginJob { login: Login::new("relay", "hunter2"), nonce: "n".into() }),
        };
        let mut session = Session::new(job);
        session.on(Event::Connected);
        say(&mut session, "220 hello\r\n");
        say(&mut session, "250-smart.test\r\n250 STARTTLS\r\n");
        say(&mut session, "220 go\r\n");
        session.on(Event::Secured(tls));
        let step = say(&mut session, &format!("250-smart.test\r\n250 {auth}\r\n"));
        (session, step)
    }

    fn proven() -> TlsVerdict {
        TlsVerdict::WebPki { version: "TLSv1.3".into(), host: "smart.test".into() }
    }

    fn say(session: &mut Session, wire: &str) -> Step {
        let mut parser = ReplyParser::default();
        let reply = wire.split_inclusive('\n').find_map(|line| parser.line(line.as_bytes()).unwrap());
        session.on(Event::Reply(reply.unwrap()))
    }

    fn word(session: &Session) -> &'static str {
        session.failure().map_or("none", |cause| cause.row().word)
    }

    #[test]
    fn rfc4954_4_a_login_comes_before_anything_else_is_said() {
        let (mut session, step) = session(proven(), "AUTH LOGIN PLAIN");
        assert!(matches!(&step, Step::SendSecret(line) if line.wire().starts_with(b"AUTH PLAIN ")), "{step:?}");
        assert_eq!(session.phase(), Phase::Auth);
        assert_eq!(say(&mut session, "235 2.7.0 welcome\r\n"), Step::Finish);
        assert_eq!(word(&session), "none");
    }

    #[test]
    fn rfc4954_6_a_refused_login_is_ours_and_temporary() {
        for refused in ["535 5.7.8 no\r\n", "454 4.7.0 later\r\n", "538 5.7.11 no\r\n", "530 5.7.0 no\r\n"] {
            let (mut session, _) = session(proven(), "AUTH PLAIN");
            assert_eq!(say(&mut session, refused), Step::Finish);
            let cause = session.failure().unwrap();
            assert_eq!((cause.row().word, cause.row().side.word(), cause.class().digit()), ("login-failed", "here", 4));
        }
        let (mut session, _) = session(proven(), "AUTH PLAIN LOGIN");
        let next = say(&mut session, "504 5.5.4 not today\r\n");
        assert!(matches!(&next, Step::SendSecret(line) if line.wire() == b"AUTH LOGIN\r\n"), "{next:?}");
    }

    #[test]
    fn nobody_gets_a_password_who_is_not_proven_to_be_the_right_one() {
        for tls in [TlsVerdict::ClearText, TlsVerdict::Unauthenticated { version: "TLSv1.3".into() }] {
            let (session, step) = session(tls, "AUTH PLAIN");
            assert_eq!((step, word(&session)), (Step::Finish, "login-unprotected"));
        }
        let (session, _) = session(proven(), "AUTH GSSAPI");
        assert_eq!(word(&session), "login-failed");
    }

    #[test]
    fn what_a_server_repeats_of_the_login_is_withheld() {
        for secret in ["hunter2", "AHJlbGF5AGh1bnRlcjI="] {
            let (mut session, step) = session(proven(), "AUTH PLAIN");
            say(&mut session, &format!("535-5.7.8 no such login:\r\n535 5.7.8 {secret} is wrong\r\n"));
            let told = format!("{:?} {:?} {step:?}", session.failure(), session);
            assert!(told.contains("no such login") && told.contains("withheld") && !told.contains(secret), "{told}");
        }
    }
}
