//! What a server says only because there is no TLS, which it or we could not have (RFC 3207 §4,
//! RFC 7435 §3).
//!
//! After a step down to clear text such a reply is no verdict on the mail: the mail did nothing
//! wrong, and with TLS in order again it would pass. The cause is then the failure of TLS.

use crate::outcome::{Cause, DemandedBy, Phase};
use crate::smtp::reply::{EnhancedStatusCode, Reply};

/// Whether a refusal is about the lack of TLS: by its code, its enhanced code or its words.
pub(super) fn is_about_tls(reply: &Reply) -> bool {
    // "Must issue a STARTTLS command first", "encryption needed" (RFC 3207 §4).
    let by_code = matches!(reply.code, 523 | 530 | 538);
    let by_enhanced_code = |code: EnhancedStatusCode| (code.subject, code.detail) == (7, 10);
    let words = reply.text().to_ascii_lowercase();
    by_code
        || reply.enhanced.is_some_and(by_enhanced_code)
        || ["tls", "encrypt", "ssl", "secure connection"].iter().any(|word| names(&words, word))
}

/// Whether a text has a word that begins so: `title` has no `tls`, and `STARTTLS` has one.
fn names(text: &str, word: &str) -> bool {
    let begins = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        before.ends_with("start") || !before.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    text.match_indices(word).any(|(at, _)| begins(at))
}

/// Whether it was TLS that failed on an opportunistic connection, so that a fresh one in clear text
/// may do better. A server, or a box before it, that falls silent at STARTTLS or at our ClientHello,
/// or that has no word for us inside TLS, spoils TLS as one that says no does.
#[must_use]
pub(crate) const fn spoilt(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::TlsHandshake { .. }
            | Cause::StarttlsRefused { demanded_by: DemandedBy::Server, .. }
            | Cause::TimedOut { phase: Phase::StartTls | Phase::Handshake | Phase::EhloInTls, .. }
            | Cause::ConnectionLost { phase: Phase::StartTls | Phase::EhloInTls, .. }
            | Cause::ProtocolError { phase: Phase::StartTls | Phase::EhloInTls, .. }
            | Cause::Rejected { phase: Phase::EhloInTls, .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::reply::ReplyParser;

    #[test]
    fn rfc3207_4_a_refusal_that_wants_tls_is_known_by_its_code_or_its_words() {
        let about = |text: &str| is_about_tls(&ReplyParser::default().line(text.as_bytes()).unwrap().unwrap());
        for text in [
            "530 5.7.0 Must issue a STARTTLS command first",
            "530 no",
            "550 5.7.10 no",
            "554 5.7.1 TLS required",
            "451 4.7.5 We take mail over encrypted sessions alone",
            "421 use STARTTLS",
            "550 only over a secure connection",
        ] {
            assert!(about(text), "{text}");
        }
        for text in ["550 5.1.1 no such user", "554 5.7.1 spam", "550 5.7.26 title is outlsed", "452 4.2.2 full"] {
            assert!(!about(text), "{text}");
        }
    }
}
