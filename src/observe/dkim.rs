//! Signatures by the domains of authors, and messages that have none.

use super::Register;
use crate::deliver::dkim::{NotSigned, SigningResult};
use crate::envelope::QueueId;
use crate::outcome::Cause;
use prometheus::{Error, IntCounterVec};

pub(super) struct DkimMetrics {
    total: IntCounterVec,
}

impl DkimMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        let total = r.counters(
            "relay_dkim_signatures_total",
            "DKIM signatures made (rsa, ed25519), and messages without one: of a domain without a key (no-key), without \
             one author (no-author), with a signature of their domain that holds (signed-already), not to be signed and sent all the \
             same (failed-sent), or held for it (failed-held).",
            &["result"],
        )?;
        for word in ["rsa", "ed25519", "no-key", "no-author", "signed-already", "failed-sent", "failed-held"] {
            total.with_label_values(&[word]);
        }
        Ok(Self { total })
    }

    pub(super) fn ended(&self, id: QueueId, signing: &SigningResult) {
        let count = |word: &str| self.total.with_label_values(&[word]).inc();
        match signing {
            SigningResult::Signed(signatures) => signatures.key_types().for_each(|key_type| count(key_type.word())),
            SigningResult::NotWanted(NotSigned::NoKeys) => {}
            SigningResult::NotWanted(NotSigned::NoKeyForAuthor) => count("no-key"),
            SigningResult::NotWanted(NotSigned::NoAuthor) => count("no-author"),
            SigningResult::NotWanted(NotSigned::SignedAlready) => count("signed-already"),
            SigningResult::FailedAndSent(cause) => {
                count("failed-sent");
                tracing::warn!(%id, detail = not_signed_because(cause), "not signed, and sent all the same");
            }
            SigningResult::FailedAndHeld(cause) => {
                count("failed-held");
                tracing::warn!(%id, detail = not_signed_because(cause), "not signed, and held");
            }
        }
    }
}

fn not_signed_because(cause: &Cause) -> String {
    super::evidence(cause)
}
