//! The server's side of an SMTP session as a state machine (RFC 5321 §3, §4.1.4; RFC 3030 §2;
//! RFC 3207 §4; RFC 4954; RFC 6531; RFC 8689).
//!
//! ```text
//!            EHLO/HELO      MAIL            RCPT…        DATA, BDAT
//!   AwaitMail ──────▶ AwaitMail ─▶ Admitting ─▶ AwaitRcpt ─▶ Opening ─▶ Receiving ─▶ Storing ─┐
//!       ▲                                                   ▲     │ BDAT without LAST     │
//!       │                                                   └─ AwaitChunk ◀┘              │
//!       └────────────────────────────── 250 queued, or a refusal ◀────────────────────────┘
//!   AwaitMail ─ AUTH ─▶ Exchanging ─▶ LoggingIn ─▶ AwaitMail   (`login.rs`)
//!   Draining: the octets of a refused BDAT are dropped before the answer.
//!   ChunkFailed: a chunk was refused; BDAT stays refused until RSET or the LAST of the message.
//! ```
//! A session never goes back, except to AwaitMail: after RSET, EHLO, HELO, STARTTLS, or when a
//! message has ended. Events come in, one [`Step`] goes out; no octet is read or written here.

mod login;

use super::intake::{ContentFault, ContentTraits, MessageLimits};
use super::received::{TraceLine, received};
use super::replies::{self, TlsState};
use super::rules::{InClear, Offer, Rules, TlsOffer};
use super::step::{Admission, Event, Framing, Step};
use super::transaction::Transaction;
use super::{ClientAccess, CloseReason, RefusedAt};
use crate::clock::Timestamp;
use crate::config::users::User;
use crate::envelope::{Charset, ClientInfo, Envelope, QueueId, TlsRequest};
use crate::smtp::address::{AddressError, ForwardPath};
use crate::smtp::command::{Chunk, Command, Mail, Rcpt};
use crate::smtp::error::CommandError;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::SaslExchange;
use std::net::IpAddr;
use std::sync::Arc;

/// So many bad commands since the last good message end the session (RFC 5321 §7.8). A client
/// that is merely wrong about an address never gets there; one that talks another protocol does.
pub(super) const BAD_COMMAND_LIMIT: u32 = 20;

/// What the session waits for. Each state holds what that moment knows.
#[derive(Debug)]
enum State {
    AwaitMail,
    Exchanging(SaslExchange),
    LoggingIn,
    Admitting(Transaction),
    AwaitRcpt(Transaction),
    Opening(Transaction, Framing),
    Receiving(Transaction, Framing),
    AwaitChunk(Transaction),
    Storing,
    Draining { back: Box<Self>, answer: Reply },
    ChunkFailed,
    Ended,
}

impl State {
    /// Why RCPT is out of sequence, where it is.
    const fn why_no_rcpt(&self) -> &'static str {
        match self {
            Self::AwaitChunk(_) => "the content has begun: send the next BDAT, or RSET",
            Self::ChunkFailed => "an earlier chunk failed, send RSET",
            Self::AwaitMail
            | Self::Exchanging(_)
            | Self::LoggingIn
            | Self::Admitting(_)
            | Self::AwaitRcpt(_)
            | Self::Opening(..)
            | Self::Receiving(..)
            | Self::Storing
            | Self::Draining { .. }
            | Self::Ended => "RCPT needs MAIL before it",
        }
    }
}

/// What the client called itself, and with which verb.
#[derive(Debug)]
struct Hello {
    name: String,
    verb: HelloVerb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HelloVerb {
    Helo,
    Ehlo,
}

/// Whether the session is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Clear,
    Tls,
}

/// One session; see the graph above.
#[derive(Debug)]
pub(super) struct Session {
    rules: Arc<Rules>,
    client: IpAddr,
    standing: ClientAccess,
    channel: Encryption,
    hello: Option<Hello>,
    /// Who has logged in.
    user: Option<Arc<User>>,
    /// What the last MAIL declared: the words of the protocol say it.
    charset: Charset,
    bad_commands: u32,
    /// All of the session, also before STARTTLS.
    commands: u32,
    failed_logins: u32,
    state: State,
}

impl Session {
    /// A session that was greeted.
    #[must_use]
    pub(super) fn new(rules: Arc<Rules>, client: IpAddr, standing: ClientAccess) -> Self {
        Self {
            rules,
            client,
            standing,
            channel: Encryption::Clear,
            hello: None,
            user: None,
            charset: Charset::Ascii,
            bad_commands: 0,
            commands: 0,
            failed_logins: 0,
            state: State::AwaitMail,
        }
    }

    /// Goes from state to state.
    pub(super) fn on(&mut self, event: Event) -> Step {
        let state = std::mem::replace(&mut self.state, State::Ended);
        let (state, step) = self.transition(state, event);
        self.state = state;
        step
    }

    /// Says that the handshake is done: everything said in clear is forgotten (RFC 3207 §4.2).
    pub(super) fn secured(&mut self) {
        self.channel = Encryption::Tls;
        self.hello = None;
        self.user = None;
        self.state = State::AwaitMail;
    }

    /// Says that the client's certificate is one that opens the way.
    pub(super) fn proven(&mut self) {
        self.standing = ClientAccess::Permitted;
    }

    /// Whether a message is on its way in. A stop then waits for its end.
    #[must_use]
    pub(super) fn inside_message(&self) -> bool {
        match self.state {
            State::Opening(..) | State::Receiving(..) | State::AwaitChunk(_) | State::Storing => true,
            State::AwaitMail
            | State::Exchanging(_)
            | State::LoggingIn
            | State::Admitting(_)
            | State::AwaitRcpt(_)
            | State::Draining { .. }
            | State::ChunkFailed
            | State::Ended => false,
        }
    }

    /// Whether the next thing to come is a message.
    #[must_use]
    pub(super) const fn between_messages(&self) -> bool {
        matches!(self.state, State::AwaitMail)
    }

    /// What the content has to keep.
    #[must_use]
    pub(super) fn content_limits(&self) -> MessageLimits {
        self.rules.content_limits()
    }

    /// The word of the Received line (RFC 3848 §2, RFC 6531 §4.3). There is no word for HELO
    /// within TLS, and nobody logs in without.
    #[must_use]
    pub(super) fn protocol(&self) -> &'static str {
        match (self.hello.as_ref().map(|h| h.verb), self.channel, self.charset) {
            (_, Encryption::Tls, Charset::Utf8) if self.user.is_some() => "UTF8SMTPSA",
            (_, Encryption::Tls, Charset::Ascii) if self.user.is_some() => "ESMTPSA",
            (_, Encryption::Tls, Charset::Utf8) => "UTF8SMTPS",
            (_, Encryption::Clear, Charset::Utf8) => "UTF8SMTP",
            (Some(HelloVerb::Ehlo), Encryption::Tls, Charset::Ascii) => "ESMTPS",
            (Some(HelloVerb::Ehlo), Encryption::Clear, Charset::Ascii) => "ESMTP",
            (Some(HelloVerb::Helo) | None, Encryption::Clear | Encryption::Tls, Charset::Ascii) => "SMTP",
        }
    }

    fn transition(&mut self, state: State, event: Event) -> (State, Step) {
        match (event, state) {
            (Event::TimedOut, _) => (State::Ended, Step::Close(replies::timed_out(), CloseReason::TimedOut)),
            (Event::Stop, _) => (State::Ended, Step::Close(replies::stopping(), CloseReason::Stopped)),
            (Event::Reconfigured, _) => (State::Ended, Step::Close(replies::reconfigured(), CloseReason::Reconfigured)),
            (Event::Command(command), state) if self.has_said_enough(&state, command.as_ref()) => {
                (State::Ended, Step::Close(replies::too_many_commands(), CloseReason::TooManyCommands))
            }
            (Event::Command(Ok(command)), state) if self.wants_tls_for(&command) => self.in_clear(state, command),
            (Event::Command(Ok(command)), state) => self.command(state, command),
            (Event::Response(line), State::Exchanging(exchange)) => self.response(exchange, line),
            (Event::LoggedIn(outcome), State::LoggingIn) => self.login_ended(outcome),
            (Event::Command(Err(error)), state) => self.bad_command(state, error),
            (Event::Admitted(Ok(allowance)), State::Admitting(mut mail)) => {
                mail.allow(allowance);
                (State::AwaitRcpt(mail), Step::Send(replies::sender_ok()))
            }
            (Event::Admitted(Err(fault)), State::Admitting(_)) => {
                (State::AwaitMail, Step::Refuse(RefusedAt::Mail, replies::not_admitted(fault)))
            }
            (Event::Opened { id, now }, State::Opening(mail, framing)) => self.opened(mail, framing, id, now),
            (Event::ContentEnded(verdict), State::Receiving(mail, framing)) => {
                self.content_ended(mail, framing, verdict)
            }
            (Event::Discarded, State::Draining { back, answer }) => (*back, Step::Send(answer)),
            (Event::Stored(Ok(id)), State::Storing) => {
                self.bad_commands = 0;
                (State::AwaitMail, Step::Send(replies::queued(id)))
            }
            (Event::Stored(Err(fault)), State::Storing) => {
                (State::AwaitMail, Step::Refuse(RefusedAt::Content, replies::spool(fault)))
            }
            // An answer to a question that was not asked: a fault of the driver. Closing loses
            // nothing, because nothing was acknowledged.
            (_, _) => (State::Ended, Step::Close(replies::internal_fault(), CloseReason::InternalFault)),
        }
    }

    /// Counts a command; whether it is one too many. A message that has begun may end, so that one with many
    /// recipients comes in at all.
    fn has_said_enough(&mut self, state: &State, command: Result<&Command, &CommandError>) -> bool {
        self.commands = self.commands.saturating_add(1);
        let for_a_message = match state {
            State::AwaitMail => 0,
            State::Exchanging(_)
            | State::LoggingIn
            | State::Admitting(_)
            | State::AwaitRcpt(_)
            | State::Opening(..)
            | State::Receiving(..)
            | State::AwaitChunk(_)
            | State::Storing
            | State::Draining { .. }
            | State::ChunkFailed
            | State::Ended => u32::try_from(self.rules.max_recipients).unwrap_or(u32::MAX),
        };
        let most = self.rules.max_commands.saturating_add(for_a_message);
        self.commands > most && !matches!(command, Ok(Command::Quit))
    }

    fn command(&mut self, state: State, command: Command) -> (State, Step) {
        match command {
            Command::Ehlo(name) => self.hello(name, HelloVerb::Ehlo),
            Command::Helo(name) => self.hello(name, HelloVerb::Helo),
            Command::Mail(mail) => self.mail(state, mail),
            Command::Rcpt(rcpt) => self.rcpt(state, rcpt),
            Command::Data => self.data(state),
            Command::Bdat(chunk) => self.bdat(state, chunk),
            Command::Rset => (State::AwaitMail, Step::Send(replies::ok())),
            Command::Noop => (state, Step::Send(replies::ok())),
            Command::Vrfy => (state, Step::Send(replies::cannot_verify())),
            Command::Help => (state, Step::Send(replies::help())),
            Command::StartTls => self.start_tls(state),
            Command::Auth(auth) => self.auth(state, &auth),
            Command::Quit => (State::Ended, Step::Close(replies::bye(), CloseReason::Quit)),
        }
    }

    /// RFC 5321 §4.1.4: a further EHLO or HELO acts as RSET.
    fn hello(&mut self, name: String, verb: HelloVerb) -> (State, Step) {
        self.hello = Some(Hello { name, verb });
        let reply = match verb {
            HelloVerb::Ehlo => replies::ehlo(&self.rules, self.tls_state(), self.auth_offer()),
            HelloVerb::Helo => replies::helo(&self.rules),
        };
        (State::AwaitMail, Step::Send(reply))
    }

    fn tls_state(&self) -> TlsState {
        match (self.rules.tls, self.channel) {
            (_, Encryption::Tls) => TlsState::On,
            (TlsOffer::Available, Encryption::Clear) => TlsState::Offered,
            (TlsOffer::Unavailable, Encryption::Clear) => TlsState::Unavailable,
            (TlsOffer::Off, Encryption::Clear) => TlsState::Off,
        }
    }

    /// RFC 3207 §4: where mail wants TLS, nothing but EHLO, NOOP, QUIT and STARTTLS is answered otherwise.
    fn wants_tls_for(&self, command: &Command) -> bool {
        let leads_there = matches!(command, Command::Ehlo(_) | Command::Noop | Command::Quit | Command::StartTls);
        self.rules.in_clear == InClear::Nothing && self.channel == Encryption::Clear && !leads_there
    }

    fn in_clear(&mut self, state: State, command: Command) -> (State, Step) {
        let answer = replies::start_tls_first();
        match (self.one_too_many(), command) {
            (Some(end), _) => end,
            (None, Command::Bdat(chunk)) => {
                let back = Box::new(state);
                (State::Draining { back, answer }, Step::Discard { octets: chunk.octets })
            }
            (None, _) => (state, Step::Send(answer)),
        }
    }

    fn start_tls(&mut self, state: State) -> (State, Step) {
        match (self.tls_state(), &self.hello) {
            (TlsState::Offered, Some(_)) => (State::AwaitMail, Step::StartTls(replies::start_tls())),
            (TlsState::Offered, None) => self.bad(state, replies::bad_sequence("send EHLO first")),
            (TlsState::On, _) => self.bad(state, replies::bad_sequence("TLS is on already")),
            (TlsState::Unavailable, _) => self.bad(state, replies::tls_unavailable()),
            (TlsState::Off, _) => self.bad(state, replies::tls_not_offered()),
        }
    }

    /// A stranger is refused at MAIL, before anything is parsed further or the spool is asked,
    /// and again at each RCPT: both are places where clients look for 550 5.7.1.
    fn mail(&mut self, state: State, mail: Mail) -> (State, Step) {
        if self.standing != ClientAccess::Permitted {
            return self.deny(state, RefusedAt::Mail);
        }
        if self.hello.is_none() {
            return self.bad(state, replies::bad_sequence("send EHLO first"));
        }
        match state {
            State::AwaitMail => {}
            State::ChunkFailed => return self.bad(state, replies::bad_sequence("the last message failed, send RSET")),
            State::Exchanging(_)
            | State::LoggingIn
            | State::Admitting(_)
            | State::AwaitRcpt(_)
            | State::Opening(..)
            | State::Receiving(..)
            | State::AwaitChunk(_)
            | State::Storing
            | State::Draining { .. }
            | State::Ended => return self.bad(state, replies::bad_sequence("MAIL was given already")),
        }
        if !self.rules.may_come_from(&mail.reverse_path) {
            return (state, Step::Refuse(RefusedAt::Mail, replies::foreign_sender()));
        }
        if !self.rules.may_be_written_by(self.user.as_deref(), &mail.reverse_path) {
            return (state, Step::Refuse(RefusedAt::Mail, replies::not_the_users_sender()));
        }
        if let Some(error) = self.beyond_the_offer(&mail) {
            return self.bad_command(state, error);
        }
        let tls = match (mail.parameters.require_tls, self.tls_state()) {
            (false, _) => TlsRequest::ByPolicy,
            (true, TlsState::On) => TlsRequest::Required,
            (true, TlsState::Offered) => {
                return (state, Step::Refuse(RefusedAt::Mail, replies::require_tls_in_clear()));
            }
            (true, TlsState::Unavailable | TlsState::Off) => {
                return self.bad_command(state, CommandError::UnknownParameter);
            }
        };
        let size = mail.parameters.size.unwrap_or(0);
        if size > self.rules.max_message_bytes {
            let reply = replies::too_large(self.rules.max_message_bytes);
            return (state, Step::Refuse(RefusedAt::Mail, reply));
        }
        let mail = Transaction::new(mail, tls);
        self.charset = mail.charset();
        let (sender, user) = (mail.reverse_path().clone(), self.user.as_ref().map(|user| user.name.clone()));
        (State::Admitting(mail), Step::Admit(Admission { size, sender, user }))
    }

    /// Who ignores the offer gets the answer that a server without the extension gives.
    fn beyond_the_offer(&self, mail: &Mail) -> Option<CommandError> {
        if mail.parameters.smtp_utf8 && self.rules.smtp_utf8 == Offer::No {
            let error = CommandError::ReversePath(AddressError::NonAscii);
            return Some(if mail.reverse_path.is_ascii() { CommandError::UnknownParameter } else { error });
        }
        let not_offered = [
            (mail.parameters.are_of_dsn(), self.rules.dsn),
            (mail.parameters.require_tls, self.rules.require_tls),
            (mail.parameters.submitter.is_some(), self.rules.auth),
        ];
        not_offered.contains(&(true, Offer::No)).then_some(CommandError::UnknownParameter)
    }

    fn rcpt(&mut self, state: State, rcpt: Rcpt) -> (State, Step) {
        if self.standing != ClientAccess::Permitted {
            return self.deny(state, RefusedAt::Rcpt);
        }
        let why_not = state.why_no_rcpt();
        let State::AwaitRcpt(mut mail) = state else {
            return self.bad(state, replies::bad_sequence(why_not));
        };
        if rcpt.parameters.are_of_dsn() && self.rules.dsn == Offer::No {
            return self.bad_command(State::AwaitRcpt(mail), CommandError::UnknownParameter);
        }
        if let (Charset::Ascii, Some(error)) = (mail.charset(), rcpt.outside_ascii()) {
            return self.bad_command(State::AwaitRcpt(mail), error);
        }
        if mail.recipients().len() >= self.rules.max_recipients {
            return (State::AwaitRcpt(mail), Step::Refuse(RefusedAt::Rcpt, replies::too_many_recipients()));
        }
        if !mail.may_have_more() {
            return (State::AwaitRcpt(mail), Step::Refuse(RefusedAt::Rcpt, replies::limited()));
        }
        let recipient = match rcpt.forward_path {
            ForwardPath::Mailbox(mailbox) => Some(mailbox),
            ForwardPath::Postmaster => self.rules.postmaster.clone(),
        };
        let step = match recipient {
            Some(recipient) if mail.is_closed_for(recipient.host()) => {
                Step::Refuse(RefusedAt::Rcpt, replies::suspended())
            }
            Some(recipient) => match self.rules.may_go(mail.reverse_path(), recipient.host()) {
                Err(why) => Step::Refuse(RefusedAt::Rcpt, replies::no_way_to(recipient.host(), why)),
                Ok(()) => {
                    mail.add(recipient, rcpt.parameters);
                    Step::Send(replies::recipient_ok())
                }
            },
            None => Step::Refuse(RefusedAt::Rcpt, replies::no_postmaster()),
        };
        (State::AwaitRcpt(mail), step)
    }

    fn data(&mut self, state: State) -> (State, Step) {
        match state {
            State::AwaitRcpt(mail) if mail.recipients().is_empty() => {
                self.bad(State::AwaitRcpt(mail), replies::no_recipients())
            }
            State::AwaitRcpt(mail) => (State::Opening(mail, Framing::Data), Step::Open),
            // RFC 3030 §2: DATA and BDAT do not mix.
            State::AwaitChunk(_) => self.bad(state, replies::bad_sequence("BDAT was used for this message")),
            State::AwaitMail
            | State::Exchanging(_)
            | State::LoggingIn
            | State::Admitting(_)
            | State::Opening(..)
            | State::Receiving(..)
            | State::Storing
            | State::Draining { .. }
            | State::ChunkFailed
            | State::Ended => self.bad(state, replies::bad_sequence("DATA needs MAIL and RCPT before it")),
        }
    }

    /// RFC 3030 §2: the octets follow the command whatever the answer is, so a refusal takes
    /// them away first. LAST ends the message, taken or not. Refused chunks are no bad commands:
    /// a pipelining client cannot know yet.
    fn bdat(&mut self, state: State, chunk: Chunk) -> (State, Step) {
        let refused = |back: State, text| {
            let back = Box::new(if chunk.last { State::AwaitMail } else { back });
            let step = Step::Discard { octets: chunk.octets };
            (State::Draining { back, answer: replies::bad_sequence(text) }, step)
        };
        let framing = Framing::Chunk(chunk);
        match state {
            State::AwaitRcpt(mail) if !mail.recipients().is_empty() => (State::Opening(mail, framing), Step::Open),
            State::AwaitChunk(mail) => {
                (State::Receiving(mail, framing), Step::Receive { answer: None, trace: None, framing })
            }
            State::ChunkFailed => refused(state, "an earlier chunk failed, send RSET"),
            State::AwaitMail
            | State::Exchanging(_)
            | State::LoggingIn
            | State::AwaitRcpt(_)
            | State::Admitting(_)
            | State::Opening(..)
            | State::Receiving(..)
            | State::Storing
            | State::Draining { .. }
            | State::Ended => refused(state, "BDAT needs MAIL and a good RCPT before it"),
        }
    }

    fn opened(&self, mut mail: Transaction, framing: Framing, id: QueueId, at: Timestamp) -> (State, Step) {
        mail.open(at);
        let only_recipient = match mail.recipients() {
            [only] => Some(only),
            _ => None,
        };
        let trace = received(&TraceLine {
            helo: self.hello.as_ref().map(|h| h.name.as_str()).unwrap_or_default(),
            client: self.client,
            client_in_trace: self.rules.client_in_trace,
            by: &self.rules.hostname,
            protocol: self.protocol(),
            id,
            only_recipient,
            at,
        });
        let answer = match framing {
            Framing::Data => Some(replies::send_data()),
            Framing::Chunk(_) => None,
        };
        (State::Receiving(mail, framing), Step::Receive { answer, trace: Some(trace), framing })
    }

    fn content_ended(
        &self,
        mut mail: Transaction,
        framing: Framing,
        verdict: Result<ContentTraits, ContentFault>,
    ) -> (State, Step) {
        let refusal = |fault| Step::Refuse(RefusedAt::Content, replies::content(fault, self.rules.content_limits()));
        match (framing, verdict) {
            (Framing::Data | Framing::Chunk(Chunk { last: true, .. }), Ok(content)) => {
                mail.received(content);
                (State::Storing, Step::Store(Box::new(self.envelope(mail))))
            }
            (Framing::Data | Framing::Chunk(Chunk { last: true, .. }), Err(fault)) => {
                (State::AwaitMail, refusal(fault))
            }
            (Framing::Chunk(chunk), Ok(_)) => (State::AwaitChunk(mail), Step::Send(replies::chunk_ok(chunk.octets))),
            (Framing::Chunk(_), Err(fault)) => (State::ChunkFailed, refusal(fault)),
        }
    }

    fn envelope(&self, mail: Transaction) -> Envelope {
        mail.into_envelope(ClientInfo {
            address: self.client.to_canonical(),
            helo: self.hello.as_ref().map(|h| h.name.clone()).unwrap_or_default(),
            protocol: self.protocol().to_owned(),
            user: self.user.as_ref().map(|user| user.name.clone()),
        })
    }

    fn deny(&mut self, state: State, at: RefusedAt) -> (State, Step) {
        let reply = match self.standing {
            ClientAccess::MayLogIn => replies::auth_first(self.tls_state()),
            ClientAccess::MayShowCertificate if self.channel == Encryption::Clear => replies::start_tls_first(),
            ClientAccess::MayShowCertificate | ClientAccess::Permitted | ClientAccess::Denied => {
                replies::relaying_denied(self.client.to_canonical())
            }
        };
        self.one_too_many().unwrap_or((state, Step::Refuse(at, reply)))
    }

    fn bad_command(&mut self, state: State, error: CommandError) -> (State, Step) {
        let reply = replies::bad_command(error);
        match error {
            // Content may follow that looks like commands.
            CommandError::ChunkSize => (State::Ended, Step::Close(reply, CloseReason::LostFraming)),
            CommandError::ChunkArgument { octets } => {
                let back = match state {
                    State::AwaitMail => State::AwaitMail,
                    State::Exchanging(_)
                    | State::LoggingIn
                    | State::AwaitRcpt(_)
                    | State::AwaitChunk(_)
                    | State::ChunkFailed
                    | State::Admitting(_)
                    | State::Opening(..)
                    | State::Receiving(..)
                    | State::Storing
                    | State::Draining { .. }
                    | State::Ended => State::ChunkFailed,
                };
                (State::Draining { back: Box::new(back), answer: reply }, Step::Discard { octets })
            }
            // A permitted client may have many wrong addresses in one message; that is no abuse.
            CommandError::ReversePath(_) | CommandError::ForwardPath(_) if self.standing == ClientAccess::Permitted => {
                (state, Step::Send(reply))
            }
            CommandError::Line(_)
            | CommandError::Unknown
            | CommandError::NotImplemented
            | CommandError::HelloName
            | CommandError::Argument
            | CommandError::ReversePath(_)
            | CommandError::ForwardPath(_)
            | CommandError::UnknownParameter
            | CommandError::ParameterValue => self.bad(state, reply),
        }
    }

    /// Answers a bad command, or closes when it is one too many.
    fn bad(&mut self, state: State, reply: Reply) -> (State, Step) {
        self.one_too_many().unwrap_or((state, Step::Send(reply)))
    }

    /// Counts a bad command.
    fn one_too_many(&mut self) -> Option<(State, Step)> {
        self.bad_commands += 1;
        let close = Step::Close(replies::too_many_bad_commands(), CloseReason::TooManyBadCommands);
        (self.bad_commands >= BAD_COMMAND_LIMIT).then_some((State::Ended, close))
    }
}
