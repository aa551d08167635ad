//! What a first start meets, for `relay setup`: all that `relay check --self` looks at, and beside it
//! whether the relay's name leads to where mail leaves from, whether the records of the operator's
//! domains let that address send (SPF, RFC 7208), and whether the listener's port is free.

use super::port_holder;
use super::selfcheck::{self, NOT_LOOKED_AT, SelfCheck, is_inward};
use super::spf::{self, SpfResult, SpfSeen};
use super::verdict::Verdict;
use crate::pipeline::outbound::Outbound;
use crate::smtp::address::Domain;
use futures_util::future::join_all;
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::IpAddr;

/// Sender domains that are looked at; whoever has more publishes alike.
const DOMAINS_LIMIT: usize = 50;
/// What is called so by whom the listener would be: the relay that runs already is not in its own way.
const OWN_NAME: &str = "relay";

/// What was found.
#[derive(Debug)]
pub struct FirstLook {
    /// One line each.
    pub checks: Vec<SelfCheck>,
    /// The addresses that mail leaves from, as others see them; none where that is not known.
    pub egress: Vec<IpAddr>,
    /// The records of the sender domains, with what they say of the first of these addresses that does not pass.
    pub spf: Vec<(Domain, SpfSeen)>,
}

/// Looks; `egress` is what the operator knows of it, or empty.
pub(super) async fn look(out: &Outbound, egress: &[IpAddr]) -> FirstLook {
    let seen_here = if egress.is_empty() { selfcheck::egress(&out.config) } else { egress.to_vec() };
    let outward: Vec<IpAddr> = seen_here.iter().copied().filter(|address| !is_inward(*address)).collect();
    let domains = out.config.listen.sender_domains.iter().take(DOMAINS_LIMIT);
    let (mut checks, forward, spf) = tokio::join!(
        Box::pin(selfcheck::look_leaving_from(out, &seen_here)),
        forward_name(out, &outward),
        join_all(domains.map(|domain| spf_of(out, domain, &outward))),
    );
    let spf: Vec<(Domain, SpfSeen)> = spf.into_iter().flatten().collect();
    checks.push(forward);
    checks.extend(spf.iter().map(|(domain, seen)| spf_check(domain, seen, &outward)));
    if outward.is_empty() {
        let detail = format!("{NOT_LOOKED_AT}: which address others see is not known here; give --egress");
        checks.push(SelfCheck::new("spf", Verdict::Ok, detail));
    }
    checks.push(listener(out));
    FirstLook { checks, egress: outward, spf }
}

/// Whether the name that other servers see leads to where mail leaves from.
async fn forward_name(out: &Outbound, outward: &[IpAddr]) -> SelfCheck {
    const CHECK: &str = "forward-name";
    let hostname = &out.config.hostname;
    let Ok(name) = Name::from_ascii(hostname.fqdn()) else {
        return SelfCheck::new(CHECK, Verdict::Warning, format!("{hostname} cannot be looked up"));
    };
    let (v4, v6) =
        tokio::join!(selfcheck::records(out, &name, RecordType::A), selfcheck::records(out, &name, RecordType::AAAA));
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
async fn spf_of(out: &Outbound, domain: &Domain, outward: &[IpAddr]) -> Option<(Domain, SpfSeen)> {
    let seen = join_all(outward.iter().map(|address| spf::evaluate(out, domain, *address))).await;
    let bad = seen.iter().find(|seen| seen.result != SpfResult::Pass).cloned();
    Some((domain.clone(), bad.or_else(|| seen.into_iter().next())?))
}

fn spf_check(domain: &Domain, seen: &SpfSeen, outward: &[IpAddr]) -> SelfCheck {
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

fn listener(out: &Outbound) -> SelfCheck {
    const CHECK: &str = "port-here";
    match port_holder::driver::in_the_way_of(&out.config.listen.smtp) {
        None => SelfCheck::new(CHECK, Verdict::Ok, "the address of [listen] smtp is free"),
        Some(holder) if holder.process.as_ref().is_some_and(|process| process.name == OWN_NAME) => {
            SelfCheck::new(CHECK, Verdict::Ok, format!("a relay listens at {} already", holder.at))
        }
        Some(holder) => SelfCheck::new(CHECK, Verdict::Fault, holder.sentence()),
    }
}
