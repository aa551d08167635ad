//! What `/api/v1` can be ordered to do: from a body to a typed order, without I/O.

use crate::accept::suspended::{Resumption, SuspendedKind, Suspension};
use crate::clock::Timestamp;
use crate::command::queue::Filter;
use crate::config::users::UserRole;
use crate::smtp::address::Domain;
use crate::spool::event::Act;
use serde::Deserialize;
use std::time::Duration;

/// The longest reason, in characters.
const REASON_LIMIT: usize = 499;

/// Over what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskedOver {
    /// The admin port, from wherever that can be reached.
    Network,
    /// The control socket: a user of this host who may read the spool anyway, and whose shell keeps a history.
    Socket,
}

/// What is ordered.
#[derive(Debug)]
pub(super) enum ApiOrder {
    /// Does something with what waits, and tells the sum.
    Act(ActWanted),
    /// Does the same, and tells each message as it is done.
    ActInEvents(ActWanted),
    /// Lets nothing further in from somebody.
    Suspend(Suspension),
    /// Lets it in again.
    Resume(Resumption),
    /// Begins a check.
    StartCheck(Domain),
    /// Ends it.
    CancelCheck(String),
    /// Takes over the configuration as it is in its file now.
    Reload,
    /// Says more or less in the log.
    LogLevel {
        /// A level, a list of modules with a level each, or `default`.
        level: String,
        /// For how long; until it is changed again without it.
        lasts: Option<Duration>,
    },
    /// Makes the reports on TLS about days that are over, all or those of this domain.
    SendTlsReports(Option<Domain>),
    /// Hands over what has not begun, and ends the relay when the rest is done.
    Drain,
}

/// An order about what waits.
#[derive(Debug)]
pub(super) struct ActWanted {
    /// What is done.
    pub(super) act: Act,
    /// The messages and recipients that it is done with.
    pub(super) filter: Filter,
    /// The reason given.
    pub(super) reason: Option<String>,
}

/// What an act wants, in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActBody {
    act: Act,
    domain: Option<String>,
    cause: Option<String>,
    older: Option<String>,
    sender: Option<String>,
    #[serde(default)]
    id: Vec<String>,
    all: Option<bool>,
    reason: Option<String>,
}

/// What a suspension wants, in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SuspensionBody {
    pub(super) kind: SuspendedKind,
    pub(super) name: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(rename = "for")]
    pub(super) lasts: Option<String>,
}

/// What a check wants, in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckBody {
    pub(super) domain: Domain,
}

/// What another level of the log wants, in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogLevelBody {
    level: String,
    #[serde(rename = "for")]
    lasts: Option<String>,
}

/// What the order to send reports wants, in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportsBody {
    pub(super) domain: Option<Domain>,
}

/// What an order is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActScope {
    /// What its conditions name.
    Named,
    /// All that waits, where there is no condition.
    All,
}

impl ActBody {
    /// The order.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub(super) fn wanted(self, over: AskedOver) -> Result<ActWanted, String> {
        let Self { act, domain, cause, older, sender, id, all, reason } = self;
        let one = [("domain", domain), ("cause", cause), ("older", older), ("sender", sender)];
        let conditions = one.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let scope = if all == Some(true) { ActScope::All } else { ActScope::Named };
        let mut filter = Filter::default();
        for (name, value) in conditions.chain(id.into_iter().map(|id| ("id", id))) {
            filter = filter.with(name, &value).map_err(|why| format!("{name}: {why}"))?;
        }
        wanted(ActWanted { act, filter, reason }, scope, over)
    }
}

/// An order that names what it is about and, from elsewhere, why it is given; a retry explains itself.
///
/// # Errors
/// What is missing.
pub(super) fn wanted(order: ActWanted, scope: ActScope, over: AskedOver) -> Result<ActWanted, String> {
    let ActWanted { act, filter, reason } = order;
    if filter.is_everything() && scope == ActScope::Named {
        return Err("say which messages (id, domain, cause, older, sender), or all".to_owned());
    }
    let reason = reason.filter(|reason| !reason.trim().is_empty());
    match over {
        AskedOver::Network if act == Act::Read => Err("act: read the content by its own address".to_owned()),
        AskedOver::Network if act != Act::Retry && reason.is_none() => {
            Err("reason: say why, for whoever reads the history".to_owned())
        }
        AskedOver::Network | AskedOver::Socket => Ok(ActWanted { act, filter, reason }),
    }
}

impl SuspensionBody {
    /// The suspension, with the reason that every one from elsewhere needs.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub(super) fn suspension(&self, over: AskedOver, now: Timestamp) -> Result<Suspension, String> {
        let lasts = self.lasts.as_deref().map(str::trim).filter(|lasts| !lasts.is_empty());
        let lasts = lasts.map(duration).transpose()?;
        let reason = reason_for(&self.reason, over)?;
        Suspension::new(self.kind, self.name.trim(), reason, lasts.map(|lasts| now.plus(lasts)))
    }
}

/// The end of a suspension, with the reason that every one from elsewhere needs.
///
/// # Errors
/// When the reason is missing.
pub(super) fn resumption(wanted: Resumption, over: AskedOver) -> Result<Resumption, String> {
    Ok(Resumption { name: wanted.name.trim().to_owned(), reason: reason_for(&wanted.reason, over)?, ..wanted })
}

/// A reason as it is kept.
fn reason_for(said: &str, over: AskedOver) -> Result<String, String> {
    let said = said.trim();
    match over {
        AskedOver::Network if said.is_empty() => Err("reason: say why, for whoever looks".to_owned()),
        AskedOver::Network | AskedOver::Socket => {
            Ok(said.chars().filter(|c| !c.is_control()).take(REASON_LIMIT).collect())
        }
    }
}

impl LogLevelBody {
    /// The order.
    ///
    /// # Errors
    /// When the time is none.
    pub(super) fn wanted(self) -> Result<ApiOrder, String> {
        let lasts = self.lasts.as_deref().map(duration).transpose()?;
        Ok(ApiOrder::LogLevel { level: self.level, lasts })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("for: {error}"))
}

/// A kind by its word.
pub(super) fn suspended_kind(word: &str) -> Option<SuspendedKind> {
    [SuspendedKind::Sender, SuspendedKind::User, SuspendedKind::Destination]
        .into_iter()
        .find(|kind| kind.to_string() == word)
}

/// What an order needs of whoever gives it.
pub(super) const fn needed_for(act: Act) -> UserRole {
    match act {
        Act::Retry => UserRole::HelpDesk,
        Act::Hold | Act::Release | Act::Bounce | Act::Delete | Act::Read => UserRole::Operator,
    }
}
