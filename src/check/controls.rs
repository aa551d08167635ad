//! The mail servers of others, asked as the domain's are and only where the operator names them:
//! whether port 25 is open at all, and whether greeting and certificate there look the same.

use super::certificate;
use super::evidence::{CertificateEnd, ServerSeen};
use super::negotiated;
use super::smtp;
use crate::clock::Clock;
use crate::config::Config;
use crate::deliver::Target;
use crate::deliver::driver::{Mailer, Probe};
use crate::outcome::{Cause, Peer};
use crate::pipeline::outbound::Outbound;
use crate::policy::{TlsPolicy, WhyOpportunistic};
use crate::resolve::HostAddresses;
use crate::resolve::mail::resolve_named_host;
use crate::smtp::address::Domain;
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::sync::Arc;

/// Controls that are asked: two already show whether the world looks the same.
const CONTROLS_LIMIT: usize = 2;
/// Addresses of a control: one of each family, for a host may lack one.
const CONTROL_ADDRESSES: usize = 2;
/// Addresses of the domain that are looked at a second time, for what they say in clear.
const LOOKED_AT_LIMIT: usize = 4;

/// Whether a failure may be the work of a box on the way to port 25.
const fn may_be_a_box(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::ConnectFailed { .. }
            | Cause::TimedOut { .. }
            | Cause::ConnectionLost { .. }
            | Cause::ProtocolError { .. }
            | Cause::Rejected { .. }
            | Cause::StarttlsNotOffered { .. }
            | Cause::StarttlsRefused { .. }
            | Cause::TlsHandshake { .. }
            | Cause::DaneMismatch { .. }
            | Cause::CertificateRejected { .. }
    )
}

/// Adds to the servers of a domain that failed what they say in clear, and the controls, which may
/// have been asked already.
pub(super) async fn look_closer(
    out: &Outbound,
    servers: Vec<ServerSeen>,
    asked: Option<Vec<ServerSeen>>,
) -> Vec<ServerSeen> {
    let failed = |server: &ServerSeen| server.cause.as_ref().is_some_and(may_be_a_box);
    if !servers.iter().any(failed) {
        return servers;
    }
    let hostname = out.config.hostname.to_string();
    let looked = servers.into_iter().enumerate().map(|(nth, server)| {
        let hostname = &hostname;
        async move {
            if !failed(&server) || nth >= LOOKED_AT_LIMIT || never_connected(&server) {
                return server;
            }
            let Ok(address) = server.address.parse() else { return server };
            let said = smtp::look(&*out.network, address, hostname).await;
            ServerSeen { greeting: said.greeting, ehlo: said.ehlo, ..server }
        }
    });
    let controls = async {
        match asked {
            Some(asked) => asked,
            None => all(out).await,
        }
    };
    let (mut seen, controls) = tokio::join!(join_all(looked), controls);
    seen.extend(controls);
    seen
}

/// The controls alone.
pub(super) async fn all(out: &Outbound) -> Vec<ServerSeen> {
    let controls = out.config.check.controls.iter().take(CONTROLS_LIMIT);
    let seen = join_all(controls.map(|host| control(out, host, &out.clock, &out.config))).await;
    seen.into_iter().flatten().collect()
}

fn never_connected(server: &ServerSeen) -> bool {
    matches!(
        server.cause,
        Some(Cause::ConnectFailed { .. } | Cause::TimedOut { phase: crate::outcome::Phase::Connect, .. })
    )
}

/// The control at the first of its addresses that answers, or else at its first.
async fn control(out: &Outbound, host: &Domain, clock: &Clock, config: &Config) -> Option<ServerSeen> {
    let resolution = resolve_named_host(&out.dns, host, config.delivery.port).await.ok()?;
    let HostAddresses::Known(addresses) = &resolution.hosts.first()?.addresses else { return None };
    let in_turn = out.mailer.ways_out(&resolution).in_turn(addresses).into_iter().take(CONTROL_ADDRESSES);
    let addresses = in_turn.map(|address| SocketAddr::new(address, config.delivery.port));
    let seen = join_all(addresses.map(|address| control_at(out, host, address, clock))).await;
    seen.iter().find(|server| server.cause.is_none()).or_else(|| seen.first()).cloned()
}

async fn control_at(out: &Outbound, host: &Domain, address: SocketAddr, clock: &Clock) -> ServerSeen {
    let (at, hostname) = (clock.now(), out.config.hostname.as_str());
    let (said, probe) = tokio::join!(smtp::look(&*out.network, address, hostname), probe(&out.mailer, host, address));
    let (cause, certificate) = (probe.failure.clone(), probe.certificates.first());
    ServerSeen {
        host: host.to_string(),
        address: address.to_string(),
        control: true,
        at,
        greeting: said.greeting,
        ehlo: said.ehlo,
        tls: cause.is_none() && certificate.is_some(),
        negotiated: negotiated::of(&probe),
        cause,
        certificate: certificate.and_then(|der| certificate::seen(der, CertificateEnd::Ignored)),
        took_ms: super::milliseconds(probe.took),
    }
}

/// Whatever its certificate, it is only looked at.
async fn probe(mailer: &Mailer, host: &Domain, address: SocketAddr) -> Probe {
    let target = Target {
        peer: Peer { host: host.to_string(), address },
        policy: TlsPolicy::Opportunistic { because: WhyOpportunistic::ReportOnly },
        watched: None,
        require_tls: false,
        egress: Arc::default(),
    };
    mailer.probe(&target).await
}
