//! Puts the relay together, starts it and stops it: the wiring and nothing else.
//!
//! Everything that can be refused (configuration, trust anchors, spool, certificate, ports) is
//! refused before the first client is greeted.

use crate::accept::driver::{self as listener, Acceptor};
use crate::accept::tls::{self as listener_tls, TlsError};
use crate::admin::{self, Admin};
use crate::audit;
use crate::check::selfcheck;
use crate::clock::Clock;
use crate::config::{Config, DnsMode, RootsError};
use crate::control::{self, Control};
use crate::exceptions;
use crate::observe::Observer;
use crate::pipeline::outbound::Outbound;
use crate::pipeline::{self, Pipeline};
use crate::policy::sts::driver as sts;
use crate::policy::sts::event::StsEvent;
use crate::report::TextsError;
use crate::report::driver::load_texts;
use crate::resolve::driver::{Dns, DnsSetupError};
use crate::spool::embedded::EmbeddedSpool;
use crate::spool::{Spool, SpoolError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Why the relay does not start: one line, with the key to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The DNS side cannot be set up.
    #[error(transparent)]
    Dns(#[from] DnsSetupError),
    /// The trusted certificate authorities cannot be had.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The texts of reports cannot be used.
    #[error(transparent)]
    Texts(#[from] TextsError),
    /// The spool cannot be opened.
    #[error("[spool] path: {path}: {source}")]
    Spool {
        /// The directory.
        path: String,
        /// Why not.
        source: SpoolError,
    },
    /// The certificate of the listener cannot be used.
    #[error("[listen] certificate: {0}")]
    Tls(#[from] TlsError),
    /// A port cannot be opened.
    #[error("{key}: cannot listen on {address}: {source}")]
    Bind {
        /// The key that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The control socket cannot be opened.
    #[error("{path}: cannot open the control socket: {source}")]
    Control {
        /// Where it would be.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A bug.
    #[error("internal: {0}")]
    Internal(String),
}

/// Why a running relay stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The disk failed; what was acknowledged is on it, and a restart recovers it.
    #[error("the spool failed and nothing more can be accepted: {0}")]
    Spool(String),
    /// A bug.
    #[error("internal: {0}")]
    Internal(String),
}

/// A relay that runs.
pub struct Relay {
    /// Where clients hand mail in.
    pub smtp: Vec<SocketAddr>,
    /// Where Prometheus scrapes.
    pub admin: SocketAddr,
    /// The spool, for whoever started the relay.
    pub spool: Arc<dyn Spool>,
    /// The metrics and the news.
    pub observer: Arc<Observer>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

impl Relay {
    /// Asks the relay to stop; [`Relay::ended`] tells when it has.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// A handle that stops the relay from elsewhere, such as a signal handler.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until everything has ended.
    ///
    /// # Errors
    /// What made the relay stop by itself.
    pub async fn ended(self) -> Result<(), RunError> {
        self.running.await.unwrap_or_else(|panicked| Err(RunError::Internal(panicked.to_string())))
    }
}

/// Whether the relay would start with a configuration, as far as that can be told without opening
/// ports or the spool: all files that it names are read.
///
/// # Errors
/// [`StartError`], as [`start`] would give it.
pub fn check(config: &Config) -> Result<(), StartError> {
    load_texts(config.notify.templates.as_deref())?;
    let (shared, clock) = (Arc::new(config.clone()), Clock::system());
    let dns = Arc::new(Dns::new(config, clock.clone(), Arc::new(|_event| {}))?);
    Outbound::new(shared, dns, clock, Arc::new(|_event: &StsEvent<'_>| {}))?;
    if config.listen.certificate.is_some() {
        listener_tls::server_config(config)?;
    }
    Ok(())
}

/// Starts the relay.
///
/// # Errors
/// [`StartError`]; then nothing is left running.
pub async fn start(config: Config, clock: Clock) -> Result<Relay, StartError> {
    let config = Arc::new(config);
    let texts = load_texts(config.notify.templates.as_deref())?;
    let observer = Arc::new(Observer::new().map_err(|e| StartError::Internal(e.to_string()))?);
    let dns = open_dns(&config, &clock, &observer).await?;
    let sts_observer = Arc::clone(&observer);
    let told = Arc::new(move |event: &StsEvent<'_>| sts_observer.sts(event));
    let out = Outbound::new(Arc::clone(&config), Arc::clone(&dns), clock.clone(), told)?;
    let (listeners, admin_listener) = listen(&config).await?;
    let smtp: Vec<SocketAddr> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
    let admin_address = admin_listener.local_addr().unwrap_or(config.admin.listen);
    let spool = open_spool(&config, &clock).await?;
    observer.spool_opened(spool.recovery());
    let tls = listener_tls::server_config(&config)?;
    let stop = CancellationToken::new();

    let accept_observer = Arc::clone(&observer);
    let acceptor = Arc::new(Acceptor::new(
        Arc::clone(&config),
        Arc::clone(&spool) as Arc<dyn Spool>,
        clock.clone(),
        Some(tls),
        Arc::new(move |event| accept_observer.accept(&event)),
    ));
    let stored = Arc::clone(&spool) as Arc<dyn Spool>;
    let pipeline = Arc::new(Pipeline::new(out.clone(), stored, Arc::clone(&observer), texts));
    let control = open_control(&config)?;
    let orders = Arc::new(Control {
        config: Arc::clone(&config),
        pipeline: Arc::clone(&pipeline),
        observer: Arc::clone(&observer),
        since: clock.now(),
        clock: clock.clone(),
        smtp: Vec::clone(&smtp),
        admin: admin_address,
    });
    if spool.recovery().damaged_records > 0
        && let Err(error) = pipeline.tell_of_damage(spool.recovery().damaged_records).await
    {
        observer.spool_failed("tell the postmaster of damage", &error);
    }
    let admin = Admin {
        observer: Arc::clone(&observer),
        spool: Arc::clone(&spool) as Arc<dyn Spool>,
        clock,
        stop: stop.clone(),
    };
    tokio::spawn(admin::run(admin, admin_listener));
    tokio::spawn(control::run(orders, control, stop.clone()));
    tokio::spawn(audit::watch(config.spool.path.clone(), Arc::clone(&observer), stop.clone()));
    tokio::spawn(sts::keep_fresh(Arc::clone(&out.sts), stop.clone()));
    tokio::spawn(selfcheck::watch(out.clone(), Arc::clone(&observer), stop.clone()));
    tokio::spawn(exceptions::watch(out, Arc::clone(&observer), stop.clone()));
    tokio::spawn(name_bad_upstreams(dns, config.dns.mode, stop.clone()));
    let running = tokio::spawn(run(acceptor, listeners, pipeline, Arc::clone(&spool), stop.clone()));
    Ok(Relay { smtp, admin: admin_address, spool, observer, stop, running })
}

fn open_control(config: &Config) -> Result<UnixListener, StartError> {
    let path = || control::path(&config.spool.path).display().to_string();
    control::bind(&config.spool.path).map_err(|source| StartError::Control { path: path(), source })
}

async fn listen(config: &Config) -> Result<(Vec<TcpListener>, TcpListener), StartError> {
    let failed = |key, address, source| StartError::Bind { key, address, source };
    let smtp = listener::bind(&config.listen.smtp).await;
    let smtp = smtp.map_err(|(address, source)| failed("[listen] smtp", address, source))?;
    let admin = admin::bind(config.admin.listen).await;
    Ok((smtp, admin.map_err(|source| failed("[admin] listen", config.admin.listen, source))?))
}

/// Where upstreams must validate, they show it before anything is accepted.
async fn open_dns(config: &Config, clock: &Clock, observer: &Arc<Observer>) -> Result<Arc<Dns>, StartError> {
    let observer = Arc::clone(observer);
    let dns = Arc::new(Dns::new(config, clock.clone(), Arc::new(move |event| observer.dns(event)))?);
    match config.dns.mode {
        DnsMode::TrustAd => dns.probe().await?,
        DnsMode::Validate => {}
    }
    Ok(dns)
}

/// Where we validate, a bad upstream is only named, and nobody waits for it: not the start, and
/// not the stop.
async fn name_bad_upstreams(dns: Arc<Dns>, mode: DnsMode, stop: CancellationToken) {
    match mode {
        DnsMode::TrustAd => {}
        DnsMode::Validate => {
            let _probed_or_stopped = stop.run_until_cancelled(dns.probe()).await;
        }
    }
}

async fn open_spool(config: &Arc<Config>, clock: &Clock) -> Result<Arc<EmbeddedSpool>, StartError> {
    let (for_open, now) = (Arc::clone(config), clock.now());
    let opened = tokio::task::spawn_blocking(move || EmbeddedSpool::open(&for_open.spool, now)).await;
    let spool = opened
        .map_err(|e| StartError::Internal(e.to_string()))?
        .map_err(|source| StartError::Spool { path: config.spool.path.display().to_string(), source })?;
    Ok(Arc::new(spool))
}

/// Runs until the stop, or until the spool fails; then sessions and deliveries end first and
/// the spool last.
async fn run(
    acceptor: Arc<Acceptor>,
    listeners: Vec<TcpListener>,
    pipeline: Arc<Pipeline>,
    spool: Arc<EmbeddedSpool>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let accepting = tokio::spawn(listener::run(acceptor, listeners, stop.clone()));
    let delivering = tokio::spawn(pipeline::run(pipeline, stop.clone()));
    let failure = tokio::select! {
        () = stop.cancelled() => None,
        detail = spool.failed() => Some(detail),
    };
    stop.cancel();
    let _both_ended = tokio::join!(accepting, delivering);
    spool.close().await;
    match failure {
        None => Ok(()),
        Some(detail) => Err(RunError::Spool(detail)),
    }
}
