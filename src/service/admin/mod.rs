//! The admin port: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever watches; all else is for those
//! who log in (`service/api/`). On loopback unless configured otherwise.

#![expect(clippy::disallowed_methods, reason = "this driver opens the admin port")]

pub(super) mod gate;
pub(super) mod listener;
pub(super) mod readiness;

use crate::accept::ports::{Acceptors, Ports};
use crate::accept::tls::ListenerFiles;
use crate::clock::Clock;
use crate::observe::Observer;
use crate::pipeline::Pipelines;
use crate::spool::Spool;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use gate::AdminGate;
use listener::{AdminPeer, Bounded};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Answers what the port itself does not.
pub(super) type FurtherRoutes = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

/// What the admin port shows.
#[derive(Clone)]
pub(super) struct AdminPort {
    /// The metrics.
    pub observer: Arc<Observer>,
    /// The queue behind the gauges.
    pub spool: Arc<dyn Spool>,
    /// How it stands with receiving hosts.
    pub pipelines: Pipelines,
    /// Who takes mail in.
    pub acceptors: Acceptors,
    /// Where it comes in.
    pub ports: Arc<Ports>,
    /// By which the ages of what it shows are reckoned.
    pub clock: Clock,
    /// Its certificate and its users.
    pub gate: Arc<AdminGate>,
    /// What is served to those who log in, as soon as it is there.
    pub further: Arc<OnceLock<FurtherRoutes>>,
    /// Set when the relay stops.
    pub stop: CancellationToken,
}

/// The port where it is open, which another configuration may change.
pub(super) struct AdminPorts {
    shows: AdminPort,
    open: Mutex<Option<OpenAdminPort>>,
}

#[derive(Clone)]
struct OpenAdminPort {
    /// As the configuration says it; the port may be 0 there.
    named: SocketAddr,
    bound: SocketAddr,
    close: CancellationToken,
}

impl AdminPorts {
    /// None is open yet.
    #[must_use]
    pub(super) fn new(shows: AdminPort) -> Self {
        Self { shows, open: Mutex::default() }
    }

    /// Other files count from now on.
    pub(super) fn renew(&self, files: ListenerFiles) {
        self.shows.gate.replace(files);
    }

    /// Opens the port unless it is open, so that a port in use is an error before anything is changed.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn prepare(&self, address: SocketAddr) -> io::Result<Option<TcpListener>> {
        if self.open().is_some_and(|open| open.named == address) {
            return Ok(None);
        }
        open(address).await.map(Some)
    }

    /// Serves at a port that was prepared for this address, and closes the one before.
    pub(super) fn open_and_close(&self, named: SocketAddr, prepared: Option<TcpListener>) {
        let Some(listener) = prepared else { return };
        let (bound, close) = (listener.local_addr().unwrap_or(named), self.shows.stop.child_token());
        tokio::spawn(run(self.shows.clone(), listener, close.clone()));
        let before = self.locked().replace(OpenAdminPort { named, bound, close });
        if let Some(before) = before {
            before.close.cancel();
        }
    }

    /// Where it is open.
    #[must_use]
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.open().map(|open| open.bound)
    }

    fn open(&self) -> Option<OpenAdminPort> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Option<OpenAdminPort>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the port; nobody is served yet.
///
/// # Errors
/// What the system says.
pub(super) async fn open(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the relay stops or the port is closed.
async fn run(admin: AdminPort, listener: TcpListener, close: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(further)
        .with_state(admin.clone());
    let service = router.into_make_service_with_connect_info::<AdminPeer>();
    axum::serve(Bounded::new(listener, admin.gate), service).with_graceful_shutdown(close.cancelled_owned()).await
}

async fn metrics(State(admin): State<AdminPort>) -> impl IntoResponse {
    let pipeline = Arc::clone(&admin.pipelines.borrow());
    admin.observer.hosts(&pipeline.hosts());
    let now = admin.clock.now();
    admin.observer.disk(admin.spool.full_disk(now));
    admin.observer.store_away(admin.spool.away(now));
    let text = admin.observer.render(&admin.spool.stats(), now);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn further(State(admin): State<AdminPort>, request: Request) -> Response {
    match admin.further.get() {
        Some(answer) => answer(request).await,
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn ready(State(admin): State<AdminPort>) -> impl IntoResponse {
    let readiness = readiness::of(&admin);
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, readiness.text())
}
