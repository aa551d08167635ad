//! What the sentence about a cause may name, for texts in another language.
//!
//! The English sentences stand in `words.rs`. A translation is found by the word of the cause
//! ([`super::Row::word`]) and can use the names listed here; what stands behind them comes from
//! [`Cause::named`]. Details that foreign software said stay as they were said.

use super::{Cause, RequireTlsFailure};

/// What stands behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// Words or numbers.
    Text(String),
    /// A span of time in seconds, to be put into words.
    Span(u64),
    /// The sentence about another cause; nothing where there is none.
    Because(Option<&'a Cause>),
}

/// The words of all causes, with the names that each of their sentences may use.
pub const NAMES: &[(&str, &[&str])] = &[
    ("domain-not-found", &["domain"]),
    ("null-mx", &["domain"]),
    ("no-mail-host", &["domain"]),
    ("special-use-domain", &["domain"]),
    ("next-hop-unknown", &[]),
    ("dns-unavailable", &["question"]),
    ("dnssec-invalid", &["question", "detail"]),
    ("mail-loop", &["domain"]),
    ("address-forbidden", &["server", "address"]),
    ("no-route", &["server", "detail"]),
    ("connect-failed", &["server", "detail"]),
    ("timed-out", &["server"]),
    ("connection-lost", &["server", "detail"]),
    ("protocol-error", &["server", "detail"]),
    ("perhaps-taken", &["server", "detail"]),
    ("rejected", &["server", "reply"]),
    ("rejected-for-now", &["server", "reply"]),
    ("starttls-not-supported", &["server"]),
    ("tls-handshake-failed", &["server", "detail"]),
    ("tlsa-invalid", &["server", "detail"]),
    ("certificate-expired", &["server", "detail"]),
    ("certificate-host-mismatch", &["server", "detail"]),
    ("certificate-not-trusted", &["server", "detail"]),
    ("validation-failure", &["server", "detail"]),
    ("sts-mx-not-listed", &["server", "domain"]),
    ("dane-required", &["server", "detail"]),
    ("sts-required", &["domain", "detail"]),
    ("sts-policy-lost", &["domain"]),
    ("requiretls-unmet", &["server", "because"]),
    ("login-failed", &["server", "detail"]),
    ("login-unprotected", &["server", "because"]),
    ("source-unavailable", &[]),
    ("no-address-of-family", &["server", "family"]),
    ("dkim-signing-failed", &[]),
    ("dkim-unsignable", &[]),
    ("message-too-large", &["server", "limit", "size"]),
    ("eight-bit-not-offered", &["server"]),
    ("smtputf8-not-offered", &["server"]),
    ("content-damaged", &[]),
    ("bounced-by-operator", &["because"]),
    ("expired", &["waited", "because"]),
];

impl Cause {
    /// What the sentence about this cause may name: all names that [`NAMES`] lists for its word.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, Named<'_>)> {
        let text = |name: &'static str, value: &dyn ToString| (name, Named::Text(value.to_string()));
        match self {
            Self::DomainNotFound { domain }
            | Self::NullMx { domain }
            | Self::NoMailHost { domain }
            | Self::SpecialUseDomain { domain }
            | Self::MailLoop { domain }
            | Self::StsPolicyLost { domain, .. } => vec![text("domain", domain)],
            Self::DnsUnavailable { question, .. } => vec![text("question", question)],
            Self::DnsBogus { question, detail } => vec![text("question", question), text("detail", detail)],
            Self::AddressForbidden { host, address } => vec![text("server", host), text("address", address)],
            Self::NoRoute { peer, detail }
            | Self::ConnectFailed { peer, detail }
            | Self::ConnectionLost { peer, detail, .. }
            | Self::ProtocolError { peer, detail, .. }
            | Self::PerhapsTaken { peer, detail }
            | Self::TlsHandshake { peer, detail } => vec![text("server", peer), text("detail", detail)],
            Self::TimedOut { peer, .. }
            | Self::StarttlsNotOffered { peer, .. }
            | Self::StarttlsRefused { peer, .. }
            | Self::EightBitNotOffered { peer, .. }
            | Self::SmtpUtf8NotOffered { peer } => vec![text("server", peer)],
            Self::Rejected { peer, reply, .. } => vec![text("server", peer), text("reply", reply)],
            Self::DaneMismatch { peer, failure, .. } => vec![text("server", peer), text("detail", failure)],
            Self::CertificateRejected { peer, failure, .. } => vec![text("server", peer), text("detail", failure)],
            Self::StsMxNotListed { domain, host, .. } => vec![text("server", host), text("domain", domain)],
            Self::DaneRequired { host, because } => vec![text("server", host), text("detail", because)],
            Self::StsRequired { domain, missing } => vec![text("domain", domain), text("detail", &missing.detail)],
            Self::RequireTlsUnmet { host, failure } => {
                let because = match failure {
                    RequireTlsFailure::Tls { cause } => Some(cause.as_ref()),
                    RequireTlsFailure::HostNotProven | RequireTlsFailure::NotOffered { .. } => None,
                };
                vec![text("server", host), ("because", Named::Because(because))]
            }
            Self::EgressFailed { host, failure } => failure.named(host),
            Self::MessageTooLarge { peer, limit, size } => {
                vec![text("server", peer), text("limit", limit), text("size", size)]
            }
            Self::NextHopUnknown { .. } | Self::NotSigned { .. } | Self::ContentDamaged => Vec::new(),
            Self::BouncedByOperator { last } => vec![("because", Named::Because(last.as_deref()))],
            Self::Expired { waited_s, last } => {
                vec![("waited", Named::Span(*waited_s)), ("because", Named::Because(last.as_deref()))]
            }
        }
    }
}

/// One and many of a unit of time.
pub type Unit<'a> = [&'a str; 2];

/// Days, hours, minutes and seconds in English.
pub const UNITS: [Unit<'static>; 4] =
    [["day", "days"], ["hour", "hours"], ["minute", "minutes"], ["second", "seconds"]];

/// A span of time in words: the largest unit that fits, and the next one where it adds something.
#[must_use]
pub fn span(seconds: u64, units: &[Unit<'_>; 4]) -> String {
    let [days, hours, minutes, secs] = units;
    let counts =
        [(seconds / 86_400, days), (seconds / 3600 % 24, hours), (seconds / 60 % 60, minutes), (seconds % 60, secs)];
    let shown = counts.iter().skip_while(|(count, _)| *count == 0).take(2).filter(|(count, _)| *count > 0);
    let words = shown.map(|(count, [one, many])| format!("{count} {}", if *count == 1 { one } else { many }));
    let words = words.collect::<Vec<_>>().join(" ");
    if words.is_empty() { format!("0 {}", secs[1]) } else { words }
}

#[cfg(test)]
mod tests {
    use super::super::every;
    use super::*;

    #[test]
    fn every_cause_gives_the_names_that_its_word_promises() {
        for cause in every::cause() {
            let word = cause.row().word;
            let (_, names) = NAMES.iter().find(|(listed, _)| *listed == word).unwrap_or_else(|| panic!("{word}"));
            let given: Vec<_> = cause.named().into_iter().map(|(name, _)| name).collect();
            assert!(names.iter().all(|name| given.contains(name)), "{word} gives {given:?}");
        }
        let met: Vec<_> = every::cause().iter().map(|cause| cause.row().word).collect();
        assert!(NAMES.iter().all(|(word, _)| met.contains(word)), "a word that no cause has");
    }

    #[test]
    fn spans_of_time_have_at_most_two_units() {
        let said = |seconds| span(seconds, &UNITS);
        assert_eq!(said(0), "0 seconds");
        assert_eq!(said(1), "1 second");
        assert_eq!(said(345_600), "4 days");
        assert_eq!(said(3_600 + 120), "1 hour 2 minutes");
        assert_eq!(said(86_400 + 59), "1 day");
        assert_eq!(said(2 * 86_400 + 3_600 + 1), "2 days 1 hour");
    }
}
