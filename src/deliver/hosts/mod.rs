//! Receiving hosts: how many connections each takes, who may open one now, and who backs off from
//! what (RFC 5321 §4.5.4.1).
//!
//! This page holds the nouns. `window.rs` learns how many connections a host takes, `feedback.rs`
//! reads that from outcomes, `record.rs` remembers it with the wait of one that does not answer,
//! `telling.rs` shares that with other relays, `passing.rs` says who may pass, `gates.rs` lets messages in, in their order, `view.rs` shows how it stands; all pure. `driver.rs`
//! holds the lock, the waiting and the clock.

pub(crate) mod driver;
pub(crate) mod feedback;
mod gates;
mod limits;
mod passing;
mod record;
mod telling;
pub(crate) mod view;
mod window;

use crate::clock::Timestamp;
use crate::config::{Config, HostRule, Rate, Retry, closest_rule};
use crate::outcome::{Cause, Peer};
use crate::route::NextHop;
use crate::spool::cluster::NodeShare;
use std::net::SocketAddr;

/// The part of all places that is for hosts that nobody knows yet, and that for those that did not answer.
const NEW_SHARE_DIVISOR: usize = 8;
/// With fewer places than this these two are one: there is little to share.
const FEW_PLACES: usize = 8;

/// What can be full.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    /// The next hop of recipients.
    Hop(NextHop),
    /// The name of a receiving host.
    Name(String),
    /// Its address.
    Address(SocketAddr),
    /// All hosts of a `[[host]]`.
    Group(GroupId),
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
        group: Option<GroupId>,
    },
}

/// A `[[host]]`: the same one as long as it names the same hosts, whatever else changes in the
/// configuration.
pub(crate) type GroupId = usize;

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
    /// All places there are are those of other relays, which share the spool.
    Elsewhere,
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
    /// Those of the rules, in their order.
    groups: Vec<GroupId>,
    /// The first that no rule has had.
    next_group: GroupId,
    retry: Retry,
    /// The part of this relay in those of hosts and next hops.
    share: NodeShare,
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
            groups: (0..config.host.len()).collect(),
            next_group: config.host.len(),
            retry: config.retry.clone(),
            share: NodeShare::ALONE,
        }
    }

    /// How all places are shared.
    fn shares(&self) -> [(Gate, usize); 3] {
        let part = self.all / NEW_SHARE_DIVISOR;
        let (new, slow) = match self.all {
            1 => (0, 0),
            2..FEW_PLACES => (1, 0),
            _ => (part, part),
        };
        [(Gate::New, new), (Gate::Slow, slow), (Gate::Answering, self.all - new - slow)]
    }

    /// Those of another configuration, in which rules for the same hosts go on as they were.
    fn succeeded_by(&self, config: &Config) -> Self {
        let (next_group, share) = (self.next_group, self.share);
        let mut next = Self { next_group, share, groups: Vec::new(), ..Self::of(config) };
        for rule in &config.host {
            let before = self.rules.iter().zip(&self.groups).filter(|(_, group)| !next.groups.contains(group));
            let same = before.into_iter().find(|(before, _)| before.hosts == rule.hosts).map(|(_, group)| *group);
            next.groups.push(same.unwrap_or(next.next_group));
            next.next_group += usize::from(same.is_none());
        }
        next
    }

    /// The `[[host]]` that holds for a host.
    fn group_of(&self, peer: &Peer) -> Option<GroupId> {
        closest_rule(&peer.host, peer.address.ip(), &self.rules).and_then(|index| self.groups.get(index).copied())
    }

    /// None where the configuration has it no more.
    fn rule(&self, group: Option<GroupId>) -> Option<&HostRule> {
        let index = self.groups.iter().position(|one| Some(*one) == group)?;
        self.rules.get(index)
    }

    /// The most connections to one host.
    fn connections(&self, group: Option<GroupId>) -> usize {
        self.share.of(self.rule(group).and_then(|rule| rule.max_connections).unwrap_or(self.per_host))
    }

    /// The most connections to all hosts of a rule.
    fn together(&self, group: GroupId) -> usize {
        self.share.of(self.rule(Some(group)).and_then(|rule| rule.max_connections).unwrap_or(usize::MAX))
    }

    /// The rate that holds for a host, and what it is counted by.
    fn rate(&self, name: &str, group: Option<GroupId>) -> (Gate, Option<Rate>) {
        let of_rule = group.zip(self.rule(group).and_then(|rule| rule.rate));
        match of_rule {
            Some((group, rate)) => (Gate::Group(group), self.part(Some(rate))),
            None => (Gate::Name(name.to_owned()), self.part(self.rate)),
        }
    }

    /// The part of this relay in a rate.
    fn part(&self, rate: Option<Rate>) -> Option<Rate> {
        rate.map(|rate| rate.among(self.share.nodes()))
    }

    /// The most messages of one connection.
    fn messages(&self, group: Option<GroupId>) -> u32 {
        self.rule(group).and_then(|rule| rule.max_messages_per_connection).unwrap_or(self.messages)
    }
}
