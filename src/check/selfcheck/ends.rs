//! What ends by itself: the certificates that this relay shows, and weakenings by the operator.

use super::SelfCheck;
use crate::check::certificate;
use crate::check::evidence::{CertificateEnd, CertificateSeen};
use crate::check::verdict::Verdict;
use crate::clock::Timestamp;
use crate::config::{Config, Destination, LastDay};
use crate::deliver::egress::store::CertificateEndsAt;
use crate::pipeline::outbound::Outbound;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;

/// Days before the end of something from which on it is worth a warning.
const SOON_DAYS: i64 = 14;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// The certificate that clients see.
pub(super) fn listener(config: &Config, now: Timestamp) -> SelfCheck {
    const CHECK: &str = "certificate";
    let Some(path) = &config.listen.certificate else {
        return SelfCheck::new(CHECK, Verdict::Ok, "self-signed, made by the relay");
    };
    let Some(seen) = first_certificate(path) else {
        return SelfCheck::new(CHECK, Verdict::Fault, format!("{} holds no certificate", path.display()));
    };
    let (days, status) = left(seen.not_after, now);
    SelfCheck::new(CHECK, status, format!("{} ends in {days} days ({})", seen.subject, seen.not_after))
}

/// The days that are left, and what to think of them.
fn left(not_after: Timestamp, now: Timestamp) -> (i64, Verdict) {
    let days = (not_after.0 - now.0).div_euclid(DAY_MS);
    let status = match days {
        ..0 => Verdict::Fault,
        0..SOON_DAYS => Verdict::Warning,
        SOON_DAYS.. => Verdict::Ok,
    };
    (days, status)
}

/// The certificates that destinations show; the one that ends first counts.
pub(super) fn client_certificates(all: &[CertificateEndsAt], now: Timestamp) -> Option<SelfCheck> {
    const CHECK: &str = "client-cert";
    let first = all.iter().min_by_key(|one| one.at)?;
    let Some(at) = first.at else {
        return Some(SelfCheck::new(CHECK, Verdict::Warning, format!("that of {} cannot be read", first.domains)));
    };
    let (days, status) = left(at, now);
    Some(SelfCheck::new(CHECK, status, format!("that of {} ends in {days} days ({at})", first.domains)))
}

fn first_certificate(path: &Path) -> Option<CertificateSeen> {
    let der = CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?;
    certificate::seen(&der, CertificateEnd::Counts)
}

/// Weakenings that end soon: what they let through waits from that day on.
pub(super) fn exceptions(out: &Outbound, now: Timestamp) -> Option<SelfCheck> {
    const CHECK: &str = "exceptions";
    let destinations = &out.config.destination;
    let in_force = destinations
        .iter()
        .enumerate()
        .filter(|(index, _)| out.exceptions.rule(now, Some(*index), destinations).exception.is_some());
    let in_force: Vec<&Destination> = in_force.map(|(_, destination)| destination).collect();
    if in_force.is_empty() {
        return None;
    }
    let days = |last: LastDay| (last.end().0 - now.0).div_euclid(DAY_MS);
    let ending = in_force.iter().filter_map(|destination| Some((destination, days(destination.until?))));
    let named =
        |destination: &Destination| destination.domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let soon: Vec<String> = ending
        .filter(|(_, days)| *days < SOON_DAYS)
        .map(|(destination, days)| format!("that of {} ends in {days} days", named(destination)))
        .collect();
    let count = in_force.len();
    Some(if soon.is_empty() {
        SelfCheck::new(CHECK, Verdict::Ok, format!("{count} in force, none ends within {SOON_DAYS} days"))
    } else {
        SelfCheck::new(CHECK, Verdict::Warning, soon.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_certificate_that_ends_soon_is_warned_of() {
        let at =
            |days: i64| CertificateEndsAt { domains: format!("d{days}.example"), at: Some(Timestamp(days * DAY_MS)) };
        let status = |all: &[CertificateEndsAt]| client_certificates(all, Timestamp(0)).map(|one| one.status);
        assert_eq!(status(&[]), None);
        assert_eq!(status(&[at(40), at(20)]), Some(Verdict::Ok));
        assert_eq!(status(&[at(40), at(13)]), Some(Verdict::Warning));
        assert_eq!(status(&[at(40), at(-1)]), Some(Verdict::Fault));
        let detail = client_certificates(&[at(40), at(13)], Timestamp(0)).unwrap().detail;
        assert!(detail.contains("d13.example ends in 13 days"), "{detail}");
    }
}
