//! Claims: leases by the clock of the database, each with a generation that fences off whoever had the message before.
//!
//! A settlement, a renewal and a release name the generation; a claim and every end of one make a new one. So a node
//! that was stopped for longer than its lease finds its generation gone, and records nothing (RFC 5321 §6.1).

use super::numbers::{number, unsigned};
use super::shared::{ClaimReturn, SharedStore};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use crate::spool::{Claim, RecipientState, SpoolEntry, SpoolError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_postgres::{Client, Error, Row};

/// Claims that are freed in one go after their leases ran out.
const MOST_FREED: i64 = 1000;

/// Frees claims whose lease has run out, unless the database itself was started within the length of one: nobody
/// could renew while it was down. `$1` says whether this node may, `$3` names what it may not take from itself.
const FREE: &str = "UPDATE messages SET holder = NULL, lease_until = NULL, generation = generation + 1
    WHERE id IN (SELECT id FROM messages WHERE holder IS NOT NULL AND lease_until < now() AND $1
                   AND pg_postmaster_start_time() + $2 * interval '1 second' < now() AND id <> ALL($3)
                 LIMIT $4 FOR UPDATE SKIP LOCKED)";

const CLAIM_DUE: &str = "WITH due AS (SELECT id FROM messages
        WHERE finished_at IS NULL AND holder IS NULL AND NOT held AND due_at <= $1 AND id <> ALL($5)
          AND (passed_by IS DISTINCT FROM $3 OR passed_until < now())
        ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
    UPDATE messages m SET holder = $3, lease_until = now() + $4 * interval '1 second', generation = generation + 1
    FROM due WHERE m.id = due.id
    RETURNING m.id, m.generation, m.envelope, m.size, m.attempts, m.reported, m.due_at";

const CLAIM_ONE: &str = "UPDATE messages m
    SET holder = $2, lease_until = now() + $3 * interval '1 second', generation = generation + 1
    WHERE id = $1 AND finished_at IS NULL AND holder IS NULL AND id <> ALL($4)
    RETURNING m.id, m.generation, m.envelope, m.size, m.attempts, m.reported, m.due_at";

/// Locked in one order, whatever else is recorded at the time.
const RETURN: &str = "WITH ours AS (SELECT m.id, given.due FROM messages m
        JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS given (id, generation, due)
          ON m.id = given.id AND m.generation = given.generation
        WHERE m.holder = $4 ORDER BY m.id FOR UPDATE OF m)
    UPDATE messages m SET holder = NULL, lease_until = NULL, generation = m.generation + 1,
           due_at = coalesce(ours.due, m.due_at), held = m.held AND ours.due IS NULL,
           planned_by = CASE WHEN ours.due IS NULL THEN m.planned_by ELSE $4 END
    FROM ours WHERE m.id = ours.id";

/// Makes due now what a node that is gone would have called as soon as there was room for it, `$1` being those that are
/// not: it stands for a while, and nobody else calls it. A message that was to be tried again within that while comes early.
/// So many that a heartbeat does not wait for long, and more than a busy host takes until the others come by themselves.
pub(super) const TAKE_UP: &str = "WITH time AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now)
    UPDATE messages SET due_at = time.now FROM time
    WHERE id IN (SELECT id FROM messages, time WHERE finished_at IS NULL AND holder IS NULL AND NOT held
                   AND due_at > time.now AND due_at <= time.now + $2 AND planned_by <> ALL($1)
                 ORDER BY due_at, id LIMIT 10000 FOR UPDATE OF messages SKIP LOCKED)";

impl SharedStore {
    /// Claims up to `most` messages that are due, the oldest due first.
    pub(super) async fn claim_due(&self, now: Timestamp, most: usize) -> Result<Vec<Claim>, SpoolError> {
        self.until_reached().await?;
        let client = self.database.client().await?;
        let failed = |error| self.database.failed(error);
        let back = self.see_time(now);
        if let Some(back) = back {
            let by = i64::try_from(back.as_millis()).unwrap_or(i64::MAX);
            let shift = "UPDATE messages SET due_at = due_at - $1 WHERE finished_at IS NULL AND planned_by = $2";
            client.execute(shift, &[&by, &self.node.slot]).await.map_err(failed)?;
        }
        if most == 0 {
            return Ok(Vec::new());
        }
        let (unrecorded, most) = (self.unrecorded(), i64::try_from(most).unwrap_or(i64::MAX));
        let claim = client.prepare_cached(CLAIM_DUE).await.map_err(failed)?;
        self.free(&client, &unrecorded).await.map_err(failed)?;
        let mut rows = client
            .query(
                &claim,
                &[&self.clock().by_database(now), &most, &self.node.slot, &self.lease_seconds(), &unrecorded],
            )
            .await
            .map_err(failed)?;
        rows.sort_by_key(|row| (row.get::<_, i64>(6), row.get::<_, i64>(0)));
        self.handed_out(&client, rows).await.map_err(failed)
    }

    /// Claims one message, due or not.
    pub(super) async fn claim_one(&self, id: QueueId) -> Result<Option<Claim>, SpoolError> {
        let client = self.database.client().await?;
        let failed = |error| self.database.failed(error);
        let unrecorded = self.unrecorded();
        let claim = client.prepare_cached(CLAIM_ONE).await.map_err(failed)?;
        self.free(&client, &unrecorded).await.map_err(failed)?;
        let rows = client
            .query(&claim, &[&number(id), &self.node.slot, &self.lease_seconds(), &unrecorded])
            .await
            .map_err(failed)?;
        Ok(self.handed_out(&client, rows).await.map_err(failed)?.pop())
    }

    async fn free(&self, client: &deadpool_postgres::Client, unrecorded: &Vec<i64>) -> Result<(), Error> {
        let free = client.prepare_cached(FREE).await?;
        let may = self.may_take_over.load(Ordering::SeqCst);
        client.execute(&free, &[&may, &self.lease_seconds(), unrecorded, &MOST_FREED]).await.map(drop)
    }

    /// With the states of their recipients. One whose envelope cannot be read is left alone until its lease ends.
    async fn handed_out(&self, client: &Client, rows: Vec<Row>) -> Result<Vec<Claim>, Error> {
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let mut states = states(client, &ids).await?;
        let mut claims = Vec::with_capacity(rows.len());
        for row in rows {
            let number: i64 = row.get(0);
            let id = QueueId(number.cast_unsigned());
            let Ok(envelope) = serde_json::from_str::<Envelope>(row.get(2)) else {
                self.counts.damaged(id);
                continue;
            };
            let mut recipients = vec![RecipientState::NEW; envelope.recipients.len()];
            for (recipient, state) in states.remove(&number).unwrap_or_default() {
                if let Some(place) = usize::try_from(recipient).ok().and_then(|nth| recipients.get_mut(nth)) {
                    *place = state;
                }
            }
            // What cannot be read costs a report more.
            let reported = row.get::<_, Option<&str>>(5).and_then(|text| serde_json::from_str(text).ok());
            let entry = SpoolEntry {
                id,
                envelope: Arc::new(envelope),
                size: unsigned(row.get(3)),
                attempts: u32::try_from(row.get::<_, i32>(4)).unwrap_or(0),
                recipients,
                reported: reported.unwrap_or_default(),
            };
            claims.push(Claim { entry, generation: row.get::<_, i64>(1).cast_unsigned() });
        }
        Ok(claims)
    }

    /// The end of a claim without a record; the message is due when it was, or at `until`.
    pub(super) fn returned(&self, claim: &Claim, until: Option<Timestamp>) -> ClaimReturn {
        ClaimReturn {
            id: number(claim.entry.id),
            generation: claim.generation.cast_signed(),
            due: until.map(|until| self.clock().by_database(until)),
        }
    }

    /// Ends claims without a record. While the database is away, that waits for it.
    pub(super) async fn give_back(&self, given: Vec<ClaimReturn>) -> Result<(), SpoolError> {
        let returned = match self.reached() {
            Ok(()) => self.return_all(&given).await,
            away => away,
        };
        match returned {
            Err(SpoolError::Unreachable(_)) => {
                self.returns().extend(given);
                Ok(())
            }
            other => other,
        }
    }

    /// Ends a claim that other nodes are to take.
    pub(super) async fn pass_on(&self, claim: &Claim) -> Result<(), SpoolError> {
        let pass = "UPDATE messages SET holder = NULL, lease_until = NULL, generation = generation + 1, passed_by = $3,
                           passed_until = now() + $4 * interval '1 second'
                    WHERE id = $1 AND generation = $2 AND holder = $3";
        let client = self.database.client().await?;
        let failed = |error| self.database.failed(error);
        let pass = client.prepare_cached(pass).await.map_err(failed)?;
        let (id, generation) = (number(claim.entry.id), claim.generation.cast_signed());
        client.execute(&pass, &[&id, &generation, &self.node.slot, &self.lease_seconds()]).await.map_err(failed)?;
        self.something_changed();
        Ok(())
    }

    /// Ends the claims that were given up while the database was away.
    pub(super) async fn return_what_waits(&self) -> Result<(), SpoolError> {
        let waits = std::mem::take(&mut *self.returns());
        let returned = self.return_all(&waits).await;
        if returned.is_err() {
            self.returns().extend(waits);
        }
        returned
    }

    async fn return_all(&self, given: &[ClaimReturn]) -> Result<(), SpoolError> {
        if given.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = given.iter().map(|one| one.id).collect();
        let generations: Vec<i64> = given.iter().map(|one| one.generation).collect();
        let dues: Vec<Option<i64>> = given.iter().map(|one| one.due).collect();
        let client = self.database.client().await?;
        let failed = |error| self.database.failed(error);
        let give = client.prepare_cached(RETURN).await.map_err(failed)?;
        client.execute(&give, &[&ids, &generations, &dues, &self.node.slot]).await.map_err(failed)?;
        self.something_changed();
        Ok(())
    }

    /// Makes due now what is due at `horizon` or after it: what [`Self::claim_due`] has moved to there may be of a clock
    /// that was wrong, too, and one attempt comes early at the most.
    pub(super) async fn bring_forward(&self, now: Timestamp, horizon: Timestamp) -> Result<(), SpoolError> {
        let client = self.database.client().await?;
        let bring = "UPDATE messages SET due_at = $1
                     WHERE finished_at IS NULL AND holder IS NULL AND NOT held AND due_at >= $2";
        let (now, horizon) = (self.clock().by_database(now), self.clock().by_database(horizon));
        client.execute(bring, &[&now, &horizon]).await.map_err(|error| self.database.failed(error))?;
        self.something_changed();
        Ok(())
    }

    /// Makes messages due now that would be due until the moment beside each.
    pub(super) async fn hasten(&self, messages: &[(QueueId, Timestamp)], now: Timestamp) -> Result<(), SpoolError> {
        let (ids, until): (Vec<i64>, Vec<i64>) =
            messages.iter().map(|(id, until)| (number(*id), self.clock().by_database(*until))).unzip();
        let client = self.database.client().await?;
        let hasten = "UPDATE messages m SET due_at = $3 FROM unnest($1::bigint[], $2::bigint[]) AS called (id, until)
                      WHERE m.id = called.id AND m.finished_at IS NULL AND m.holder IS NULL AND NOT m.held
                        AND m.due_at > $3 AND m.due_at <= called.until";
        let now = self.clock().by_database(now);
        client.execute(hasten, &[&ids, &until, &now]).await.map_err(|error| self.database.failed(error))?;
        self.something_changed();
        Ok(())
    }

    /// When the next unclaimed message is due.
    pub(super) async fn next_due(&self) -> Result<Option<Timestamp>, SpoolError> {
        let client = self.database.client().await?;
        let failed = |error| self.database.failed(error);
        let next = "SELECT min(due_at) FROM messages WHERE finished_at IS NULL AND holder IS NULL AND NOT held
                      AND (passed_by IS DISTINCT FROM $1 OR passed_until < now())";
        let next = client.prepare_cached(next).await.map_err(failed)?;
        let row = client.query_one(&next, &[&self.node.slot]).await.map_err(failed)?;
        Ok(row.get::<_, Option<i64>>(0).map(|due| self.clock().by_node(due)))
    }

    /// Forgets what finished long ago; one node at a time, in pieces.
    pub(super) async fn prune(&self, before: Timestamp, now: Timestamp) -> Result<(), SpoolError> {
        while super::prune::prune(&self.database, before).await? > 0 {
            self.running()?;
        }
        while super::tls_reports::prune(&self.database, before, now).await? > 0 {
            self.running()?;
        }
        Ok(())
    }

    /// Removes what nodes had begun to take in that are gone for long.
    pub(super) async fn sweep(&self) -> Result<(), SpoolError> {
        let client = self.database.client().await?;
        let sweep = "WITH gone AS (DELETE FROM drafts USING nodes WHERE drafts.node = nodes.slot
                         AND nodes.seen_at < now() - interval '1 hour' RETURNING message)
                     DELETE FROM content USING gone WHERE content.message = gone.message";
        client.execute(sweep, &[]).await.map(drop).map_err(|error| self.database.failed(error))
    }
}

/// The states of recipients, by message. One that cannot be read counts as waiting, which errs towards a duplicate.
async fn states(client: &Client, ids: &[i64]) -> Result<BTreeMap<i64, Vec<(i32, RecipientState)>>, Error> {
    let mut states: BTreeMap<i64, Vec<(i32, RecipientState)>> = BTreeMap::new();
    if ids.is_empty() {
        return Ok(states);
    }
    let select = "SELECT message, recipient, state FROM recipients WHERE message = ANY($1)";
    for row in client.query(select, &[&ids]).await? {
        if let Ok(state) = serde_json::from_str(row.get(2)) {
            states.entry(row.get(0)).or_default().push((row.get(1), state));
        }
    }
    Ok(states)
}
