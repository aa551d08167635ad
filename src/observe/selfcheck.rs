//! Whether this host is fit to send mail: one gauge for each thing that is looked at, and one log
//! line when it changes.

use super::Register;
use prometheus::{Error, IntGaugeVec};

pub(super) struct SelfCheckMetrics {
    status: IntGaugeVec,
}

impl SelfCheckMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        let help =
            "What the relay found about its own host: 0 ok, 1 warning, 2 fault, 3 not found out, 4 not looked at.";
        Ok(Self { status: r.gauges("relay_selfcheck_status", help, &["check"])? })
    }

    /// Tells a status; one that was so before is not worth a line.
    pub(super) fn told(&self, check: &'static str, status: u8, detail: &str) {
        let gauge = self.status.with_label_values(&[check]);
        let before = gauge.get();
        gauge.set(i64::from(status));
        match status {
            same if before == i64::from(same) => tracing::debug!(check, detail, "self-check"),
            4 => tracing::debug!(check, detail, "self-check did not look"),
            0 if before == 4 => tracing::info!(check, detail, "self-check is well"),
            0 => tracing::info!(check, detail, "self-check is well again"),
            1 | 3 => tracing::warn!(check, detail, "self-check warns"),
            _ => tracing::error!(check, detail, "self-check failed"),
        }
    }
}
