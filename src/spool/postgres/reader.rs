//! What the tables tell, read for whoever asks: rows as the nouns of the ledger.

use super::numbers::{number, unsigned};
use super::store::{STORE, text};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use crate::spool::ledger::{LedgerError, LedgerMessage, LedgerRecipient, MessageState};
use crate::spool::stored::{reported_of, told_of};
use crate::spool::{EngineError, SpoolError};
use std::collections::BTreeMap;
use tokio_postgres::{Client, Error, Row};

/// The columns of a message, in the order in which [`message_of`] reads them.
macro_rules! ledger_columns {
    () => {
        "m.id, m.message_id, m.envelope, m.size, m.held, m.due_at, m.finished_at, m.attempts, m.content_crc, m.accepted_at, m.reported"
    };
}

pub(super) use ledger_columns;

/// What an error means for whoever reads.
pub(super) fn failed(error: Error) -> LedgerError {
    LedgerError::Engine(EngineError { store: STORE, source: text(&error).into() })
}

/// The same of one that has passed through the type of the spool.
pub(super) fn cannot(error: SpoolError) -> LedgerError {
    let source = match error {
        SpoolError::Unreachable(why) | SpoolError::Unusable(why) => why,
        SpoolError::Full
        | SpoolError::Io { .. }
        | SpoolError::Engine(_)
        | SpoolError::Damaged
        | SpoolError::Fenced
        | SpoolError::Stopped
        | SpoolError::InUse { .. } => error.to_string(),
    };
    LedgerError::Engine(EngineError { store: STORE, source: source.into() })
}

/// A row, or the name of a message whose envelope cannot be read.
pub(super) fn message_of(row: &Row) -> Result<LedgerMessage, QueueId> {
    let id = QueueId(row.get::<_, i64>(0).cast_unsigned());
    let envelope: Envelope = serde_json::from_str(row.get(2)).map_err(|_| id)?;
    let finished_at = row.get::<_, Option<i64>>(6).map(Timestamp);
    let standing = match (finished_at, row.get(4)) {
        (Some(_), _) => MessageState::Finished,
        (None, true) => MessageState::Held,
        (None, false) => MessageState::Queued,
    };
    Ok(LedgerMessage {
        id,
        message_id: row.get(1),
        recipients: vec![None; envelope.recipients.len()],
        envelope,
        size: unsigned(row.get(3)),
        standing,
        due_at: Timestamp(row.get(5)),
        finished_at,
        attempts: u32::try_from(row.get::<_, i32>(7)).unwrap_or(0),
        reported: reported_of(row.get::<_, Option<&str>>(10)),
    })
}

/// Messages with their recipients, in the order of the rows.
pub(super) async fn with_recipients(
    client: &Client,
    rows: &[Row],
) -> Result<Vec<Result<LedgerMessage, QueueId>>, Error> {
    let mut messages: Vec<_> = rows.iter().map(message_of).collect();
    let places: BTreeMap<i64, usize> = messages
        .iter()
        .enumerate()
        .filter_map(|(place, message)| message.as_ref().ok().map(|message| (number(message.id), place)))
        .collect();
    let ids: Vec<i64> = places.keys().copied().collect();
    if ids.is_empty() {
        return Ok(messages);
    }
    let select = "SELECT message, recipient, address, state, told FROM recipients WHERE message = ANY($1)";
    for row in client.query(select, &[&ids]).await? {
        let Some(Ok(message)) = places.get(&row.get(0)).and_then(|place| messages.get_mut(*place)) else { continue };
        let place = usize::try_from(row.get::<_, i32>(1)).ok().and_then(|nth| message.recipients.get_mut(nth));
        let (Some(place), Ok(state)) = (place, serde_json::from_str(row.get(3))) else { continue };
        let told = row.get::<_, Option<i64>>(4).and_then(told_of);
        *place = Some(LedgerRecipient { address: row.get(2), state, told });
    }
    Ok(messages)
}
