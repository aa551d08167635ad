//! `relay spool` and `relay cluster`: the database that is the spool, and the relays that share it.

use crate::spool::cluster::{ClusterNode, DatabaseStatus, NodeState, SchemaState};
use crate::text::counted;
use crate::text::table::{Cell, Column, TableView, TextTable, span};
use serde::Serialize;

/// The columns of the table of nodes.
pub const COLUMNS: &[Column] = &[
    Column::words("NODE"),
    Column::words("STATE"),
    Column::numbers("CARRIES"),
    Column::words("VERSION").rank(1),
    Column::words("SEEN"),
    Column::numbers("CLOCK").rank(2),
    Column::words("HOST").rank(3),
    Column::numbers("PID").rank(4),
    Column::words("STARTED").rank(5),
];

/// A clock that is off by more makes mail due at other times than the relays beside it think.
const CLOCK_OFF_MS: u64 = 2000;

/// How the spool stands, by its engine.
#[derive(Debug, Serialize)]
#[serde(tag = "engine", rename_all = "lowercase")]
pub enum SpoolReport {
    /// Files of this host.
    Embedded,
    /// A database.
    Postgresql(DatabaseStatus),
}

impl SpoolReport {
    /// Of what was found.
    #[must_use]
    pub fn new(found: Option<DatabaseStatus>) -> Self {
        found.map_or(Self::Embedded, Self::Postgresql)
    }

    /// Whether a relay can work with it.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        match self {
            Self::Embedded
            | Self::Postgresql(DatabaseStatus { schema: SchemaState::Current(_) | SchemaState::Behind(_), .. }) => true,
            Self::Postgresql(_) => false,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self::Postgresql(status) = self else {
            return "engine    files of this host, which need no init and no migration\n".to_owned();
        };
        let schema = match status.schema {
            SchemaState::Empty => "none: run `relay spool init`".to_owned(),
            SchemaState::Older(version) => {
                format!("version {version}, and {} is needed: run `relay spool migrate`", status.needs)
            }
            SchemaState::Behind(version) => format!(
                "version {version}: relays work with it, and without what version {} brings; run `relay spool migrate`",
                status.needs
            ),
            SchemaState::Current(version) if version > status.needs => {
                format!("version {version}, of a newer relay than this one, which may go on beside it")
            }
            SchemaState::Current(version) => format!("version {version}"),
            SchemaState::Newer(version) => {
                format!("version {version}, of a newer relay than this one, which knows {}", status.needs)
            }
        };
        let disks = match &status.standbys {
            None => "the disk of this server alone".to_owned(),
            Some(standbys) => format!("{}, with {standbys}", status.commits_wait_for),
        };
        format!(
            "engine    postgresql ({})\nschema    {schema}\ncommits   wait for {disks}\nwaiting   {}\nsize      {} octets\n",
            status.server,
            counted(status.waiting, "message"),
            status.bytes
        )
    }
}

/// What was done to the schema, in a line.
#[must_use]
pub fn migrated(before: Option<SchemaState>) -> String {
    match before {
        None => "the engine of this configuration needs no such step\n".to_owned(),
        Some(SchemaState::Empty) => "the spool is made\n".to_owned(),
        Some(SchemaState::Older(version) | SchemaState::Behind(version)) => {
            format!("the schema had version {version}, and is migrated\n")
        }
        Some(SchemaState::Current(version)) => format!("the schema has version {version} already\n"),
        Some(SchemaState::Newer(version)) => {
            format!("the schema has version {version}, of a newer relay than this one: nothing was changed\n")
        }
    }
}

/// The nodes for people, and what is wrong with their clocks.
#[must_use]
pub fn text(nodes: &[ClusterNode], view: &TableView) -> String {
    let (table, left_out) = table(nodes, view);
    let mut text = table.text(view.width);
    if left_out > 0 {
        text.push_str(&format!("{}; --limit says how many are shown.\n", counted(left_out as u64, "more node")));
    }
    for node in nodes.iter().filter(|node| is_off(node)) {
        text.push_str(&format!(
            "\nThe clock of {} is {} off that of the database: mail is due there at other times. See to its NTP.\n",
            node.name,
            offset(node.clock_ahead_ms)
        ));
    }
    text
}

/// Those that are wanted, in their order.
#[must_use]
pub fn chosen(nodes: &[ClusterNode], view: &TableView) -> Vec<ClusterNode> {
    table(nodes, view).0.values().map(|node| (*node).clone()).collect()
}

/// Whether nothing is to be looked at.
#[must_use]
pub fn is_well(nodes: &[ClusterNode]) -> bool {
    nodes.iter().all(|node| node.state != NodeState::Silent && !is_off(node))
}

fn is_off(node: &ClusterNode) -> bool {
    node.state == NodeState::Running && node.clock_ahead_ms.unsigned_abs() > CLOCK_OFF_MS
}

/// With its sign and a tenth of a second.
fn offset(ms: i64) -> String {
    let sign = if ms < 0 { '-' } else { '+' };
    let tenths = ms.unsigned_abs() / 100;
    format!("{sign}{}.{}s", tenths / 10, tenths % 10)
}

fn table<'a>(nodes: &'a [ClusterNode], view: &TableView) -> (TextTable<&'a ClusterNode>, usize) {
    let mut table = TextTable::new(COLUMNS);
    for node in nodes {
        let state = match node.state {
            NodeState::Running => "running",
            NodeState::Silent => "silent",
            NodeState::Stopped => "stopped",
        };
        let ago = node.seen_ago_ms / 1000;
        let row = vec![
            node.name.clone().into(),
            state.into(),
            node.carries.into(),
            node.version.clone().into(),
            Cell::number(format!("{} ago", span(ago)), ago),
            Cell::number(offset(node.clock_ahead_ms), node.clock_ahead_ms.unsigned_abs()),
            node.host.clone().into(),
            node.pid.to_string().into(),
            node.started.to_second().into(),
        ];
        table.push(row, node);
    }
    let left_out = table.arrange(view);
    (table, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn node(name: &str, state: NodeState, clock_ahead_ms: i64) -> ClusterNode {
        let (started, seen) = (Timestamp(1_795_261_468_000), Timestamp(1_795_265_068_000));
        let (version, host) = ("0.1.0".to_owned(), "mx1".to_owned());
        let name = name.to_owned();
        ClusterNode { name, state, version, host, pid: 7, started, seen, seen_ago_ms: 1200, clock_ahead_ms, carries: 3 }
    }

    #[test]
    fn a_node_that_is_silent_or_whose_clock_is_off_is_to_be_looked_at() {
        let well = [node("a", NodeState::Running, -1900), node("b", NodeState::Stopped, 99_000)];
        assert!(is_well(&well));
        let text = text(&[node("a", NodeState::Running, -4321)], &TableView::WHOLE);
        assert!(text.contains("-4.3s") && text.contains("clock of a is -4.3s off"), "{text}");
        assert!(!is_well(&[node("a", NodeState::Silent, 0)]) && !is_well(&[node("a", NodeState::Running, 2001)]));
    }

    #[test]
    fn a_schema_says_what_to_do_with_it() {
        let of = |schema| DatabaseStatus {
            schema,
            needs: 2,
            server: "PostgreSQL 15".to_owned(),
            commits_wait_for: "on".to_owned(),
            standbys: None,
            bytes: 1,
            waiting: 0,
        };
        for (schema, word) in [
            (SchemaState::Empty, "relay spool init"),
            (SchemaState::Older(1), "relay spool migrate"),
            (SchemaState::Newer(3), "newer relay"),
        ] {
            let report = SpoolReport::new(Some(of(schema)));
            assert!(report.text().contains(word) && !report.is_usable(), "{}", report.text());
        }
        assert!(SpoolReport::new(Some(of(SchemaState::Current(2)))).is_usable() && SpoolReport::Embedded.is_usable());
        let behind = SpoolReport::new(Some(of(SchemaState::Behind(1))));
        assert!(behind.is_usable() && behind.text().contains("relay spool migrate"), "{}", behind.text());
    }
}
