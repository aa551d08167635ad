//! The hosts that the configuration names: next hops, as those of an Exchange organisation, and the policy
//! host of a domain whose policy is known. They are greeted and left; no message is begun.

use super::SelfCheck;
use crate::check::negotiated::keywords;
use crate::check::verdict::Verdict;
use crate::config::Destination;
use crate::deliver::Target;
use crate::deliver::driver::Probe;
use crate::deliver::egress::Egress;
use crate::outcome::{Peer, TlsVerdict};
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

/// A next hop that a destination names.
#[derive(PartialEq, Eq)]
struct NamedHop {
    hop: NextHop,
    /// When TLS begins and where the connection comes from. Nobody logs in for a look.
    egress: Arc<Egress>,
    /// Whether the destination sends nothing there without TLS.
    needs_tls: bool,
}

/// Every next hop that the configuration names: connect, EHLO, and what it offers.
pub(super) async fn next_hops(out: &Outbound) -> SelfCheck {
    const CHECK: &str = "next-hops";
    let mut hops: Vec<NamedHop> = Vec::new();
    for (rule, destination) in out.config.destination.iter().enumerate() {
        for named in named_by(out, rule, destination) {
            if !hops.contains(&named) {
                hops.push(named);
            }
        }
    }
    if hops.is_empty() {
        return SelfCheck::not_looked_at(CHECK, "no [[destination]] names a next_hop");
    }
    let seen = join_all(hops.iter().take(HOPS_LIMIT).map(|named| greeted(out, named))).await;
    let is_bad = seen.iter().any(Result::is_err);
    let details = seen.into_iter().map(|one| one.unwrap_or_else(|bad| bad)).collect::<Vec<_>>().join("; ");
    SelfCheck::new(CHECK, if is_bad { Verdict::Fault } else { Verdict::Ok }, details)
}

fn named_by(out: &Outbound, rule: usize, destination: &Destination) -> Vec<NamedHop> {
    let Some(hops) = &destination.next_hop else { return Vec::new() };
    let needs_tls = destination.login.is_some() || destination.tls.is_some_and(|level| !level.weakens());
    let egress = Arc::new(Egress { login: None, ..Egress::clone(&out.egress.of(Some(rule))) });
    let route = Route { hop: route::named(hops, out.config.delivery.port), rule: None };
    let singles = route.in_turn(0, |_hop| false).into_iter();
    singles.map(|single| NamedHop { hop: single.hop, egress: Arc::clone(&egress), needs_tls }).collect()
}

/// What it offers, or what is wrong with it.
async fn greeted(out: &Outbound, named: &NamedHop) -> Result<String, String> {
    let hop = &named.hop;
    let resolution = out.resolve(hop, 0).await.map_err(|cause| format!("{hop}: {}", cause.sentence()))?;
    let mut last = format!("{hop}: it has no address");
    for host in &resolution.hosts {
        let HostAddresses::Known(addresses) = &host.addresses else { continue };
        let Some(address) = addresses.first().map(|address| SocketAddr::new(*address, resolution.port)) else {
            continue;
        };
        let seen = probe(out, named, Peer { host: host.name.clone(), address }).await;
        let version = seen.tls.as_ref().and_then(TlsVerdict::version);
        match (&seen.failure, version) {
            (Some(cause), _) => last = format!("{hop}: {}", cause.sentence()),
            (None, None) if named.needs_tls => {
                last = format!("{hop} answers without TLS, and its [[destination]] sends nothing there in clear text");
            }
            (None, version) => {
                let tls = version.map_or_else(|| "without TLS".to_owned(), |version| format!("with {version}"));
                return Ok(format!("{hop} answers {tls} and offers {}", keywords(&seen.offered).join(", ")));
            }
        }
    }
    Err(last)
}

async fn probe(out: &Outbound, named: &NamedHop, peer: Peer) -> Probe {
    let target = Target {
        peer,
        policy: TlsPolicy::Opportunistic { because: WhyOpportunistic::ReportOnly },
        watched: None,
        require_tls: false,
        egress: Arc::clone(&named.egress),
    };
    out.mailer.probe(&target).await
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
