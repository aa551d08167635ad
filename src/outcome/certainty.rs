//! How sure a diagnosis is.

use serde::{Deserialize, Serialize};

/// How sure a diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// It cannot be told.
    Inconclusive,
    /// It fits, and a control that would settle it is missing.
    Likely,
    /// Nothing else fits, and controls show it.
    Proven,
}

impl Certainty {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inconclusive => "inconclusive",
            Self::Likely => "likely",
            Self::Proven => "proven",
        }
    }
}
