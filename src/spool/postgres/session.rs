//! This relay as a node of the database: its row, its lock, its heartbeat, and what it hears of the others.
//!
//! The connection of its own that does this holds a lock for the name of the node, so that no two relays have one
//! name at a time. A relay whose name was taken while it was cut off finds another incarnation in its row, and ends.

use super::claiming::TAKE_UP;
use super::migrations;
use super::numbers::bigint;
use super::shared::{NodeIdentity, SLOTS, SharedStore};
use super::store::{Database, DatabaseConnection, DatabaseReach};
use super::tls_reports;
use crate::clock::{Clock, Timestamp};
use crate::spool::SpoolError;
use crate::spool::cluster::UNCALLED;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};

/// What the nodes call to each other on.
const CHANNEL: &str = "relay_spool";
/// The first half of the lock of a node.
const LOCK_CLASS: i32 = 0x5245_4c59;
/// From one heartbeat to the next; how soon a database that is away is noticed.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// For one answer to it.
const PATIENCE: Duration = Duration::from_secs(10);
/// From one call to the others to the next.
const CALL_PAUSE: Duration = Duration::from_millis(200);
/// Between attempts to come back: from the one to the other, doubling.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// For the lock of a name whose holder was killed a moment ago.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// The first version of the schema in which nodes say what they know.
const SAYS_WHAT_IT_KNOWS: i64 = 2;
/// Heartbeats from one count of what waits to the next.
const COUNT_EVERY: u32 = 5;

/// The connection of a node.
pub(super) struct Session {
    client: Client,
    heard: mpsc::Receiver<()>,
}

impl Session {
    /// Connects, and checks that the database is one to work with.
    pub(super) async fn open(database: &Database) -> Result<Self, SpoolError> {
        let (client, connection) = database.connect().await?;
        let (hears, heard) = mpsc::channel(1);
        tokio::spawn(drive(connection, hears));
        database.set_up(&client).await?;
        let failed = |error| database.failed(error);
        if let Err(why) = migrations::usable(&client).await.map_err(failed)? {
            return Err(SpoolError::Unusable(why));
        }
        let row = client.query_one("SELECT current_setting('fsync')", &[]).await.map_err(failed)?;
        if row.get::<_, &str>(0) != "on" {
            let why =
                "the database runs with fsync = off: what it has committed is lost with the power; set fsync = on";
            return Err(SpoolError::Unusable(why.to_owned()));
        }
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(failed)?;
        Ok(Self { client, heard })
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Takes the name: a slot, and the lock that goes with it.
    pub(super) async fn register(&self, database: &Database, name: &str) -> Result<NodeIdentity, SpoolError> {
        let failed = |error| database.failed(error);
        let slots = i32::try_from(SLOTS).unwrap_or(i32::MAX);
        self.client
            .execute(
                "INSERT INTO nodes (slot, name, incarnation, version, host, pid, started_at, seen_at, clock_ms)
                 SELECT (SELECT min(s) FROM generate_series(1, $2 - 1) s WHERE s NOT IN (SELECT slot FROM nodes)),
                        $1, 0, '', '', 0, now(), now(), 0
                 WHERE NOT EXISTS (SELECT 1 FROM nodes WHERE name = $1)
                 ON CONFLICT DO NOTHING",
                &[&name, &slots],
            )
            .await
            .map_err(failed)?;
        let row = self.client.query_opt("SELECT slot FROM nodes WHERE name = $1", &[&name]).await.map_err(failed)?;
        let Some(row) = row else {
            return Err(SpoolError::Unusable("two nodes are new at the same moment: start this one again".to_owned()));
        };
        let slot: i16 = row.get(0);
        self.lock(database, slot, name).await?;
        let (host, pid) = (host(), i32::try_from(std::process::id()).unwrap_or(0));
        let row = self
            .client
            .query_one(
                "UPDATE nodes SET incarnation = nextval('incarnations'), version = $2, host = $3, pid = $4,
                        started_at = clock_timestamp(), seen_at = clock_timestamp(), clock_ms = $5, stopped_at = NULL
                 WHERE slot = $1 RETURNING incarnation",
                &[&slot, &env!("CARGO_PKG_VERSION"), &host, &pid, &Clock::system().now().0],
            )
            .await
            .map_err(failed)?;
        Ok(NodeIdentity { name: name.to_owned(), slot, incarnation: row.get(0) })
    }

    async fn lock(&self, database: &Database, slot: i16, name: &str) -> Result<(), SpoolError> {
        let until = Instant::now() + LOCK_PATIENCE;
        while !self.try_lock(slot).await.map_err(|error| database.failed(error))? {
            if Instant::now() >= until {
                return Err(SpoolError::Unusable(format!(
                    "a relay that runs has the node name {name} in this database: give this one a name of its own \
                     ([spool] node)"
                )));
            }
            sleep(RETRY[0]).await;
        }
        Ok(())
    }

    async fn try_lock(&self, slot: i16) -> Result<bool, tokio_postgres::Error> {
        let lock = "SELECT pg_try_advisory_lock($1, $2)";
        Ok(self.client.query_one(lock, &[&LOCK_CLASS, &i32::from(slot)]).await?.get(0))
    }

    /// Whether this process may go on. Compares the clocks, and looks who else runs.
    pub(super) async fn heartbeat(&self, shared: &SharedStore) -> Result<Heartbeat, tokio_postgres::Error> {
        let knows = format!(", knows = {}, knows_since = $2", migrations::newest());
        let says = if shared.schema() < SAYS_WHAT_IT_KNOWS { "" } else { &knows };
        let beat = format!(
            "UPDATE nodes SET seen_at = clock_timestamp(), clock_ms = $3{says} WHERE slot = $1 AND incarnation = $2
             RETURNING (extract(epoch FROM seen_at) * 1000)::bigint,
                       (SELECT value FROM relay_meta WHERE name = 'works_with'),
                       (SELECT array_agg(slot) FROM nodes WHERE stopped_at IS NULL
                          AND seen_at > clock_timestamp() - $4 * interval '1 second'),
                       (SELECT value FROM relay_meta WHERE name = 'schema_version')"
        );
        let (node, now) = (&shared.node, Clock::system().now());
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&node.slot, &node.incarnation, &now.0, &shared.lease_seconds()];
        let row = self.client.query_opt(&beat, &values).await?;
        let Some(row) = row else { return Ok(Heartbeat::Replaced) };
        shared.compare_clocks(now, Timestamp(row.get(0)));
        // One that was not heard of for a lease begins nothing any more.
        let going_on = shared.nodes_run(&row.get::<_, Option<Vec<i16>>>(2).unwrap_or_default());
        if let Some(going_on) = going_on {
            let uncalled = i64::try_from(UNCALLED.as_millis()).unwrap_or(i64::MAX);
            self.client.execute(TAKE_UP, &[&going_on, &uncalled]).await?;
        }
        shared.schema_is(row.get::<_, Option<i64>>(3).unwrap_or(0));
        let needed = row.get::<_, Option<i64>>(1).filter(|needed| *needed > migrations::newest());
        Ok(needed.map_or(Heartbeat::GoesOn, Heartbeat::Outdated))
    }

    /// Ends in order: others may have what this node has claimed.
    async fn leave(&self, node: &NodeIdentity) -> Result<(), tokio_postgres::Error> {
        self.client
            .execute(
                "UPDATE messages SET holder = NULL, lease_until = NULL, generation = generation + 1 WHERE holder = $1",
                &[&node.slot],
            )
            .await?;
        tls_reports::give_up_all(&self.client, node.slot).await?;
        let stopped = "UPDATE nodes SET stopped_at = clock_timestamp() WHERE slot = $1 AND incarnation = $2";
        self.client.execute(stopped, &[&node.slot, &node.incarnation]).await?;
        self.client.execute("SELECT pg_notify($1, '')", &[&CHANNEL]).await?;
        Ok(())
    }
}

/// What a node hears at its heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heartbeat {
    /// It may go on.
    GoesOn,
    /// Another process has the name.
    Replaced,
    /// The schema is by now one that this program must not write to: the oldest that may.
    Outdated(i64),
}

/// Why a session is over.
enum SessionEnd {
    /// The schema has become another one.
    Outdated(i64),
    /// The engine is being closed.
    Closing,
    /// Another process has the name.
    Replaced,
    /// The database does not answer.
    Lost,
}

/// Keeps the node alive until it is closed; connects again and again where the database is away.
pub(super) async fn keep(shared: Arc<SharedStore>, first: Session) {
    let mut session = Some(first);
    let mut pause = RETRY[0];
    loop {
        let Some(open) = session.take() else {
            if shared.closing.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            pause = RETRY[1].min(pause * 2);
            session = again(&shared).await;
            continue;
        };
        match serve(&shared, open).await {
            SessionEnd::Closing => return,
            SessionEnd::Replaced => {
                let name = &shared.node.name;
                return shared.stop(format!("another relay has taken the node name {name} of this spool"));
            }
            SessionEnd::Outdated(needed) => {
                let why = "the schema of the spool was migrated by a newer relay: it is for versions from";
                return shared.stop(format!("{why} {needed} on, and this relay knows {}", migrations::newest()));
            }
            SessionEnd::Lost => pause = RETRY[0],
        }
    }
}

/// After the database was away.
async fn again(shared: &SharedStore) -> Option<Session> {
    let session = match Session::open(&shared.database).await {
        Ok(session) => session,
        Err(SpoolError::Unusable(why)) => {
            shared.stop(why);
            return None;
        }
        Err(_away) => return None,
    };
    let locked = session.try_lock(shared.node.slot).await.unwrap_or(false);
    // The old connection may still hold the lock; whether the name is another's by now, the row tells.
    if !locked && session.heartbeat(shared).await.is_ok_and(|heard| heard == Heartbeat::Replaced) {
        shared.stop(format!("another relay has taken the node name {} of this spool", shared.node.name));
        return None;
    }
    locked.then_some(session)
}

async fn serve(shared: &Arc<SharedStore>, mut session: Session) -> SessionEnd {
    let mut reach = shared.database.reach();
    let mut beats = interval(HEARTBEAT.min(shared.lease / 3));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beat = 0_u32;
    loop {
        let mut told = None;
        tokio::select! {
            biased;
            () = shared.closing.cancelled() => {
                let _others_wait_for_the_lease = timeout(PATIENCE, session.leave(&shared.node)).await;
                return SessionEnd::Closing;
            }
            heard = session.heard.recv() => {
                if heard.is_none() {
                    shared.database.away("the connection is closed".to_owned());
                    return SessionEnd::Lost;
                }
                shared.changed.notify_one();
                continue;
            }
            _troubled = reach.changed() => {}
            _tick = beats.tick() => {}
            () = shared.tell.notified() => told = Some(()),
        }
        if told.is_some() {
            let called = timeout(PATIENCE, session.client.execute("SELECT pg_notify($1, '')", &[&CHANNEL])).await;
            if !matches!(called, Ok(Ok(_))) {
                shared.database.away("the connection is closed".to_owned());
                return SessionEnd::Lost;
            }
            sleep(CALL_PAUSE).await;
            continue;
        }
        match timeout(PATIENCE, session.heartbeat(shared)).await {
            Ok(Ok(Heartbeat::GoesOn)) => came_back(shared, &mut reach),
            Ok(Ok(Heartbeat::Replaced)) => return SessionEnd::Replaced,
            Ok(Ok(Heartbeat::Outdated(needed))) => return SessionEnd::Outdated(needed),
            Ok(Err(error)) => {
                shared.database.failed(error);
                return SessionEnd::Lost;
            }
            Err(_elapsed) => {
                shared.database.away("it does not answer".to_owned());
                return SessionEnd::Lost;
            }
        }
        // The net below the calls: what fell out of every other way is found here, and leases that ran out.
        shared.changed.notify_one();
        if beat.is_multiple_of(COUNT_EVERY) {
            let _as_it_was_known = timeout(PATIENCE, shared.counts.count(&session.client)).await;
        }
        beat = beat.wrapping_add(1);
    }
}

/// The database answers. After it was away nobody's claim is taken over for the length of a lease: their holders
/// could not renew them, and have their outcomes in memory.
fn came_back(shared: &Arc<SharedStore>, reach: &mut tokio::sync::watch::Receiver<DatabaseReach>) {
    shared.database.wrote();
    let was_away = *reach.borrow_and_update() != DatabaseReach::Reached;
    if was_away {
        shared.may_take_over.store(false, Ordering::SeqCst);
        shared.database.reached();
        reach.mark_unchanged();
        shared.outages.fetch_add(1, Ordering::SeqCst);
        take_over_later(shared);
        let returns = Arc::clone(shared);
        tokio::spawn(async move {
            // What fails is tried again when the database is there again.
            let _later = returns.return_what_waits().await;
        });
    }
}

/// Lets claims be taken over that ran out, after the length of a lease: at a start, too, for it may be the end of an
/// outage that the others have noticed and this node has not.
pub(super) fn take_over_later(shared: &Arc<SharedStore>) {
    let (waits, outage) = (Arc::clone(shared), shared.outages.load(Ordering::SeqCst));
    tokio::spawn(async move {
        sleep(waits.lease).await;
        // Another outage has a wait of its own.
        if waits.outages.load(Ordering::SeqCst) == outage {
            waits.may_take_over.store(true, Ordering::SeqCst);
            waits.changed.notify_one();
        }
    });
}

/// Works for the connection until it ends, and hands on what the others call.
async fn drive(mut connection: DatabaseConnection, hears: mpsc::Sender<()>) {
    while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
        if matches!(message, AsyncMessage::Notification(_)) {
            // One that waits stands for all.
            let _full = hears.try_send(());
        }
    }
}

/// The name of this machine.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What is left of an earlier process of this node is nobody's: its claims, and what it had begun to take in.
pub(super) async fn clear(client: &Client, node: &NodeIdentity) -> Result<u64, tokio_postgres::Error> {
    let freed = client
        .execute(
            "UPDATE messages SET holder = NULL, lease_until = NULL, generation = generation + 1 WHERE holder = $1",
            &[&node.slot],
        )
        .await?;
    client
        .execute(
            "WITH gone AS (DELETE FROM drafts WHERE node = $1 RETURNING message)
             DELETE FROM content USING gone WHERE content.message = gone.message",
            &[&node.slot],
        )
        .await?;
    tls_reports::give_up_all(client, node.slot).await?;
    Ok(freed)
}

/// The highest id that is a time, also of what was pruned.
pub(super) async fn last_id(client: &Client) -> Result<u64, tokio_postgres::Error> {
    let reports = bigint(crate::spool::stored::REPORT_IDS);
    let row = client
        .query_one(
            "SELECT greatest((SELECT max(id) FROM messages WHERE id < $1),
                             (SELECT value FROM relay_meta WHERE name = 'pruned_time_id'), 0)",
            &[&reports],
        )
        .await?;
    Ok(super::numbers::unsigned(row.get(0)))
}
