//! Answers of name servers through the validator: RFC 1035 §4.1, RFC 4035 §5.
//!
//! Input: a DNS message. It is judged as the answer to its own question, below the root's true
//! keys, and every further question gets the same message; when the last octet is odd, nothing.

use dane_relay::clock::Timestamp;
use dane_relay::resolve::Security;
use dane_relay::resolve::dnssec::fuzz::validate_bytes;
use dane_relay::resolve::dnssec::{Outcome, Validated};
use std::time::Duration;

/// Within the signatures of the seeds: 21 November 2026.
const NOW: Timestamp = Timestamp(1_795_261_468_000);
/// The longest that a verdict is good for.
const DAY: Duration = Duration::from_secs(86_400);

/// Gives the verdict and why, or `None` for octets that are no message.
pub(crate) fn check(input: &[u8]) -> Option<String> {
    let said = validate(input, NOW)?;
    assert_eq!(validate(input, NOW).as_ref(), Some(&said));
    // However wrong the clock is, nothing panics, runs on, or becomes true.
    for time in [i64::MIN, 0, i64::MAX] {
        validate(input, Timestamp(time)).unwrap();
    }
    Some(said)
}

/// Nobody but the root's owner can make a message that is secure, or is proven to be insecure.
fn validate(input: &[u8], now: Timestamp) -> Option<String> {
    let Validated { security, reason, outcome, valid_until, .. } = validate_bytes(input, now)?.unwrap();
    let reason = reason.unwrap();
    assert!(matches!(security, Security::Bogus | Security::Indeterminate), "{security:?} {reason}");
    assert!(matches!(outcome, Outcome::ErrorCode(_)), "what is not believed is no answer: {outcome:?}");
    assert!(valid_until <= now.plus(DAY), "{security:?} {reason}");
    Some(format!("{}: {reason}", security.word()))
}
