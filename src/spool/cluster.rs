//! A spool that several relays share: the version of its schema, its nodes, and the part of each in what all may do.

use crate::clock::Timestamp;
use serde::Serialize;
use std::num::NonZeroU32;
use std::time::Duration;

/// How long a message stands in the spool, for which there is no room at a receiving host, before it comes by itself. Before
/// that it is called by the node that has put it there; when that node is gone, the others take it up.
pub const UNCALLED: Duration = Duration::from_secs(120);

/// The schema of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "schema", content = "version", rename_all = "kebab-case")]
pub enum SchemaState {
    /// There is none.
    Empty,
    /// One that has to be migrated.
    Older(i64),
    /// One that this program works with as it is, without what a newer one brings.
    Behind(i64),
    /// The one that this program works with.
    Current(i64),
    /// One that a newer program has made.
    Newer(i64),
}

/// A database that is the spool.
#[derive(Clone, Debug, Serialize)]
pub struct DatabaseStatus {
    /// Which schema it has.
    #[serde(flatten)]
    pub schema: SchemaState,
    /// The schema that this program works with.
    pub needs: i64,
    /// The database server, as it names itself.
    pub server: String,
    /// What a commit waits for, as `synchronous_commit` names it.
    pub commits_wait_for: String,
    /// The standbys that it waits for besides, as `synchronous_standby_names` names them; none where that is empty.
    pub standbys: Option<String>,
    /// Octets of all tables.
    pub bytes: u64,
    /// Messages that wait; none without a schema.
    pub waiting: u64,
}

/// A relay among those that share the spool.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterNode {
    /// Its name, `[spool] node`.
    pub name: String,
    /// Whether it runs.
    pub state: NodeState,
    /// Of its program.
    pub version: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process there.
    pub pid: i64,
    /// When it was started.
    pub started: Timestamp,
    /// When it was last heard of, by the clock of the database.
    pub seen: Timestamp,
    /// How long ago that is, in milliseconds.
    pub seen_ago_ms: u64,
    /// How far its clock was ahead of that of the database then, in milliseconds.
    pub clock_ahead_ms: i64,
    /// Messages that it has claimed.
    pub carries: u64,
}

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It is heard of.
    Running,
    /// It was not heard of for longer than usual.
    Silent,
    /// It ended in order.
    Stopped,
}

/// A value that all relays know which share a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterState {
    /// Another one with every change.
    pub revision: i64,
    /// The value.
    pub value: Vec<u8>,
}

/// The part of one relay in what all that share the spool may do together, such as connections to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeShare {
    rank: usize,
    nodes: NonZeroU32,
}

impl NodeShare {
    /// Of a relay that has the spool for itself.
    pub const ALONE: Self = Self { rank: 0, nodes: NonZeroU32::MIN };

    /// Of one of so many that run, in their order from 0.
    #[must_use]
    pub fn new(rank: usize, nodes: usize) -> Self {
        let nodes = u32::try_from(nodes).ok().and_then(NonZeroU32::new);
        nodes.map_or(Self::ALONE, |nodes| Self { rank, nodes })
    }

    /// Its part of a limit. The parts of all are the limit; what cannot be divided is that of the first ones, so that the
    /// part of a later one may be nothing.
    #[must_use]
    pub fn of(self, limit: usize) -> usize {
        let nodes = usize::try_from(self.nodes.get()).unwrap_or(usize::MAX);
        limit / nodes + usize::from(self.rank < limit % nodes)
    }

    /// How many run.
    #[must_use]
    pub const fn nodes(self) -> NonZeroU32 {
        self.nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_all_nodes_are_the_limit_whatever_their_number() {
        for nodes in 1..6 {
            for limit in [1, 2, 3, 20, 41] {
                let parts: Vec<usize> = (0..nodes).map(|rank| NodeShare::new(rank, nodes).of(limit)).collect();
                assert_eq!(parts.iter().sum::<usize>(), limit, "{parts:?}");
                assert!(parts.windows(2).all(|pair| pair[0] >= pair[1] && pair[0] - pair[1] < 2), "{parts:?}");
            }
        }
        assert_eq!(NodeShare::new(3, 0), NodeShare::ALONE);
        assert_eq!(NodeShare::ALONE.of(usize::MAX), usize::MAX);
    }
}
