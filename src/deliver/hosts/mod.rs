//! Receiving hosts: how many connections each takes, who may open one now, and who backs off from
//! what (RFC 5321 §4.5.4.1).
//!
//! This page holds the nouns. `window.rs` learns how many connections a host takes, `feedback.rs`
//! reads that from outcomes, `record.rs` remembers it with the wait of one that does not answer,
//! `passing.rs` says who may pass, `gates.rs` lets messages in, in their order, `view.rs` shows how it stands; all pure. `driver.rs`
//! holds the lock, the waiting and the clock.

pub(crate) mod driver;
pub(crate) mod feedback;
mod gates;
mod passing;
mod record;
pub(crate) mod view;
mod window;

use crate::clock::Timestamp;
use crate::config::{Config, HostRule, Rate, Retry};
use crate::outcome::Cause;
use crate::route::NextHop;
use std::net::SocketAddr;

/// What can be full.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    /// The next hop of recipients.
    Hop(NextHop),
    /// The name of a receiving host.
    Name(String),
    /// Its address.
    Address(SocketAddr),
    /// All hosts of a `[[host]]`, by its place in the configuration.
    Group(usize),
    /// The share of all places for hosts that nobody knows yet.
    New,
    /// The share for hosts that did not answer, or not at once, when they were last tried.
    Slow,
    /// The share for hosts that answer.
    Answering,
}

/// Where a message wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// To a next hop, of which nothing else is known yet.
    Hop {
        /// The next hop.
        hop: NextHop,
        /// The most connections for it.
        most: usize,
        /// The most messages to it.
        rate: Option<Rate>,
    },
    /// To a server.
    Server {
        /// For the recipients of this next hop.
        hop: NextHop,
        /// Its name.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// The `[[host]]` that holds for it.
        group: Option<usize>,
    },
}

/// Why a message is sent away, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// The line is full. Where the message is then [put outside](driver::HostLimits::put_outside) it is
    /// called before, when the line moves.
    Full {
        /// The line.
        gate: Gate,
        /// When to come again without being called.
        until: Timestamp,
    },
    /// The relay backs off from the server.
    BackingOff {
        /// When it is tried again.
        until: Timestamp,
        /// What went wrong at the server last.
        cause: Box<Cause>,
    },
}

/// Whether who asks may be sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eagerness {
    /// A long line sends it back into the spool.
    MayComeAgain,
    /// It has begun already, and waits however long the line is.
    MustGoOn,
}

/// What leaving a server means for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// What came of it counts.
    Done,
    /// The server turned it away while it served others of ours: there was one too many of us, and the
    /// message waits for its place again.
    OneTooMany,
    /// It was left before it had the time that it may need, because others waited for a first look at their
    /// hosts. The message waits for a place with more time.
    TooSoon,
}

/// The limits of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct HostBounds {
    all: usize,
    per_host: usize,
    rate: Option<Rate>,
    messages: u32,
    rules: Vec<HostRule>,
    retry: Retry,
}

impl HostBounds {
    /// Those of the operator.
    #[must_use]
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            all: config.delivery.max_concurrent,
            per_host: config.delivery.max_connections,
            rate: config.delivery.rate,
            messages: config.delivery.max_messages_per_connection,
            rules: config.host.clone(),
            retry: config.retry.clone(),
        }
    }

    fn rule(&self, group: Option<usize>) -> Option<&HostRule> {
        group.and_then(|index| self.rules.get(index))
    }

    /// The most connections to one host.
    fn connections(&self, group: Option<usize>) -> usize {
        self.rule(group).and_then(|rule| rule.max_connections).unwrap_or(self.per_host)
    }

    /// The most connections to all hosts of a rule.
    fn together(&self, index: usize) -> usize {
        self.rule(Some(index)).and_then(|rule| rule.max_connections).unwrap_or(usize::MAX)
    }

    /// The rate that holds for a host, and what it is counted by.
    fn rate(&self, name: &str, group: Option<usize>) -> (Gate, Option<Rate>) {
        let of_rule = group.zip(self.rule(group).and_then(|rule| rule.rate));
        match of_rule {
            Some((index, rate)) => (Gate::Group(index), Some(rate)),
            None => (Gate::Name(name.to_owned()), self.rate),
        }
    }

    /// The most messages of one connection.
    fn messages(&self, group: Option<usize>) -> u32 {
        self.rule(group).and_then(|rule| rule.max_messages_per_connection).unwrap_or(self.messages)
    }
}
