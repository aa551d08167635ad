//! What is told of copies for archives: those that are made, those that are lost.

use super::Register;
use crate::envelope::QueueId;
use crate::smtp::address::Mailbox;
use prometheus::{Error, IntCounter};

pub(super) struct ArchiveMetrics {
    copies: IntCounter,
    lost: IntCounter,
}

impl ArchiveMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            copies: r.counter("relay_archive_copies_total", "Copies for archives ([[archive]]) put into the queue.")?,
            lost: r.counter("relay_archive_copies_lost_total", "Copies for archives that could not be delivered.")?,
        })
    }

    pub(super) fn copied(&self, id: QueueId, of: QueueId, to: &Mailbox) {
        self.copies.inc();
        tracing::info!(%id, %of, %to, "copy for an archive queued");
    }

    pub(super) fn lost(&self, id: QueueId, of: QueueId, told: Option<&Mailbox>) {
        self.lost.inc();
        match told {
            Some(postmaster) => {
                tracing::warn!(%id, %of, told = %postmaster, "a copy for an archive could not be delivered")
            }
            None => {
                tracing::error!(%id, %of, "a copy for an archive could not be delivered, and there is nobody to tell");
            }
        }
    }
}
