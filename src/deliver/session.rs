//! The client's side of one SMTP conversation, without sockets and without a clock
//! (RFC 5321 §3, RFC 3207, RFC 2920).
//!
//! ```text
//! Greeting ─ Ehlo ─┬─ StartTls ─ Handshake ─ EhloInTls ─┬─ Mail ─ Rcpt… ─ Data ─ Body ─ EndOfData ─ Done
//!                  ├─ (Helo, when EHLO is refused) ─────┤
//! Ready ───────────┼────────────────────────────────────┤
//!                  └────────────────────────────────────┴─ Done, when only probing
//! ```
//!
//! A session never goes back; a further message on the same connection is a new session that
//! begins ready, with what the first one learned. Each recipient leaves with exactly one result,
//! or is left for a further transaction. After the dot only a reply decides: silence there means
//! "try again", since the other side may have the message (RFC 5321 §4.5.4.1).

mod login;
mod phase;
mod result;

use super::auth::SecretLine;
use super::message::Message;
use crate::outcome::{Cause, DemandedBy, Peer, Phase, RequireTlsFailure, TlsVerdict};
use crate::smtp::reply::{Capabilities, Reply, ReplyError, Severity};

pub use login::LoginJob;
pub use result::Learned;

/// What one session is to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// The name we say in EHLO.
    pub hostname: String,
    /// With whom we speak.
    pub peer: Peer,
    /// Whether TLS must, may or must not be started.
    pub starttls: StartTlsUse,
    /// Whether the server must offer REQUIRETLS (RFC 8689 §4.2.1).
    pub require_tls: bool,
    /// The message to hand over; `None` stops before MAIL FROM.
    pub message: Option<Message>,
    /// Who we are there.
    pub login: Option<LoginJob>,
}

/// How a session treats STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTlsUse {
    /// Without TLS nothing is said, because of somebody's demand.
    Required(DemandedBy),
    /// TLS when it is offered.
    IfOffered,
    /// TLS before the first word (RFC 8314 §3.3).
    FromTheStart,
    /// No TLS, as the operator wants it.
    Never,
    /// No TLS: the handshake of an opportunistic connection just before this one failed.
    NotAgain,
}

/// What happens to a session.
#[derive(Debug)]
pub enum Event {
    /// The TCP connection is open.
    Connected,
    /// A whole reply came.
    Reply(Reply),
    /// The handshake ended well.
    Secured(TlsVerdict),
    /// The content with its final dot is sent.
    BodySent,
    /// Something broke; the driver says what.
    Broken(TransportFault),
}

/// What can break a session from outside.
#[derive(Debug)]
pub enum TransportFault {
    /// The other side took too long.
    TimedOut,
    /// The connection ended or failed.
    Lost(String),
    /// What came is no SMTP reply.
    NotSmtp(ReplyError),
    /// The TLS handshake failed; a verifier's own cause when it refused the certificate.
    Handshake(Cause),
    /// There was no way out from here.
    Ours(Cause),
    /// Our stored content is damaged; the dot must not be sent.
    ContentDamaged,
}

/// What the driver is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this, then wait for one reply.
    Send(Vec<u8>, Phase),
    /// Send this, which nobody may see, then wait for one reply.
    SendSecret(SecretLine),
    /// Wait for one more reply.
    Await(Phase),
    /// Forget all that was received and start TLS (RFC 3207 §4.2).
    StartTls,
    /// Send the content, dot-stuffed, with its final dot.
    SendBody,
    /// Send QUIT if the connection still stands, and end.
    Finish,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Start,
    /// On a connection that has brought a message before.
    Ready,
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Handshake,
    EhloInTls,
    Auth,
    Mail,
    /// Waiting for the reply to the recipient of this position.
    Rcpt(usize),
    Data,
    Body,
    EndOfData,
    Done,
}

/// One conversation.
#[derive(Debug)]
pub struct Session {
    job: Job,
    state: State,
    offered: Capabilities,
    tls: Option<TlsVerdict>,
    /// MAIL, RCPT and DATA went out together; all their replies must be read.
    pipelined: bool,
    /// What ended the transaction for all recipients that have no result yet.
    ended: Option<Cause>,
    /// One slot per recipient of the job.
    refused: Vec<Option<Cause>>,
    /// How many recipients, from the first, this transaction may have (RFC 9422 §4).
    allowed: usize,
    accepted_reply: Option<Reply>,
    login: login::LoginState,
}

impl Session {
    /// A session before the connection is open.
    #[must_use]
    pub fn new(job: Job) -> Self {
        let recipients = job.message.as_ref().map_or(0, |m| m.recipients.len());
        Self {
            job,
            state: State::Start,
            offered: Capabilities::default(),
            tls: None,
            pipelined: false,
            ended: None,
            refused: vec![None; recipients],
            allowed: recipients,
            accepted_reply: None,
            login: login::LoginState::default(),
        }
    }

    /// A session on a connection on which another one, held to the same, has brought a message.
    #[must_use]
    pub fn ready(job: Job, learned: Learned) -> Self {
        let Learned { offered, tls } = learned;
        // The connection was opened under the same login.
        Self { state: State::Ready, offered, tls: Some(tls), login: login::LoginState::Done, ..Self::new(job) }
    }

    /// How the connection is protected; `None` before that is settled.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsVerdict> {
        self.tls.as_ref()
    }

    /// What the server offered last.
    #[must_use]
    pub fn offered(&self) -> &Capabilities {
        &self.offered
    }

    /// What went wrong for the session as a whole, if anything did.
    #[must_use]
    pub fn failure(&self) -> Option<&Cause> {
        self.ended.as_ref()
    }

    /// Takes one event and says what to do next.
    pub fn on(&mut self, event: Event) -> Step {
        match event {
            Event::Broken(fault) => self.broken(fault),
            Event::Connected if self.state == State::Ready => self.before_mail(),
            Event::Connected if self.job.starttls == StartTlsUse::FromTheStart => {
                self.state = State::Handshake;
                Step::StartTls
            }
            Event::Secured(verdict) if self.job.starttls == StartTlsUse::FromTheStart => {
                self.tls = Some(verdict);
                self.state = State::Greeting;
                Step::Await(Phase::Greeting)
            }
            Event::Connected => {
                self.state = State::Greeting;
                Step::Await(Phase::Greeting)
            }
            Event::Secured(verdict) => {
                self.tls = Some(verdict);
                // RFC 3207 §4.2: what was offered before TLS is forgotten.
                self.offered = Capabilities::default();
                self.state = State::EhloInTls;
                Step::Send(self.ehlo(), Phase::EhloInTls)
            }
            Event::BodySent => {
                self.state = State::EndOfData;
                Step::Await(Phase::EndOfData)
            }
            Event::Reply(reply) => self.reply(reply),
        }
    }

    fn reply(&mut self, reply: Reply) -> Step {
        match self.state {
            State::Start | State::Ready | State::Handshake | State::Done => {
                self.fail(self.protocol("a reply that nothing asked for"))
            }
            State::Greeting | State::Helo | State::EhloInTls if !done(&reply) => self.fail(self.rejected(reply)),
            State::Greeting if self.tls.is_some() => {
                self.state = State::EhloInTls;
                Step::Send(self.ehlo(), Phase::EhloInTls)
            }
            State::Greeting => {
                self.state = State::Ehlo;
                Step::Send(self.ehlo(), Phase::Ehlo)
            }
            State::Ehlo => self.after_ehlo(reply),
            State::Helo => self.before_mail(),
            State::StartTls => self.after_starttls(reply),
            State::EhloInTls => {
                self.offered = Capabilities::from_ehlo(&reply);
                self.before_mail()
            }
            // The server would not hear the message to its end.
            State::Body => self.fail(self.rejected(reply)),
            State::Auth => self.after_auth(reply),
            State::Mail => self.after_mail(reply),
            State::Rcpt(position) => self.after_rcpt(position, reply),
            State::Data => self.after_data(reply),
            State::EndOfData => self.after_dot(reply),
        }
    }

    fn after_ehlo(&mut self, reply: Reply) -> Step {
        match reply.severity() {
            Severity::Completed => {
                self.offered = Capabilities::from_ehlo(&reply);
                match (self.offered.starttls, self.job.starttls) {
                    (true, StartTlsUse::Required(_) | StartTlsUse::IfOffered) => {
                        self.state = State::StartTls;
                        Step::Send(b"STARTTLS\r\n".to_vec(), Phase::StartTls)
                    }
                    (false, StartTlsUse::Required(by)) => self.fail(self.not_offered(by)),
                    // In clear it never comes here.
                    (_, StartTlsUse::FromTheStart) => self.fail(self.protocol("no TLS")),
                    (false, StartTlsUse::IfOffered) | (_, StartTlsUse::Never | StartTlsUse::NotAgain) => {
                        self.in_clear()
                    }
                }
            }
            // RFC 5321 §3.2: HELO only when EHLO is refused for good.
            Severity::Permanent => match self.job.starttls {
                StartTlsUse::Required(by) => self.fail(self.not_offered(by)),
                StartTlsUse::FromTheStart => self.fail(self.rejected(reply)),
                StartTlsUse::IfOffered | StartTlsUse::Never | StartTlsUse::NotAgain => {
                    self.state = State::Helo;
                    self.tls = Some(TlsVerdict::ClearText);
                    Step::Send(format!("HELO {}\r\n", self.job.hostname).into_bytes(), Phase::Ehlo)
                }
            },
            Severity::Intermediate | Severity::Transient => self.fail(self.rejected(reply)),
        }
    }

    fn after_starttls(&mut self, reply: Reply) -> Step {
        match (reply.severity(), self.job.starttls) {
            (Severity::Completed, _) => {
                self.state = State::Handshake;
                Step::StartTls
            }
            (_, StartTlsUse::Required(demanded_by)) => {
                self.fail(Cause::StarttlsRefused { peer: self.job.peer.clone(), reply, demanded_by })
            }
            (_, StartTlsUse::FromTheStart) => self.fail(self.protocol("no TLS")),
            (_, StartTlsUse::IfOffered | StartTlsUse::Never | StartTlsUse::NotAgain) => self.in_clear(),
        }
    }

    fn in_clear(&mut self) -> Step {
        self.tls = Some(TlsVerdict::ClearText);
        self.before_mail()
    }

    fn before_mail(&mut self) -> Step {
        if let Some(step) = self.log_in() {
            return step;
        }
        if self.job.require_tls && !self.offered.require_tls {
            let peer = self.job.peer.clone();
            let failure = RequireTlsFailure::NotOffered { peer: peer.clone() };
            return self.fail(Cause::RequireTlsUnmet { host: peer.host, failure });
        }
        let Some(message) = &mut self.job.message else { return self.finish() };
        if let Some(cause) = message.obstacle(&self.offered, &self.job.peer) {
            return self.fail(cause);
        }
        self.allowed = message.put_first_what_fits(self.offered.limits);
        self.pipelined = self.offered.pipelining;
        let mut wire = message.mail_command(&self.offered);
        if self.pipelined {
            // RFC 2920 §3.1: DATA is the last command of the group.
            wire.extend(message.recipients.iter().take(self.allowed).map(|r| r.command(&self.offered)));
            wire.push_str("DATA\r\n");
        }
        self.state = State::Mail;
        Step::Send(wire.into_bytes(), Phase::MailFrom)
    }

    fn after_mail(&mut self, reply: Reply) -> Step {
        if !done(&reply) {
            let cause = self.rejected(reply);
            if !self.pipelined {
                return self.fail(cause);
            }
            self.ended = Some(cause);
        }
        self.next_recipient(0)
    }

    fn after_rcpt(&mut self, position: usize, reply: Reply) -> Step {
        // After a refused MAIL the server has nothing to say about recipients.
        if !done(&reply) && self.ended.is_none() {
            let cause = self.rejected(reply);
            if let Some(slot) = self.refused.get_mut(position) {
                *slot = Some(cause);
            }
        }
        self.next_recipient(position + 1)
    }

    fn next_recipient(&mut self, position: usize) -> Step {
        let mut allowed = self.recipients().take(self.allowed);
        let command = allowed.nth(position).map(|(_, recipient)| recipient.command(&self.offered));
        drop(allowed);
        match (command, self.pipelined) {
            (Some(_), true) => {
                self.state = State::Rcpt(position);
                Step::Await(Phase::RcptTo)
            }
            (Some(command), false) => {
                self.state = State::Rcpt(position);
                Step::Send(command.into_bytes(), Phase::RcptTo)
            }
            (None, true) => {
                self.state = State::Data;
                Step::Await(Phase::Data)
            }
            (None, false) if self.nobody_left() => self.finish(),
            (None, false) => {
                self.state = State::Data;
                Step::Send(b"DATA\r\n".to_vec(), Phase::Data)
            }
        }
    }

    fn nobody_left(&self) -> bool {
        self.ended.is_some() || self.refused.iter().take(self.allowed).all(Option::is_some)
    }

    fn after_data(&mut self, reply: Reply) -> Step {
        match reply.severity() {
            // RFC 2920 §3.1: a server may say 354 though no recipient is left; the content must
            // not go out, a lone dot ends it, and its reply means nothing to anybody.
            Severity::Intermediate if self.nobody_left() => {
                self.state = State::EndOfData;
                Step::Send(b".\r\n".to_vec(), Phase::EndOfData)
            }
            Severity::Intermediate => {
                self.state = State::Body;
                Step::SendBody
            }
            _ if self.nobody_left() => self.finish(),
            Severity::Completed | Severity::Transient | Severity::Permanent => self.fail(self.rejected(reply)),
        }
    }

    fn after_dot(&mut self, reply: Reply) -> Step {
        if self.nobody_left() {
            return self.finish();
        }
        if done(&reply) {
            self.accepted_reply = Some(reply);
            return self.finish();
        }
        self.fail(self.rejected(reply))
    }

    fn broken(&mut self, fault: TransportFault) -> Step {
        let phase = self.phase();
        let peer = self.job.peer.clone();
        let cause = match fault {
            TransportFault::TimedOut => Cause::TimedOut { peer, phase },
            TransportFault::Lost(detail) if phase == Phase::Connect => Cause::ConnectFailed { peer, detail },
            TransportFault::Lost(detail) => Cause::ConnectionLost { peer, phase, detail },
            TransportFault::NotSmtp(error) => Cause::ProtocolError { peer, phase, detail: error.to_string() },
            TransportFault::Handshake(cause) | TransportFault::Ours(cause) => cause,
            TransportFault::ContentDamaged => Cause::ContentDamaged,
        };
        // What was settled before stays: a message that was accepted is accepted.
        if self.accepted_reply.is_none() && self.ended.is_none() {
            self.ended = Some(self.as_egress(cause));
        }
        self.finish()
    }

    fn fail(&mut self, cause: Cause) -> Step {
        self.ended = Some(self.as_egress(cause));
        self.finish()
    }

    fn finish(&mut self) -> Step {
        self.state = State::Done;
        Step::Finish
    }

    fn ehlo(&self) -> Vec<u8> {
        format!("EHLO {}\r\n", self.job.hostname).into_bytes()
    }
}

fn done(reply: &Reply) -> bool {
    reply.severity() == Severity::Completed
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
