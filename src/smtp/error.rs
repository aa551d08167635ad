//! Why a line is no command (RFC 5321 §4.3.2).

use super::address::AddressError;
use super::line::LineError;

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The line itself is bad.
    #[error(transparent)]
    Line(#[from] LineError),
    /// No verb we have heard of.
    #[error("unknown command")]
    Unknown,
    /// A verb of the standards that we do not serve.
    #[error("command not implemented")]
    NotImplemented,
    /// EHLO or HELO without a name, or with one that is not printable.
    #[error("a host name or address literal must follow")]
    HelloName,
    /// An argument is missing, or there is one where none may be.
    #[error("bad argument")]
    Argument,
    /// The reverse-path is none.
    #[error("sender: {0}")]
    ReversePath(AddressError),
    /// The forward-path is none.
    #[error("recipient: {0}")]
    ForwardPath(AddressError),
    /// A parameter of MAIL or RCPT that no offered extension defines.
    #[error("unknown parameter")]
    UnknownParameter,
    /// A known parameter with a wrong value, or given twice.
    #[error("bad parameter value")]
    ParameterValue,
    /// BDAT whose number of octets cannot be read: where the next command begins is unknown.
    #[error("the size of the chunk cannot be read")]
    ChunkSize,
    /// BDAT with a good size and something wrong behind it: the octets follow all the same.
    #[error("bad argument after the size of the chunk")]
    ChunkArgument {
        /// How many octets follow.
        octets: u64,
    },
}
