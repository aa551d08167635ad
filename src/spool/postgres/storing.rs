//! Messages from clients, and the copies that are made of them, on their way into the database.
//!
//! Whoever waits shares a transaction: two writers take turns, and while one waits for its commit the other takes
//! all that came meanwhile. A message and its copies are in one transaction, always (RFC 5321 §4.2.5).

use super::content::{ROW, ReceivedContent, RowWriter, StoredDraft};
use super::numbers::number;
use super::rows::{NewContent, NewMessageRow, insert, rows_of};
use super::shared::SharedStore;
use super::store::{DatabaseReach, STORE};
use crate::envelope::{Envelope, QueueId};
use crate::spool::message_id::{HEAD_LIMIT, message_id};
use crate::spool::{ContentCopy, Draft, EngineError, SpoolError};
use bytes::Bytes;
use deadpool_postgres::Transaction;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_postgres::Error;

/// Messages of one transaction.
const MOST_TOGETHER: usize = 128;
/// Those that wait for one; more make acceptance wait.
const MOST_WAITING: usize = 2000;
/// Transactions that are written at the same time.
const WRITERS: usize = 2;
/// How long whether a commit came through is asked for when the connection broke in it.
const DOUBT: Duration = Duration::from_secs(5);

/// A copy of content that is in rows already.
struct RowsCopied {
    from: i64,
    to: i64,
    shift: i32,
}

/// A message with its copies, and who waits for it.
pub(super) struct PendingStore {
    messages: Vec<NewMessageRow>,
    copied: Vec<RowsCopied>,
    draft: Option<StoredDraft>,
    answer: oneshot::Sender<Result<(), SpoolError>>,
}

/// Takes what is to be stored.
pub(super) type StoreQueue = mpsc::Sender<PendingStore>;

/// Starts the writers.
pub(super) fn start(shared: &Arc<SharedStore>) -> StoreQueue {
    let (arrivals, taken) = mpsc::channel(MOST_WAITING);
    let taken = Arc::new(Mutex::new(taken));
    for _ in 0..WRITERS {
        tokio::spawn(write(Arc::clone(shared), Arc::clone(&taken)));
    }
    arrivals
}

/// Stores a message and copies of it; gives the names of the copies.
pub(super) async fn store(
    shared: &SharedStore,
    arrivals: &StoreQueue,
    draft: Draft,
    envelope: Envelope,
    copies: Vec<ContentCopy>,
) -> Result<Vec<QueueId>, SpoolError> {
    shared.running()?;
    shared.reached()?;
    let body = draft.body.into_any().downcast::<RowWriter>();
    let body = body.map_err(|_| SpoolError::Unusable("the draft was begun by another spool".to_owned()))?;
    let id = body.id();
    let mut content = body.finish();
    let (mut messages, mut copied) = (Vec::with_capacity(copies.len() + 1), Vec::new());
    for copy in copies {
        let name = shared.next_id(copy.envelope.accepted_at);
        let (message, rows) = copy_of(name, id, &content, copy)?;
        messages.push(message);
        copied.extend(rows);
    }
    let ids = messages.iter().map(|copy| copy.id).collect();
    let new_id = message_id(content.head());
    let draft = content.draft.take();
    let first_row = draft.as_ref().map_or(0, |draft| draft.rows);
    let new = NewContent {
        message_id: new_id,
        size: content.size,
        crc: content.crc.clone().finalize(),
        rows: rows_of(&content.memory),
        first_row,
    };
    messages.push(NewMessageRow::new(id, envelope, new)?);
    let (answer, answered) = oneshot::channel();
    let arrival = PendingStore { messages, copied, draft, answer };
    shared.messages_begin();
    let sent = arrivals.send(arrival).await.map_err(|_| SpoolError::Stopped);
    let stored = match sent {
        Ok(()) => answered.await.unwrap_or(Err(SpoolError::Stopped)),
        Err(stopped) => Err(stopped),
    };
    shared.messages_end();
    stored.map(|()| ids)
}

/// A copy of content that is complete, and no more of it in memory than was.
fn copy_of(
    id: QueueId,
    of: QueueId,
    content: &ReceivedContent,
    copy: ContentCopy,
) -> Result<(NewMessageRow, Option<RowsCopied>), SpoolError> {
    let ContentCopy { envelope, before, after } = copy;
    let stored = content.draft.as_ref().map_or(0, |draft| draft.rows);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&before);
    crc.combine(&content.crc);
    crc.update(&after);
    let size = (before.len() as u64).saturating_add(content.size).saturating_add(after.len() as u64);
    let whole = Bytes::from([&before[..], &content.memory, &after].concat());
    let crc = crc.finalize();
    if stored == 0 {
        let new = NewContent { message_id: message_id(&whole), size, crc, rows: rows_of(&whole), first_row: 0 };
        return Ok((NewMessageRow::new(id, envelope, new)?, None));
    }
    // What is before the content, the rows that are there, and what is in memory with what is after it.
    let mut head = [&before[..], content.head()].concat();
    head.truncate(HEAD_LIMIT);
    let first = NewContent { message_id: message_id(&head), size, crc, rows: rows_of(&before), first_row: 0 };
    let mut message = NewMessageRow::new(id, envelope, first)?;
    let shift = i32::try_from(before.len().div_ceil(ROW)).unwrap_or(i32::MAX);
    message.later = rows_of(&Bytes::from([&content.memory[..], &after].concat()));
    message.first_later = shift.saturating_add(stored);
    Ok((message, Some(RowsCopied { from: number(of), to: number(id), shift })))
}

async fn write(shared: Arc<SharedStore>, taken: Arc<Mutex<mpsc::Receiver<PendingStore>>>) {
    let mut batch = Vec::new();
    loop {
        let none = taken.lock().await.recv_many(&mut batch, MOST_TOGETHER).await == 0;
        if none {
            return;
        }
        let arrivals = std::mem::take(&mut batch);
        write_together(&shared, arrivals).await;
    }
}

/// Why a transaction is not there.
enum Unstored {
    /// It is known that it is not.
    Refused(SpoolError),
    /// The connection broke while it was committed.
    Unknown(SpoolError),
}

async fn write_together(shared: &Arc<SharedStore>, arrivals: Vec<PendingStore>) {
    let result = stored(shared, &arrivals).await;
    match result {
        Ok(()) => finish(shared, arrivals),
        // One that cannot be stored must not keep the others out.
        Err(Unstored::Refused(SpoolError::Engine(_))) if arrivals.len() > 1 => {
            for arrival in arrivals {
                Box::pin(write_together(shared, vec![arrival])).await;
            }
        }
        Err(Unstored::Refused(error)) => refuse(arrivals, &error),
        Err(Unstored::Unknown(error)) => match is_there(shared, &arrivals).await {
            true => finish(shared, arrivals),
            false => refuse(arrivals, &error),
        },
    }
}

async fn stored(shared: &SharedStore, arrivals: &[PendingStore]) -> Result<(), Unstored> {
    let refused = |error: Error| Unstored::Refused(shared.database.failed(error));
    shared.running().map_err(Unstored::Refused)?;
    let mut client = shared.database.client().await.map_err(Unstored::Refused)?;
    let transaction = client.transaction().await.map_err(refused)?;
    let messages: Vec<&NewMessageRow> = arrivals.iter().flat_map(|arrival| &arrival.messages).collect();
    insert(&transaction, shared.clock(), &messages).await.map_err(refused)?;
    if !rows_and_drafts(&transaction, arrivals).await.map_err(refused)? {
        let source = "what came in of a message was removed before its end".into();
        return Err(Unstored::Refused(SpoolError::Engine(EngineError { store: STORE, source })));
    }
    transaction.commit().await.map_err(|error| {
        let known = error.as_db_error().is_some();
        let error = shared.database.failed(error);
        if known { Unstored::Refused(error) } else { Unstored::Unknown(error) }
    })
}

/// False when rows of a draft are gone, because somebody took it for given up.
async fn rows_and_drafts(transaction: &Transaction<'_>, arrivals: &[PendingStore]) -> Result<bool, Error> {
    for RowsCopied { from, to, shift } in arrivals.iter().flat_map(|arrival| &arrival.copied) {
        let copy = "INSERT INTO content (message, number, octets)
                    SELECT $2, number + $3, octets FROM content WHERE message = $1 AND number < $4";
        let rows = arrivals.iter().filter_map(|arrival| arrival.draft.as_ref());
        let rows = rows.filter(|draft| number(draft.id) == *from).map(|draft| draft.rows).next().unwrap_or(0);
        transaction.execute(copy, &[from, to, shift, &rows]).await?;
    }
    let drafts: Vec<i64> =
        arrivals.iter().filter_map(|arrival| arrival.draft.as_ref()).map(|draft| number(draft.id)).collect();
    if !drafts.is_empty() {
        let gone = transaction.execute("DELETE FROM drafts WHERE message = ANY($1)", &[&drafts]).await?;
        return Ok(gone == drafts.len() as u64);
    }
    Ok(true)
}

/// Whether the first message of a batch is there, as soon as the database can be asked.
async fn is_there(shared: &SharedStore, arrivals: &[PendingStore]) -> bool {
    let Some(id) = arrivals.first().and_then(|arrival| arrival.messages.first()).map(|message| number(message.id))
    else {
        return false;
    };
    let asked = async {
        let mut reach = shared.database.reach();
        loop {
            reach.wait_for(|reach| *reach == DatabaseReach::Reached).await.ok()?;
            let Ok(client) = shared.database.client().await else { continue };
            if let Ok(row) = client.query_opt("SELECT 1 FROM messages WHERE id = $1", &[&id]).await {
                return Some(row.is_some());
            }
        }
    };
    matches!(tokio::time::timeout(DOUBT, asked).await, Ok(Some(true)))
}

fn finish(shared: &SharedStore, arrivals: Vec<PendingStore>) {
    shared.database.wrote();
    for mut arrival in arrivals {
        if let Some(draft) = &mut arrival.draft {
            draft.keep();
        }
        let accepted_at = arrival.messages.iter().map(|message| message.envelope.accepted_at).min();
        shared.counts.came(arrival.messages.len(), accepted_at.unwrap_or_else(|| shared.latest_time()));
        // A client that has gone away meanwhile has a message here all the same.
        let _gone = arrival.answer.send(Ok(()));
    }
    shared.something_changed();
}

fn refuse(arrivals: Vec<PendingStore>, error: &SpoolError) {
    for arrival in arrivals {
        let _gone = arrival.answer.send(Err(same(error)));
    }
}

/// For one more who waits.
pub(super) fn same(error: &SpoolError) -> SpoolError {
    match error {
        SpoolError::Full => SpoolError::Full,
        SpoolError::Fenced => SpoolError::Fenced,
        SpoolError::Stopped => SpoolError::Stopped,
        SpoolError::Damaged => SpoolError::Damaged,
        SpoolError::Unreachable(why) => SpoolError::Unreachable(why.clone()),
        SpoolError::Unusable(why) => SpoolError::Unusable(why.clone()),
        SpoolError::Io { .. } | SpoolError::Engine(_) | SpoolError::InUse { .. } => {
            SpoolError::Engine(EngineError { store: STORE, source: error.to_string().into() })
        }
    }
}
