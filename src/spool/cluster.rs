//! What an operator may ask about a spool that several relays share: the version of its schema, and its nodes.

use crate::clock::Timestamp;
use serde::Serialize;

/// The schema of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "schema", content = "version", rename_all = "kebab-case")]
pub enum SchemaState {
    /// There is none.
    Empty,
    /// One that has to be migrated.
    Older(i64),
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
