//! Puts the relay together, starts it and stops it: the wiring and nothing else.
//!
//! Everything that can be refused (configuration, trust anchors, spool, certificate, ports) is
//! refused before the first client is greeted. What has no ports and no spool of its own is
//! [`Service`]: a simulation wires the relay by it exactly as a start does.

use crate::accept::driver::{self as listener, Acceptor};
use crate::accept::tls::{self as listener_tls, TlsError};
use crate::clock::Clock;
use crate::config::{Config, DnsMode};
use crate::deliver::egress::store::EgressStore;
use crate::observe::Observer;
use crate::pipeline::outbound::{Outbound, OutboundError, OutboundPaths};
use crate::pipeline::{self, Pipeline};
use crate::policy::sts::driver as sts;
use crate::policy::sts::event::StsEvent;
use crate::report::driver::load_texts;
use crate::report::{Texts, TextsError};
use crate::resolve::driver::Dns;
use crate::resolve::error::DnsSetupError;
use crate::resolve::own_hop;
use crate::service::admin::{self, AdminPort};
use crate::service::control::{self, Control};
use crate::service::egress;
use crate::service::exceptions;
use crate::service::{audit, incidents, selfcheck, watch};
use crate::spool::{self, Opened, Recovery, Spool, SpoolError};
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
    /// A file that delivery needs cannot be used: trusted roots, a password, a certificate.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The texts of reports cannot be used.
    #[error(transparent)]
    Texts(#[from] TextsError),
    /// The spool cannot be opened.
    #[error("[spool] path: {path}: {source}")]
    Spool {
        /// The directory.
        path: String,
        /// What the spool reports.
        source: SpoolError,
    },
    /// The certificate of the listener cannot be used.
    #[error("[listen] certificate: {0}")]
    Tls(#[from] TlsError),
    /// A port cannot be opened.
    #[error("{key}: cannot listen on {address}: {source}{}", bind_advice(source))]
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

/// What a relay that does not start is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Somebody has to change the configuration, or what it names.
    Configuration,
    /// It may go by itself: a port or a spool that the process before has not left yet, an address or
    /// a resolver that comes up later than the relay when the machine starts.
    Time,
}

impl StartError {
    /// Whether starting again can help.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Bind { source, .. }
                if matches!(source.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) =>
            {
                Remedy::Time
            }
            Self::Spool { source: SpoolError::InUse { .. } | SpoolError::Io { .. }, .. }
            | Self::Dns(DnsSetupError::Upstream { .. }) => Remedy::Time,
            Self::Dns(DnsSetupError::TrustAnchors { .. } | DnsSetupError::Roots(_))
            | Self::Outbound(_)
            | Self::Texts(_)
            | Self::Spool { .. }
            | Self::Bind { .. }
            | Self::Tls(_)
            | Self::Control { .. }
            | Self::Internal(_) => Remedy::Configuration,
        }
    }
}

/// What to do about a port that cannot be opened.
fn bind_advice(error: &io::Error) -> &'static str {
    let advice = [
        (io::ErrorKind::AddrInUse, "; `ss -ltnp` shows which program has it"),
        (io::ErrorKind::AddrNotAvailable, "; this machine has no such address"),
        (
            io::ErrorKind::PermissionDenied,
            "; ports below 1024 want root or CAP_NET_BIND_SERVICE, as deploy/relay.service gives it",
        ),
    ];
    advice.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, words)| words)
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

/// What sends mail out by these ways and tells the observer of policies.
///
/// # Errors
/// When a file that the configuration names cannot be used: trusted roots, a password, a certificate.
pub fn outbound(config: Arc<Config>, ways: OutboundPaths, observer: &Arc<Observer>) -> Result<Outbound, OutboundError> {
    let observer = Arc::clone(observer);
    Outbound::new(config, ways, Arc::new(move |event: &StsEvent<'_>| observer.sts(event)))
}

/// The relay without its ports: what takes mail in, and what carries it out.
pub struct Service {
    /// Takes mail in.
    pub acceptor: Arc<Acceptor>,
    /// Carries it out; it has the spool, the observer and the ways out.
    pub pipeline: Arc<Pipeline>,
}

impl Service {
    /// Puts the relay together around a spool. Nothing runs yet.
    ///
    /// # Errors
    /// When the certificate of the listener cannot be used.
    pub fn new(out: Outbound, spool: Arc<dyn Spool>, observer: Arc<Observer>, texts: Texts) -> Result<Self, TlsError> {
        let tls = listener_tls::server_config(&out.config)?;
        let (config, clock, told) = (Arc::clone(&out.config), out.clock.clone(), Arc::clone(&observer));
        let told = Arc::new(move |event| told.accept(&event));
        let acceptor = Arc::new(Acceptor::new(config, Arc::clone(&spool), clock, Some(tls), told));
        Ok(Self { acceptor, pipeline: Arc::new(Pipeline::new(out, spool, observer, texts)) })
    }

    /// Tells the postmaster of damage that the opening of the spool found.
    pub async fn tell_of_damage(&self, recovery: &Recovery) {
        if recovery.damaged_records > 0
            && let Err(error) = self.pipeline.tell_of_damage(recovery.damaged_records).await
        {
            self.pipeline.observer.spool_failed("tell the postmaster of damage", &error);
        }
    }

    /// Starts what looks after kept policies, our own records and exceptions, until the stop.
    pub fn watch(&self, stop: &CancellationToken) {
        let (out, observer) = (&self.pipeline.out, &self.pipeline.observer);
        tokio::spawn(sts::keep_fresh(Arc::clone(&out.sts), stop.clone()));
        tokio::spawn(selfcheck::watch(out.clone(), Arc::clone(observer), stop.clone()));
        tokio::spawn(egress::watch(Arc::clone(&out.egress), Arc::clone(observer), stop.clone()));
        tokio::spawn(exceptions::watch(out.clone(), Arc::clone(observer), stop.clone()));
    }

    /// Runs until the stop, or until the spool has `failed`; then sessions and deliveries end first
    /// and the spool last. `accepting` are the sessions: it ends after the stop with the last of
    /// them.
    ///
    /// # Errors
    /// When the spool failed.
    pub async fn run<A, F>(self, accepting: A, failed: F, stop: CancellationToken) -> Result<(), RunError>
    where
        A: Future<Output = ()> + Send + 'static,
        F: Future<Output = String> + Send,
    {
        let spool = Arc::clone(&self.pipeline.spool);
        let accepting = tokio::spawn(accepting);
        let delivering = tokio::spawn(pipeline::run(self.pipeline, stop.clone()));
        let failure = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            detail = failed => Some(detail),
        };
        stop.cancel();
        let _both_ended = tokio::join!(accepting, delivering);
        spool.close().await;
        match failure {
            None => Ok(()),
            Some(detail) => Err(RunError::Spool(detail)),
        }
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
    Outbound::new(shared, OutboundPaths::over_tcp(dns, clock), Arc::new(|_event: &StsEvent<'_>| {}))?;
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
    let out = outbound(Arc::clone(&config), OutboundPaths::over_tcp(Arc::clone(&dns), clock.clone()), &observer)?;
    let (listeners, admin_listener) = listen(&config).await?;
    let smtp: Vec<SocketAddr> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
    let admin_address = admin_listener.local_addr().unwrap_or(config.admin.listen);
    let Opened { spool, recovery } = open_spool(&config, &clock).await?;
    observer.spool_opened(&recovery);
    let works = Service::new(out, Arc::clone(&spool), Arc::clone(&observer), texts)?;
    let control = open_control(&config)?;
    works.tell_of_damage(&recovery).await;

    let stop = CancellationToken::new();
    let orders = Arc::new(Control {
        config: Arc::clone(&config),
        pipeline: Arc::clone(&works.pipeline),
        observer: Arc::clone(&observer),
        since: clock.now(),
        clock: clock.clone(),
        smtp: Vec::clone(&smtp),
        admin: admin_address,
    });
    let (told, stored) = (Arc::clone(&observer), Arc::clone(&spool));
    let pipeline = Arc::clone(&works.pipeline);
    let admin = AdminPort { observer: told, spool: stored, dns: Arc::clone(&dns), pipeline, clock, stop: stop.clone() };
    tokio::spawn(admin::run(admin, admin_listener));
    tokio::spawn(control::run(orders, control, stop.clone()));
    tokio::spawn(watch::watch(Arc::clone(&works.pipeline), stop.clone()));
    tokio::spawn(incidents::watch(Arc::clone(&works.pipeline), stop.clone()));
    tokio::spawn(audit::watch(config.spool.clone(), Arc::clone(&observer), stop.clone()));
    config.dns.private_zones.iter().for_each(|zone| observer.private_zone(zone));
    EgressStore::doubts(&config).iter().for_each(|doubt| observer.doubt(doubt));
    tokio::spawn(name_bad_upstreams(Arc::clone(&dns), config.dns.mode, stop.clone()));
    tokio::spawn(doubt_own_names(dns, config, Arc::clone(&observer), stop.clone()));
    works.watch(&stop);
    let accepting = listener::run(Arc::clone(&works.acceptor), listeners, stop.clone());
    let watched = Arc::clone(&spool);
    let failed = async move { watched.failed().await };
    let running = tokio::spawn(works.run(accepting, failed, stop.clone()));
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

/// The next hops that the operator names may be unreachable as well, and nobody waits for them
/// either.
async fn doubt_own_names(dns: Arc<Dns>, config: Arc<Config>, observer: Arc<Observer>, stop: CancellationToken) {
    if let Some(doubts) = stop.run_until_cancelled(own_hop::doubts(&dns, &config)).await {
        doubts.iter().for_each(|doubt| observer.doubt(doubt));
    }
}

/// What is probably wrong with the names of next hops and with private zones, in lines: what the
/// start warns of, too. All of them are looked for at once, for a few seconds at most.
///
/// # Errors
/// When the DNS side cannot be set up.
pub async fn doubts(config: &Config) -> Result<Vec<String>, StartError> {
    let dns = Dns::new(config, Clock::system(), Arc::new(|_event| {}))?;
    Ok(EgressStore::doubts(config).into_iter().chain(own_hop::doubts(&dns, config).await).collect())
}

async fn open_spool(config: &Config, clock: &Clock) -> Result<Opened, StartError> {
    let opened = spool::open(&config.spool, clock.now()).await;
    opened.map_err(|source| StartError::Spool { path: config.spool.path.display().to_string(), source })
}
