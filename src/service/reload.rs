//! Another configuration takes the place of the one in force, whole: at SIGHUP and for `relay reload`.
//!
//! All that can fail comes first: the file and the files that it names are read, the DNS side is made, new
//! ports are opened. A fault anywhere leaves everything as it was, and is told in words. Then the new
//! configuration counts for whatever begins; what is under way ends by the old one. A key that needs a
//! restart keeps its value until then, and is named.

use crate::accept::ports::{Ports, PreparedPorts};
use crate::accept::tls::{ListenerFiles, admin_files, listener_files};
use crate::clock::Timestamp;
use crate::command::status::ConfigStatus;
use crate::config::settings::{KeyChange, Settings, TakesEffect};
use crate::config::{Config, ConfigError, ConfigSource, LoadedConfig};
use crate::observe::Observer;
use crate::pipeline::outbound::Outbound;
use crate::report::driver::load_texts;
use crate::resolve::driver::Dns;
use crate::service::admin::AdminPorts;
use crate::service::dns::{self, DnsSide};
use crate::service::error::StartError;
use crate::service::generation::{NextGeneration, Service, of_policies};
use crate::service::notify;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Why the configuration before stays in force: one line, with the key to change.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// The file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something that it names cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// One of those below, with the place of the key that it names.
    #[error("{0}")]
    Placed(String),
    /// The relay itself is in the way.
    #[error(
        "[listen] smtp: {new} overlaps with {old}, where the relay listens now: restart it, or take one address away first"
    )]
    Overlap {
        /// What cannot be opened.
        new: SocketAddr,
        /// What is open.
        old: SocketAddr,
    },
}

/// What a reload changes, and what is known of the last one.
pub(super) struct Reloading {
    source: ConfigSource,
    service: Arc<Service>,
    ports: Arc<Ports>,
    admin: AdminPorts,
    stop: CancellationToken,
    /// One reload at a time.
    state: Mutex<InForce>,
}

/// The relay as it runs, for [`Reloading::new`].
pub(super) struct Reloadable {
    /// Where the configuration is read from.
    pub source: ConfigSource,
    /// What is in force.
    pub loaded: LoadedConfig,
    /// What is reconfigured.
    pub service: Arc<Service>,
    /// Its ports.
    pub ports: Arc<Ports>,
    /// The port for watching it.
    pub admin: AdminPorts,
    /// The ways to the DNS.
    pub dns: DnsSide,
}

struct InForce {
    loaded: LoadedConfig,
    dns: DnsSide,
    since: Timestamp,
    refused: Option<(Timestamp, String)>,
    at_restart: Vec<KeyChange>,
}

/// All that can fail is done.
struct Prepared {
    loaded: LoadedConfig,
    next: NextGeneration,
    /// Other ways to the DNS than before.
    dns: Option<DnsSide>,
    smtp: PreparedPorts,
    admin: Option<TcpListener>,
    admin_files: ListenerFiles,
}

impl Reloading {
    /// Nothing is reloaded yet.
    #[must_use]
    pub(super) fn new(relay: Reloadable, stop: CancellationToken) -> Self {
        let Reloadable { source, loaded, service, ports, admin, dns } = relay;
        let since = service.pipeline().out.clock.now();
        service.pipeline().observer.config.taken_over(&[], since);
        let state = InForce { loaded, dns, since, refused: None, at_restart: Vec::new() };
        Self { source, service, ports, admin, stop, state: Mutex::new(state) }
    }

    /// What is reconfigured.
    #[must_use]
    pub(super) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Where clients hand mail in now.
    #[must_use]
    pub(super) fn smtp(&self) -> Vec<SocketAddr> {
        self.ports.addresses()
    }

    /// Where the relay is watched now.
    #[must_use]
    pub(super) fn admin(&self) -> SocketAddr {
        self.admin.address().unwrap_or_else(|| self.service.pipeline().out.config.admin.listen)
    }

    /// What `systemctl status` shows.
    #[must_use]
    pub(super) fn summary(&self) -> String {
        format!("takes mail at {:?}, metrics at {}", self.smtp(), self.admin())
    }

    /// The keys with the values that count.
    pub(super) async fn settings(&self) -> Settings {
        self.state.lock().await.loaded.settings.clone()
    }

    /// How it stands with the configuration.
    pub(super) async fn status(&self) -> ConfigStatus {
        let InForce { since, refused, at_restart, .. } = &*self.state.lock().await;
        let at_restart = at_restart.iter().map(KeyChange::line).collect();
        ConfigStatus { since: *since, refused: refused.clone(), at_restart }
    }

    /// Reloads at each SIGHUP, until the stop.
    pub(super) async fn at_signals(self: Arc<Self>, hangup: Option<Signal>) {
        // Without the signal, which the system may refuse, there is the control socket.
        let Some(mut hangup) = hangup else { return };
        while self.stop.run_until_cancelled(hangup.recv()).await.flatten().is_some() {
            let _told_by_itself = Box::pin(self.reload()).await;
        }
    }

    /// Takes over the configuration as its source says it now. Gives what is different.
    ///
    /// # Errors
    /// Why it is refused; then everything is as before.
    pub(super) async fn reload(&self) -> Result<Vec<KeyChange>, ReloadError> {
        let mut state = self.state.lock().await;
        notify::reloading();
        let pipeline = self.service.pipeline();
        let (observer, now) = (Arc::clone(&pipeline.observer), pipeline.out.clock.now());
        let outcome = match Box::pin(self.prepare(&state)).await {
            Ok((prepared, changes)) => {
                self.take_over(&mut state, prepared, now);
                state.at_restart = at_restart(&changes);
                observer.config.taken_over(&changes, now);
                tracing::info!(smtp = ?self.smtp(), admin = %self.admin(), "configuration taken over");
                Ok(changes)
            }
            Err(refused) => {
                observer.config.refused(&refused.to_string());
                state.refused = Some((now, refused.to_string()));
                Err(refused)
            }
        };
        notify::ready(&self.summary());
        outcome
    }

    async fn prepare(&self, state: &InForce) -> Result<(Prepared, Vec<KeyChange>), ReloadError> {
        let (source, before) = (self.source.clone(), state.loaded.clone());
        let loaded = blocking(move || source.load_again()).await??;
        let changes = before.settings.changes_to(&loaded.settings);
        let mut loaded = loaded;
        loaded.keep_until_restart(&before);
        let named = loaded.clone();
        blocking(move || named.look_at_files()).await??;
        let lines = loaded.lines.clone();
        let prepared = Box::pin(self.prepare_by(state, loaded)).await;
        match prepared {
            Ok(prepared) => Ok((prepared, changes)),
            Err(refused) => Err(ReloadError::Placed(lines.place(&refused.to_string()))),
        }
    }

    /// All that can fail with a file that is right.
    async fn prepare_by(&self, state: &InForce, loaded: LoadedConfig) -> Result<Prepared, ReloadError> {
        let config = Arc::new(loaded.config.clone());
        let addresses = config.smtp_addresses();
        if let Some((new, old)) = addresses.iter().find_map(|new| Some((*new, self.ports.overlapping(*new)?))) {
            return Err(ReloadError::Overlap { new, old });
        }
        let pipeline = self.service.pipeline();
        let dns = dns::succeeding(&state.dns, &pipeline, &config).await?;
        let ways = dns.as_ref().map_or_else(|| Arc::clone(&state.dns.dns), |dns| Arc::clone(&dns.dns));
        let named = Arc::clone(&config);
        let admin_files = blocking(move || admin_files(&named)).await?.map_err(StartError::from)?;
        let (out, observer, named) = (pipeline.out.clone(), Arc::clone(&pipeline.observer), Arc::clone(&config));
        let next = blocking(move || files(&out, named, ways, &observer)).await??;
        let smtp = self.ports.prepare(&addresses).await.map_err(|error| StartError::smtp(&config, error))?;
        let address = config.admin.listen;
        let admin = self.admin.prepare(address).await.map_err(|source| StartError::admin(address, source))?;
        Ok(Prepared { loaded, next, dns, smtp, admin, admin_files })
    }

    /// From here on nothing can fail.
    fn take_over(&self, state: &mut InForce, prepared: Prepared, now: Timestamp) {
        let Prepared { loaded, next, dns, smtp, admin, admin_files } = prepared;
        let config = Arc::clone(&next.out.config);
        self.service.succeed(next);
        self.ports.open_and_close(smtp);
        self.admin.renew(admin_files);
        self.admin.open_and_close(config.admin.listen, admin);
        let pipeline = self.service.pipeline();
        if let Some(dns) = dns {
            state.dns.is_over();
            pipeline.observer.dns_paths_are_others();
            dns.speaks();
            state.dns = dns;
        }
        dns::doubt_values(&config, &pipeline.observer, now);
        tokio::spawn(dns::look_around(
            Arc::clone(&state.dns.dns),
            config,
            Arc::clone(&pipeline.observer),
            self.stop.clone(),
        ));
        (state.loaded, state.since, state.refused) = (loaded, now, None);
    }
}

fn at_restart(changes: &[KeyChange]) -> Vec<KeyChange> {
    changes.iter().filter(|change| change.takes_effect == TakesEffect::AtRestart).cloned().collect()
}

/// Reads all files that a configuration names.
fn files(
    before: &Outbound,
    config: Arc<Config>,
    dns: Arc<Dns>,
    observer: &Arc<Observer>,
) -> Result<NextGeneration, StartError> {
    let texts = load_texts(&config.notify)?;
    let listeners = listener_files(&config)?;
    let out = before.succeeded_by(config, dns, of_policies(observer))?;
    Ok(NextGeneration { out, listeners, texts })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|bug| StartError::Internal(bug.to_string()))
}
