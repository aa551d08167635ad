//! `relay check --self`: whether this host itself is fit to send mail securely, so that the alarm
//! comes before the first user's call. `relay serve` does the same (`service/selfcheck.rs`).
//!
//! Nobody is asked whom the configuration does not name or mail has not gone to: the egress address is looked
//! at without a packet, its name and SPF are looked up by the configured DNS, port 25 is tried only with
//! controls and named next hops, port 443 with the policy host of a domain that mail went to.
#![expect(clippy::disallowed_methods, reason = "the trust anchors are read from their file")]

mod disk;
mod dns;
mod ends;
mod hops;
pub(super) mod names;
pub mod sender;

use super::controls;
use super::verdict::Verdict;
use crate::clock::Timestamp;
use crate::config::{Config, TrustAnchorSource};
use crate::pipeline::outbound::Outbound;
use crate::resolve::Security;
use crate::resolve::dnssec::{Anchors, Outcome};
use crate::resolve::driver::LookupFailure;
use crate::resolve::probe::{self, ProbeQuestion, ProbeTransport};
use futures_util::future::join_all;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Signatures of the root last three weeks; when they end sooner than this, or have begun less
/// than this ago, the clock is not to be trusted much longer. In seconds.
const CLOCK_MARGIN_S: i64 = 3000;
/// The number of what nobody has looked at: neither well nor ill.
const NOT_LOOKED_AT: u8 = 4;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SelfCheck {
    /// What: a word from a closed set, for metrics.
    pub check: &'static str,
    /// Whether it is as it must be.
    pub status: Verdict,
    /// Whether it was looked at; if not, the detail says why, and the status means nothing.
    pub looked_at: bool,
    /// What was seen, in words.
    pub detail: String,
}

impl SelfCheck {
    pub(super) fn new(check: &'static str, status: Verdict, detail: impl Into<String>) -> Self {
        Self { check, status, looked_at: true, detail: detail.into() }
    }

    pub(super) fn not_looked_at(check: &'static str, why: &str) -> Self {
        Self { check, status: Verdict::Ok, looked_at: false, detail: format!("not looked at: {why}") }
    }

    /// The number for the metric: that of Nagios, and 4 for what was not looked at.
    #[must_use]
    pub const fn number(&self) -> u8 {
        if self.looked_at { self.status.exit_code() } else { NOT_LOOKED_AT }
    }
}

/// Looks at everything; the worst status counts.
pub async fn look(out: &Outbound) -> Vec<SelfCheck> {
    let egress = egress(&out.config);
    let (mut all, names, alignment) = tokio::join!(
        Box::pin(look_leaving_from(out, &egress)),
        Box::pin(names::look(out, &egress)),
        Box::pin(sender::self_check(out, &egress)),
    );
    all.extend(names);
    all.push(alignment);
    all
}

/// The same, with the addresses that mail leaves from as others see them.
pub(super) async fn look_leaving_from(out: &Outbound, egress: &[IpAddr]) -> Vec<SelfCheck> {
    let now = out.clock.now();
    let (root, clock, port25, canary, history, hops, policy_host) = tokio::join!(
        Box::pin(root_keys(out)),
        Box::pin(clock(out)),
        Box::pin(port_25(out)),
        Box::pin(dns::canary(out)),
        Box::pin(dns::own_history(out)),
        Box::pin(hops::next_hops(out)),
        Box::pin(hops::policy_host(out)),
    );
    let named = reverse_dns(out, egress).await;
    // After all the questions: what they came to counts.
    let mut all = vec![dns::resolver(out), canary, history];
    all.extend(root);
    let spool = disk::look(&out.config.spool, now);
    all.extend([clock, named, port25, hops, policy_host, spool, ends::listeners(&out.config, now)]);
    all.extend(ends::client_certificates(&out.egress.certificates(), now));
    all.extend(ends::exceptions(out, now));
    all
}

/// Looks at the canary zone alone. That some of its sets do not come is believed when it is seen twice: a
/// packet may be lost.
pub async fn look_at_canary(out: &Outbound) -> SelfCheck {
    let seen = Box::pin(dns::canary(out)).await;
    if seen.status == Verdict::Fault { Box::pin(dns::canary(out)).await } else { seen }
}

/// The lines for people.
#[must_use]
pub fn text(all: &[SelfCheck]) -> String {
    let worst = worst(all);
    let mut out = format!("{}  this host\n", worst.word());
    for one in all {
        // What was not looked at is not in good order for that.
        let word = if one.looked_at { one.status.word() } else { "-" };
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
        Err(LookupFailure::Bogus(reason)) => {
            vec![SelfCheck::new("validation", Verdict::Fault, format!("the root's keys do not validate: {reason}"))]
        }
        Err(LookupFailure::Unavailable) => {
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
        return SelfCheck::not_looked_at("clock", "there is no resolver to ask for the root's keys");
    };
    let ask = ProbeQuestion {
        name: Name::root(),
        record_type: RecordType::DNSKEY,
        transport: match server.transport() {
            ProbeTransport::Udp => ProbeTransport::Udp,
            ProbeTransport::Tcp | ProbeTransport::Encrypted => ProbeTransport::Tcp,
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
pub(super) fn egress(config: &Config) -> Vec<IpAddr> {
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

pub(super) async fn records(out: &Outbound, name: &Name, kind: RecordType) -> Vec<RData> {
    match &out.dns.find(name, kind).await.result {
        Ok(validated) => match &validated.outcome {
            Outcome::Found { records, .. } => records.iter().map(|record| record.data.clone()).collect(),
            Outcome::NoData { .. } | Outcome::NxDomain { .. } | Outcome::ErrorCode(_) => Vec::new(),
        },
        Err(LookupFailure::Bogus(_) | LookupFailure::Unavailable) => Vec::new(),
    }
}

/// Addresses that nobody on the internet sees.
pub(super) fn is_inward(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

async fn port_25(out: &Outbound) -> SelfCheck {
    if out.config.check.controls.is_empty() {
        return SelfCheck::not_looked_at("port-25", "[check] controls names no host");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_looked_at_is_not_called_ok() {
        let skipped = SelfCheck::not_looked_at("port-25", "nobody is named");
        let good = SelfCheck::new("spool", Verdict::Ok, "7 MiB free");
        let text = text(&[skipped, good]);
        let words: Vec<_> = text.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
        assert_eq!(words, ["OK", "-", "OK"], "{text}");
    }
}
