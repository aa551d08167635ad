//! What an operator may ask of a relay that runs, and order it: the one door for the control socket and for the
//! admin port.

use crate::clock::Timestamp;
use crate::command::queue::Selected;
use crate::command::status::Running;
use crate::config::SpoolConfig;
use crate::observe::log_level;
use crate::observe::log_level::LogLevel;
use crate::pipeline::Pipeline;
use crate::pipeline::operate::{Acted, Order};
use crate::service::admin::readiness;
use crate::service::order::OrderEvent;
use crate::service::reload::Reloading;
use crate::service::suspensions::{self, SuspendedNow, SuspensionOrder};
use crate::spool::ledger::{Ledger, LedgerError};
use crate::spool::{SpoolError, open_ledger};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// From one word about a relay that ends to the next.
const DRAIN_LOOK: Duration = Duration::from_millis(200);

/// A relay that runs, as its operator has it.
pub(super) struct Operator {
    /// The spool of the relay, which no reload changes.
    pub spool: SpoolConfig,
    /// Who takes over another configuration, and knows the one in force.
    pub reloading: Arc<Reloading>,
    /// When the relay started.
    pub since: Timestamp,
    /// What ends it.
    pub stop: CancellationToken,
}

impl Operator {
    /// What carries mail out now.
    pub(super) fn pipeline(&self) -> Arc<Pipeline> {
        self.reloading.service().pipeline()
    }

    /// Now, by the clock of the relay.
    pub(super) fn now(&self) -> Timestamp {
        self.pipeline().out.clock.now()
    }

    /// What the spool knows.
    pub(super) async fn ledger(&self) -> Result<Box<dyn Ledger>, LedgerError> {
        open_ledger(&self.spool).await
    }

    /// Carries an order out on one of them, and records it.
    pub(super) async fn act(&self, order: &Order, selected: &Selected) -> Result<Acted, SpoolError> {
        let (pipeline, Selected { id, recipients, hold }) = (self.pipeline(), selected);
        let acted = pipeline.operate(order, *id, recipients, *hold).await?;
        if acted == Acted::Done {
            pipeline.observer.operated(*id, order.act, &order.actor, recipients.len());
        }
        Ok(acted)
    }

    /// Who is suspended once the order is carried out.
    pub(super) async fn suspended(&self, order: SuspensionOrder, by: &str) -> Result<SuspendedNow, String> {
        suspensions::order(self.reloading.service(), &order, by, self.now()).await
    }

    /// Says more or less in the log, for a time or until that is changed again.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn log_level(&self, level: &str, lasts: Option<Duration>) -> Result<LogLevel, String> {
        let in_force = log_level::set(level, lasts, &self.pipeline().out.clock)?;
        tracing::warn!(level = in_force.level, "how much is logged was changed by the operator");
        Ok(in_force)
    }

    /// Ends the relay. Tells how that goes for as long as somebody hears it, until the end of the process.
    pub(super) fn drain(&self) -> mpsc::Receiver<OrderEvent> {
        tracing::info!("the operator drains this relay: what has not begun goes back, and it ends");
        self.stop.cancel();
        let (teller, events) = mpsc::channel(1);
        let pipeline = self.pipeline();
        tokio::spawn(async move {
            loop {
                let under_way = pipeline.hosts().at_work();
                if teller.send(OrderEvent::Draining { under_way }).await.is_err() {
                    return;
                }
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        });
        events
    }

    /// How the relay is.
    pub(super) async fn running(&self) -> Running {
        let (pipeline, config) = (self.pipeline(), self.reloading.status().await);
        let (stats, now) = (pipeline.spool.stats(), self.now());
        Running {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: self.since,
            smtp: self.reloading.smtp(),
            admin: self.reloading.admin(),
            config: Some(config),
            log_level: log_level::in_force(),
            refuses: readiness::no_room(pipeline.spool.as_ref(), now),
            full_disk: pipeline.spool.full_disk(now),
            queued_messages: stats.queued_messages,
            held_messages: stats.held_messages,
            oldest: stats.oldest,
            spool_bytes: stats.bytes,
            damaged_records: stats.damaged_records,
            next_hops_backing_off: pipeline.backing_off(),
            hosts: pipeline.hosts(),
            exceptions: pipeline.out.exceptions_now(),
            private_zones: pipeline.out.config.dns.private_zones.iter().map(ToString::to_string).collect(),
            client_certificates: pipeline.out.egress.certificates(),
        }
    }
}
