//! How it stands with the configuration: when it was taken over last, and whether the file was refused since.

use super::{Register, clamp};
use crate::clock::Timestamp;
use crate::config::settings::{KeyChange, TakesEffect};
use prometheus::{Error, IntGauge};

pub(crate) struct ConfigMetrics {
    failed: IntGauge,
    loaded_at: IntGauge,
    wait_for_restart: IntGauge,
}

impl ConfigMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            failed: r.gauge(
                "relay_config_reload_failed",
                "1 when the last reload was refused, so that what is in force is not what the file says; else 0.",
            )?,
            loaded_at: r.gauge(
                "relay_config_loaded_timestamp_seconds",
                "When the configuration in force was taken over, in seconds since 1970.",
            )?,
            wait_for_restart: r.gauge(
                "relay_config_keys_waiting_for_restart",
                "Keys of the configuration whose new values come into force with the next start.",
            )?,
        })
    }

    /// A configuration is in force from now on, with these changes.
    pub(crate) fn taken_over(&self, changes: &[KeyChange], now: Timestamp) {
        self.failed.set(0);
        self.loaded_at.set(now.unix_seconds());
        let (at_restart, now): (Vec<_>, Vec<_>) =
            changes.iter().partition(|change| change.takes_effect == TakesEffect::AtRestart);
        self.wait_for_restart.set(clamp(at_restart.len() as u64));
        for change in now {
            tracing::info!(change = change.line(), "configuration changed");
        }
        for change in at_restart {
            tracing::warn!(change = change.line(), "configuration changes with the next start");
        }
    }

    /// A configuration cannot be used; the one before stays in force.
    pub(crate) fn refused(&self, why: &str) {
        self.failed.set(1);
        for why in why.lines() {
            tracing::error!(why, "the configuration is refused; the one before stays in force");
        }
    }
}
