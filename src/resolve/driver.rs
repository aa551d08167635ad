//! One look-up: from the cache, or over the first path whose answer proves itself.
//!
//! Paths are asked in turn, each with its share of the deadline. A path without a usable answer
//! (silence, SERVFAIL, stripped signatures, a bogus answer) is that path's failure and the next
//! one is asked; bogus is the verdict only when every path says so (RFC 4035 §4.3, RFC 7672 §2.1).
//! The same question is asked once at a time, whoever waits for it.

#![expect(clippy::disallowed_methods, reason = "the trust anchor file is read once, at the start")]

use super::answer::{Answer, Ask, Freshness, RecordType, Trace};
use super::cache::{Cache, Kept, Room};
use super::dnssec::{Anchors, Outcome, Step, Validated, Validation, Zones};
use super::event::{DnsEvent, Listener, PathStanding, Probed};
use super::flight::Flights;
use super::paths::channel::Flags;
use super::paths::{Carrier, Fault, Path, PathName, Source, in_order, setup};
use super::tlsa_counts::{KnownCount, TlsaCounts};
use super::{Security, convert, trust_ad};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DnsMode, RootsError, TrustAnchorSource};
use crate::outcome::{Cause, PathFailure, Question};
use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
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
/// Zones whose keys or whose lack of them are remembered.
const ZONES_KEPT: usize = 50_000;
/// Questions that one validation may ask on its path. The validator has its own limits; this is
/// the fuse behind them.
const STEPS_LIMIT: usize = 200;

/// Why the DNS side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DnsSetupError {
    /// The trust anchor file is unreadable, empty or not understood.
    #[error("[dns] trust_anchors: {path}: {message}")]
    TrustAnchors {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// An upstream cannot be used.
    #[error("[dns] upstreams: {upstream}: {message}")]
    Upstream {
        /// The upstream as configured.
        upstream: String,
        /// What is wrong with it.
        message: String,
    },
    /// There are no certificate authorities for the upstreams that need them.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

/// What a look-up came to, and how.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The answer, secure or insecure; or what every path said. From the cache it comes without
    /// its chain of trust.
    pub result: Result<Validated, Failure>,
    /// The path that answered.
    pub path: Option<PathName>,
    /// The paths that were asked before it and did not.
    pub failed: Vec<PathFailure>,
}

/// No path gave a usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Every path that was configured says that the answer is bogus.
    Bogus(String),
    /// We could not find out.
    Unavailable,
}

type Key = (Name, WireType);

/// The ways to the DNS that the operator configured.
pub struct Dns {
    paths: Vec<Path>,
    mode: DnsMode,
    deadline: Duration,
    timeout: Duration,
    anchors: Anchors,
    zones: Zones,
    cache: Mutex<Cache<Key, Arc<Lookup>>>,
    flights: Flights<Key, Arc<Lookup>>,
    counts: Mutex<TlsaCounts>,
    clock: Clock,
    listener: Listener,
}

impl Dns {
    /// Sets up all upstreams and reads the trust anchors. Nothing is asked yet.
    ///
    /// # Errors
    /// [`DnsSetupError`], one line that names the key to change.
    pub fn new(config: &Config, clock: Clock, listener: Listener) -> Result<Self, DnsSetupError> {
        Self::with_paths(config, setup::paths(config)?, clock, listener)
    }

    /// As [`Dns::new`], over paths that are not those of the configuration.
    ///
    /// # Errors
    /// When the trust anchors cannot be used.
    pub fn over(
        config: &Config,
        sources: Vec<(PathName, Arc<dyn Source>)>,
        clock: Clock,
        listener: Listener,
    ) -> Result<Self, DnsSetupError> {
        let paths = sources.into_iter().map(|(name, source)| Path::new(name, Carrier::Source(source))).collect();
        Self::with_paths(config, paths, clock, listener)
    }

    fn with_paths(config: &Config, paths: Vec<Path>, clock: Clock, listener: Listener) -> Result<Self, DnsSetupError> {
        Ok(Self {
            anchors: anchors(&config.dns.trust_anchors)?,
            paths,
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

    /// One validated look-up in the nouns of mail, with the trace of how it went.
    pub async fn lookup(&self, name: &str, record_type: RecordType) -> (Answer, Trace) {
        self.lookup_with(name, record_type, Freshness::Kept).await
    }

    /// As [`Dns::lookup`], past the answers that are kept here; what comes replaces them.
    pub async fn lookup_fresh(&self, name: &str, record_type: RecordType) -> (Answer, Trace) {
        self.lookup_with(name, record_type, Freshness::Asked).await
    }

    async fn lookup_with(&self, name: &str, record_type: RecordType, freshness: Freshness) -> (Answer, Trace) {
        let question = Question { name: name.to_owned(), record_type: record_type.word().to_owned() };
        let Ok(wire_name) = Name::from_ascii(format!("{name}.")) else {
            // A name that does not fit into the DNS cannot exist in it.
            return (Answer::NxDomain(Security::Secure), Trace { question, path: None, failed: Vec::new() });
        };
        let wire_type = wire_type(record_type);
        let lookup = match freshness {
            Freshness::Kept => self.find(&wire_name, wire_type).await,
            // Not shared with a look-up under way: that one may have begun before the change.
            Freshness::Asked => self.look_up_and_keep((wire_name.to_lowercase(), wire_type)).await,
        };
        let path = lookup.path.as_ref().map(ToString::to_string);
        let trace = Trace { question: question.clone(), path, failed: lookup.failed.clone() };
        let answer = match &lookup.result {
            Ok(validated) => convert::answer(validated, &question),
            Err(Failure::Bogus(detail)) => Answer::Failed(Cause::DnsBogus { question, detail: detail.clone() }),
            Err(Failure::Unavailable) => {
                Answer::Failed(Cause::DnsUnavailable { question, tried: lookup.failed.clone() })
            }
        };
        (answer, trace)
    }

    /// One validated look-up of any type, from the cache where the answer still holds.
    pub async fn find(&self, name: &Name, record_type: WireType) -> Arc<Lookup> {
        let key = (name.to_lowercase(), record_type);
        if let Some(known) = self.cached(&key) {
            return known;
        }
        let look_up = || async {
            // Whoever was asked a moment ago may have just kept it.
            match self.cached(&key) {
                Some(known) => known,
                None => self.look_up_and_keep(key.clone()).await,
            }
        };
        self.flights.once(key.clone(), look_up).await
    }

    fn cached(&self, key: &Key) -> Option<Arc<Lookup>> {
        let now = self.clock.now();
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key, now)
    }

    async fn look_up_and_keep(&self, key: Key) -> Arc<Lookup> {
        let lookup = Arc::new(self.look_up(&key.0, key.1).await);
        self.tell(&key, &lookup);
        if let Ok(validated) = &lookup.result {
            let (until, now) = (validated.valid_until, self.clock.now());
            // The chain of trust is for whoever looks at one answer; it would be half of the cache.
            let mut kept = Lookup::clone(&lookup);
            if let Ok(validated) = &mut kept.result {
                validated.chain = Vec::new();
            }
            let octets = octets_of(&kept);
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.put(key, Kept { value: Arc::new(kept), octets, until }, now);
        }
        lookup
    }

    fn tell(&self, key: &Key, lookup: &Lookup) {
        let question = Question { name: without_dot(&key.0), record_type: key.1.to_string() };
        match (&lookup.result, &lookup.path) {
            (Ok(validated), path) => {
                if key.1 == WireType::TLSA {
                    let count = record_count(&validated.outcome);
                    (self.listener)(&DnsEvent::TlsaRecords { count });
                    let known = KnownCount { records: count, name: without_dot(&key.0), at: self.clock.now() };
                    self.counts.lock().unwrap_or_else(PoisonError::into_inner).note(known);
                }
                if let (Some(path), false) = (path, lookup.failed.is_empty()) {
                    (self.listener)(&DnsEvent::AnsweredDespite { question: &question, path, failed: &lookup.failed });
                }
            }
            (Err(_), _) => (self.listener)(&DnsEvent::Unanswered { question: &question, failed: &lookup.failed }),
        }
    }

    /// Asks path after path.
    async fn look_up(&self, name: &Name, record_type: WireType) -> Lookup {
        let end = Instant::now() + self.deadline;
        let paths = in_order(&self.paths, self.clock.now());
        let mut faults: Vec<(&Path, Fault)> = Vec::new();
        for (nth, path) in paths.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // A fair share of what is left, so that a slow path leaves time for the others.
            let waiting = u32::try_from(paths.len() - nth).unwrap_or(1);
            let share = (left / waiting).max(self.timeout).min(left);
            let attempt = timeout(share, self.attempt(path, name, record_type)).await;
            let attempt = attempt.unwrap_or(Err(Fault::TimedOut));
            let result = match &attempt {
                Ok(validated) => validated.security.word(),
                Err(fault) => fault.word(),
            };
            let record_type = bounded(record_type);
            (self.listener)(&DnsEvent::Asked { path: &path.name, record_type, result });
            match attempt {
                Ok(validated) => {
                    self.note_health(path, &faults);
                    let failed = faults.iter().map(|(path, fault)| path.failure(fault)).collect();
                    return Lookup { result: Ok(validated), path: Some(path.name.clone()), failed };
                }
                Err(fault) => faults.push((path, fault)),
            }
        }
        failed(&self.paths, &faults)
    }

    /// A failure counts against a path only when another one had the answer: what nobody knows
    /// is the zone's own fault.
    fn note_health(&self, good: &Path, faults: &[(&Path, Fault)]) {
        let now = self.clock.now();
        let notes = std::iter::once((good, Ok(()))).chain(faults.iter().map(|(path, _)| (*path, Err(()))));
        for (path, note) in notes {
            if let Some(standing) = path.note(note, now) {
                (self.listener)(&DnsEvent::PathChanged { path: &path.name, standing });
            }
        }
    }

    async fn attempt(&self, path: &Path, name: &Name, record_type: WireType) -> Result<Validated, Fault> {
        match self.mode {
            DnsMode::Validate => self.validate(path, name, record_type).await,
            DnsMode::TrustAd => self.trust(path, name, record_type).await,
        }
    }

    /// Fetches the answer and, over the same path, all that proves it.
    async fn validate(&self, path: &Path, name: &Name, record_type: WireType) -> Result<Validated, Fault> {
        let first = path.fetch(name, record_type, Flags::Validate).await?;
        let mut signatures = has_signatures(&first);
        let (mut missed, mut asked_again) = (None, false);
        let mut validation = Validation::begin(name, record_type, first, self.clock.now());
        for _step in 0..STEPS_LIMIT {
            match validation.step(&self.anchors, &self.zones) {
                Step::Done(validated) => {
                    let judged = judge(validated, missed);
                    return match judged {
                        Err(Fault::Bogus(reason)) if !signatures => Err(self.bogus_or_stripped(path, reason).await),
                        Ok(_) | Err(_) => judged,
                    };
                }
                Step::Ask(name, record_type) => {
                    let mut reply = path.fetch(&name, record_type, Flags::Validate).await;
                    // A resolver that gives up once may have met one bad server of a zone above;
                    // one second question is cheaper than all of this over another path.
                    let gave_up = reply.as_ref().is_err_and(|fault| *fault == Fault::Code(ResponseCode::ServFail));
                    if gave_up && !std::mem::replace(&mut asked_again, true) {
                        reply = path.fetch(&name, record_type, Flags::Validate).await;
                    }
                    signatures |= reply.as_ref().is_ok_and(has_signatures);
                    validation.feed(reply.map_err(|fault| {
                        let said = fault.to_string();
                        missed.get_or_insert((name, record_type, fault));
                        said
                    }));
                }
            }
        }
        Err(Fault::Incomplete("the validation asked too many questions".into()))
    }

    /// An answer that should be signed and comes without any signature: is it the zone, or does
    /// this path pass none on? The root is always signed, so it tells.
    async fn bogus_or_stripped(&self, path: &Path, reason: String) -> Fault {
        match path.fetch(&Name::root(), WireType::SOA, Flags::Validate).await {
            Ok(root) if !has_signatures(&root) => Fault::Stripped,
            Ok(_) | Err(_) => Fault::Bogus(reason),
        }
    }

    async fn trust(&self, path: &Path, name: &Name, record_type: WireType) -> Result<Validated, Fault> {
        let now = self.clock.now();
        let message = path.fetch(name, record_type, Flags::TrustAd).await?;
        let mut validated = trust_ad::read(name, record_type, &message, now)?;
        if validated.security == Security::Secure {
            return Ok(validated);
        }
        // Without AD this says "not signed". That counts only while the resolver still validates.
        vouches(path).await?;
        if let Outcome::Found { aliases, .. } = &mut validated.outcome {
            // AD speaks for the whole chain; the first link is asked for alone (RFC 7672 §2.2.2).
            if let Some(first) = aliases.first_mut() {
                let link = path.fetch(name, WireType::CNAME, Flags::TrustAd).await?;
                if link.metadata.authentic_data {
                    first.security = Security::Secure;
                }
            }
        }
        Ok(validated)
    }

    /// Tries every path once with a question about the root, which is always signed. In
    /// `validate` mode this names upstreams that strip DNSSEC; nothing else follows from it.
    /// A path that is silent is named as well, in both modes: it may come up later.
    ///
    /// # Errors
    /// In `trust-ad` mode, when a resolver answers and does not say with AD that it has validated
    /// the root: then all its answers would count as unsigned.
    pub async fn probe(&self) -> Result<(), DnsSetupError> {
        for path in &self.paths {
            let found = match self.mode {
                DnsMode::Validate => match path.fetch(&Name::root(), WireType::SOA, Flags::Validate).await {
                    Ok(root) if has_signatures(&root) => Probed::PassesDnssec,
                    Ok(_) => Probed::StripsDnssec,
                    Err(fault) => Probed::Silent(fault.to_string()),
                },
                DnsMode::TrustAd => match vouches(path).await {
                    Ok(()) => Probed::PassesDnssec,
                    Err(Fault::NotValidating) => return Err(not_validating(&path.name)),
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

    /// The present standing of every path.
    pub fn standings(&self) -> impl Iterator<Item = (&PathName, PathStanding)> {
        let now: Timestamp = self.clock.now();
        self.paths.iter().map(move |path| (&path.name, path.standing(now)))
    }
}

#[async_trait]
impl Ask for Dns {
    async fn ask(&self, name: &str, record_type: RecordType, freshness: Freshness) -> Answer {
        self.lookup_with(name, record_type, freshness).await.0
    }
}

/// Whether a resolver says that it validates: the root is signed, so its SOA comes with AD.
async fn vouches(path: &Path) -> Result<(), Fault> {
    let root = path.fetch(&Name::root(), WireType::SOA, Flags::TrustAd).await?;
    if root.metadata.authentic_data { Ok(()) } else { Err(Fault::NotValidating) }
}

fn not_validating(path: &PathName) -> DnsSetupError {
    let message = "the resolver does not validate (a question for the root's SOA must be answered with the AD bit); \
                   let it validate, or set mode = \"validate\"";
    DnsSetupError::Upstream { upstream: path.to_string(), message: message.to_owned() }
}

/// A verdict that is none is the path's failure.
fn judge(validated: Validated, missed: Option<(Name, WireType, Fault)>) -> Result<Validated, Fault> {
    let reason = |validated: &Validated| validated.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    match validated.security {
        Security::Secure | Security::Insecure => match validated.outcome {
            Outcome::ErrorCode(code) => Err(Fault::Code(code)),
            Outcome::Found { .. } | Outcome::NoData { .. } | Outcome::NxDomain { .. } => Ok(validated),
        },
        Security::Bogus => Err(Fault::Bogus(reason(&validated))),
        Security::Indeterminate => Err(Fault::Incomplete(match missed {
            Some((name, record_type, fault)) => format!("{name} {record_type}: {fault}"),
            None => reason(&validated),
        })),
    }
}

/// Bogus only when every path says so: one that is silent proves nothing about the zone.
fn failed(paths: &[Path], faults: &[(&Path, Fault)]) -> Lookup {
    let mut failed: Vec<PathFailure> = faults.iter().map(|(path, fault)| path.failure(fault)).collect();
    let mut reasons: Vec<&str> = faults.iter().filter_map(|(_, fault)| fault.bogus()).collect();
    if reasons.len() == paths.len() {
        // Most of the time all paths bring the same wrong answer.
        reasons.dedup();
        return Lookup { result: Err(Failure::Bogus(reasons.join("; "))), path: None, failed };
    }
    let asked = |path: &Path| faults.iter().any(|(asked, _)| asked.name == path.name);
    failed.extend(paths.iter().filter(|path| !asked(path)).map(|path| PathFailure {
        upstream: path.name.to_string(),
        detail: "not asked: the time for the look-up was over".to_owned(),
    }));
    Lookup { result: Err(Failure::Unavailable), path: None, failed }
}

fn has_signatures(message: &Message) -> bool {
    message.all_sections().any(|record| record.record_type() == WireType::RRSIG)
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

fn wire_type(record_type: RecordType) -> WireType {
    match record_type {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Mx => WireType::MX,
        RecordType::Tlsa => WireType::TLSA,
        RecordType::Txt => WireType::TXT,
    }
}

/// The label of a metric: the types we ask for, and one word for all others.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum of all record types")]
fn bounded(record_type: WireType) -> &'static str {
    match record_type {
        WireType::A => "A",
        WireType::AAAA => "AAAA",
        WireType::MX => "MX",
        WireType::TLSA => "TLSA",
        WireType::TXT => "TXT",
        _ => "other",
    }
}

fn anchors(source: &TrustAnchorSource) -> Result<Anchors, DnsSetupError> {
    let TrustAnchorSource::File(path) = source else {
        return Ok(Anchors::builtin());
    };
    let error = |message: String| DnsSetupError::TrustAnchors { path: path.display().to_string(), message };
    let text = std::fs::read_to_string(path).map_err(|e| error(format!("cannot be read: {e}")))?;
    Anchors::parse(&text).map_err(|e| error(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::answer::Data;
    use crate::resolve::paths::Transport;
    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::rdata::TXT;
    use hickory_proto::rr::{RData, Record};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A validating resolver that numbers its answers.
    #[derive(Default)]
    struct Numbering(AtomicUsize);

    #[async_trait]
    impl Source for Numbering {
        async fn fetch(&self, name: &Name, record_type: WireType) -> Result<Message, Fault> {
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
