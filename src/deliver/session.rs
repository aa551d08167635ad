//! The client's side of one SMTP conversation, without sockets and without a clock
//! (RFC 5321 §3, RFC 3207, RFC 2920).
//!
//! ```text
//! Greeting ─ Ehlo ─┬─ StartTls ─ Handshake ─ EhloInTls ─┬─ Mail ─ Rcpt… ─ Data ─ Body ─ EndOfData ─ Done
//!                  ├─ (Helo, when EHLO is refused) ─────┤
//!                  └────────────────────────────────────┴─ Done, when only probing
//! ```
//!
//! A session never goes back. Each recipient leaves with exactly one result. After the dot
//! only a reply decides: silence there means "try again", since the other side may have the
//! message (RFC 5321 §4.5.4.1).

use crate::envelope::BodyType;
use crate::outcome::{Cause, DeliveryOutcome, DemandedBy, Peer, Phase, RequireTlsFailure, TlsVerdict};
use crate::smtp::address::{Mailbox, ReversePath};
use crate::smtp::reply::{Capabilities, Reply, ReplyError, Severity};

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
}

/// How a session treats STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTlsUse {
    /// Without TLS nothing is said, because of somebody's demand.
    Required(DemandedBy),
    /// TLS when it is offered.
    IfOffered,
    /// No TLS: the second connection after a failed opportunistic handshake.
    Never,
}

/// The envelope as one session sends it.
#[derive(Clone, Debug)]
pub struct Message {
    /// MAIL FROM.
    pub reverse_path: ReversePath,
    /// RCPT TO, with the index each recipient has in the envelope.
    pub recipients: Vec<(usize, Mailbox)>,
    /// Octets of content before dot-stuffing, for SIZE (RFC 1870 §6).
    pub size: u64,
    /// The declared kind of body.
    pub body: BodyType,
    /// Whether REQUIRETLS goes with it (RFC 8689 §4.2.1).
    pub require_tls: bool,
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
    Broken(Fault),
}

/// What can break a session from outside.
#[derive(Debug)]
pub enum Fault {
    /// The other side took too long.
    TimedOut,
    /// The connection ended or failed.
    Lost(String),
    /// What came is no SMTP reply.
    NotSmtp(ReplyError),
    /// The TLS handshake failed; a verifier's own cause when it refused the certificate.
    Handshake(Cause),
    /// Our stored content is damaged; the dot must not be sent.
    ContentDamaged,
}

/// What the driver is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this, then wait for one reply.
    Send(Vec<u8>, Phase),
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
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Handshake,
    EhloInTls,
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
    accepted_reply: Option<Reply>,
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
            accepted_reply: None,
        }
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

    /// The result of every recipient of the job.
    #[must_use]
    pub fn outcomes(&self) -> Vec<(usize, DeliveryOutcome)> {
        let Some(message) = &self.job.message else { return Vec::new() };
        let outcome = |refused: &Option<Cause>| match (refused, &self.accepted_reply, &self.ended) {
            (Some(cause), _, _) | (None, None, Some(cause)) => DeliveryOutcome::Failed { cause: cause.clone() },
            (None, Some(reply), _) => DeliveryOutcome::Delivered {
                peer: self.job.peer.clone(),
                tls: self.tls.clone().unwrap_or(TlsVerdict::ClearText),
                reply: reply.clone(),
            },
            (None, None, None) => DeliveryOutcome::Failed { cause: self.lost("the session ended early") },
        };
        message.recipients.iter().zip(&self.refused).map(|((index, _), refused)| (*index, outcome(refused))).collect()
    }

    /// The phase the session is in, for faults.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Start => Phase::Connect,
            State::Greeting => Phase::Greeting,
            State::Ehlo | State::Helo => Phase::Ehlo,
            State::StartTls => Phase::StartTls,
            State::Handshake => Phase::Handshake,
            State::EhloInTls => Phase::EhloInTls,
            State::Mail => Phase::MailFrom,
            State::Rcpt(_) => Phase::RcptTo,
            State::Data => Phase::Data,
            State::Body => Phase::Content,
            State::EndOfData | State::Done => Phase::EndOfData,
        }
    }

    /// Takes one event and says what to do next.
    pub fn on(&mut self, event: Event) -> Step {
        match event {
            Event::Broken(fault) => self.broken(fault),
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
            State::Start | State::Handshake | State::Done => self.fail(self.protocol("a reply that nothing asked for")),
            State::Greeting | State::Helo | State::EhloInTls if !done(&reply) => self.fail(self.rejected(reply)),
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
                    (false, StartTlsUse::IfOffered) | (_, StartTlsUse::Never) => self.in_clear(),
                }
            }
            // RFC 5321 §3.2: HELO only when EHLO is refused for good.
            Severity::Permanent => match self.job.starttls {
                StartTlsUse::Required(by) => self.fail(self.not_offered(by)),
                StartTlsUse::IfOffered | StartTlsUse::Never => {
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
            (_, StartTlsUse::IfOffered | StartTlsUse::Never) => self.in_clear(),
        }
    }

    fn in_clear(&mut self) -> Step {
        self.tls = Some(TlsVerdict::ClearText);
        self.before_mail()
    }

    fn not_offered(&self, demanded_by: DemandedBy) -> Cause {
        Cause::StarttlsNotOffered { peer: self.job.peer.clone(), demanded_by }
    }

    fn before_mail(&mut self) -> Step {
        if self.job.require_tls && !self.offered.require_tls {
            let peer = self.job.peer.clone();
            let failure = RequireTlsFailure::NotOffered { peer: peer.clone() };
            return self.fail(Cause::RequireTlsUnmet { host: peer.host, failure });
        }
        let Some(message) = &self.job.message else { return self.finish() };
        if let Some(Some(limit)) = self.offered.size
            && message.size > limit
        {
            let cause = Cause::MessageTooLarge { peer: self.job.peer.clone(), limit, size: message.size };
            return self.fail(cause);
        }
        if message.body == BodyType::EightBitMime && !self.offered.eight_bit_mime {
            return self.fail(Cause::EightBitNotOffered { peer: self.job.peer.clone() });
        }
        self.pipelined = self.offered.pipelining;
        let mut wire = self.mail_command(message).into_bytes();
        if self.pipelined {
            // RFC 2920 §3.1: DATA is the last command of the group.
            for (_, recipient) in &message.recipients {
                wire.extend_from_slice(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
            }
            wire.extend_from_slice(b"DATA\r\n");
        }
        self.state = State::Mail;
        Step::Send(wire, Phase::MailFrom)
    }

    fn mail_command(&self, message: &Message) -> String {
        let mut command = format!("MAIL FROM:{}", message.reverse_path);
        if self.offered.size.is_some() {
            command.push_str(&format!(" SIZE={}", message.size));
        }
        if self.offered.eight_bit_mime && message.body == BodyType::EightBitMime {
            command.push_str(" BODY=8BITMIME");
        }
        if self.offered.require_tls && message.require_tls {
            command.push_str(" REQUIRETLS");
        }
        command.push_str("\r\n");
        command
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
        let recipient = self.job.message.as_ref().and_then(|m| m.recipients.get(position)).map(|(_, r)| r.clone());
        match (recipient, self.pipelined) {
            (Some(_), true) => {
                self.state = State::Rcpt(position);
                Step::Await(Phase::RcptTo)
            }
            (Some(recipient), false) => {
                self.state = State::Rcpt(position);
                Step::Send(format!("RCPT TO:<{recipient}>\r\n").into_bytes(), Phase::RcptTo)
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
        self.ended.is_some() || self.refused.iter().all(Option::is_some)
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

    fn broken(&mut self, fault: Fault) -> Step {
        let phase = self.phase();
        let peer = self.job.peer.clone();
        let cause = match fault {
            Fault::TimedOut => Cause::TimedOut { peer, phase },
            Fault::Lost(detail) if phase == Phase::Connect => Cause::ConnectFailed { peer, detail },
            Fault::Lost(detail) => Cause::ConnectionLost { peer, phase, detail },
            Fault::NotSmtp(error) => Cause::ProtocolError { peer, phase, detail: error.to_string() },
            Fault::Handshake(cause) => cause,
            Fault::ContentDamaged => Cause::ContentDamaged,
        };
        // What was settled before stays: a message that was accepted is accepted.
        if self.accepted_reply.is_none() && self.ended.is_none() {
            self.ended = Some(cause);
        }
        self.finish()
    }

    fn fail(&mut self, cause: Cause) -> Step {
        self.ended = Some(cause);
        self.finish()
    }

    fn finish(&mut self) -> Step {
        self.state = State::Done;
        Step::Finish
    }

    fn ehlo(&self) -> Vec<u8> {
        format!("EHLO {}\r\n", self.job.hostname).into_bytes()
    }

    fn rejected(&self, reply: Reply) -> Cause {
        Cause::Rejected { peer: self.job.peer.clone(), phase: self.phase(), reply }
    }

    fn protocol(&self, detail: &str) -> Cause {
        Cause::ProtocolError { peer: self.job.peer.clone(), phase: self.phase(), detail: detail.to_owned() }
    }

    fn lost(&self, detail: &str) -> Cause {
        Cause::ConnectionLost { peer: self.job.peer.clone(), phase: self.phase(), detail: detail.to_owned() }
    }
}

fn done(reply: &Reply) -> bool {
    reply.severity() == Severity::Completed
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
