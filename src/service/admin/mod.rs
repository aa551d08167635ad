//! The admin port: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever watches.
//! On loopback unless configured otherwise; it gives no message content.

#![expect(clippy::disallowed_methods, reason = "this driver opens the admin port")]

mod listener;

use crate::clock::Clock;
use crate::observe::Observer;
use crate::pipeline::Pipeline;
use crate::resolve::driver::Dns;
use crate::resolve::paths::standing::PathStanding;
use crate::spool::Spool;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use listener::Bounded;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the admin port shows.
#[derive(Clone)]
pub(super) struct AdminPort {
    /// The metrics.
    pub observer: Arc<Observer>,
    /// The queue behind the gauges.
    pub spool: Arc<dyn Spool>,
    /// The ways to the DNS, for how they stand.
    pub dns: Arc<Dns>,
    /// How it stands with receiving hosts.
    pub pipeline: Arc<Pipeline>,
    /// By which the ages of what it shows are reckoned.
    pub clock: Clock,
    /// Set when the relay stops.
    pub stop: CancellationToken,
}

/// Binds the port, so that a port in use is an error before anything is started.
///
/// # Errors
/// What the system says.
pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the relay stops.
///
/// # Errors
/// When the listener fails.
pub(super) async fn run(admin: AdminPort, listener: TcpListener) -> io::Result<()> {
    let stop = admin.stop.clone();
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(admin);
    axum::serve(Bounded::new(listener), router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn metrics(State(admin): State<AdminPort>) -> impl IntoResponse {
    admin.observer.hosts(&admin.pipeline.hosts());
    let text = admin.observer.render(&admin.spool.stats(), admin.clock.now());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Ready means: a message handed in now would be taken. What keeps it from going out stands in further
/// lines: no reason to hand it in elsewhere, and one to look.
async fn ready(State(admin): State<AdminPort>) -> impl IntoResponse {
    match (admin.stop.is_cancelled(), admin.spool.admit(0)) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        (false, Ok(())) => {
            let doubts: String = doubts(&admin.dns).into_iter().map(|doubt| doubt + "\n").collect();
            (StatusCode::OK, format!("ready\n{doubts}"))
        }
        (false, Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// Paths to the DNS that have not carried lately what they were asked for, each in a line.
fn doubts(dns: &Dns) -> Vec<String> {
    let troubled = dns.standings().filter(|(_, standing)| *standing != PathStanding::Good);
    troubled.map(|(path, standing)| format!("degraded: DNS by {path}: {}", standing.phrase())).collect()
}
