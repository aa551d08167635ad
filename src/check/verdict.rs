//! What a check comes to: the word, the exit code, and which counts most.

use serde::{Deserialize, Serialize};

/// What the check came to; also the exit code and a Nagios state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Mail is delivered.
    Ok,
    /// Mail is delivered, and something is wrong.
    Warning,
    /// Mail is not delivered.
    Fault,
    /// We could not find out.
    Inconclusive,
}

impl Verdict {
    /// The exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Fault => 2,
            Self::Inconclusive => 3,
        }
    }

    /// Which of several counts most: a fault before what could not be found out.
    #[must_use]
    pub const fn weight(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Inconclusive => 2,
            Self::Fault => 3,
        }
    }

    /// The word the text begins with.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARN",
            Self::Fault => "FAULT",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }
}
