//! How a path stands among the others.

/// How a path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathStanding {
    /// Asked in its turn.
    Good,
    /// Asked last, until the penalty fades.
    PutBack,
}
