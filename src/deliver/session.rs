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
//! or is left for a further transaction. After the dot only a reply decides: whatever else happens
//! there, the other side may have the message (RFC 5321 §4.5.4.1, §6.1).
//!
//! Where we go on without TLS that should have been, the session knows why (`step_down.rs`).

mod cause;
mod event;
mod job;
mod login;
mod phase;
mod result;
mod step_down;

use super::dkim::Signatures;
use super::eight_bit::Conversion;
use crate::outcome::{Cause, DemandedBy, Phase, RequireTlsFailure, TlsVerdict};
use crate::smtp::reply::{Capabilities, Limits, Reply, Severity};
use std::sync::Arc;

pub(super) use event::{Event, Step, TransportFault};
pub(super) use job::{Job, StartTlsUse, Transfer};
pub(super) use login::LoginJob;
pub(super) use result::Learned;
pub(super) use step_down::spoilt;

/// The server closes the connection (RFC 5321 §3.8).
const CLOSING: u16 = 421;

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
    /// So many replies to chunks come before the one that counts.
    Chunks(usize),
    EndOfData,
    Done,
}

/// What a connection was used for before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionUse {
    /// It is new.
    Fresh,
    /// It has brought a message.
    Again,
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Session {
    job: Job,
    state: State,
    offered: Capabilities,
    tls: Option<TlsVerdict>,
    /// Why there is no TLS, where we would have liked it.
    tls_failure: Option<Cause>,
    /// Whether the connection has brought a message before.
    use_of_connection: ConnectionUse,
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
    pub(super) fn new(job: Job) -> Self {
        let recipients = job.message.as_ref().map_or(0, |m| m.recipients.len());
        Self {
            job,
            state: State::Start,
            offered: Capabilities::default(),
            tls: None,
            tls_failure: None,
            use_of_connection: ConnectionUse::Fresh,
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
    pub(super) fn ready(job: Job, learned: Learned) -> Self {
        let Learned { offered, tls } = learned;
        let use_of_connection = ConnectionUse::Again;
        // The connection was opened under the same login.
        let login = login::LoginState::Done;
        Self { state: State::Ready, offered, tls: Some(tls), use_of_connection, login, ..Self::new(job) }
    }

    /// A session in clear text on a fresh connection, after TLS has failed like this.
    #[must_use]
    pub(super) fn stepping_down(job: Job, tls_failure: Cause) -> Self {
        Self { tls_failure: Some(tls_failure), ..Self::new(Job { starttls: StartTlsUse::NotAgain, ..job }) }
    }

    /// Why there is no TLS, where we would have liked it.
    #[must_use]
    pub(super) const fn tls_failure(&self) -> Option<&Cause> {
        self.tls_failure.as_ref()
    }

    /// How the connection is protected; `None` before that is settled.
    #[must_use]
    pub(super) fn tls(&self) -> Option<&TlsVerdict> {
        self.tls.as_ref()
    }

    /// What the server offered last.
    #[must_use]
    pub(super) fn offered(&self) -> &Capabilities {
        &self.offered
    }

    /// What went wrong for the session as a whole, if anything did.
    #[must_use]
    pub(super) fn failure(&self) -> Option<&Cause> {
        self.ended.as_ref()
    }

    /// Takes one event and says what to do next.
    pub(super) fn on(&mut self, event: Event) -> Step {
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
            Event::BodySent => self.chunks_answered(0),
            Event::ChunksSent(unanswered) => self.chunks_answered(unanswered),
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
            State::Chunks(unanswered) if done(&reply) => self.chunks_answered(unanswered.saturating_sub(1)),
            // What refuses a chunk refuses the message (RFC 3030 §2), whatever is said of the others.
            State::Chunks(_) | State::EndOfData => self.after_dot(reply),
        }
    }

    fn chunks_answered(&mut self, unanswered: usize) -> Step {
        self.state = if unanswered == 0 { State::EndOfData } else { State::Chunks(unanswered) };
        Step::Await(Phase::EndOfData)
    }

    /// How the content has to be converted for this server.
    #[must_use]
    pub(super) fn conversion(&self) -> Option<Arc<Conversion>> {
        self.job.message.as_ref()?.conversion_for(&self.offered).cloned()
    }

    /// The signatures of the content as this server gets it.
    #[must_use]
    pub(super) fn signatures(&self) -> Option<Arc<Signatures>> {
        self.job.message.as_ref()?.signatures_for(&self.offered).cloned()
    }

    fn in_chunks(&self) -> bool {
        self.offered.chunking && self.job.transfer == Transfer::ChunksWhereOffered
    }

    fn after_ehlo(&mut self, reply: Reply) -> Step {
        match reply.severity() {
            Severity::Completed => {
                self.offered = Capabilities::from_ehlo(&reply);
                match (self.offered.starttls, self.job.starttls) {
                    (true, StartTlsUse::Required(_) | StartTlsUse::IfOffered | StartTlsUse::AsOffered) => {
                        self.state = State::StartTls;
                        Step::Send(b"STARTTLS\r\n".to_vec(), Phase::StartTls)
                    }
                    (false, StartTlsUse::Required(by)) => self.fail(self.not_offered(by)),
                    // In clear it never comes here.
                    (_, StartTlsUse::FromTheStart) => self.fail(self.protocol("no TLS")),
                    (false, StartTlsUse::IfOffered | StartTlsUse::AsOffered) => {
                        self.tls_failure = Some(self.not_offered(DemandedBy::Server));
                        self.in_clear()
                    }
                    (_, StartTlsUse::Never | StartTlsUse::NotAgain) => self.in_clear(),
                }
            }
            // RFC 5321 §3.2: HELO only when EHLO is refused for good.
            Severity::Permanent => match self.job.starttls {
                StartTlsUse::Required(by) => self.fail(self.not_offered(by)),
                StartTlsUse::FromTheStart => self.fail(self.rejected(reply)),
                StartTlsUse::IfOffered | StartTlsUse::AsOffered | StartTlsUse::Never | StartTlsUse::NotAgain => {
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
            (_, StartTlsUse::Required(demanded_by)) => self.fail(self.starttls_refused(reply, demanded_by)),
            (_, StartTlsUse::AsOffered) => self.fail(self.starttls_refused(reply, DemandedBy::Operator)),
            (_, StartTlsUse::IfOffered | StartTlsUse::Never | StartTlsUse::NotAgain) => {
                let closes = reply.code == CLOSING;
                let failure = self.starttls_refused(reply, DemandedBy::Server);
                if closes {
                    return self.fail(failure);
                }
                self.tls_failure = Some(failure);
                self.in_clear()
            }
            (_, StartTlsUse::FromTheStart) => self.fail(self.protocol("no TLS")),
        }
    }

    fn starttls_refused(&self, reply: Reply, demanded_by: DemandedBy) -> Cause {
        Cause::StarttlsRefused { peer: self.job.peer.clone(), reply, demanded_by }
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
        let Limits { mail, rcpt, rcpt_domain } = self.offered.limits;
        let rcpt = rcpt.into_iter().chain(self.job.most_recipients).min();
        self.allowed = message.put_first_what_fits(Limits { mail, rcpt, rcpt_domain });
        self.pipelined = self.offered.pipelining;
        let mut wire = message.mail_command(&self.offered);
        if self.pipelined {
            // RFC 2920 §3.1: DATA is the last command of the group. Chunks wait for the replies: the
            // content does not go to a server that takes none of the recipients.
            wire.extend(message.recipients.iter().take(self.allowed).map(|r| r.command(&self.offered)));
            if !(self.offered.chunking && self.job.transfer == Transfer::ChunksWhereOffered) {
                wire.push_str("DATA\r\n");
            }
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
            (None, _) if self.in_chunks() && !self.nobody_left() => {
                self.state = State::Body;
                Step::SendChunks
            }
            (None, true) if !self.in_chunks() => {
                self.state = State::Data;
                Step::Await(Phase::Data)
            }
            (None, _) if self.nobody_left() => self.finish(),
            (None, _) => {
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
        match reply.severity() {
            Severity::Completed => {
                self.accepted_reply = Some(reply);
                self.finish()
            }
            Severity::Intermediate => self.fail(self.perhaps_taken(format!("it answered {reply}"))),
            Severity::Transient | Severity::Permanent => self.fail(self.rejected(reply)),
        }
    }

    fn broken(&mut self, fault: TransportFault) -> Step {
        let phase = self.phase();
        let peer = self.job.peer.clone();
        let cause = match fault {
            TransportFault::ContentDamaged => Cause::ContentDamaged,
            TransportFault::Handshake(cause) => cause,
            fault if matches!(self.state, State::Chunks(_) | State::EndOfData) && !self.nobody_left() => {
                self.perhaps_taken(fault.told())
            }
            TransportFault::TimedOut => Cause::TimedOut { peer, phase },
            TransportFault::Lost(detail) if phase == Phase::Connect => Cause::ConnectFailed { peer, detail },
            TransportFault::Lost(detail) => Cause::ConnectionLost { peer, phase, detail },
            TransportFault::NotSmtp(error) => Cause::ProtocolError { peer, phase, detail: error.to_string() },
            TransportFault::Ours(cause) => cause,
        };
        // What was settled before stays: a message that was accepted is accepted.
        if self.accepted_reply.is_none() && self.ended.is_none() {
            // A server that has said that it closes has told why.
            let told = self.farewell().cloned().unwrap_or(cause);
            self.ended = Some(self.as_egress(told));
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
