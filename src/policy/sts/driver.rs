//! Whoever asks what MTA-STS says about a domain: record, kept policy, fetch (RFC 8461 §3, §5.1).
//!
//! The front page of the folder says what waits for what.

use super::attempts::{Attempts, BACK_OFF, FetchEnd, LastFetch};
use super::event::{StsEvent, StsListener};
use super::failure::FetchFailure;
use super::fetch::Fetcher;
use super::lost::{Lost, LostBecause};
use super::memory::Held;
use super::policy::Mode;
use super::record::{self, PolicyId, RecordError};
use super::room::LIMITS;
use super::shared::UntoldPolicies;
use super::store::{COLLECTION, LookedUp, Store, StoreFault};
use super::{RefreshFailure, StsAbsent, StsPolicy, StsState};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, TrustedRoots};
use crate::flight::Flights;
use crate::net::Network;
use crate::resolve::answer::{Answer, Ask, Data, Freshness, RecordType};
use crate::smtp::address::Domain;
use crate::state_dir;
use futures_util::StreamExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often policies that are due for a refresh are looked for.
const LOOK_AFTER: Duration = Duration::from_secs(300);
/// Refreshes at once: enough for every policy of a full store within a day, few enough to be
/// noticed by nobody.
const REFRESHES_AT_ONCE: usize = 4;
/// How long a policy stays on the disk when it has expired: the clock may be wrong for a while.
const OVER_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// What a fetch comes to.
type Fetched = Result<Arc<StsPolicy>, FetchFailure>;

/// By which ways policies are found, and by which clock they end.
pub struct StsPaths {
    /// Who is asked for records and addresses.
    pub dns: Arc<dyn Ask>,
    /// The way to policy hosts.
    pub network: Arc<dyn Network>,
    /// The time.
    pub clock: Clock,
}

/// What is known and found out about the MTA-STS policies of domains.
pub struct StsClient {
    pub(super) inner: Arc<ClientInner>,
    /// How long a fetch is waited for by whoever is in more of a hurry than delivery.
    patience: Option<Duration>,
}

pub(super) struct ClientInner {
    pub(super) enabled: bool,
    dns: Arc<dyn Ask>,
    fetcher: Fetcher,
    pub(super) store: Store,
    attempts: Mutex<Attempts>,
    /// A domain has one fetch at a time, whatever id its record shows to those who want its policy.
    flights: Flights<Domain, Fetched>,
    /// Held while the store reads a policy and replaces it.
    keeping: tokio::sync::Mutex<()>,
    pub(super) untold: Mutex<UntoldPolicies>,
    pub(super) clock: Clock,
    listener: StsListener,
}

impl StsClient {
    /// Nothing is asked or written yet.
    #[must_use]
    pub fn new(config: &Config, roots: &TrustedRoots, paths: StsPaths, listener: StsListener) -> Self {
        let StsPaths { dns, network, clock } = paths;
        Self {
            inner: Arc::new(ClientInner {
                enabled: config.mta_sts.enabled,
                dns,
                fetcher: Fetcher::new(config, roots, network, &clock),
                store: Store::new(state_dir::open_collection(&config.spool, COLLECTION), LIMITS),
                attempts: Mutex::default(),
                flights: Flights::default(),
                keeping: tokio::sync::Mutex::default(),
                untold: Mutex::default(),
                clock,
                listener,
            }),
            patience: None,
        }
    }

    /// The same for somebody who waits for a fetch only so long. The fetch itself takes the time that
    /// delivery gives it, so that nothing is put down as failed that was not waited for.
    #[must_use]
    pub fn waiting_at_most(&self, patience: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), patience: Some(patience) }
    }

    /// What is in force for mail to a next-hop domain: exactly this one, never its parent
    /// (RFC 8461 §3.4).
    pub async fn policy_for(&self, domain: &Domain) -> StsState {
        if !self.inner.enabled {
            return StsState::Absent(StsAbsent::SwitchedOff);
        }
        let announced = self.announced(domain, Freshness::Kept).await;
        match (self.inner.held(domain), announced) {
            // One that forbids nothing is no reason to go on without the new one.
            (Held::Policy(policy), Ok(id)) if policy.id.as_ref() != Some(&id) && policy.terms.mode != Mode::None => {
                if self.inner.lately(domain, Some(&id)).is_none() {
                    // It runs by itself.
                    drop(self.inner.start(domain, Some(id)));
                }
                self.inner.used(policy).await
            }
            (held, announced) => self.settled(domain, held, announced).await,
        }
    }

    /// As [`StsClient::policy_for`] with a TXT record that is asked for now, as far as the budget
    /// of the domain goes, and waiting for the fetch when its id is new: before mail is given up
    /// for a policy (RFC 8461 §5.1).
    pub async fn recheck(&self, domain: &Domain) -> StsState {
        if !self.inner.enabled {
            return StsState::Absent(StsAbsent::SwitchedOff);
        }
        let may_ask = self.inner.attempts().may_ask(domain, self.inner.clock.now());
        let announced = self.announced(domain, if may_ask { Freshness::Asked } else { Freshness::Kept }).await;
        self.settled(domain, self.inner.held(domain), announced).await
    }

    /// What is in force, after a fetch where one is needed.
    async fn settled(&self, domain: &Domain, held: Held, announced: Result<PolicyId, StsAbsent>) -> StsState {
        match (held, announced) {
            (Held::Policy(policy), Ok(id)) if policy.id.as_ref() == Some(&id) => self.inner.used(policy).await,
            (Held::Policy(policy), Err(_)) => self.inner.used(policy).await,
            (Held::Nothing, Err(absent)) => StsState::Absent(absent),
            // RFC 8461 §10.2: whoever suppresses the record shall not outlast the policy.
            (held @ Held::Lost(_), Err(_)) => self.newest(domain, None, held).await,
            (held, Ok(id)) => self.newest(domain, Some(id), held).await,
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
        let id = match (announced, self.inner.held(domain)) {
            (Ok(id), _) => Some(id),
            // RFC 8461 §10.2: whoever suppresses the record shall not outlast the policy.
            (Err(_), Held::Policy(kept)) => kept.id.clone(),
            (Err(_), Held::Lost(_)) => None,
            (Err(StsAbsent::Unknown(cause)), Held::Nothing) => return Err(FetchFailure::Dns(Box::new(cause))),
            (Err(StsAbsent::UnusableRecord(error)), Held::Nothing) => return Err(FetchFailure::NotAnnounced(error)),
            (Err(_), Held::Nothing) => return Err(FetchFailure::NotAnnounced(RecordError::None)),
        };
        self.inner.start(domain, id).await
    }

    /// The unexpired policy that is kept, of whatever mode.
    #[must_use]
    pub fn cached(&self, domain: &Domain) -> Option<Arc<StsPolicy>> {
        match self.inner.held(domain) {
            Held::Policy(policy) => Some(policy),
            Held::Lost(_) | Held::Nothing => None,
        }
    }

    /// A domain that is known to have a policy.
    #[must_use]
    pub fn one_known(&self) -> Option<Domain> {
        self.inner.store.one_kept()
    }

    /// What is kept, expired or not.
    #[must_use]
    pub fn kept(&self, domain: &Domain) -> Held {
        self.inner.store.get(domain).held
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

    /// Fetches every kept policy whose time has come and those that were damaged, forgets what
    /// expired long ago, and returns when all are through.
    pub async fn refresh_those_due(&self) {
        let inner = Arc::clone(&self.inner);
        let Ok((all, faults)) = tokio::task::spawn_blocking(move || inner.store.all()).await else { return };
        faults.iter().for_each(|fault| self.inner.tell(&StsEvent::StoreFailed { fault }));
        let mut due = Vec::new();
        for (domain, held) in all {
            // By a command, perhaps, which tells nobody.
            if let Held::Policy(policy) = &held
                && policy.fetched_at.plus(LOOK_AFTER * 2) > self.inner.clock.now()
            {
                self.inner.untold.lock().unwrap_or_else(PoisonError::into_inner).add(policy);
            }
            let fresh = self.inner.freshness(&held);
            match fresh {
                Fresh::Over => self.inner.store.remove(&domain),
                Fresh::FromTheFuture => {
                    let now = self.inner.clock.now();
                    let for_store = domain.clone();
                    self.inner.write(move |store| store.correct_clock(&for_store, now)).await;
                    due.push((domain, held));
                }
                Fresh::Due => due.push((domain, held)),
                Fresh::Good => {}
            }
        }
        let refresh = |(domain, held): (Domain, Held)| async move {
            // RFC 8461 §10.2: whatever has become of the record.
            let announced = self.announced(&domain, Freshness::Kept).await.ok();
            let known = match &held {
                Held::Policy(policy) => policy.id.clone(),
                Held::Lost(_) | Held::Nothing => None,
            };
            let id = announced.or(known);
            if self.inner.lately(&domain, id.as_ref()).is_none() {
                // What came of it is told and kept.
                let _told = self.inner.start(&domain, id).await;
            }
        };
        futures_util::stream::iter(due).for_each_concurrent(REFRESHES_AT_ONCE, refresh).await;
    }

    /// Waits for the policy with this id, unless it was tried lately.
    async fn newest(&self, domain: &Domain, id: Option<PolicyId>, held: Held) -> StsState {
        match (self.inner.lately(domain, id.as_ref()), &held) {
            (Some(LastFetch { attempt: FetchEnd::Failed(failure), .. }), _) => self.without(held, failure).await,
            // Somebody else's record differs from the one the policy was fetched for.
            (Some(LastFetch { attempt: FetchEnd::Fetched, .. }), Held::Policy(policy)) => {
                self.inner.used(Arc::clone(policy)).await
            }
            (Some(LastFetch { attempt: FetchEnd::Fetched, spent: true }), Held::Lost(lost)) => lost_state(lost, None),
            (Some(LastFetch { attempt: FetchEnd::Fetched, spent: true }), Held::Nothing) => {
                let until = Some(self.inner.clock.now().plus(BACK_OFF));
                let lost = Lost { domain: domain.clone(), until, because: LostBecause::NotKept };
                lost_state(&Arc::new(lost), None)
            }
            (Some(LastFetch { attempt: FetchEnd::Fetched, spent: false }) | None, _) => {
                match self.fetched(domain, id).await {
                    Ok(policy) => policy.in_force(),
                    Err(failure) => self.without(held, failure).await,
                }
            }
        }
    }

    /// The end of a fetch, or of the patience with it.
    async fn fetched(&self, domain: &Domain, id: Option<PolicyId>) -> Fetched {
        let (fetch, limit) = (self.inner.start(domain, id), self.inner.fetcher.deadline());
        let Some(patience) = self.patience.filter(|patience| *patience < limit) else { return fetch.await };
        let whole = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let slow = FetchFailure::Slow { waited_ms: whole(patience), limit_ms: whole(limit) };
        timeout(patience, fetch).await.unwrap_or(Err(slow))
    }

    /// What is in force when the newest policy could not be had.
    async fn without(&self, held: Held, failure: FetchFailure) -> StsState {
        match held {
            Held::Policy(policy) => self.inner.used(policy).await,
            Held::Lost(lost) => lost_state(&lost, Some(failure)),
            Held::Nothing => StsState::Absent(StsAbsent::FetchFailed(failure)),
        }
    }
}

fn lost_state(lost: &Arc<Lost>, fetch: Option<FetchFailure>) -> StsState {
    StsState::Absent(StsAbsent::Lost { lost: Arc::clone(lost), fetch })
}

fn text(data: &Data) -> Option<&[u8]> {
    match data {
        Data::Txt(text) => Some(text),
        Data::Address(_) | Data::Mx(..) | Data::Tlsa(_) => None,
    }
}

/// What is to be done about something that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fresh {
    /// Nothing yet.
    Good,
    /// It is to be fetched.
    Due,
    /// The clock was wrong when it was fetched.
    FromTheFuture,
    /// Its time has been over for long.
    Over,
}

impl ClientInner {
    fn tell(&self, event: &StsEvent<'_>) {
        (self.listener)(event);
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lately(&self, domain: &Domain, id: Option<&PolicyId>) -> Option<LastFetch> {
        self.attempts().lately(domain, id, self.clock.now())
    }

    /// What is held and not over.
    fn held(&self, domain: &Domain) -> Held {
        let LookedUp { held, news } = self.store.get(domain);
        if let Some(fault) = &news {
            self.tell(&StsEvent::StoreFailed { fault });
        }
        let now = self.clock.now();
        match held {
            Held::Policy(policy) if policy.has_expired(now) => Held::Nothing,
            Held::Lost(lost) if lost.is_over(now) => Held::Nothing,
            held @ (Held::Policy(_) | Held::Lost(_) | Held::Nothing) => held,
        }
    }

    /// A clock that is wrong for a while must not cost a policy: what is over stays for a time.
    fn freshness(&self, held: &Held) -> Fresh {
        let now = self.clock.now();
        let over_since = |ends: Timestamp| ends.plus(OVER_KEPT) <= now;
        match held {
            Held::Policy(policy) if over_since(policy.expires_at()) => Fresh::Over,
            Held::Policy(policy) if policy.has_expired(now) => Fresh::Good,
            Held::Policy(policy) if policy.fetched_at > now => Fresh::FromTheFuture,
            Held::Policy(policy) if policy.refresh_due() <= now => Fresh::Due,
            Held::Lost(lost) if lost.until.is_some_and(over_since) => Fresh::Over,
            Held::Lost(lost) if lost.is_over(now) || lost.because == LostBecause::LetGo => Fresh::Good,
            Held::Lost(_) => Fresh::Due,
            Held::Policy(_) | Held::Nothing => Fresh::Good,
        }
    }

    /// A policy that mail goes under; by that a newcomer may become established.
    async fn used(self: &Arc<Self>, policy: Arc<StsPolicy>) -> StsState {
        let now = self.clock.now();
        if policy.earns_its_place(now) {
            let domain = policy.domain.clone();
            self.write(move |store| store.establish(&domain, now)).await;
        }
        policy.in_force()
    }

    /// Starts a fetch, or joins the one under way. It goes on when nobody waits for it (any more).
    fn start(self: &Arc<Self>, domain: &Domain, id: Option<PolicyId>) -> impl Future<Output = Fetched> + use<> {
        let (inner, for_fetch) = (Arc::clone(self), domain.clone());
        let fetch = self.flights.once(domain.clone(), move || inner.fetch_and_keep(for_fetch, id));
        let running = tokio::spawn(fetch);
        async move { running.await.unwrap_or_else(|panicked| Err(FetchFailure::Internal { detail: panicked.to_string() })) }
    }

    async fn fetch_and_keep(self: Arc<Self>, domain: Domain, id: Option<PolicyId>) -> Fetched {
        let began = self.clock.now();
        let fetched = self.fetcher.fetch(&*self.dns, &domain).await;
        let policy = fetched
            .and_then(|text| StsPolicy::read(domain.clone(), id.clone(), text, began).map_err(FetchFailure::Invalid))
            .map(Arc::new);
        let attempt = policy.as_ref().map_or_else(|failure| FetchEnd::Failed(failure.clone()), |_| FetchEnd::Fetched);
        let now = self.clock.now();
        self.attempts().note(&domain, id, attempt, now);
        match &policy {
            Ok(policy) => {
                let kept = Arc::clone(policy);
                self.write(move |store| store.put(&kept, now)).await;
                self.untold.lock().unwrap_or_else(PoisonError::into_inner).add(policy);
                self.tell(&StsEvent::Fetched { policy });
            }
            Err(failure) => {
                let kept = self.held(&domain);
                self.tell(&StsEvent::FetchFailed { domain: &domain, failure, kept: &kept });
                if let Held::Policy(_) = kept {
                    let failure = RefreshFailure {
                        at: now,
                        result_type: failure.result_type().to_owned(),
                        sentence: failure.to_string(),
                    };
                    self.write(move |store| store.note_failure(&domain, failure, now)).await;
                }
            }
        }
        policy
    }

    /// Writes to the store, one after the other.
    pub(super) async fn write(self: &Arc<Self>, write: impl FnOnce(&Store) -> Result<(), StoreFault> + Send + 'static) {
        let _alone = self.keeping.lock().await;
        let inner = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || write(&inner.store)).await;
        if let Ok(Err(fault)) = written {
            self.tell(&StsEvent::StoreFailed { fault: &fault });
        }
    }
}

/// Refreshes policies before they expire, until the stop (RFC 8461 §3.3, §10.2).
pub(crate) async fn keep_fresh(client: Arc<StsClient>, stop: CancellationToken) {
    if !client.inner.enabled {
        return;
    }
    while stop.run_until_cancelled(client.refresh_those_due()).await.is_some() {
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_AFTER)).await.is_none() {
            return;
        }
    }
}
