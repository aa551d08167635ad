//! How a path stands among the others.

/// How a path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathStanding {
    /// Asked in its turn.
    Good,
    /// Asked last, until the penalty fades.
    PutBack,
    /// Asked in its turn, though it has lost many answers lately that nobody else had either.
    Loses,
}

impl PathStanding {
    /// How the path stands, in words for people.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Good => "it has carried what it was asked for lately",
            Self::PutBack => "it failed lately where another path had the answer",
            Self::Loses => "the answers for several names were lost lately, and no other path had them",
        }
    }
}
