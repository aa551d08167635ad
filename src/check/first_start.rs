//! What a first start meets, for `relay setup`: all that `relay check --self` looks at, and beside it
//! whether the relay's name leads to where mail leaves from, whether the records of the operator's
//! domains let that address send (SPF, RFC 7208), and whether the listener's port is free.

use super::port_holder;
use super::selfcheck::names::{forward_name, spf_check, spf_of};
use super::selfcheck::{self, SelfCheck, is_inward};
use super::spf::SpfSeen;
use super::verdict::Verdict;
use crate::pipeline::outbound::Outbound;
use crate::smtp::address::Domain;
use futures_util::future::join_all;
use std::net::IpAddr;

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
    let domains = out.config.listen.sender_domains.iter().take(selfcheck::names::DOMAINS_LIMIT);
    let (mut checks, forward, spf) = tokio::join!(
        Box::pin(selfcheck::look_leaving_from(out, &seen_here)),
        forward_name(out, &outward),
        join_all(domains.map(|domain| spf_of(out, domain, &outward))),
    );
    let spf: Vec<(Domain, SpfSeen)> = spf.into_iter().flatten().collect();
    checks.push(forward);
    checks.extend(spf.iter().map(|(domain, seen)| spf_check(domain, seen, &outward)));
    if outward.is_empty() {
        checks.push(SelfCheck::not_looked_at("spf", "which address others see is not known here; give --egress"));
    }
    checks.push(listener(out));
    FirstLook { checks, egress: outward, spf }
}

fn listener(out: &Outbound) -> SelfCheck {
    const CHECK: &str = "port-here";
    match port_holder::driver::in_the_way_of(&out.config.smtp_addresses()) {
        None => SelfCheck::new(CHECK, Verdict::Ok, "the address of [listen] smtp is free"),
        Some(holder) if holder.process.as_ref().is_some_and(|process| process.name == OWN_NAME) => {
            SelfCheck::new(CHECK, Verdict::Ok, format!("a relay listens at {} already", holder.at))
        }
        Some(holder) => SelfCheck::new(CHECK, Verdict::Fault, holder.sentence()),
    }
}
