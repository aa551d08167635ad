//! The words that labels may have, and their series from the start on (RFC 8460 §4.3).
//!
//! A counter whose series appears with its first event does not rise by that event as far as Prometheus can
//! tell, and an alert on its increase stays silent. So every counter with a closed set of labels begins at 0.

use crate::outcome::rows::ROWS;
use crate::outcome::{Class, StsFault};
use prometheus::IntCounterVec;

/// What a connection has reached: [`crate::outcome::TlsVerdict::word`], or no TLS verdict at all.
pub(super) const TLS: &[&str] =
    &["clear-text", "unauthenticated", "dane", "dane-host-only", "webpki", "webpki-and-dane", "none"];
/// What was demanded: [`crate::policy::TlsPolicy::word`].
pub(super) const POLICIES: &[&str] = &["off", "opportunistic", "encrypt", "dane", "webpki", "webpki-and-dane"];
/// Why a policy is only watched: [`crate::policy::WhyOpportunistic::word`].
pub(super) const WATCHED_BECAUSE: &[&str] = &["mta-sts-testing", "report-only", "exception", "tls-required-no"];

/// What became of fetching an MTA-STS policy, and of keeping it.
pub(super) const STS_RESULTS: &[&str] = &[
    "ok",
    StsFault::FetchError.result_type(),
    StsFault::Invalid.result_type(),
    StsFault::WebPkiInvalid.result_type(),
    "policy-lost",
    "store-failed",
    "store-full",
];

/// Lets a counter begin at 0 for every combination of these words, one set a label.
pub(super) fn from_zero(counter: &IntCounterVec, labels: &[&[&str]]) {
    let mut rows: Vec<Vec<&str>> = vec![Vec::new()];
    for words in labels {
        let longer = rows.iter().flat_map(|row| words.iter().map(move |word| [row.as_slice(), &[*word]].concat()));
        rows = longer.collect();
    }
    for row in rows {
        counter.with_label_values(&row);
    }
}

/// Lets a counter by cause and side begin at 0 for every cause of this class.
pub(super) fn causes_from_zero(counter: &IntCounterVec, class: Class) {
    for row in ROWS.iter().filter(|row| row.class == class) {
        for side in row.sides {
            counter.with_label_values(&[row.word, side.word()]);
        }
    }
}
