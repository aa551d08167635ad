//! Octets in, octets and wishes out: the session with its codecs (RFC 2920 §3.2, RFC 3030 §2,
//! RFC 3207 §4.2).
//!
//! A [`Conversation`] holds the input that was not used yet and the replies that were not sent
//! yet. [`Conversation::next`] goes on until the world is needed and says what for: an
//! [`Action`]. However the input is cut into pieces, the replies are the same. Replies are
//! collected until no complete command is left, so a pipelined group is answered in one write.

use super::intake::{Intake, SpoolFault};
use super::meters::Allowance;
use super::rules::Rules;
use super::session::Session;
use super::step::{Admission, AdmitFault, Event, Framing, LoginOutcome, Step};
use super::{ClientAccess, CloseReason, Refusal, RefusedAt, replies};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use crate::smtp::command::{self, Chunk};
use crate::smtp::line::LineReader;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::{Credentials, Secret};
use bytes::{Buf, BytesMut};
use std::net::IpAddr;
use std::sync::Arc;

/// Content goes to the spool in pieces of at least this size, in octets: few enough calls, and
/// little memory for each session.
const PIECE_SIZE: usize = 32 * 1024;

/// What the driver has to do before the conversation can go on.
#[derive(Debug)]
pub(super) enum Action {
    /// Send the output, then read more input.
    Read,
    /// Find out whether that is a user; answer with [`Conversation::logged_in`].
    LogIn(Credentials),
    /// Ask the spool and the limits; answer with [`Conversation::admitted`].
    Admit(Admission),
    /// Begin a draft; answer with [`Conversation::opened`].
    Open,
    /// Append [`Conversation::piece`] to the draft; answer with [`Conversation::written`].
    Write,
    /// Make the draft durable; answer with [`Conversation::stored`].
    Store(Box<Envelope>),
    /// Tell the observer.
    Tell(Refusal),
    /// Send the output, shake hands, then call [`Conversation::secured`].
    StartTls,
    /// Send the output and close.
    Close(CloseReason),
}

/// How the input is read.
#[derive(Debug)]
enum InputMode {
    Commands,
    /// One line, which is no command.
    Response,
    Data,
    /// So many octets of the chunk are still to come.
    Chunk(Chunk),
    /// So many octets are to be dropped.
    Discard {
        left: u64,
    },
}

/// One client's session with its buffers.
#[derive(Debug)]
pub(super) struct Conversation {
    session: Session,
    mode: InputMode,
    lines: LineReader,
    intake: Intake,
    /// Whether the end of the content was met; its last piece may still have to be written.
    content_ended: bool,
    input: BytesMut,
    piece: Vec<u8>,
    output: Vec<u8>,
    pending: Option<Action>,
}

impl Conversation {
    /// A new session; the greeting is in the output.
    #[must_use]
    pub(super) fn new(rules: Arc<Rules>, client: IpAddr, standing: ClientAccess) -> Self {
        let output = replies::greeting(&rules.hostname).to_wire();
        let intake = Intake::new(rules.content_limits());
        Self {
            session: Session::new(rules, client, standing),
            mode: InputMode::Commands,
            lines: LineReader::default(),
            intake,
            content_ended: false,
            input: BytesMut::new(),
            piece: Vec::new(),
            output,
            pending: None,
        }
    }

    /// Where input is appended.
    pub(super) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Replies to be sent; the driver clears them.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Content to be written.
    #[must_use]
    pub(super) fn piece(&self) -> &[u8] {
        &self.piece
    }

    /// Whether a message is on its way in.
    #[must_use]
    pub(super) fn inside_message(&self) -> bool {
        self.session.inside_message()
    }

    /// Whether the next thing to come is a message.
    #[must_use]
    pub(super) fn between_messages(&self) -> bool {
        self.session.between_messages()
    }

    /// The protocol word of the session.
    #[must_use]
    pub(super) fn protocol(&self) -> &'static str {
        self.session.protocol()
    }

    /// Goes on until the world is needed.
    pub(super) fn next(&mut self) -> Action {
        loop {
            if let Some(action) = self.pending.take() {
                return action;
            }
            let progress = match self.mode {
                InputMode::Commands => self.read_command(),
                InputMode::Response => self.read_response(),
                InputMode::Data => self.read_data(),
                InputMode::Chunk(left) => self.read_chunk(left),
                InputMode::Discard { left } => self.discard(left),
            };
            if let Some(action) = progress {
                return action;
            }
        }
    }

    /// Whether the client of [`Action::LogIn`] is a user.
    pub(super) fn logged_in(&mut self, outcome: LoginOutcome) {
        self.on(Event::LoggedIn(outcome));
    }

    /// The spool's answer to [`Action::Admit`].
    pub(super) fn admitted(&mut self, answer: Result<Allowance, AdmitFault>) {
        self.on(Event::Admitted(answer));
    }

    /// The draft of [`Action::Open`].
    pub(super) fn opened(&mut self, id: QueueId, now: Timestamp) {
        self.intake = Intake::new(self.session.content_limits());
        self.on(Event::Opened { id, now });
    }

    /// Whether the piece of [`Action::Write`] was taken.
    pub(super) fn written(&mut self, answer: Result<(), SpoolFault>) {
        self.piece.clear();
        if let Err(fault) = answer {
            self.intake.spool_failed(fault);
        }
    }

    /// Whether the message of [`Action::Store`] is durable.
    pub(super) fn stored(&mut self, answer: Result<QueueId, SpoolFault>) {
        // An idle session keeps no room for content: clients hold many of them open.
        self.piece = Vec::new();
        self.on(Event::Stored(answer));
    }

    /// The handshake is done. What was in the input came in clear and is forgotten
    /// (RFC 3207 §4.2, CVE-2011-0411).
    pub(super) fn secured(&mut self) {
        self.input.clear();
        self.lines = LineReader::default();
        self.mode = InputMode::Commands;
        self.session.secured();
    }

    /// The client's certificate is one that opens the way.
    pub(super) fn proven(&mut self) {
        self.session.proven();
    }

    /// The client is silent.
    pub(super) fn timed_out(&mut self) {
        self.on(Event::TimedOut);
    }

    /// The relay stops.
    pub(super) fn stop(&mut self) {
        self.on(Event::Stop);
    }

    /// Other rules hold for sessions from now on.
    pub(super) fn reconfigured(&mut self) {
        self.on(Event::Reconfigured);
    }

    fn on(&mut self, event: Event) {
        self.pending = match self.session.on(event) {
            Step::Send(reply) => self.send(&reply, None),
            Step::Refuse(at, reply) => self.send(&reply, Some(at)),
            Step::Challenge(reply) => {
                self.mode = InputMode::Response;
                self.send(&reply, None)
            }
            Step::LogIn(credentials) => Some(Action::LogIn(credentials)),
            Step::Admit(admission) => Some(Action::Admit(admission)),
            Step::Open => Some(Action::Open),
            Step::Receive { answer, trace, framing } => {
                self.receive(answer.as_ref(), trace, framing);
                None
            }
            Step::Discard { octets } => {
                self.mode = InputMode::Discard { left: octets };
                None
            }
            Step::Store(envelope) => Some(Action::Store(envelope)),
            Step::StartTls(reply) => {
                self.send(&reply, None);
                Some(Action::StartTls)
            }
            Step::Close(reply, reason) => {
                self.send(&reply, None);
                Some(Action::Close(reason))
            }
        };
    }

    fn send(&mut self, reply: &Reply, refused: Option<RefusedAt>) -> Option<Action> {
        self.output.extend_from_slice(&reply.to_wire());
        refused.map(|at| Action::Tell(Refusal { at, code: reply.code, enhanced: reply.enhanced }))
    }

    fn receive(&mut self, answer: Option<&Reply>, trace: Option<String>, framing: Framing) {
        if let Some(reply) = answer {
            self.send(reply, None);
        }
        if let Some(trace) = trace {
            self.piece = trace.into_bytes();
        }
        self.content_ended = false;
        self.mode = match framing {
            Framing::Data => InputMode::Data,
            Framing::Chunk(chunk) => InputMode::Chunk(chunk),
        };
    }

    fn read_command(&mut self) -> Option<Action> {
        let found = self.lines.next(&self.input);
        let command = found.line.map(|line| line.map_err(Into::into).and_then(command::parse));
        self.input.advance(found.consumed);
        match command {
            None => Some(Action::Read),
            Some(command) => {
                self.on(Event::Command(command));
                None
            }
        }
    }

    fn read_response(&mut self) -> Option<Action> {
        let found = self.lines.next(&self.input);
        let line = found.line.map(|line| line.map(Secret::new));
        self.input.advance(found.consumed);
        let Some(line) = line else { return Some(Action::Read) };
        self.mode = InputMode::Commands;
        self.on(Event::Response(line));
        None
    }

    fn read_data(&mut self) -> Option<Action> {
        if !self.content_ended {
            let (used, ended) = self.intake.data(&self.input, &mut self.piece);
            self.input.advance(used);
            self.content_ended = ended;
        }
        self.after_content()
    }

    fn read_chunk(&mut self, chunk: Chunk) -> Option<Action> {
        let used = self.at_most(chunk.octets);
        let octets = chunk.octets.saturating_sub(used as u64);
        self.intake.chunk(self.input.get(..used).unwrap_or_default(), &mut self.piece);
        self.input.advance(used);
        self.content_ended = octets == 0;
        if self.content_ended && chunk.last {
            self.intake.chunks_ended();
        }
        self.mode = InputMode::Chunk(Chunk { octets, ..chunk });
        self.after_content()
    }

    /// Writes what was collected; once all of it is written, asks the session.
    fn after_content(&mut self) -> Option<Action> {
        let verdict = self.intake.verdict();
        if verdict.is_err() {
            self.piece.clear();
        }
        if !self.piece.is_empty() && (self.content_ended || self.piece.len() >= PIECE_SIZE) {
            return Some(Action::Write);
        }
        if !self.content_ended {
            return Some(Action::Read);
        }
        self.mode = InputMode::Commands;
        let content = verdict.map(|()| self.intake.content());
        self.on(Event::ContentEnded(content));
        None
    }

    fn discard(&mut self, left: u64) -> Option<Action> {
        let used = self.at_most(left);
        self.input.advance(used);
        let left = left.saturating_sub(used as u64);
        self.mode = InputMode::Discard { left };
        if left > 0 {
            return Some(Action::Read);
        }
        self.mode = InputMode::Commands;
        self.on(Event::Discarded);
        None
    }

    /// How many of `octets` are in the input.
    fn at_most(&self, octets: u64) -> usize {
        usize::try_from(octets).unwrap_or(usize::MAX).min(self.input.len())
    }
}
