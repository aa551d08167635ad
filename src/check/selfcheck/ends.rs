//! What ends by itself: the certificates that this relay shows, and weakenings by the operator.

use super::SelfCheck;
use crate::check::certificate;
use crate::check::evidence::{CertificateEnd, CertificateSeen};
use crate::check::verdict::Verdict;
use crate::clock::Timestamp;
use crate::config::{ClientTls, Config, Destination, LastDay};
use crate::deliver::egress::store::CertificateEndsAt;
use crate::pipeline::outbound::Outbound;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::{Path, PathBuf};

/// Days before the end of something from which on it is worth a warning.
const SOON_DAYS: i64 = 14;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// The certificates that clients see at all listeners; the one that ends first counts, and before it one that
/// cannot be read.
pub(super) fn listeners(config: &Config, now: Timestamp) -> SelfCheck {
    const CHECK: &str = "certificate";
    let all = shown_to_clients(config);
    let unreadable = all.iter().find(|(_, seen)| seen.is_err());
    if let Some((at, Err(path))) = unreadable {
        return SelfCheck::new(CHECK, Verdict::Fault, format!("{} holds no certificate{at}", path.display()));
    }
    let readable = all.iter().filter_map(|(at, seen)| Some((at, seen.as_ref().ok()?)));
    let Some((at, first)) = readable.min_by_key(|(_, seen)| seen.not_after) else {
        return SelfCheck::new(CHECK, Verdict::Ok, "self-signed, made by the relay");
    };
    let (days, status) = left(first.not_after, now);
    SelfCheck::new(CHECK, status, format!("{} ends in {days} days ({}){at}", first.subject, first.not_after))
}

/// What the files of certificates hold, or which of them hold none; with the listener, where it is not that of
/// `[listen]`. One that several listeners show is there once.
fn shown_to_clients(config: &Config) -> Vec<(String, Result<CertificateSeen, PathBuf>)> {
    let open = config.listeners().into_iter().filter(|one| !one.addresses.is_empty() && one.tls != ClientTls::Off);
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for listener in open {
        let further = listener.certificates.into_iter().map(|pair| pair.certificate);
        for file in listener.certificate.into_iter().chain(further) {
            if !files.iter().any(|(_, met)| *met == file) {
                let at = if listener.name.is_empty() { String::new() } else { format!(" at {}", listener.name) };
                files.push((at, file));
            }
        }
    }
    files.into_iter().map(|(at, file)| (at, first_certificate(&file).ok_or(file))).collect()
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
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn of_the_certificates_of_all_listeners_the_one_that_ends_first_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, year: i32| {
            let mut params = CertificateParams::new([format!("{name}.example")]).unwrap();
            params.not_after = date_time_ymd(year, 1, 1);
            let path = folder.path().join(format!("{name}.pem"));
            std::fs::write(&path, params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
            path
        };
        let [house, sub, named] = [file("house", 2040), file("sub", 2039), file("named", 2038)];
        let now = Timestamp(date_time_ymd(2037, 12, 25).unix_timestamp() * 1000);
        let look = |text: &str| {
            let one = listeners(&Config::parse(text, Path::new("t")).unwrap(), now);
            (one.status, one.detail)
        };
        let (status, detail) = look("");
        assert_eq!((status, detail.as_str()), (Verdict::Ok, "self-signed, made by the relay"));
        let of_listen = format!("[listen]\ncertificate = {house:?}\nprivate_key = {house:?}\n");
        let (status, detail) = look(&of_listen);
        assert!(status == Verdict::Ok && detail.ends_with("(2040-01-01T00:00:00Z)"), "{detail}");
        let door = "[[listener]]\nname = \"submission\"\naddresses = [\"127.0.0.1:1587\"]\nclients = [\"::1\"]\n";
        let own = format!("{of_listen}{door}certificate = {sub:?}\nprivate_key = {sub:?}\n");
        let (status, detail) = look(&own);
        assert!(status == Verdict::Ok && detail.contains("2039") && detail.ends_with(" at submission"), "{detail}");
        let further =
            |file: &Path| format!("{own}certificates = [{{ certificate = {file:?}, private_key = {file:?} }}]\n");
        let (status, detail) = look(&further(&named));
        assert!(status == Verdict::Warning && detail.contains("ends in 7 days"), "{detail}");
        std::fs::write(&sub, "nothing").unwrap();
        let (status, detail) = look(&further(&named));
        assert!(status == Verdict::Fault && detail.ends_with("sub.pem holds no certificate at submission"), "{detail}");
        let (status, _) = look(&format!("{own}tls = \"off\"\n"));
        assert_eq!(status, Verdict::Ok, "nobody sees it");
    }

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
