//! One look-up: from the cache, or over the first path whose answer proves itself.
//!
//! Paths are asked in turn, each with its share of the deadline. A path without a usable answer
//! (silence, SERVFAIL, stripped signatures, a bogus answer) is that path's failure and the next
//! one is asked; bogus is the verdict only when every path says so (RFC 4035 §4.3, RFC 7672 §2.1).
//! The same question is asked once at a time, whoever waits for it.

use super::answer::{Answer, Ask, Freshness, RecordType, Trace};
use super::cache::{Cache, Cached, Room};
use super::dnssec::{Anchors, Outcome, Reason, Validated, Zones};
use super::error::DnsSetupError;
use super::event::{DnsEvent, Listener, Probed};
use super::judging::{ProofRules, has_signatures, vouches};
pub use super::lookup::{Lookup, LookupFailure};
use super::own::{self, Own, Realm, Way};
use super::paths::channel::Flags;
use super::paths::present::{List, Paths};
use super::paths::{FetchError, Path, PathName, Source, in_order};
use super::tlsa_counts::{KnownCount, TlsaCounts};
use super::{Security, convert};
use crate::clock::{Clock, Timestamp};
use crate::config::files::read_regular_text;
use crate::config::{Config, DnsMode, TrustAnchorSource, Upstream};
use crate::flight::Flights;
use crate::outcome::{Cause, PathFailure, Question};
use async_trait::async_trait;
use hickory_proto::rr::{Name, Record, RecordType as WireType};
use hickory_proto::serialize::binary::BinEncodable as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Answers kept: those of one to two kilobytes in so many octets. The largest that are looked at
/// take a hundred times as much.
const ANSWERS_KEPT: Room = Room { entries: 100_000, octets: 200 * 1024 * 1024 };
/// The memory of an answer beside its records, its key included.
const ANSWER_OCTETS: usize = 1024;
/// How long the servers of the system are not asked again what none of them answered
/// (RFC 9520 §3.2).
const FAILURE_KEPT: Duration = Duration::from_secs(30);
/// Zones whose keys or whose lack of them are remembered.
const ZONES_KEPT: usize = 50_000;

type LookupKey = (Way, Name, WireType);

/// One question to all paths.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    name: &'a Name,
    record_type: WireType,
    /// Why no answer to it can be proven, where none can.
    unproven: Option<&'a Reason>,
    /// When there is no more time for it.
    end: Instant,
}

/// The ways to the DNS that the operator configured.
pub struct Dns {
    paths: Paths,
    /// The operator's own names, and who knows them.
    pub(super) own: Own,
    mode: DnsMode,
    deadline: Duration,
    timeout: Duration,
    pub(super) anchors: Anchors,
    zones: Zones,
    cache: Mutex<Cache<LookupKey, Arc<Lookup>>>,
    flights: Flights<LookupKey, Arc<Lookup>>,
    counts: Mutex<TlsaCounts>,
    pub(super) clock: Clock,
    pub(super) listener: Listener,
}

impl Dns {
    /// Sets up all upstreams and reads the trust anchors. Nothing is asked yet.
    ///
    /// # Errors
    /// [`DnsSetupError`], one line that names the key to change.
    pub fn new(config: &Config, clock: Clock, listener: Listener) -> Result<Self, DnsSetupError> {
        let own = Own::new(config)?;
        Ok(Self { own, ..Self::with_paths(config, Paths::of(config)?, clock, listener)? })
    }

    /// As [`Dns::new`], over paths that are not those of the configuration, without anything that
    /// this machine knows by itself.
    ///
    /// # Errors
    /// When the trust anchors cannot be used.
    pub fn over(
        config: &Config,
        sources: Vec<(PathName, Arc<dyn Source>)>,
        clock: Clock,
        listener: Listener,
    ) -> Result<Self, DnsSetupError> {
        Self::with_paths(config, Paths::over(sources), clock, listener)
    }

    fn with_paths(config: &Config, paths: Paths, clock: Clock, listener: Listener) -> Result<Self, DnsSetupError> {
        Ok(Self {
            anchors: trusted(&config.dns.trust_anchors)?,
            paths,
            own: Own::default(),
            mode: config.dns.mode,
            deadline: config.dns.deadline,
            timeout: config.dns.timeout,
            zones: Zones::new(ZONES_KEPT),
            cache: Mutex::new(Cache::new(ANSWERS_KEPT)),
            flights: Flights::default(),
            counts: Mutex::default(),
            clock,
            listener,
        })
    }

    /// Whether what was made by one configuration is what another one would make; the files that it names
    /// are read. Certificate authorities are not compared: an encrypted path is always made again.
    ///
    /// # Errors
    /// As [`Dns::new`].
    pub fn is_alike(&self, before: &Config, now: &Config) -> Result<bool, DnsSetupError> {
        let is_encrypted = |upstream: &Upstream| matches!(upstream, Upstream::Tls { .. } | Upstream::Https { .. });
        let same_paths = before.dns == now.dns && !now.dns.upstreams.iter().any(is_encrypted);
        Ok(same_paths && trusted(&now.dns.trust_anchors)? == self.anchors && self.own.searches_alike(now))
    }

    /// One validated look-up in the nouns of mail, with the trace of how it went.
    pub async fn lookup(&self, name: &str, record_type: RecordType) -> (Answer, Trace) {
        self.lookup_by(Way::Configured, name, record_type).await
    }

    /// As [`Dns::lookup`], by this way.
    pub(super) async fn lookup_by(&self, way: Way, name: &str, record_type: RecordType) -> (Answer, Trace) {
        self.lookup_with(way, name, record_type, Freshness::Kept).await
    }

    /// As [`Dns::lookup`], past the answers that are kept here; what comes replaces them.
    pub async fn lookup_fresh(&self, name: &str, record_type: RecordType) -> (Answer, Trace) {
        self.lookup_with(Way::Configured, name, record_type, Freshness::Asked).await
    }

    async fn lookup_with(
        &self,
        way: Way,
        name: &str,
        record_type: RecordType,
        freshness: Freshness,
    ) -> (Answer, Trace) {
        let question = Question { name: name.to_owned(), record_type: record_type.word().to_owned() };
        let Some(wire_name) = convert::wire_name(name) else {
            // A name that does not fit into the DNS cannot exist in it.
            return (Answer::NxDomain(Security::Secure), Trace { question, path: None, failed: Vec::new() });
        };
        let wire_type = convert::wire_type(record_type);
        let lookup = match freshness {
            Freshness::Kept => self.find_by(way, &wire_name, wire_type).await,
            // Not shared with a look-up under way: that one may have begun before the change.
            Freshness::Asked => Box::pin(self.look_up_and_keep((way, wire_name.to_lowercase(), wire_type))).await,
        };
        let path = lookup.path.as_ref().map(ToString::to_string);
        let trace = Trace { question: question.clone(), path, failed: lookup.failed.clone() };
        let answer = match &lookup.result {
            Ok(validated) => convert::answer(validated, &question),
            Err(LookupFailure::Bogus(detail)) => Answer::Failed(Cause::DnsBogus { question, detail: detail.clone() }),
            Err(LookupFailure::Unavailable) => {
                Answer::Failed(Cause::DnsUnavailable { question, tried: lookup.failed.clone() })
            }
        };
        (answer, trace)
    }

    /// One validated look-up of any type, from the cache where the answer still holds.
    pub async fn find(&self, name: &Name, record_type: WireType) -> Arc<Lookup> {
        self.find_by(Way::Configured, name, record_type).await
    }

    /// Whether nobody is asked for a name, because no public DNS has it.
    #[must_use]
    pub fn has_no_dns(&self, name: &str) -> bool {
        matches!(self.own.realm(Way::Configured, name), Realm::NoDns(_))
    }

    async fn find_by(&self, way: Way, name: &Name, record_type: WireType) -> Arc<Lookup> {
        let key = (way, name.to_lowercase(), record_type);
        if let Some(known) = self.cached(&key) {
            return known;
        }
        // On the heap: an answer that is kept must not cost the moving of all that a look-up needs.
        Box::pin(self.find_out(key)).await
    }

    async fn find_out(&self, key: LookupKey) -> Arc<Lookup> {
        let look_up = || async {
            // Whoever was asked a moment ago may have just kept it.
            match self.cached(&key) {
                Some(known) => known,
                None => self.look_up_and_keep(key.clone()).await,
            }
        };
        self.flights.once(key.clone(), look_up).await
    }

    fn cached(&self, key: &LookupKey) -> Option<Arc<Lookup>> {
        let now = self.clock.now();
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key, now)
    }

    async fn look_up_and_keep(&self, key: LookupKey) -> Arc<Lookup> {
        let lookup = Arc::new(self.look_up(&key).await);
        self.tell(&key, &lookup);
        // Whom the system asks may be dead for long while others answer; not every message waits for it.
        if key.0 == Way::System && lookup.result.is_err() {
            self.keep(key, Lookup::clone(&lookup), self.clock.now().plus(FAILURE_KEPT));
        } else if let Ok(validated) = &lookup.result {
            let until = validated.valid_until;
            // The chain of trust is for whoever looks at one answer; it would be half of the cache.
            let mut kept = Lookup::clone(&lookup);
            if let Ok(validated) = &mut kept.result {
                validated.chain = Vec::new();
            }
            self.keep(key, kept, until);
        }
        lookup
    }

    fn keep(&self, key: LookupKey, lookup: Lookup, until: Timestamp) {
        let octets = octets_of(&lookup);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(key, Cached { value: Arc::new(lookup), octets, until }, self.clock.now());
    }

    fn tell(&self, key: &LookupKey, lookup: &Lookup) {
        let question = Question { name: without_dot(&key.1), record_type: key.2.to_string() };
        match (&lookup.result, &lookup.path) {
            (Ok(validated), path) => {
                if key.2 == WireType::TLSA {
                    let count = record_count(&validated.outcome);
                    (self.listener)(&DnsEvent::TlsaRecords { count });
                    let known = KnownCount { records: count, name: without_dot(&key.1), at: self.clock.now() };
                    self.counts.lock().unwrap_or_else(PoisonError::into_inner).note(known);
                }
                if let (Some(path), false) = (path, lookup.failed.is_empty()) {
                    (self.listener)(&DnsEvent::AnsweredDespite { question: &question, path, failed: &lookup.failed });
                }
            }
            (Err(_), _) => (self.listener)(&DnsEvent::Unanswered { question: &question, failed: &lookup.failed }),
        }
    }

    pub(super) fn paths_now(&self) -> List {
        self.paths.now(|event| (self.listener)(event))
    }

    /// Asks those who can know.
    async fn look_up(&self, (way, name, record_type): &LookupKey) -> Lookup {
        let end = Instant::now() + self.deadline;
        let wanted = Wanted { name, record_type: *record_type, unproven: None, end };
        match self.own.realm(*way, &name.to_ascii()) {
            Realm::Public => {
                let found = self.look_up_over(&self.paths_now(), wanted).await;
                self.followed_inside(found, wanted).await
            }
            Realm::Private { paths, reason } => {
                self.look_up_over(&paths, Wanted { unproven: Some(&reason), ..wanted }).await
            }
            Realm::NoDns(reason) => {
                Lookup { result: Ok(own::no_dns(reason, self.clock.now())), path: None, failed: Vec::new() }
            }
        }
    }

    /// An alias may lead from a name of the world to a private one.
    async fn followed_inside(&self, found: Lookup, wanted: Wanted<'_>) -> Lookup {
        let Some(to) = self.own.led_to(&found).cloned() else { return found };
        let Realm::Private { paths, reason } = self.own.realm(Way::Configured, &to.to_ascii()) else { return found };
        let rest = self.look_up_over(&paths, Wanted { name: &to, unproven: Some(&reason), ..wanted }).await;
        own::joined(found, &to, rest)
    }

    /// Asks path after path.
    async fn look_up_over(&self, all: &[Arc<Path>], wanted: Wanted<'_>) -> Lookup {
        let paths = in_order(all, self.clock.now());
        let mut faults: Vec<(&Path, FetchError)> = Vec::new();
        for (nth, path) in paths.iter().enumerate() {
            let left = wanted.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // A fair share of what is left, so that a slow path leaves time for the others.
            let waiting = u32::try_from(paths.len() - nth).unwrap_or(1);
            let share = (left / waiting).max(self.timeout).min(left);
            let attempt = timeout(share, self.attempt(path, &wanted)).await;
            let attempt = attempt.unwrap_or(Err(FetchError::TimedOut));
            let result = match &attempt {
                Ok(validated) => validated.security.word(),
                Err(fault) => fault.word(),
            };
            let record_type = convert::bounded(wanted.record_type);
            (self.listener)(&DnsEvent::Asked { path: &path.name, record_type, result });
            if wanted.unproven.is_none() {
                let came = attempt.as_ref().ok().map(|validated| record_count(&validated.outcome));
                self.note_carried(path, wanted.name, record_type, came);
            }
            match attempt {
                Ok(validated) => {
                    self.note_health(path, &faults);
                    let asked =
                        |other: &Path| other.name == path.name || faults.iter().any(|(f, _)| f.name == other.name);
                    // What they lost before says nothing any more; what they would do now nobody has seen.
                    for other in all.iter().filter(|other| !asked(other)) {
                        other.forget(wanted.name, record_type);
                        self.tell_news(other, self.clock.now());
                    }
                    let failed = faults.iter().map(|(path, fault)| path.failure(fault)).collect();
                    return Lookup { result: Ok(validated), path: Some(path.name.clone()), failed };
                }
                Err(fault) => faults.push((path, fault)),
            }
        }
        failed(all, &faults)
    }

    async fn attempt(&self, path: &Path, wanted: &Wanted<'_>) -> Result<Validated, FetchError> {
        if let Some(reason) = wanted.unproven {
            return own::ask(path, wanted.name, wanted.record_type, reason, self.clock.now()).await;
        }
        let proof = ProofRules {
            mode: self.mode,
            anchors: &self.anchors,
            zones: &self.zones,
            private: &self.own.private,
            clock: &self.clock,
        };
        proof.ask(path, wanted.name, wanted.record_type).await
    }

    /// Tries every path once with a question about the root, which is always signed. In
    /// `validate` mode this names upstreams that strip DNSSEC; nothing else follows from it.
    /// A path that is silent is named as well, in both modes: it may come up later.
    ///
    /// # Errors
    /// In `trust-ad` mode, when a resolver answers and does not say with AD that it has validated
    /// the root: then all its answers would count as unsigned.
    pub async fn probe(&self) -> Result<(), DnsSetupError> {
        for path in self.paths_now().iter() {
            let found = match self.mode {
                DnsMode::Validate => match path.fetch(&Name::root(), WireType::SOA, Flags::Validate).await {
                    Ok(root) if has_signatures(&root) => Probed::PassesDnssec,
                    Ok(_) => Probed::StripsDnssec,
                    Err(fault) => Probed::Silent(fault.to_string()),
                },
                DnsMode::TrustAd => match vouches(path).await {
                    Ok(()) => Probed::PassesDnssec,
                    Err(FetchError::NotValidating) => return Err(not_validating(&path.name)),
                    Err(fault) => Probed::Silent(fault.to_string()),
                },
            };
            (self.listener)(&DnsEvent::Probed { path: &path.name, found: &found });
        }
        Ok(())
    }

    /// Names that have had TLSA records, one for each number of them.
    pub fn tlsa_counts(&self) -> Vec<KnownCount> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).all()
    }
}

#[async_trait]
impl Ask for Dns {
    async fn ask(&self, name: &str, record_type: RecordType, freshness: Freshness) -> Answer {
        self.lookup_with(Way::Configured, name, record_type, freshness).await.0
    }
}

fn not_validating(path: &PathName) -> DnsSetupError {
    let message = "the resolver does not validate (a question for the root's SOA must be answered with the AD bit); \
                   let it validate, or set mode = \"validate\"";
    DnsSetupError::Upstream { upstream: path.to_string(), message: message.to_owned() }
}

/// Bogus only when every path says so: one that is silent proves nothing about the zone.
fn failed(paths: &[Arc<Path>], faults: &[(&Path, FetchError)]) -> Lookup {
    let mut failed: Vec<PathFailure> = faults.iter().map(|(path, fault)| path.failure(fault)).collect();
    let mut reasons: Vec<&str> = faults.iter().filter_map(|(_, fault)| fault.bogus()).collect();
    if !paths.is_empty() && reasons.len() == paths.len() {
        // Most of the time all paths bring the same wrong answer.
        reasons.dedup();
        return Lookup { result: Err(LookupFailure::Bogus(reasons.join("; "))), path: None, failed };
    }
    let asked = |path: &Path| faults.iter().any(|(asked, _)| asked.name == path.name);
    failed.extend(paths.iter().filter(|path| !asked(path.as_ref())).map(|path| PathFailure {
        upstream: path.name.to_string(),
        detail: "not asked: the time for the look-up was over".to_owned(),
    }));
    Lookup { result: Err(LookupFailure::Unavailable), path: None, failed }
}

/// The memory an answer takes, about: each record, and beside it what it holds.
fn octets_of(lookup: &Lookup) -> usize {
    let Ok(Validated { outcome: Outcome::Found { records, .. }, .. }) = &lookup.result else { return ANSWER_OCTETS };
    let data = |record: &Record| record.data.to_bytes().map_or(0, |data| data.len());
    records.iter().map(|record| size_of::<Record>() + data(record)).sum::<usize>() + ANSWER_OCTETS
}

fn record_count(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Found { records, .. } => records.len(),
        Outcome::NoData { .. } | Outcome::NxDomain { .. } | Outcome::ErrorCode(_) => 0,
    }
}

fn without_dot(name: &Name) -> String {
    let text = name.to_ascii();
    if text == "." { text } else { text.trim_end_matches('.').to_owned() }
}

/// The trust anchors that the configuration names.
///
/// # Errors
/// When the file cannot be used.
pub fn trusted(source: &TrustAnchorSource) -> Result<Anchors, DnsSetupError> {
    let TrustAnchorSource::File(path) = source else {
        return Ok(Anchors::builtin());
    };
    let error = |message: String| DnsSetupError::TrustAnchors { path: path.display().to_string(), message };
    let text = read_regular_text(path).map_err(|e| error(format!("cannot be read: {e}")))?;
    Anchors::parse(&text).map_err(|e| error(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::answer::Data;
    use crate::resolve::paths::Transport;
    use hickory_proto::op::{Message, OpCode, Query};
    use hickory_proto::rr::rdata::TXT;
    use hickory_proto::rr::{RData, Record};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A validating resolver that numbers its answers.
    #[derive(Default)]
    struct Numbering(AtomicUsize);

    #[async_trait]
    impl Source for Numbering {
        async fn fetch(&self, name: &Name, record_type: WireType) -> Result<Message, FetchError> {
            let number = self.0.fetch_add(1, Ordering::SeqCst).to_string();
            let mut message = Message::response(1, OpCode::Query);
            message.add_query(Query::query(name.clone(), record_type));
            message.metadata.authentic_data = true;
            message.add_answer(Record::from_rdata(name.clone(), 300, RData::TXT(TXT::new(vec!["n=".into(), number]))));
            Ok(message)
        }
    }

    #[tokio::test]
    async fn rfc8461_5_1_a_fresh_look_up_passes_what_is_kept_and_replaces_it() {
        let mut config = Config::default();
        config.dns.mode = DnsMode::TrustAd;
        let path = PathName { upstream: "test".into(), transport: Transport::Udp };
        let clock = Clock::manual(Timestamp(1_795_261_468_000));
        let sources: Vec<(PathName, Arc<dyn Source>)> = vec![(path, Arc::new(Numbering::default()))];
        let dns = Dns::over(&config, sources, clock, crate::resolve::event::nobody()).unwrap();
        let mut seen = Vec::new();
        for freshness in [Freshness::Kept, Freshness::Kept, Freshness::Asked, Freshness::Kept] {
            let Answer::Found(found) = dns.ask("_mta-sts.a.test", RecordType::Txt, freshness).await else { panic!() };
            assert_eq!(found.security, Security::Secure);
            seen.extend(found.data);
        }
        assert_eq!(seen, [b"n=0", b"n=0", b"n=1", b"n=1"].map(|text| Data::Txt(text.to_vec())));
    }
}
