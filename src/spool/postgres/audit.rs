//! The sum of what was accepted, from the tables themselves (RFC 5321 §6.1: nothing is lost in silence).
//!
//! Every recipient is looked at. A report that tells of a failure must exist, and is itself a message that is
//! accounted for; what waits must have its content. It goes in batches, each a view of the database of its own, so
//! that nobody is held up.

use super::numbers::{bigint, number, unsigned};
use super::reader::{failed, ledger_columns, with_recipients};
use crate::envelope::QueueId;
use crate::outcome::DeliveryOutcome;
use crate::smtp::address::ReversePath;
use crate::spool::RecipientState;
use crate::spool::audit::{Audit, AuditFault, AuditFinding, Depth, Sum};
use crate::spool::event::Silence;
use crate::spool::ledger::{AuditRun, LedgerError, LedgerMessage, LedgerRecipient, MessageState, ToldBy};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use tokio_postgres::Client;

/// Messages looked at in one view.
const BATCH: i64 = 1000;

/// Faults that are listed; more are only counted.
const MOST_LISTED: usize = 1000;

/// An audit under way.
pub(super) struct DatabaseAudit {
    client: Client,
    depth: Depth,
    next: Option<i64>,
    sum: Sum,
    findings: BTreeMap<QueueId, AuditFinding>,
}

/// What a batch is held against.
struct Beside {
    /// Reports that are there, of those that are named.
    reports: BTreeSet<i64>,
    /// Octets of content that are there.
    octets: BTreeMap<i64, u64>,
}

impl DatabaseAudit {
    pub(super) const fn new(client: Client, depth: Depth) -> Self {
        Self { client, depth, next: Some(-1), sum: ZERO, findings: BTreeMap::new() }
    }

    async fn messages(&mut self, after: i64) -> Result<Option<i64>, LedgerError> {
        self.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failed)?;
        let select = concat!("SELECT ", ledger_columns!(), " FROM messages m WHERE m.id > $1 ORDER BY m.id LIMIT $2");
        let rows = self.client.query(select, &[&after, &BATCH]).await.map_err(failed)?;
        let messages = with_recipients(&self.client, &rows).await.map_err(failed)?;
        let beside = self.beside(&messages).await?;
        for (row, message) in rows.iter().zip(messages) {
            self.sum.messages += 1;
            match message {
                Ok(message) => self.message(&message, row.get(8), &beside).await?,
                Err(id) => self.unreadable(id).await?,
            }
        }
        self.client.batch_execute("COMMIT").await.map_err(failed)?;
        Ok(rows.last().map(|row| row.get(0)))
    }

    async fn beside(&self, messages: &[Result<LedgerMessage, QueueId>]) -> Result<Beside, LedgerError> {
        let messages = || messages.iter().flatten();
        let told = messages().flat_map(|message| message.recipients.iter().flatten()).filter_map(|r| match r.told {
            Some(ToldBy::Report(report)) => Some(number(report)),
            Some(ToldBy::Nobody(_)) | None => None,
        });
        let told: Vec<i64> = told.collect();
        let open: Vec<i64> =
            messages().filter(|m| m.standing != MessageState::Finished).map(|message| number(message.id)).collect();
        let reports =
            self.client.query("SELECT id FROM messages WHERE id = ANY($1)", &[&told]).await.map_err(failed)?;
        let octets = "SELECT message, sum(length(octets))::bigint FROM content WHERE message = ANY($1) GROUP BY 1";
        let octets = self.client.query(octets, &[&open]).await.map_err(failed)?;
        Ok(Beside {
            reports: reports.iter().map(|row| row.get(0)).collect(),
            octets: octets.iter().map(|row| (row.get(0), unsigned(row.get(1)))).collect(),
        })
    }

    async fn unreadable(&mut self, id: QueueId) -> Result<(), LedgerError> {
        let count = "SELECT count(*) FROM recipients WHERE message = $1";
        let recipients = unsigned(self.client.query_one(count, &[&number(id)]).await.map_err(failed)?.get(0));
        self.sum.accepted += recipients;
        self.find(id, AuditFault::RowUnreadable, recipients, Vec::new());
        Ok(())
    }

    async fn message(&mut self, message: &LedgerMessage, crc: i64, beside: &Beside) -> Result<(), LedgerError> {
        self.sum.accepted += message.recipients.len() as u64;
        let before = self.sum.queued;
        for (index, recipient) in message.recipients.iter().enumerate() {
            let fault = match recipient {
                None => Some(AuditFault::RecipientMissing),
                Some(recipient) => self.recipient(message, recipient, beside),
            };
            if let Some(fault) = fault {
                let address = message.envelope.recipients.get(index).map(ToString::to_string).unwrap_or_default();
                self.find(message.id, fault, 1, vec![address]);
            }
        }
        let waiting = self.sum.queued - before;
        if waiting == 0 {
            return Ok(());
        }
        let octets = beside.octets.get(&number(message.id)).copied().unwrap_or(0);
        let fault = if octets != message.size {
            Some(AuditFault::ContentMissing)
        } else if self.depth == Depth::Everything && self.checksum(message.id).await? != crc {
            Some(AuditFault::ContentDamaged)
        } else {
            None
        };
        if let Some(fault) = fault {
            self.sum.queued = before;
            let addresses = message.open().map(|recipient| recipient.address.clone()).collect();
            self.find(message.id, fault, waiting, addresses);
        }
        Ok(())
    }

    /// Counts a recipient where it belongs, or says why it belongs nowhere.
    fn recipient(
        &mut self,
        message: &LedgerMessage,
        recipient: &LedgerRecipient,
        beside: &Beside,
    ) -> Option<AuditFault> {
        let column = match &recipient.state {
            RecipientState::Queued(_) | RecipientState::Owed(_) if message.standing == MessageState::Finished => {
                return Some(AuditFault::FinishedAndWaiting);
            }
            // Whoever failed and has to be told of waits for the report.
            RecipientState::Queued(_) => &mut self.sum.queued,
            RecipientState::Owed(owed) if owed.cause().is_some() => &mut self.sum.queued,
            RecipientState::Owed(_) => &mut self.sum.delivered,
            RecipientState::Removed => &mut self.sum.removed,
            RecipientState::Done { outcome: DeliveryOutcome::Delivered { .. } } => &mut self.sum.delivered,
            RecipientState::Done { outcome: DeliveryOutcome::Failed { .. } } => match recipient.told {
                None => return Some(AuditFault::NobodyTold),
                Some(ToldBy::Nobody(Silence::NullReversePath))
                    if message.envelope.reverse_path != ReversePath::Null =>
                {
                    return Some(AuditFault::NoSuchRule);
                }
                Some(ToldBy::Nobody(Silence::NullReversePath | Silence::NotAsked)) => &mut self.sum.suppressed,
                Some(ToldBy::Report(report)) if !beside.reports.contains(&number(report)) => {
                    return Some(AuditFault::ReportMissing);
                }
                Some(ToldBy::Report(_)) => &mut self.sum.told,
            },
        };
        *column += 1;
        None
    }

    /// Of the content, a row at a time.
    async fn checksum(&self, id: QueueId) -> Result<i64, LedgerError> {
        let mut crc = crc32fast::Hasher::new();
        let select = "SELECT octets FROM content WHERE message = $1 AND number = $2";
        for nth in 0_i32.. {
            let Some(row) = self.client.query_opt(select, &[&number(id), &nth]).await.map_err(failed)? else { break };
            crc.update(row.get(0));
        }
        Ok(bigint(u64::from(crc.finalize())))
    }

    /// Recipients whose message is gone.
    async fn orphans(&mut self) -> Result<(), LedgerError> {
        let select = "SELECT message, count(*) FROM recipients r
                      WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = r.message) GROUP BY message LIMIT $1";
        for row in self.client.query(select, &[&BATCH]).await.map_err(failed)? {
            let recipients = unsigned(row.get(1));
            self.sum.accepted += recipients;
            let id = QueueId(row.get::<_, i64>(0).cast_unsigned());
            self.find(id, AuditFault::RowMissing, recipients, Vec::new());
        }
        Ok(())
    }

    fn find(&mut self, id: QueueId, fault: AuditFault, recipients: u64, addresses: Vec<String>) {
        let finding =
            self.findings.entry(id).or_insert(AuditFinding { id, fault, recipients: 0, addresses: Vec::new() });
        finding.recipients += recipients;
        finding.addresses.extend(addresses);
    }

    fn audit(&mut self) -> Audit {
        let findings: Vec<AuditFinding> = std::mem::take(&mut self.findings).into_values().collect();
        let unaccounted = findings.iter().map(|finding| finding.recipients).sum();
        Audit { sum: Sum { unaccounted, ..self.sum }, findings: findings.into_iter().take(MOST_LISTED).collect() }
    }
}

const ZERO: Sum =
    Sum { messages: 0, accepted: 0, delivered: 0, told: 0, suppressed: 0, removed: 0, queued: 0, unaccounted: 0 };

#[async_trait]
impl AuditRun for DatabaseAudit {
    async fn step(&mut self) -> Result<ControlFlow<Audit>, LedgerError> {
        match self.next {
            Some(after) => {
                self.next = self.messages(after).await?;
                Ok(ControlFlow::Continue(()))
            }
            None => {
                self.orphans().await?;
                Ok(ControlFlow::Break(self.audit()))
            }
        }
    }
}
