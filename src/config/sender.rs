//! `senders` of a `[[destination]]`: whose mail it is about.

use crate::smtp::address::{Domain, Mailbox, ReversePath};
use serde::Deserialize;
use std::fmt;

/// Which senders are meant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SenderPattern {
    /// `<>`: the null reverse-path, which reports have.
    Null,
    /// `user@example.org`, whatever its case.
    Exactly(Mailbox),
    /// `@example.org`: everybody there, and not below it.
    Domain(Domain),
}

impl SenderPattern {
    /// How closely the pattern fits, more for closer; `None` when it does not.
    #[must_use]
    pub fn fit(&self, sender: &ReversePath) -> Option<u8> {
        match (self, sender) {
            (Self::Null, ReversePath::Null) => Some(2),
            (Self::Exactly(exact), ReversePath::Mailbox(mailbox)) => {
                exact.as_str().eq_ignore_ascii_case(mailbox.as_str()).then_some(2)
            }
            (Self::Domain(domain), ReversePath::Mailbox(mailbox)) => {
                let (_, host) = mailbox.as_str().rsplit_once('@')?;
                host.parse().is_ok_and(|host: Domain| host == *domain).then_some(1)
            }
            (Self::Null, ReversePath::Mailbox(_)) | (Self::Exactly(_) | Self::Domain(_), ReversePath::Null) => None,
        }
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Exactly(mailbox) => f.write_str(&mailbox.as_str().to_ascii_lowercase()),
            Self::Domain(domain) => write!(f, "@{domain}"),
        }
    }
}

impl TryFrom<String> for SenderPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "<>" {
            return Ok(Self::Null);
        }
        let wrong =
            |error| format!("\"{text}\" is no sender: {error}; write \"user@example.org\", \"@example.org\" or \"<>\"");
        match text.strip_prefix('@') {
            Some(domain) => domain.parse().map(Self::Domain).map_err(|error| wrong(format!("{error}"))),
            None => text.parse().map(Self::Exactly).map_err(|error| wrong(format!("{error}"))),
        }
    }
}
