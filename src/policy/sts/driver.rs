//! Whoever asks what MTA-STS says about a domain: record, kept policy, fetch (RFC 8461 §3, §5.1).
//!
//! The front page of the folder says what waits for what.

use super::attempts::{Attempt, Attempts, Key};
use super::event::{StsEvent, StsListener};
use super::failure::FetchFailure;
use super::fetch::Fetcher;
use super::flight::{Fetch, Fetched, Flights};
use super::policy::Mode;
use super::record::{self, PolicyId, RecordError};
use super::store::{LIMITS, Store, StoreFault};
use super::{RefreshFailure, StsAbsent, StsPolicy, StsState};
use crate::clock::Clock;
use crate::config::{Config, RootsError};
use crate::net::Network;
use crate::resolve::answer::{Answer, Ask, Data, Freshness, RecordType};
use crate::smtp::address::Domain;
use futures_util::StreamExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often policies that are due for a refresh are looked for.
const LOOK_AFTER: Duration = Duration::from_secs(300);
/// Refreshes at once: enough for every policy of a full store within a day, few enough to be
/// noticed by nobody.
const REFRESHES_AT_ONCE: usize = 4;

/// What is known and found out about the MTA-STS policies of domains.
pub struct StsClient {
    inner: Arc<Inner>,
}

struct Inner {
    enabled: bool,
    dns: Arc<dyn Ask>,
    fetcher: Fetcher,
    store: Store,
    attempts: Mutex<Attempts>,
    flights: Flights,
    /// Held from reading a kept policy to replacing it.
    keeping: tokio::sync::Mutex<()>,
    clock: Clock,
    listener: StsListener,
}

impl StsClient {
    /// Reads the certificate authorities. Nothing is asked or written yet.
    ///
    /// # Errors
    /// When the file of certificate authorities that the configuration names cannot be used.
    pub fn new(
        config: &Config,
        dns: Arc<dyn Ask>,
        network: Arc<dyn Network>,
        clock: Clock,
        listener: StsListener,
    ) -> Result<Self, RootsError> {
        Ok(Self {
            inner: Arc::new(Inner {
                enabled: config.mta_sts.enabled,
                dns,
                fetcher: Fetcher::new(config, network, &clock)?,
                store: Store::new(&config.spool.path, LIMITS),
                attempts: Mutex::default(),
                flights: Flights::default(),
                keeping: tokio::sync::Mutex::default(),
                clock,
                listener,
            }),
        })
    }

    /// What is in force for mail to a next-hop domain: exactly this one, never its parent
    /// (RFC 8461 §3.4).
    pub async fn policy_for(&self, domain: &Domain) -> StsState {
        if !self.inner.enabled {
            return StsState::Absent(StsAbsent::SwitchedOff);
        }
        let id = match self.announced(domain, Freshness::Kept).await {
            Ok(id) => id,
            Err(absent) => return in_force_or(self.cached(domain), absent),
        };
        match self.cached(domain) {
            Some(cached) if cached.id.as_ref() == Some(&id) => cached.in_force(),
            // One that forbids nothing is no reason to go on without the new one.
            Some(cached) if cached.terms.mode != Mode::None => {
                let key = (domain.clone(), Some(id));
                if self.inner.lately(&key).is_none() {
                    // It runs by itself.
                    drop(self.inner.start(&key));
                }
                cached.in_force()
            }
            cached @ (Some(_) | None) => self.newest(domain, id, cached).await,
        }
    }

    /// As [`StsClient::policy_for`] with a TXT record that is asked for now, and waiting for the
    /// fetch when its id is new: before mail is given up for a policy (RFC 8461 §5.1).
    pub async fn recheck(&self, domain: &Domain) -> StsState {
        if !self.inner.enabled {
            return StsState::Absent(StsAbsent::SwitchedOff);
        }
        let id = match self.announced(domain, Freshness::Asked).await {
            Ok(id) => id,
            Err(absent) => return in_force_or(self.cached(domain), absent),
        };
        match self.cached(domain) {
            Some(cached) if cached.id.as_ref() == Some(&id) => cached.in_force(),
            cached @ (Some(_) | None) => self.newest(domain, id, cached).await,
        }
    }

    /// Fetches the policy now, whatever is kept and was tried: for the operator.
    ///
    /// # Errors
    /// Why not; an unexpired policy then stays in force.
    pub async fn refresh(&self, domain: &Domain) -> Fetched {
        if !self.inner.enabled {
            return Err(FetchFailure::SwitchedOff);
        }
        let announced = self.announced(domain, Freshness::Asked).await;
        let id = match (announced, self.cached(domain)) {
            (Ok(id), _) => Some(id),
            // RFC 8461 §10.2: whoever suppresses the record shall not outlast the policy.
            (Err(_), Some(cached)) => cached.id.clone(),
            (Err(StsAbsent::Unknown(cause)), None) => return Err(FetchFailure::Dns(Box::new(cause))),
            (Err(StsAbsent::UnusableRecord(error)), None) => return Err(FetchFailure::NotAnnounced(error)),
            (Err(_), None) => return Err(FetchFailure::NotAnnounced(RecordError::None)),
        };
        self.inner.start(&(domain.clone(), id)).await
    }

    /// The unexpired policy that is kept, of whatever mode.
    #[must_use]
    pub fn cached(&self, domain: &Domain) -> Option<Arc<StsPolicy>> {
        self.inner.cached(domain)
    }

    /// The policy that is kept, expired or not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn kept(&self, domain: &Domain) -> Result<Option<Arc<StsPolicy>>, StoreFault> {
        self.inner.store.get(domain)
    }

    /// The id that the TXT record announces (RFC 8461 §3.1).
    ///
    /// # Errors
    /// Why none.
    pub async fn announced(&self, domain: &Domain, freshness: Freshness) -> Result<PolicyId, StsAbsent> {
        match self.inner.dns.ask(&format!("_mta-sts.{domain}"), RecordType::Txt, freshness).await {
            Answer::Found(found) => record::read(found.data.iter().filter_map(text)).map_err(|error| match error {
                RecordError::None => StsAbsent::NoRecord,
                RecordError::Several
                | RecordError::Syntax
                | RecordError::NoId
                | RecordError::BadId
                | RecordError::TooLong => StsAbsent::UnusableRecord(error),
            }),
            Answer::NoData(_) | Answer::NxDomain(_) => Err(StsAbsent::NoRecord),
            Answer::Failed(cause) => Err(StsAbsent::Unknown(cause)),
        }
    }

    /// Fetches every kept policy whose time has come, forgets the expired ones, and returns when
    /// all are through.
    pub async fn refresh_those_due(&self) {
        let inner = Arc::clone(&self.inner);
        let Ok((policies, faults)) = tokio::task::spawn_blocking(move || inner.store.all()).await else { return };
        faults.iter().for_each(|fault| self.inner.tell(&StsEvent::StoreFailed { fault }));
        let now = self.inner.clock.now();
        let (expired, alive): (Vec<_>, Vec<_>) = policies.into_iter().partition(|policy| policy.has_expired(now));
        for policy in expired {
            self.inner.store.remove(&policy.domain);
        }
        let due = alive.into_iter().filter(|policy| policy.refresh_due() <= now);
        let refresh = |policy: Arc<StsPolicy>| async move {
            // RFC 8461 §10.2: whatever has become of the record.
            let announced = self.announced(&policy.domain, Freshness::Kept).await.ok();
            let key = (policy.domain.clone(), announced.or_else(|| policy.id.clone()));
            if self.inner.lately(&key).is_none() {
                // What came of it is told and kept.
                let _told = self.inner.start(&key).await;
            }
        };
        futures_util::stream::iter(due).for_each_concurrent(REFRESHES_AT_ONCE, refresh).await;
    }

    /// Waits for the policy with this id, unless it was tried lately.
    async fn newest(&self, domain: &Domain, id: PolicyId, cached: Option<Arc<StsPolicy>>) -> StsState {
        let key = (domain.clone(), Some(id));
        let failure = match (self.inner.lately(&key), &cached) {
            (Some(Attempt::Failed(failure)), _) => failure,
            // Somebody else's record differs from the one the policy was fetched for.
            (Some(Attempt::Fetched), Some(cached)) => return Arc::clone(cached).in_force(),
            (Some(Attempt::Fetched), None) | (None, _) => match self.inner.start(&key).await {
                Ok(policy) => return policy.in_force(),
                Err(failure) => failure,
            },
        };
        in_force_or(cached, StsAbsent::FetchFailed(failure))
    }
}

fn in_force_or(cached: Option<Arc<StsPolicy>>, absent: StsAbsent) -> StsState {
    cached.map_or(StsState::Absent(absent), StsPolicy::in_force)
}

fn text(data: &Data) -> Option<&[u8]> {
    match data {
        Data::Txt(text) => Some(text),
        Data::Address(_) | Data::Mx(..) | Data::Tlsa(_) => None,
    }
}

impl Inner {
    fn tell(&self, event: &StsEvent<'_>) {
        (self.listener)(event);
    }

    fn lately(&self, key: &Key) -> Option<Attempt> {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.lately(key, self.clock.now()).cloned()
    }

    fn cached(&self, domain: &Domain) -> Option<Arc<StsPolicy>> {
        let kept = self.store.get(domain).unwrap_or_else(|fault| {
            self.tell(&StsEvent::StoreFailed { fault: &fault });
            None
        });
        kept.filter(|policy| !policy.has_expired(self.clock.now()))
    }

    /// Starts a fetch, or joins the one under way.
    fn start(self: &Arc<Self>, key: &Key) -> Fetch {
        let inner = Arc::clone(self);
        let for_fetch = key.clone();
        self.flights.join(key, || async move { inner.fetch_and_keep(for_fetch).await })
    }

    async fn fetch_and_keep(self: Arc<Self>, key: Key) -> Fetched {
        let (domain, id) = key.clone();
        let began = self.clock.now();
        let fetched = self.fetcher.fetch(&*self.dns, &domain).await;
        let policy = fetched
            .and_then(|text| StsPolicy::read(domain, id, text, began).map_err(FetchFailure::Invalid))
            .map(Arc::new);
        let attempt = policy.as_ref().map_or_else(|failure| Attempt::Failed(failure.clone()), |_| Attempt::Fetched);
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).note(key.clone(), attempt, self.clock.now());
        let _alone = self.keeping.lock().await;
        match &policy {
            Ok(policy) => {
                self.keep(Arc::clone(policy)).await;
                self.tell(&StsEvent::Fetched { policy });
            }
            Err(failure) => {
                let kept = self.cached(&key.0);
                self.tell(&StsEvent::FetchFailed { domain: &key.0, failure, kept: kept.as_deref() });
                if let Some(kept) = kept {
                    self.keep(Arc::new(self.with_failure(&kept, failure))).await;
                }
            }
        }
        policy
    }

    fn with_failure(&self, kept: &StsPolicy, failure: &FetchFailure) -> StsPolicy {
        let refresh_failure = RefreshFailure {
            at: self.clock.now(),
            result_type: failure.result_type().to_owned(),
            sentence: failure.to_string(),
        };
        StsPolicy { refresh_failure: Some(refresh_failure), ..kept.clone() }
    }

    async fn keep(self: &Arc<Self>, policy: Arc<StsPolicy>) {
        let inner = Arc::clone(self);
        let kept = tokio::task::spawn_blocking(move || inner.store.put(&policy)).await;
        if let Ok(Err(fault)) = kept {
            self.tell(&StsEvent::StoreFailed { fault: &fault });
        }
    }
}

/// Refreshes policies before they expire, until the stop (RFC 8461 §3.3, §10.2).
pub async fn keep_fresh(client: Arc<StsClient>, stop: CancellationToken) {
    if !client.inner.enabled {
        return;
    }
    while stop.run_until_cancelled(client.refresh_those_due()).await.is_some() {
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_AFTER)).await.is_none() {
            return;
        }
    }
}
