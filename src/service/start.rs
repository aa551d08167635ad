//! Puts the relay together, starts it and stops it: the wiring and nothing else.
//!
//! Everything that can be refused (configuration, trust anchors, spool, certificate, ports) is
//! refused before the first client is greeted. What has no ports and no spool of its own is
//! [`Service`]: a simulation wires the relay by it exactly as a start does.

use crate::accept::ports::{self, Ports};
use crate::accept::tls::{admin_files, check_files};
use crate::clock::Clock;
use crate::config::{Config, ConfigSource, LoadedConfig, SpoolConfig};
use crate::deliver::egress::store::EgressStore;
use crate::net::{Network, Tcp};
use crate::observe::Observer;
use crate::pipeline::outbound::{Outbound, OutboundPaths};
use crate::policy::sts::event::StsEvent;
use crate::report::driver::load_texts;
use crate::resolve::driver::Dns;
use crate::resolve::own_hop;
use crate::service::admin::gate::{self, AdminGate};
use crate::service::admin::{self, AdminPort, AdminPorts};
use crate::service::api::{self, Api, LocalApi};
use crate::service::control::{self, AskError, ControlClient};
use crate::service::dns;
pub use crate::service::error::{Remedy, RunError, StartError};
pub use crate::service::generation::{Service, outbound};
use crate::service::operator::Operator;
use crate::service::reload::{Reloadable, Reloading};
use crate::service::{audit, disk, exchange, incidents, suspensions, watch};
use crate::spool::{self, Opened, Spool, SpoolError};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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
    load_texts(&config.notify)?;
    let (shared, clock) = (Arc::new(config.clone()), Clock::system());
    let dns = Arc::new(Dns::new(config, clock.clone(), Arc::new(|_event| {}))?);
    Outbound::new(shared, OutboundPaths::over_tcp(dns, clock), Arc::new(|_event: &StsEvent<'_>| {}))?;
    check_files(config)?;
    Ok(())
}

/// Starts the relay by a configuration that nobody changes.
///
/// # Errors
/// [`StartError`]; then nothing is left running.
pub async fn start(config: Config, clock: Clock) -> Result<Relay, StartError> {
    start_over(Arc::new(Tcp), config, clock).await
}

/// As [`start`], with another way to mail servers and policy hosts.
///
/// # Errors
/// As [`start`].
pub async fn start_over(network: Arc<dyn Network>, config: Config, clock: Clock) -> Result<Relay, StartError> {
    let source = ConfigSource::Given(Box::new(config));
    let loaded = source.load().map_err(|bug| StartError::Internal(bug.to_string()))?;
    run_from(source, loaded, WayOut { network, clock }).await
}

/// What a relay has of the world besides the DNS.
struct WayOut {
    network: Arc<dyn Network>,
    clock: Clock,
}

/// Starts the relay by what was loaded from a source, which a reload reads again.
///
/// # Errors
/// As [`start`].
pub async fn start_from(source: ConfigSource, loaded: LoadedConfig, clock: Clock) -> Result<Relay, StartError> {
    loaded.look_at_files()?;
    run_from(source, loaded, WayOut { network: Arc::new(Tcp), clock }).await
}

async fn run_from(source: ConfigSource, loaded: LoadedConfig, out: WayOut) -> Result<Relay, StartError> {
    let WayOut { network, clock } = out;
    // A reload that is asked for meanwhile comes when all is there.
    let hangup = signal(SignalKind::hangup()).ok();
    let config = Arc::new(loaded.config.clone());
    let texts = load_texts(&config.notify)?;
    let observer = Arc::new(Observer::new().map_err(|e| StartError::Internal(e.to_string()))?);
    let dns = dns::open(&config, &clock, &observer).await?;
    let ways = OutboundPaths { dns: Arc::clone(&dns.dns), network, clock: clock.clone() };
    let out = outbound(Arc::clone(&config), ways, &observer)?;
    // Before the spool is opened, which takes its time: a port in use is found at once.
    let smtp = ports::open(&config.smtp_addresses()).await.map_err(|error| StartError::smtp(&config, error))?;
    let address = config.admin.listen;
    let admin = admin::open(address).await.map_err(|source| StartError::admin(address, source))?;
    let Opened { spool, recovery } = open_spool(&config, &clock).await?;
    observer.spool_opened(&recovery);
    let service = Arc::new(Service::new(out, Arc::clone(&spool), Arc::clone(&observer), texts)?);
    let control = open_control(&config)?;
    // Before the first client comes.
    let suspended = suspensions::look(&service, None).await;
    let exchange = exchange::begin(&service).await;
    service.tell_of_damage(&recovery).await;

    let stop = CancellationToken::new();
    let gate = Arc::new(AdminGate::new(admin_files(&config)?));
    let further = Arc::default();
    let ports = Arc::new(Ports::new(service.acceptors(), stop.clone()));
    let shows = AdminPort {
        observer: Arc::clone(&observer),
        spool: Arc::clone(&spool),
        pipelines: service.pipelines(),
        acceptors: service.acceptors(),
        ports: Arc::clone(&ports),
        clock: clock.clone(),
        gate: Arc::clone(&gate),
        further: Arc::clone(&further),
        stop: stop.clone(),
    };
    let admin_ports = AdminPorts::new(shows);
    admin_ports.open_and_close(address, Some(admin));
    ports.open_and_close(smtp);
    tokio::spawn(dns::look_around(Arc::clone(&dns.dns), Arc::clone(&config), Arc::clone(&observer), stop.clone()));
    let (spool_config, accepting) = (config.spool.clone(), Arc::clone(&ports));
    let relay = Reloadable { source, loaded, service: Arc::clone(&service), ports, admin: admin_ports, dns };
    let reloading = Arc::new(Reloading::new(relay, stop.clone()));
    let (smtp, admin) = (reloading.smtp(), reloading.admin());
    tokio::spawn(Arc::clone(&reloading).at_signals(hangup));
    let operator =
        Arc::new(Operator { spool: spool_config.clone(), reloading, since: clock.now(), stop: stop.clone() });
    let api = Api::new(operator, Arc::clone(&gate), stop.clone()).map_err(StartError::Internal)?;
    let api = Arc::new(api);
    let _first = further.set(api::routes(Arc::clone(&api)));
    tokio::spawn(api::count(Arc::clone(&api), stop.clone()));
    tokio::spawn(api::watch_paths(Arc::clone(&api), stop.clone()));
    tokio::spawn(gate::watch(gate, stop.clone()));
    tokio::spawn(control::run(LocalApi::new(api), control, stop.clone()));
    look_after(&service, spool_config, &stop);
    tokio::spawn(suspensions::watch(Arc::clone(&service), suspended, stop.clone()));
    tokio::spawn(exchange::run(exchange, Arc::clone(&service), stop.clone()));
    let (accepting, watched) = (async move { accepting.all_end().await }, Arc::clone(&spool));
    let failed = async move { watched.failed().await };
    let running = tokio::spawn(service.run(accepting, failed, stop.clone()));
    Ok(Relay { smtp, admin, spool, observer, stop, running })
}

/// What a relay does beside its mail, until the stop.
fn look_after(service: &Service, spool: SpoolConfig, stop: &CancellationToken) {
    let observer = Arc::clone(&service.pipeline().observer);
    tokio::spawn(watch::watch(service.pipelines(), stop.clone()));
    tokio::spawn(incidents::watch(service.pipelines(), stop.clone()));
    tokio::spawn(audit::watch(spool, observer, stop.clone()));
    service.watch(stop);
    tokio::spawn(disk::watch(service.pipelines(), stop.clone()));
}

fn open_control(config: &Config) -> Result<UnixListener, StartError> {
    let path = || control::path(&config.spool.path).display().to_string();
    control::bind(&config.spool.path).map_err(|source| StartError::Control { path: path(), source })
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

/// Ports that cannot be opened now, where no relay runs on the spool that may have them: each in a line.
pub async fn closed_ports(config: &Config) -> Vec<String> {
    let runs = ControlClient::of(&config.spool.path).settings().await;
    if !matches!(runs, Err(AskError::NotRunning(_))) {
        return Vec::new();
    }
    let mut told = Vec::new();
    for address in config.smtp_addresses() {
        told.extend(ports::open(&[address]).await.err().map(|error| StartError::smtp(config, error).to_string()));
    }
    let address = config.admin.listen;
    told.extend(admin::open(address).await.err().map(|source| StartError::admin(address, source).to_string()));
    told
}

async fn open_spool(config: &Config, clock: &Clock) -> Result<Opened, StartError> {
    let opened = spool::open(&config.spool, clock.now()).await;
    opened.map_err(|source| {
        let path = config.spool.path.display().to_string();
        if matches!(source, SpoolError::Full) {
            StartError::NoRoom { path }
        } else {
            StartError::Spool { path, source }
        }
    })
}
