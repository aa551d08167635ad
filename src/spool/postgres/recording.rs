//! Outcomes on their way into the database: states, reports, who was told, the history and what is counted, in one
//! transaction
//! (RFC 5321 §6.1).
//!
//! A settlement that was handed in outlives whoever asked for it: while the database is away it is kept here and
//! tried again, and its message is not claimed again by this relay meanwhile. Each has a number of its own in the row
//! of the message, so that one whose commit was not answered is known again when it is there.

use super::numbers::number;
use super::rows::{NewContent, NewMessageRow, insert, json};
use super::shared::SharedStore;
use super::store::{DatabaseReach, STORE};
use super::tls_counts::{self, CountableSession};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use crate::spool::event::Event;
use crate::spool::schedule::mix;
use crate::spool::stored::{REPORT_IDS, first_due, tell};
use crate::spool::{Claim, EngineError, Hold, RecipientState, Settlement, SpoolError};
use deadpool_postgres::{GenericClient, Transaction};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

/// Events kept of one message: the first, which tell how it began, and the last.
const FIRST_EVENTS: i32 = 100;
const LAST_EVENTS: i32 = 900;

/// Between two attempts to record while the database does not take it.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether a settlement gives the claim back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// No: more is to come.
    Part,
    /// The claim ends with it.
    Whole,
}

/// What becomes of the row of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowEnd {
    Continues,
    Waits { due: Timestamp, held: bool },
    Finished,
}

/// A settlement, worked out.
pub(super) struct Recording {
    /// The message as it is afterwards.
    pub(super) claim: Claim,
    settlement: i64,
    recipients: Vec<i32>,
    states: Vec<String>,
    addresses: Vec<String>,
    told: Vec<i32>,
    told_by: Vec<i64>,
    events: Vec<String>,
    at: Timestamp,
    end: RowEnd,
    reported: Option<String>,
    reports: Vec<NewMessageRow>,
    sessions: Vec<CountableSession>,
}

impl Recording {
    /// Of a claim; `beside` are reports of another one that tell of this message, too.
    pub(super) fn new(
        shared: &SharedStore,
        claim: Claim,
        settlement: Settlement,
        scope: Scope,
        beside: &[NewMessageRow],
    ) -> Result<Self, SpoolError> {
        let Claim { mut entry, generation } = claim;
        let nonce = mix(shared.next_settlement() ^ mix(entry.id.0)) | 1;
        let at = settlement.at.unwrap_or_else(|| shared.latest_time());
        let (mut recipients, mut states, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for (recipient, state) in settlement.recipients {
            // What is not in the envelope is dropped.
            let Some(place) = entry.recipients.get_mut(recipient) else { continue };
            recipients.push(i32::try_from(recipient).unwrap_or(i32::MAX));
            states.push(json(&state)?);
            addresses.push(entry.envelope.recipients.get(recipient).map(ToString::to_string).unwrap_or_default());
            *place = state;
        }
        let reported = settlement.reported.map(|reported| {
            entry.reported = reported;
            json(&reported)
        });
        let mut reports = Vec::new();
        for (nth, report) in (0..).zip(settlement.reports) {
            let id = QueueId((mix(nonce ^ mix(nth)) & (REPORT_IDS - 1)) | REPORT_IDS);
            reports.push(NewMessageRow::new(id, report.envelope, NewContent::whole(&report.content))?);
        }
        let tells = if reports.is_empty() { beside } else { &reports };
        let tells: Vec<(QueueId, &Envelope)> = tells.iter().map(|report| (report.id, &report.envelope)).collect();
        let (told_rows, told_events) = tell(&settlement.told, &tells);
        let told_rows = told_rows.into_iter().map(|(nth, by)| (i32::try_from(nth).unwrap_or(i32::MAX), by));
        let (told, told_by) = told_rows.unzip();
        let end = match scope {
            Scope::Part => RowEnd::Continues,
            Scope::Whole if !entry.recipients.iter().any(RecipientState::is_open) => RowEnd::Finished,
            Scope::Whole => {
                let due = settlement.next_due.unwrap_or_else(|| first_due(&entry).unwrap_or(at));
                RowEnd::Waits { due, held: settlement.hold == Hold::Held }
            }
        };
        if scope == Scope::Whole {
            entry.attempts = entry.attempts.saturating_add(1);
        }
        Ok(Self {
            claim: Claim { entry, generation },
            settlement: nonce.cast_signed(),
            recipients,
            states,
            addresses,
            told,
            told_by,
            events: settlement.events.iter().chain(&told_events).map(Event::to_json).collect(),
            at,
            end,
            reported: reported.transpose()?,
            reports,
            sessions: CountableSession::all(at, &settlement.sessions)?,
        })
    }

    /// What its reports are, for messages beside it.
    pub(super) fn reports(&self) -> &[NewMessageRow] {
        &self.reports
    }

    /// Whether nothing but its message and what belongs to that is changed.
    const fn is_one_statement(&self) -> bool {
        self.told.is_empty() && self.reports.is_empty() && self.sessions.is_empty()
    }

    fn id(&self) -> i64 {
        number(self.claim.entry.id)
    }
}

/// Records settlements in one transaction, also when whoever asked goes away. When nothing of it is recorded, the
/// claims that are still this relay's are given back.
pub(super) async fn record(shared: &Arc<SharedStore>, recordings: Vec<Recording>) -> Result<Vec<Claim>, SpoolError> {
    shared.running()?;
    let shared = Arc::clone(shared);
    shared.outcomes_begin(recordings.len());
    let recorded = tokio::spawn(async move {
        let result = until_recorded(&shared, &recordings).await;
        // What a stop cuts off stays counted: nobody records it any more.
        if !matches!(result, Err(SpoolError::Stopped)) {
            shared.outcomes_end(recordings.len());
        }
        let claims: Vec<Claim> = recordings.into_iter().map(|recording| recording.claim).collect();
        match result {
            Ok(()) => Ok(claims),
            Err(error) => {
                let given = claims.iter().map(|claim| shared.returned(claim, None)).collect();
                // What cannot be given back ends with its lease.
                let _end_with_their_lease = shared.give_back(given).await;
                Err(error)
            }
        }
    });
    recorded.await.unwrap_or(Err(SpoolError::Stopped))
}

async fn until_recorded(shared: &SharedStore, recordings: &[Recording]) -> Result<(), SpoolError> {
    let ids: Vec<i64> = recordings.iter().map(Recording::id).collect();
    let mut waits = false;
    let result = loop {
        match together(shared, recordings).await {
            Err(SpoolError::Unreachable(_) | SpoolError::Full) if !shared.closing.is_cancelled() => {
                if !std::mem::replace(&mut waits, true) {
                    shared.remember_unrecorded(&ids);
                }
                if shared.closing.run_until_cancelled(again(shared)).await.is_none() {
                    break Err(SpoolError::Stopped);
                }
            }
            Err(SpoolError::Unreachable(_)) => break Err(SpoolError::Stopped),
            other => break other,
        }
    };
    if waits {
        shared.forget_unrecorded(&ids);
    }
    result
}

/// Until it is worth trying again.
async fn again(shared: &SharedStore) {
    tokio::time::sleep(PAUSE).await;
    let mut reach = shared.database.reach();
    // It ends with the engine.
    let _ended = reach.wait_for(|reach| *reach == DatabaseReach::Reached).await;
}

async fn together(shared: &SharedStore, recordings: &[Recording]) -> Result<(), SpoolError> {
    match recordings {
        [alone] if alone.is_one_statement() => at_once(shared, alone).await?,
        all => in_transaction(shared, all).await?,
    }
    shared.database.wrote();
    for recording in recordings {
        if recording.end == RowEnd::Finished {
            shared.counts.ended();
        }
        if !recording.reports.is_empty() {
            shared.counts.came(recording.reports.len(), recording.at);
            shared.tell.notify_one();
        }
    }
    shared.changed.notify_one();
    Ok(())
}

/// One settlement as a transaction of one statement: most are like that.
async fn at_once(shared: &SharedStore, recording: &Recording) -> Result<(), SpoolError> {
    let failed = |error: Error| shared.database.failed(error);
    let client = shared.database.client().await?;
    let is_new = write_row(shared, &client, recording).await.map_err(failed)?;
    // A commit that was not answered may have come through.
    if is_new || is_recorded(&client, recording).await.map_err(failed)? { Ok(()) } else { Err(SpoolError::Fenced) }
}

async fn in_transaction(shared: &SharedStore, recordings: &[Recording]) -> Result<(), SpoolError> {
    let failed = |error: Error| shared.database.failed(error);
    let mut client = shared.database.client().await?;
    let transaction = client.transaction().await.map_err(failed)?;
    let mut new = 0;
    for recording in recordings {
        if write_row(shared, &transaction, recording).await.map_err(failed)? {
            write_told(shared, &transaction, recording).await.map_err(failed)?;
            new += 1;
        } else if !is_recorded(&transaction, recording).await.map_err(failed)? {
            return Err(SpoolError::Fenced);
        }
    }
    if new == 0 {
        // A commit that was not answered came through.
        return Ok(());
    }
    if new != recordings.len() {
        let source = "a part of a settlement is recorded, and a part is not".into();
        return Err(SpoolError::Engine(EngineError { store: STORE, source }));
    }
    let sessions: Vec<&CountableSession> = recordings.iter().flat_map(|recording| &recording.sessions).collect();
    let chance = recordings.first().map_or(0, |recording| recording.settlement >> 1);
    tls_counts::count(&transaction, &sessions, chance).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Changes the row of the message, if its claim is still this one and it is not changed yet; then with it the states of
/// recipients, the history, and of one that is finished the content. A row of a recipient that is gone counts as one that
/// waits: unrecorded, it would get every attempt.
const RECORD: &str = "WITH fenced AS (UPDATE messages SET last_settlement = $4, reported = coalesce($5, reported),
            attempts = $6, holder = CASE WHEN $7 THEN NULL ELSE holder END,
            lease_until = CASE WHEN $7 THEN NULL ELSE lease_until END,
            generation = generation + CASE WHEN $7 THEN 1 ELSE 0 END,
            due_at = coalesce($8, due_at), held = coalesce($9, held), finished_at = $10, planned_by = $3
        WHERE id = $1 AND generation = $2 AND holder = $3 AND last_settlement <> $4 RETURNING id),
    states AS (INSERT INTO recipients (message, recipient, address, state)
        SELECT fenced.id, new.recipient, new.address, new.state
        FROM fenced, unnest($11::int[], $12::text[], $13::text[]) AS new (recipient, address, state)
        ON CONFLICT (message, recipient) DO UPDATE SET state = excluded.state),
    events AS (INSERT INTO history (message, number, at, event)
        SELECT fenced.id, known.last + new.nth, $14, new.event
        FROM fenced, unnest($15::text[]) WITH ORDINALITY AS new (event, nth),
             (SELECT coalesce(max(number), 0) AS last FROM history WHERE message = $1) known
        RETURNING number),
    gone AS (DELETE FROM content USING fenced WHERE content.message = fenced.id AND $10 IS NOT NULL)
    SELECT EXISTS (SELECT 1 FROM fenced), (SELECT max(number) FROM events)";

/// False where nothing was changed.
async fn write_row(shared: &SharedStore, client: &impl GenericClient, r: &Recording) -> Result<bool, Error> {
    let (due, held, finished) = match r.end {
        RowEnd::Continues => (None, None, None),
        RowEnd::Waits { due, held } => (Some(shared.clock().by_database(due)), Some(held), None),
        RowEnd::Finished => (None, None, Some(r.at.0)),
    };
    let (id, generation, ends) = (r.id(), r.claim.generation.cast_signed(), r.end != RowEnd::Continues);
    let attempts = i32::try_from(r.claim.entry.attempts).unwrap_or(i32::MAX);
    let (recipients, states, addresses) = last_of_each(r);
    let values: [&(dyn ToSql + Sync); 15] = [
        &id,
        &generation,
        &shared.node.slot,
        &r.settlement,
        &r.reported,
        &attempts,
        &ends,
        &due,
        &held,
        &finished,
        &recipients,
        &addresses,
        &states,
        &r.at.0,
        &r.events,
    ];
    let write = client.prepare_cached(RECORD).await?;
    let row = client.query_one(&write, &values).await?;
    if row.get::<_, Option<i32>>(1).is_some_and(|last| last > FIRST_EVENTS + LAST_EVENTS) {
        bound_history(client, id).await?;
    }
    Ok(row.get(0))
}

async fn is_recorded(client: &impl GenericClient, r: &Recording) -> Result<bool, Error> {
    let select = "SELECT 1 FROM messages WHERE id = $1 AND last_settlement = $2";
    Ok(client.query_opt(select, &[&r.id(), &r.settlement]).await?.is_some())
}

/// Who was told, and the reports that tell it.
async fn write_told(shared: &SharedStore, transaction: &Transaction<'_>, r: &Recording) -> Result<(), Error> {
    if !r.told.is_empty() {
        let tell = "UPDATE recipients SET told = new.told FROM unnest($2::int[], $3::bigint[]) AS new (recipient, told)
            WHERE recipients.message = $1 AND recipients.recipient = new.recipient";
        let tell = transaction.prepare_cached(tell).await?;
        transaction.execute(&tell, &[&r.id(), &r.told, &r.told_by]).await?;
    }
    if !r.reports.is_empty() {
        let reports: Vec<&NewMessageRow> = r.reports.iter().collect();
        insert(transaction, shared.clock(), &reports).await?;
    }
    Ok(())
}

/// A statement changes no row twice: of several states for one recipient the last counts.
fn last_of_each(r: &Recording) -> (Vec<i32>, Vec<&String>, Vec<&String>) {
    let all = r.recipients.iter().zip(&r.states).zip(&r.addresses);
    let last: std::collections::BTreeMap<i32, (&String, &String)> =
        all.map(|((recipient, state), address)| (*recipient, (state, address))).collect();
    let recipients = last.keys().copied().collect();
    let (states, addresses) = last.into_values().unzip();
    (recipients, states, addresses)
}

/// Of a history that is too long the middle goes.
async fn bound_history(client: &impl GenericClient, id: i64) -> Result<(), Error> {
    let bound = "DELETE FROM history WHERE message = $1 AND number > $2
        AND number <= (SELECT max(number) FROM history WHERE message = $1) - $3";
    let bound = client.prepare_cached(bound).await?;
    client.execute(&bound, &[&id, &FIRST_EVENTS, &LAST_EVENTS]).await.map(drop)
}
