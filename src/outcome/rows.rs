//! Every word that a cause can have, with its class and the sides that may have to act: the closed set behind
//! labels of metrics and the reference (RFC 3463 §3).

use super::Class::{self, Permanent, Transient};
use super::Side::{self, Here, Path, Recipient, Resolver, Sender};

/// What causes of one word have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WordOfCause {
    /// The word in log, metrics and JSON.
    pub(crate) word: &'static str,
    /// Whether trying again can help.
    pub(crate) class: Class,
    /// Who may have to act.
    pub(crate) sides: &'static [Side],
}

const fn of(word: &'static str, class: Class, sides: &'static [Side]) -> WordOfCause {
    WordOfCause { word, class, sides }
}

/// All of them, in the order of [`super::named::NAMES`].
pub(crate) const ROWS: &[WordOfCause] = &[
    of("domain-not-found", Permanent, &[Sender]),
    of("null-mx", Permanent, &[Sender]),
    of("no-mail-host", Permanent, &[Recipient]),
    of("special-use-domain", Permanent, &[Sender]),
    of("next-hop-unknown", Transient, &[Here]),
    of("dns-unavailable", Transient, &[Resolver]),
    of("dnssec-invalid", Transient, &[Recipient]),
    of("mail-loop", Permanent, &[Recipient]),
    of("address-forbidden", Permanent, &[Recipient]),
    of("no-route", Transient, &[Here]),
    of("connect-failed", Transient, &[Path]),
    of("timed-out", Transient, &[Path]),
    of("connection-lost", Transient, &[Path]),
    of("protocol-error", Transient, &[Recipient]),
    of("perhaps-taken", Transient, &[Recipient]),
    of("rejected", Permanent, &[Here, Recipient]),
    of("rejected-for-now", Transient, &[Here, Recipient]),
    of("starttls-not-supported", Transient, &[Recipient]),
    of("tls-handshake-failed", Transient, &[Recipient]),
    of("tlsa-invalid", Transient, &[Recipient]),
    of("certificate-expired", Transient, &[Recipient]),
    of("certificate-host-mismatch", Transient, &[Recipient]),
    of("certificate-not-trusted", Transient, &[Recipient]),
    of("validation-failure", Transient, &[Recipient]),
    of("sts-mx-not-listed", Transient, &[Recipient]),
    of("dane-required", Transient, &[Here]),
    of("sts-required", Transient, &[Here]),
    of("sts-policy-lost", Transient, &[Here]),
    of("requiretls-unmet", Permanent, &[Recipient]),
    of("login-failed", Transient, &[Here]),
    of("login-unprotected", Transient, &[Here]),
    of("source-unavailable", Transient, &[Here]),
    of("no-address-of-family", Transient, &[Here]),
    of("dkim-signing-failed", Transient, &[Here]),
    of("dkim-unsignable", Permanent, &[Sender]),
    of("message-too-large", Permanent, &[Sender]),
    of("eight-bit-not-offered", Permanent, &[Recipient]),
    of("smtputf8-not-offered", Permanent, &[Recipient]),
    of("content-damaged", Permanent, &[Here]),
    of("bounced-by-operator", Permanent, &[Here]),
    of("expired", Permanent, &[Here, Resolver, Path, Recipient]),
];

#[cfg(test)]
mod tests {
    use super::super::every;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_has_the_word_class_and_side_of_every_cause() {
        let names = |(word, _): &(&'static str, &[&str])| *word;
        assert_eq!(
            ROWS.iter().map(|row| row.word).collect::<Vec<_>>(),
            super::super::named::NAMES.iter().map(names).collect::<Vec<_>>()
        );
        let mut listed = BTreeSet::new();
        for row in ROWS {
            listed.extend(row.sides.iter().map(|side| (row.word, row.class.digit(), side.word())));
        }
        let met = |cause: &super::super::Cause| {
            let row = cause.row();
            (row.word, row.class.digit(), row.side.word())
        };
        // A server may speak of our address in a temporary refusal, too.
        let turned_away = every::reply(&[b"450 4.7.1 client host [192.0.2.7] is listed at blocklist.example"]);
        let phase = super::super::Phase::RcptTo;
        let turned_away = super::super::Cause::Rejected { peer: every::peer(), phase, reply: turned_away };
        let met: BTreeSet<_> = every::cause().iter().chain([&turned_away]).map(met).collect();
        assert_eq!(listed, met);
    }
}
