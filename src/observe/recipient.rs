//! How recipients stand after attempts, in one line and one count each (RFC 3463 §2). The word is that of the
//! report and of `relay why`; for who waited too long it is `expired`, and the cause that held the mail has its own
//! field and its own counter.

use super::Register;
use super::closed::{self, TLS};
use crate::envelope::QueueId;
use crate::outcome::{Cause, Class, DeliveryOutcome};
use crate::smtp::address::Mailbox;
use prometheus::{Error, IntCounterVec};

pub(super) struct RecipientMetrics {
    delivered: IntCounterVec,
    deferred: IntCounterVec,
    failed: IntCounterVec,
    expired: IntCounterVec,
}

impl RecipientMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        let cause = &["cause", "side"];
        let delivered = "Recipients taken over by a next hop, by protection.";
        let deferred = "Attempts after which a recipient waits, by cause.";
        let failed = "Recipients that failed for good, by cause; expired is that their time was up.";
        let expired = "Recipients whose time was up, by the cause that held them last.";
        let of = Self {
            delivered: r.counters("relay_recipients_delivered_total", delivered, &["tls"])?,
            deferred: r.counters("relay_recipient_deferrals_total", deferred, cause)?,
            failed: r.counters("relay_recipients_failed_total", failed, cause)?,
            expired: r.counters("relay_recipients_expired_total", expired, cause)?,
        };
        closed::from_zero(&of.delivered, &[TLS]);
        closed::causes_from_zero(&of.deferred, Class::Transient);
        closed::causes_from_zero(&of.failed, Class::Permanent);
        closed::causes_from_zero(&of.expired, Class::Transient);
        Ok(of)
    }

    /// However they were protected.
    pub(super) fn delivered_in_all(&self) -> u64 {
        TLS.iter().map(|word| self.delivered.with_label_values(&[word]).get()).sum()
    }

    pub(super) fn stands(&self, id: QueueId, recipient: &Mailbox, outcome: &DeliveryOutcome) {
        match outcome {
            DeliveryOutcome::Delivered { peer, tls, reply, .. } => {
                self.delivered.with_label_values(&[tls.word()]).inc();
                tracing::info!(%id, to = %recipient, host = %peer.host, tls = tls.word(), %reply, "delivered");
            }
            DeliveryOutcome::Failed { cause } => self.failed(id, recipient, cause),
        }
    }

    fn failed(&self, id: QueueId, recipient: &Mailbox, cause: &Cause) {
        let row = cause.row();
        let labels = [row.word, row.side.word()];
        let held_by = held_by(cause);
        if let (Cause::Expired { .. }, Some(held_by)) = (cause, held_by) {
            let row = held_by.row();
            self.expired.with_label_values(&[row.word, row.side.word()]).inc();
        }
        let (word, status, detail) = (row.word, row.status, cause.sentence());
        let held_by = held_by.map(|cause| cause.row().word);
        match row.class {
            Class::Transient => {
                self.deferred.with_label_values(&labels).inc();
                tracing::info!(%id, to = %recipient, cause = word, held_by, %status, detail, "deferred");
            }
            Class::Permanent => {
                self.failed.with_label_values(&labels).inc();
                tracing::info!(%id, to = %recipient, cause = word, held_by, %status, detail, "failed");
            }
        }
    }
}

/// What kept a recipient waiting that has an end for another reason.
fn held_by(cause: &Cause) -> Option<&Cause> {
    let root = cause.root();
    (root != cause).then_some(root)
}
