//! New messages as rows: any number of them in a few statements of one transaction.

use super::content::ROW;
use super::numbers::{bigint, number};
use super::shared::NodeClock;
use crate::envelope::{Envelope, QueueId};
use crate::spool::stored::{lookup_hash, names};
use crate::spool::{RecipientState, SpoolError};
use bytes::Bytes;
use futures_util::future::try_join4;
use tokio_postgres::Error;

/// A message to be stored.
pub(super) struct NewMessageRow {
    pub(super) id: QueueId,
    pub(super) message_id: Option<String>,
    pub(super) envelope: Envelope,
    pub(super) envelope_json: String,
    pub(super) size: u64,
    pub(super) crc: u32,
    /// The rows of its content that are to be stored, and the number of the first.
    pub(super) rows: Vec<Bytes>,
    pub(super) first_row: i32,
    /// Of a copy: what comes behind the rows of the original.
    pub(super) later: Vec<Bytes>,
    pub(super) first_later: i32,
}

/// A message whose parts of content may be anywhere.
pub(super) struct NewContent {
    pub(super) message_id: Option<String>,
    pub(super) size: u64,
    pub(super) crc: u32,
    pub(super) rows: Vec<Bytes>,
    pub(super) first_row: i32,
}

impl NewContent {
    /// Content that is in memory as a whole.
    pub(super) fn whole(content: &Bytes) -> Self {
        Self {
            message_id: crate::spool::message_id::message_id(content),
            size: content.len() as u64,
            crc: crc32fast::hash(content),
            rows: rows_of(content),
            first_row: 0,
        }
    }
}

/// Content in rows; none for content of no octet.
pub(super) fn rows_of(content: &Bytes) -> Vec<Bytes> {
    let mut rest = content.clone();
    let mut rows = Vec::new();
    while !rest.is_empty() {
        rows.push(rest.split_to(rest.len().min(ROW)));
    }
    rows
}

impl NewMessageRow {
    pub(super) fn new(id: QueueId, envelope: Envelope, content: NewContent) -> Result<Self, SpoolError> {
        let NewContent { message_id, size, crc, rows, first_row } = content;
        let envelope_json = json(&envelope)?;
        Ok(Self {
            id,
            message_id,
            envelope,
            envelope_json,
            size,
            crc,
            rows,
            first_row,
            later: Vec::new(),
            first_later: 0,
        })
    }
}

/// A message or a state as the database keeps it.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, SpoolError> {
    serde_json::to_string(value).map_err(|error| SpoolError::Io {
        action: "putting a message into the database",
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, error),
    })
}

#[derive(Default)]
struct MessageColumns {
    ids: Vec<i64>,
    message_ids: Vec<Option<String>>,
    envelopes: Vec<String>,
    sizes: Vec<i64>,
    crcs: Vec<i64>,
    accepted: Vec<i64>,
}

#[derive(Default)]
struct RecipientColumns {
    messages: Vec<i64>,
    numbers: Vec<i32>,
    addresses: Vec<String>,
}

#[derive(Default)]
struct ContentColumns {
    messages: Vec<i64>,
    numbers: Vec<i32>,
    octets: Vec<Vec<u8>>,
}

#[derive(Default)]
struct LookupColumns {
    hashes: Vec<i64>,
    accepted: Vec<i64>,
    messages: Vec<i64>,
}

const MESSAGES: &str =
    "INSERT INTO messages (id, message_id, envelope, size, content_crc, accepted_at, due_at, planned_by)
    SELECT id, message_id, envelope, size, crc, accepted_at, accepted_at - $8::bigint, $7::smallint
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
      AS new (id, message_id, envelope, size, crc, accepted_at)";
const RECIPIENTS: &str = "INSERT INTO recipients (message, recipient, address, state)
    SELECT message, recipient, address, $4 FROM unnest($1::bigint[], $2::int[], $3::text[])
      AS new (message, recipient, address)";
const CONTENT: &str = "INSERT INTO content (message, number, octets)
    SELECT * FROM unnest($1::bigint[], $2::int[], $3::bytea[])";
const LOOKUPS: &str = "INSERT INTO lookups (hash, accepted_at, message)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) ON CONFLICT DO NOTHING";

/// Stores messages whose recipients all wait for their first attempt.
pub(super) async fn insert(
    transaction: &deadpool_postgres::Transaction<'_>,
    clock: NodeClock,
    messages: &[&NewMessageRow],
) -> Result<(), Error> {
    let (mut m, mut r) = (MessageColumns::default(), RecipientColumns::default());
    let NodeClock { slot, ahead_ms: ahead } = clock;
    let (mut c, mut l) = (ContentColumns::default(), LookupColumns::default());
    for message in messages {
        let (id, accepted_at) = (number(message.id), message.envelope.accepted_at.0);
        m.ids.push(id);
        m.message_ids.push(message.message_id.clone());
        m.envelopes.push(message.envelope_json.clone());
        m.sizes.push(bigint(message.size));
        m.crcs.push(i64::from(message.crc));
        m.accepted.push(accepted_at);
        for (nth, recipient) in (0..).zip(&message.envelope.recipients) {
            r.messages.push(id);
            r.numbers.push(nth);
            r.addresses.push(recipient.to_string());
        }
        let later = (message.first_later..).zip(&message.later);
        for (nth, row) in (message.first_row..).zip(&message.rows).chain(later) {
            c.messages.push(id);
            c.numbers.push(nth);
            c.octets.push(row.to_vec());
        }
        for name in names(&message.envelope, message.message_id.as_deref()) {
            l.hashes.push(lookup_hash(&name));
            l.accepted.push(accepted_at);
            l.messages.push(id);
        }
    }
    let new = serde_json::to_string(&RecipientState::NEW).unwrap_or_default();
    let (messages, recipients, content, lookups) = try_join4(
        transaction.prepare_cached(MESSAGES),
        transaction.prepare_cached(RECIPIENTS),
        transaction.prepare_cached(CONTENT),
        transaction.prepare_cached(LOOKUPS),
    )
    .await?;
    try_join4(
        transaction
            .execute(&messages, &[&m.ids, &m.message_ids, &m.envelopes, &m.sizes, &m.crcs, &m.accepted, &slot, &ahead]),
        transaction.execute(&recipients, &[&r.messages, &r.numbers, &r.addresses, &new]),
        transaction.execute(&content, &[&c.messages, &c.numbers, &c.octets]),
        transaction.execute(&lookups, &[&l.hashes, &l.accepted, &l.messages]),
    )
    .await?;
    Ok(())
}
