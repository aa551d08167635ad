//! Names and sender domains: whether the relay's own name leads to where mail leaves from, and whether the
//! records of the operator's domains let that address send (SPF, RFC 7208).

use super::{SelfCheck, is_inward, records};
use crate::check::spf::{self, SpfResult, SpfSeen};
use crate::check::verdict::Verdict;
use crate::pipeline::outbound::Outbound;
use crate::smtp::address::Domain;
use futures_util::future::join_all;
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::IpAddr;

/// Sender domains that are looked at; whoever has more publishes alike.
pub(in crate::check) const DOMAINS_LIMIT: usize = 50;

/// Both, for the addresses that others see.
pub(super) async fn look(out: &Outbound, egress: &[IpAddr]) -> Vec<SelfCheck> {
    let outward: Vec<IpAddr> = egress.iter().copied().filter(|address| !is_inward(*address)).collect();
    if outward.is_empty() {
        let why = "the address that others see is not one of this host's";
        return ["forward-name", "spf"].map(|check| SelfCheck::not_looked_at(check, why)).into();
    }
    let domains = out.config.listen.sender_domains.iter().take(DOMAINS_LIMIT);
    let (forward, spf) =
        tokio::join!(forward_name(out, &outward), join_all(domains.map(|domain| spf_of(out, domain, &outward))));
    let spf: Vec<SelfCheck> = spf.iter().flatten().map(|(domain, seen)| spf_check(domain, seen, &outward)).collect();
    // One word, one line: the domain that is worst off counts.
    let worst = spf.into_iter().max_by_key(|one| one.status.weight());
    let none = || SelfCheck::not_looked_at("spf", "[listen] sender_domains names no domain");
    vec![forward, worst.unwrap_or_else(none)]
}

/// Whether the name that other servers see leads to where mail leaves from.
pub(in crate::check) async fn forward_name(out: &Outbound, outward: &[IpAddr]) -> SelfCheck {
    const CHECK: &str = "forward-name";
    let hostname = &out.config.hostname;
    let Ok(name) = Name::from_ascii(hostname.fqdn()) else {
        return SelfCheck::new(CHECK, Verdict::Warning, format!("{hostname} cannot be looked up"));
    };
    let (v4, v6) = tokio::join!(records(out, &name, RecordType::A), records(out, &name, RecordType::AAAA));
    let found: Vec<IpAddr> = v4.iter().chain(&v6).filter_map(RData::ip_addr).collect();
    let listed = |all: &[IpAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if found.is_empty() {
        let detail = format!("{hostname} has no address in the DNS: other servers look it up when they are greeted");
        return SelfCheck::new(CHECK, Verdict::Warning, detail);
    }
    let missing: Vec<IpAddr> = outward.iter().copied().filter(|address| !found.contains(address)).collect();
    if missing.is_empty() {
        return SelfCheck::new(CHECK, Verdict::Ok, format!("{hostname} leads to {}", listed(&found)));
    }
    let detail = format!("{hostname} leads to {}, and mail leaves from {}", listed(&found), listed(&missing));
    SelfCheck::new(CHECK, Verdict::Warning, detail)
}

/// With several addresses the one that is worst off counts.
pub(in crate::check) async fn spf_of(out: &Outbound, domain: &Domain, outward: &[IpAddr]) -> Option<(Domain, SpfSeen)> {
    let seen = join_all(outward.iter().map(|address| spf::evaluate(out, domain, *address))).await;
    let bad = seen.iter().find(|seen| seen.result != SpfResult::Pass).cloned();
    Some((domain.clone(), bad.or_else(|| seen.into_iter().next())?))
}

/// What it means for mail.
pub(in crate::check) fn spf_check(domain: &Domain, seen: &SpfSeen, outward: &[IpAddr]) -> SelfCheck {
    let from = outward.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let (status, words) = match &seen.result {
        SpfResult::Pass => (Verdict::Ok, format!("lets mail leave from {from}")),
        SpfResult::Fail => (Verdict::Fault, format!("forbids mail from {from} (-all): receivers will refuse it")),
        SpfResult::SoftFail => (Verdict::Warning, format!("does not know {from} (~all): its mail may be called spam")),
        SpfResult::Neutral => (Verdict::Warning, format!("says nothing of {from}")),
        SpfResult::NoRecord => (Verdict::Warning, "has no SPF record: some receivers take no mail of it".to_owned()),
        SpfResult::Invalid(why) => (Verdict::Fault, format!("has a faulty SPF record: {why}")),
        SpfResult::Unavailable(why) => (Verdict::Inconclusive, format!("not known: {why}")),
        SpfResult::Depends(why) => {
            (Verdict::Inconclusive, format!("not known: \"{why}\" depends on more than the address"))
        }
    };
    SelfCheck::new("spf", status, format!("{domain} {words}"))
}
