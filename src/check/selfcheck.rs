//! `relay check --self`: whether this host itself is fit to send mail securely, so that the alarm
//! comes before the first user's call. `relay serve` does the same (`service/selfcheck.rs`).
//!
//! Nobody is asked whom the configuration does not name: the egress address is looked at without
//! a packet, its name is looked up by the configured DNS, and port 25 is tried only with controls.
#![expect(clippy::disallowed_methods, reason = "the listener's certificate is read from its file")]

use super::certificate;
use super::controls;
use super::evidence::CertificateEnd;
use super::verdict::Verdict;
use crate::clock::Timestamp;
use crate::config::{Config, TrustAnchorSource};
use crate::deliver::egress::store::CertificateEndsAt;
use crate::pipeline::outbound::Outbound;
use crate::resolve::Security;
use crate::resolve::dnssec::{Anchors, Outcome};
use crate::resolve::driver::Failure;
use crate::resolve::paths::standing::PathStanding;
use crate::resolve::probe::{self, Ask, Transport};
use futures_util::future::join_all;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// Days before the end of the listener's certificate from which on it is worth a warning.
const EXPIRES_SOON_DAYS: i64 = 14;
/// Signatures of the root last three weeks; when they end sooner than this, or have begun less
/// than this ago, the clock is not to be trusted much longer. In seconds.
const CLOCK_MARGIN_S: i64 = 3600;
/// How the detail of a check begins that could not be made.
const NOT_LOOKED_AT: &str = "not looked at";
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SelfCheck {
    /// What: a word from a closed set, for metrics.
    pub check: &'static str,
    /// How it stands.
    pub status: Verdict,
    /// What was seen, in words.
    pub detail: String,
}

impl SelfCheck {
    fn new(check: &'static str, status: Verdict, detail: impl Into<String>) -> Self {
        Self { check, status, detail: detail.into() }
    }

    /// The number for the metric: that of Nagios.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.status.exit_code()
    }
}

/// Looks at everything; the worst status counts.
pub async fn look(out: &Outbound) -> Vec<SelfCheck> {
    let (root, clock, port25) = tokio::join!(root_keys(out), clock(out), port_25(out));
    let named = reverse_dns(out, &egress(&out.config)).await;
    let mut all = vec![resolver(out)];
    all.extend(root);
    all.extend([clock, named, port25, spool(&out.config), listener(&out.config, out.clock.now())]);
    all.extend(client_certificates(&out.egress.certificates(), out.clock.now()));
    all
}

/// The lines for people.
#[must_use]
pub fn text(all: &[SelfCheck]) -> String {
    let worst = worst(all);
    let mut out = format!("{}  this host\n", worst.word());
    for one in all {
        // What was not looked at is not in good order for that.
        let word = if one.detail.starts_with(NOT_LOOKED_AT) { "-" } else { one.status.word() };
        let label = format!("{word:13}{:13}", one.check);
        out += &crate::text::paragraph(&label, &one.detail, label.len());
    }
    out
}

/// The status that counts.
#[must_use]
pub fn worst(all: &[SelfCheck]) -> Verdict {
    all.iter().map(|one| one.status).max_by_key(|status| status.weight()).unwrap_or(Verdict::Ok)
}

/// Whether every path is in good standing after what has been asked.
fn resolver(out: &Outbound) -> SelfCheck {
    let bad: Vec<String> = out
        .dns
        .standings()
        .filter(|(_, standing)| *standing == PathStanding::PutBack)
        .map(|(path, _)| path.to_string())
        .collect();
    if bad.is_empty() {
        return SelfCheck::new("resolver", Verdict::Ok, "no path to the DNS has failed lately");
    }
    SelfCheck::new("resolver", Verdict::Warning, format!("failed lately: {}", bad.join(", ")))
}

/// The root's keys by delivery's own look-up: whether answers come, whether they validate, and
/// whether our anchors are the keys that the root has now (RFC 5011 §2).
async fn root_keys(out: &Outbound) -> Vec<SelfCheck> {
    let lookup = out.dns.find(&Name::root(), RecordType::DNSKEY).await;
    let failed =
        |lookup: &[crate::outcome::PathFailure]| lookup.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match &lookup.result {
        Ok(validated) if validated.security == Security::Secure => {
            let by = lookup.path.as_ref().map(ToString::to_string).unwrap_or_default();
            let status = if lookup.failed.is_empty() { Verdict::Ok } else { Verdict::Warning };
            let mut detail = format!("the root's keys validate, by {by}");
            if !lookup.failed.is_empty() {
                detail += &format!("; not by {}", failed(&lookup.failed));
            }
            let keys = if let Outcome::Found { records, .. } = &validated.outcome { records.as_slice() } else { &[] };
            vec![SelfCheck::new("validation", status, detail), anchors(&out.config, keys)]
        }
        Ok(validated) => {
            let detail = format!("the root's keys come {}, and they are always signed", validated.security.word());
            vec![SelfCheck::new("validation", Verdict::Fault, detail)]
        }
        Err(Failure::Bogus(reason)) => {
            vec![SelfCheck::new("validation", Verdict::Fault, format!("the root's keys do not validate: {reason}"))]
        }
        Err(Failure::Unavailable) => {
            let detail = format!("no answer for the root's keys: {}", failed(&lookup.failed));
            vec![SelfCheck::new("validation", Verdict::Fault, detail)]
        }
    }
}

/// The tags of the keys that are trusted as the root's; none when their file cannot be read.
pub(super) fn trusted_tags(config: &Config) -> Option<Vec<u16>> {
    let anchors = match &config.dns.trust_anchors {
        TrustAnchorSource::Builtin => Some(Anchors::builtin()),
        TrustAnchorSource::File(path) => std::fs::read_to_string(path).ok().and_then(|text| Anchors::parse(&text).ok()),
    };
    anchors.map(|anchors| anchors.key_tags())
}

fn anchors(config: &Config, keys: &[Record]) -> SelfCheck {
    let Some(ours) = trusted_tags(config) else {
        return SelfCheck::new("trust-anchor", Verdict::Fault, "the file of trust anchors cannot be read any more");
    };
    let tags: Vec<u16> = keys.iter().filter_map(probe::key_signing_tag).collect();
    let unknown: Vec<String> = tags.iter().filter(|tag| !ours.contains(tag)).map(ToString::to_string).collect();
    if unknown.is_empty() {
        let known = tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return SelfCheck::new("trust-anchor", Verdict::Ok, format!("the root signs with known keys ({known})"));
    }
    let detail = format!("the root has a key that we do not know: {}; renew [dns] trust_anchors", unknown.join(", "));
    SelfCheck::new("trust-anchor", Verdict::Warning, detail)
}

/// Our clock against the time in which the root's signatures hold (RFC 4034 §3.1.5).
async fn clock(out: &Outbound) -> SelfCheck {
    let servers = probe::servers(&out.config, &out.config.dns.upstreams).unwrap_or_default();
    let Some(server) = servers.first() else {
        return SelfCheck::new(
            "clock",
            Verdict::Ok,
            format!("{NOT_LOOKED_AT}: there is no resolver to ask for the root's keys"),
        );
    };
    let ask = Ask {
        name: Name::root(),
        record_type: RecordType::DNSKEY,
        transport: match server.transport() {
            Transport::Udp => Transport::Udp,
            Transport::Tcp | Transport::Encrypted => Transport::Tcp,
        },
        edns: Some(super::evidence::ORDINARY_PAYLOAD),
        within: out.config.dns.timeout.max(probe::BRIEF),
    };
    let seen = server.ask(&ask, &out.clock).await;
    let Some((from, until)) = seen.signatures else {
        return SelfCheck::new("clock", Verdict::Warning, format!("not known: {} shows no signature", server.name));
    };
    let now = seen.at.unix_seconds();
    let moment = |seconds: u32| Timestamp(i64::from(seconds) * 1000).rfc3339();
    let window = format!("{}; the root's signatures hold from {} to {}", seen.at, moment(from), moment(until));
    if now < i64::from(from) || now > i64::from(until) {
        return SelfCheck::new("clock", Verdict::Fault, format!("wrong: {window}"));
    }
    let near = now - i64::from(from) < CLOCK_MARGIN_S || i64::from(until) - now < CLOCK_MARGIN_S;
    let status = if near { Verdict::Warning } else { Verdict::Ok };
    SelfCheck::new("clock", status, window)
}

/// The addresses that packets to the world leave from, one of each family that has a way there, by
/// the routing table: a datagram socket that is connected sends nothing.
fn egress(config: &Config) -> Vec<IpAddr> {
    let hint = |is: fn(&SocketAddr) -> bool| config.dns.root_hints.iter().copied().find(is);
    [hint(SocketAddr::is_ipv4), hint(SocketAddr::is_ipv6)].into_iter().flatten().filter_map(towards).collect()
}

fn towards(far: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if far.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(far).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The names of the egress addresses, and whether each leads back. Where mail can leave by IPv6,
/// its address counts as well: many servers are stricter there.
pub async fn reverse_dns(out: &Outbound, egress: &[IpAddr]) -> SelfCheck {
    const CHECK: &str = "reverse-dns";
    let outward: Vec<IpAddr> = egress.iter().copied().filter(|address| !is_inward(*address)).collect();
    match (egress.first(), outward.is_empty()) {
        (None, _) => SelfCheck::new(CHECK, Verdict::Warning, "there is no route to the internet"),
        (Some(address), true) => {
            let detail = format!("mail leaves from {address}, which others see as another address: look there");
            SelfCheck::new(CHECK, Verdict::Ok, detail)
        }
        (Some(_), false) => {
            let seen = join_all(outward.into_iter().map(|address| named_address(out, address))).await;
            let status = seen.iter().map(|(status, _)| *status).max_by_key(|status| status.weight());
            let details: Vec<String> = seen.into_iter().map(|(_, detail)| detail).collect();
            SelfCheck::new(CHECK, status.unwrap_or(Verdict::Ok), details.join("; "))
        }
    }
}

async fn named_address(out: &Outbound, address: IpAddr) -> (Verdict, String) {
    let names = records(out, &Name::from(address), RecordType::PTR).await;
    let name = names.iter().find_map(|data| if let RData::PTR(name) = data { Some(name.0.clone()) } else { None });
    let Some(name) = name else {
        return (Verdict::Warning, format!("{address} has no name (PTR): many servers take no mail from it"));
    };
    let kind = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
    let back = records(out, &name, kind).await.iter().any(|data| data.ip_addr() == Some(address));
    let (status, how) = if back { (Verdict::Ok, "and") } else { (Verdict::Warning, "but not") };
    (status, format!("{address} is {name}, {how} back"))
}

async fn records(out: &Outbound, name: &Name, kind: RecordType) -> Vec<RData> {
    match &out.dns.find(name, kind).await.result {
        Ok(validated) => match &validated.outcome {
            Outcome::Found { records, .. } => records.iter().map(|record| record.data.clone()).collect(),
            Outcome::NoData { .. } | Outcome::NxDomain { .. } | Outcome::ErrorCode(_) => Vec::new(),
        },
        Err(Failure::Bogus(_) | Failure::Unavailable) => Vec::new(),
    }
}

/// Addresses that nobody on the internet sees.
fn is_inward(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

async fn port_25(out: &Outbound) -> SelfCheck {
    if out.config.check.controls.is_empty() {
        return SelfCheck::new("port-25", Verdict::Ok, format!("{NOT_LOOKED_AT}: [check] controls names no host"));
    }
    let seen = controls::all(out).await;
    let reached = seen.iter().find(|server| server.cause.is_none());
    match (reached, seen.first()) {
        (Some(server), _) => {
            SelfCheck::new("port-25", Verdict::Ok, format!("{} {} answers", server.host, server.address))
        }
        (None, Some(server)) => {
            let why = server.cause.as_ref().map(crate::outcome::Cause::sentence).unwrap_or_default();
            SelfCheck::new("port-25", Verdict::Fault, format!("no control can be reached: {why}"))
        }
        (None, None) => SelfCheck::new("port-25", Verdict::Warning, "no control has an address"),
    }
}

fn spool(config: &Config) -> SelfCheck {
    let path = &config.spool.path;
    if !path.exists() {
        let detail = format!("{} is not there yet; it is made at the first start", path.display());
        return SelfCheck::new("spool", Verdict::Ok, detail);
    }
    match rustix::fs::statvfs(path) {
        Err(error) => SelfCheck::new("spool", Verdict::Fault, format!("{}: {error}", path.display())),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let enough = free >= config.spool.min_free_bytes;
            let status = if enough { Verdict::Ok } else { Verdict::Fault };
            SelfCheck::new("spool", status, format!("{}: {} MiB free", path.display(), free / 1_048_576))
        }
    }
}

fn listener(config: &Config, now: Timestamp) -> SelfCheck {
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

/// The days that are left to a certificate, and what to think of them.
fn left(not_after: Timestamp, now: Timestamp) -> (i64, Verdict) {
    let days = (not_after.0 - now.0).div_euclid(DAY_MS);
    let status = match days {
        ..0 => Verdict::Fault,
        0..EXPIRES_SOON_DAYS => Verdict::Warning,
        EXPIRES_SOON_DAYS.. => Verdict::Ok,
    };
    (days, status)
}

/// The certificates that destinations show; the one that ends first counts.
fn client_certificates(all: &[CertificateEndsAt], now: Timestamp) -> Option<SelfCheck> {
    const CHECK: &str = "client-cert";
    let first = all.iter().min_by_key(|one| one.at)?;
    let Some(at) = first.at else {
        return Some(SelfCheck::new(CHECK, Verdict::Warning, format!("that of {} cannot be read", first.domains)));
    };
    let (days, status) = left(at, now);
    Some(SelfCheck::new(CHECK, status, format!("that of {} ends in {days} days ({at})", first.domains)))
}

fn first_certificate(path: &Path) -> Option<super::evidence::CertificateSeen> {
    let der = CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?;
    certificate::seen(&der, CertificateEnd::Counts)
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

    #[test]
    fn what_was_not_looked_at_is_not_called_ok() {
        let skipped = SelfCheck::new("port-25", Verdict::Ok, format!("{NOT_LOOKED_AT}: nobody is named"));
        let good = SelfCheck::new("spool", Verdict::Ok, "7 MiB free");
        let text = text(&[skipped, good]);
        let words: Vec<_> = text.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
        assert_eq!(words, ["OK", "-", "OK"], "{text}");
    }
}
