//! What goes into a session and what comes out of it: the language between
//! [`Session`](super::session::Session) and [`Conversation`](super::conversation::Conversation).

use super::intake::{ContentFault, ContentTraits, SpoolFault};
use super::meters::Allowance;
use super::{CloseReason, RefusedAt};
use crate::clock::Timestamp;
use crate::config::users::User;
use crate::envelope::{Envelope, QueueId};
use crate::smtp::address::ReversePath;
use crate::smtp::command::{Chunk, Command};
use crate::smtp::error::CommandError;
use crate::smtp::line::LineError;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::{Credentials, Secret};
use std::sync::Arc;

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A command line came.
    Command(Result<Command, CommandError>),
    /// The line came that [`Step::Challenge`] waits for.
    Response(Result<Secret, LineError>),
    /// The answer to [`Step::LogIn`].
    LoggedIn(LoginOutcome),
    /// The answer to [`Step::Admit`].
    Admitted(Result<Allowance, AdmitFault>),
    /// The answer to [`Step::Open`].
    Opened {
        /// The id of the message.
        id: QueueId,
        /// Now.
        now: Timestamp,
    },
    /// The end of DATA or of a chunk was met after [`Step::Receive`]; with what the content
    /// is, as far as it has come.
    ContentEnded(Result<ContentTraits, ContentFault>),
    /// The octets of [`Step::Discard`] are gone.
    Discarded,
    /// The answer to [`Step::Store`].
    Stored(Result<QueueId, SpoolFault>),
    /// The client is silent.
    TimedOut,
    /// The relay stops.
    Stop,
    /// Other rules hold from now on.
    Reconfigured,
}

/// A message that MAIL announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    /// The declared size; 0 when none was.
    pub(super) size: u64,
    /// Whose it is.
    pub(super) sender: ReversePath,
    /// The user, after AUTH.
    pub(super) user: Option<String>,
}

/// Why it may not come now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdmitFault {
    /// The spool does not take it.
    Spool(SpoolFault),
    /// A limit of the operator is reached.
    Limit,
    /// The operator has suspended the sender or the user.
    Suspended,
}

/// Whether a client is the user it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoginOutcome {
    /// This one.
    Right(Arc<User>),
    /// Name or password is wrong.
    Wrong,
    /// That was not looked at: too many have failed, or too many ask at once.
    NotNow,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Step {
    /// Answer, then wait for the next command.
    Send(Reply),
    /// As [`Step::Send`], and tell the observer.
    Refuse(RefusedAt, Reply),
    /// Answer; the next line is no command, but belongs to AUTH.
    Challenge(Reply),
    /// Find out whether that is a user.
    LogIn(Credentials),
    /// Ask the spool, and the limits, whether such a message may come.
    Admit(Admission),
    /// Begin a draft.
    Open,
    /// Take content.
    Receive {
        /// What to answer first: 354 for DATA, nothing for BDAT.
        answer: Option<Reply>,
        /// What goes in front of the content: our Received line, with the first octets.
        trace: Option<String>,
        /// How the content is framed.
        framing: Framing,
    },
    /// Drop that many octets of input.
    Discard {
        /// The octets to drop.
        octets: u64,
    },
    /// Make the draft durable.
    Store(Box<Envelope>),
    /// Answer, forget what is in the input, shake hands.
    StartTls(Reply),
    /// Answer and close.
    Close(Reply, CloseReason),
}

/// How content is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Up to `CRLF . CRLF`.
    Data,
    /// So many octets.
    Chunk(Chunk),
}
