//! The hosts that the configuration names: next hops, as those of an Exchange organisation, and the policy
//! host of a domain whose policy is known. They are greeted and left; no message is begun.

use super::SelfCheck;
use crate::check::smtp;
use crate::check::verdict::Verdict;
use crate::deliver::Target;
use crate::outcome::{Cause, Peer};
use crate::pipeline::outbound::Outbound;
use crate::policy::{TlsPolicy, WhyOpportunistic};
use crate::resolve::HostAddresses;
use crate::route::{self, NextHop, Route};
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Next hops that are looked at; a list in the configuration has up to sixteen.
const HOPS_LIMIT: usize = 16;
/// How long a connection to a policy host may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Every next hop that the configuration names: connect, EHLO, and what it offers.
pub(super) async fn next_hops(out: &Outbound) -> SelfCheck {
    const CHECK: &str = "next-hops";
    let config = &out.config;
    let named = config.destination.iter().filter_map(|destination| destination.next_hop.as_ref());
    let mut hops: Vec<NextHop> = Vec::new();
    for hop in named.map(|hops| route::named(hops, config.delivery.port)) {
        for single in (Route { hop, rule: None }).in_turn(0, |_hop| false) {
            if !hops.contains(&single.hop) {
                hops.push(single.hop);
            }
        }
    }
    if hops.is_empty() {
        return SelfCheck::not_looked_at(CHECK, "no [[destination]] names a next_hop");
    }
    let seen = join_all(hops.iter().take(HOPS_LIMIT).map(|hop| greeted(out, hop))).await;
    let is_bad = seen.iter().any(Result::is_err);
    let details = seen.into_iter().map(|one| one.unwrap_or_else(|bad| bad)).collect::<Vec<_>>().join("; ");
    SelfCheck::new(CHECK, if is_bad { Verdict::Fault } else { Verdict::Ok }, details)
}

/// What it offers, or what is wrong with it.
async fn greeted(out: &Outbound, hop: &NextHop) -> Result<String, String> {
    let resolution = out.resolve(hop, 0).await.map_err(|cause| format!("{hop}: {}", cause.sentence()))?;
    let mut last = format!("{hop}: it has no address");
    for host in &resolution.hosts {
        let HostAddresses::Known(addresses) = &host.addresses else { continue };
        let Some(address) = addresses.first().map(|address| SocketAddr::new(*address, resolution.port)) else {
            continue;
        };
        match probe(out, &host.name, address).await {
            None => {
                let said = smtp::look(&*out.network, address, out.config.hostname.as_str()).await;
                let keywords: Vec<&str> =
                    said.ehlo.iter().skip(1).filter_map(|line| line.split_ascii_whitespace().next()).collect();
                return Ok(format!("{hop} answers and offers {}", keywords.join(", ")));
            }
            Some(cause) => last = format!("{hop}: {}", cause.sentence()),
        }
    }
    Err(last)
}

async fn probe(out: &Outbound, host: &str, address: SocketAddr) -> Option<Cause> {
    let target = Target {
        peer: Peer { host: host.to_owned(), address },
        policy: TlsPolicy::Opportunistic { because: WhyOpportunistic::ReportOnly },
        watched: None,
        require_tls: false,
        egress: Arc::default(),
    };
    out.mailer.probe(&target).await.failure
}

/// Port 443 to the policy host of a domain whose policy is kept: whether policies can be fetched at all.
pub(super) async fn policy_host(out: &Outbound) -> SelfCheck {
    const CHECK: &str = "policy-host";
    let Some(domain) = out.sts.one_known() else {
        return SelfCheck::not_looked_at(CHECK, "no domain with an MTA-STS policy is known from earlier mail");
    };
    let (host, port) = (format!("mta-sts.{domain}"), out.config.mta_sts.port);
    let Ok(name) = host.parse() else { return SelfCheck::not_looked_at(CHECK, "its name is no host name") };
    let hop = NextHop::Host { name, port };
    let resolution = match out.resolve(&hop, 0).await {
        Ok(resolution) => resolution,
        Err(cause) => return SelfCheck::new(CHECK, Verdict::Warning, format!("{host}: {}", cause.sentence())),
    };
    let addresses = resolution.hosts.iter().filter_map(|host| match &host.addresses {
        HostAddresses::Known(addresses) => addresses.first(),
        HostAddresses::Unavailable(_) => None,
    });
    let Some(address) = addresses.map(|address| SocketAddr::new(*address, port)).next() else {
        return SelfCheck::new(CHECK, Verdict::Warning, format!("{host} has no address"));
    };
    match timeout(CONNECT_PATIENCE, out.network.connect(address)).await {
        Ok(Ok(_connection)) => SelfCheck::new(CHECK, Verdict::Ok, format!("{host} {address} accepts connections")),
        Ok(Err(error)) => SelfCheck::new(CHECK, Verdict::Warning, format!("{host} {address}: {error}")),
        Err(_elapsed) => SelfCheck::new(
            CHECK,
            Verdict::Warning,
            format!(
                "{host} {address} accepts no connection: policies can not be fetched if port {port} is closed here"
            ),
        ),
    }
}
