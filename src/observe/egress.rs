//! The way out of destinations: when the certificates end that we show, and what became of changed files.

use super::Register;
use crate::clock::Timestamp;
use crate::deliver::egress::store::{CertificateEndsAt, Reread};
use prometheus::{Error, IntGaugeVec};

pub(super) struct EgressMetrics {
    certificate_expiry: IntGaugeVec,
}

impl EgressMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            certificate_expiry: r.gauges(
                "relay_client_certificate_expiry_timestamp_seconds",
                "When the client certificate of a destination expires, in seconds since 1970; 0 when unknown.",
                &["destination"],
            )?,
        })
    }

    /// As many as the configuration has.
    pub(super) fn certificates(&self, all: &[CertificateEndsAt]) {
        self.certificate_expiry.reset();
        for CertificateEndsAt { domains, at } in all {
            let seconds = at.map_or(0, Timestamp::unix_seconds);
            self.certificate_expiry.with_label_values(&[domains]).set(seconds);
        }
    }

    pub(super) fn reread(news: &[Reread]) {
        for one in news {
            match one {
                Reread::Replaced { domains } => tracing::info!(%domains, "login or client certificate renewed"),
                Reread::Refused(error) => {
                    tracing::error!(%error, "the new login or client certificate cannot be used; the old one stays");
                }
            }
        }
    }
}
