//! One question to the servers of one zone: the first good answer of any of them.
//!
//! They are asked one after the other, and the next one not only when one has failed but also
//! when one takes long: the first may still answer. Few are asked at once. In this order:
//! 1. the servers whose addresses are known, those that failed lately at the end;
//! 2. between the two, servers whose addresses have to be looked up;
//! 3. over TCP, whoever has not answered over UDP;
//! 4. without EDNS, whoever has not answered with it, unless the zone is signed: there an answer
//!    without signatures is worth nothing (RFC 6891 §6.2.2).
//!
//! Who says that it does not know EDNS is asked without it at once, under the same condition.
//!
//! Whatever the servers do, and however many names a zone gives them: what one answer may cost
//! is bounded by its [`Budget`], which all look-ups share that it leads to.

use super::FetchError;
use super::exchange::{self, Failure, Means, WireQuestion};
use super::referral::{Delegated, ReferralReading, read};
use super::servers::{Fails, Servers, Turn};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Questions sent for one answer.
const QUESTIONS_LIMIT: usize = 60;
/// Look-ups of addresses of name servers for one answer: a hostile zone names many, each of them
/// somebody else's.
const FINDS_LIMIT: usize = 8;
/// Servers asked at once.
const AT_ONCE: usize = 4;
/// Servers of one zone asked over UDP.
const SERVERS_ASKED: usize = 16;
/// Servers of one zone asked again over TCP, and again without EDNS.
const ASKED_AGAIN: usize = 4;
/// How long a name server's address may take to find before the next server is asked as well.
const FIND_PATIENCE: Duration = Duration::from_millis(400);

/// The servers of a zone.
#[derive(Clone, Debug)]
pub(super) struct ZoneServers {
    pub(super) name: Name,
    pub(super) servers: Vec<SocketAddr>,
    /// Names of servers whose addresses are not known.
    pub(super) unfound: Vec<Name>,
    pub(super) delegated: Delegated,
    /// The end of the delegation.
    pub(super) until: Instant,
}

/// Whoever knows the servers of all zones, and finds those that came without an address.
pub(super) trait ServerFinder: Sync {
    /// What is known of servers.
    fn known_servers(&self) -> MutexGuard<'_, Servers>;

    /// The types of addresses to look up, in this order.
    fn types_to_find(&self) -> [RecordType; 2];

    /// The addresses of a server of a zone, which has its name elsewhere.
    fn find<'a>(
        &'a self,
        zone: &'a ZoneServers,
        server: WireQuestion,
        nesting: usize,
        budget: &'a Budget<'a>,
    ) -> BoxFuture<'a, Vec<SocketAddr>>;
}

/// What one answer may still cost, and whose answers it shall do without.
pub(super) struct Budget<'a> {
    questions: AtomicUsize,
    finds: AtomicUsize,
    beside: &'a [SocketAddr],
    by: Mutex<Vec<SocketAddr>>,
}

impl<'a> Budget<'a> {
    /// For an answer of other servers than these, where a zone has others.
    pub(super) fn new(beside: &'a [SocketAddr]) -> Self {
        let (questions, finds) = (AtomicUsize::new(QUESTIONS_LIMIT), AtomicUsize::new(FINDS_LIMIT));
        Self { questions, finds, beside, by: Mutex::default() }
    }

    /// The servers that answered where another one could have.
    pub(super) fn answered_by(self) -> Vec<SocketAddr> {
        self.by.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(of: &AtomicUsize) -> bool {
        of.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

/// What can be done next.
enum Try {
    Ask(Turn),
    /// Look up the address of a name server.
    Find(WireQuestion),
}

/// What came of it.
enum Came {
    Message(Turn, Result<Message, Failure>, Duration),
    Addresses(Vec<SocketAddr>),
}

/// One question to one zone.
pub(super) struct Asking<'a> {
    finder: &'a dyn ServerFinder,
    zone: &'a ZoneServers,
    question: &'a WireQuestion,
    nesting: usize,
    budget: &'a Budget<'a>,
    next: VecDeque<Try>,
    again: VecDeque<Turn>,
    /// Those that are asked now, and since when.
    waiting: BTreeMap<(SocketAddr, Means), (Instant, Duration)>,
    /// Those that have said anything over UDP or TCP.
    heard: BTreeSet<SocketAddr>,
    poor: Option<(SocketAddr, Message)>,
    last: Option<FetchError>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        finder: &'a dyn ServerFinder,
        zone: &'a ZoneServers,
        question: &'a WireQuestion,
        nesting: usize,
        budget: &'a Budget<'a>,
    ) -> Self {
        let others: Vec<SocketAddr> = zone.servers.iter().filter(|s| !budget.beside.contains(s)).copied().collect();
        let servers = if others.is_empty() { &zone.servers } else { &others };
        let turns = finder.known_servers().in_order(&zone.name, servers, Instant::now());
        let again = turns.good.iter().chain(&turns.failed).copied().take(ASKED_AGAIN).collect();
        let types = if zone.unfound.is_empty() { Vec::new() } else { finder.types_to_find().to_vec() };
        let finds = types.into_iter().flat_map(|rtype| {
            zone.unfound.iter().map(move |name| Try::Find(WireQuestion { name: name.clone(), record_type: rtype }))
        });
        let (good, failed) = (turns.good.into_iter().map(Try::Ask), turns.failed.into_iter().map(Try::Ask));
        let next = good.take(SERVERS_ASKED).chain(finds).chain(failed.take(SERVERS_ASKED)).collect();
        let (waiting, heard) = (BTreeMap::new(), BTreeSet::new());
        Self { finder, zone, question, nesting, budget, next, again, waiting, heard, poor: None, last: None }
    }

    /// The first answer of worth, or the way down.
    ///
    /// # Errors
    /// What the last one said, where none has either.
    pub(super) async fn ask(mut self) -> Result<ReferralReading, FetchError> {
        let mut running = FuturesUnordered::new();
        let mut hurry = Some(Instant::now());
        loop {
            while running.is_empty() || (hurry.is_some_and(|at| at <= Instant::now()) && running.len() < AT_ONCE) {
                let Some((patience, started)) = self.start() else {
                    hurry = None;
                    break;
                };
                running.push(started);
                hurry = Some(Instant::now() + patience);
            }
            if running.is_empty() {
                return self.end();
            }
            let is_full = running.len() >= AT_ONCE;
            let came = tokio::select! {
                biased;
                came = running.next() => came,
                () = sleep_until(hurry.unwrap_or_else(Instant::now)), if hurry.is_some() && !is_full => None,
            };
            if let Some(came) = came {
                if let Some(said) = self.take(came) {
                    self.note_the_slow();
                    return Ok(said);
                }
                // One has failed: the next one at once.
                hurry = Some(Instant::now());
            }
        }
    }

    /// Starts what comes next, as long as the budget lasts.
    fn start(&mut self) -> Option<(Duration, BoxFuture<'a, Came>)> {
        match self.next_try()? {
            Try::Ask(_) if !Budget::spend(&self.budget.questions) => {
                self.last =
                    Some(FetchError::Broken("too many questions to authoritative servers for one answer".into()));
                (self.next, self.again) = (VecDeque::new(), VecDeque::new());
                None
            }
            Try::Ask(turn) => {
                self.waiting.insert((turn.server, turn.means), (Instant::now(), turn.patience));
                let question = self.question;
                let talk = async move {
                    let started = Instant::now();
                    let message = exchange::ask(turn.server, question, turn.means).await;
                    Came::Message(turn, message, started.elapsed())
                };
                Some((turn.patience, Box::pin(talk)))
            }
            Try::Find(server) => {
                let (finder, zone, nesting, budget) = (self.finder, self.zone, self.nesting, self.budget);
                let find = async move { Came::Addresses(finder.find(zone, server, nesting, budget).await) };
                Some((FIND_PATIENCE, Box::pin(find)))
            }
        }
    }

    fn next_try(&mut self) -> Option<Try> {
        while let Some(next) = self.next.pop_front() {
            match next {
                Try::Ask(turn) if turn.means == Means::Plain && self.zone.delegated == Delegated::Signed => {
                    self.last.get_or_insert_with(|| knows_no_edns(turn.server));
                }
                Try::Find(..) if !Budget::spend(&self.budget.finds) => {}
                Try::Ask(_) | Try::Find(..) => return Some(next),
            }
        }
        // Everybody has been asked once: now whoever has said nothing, in other ways.
        let turn = loop {
            let turn = self.again.pop_front()?;
            if !self.heard.contains(&turn.server) {
                break turn;
            }
        };
        let means = match (turn.means, self.zone.delegated) {
            (Means::Datagram | Means::Plain, _) => Means::Stream,
            (Means::Stream, Delegated::Otherwise) => Means::Plain,
            // The first one may have been lost.
            (Means::Stream, Delegated::Signed) => Means::Datagram,
        };
        if means == Means::Stream {
            self.again.push_back(Turn { means, ..turn });
        }
        Some(Try::Ask(Turn { means, ..turn }))
    }

    /// What came: the end, or one step on the way to it.
    fn take(&mut self, came: Came) -> Option<ReferralReading> {
        let (turn, message, took) = match came {
            Came::Message(turn, message, took) => (turn, message, took),
            Came::Addresses(found) => {
                self.add(found);
                return None;
            }
        };
        self.waiting.remove(&(turn.server, turn.means));
        let message = match message {
            Ok(message) => message,
            Err(failure) => {
                self.note_failure(&turn, failure);
                return None;
            }
        };
        self.heard.insert(turn.server);
        match read(message, &self.zone.name, self.zone.delegated, self.question) {
            said @ (ReferralReading::Answer(_) | ReferralReading::Down(_)) => {
                self.finder.known_servers().answered(&self.zone.name, &turn, took, Instant::now());
                self.answered_by(turn.server);
                return Some(said);
            }
            ReferralReading::Poor(message) => _ = self.poor.get_or_insert((turn.server, message)),
            ReferralReading::NotUnderstood(_)
                if turn.means != Means::Plain && self.zone.delegated != Delegated::Signed =>
            {
                self.next.push_front(Try::Ask(Turn { means: Means::Plain, ..turn }));
            }
            ReferralReading::NotUnderstood(_) if turn.means != Means::Plain => {
                self.last = Some(knows_no_edns(turn.server));
                self.note_useless(turn.server);
            }
            ReferralReading::NotUnderstood(code) | ReferralReading::Refused(code) => {
                self.last = Some(FetchError::Code(code));
                self.note_useless(turn.server);
            }
            ReferralReading::Lame => {
                self.last = Some(FetchError::Broken(format!("{} does not serve {}", turn.server, self.zone.name)));
                self.note_useless(turn.server);
            }
        }
        None
    }

    /// Addresses of servers that had none are asked next, and kept with the zone.
    fn add(&mut self, found: Vec<SocketAddr>) {
        let new: Vec<SocketAddr> = found.into_iter().filter(|server| !self.zone.servers.contains(server)).collect();
        let turns = self.finder.known_servers().in_order(&self.zone.name, &new, Instant::now());
        for turn in turns.good.into_iter().chain(turns.failed).rev() {
            self.next.push_front(Try::Ask(turn));
            self.again.push_back(turn);
        }
    }

    fn note_failure(&mut self, turn: &Turn, failure: Failure) {
        match failure {
            // Nothing was sent, and nothing follows about the server.
            Failure::NoWay(error) => {
                self.budget.questions.fetch_add(1, Ordering::SeqCst);
                self.heard.insert(turn.server);
                self.last.get_or_insert_with(|| FetchError::Broken(format!("no way to {}: {error}", turn.server)));
            }
            Failure::There(fault) => {
                let fails = if fault == FetchError::TimedOut { Fails::Silent } else { Fails::Useless };
                self.finder.known_servers().failed(&self.zone.name, turn.server, fails, Instant::now());
                self.last = Some(fault);
            }
        }
    }

    fn note_useless(&self, server: SocketAddr) {
        self.finder.known_servers().failed(&self.zone.name, server, Fails::Useless, Instant::now());
    }

    /// Those that had their time and are not waited for any more.
    fn note_the_slow(&self) {
        let now = Instant::now();
        for ((server, _), (since, patience)) in &self.waiting {
            // Who has answered in another way is there.
            if !self.heard.contains(server) && now.saturating_duration_since(*since) >= *patience {
                self.finder.known_servers().failed(&self.zone.name, *server, Fails::Silent, now);
            }
        }
    }

    /// Where there is nobody else, it makes no difference who it was.
    fn answered_by(&self, server: SocketAddr) {
        if self.zone.servers.iter().all(|other| *other == server || self.budget.beside.contains(other)) {
            return;
        }
        self.budget.by.lock().unwrap_or_else(PoisonError::into_inner).push(server);
    }

    fn end(mut self) -> Result<ReferralReading, FetchError> {
        if let Some((server, message)) = self.poor.take() {
            self.answered_by(server);
            return Ok(ReferralReading::Answer(message));
        }
        let WireQuestion { name, record_type } = self.question;
        Err(match self.last {
            Some(fault) if fault != FetchError::TimedOut => fault,
            Some(_) | None => {
                FetchError::Broken(format!("no answer from the servers of {} to {name} {record_type}", self.zone.name))
            }
        })
    }
}

fn knows_no_edns(server: SocketAddr) -> FetchError {
    FetchError::Broken(format!("{server} does not know EDNS, and its zone is signed"))
}
