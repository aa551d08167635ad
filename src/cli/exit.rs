//! What the exit code of a command says: the one table for all commands, and for what is printed about them.
//!
//! From 64 on they are those of sysexits.h. What 1, 2 and 3 mean of one command stands in `guide.rs`; whatever
//! a command finds nothing of, it says so with [`Exit::Nothing`].

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Done; what was asked for is on standard output.
    Done = 0,
    /// Nothing was found, nothing fits, not all could be done, or there is something to look at.
    Nothing = 1,
    /// Something is wrong, and somebody has to act.
    Fault = 2,
    /// It could not be found out.
    Unknown = 3,
    /// The command line is wrong (EX_USAGE).
    Usage = 64,
    /// No relay runs, or it does not answer (EX_UNAVAILABLE).
    Unavailable = 69,
    /// The system does not give what is needed: a port, an address, the spool. It may give it later, so
    /// the service manager may start the relay again (EX_OSERR).
    System = 71,
    /// The disk or the history cannot be read or written (EX_IOERR).
    Io = 74,
    /// What is asked for belongs to another user (EX_NOPERM).
    Denied = 77,
    /// The configuration, or something it names, cannot be used; or there is no spool (EX_CONFIG).
    Config = 78,
}

impl Exit {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Done,
        Self::Nothing,
        Self::Fault,
        Self::Unknown,
        Self::Usage,
        Self::Unavailable,
        Self::System,
        Self::Io,
        Self::Denied,
        Self::Config,
    ];

    /// The number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// What it says of any command.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Nothing => "nothing found, nothing fits, not all was done, or something to look at",
            Self::Fault => "something is wrong and somebody has to act",
            Self::Unknown => "it could not be found out",
            Self::Usage => "the command line is wrong",
            Self::Unavailable => "no relay runs, or it does not answer",
            Self::System => "the system does not give what is needed: a port, an address, the spool",
            Self::Io => "a file or the history cannot be read or written",
            Self::Denied => "it belongs to another user",
            Self::Config => "the configuration cannot be used, or there is no spool",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The code for an answer that may be empty.
pub(crate) fn found(many: usize) -> ExitCode {
    if many == 0 { Exit::Nothing } else { Exit::Done }.into()
}
