//! One batch lived through by the whole relay: listener, spool, resolver with its validation,
//! MTA-STS, decision, plan, TLS and SMTP, and `relay check` at the end. Only the sockets are pipes and
//! time is that of the runtime, which jumps.
//!
//! What is compared with the oracle is what came to the mail hosts and what the relay says of it.

use super::facts::{Asks, Batch, Between, Cell, Mail, Sts};
use super::table::{End, How, When, Why, Whys, end};
use super::world::{BEGIN, Names, Pipes, change, config, domain_name, host_name, lab, spoil};
use crate::manual_spool::{ManualSpool, TURN};
use dane_relay::accept::driver::{self as listener, Acceptor};
use dane_relay::check::{CheckReport, Checker, Verdict};
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::Config;
use dane_relay::lab::Lab;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::observe::{Observer, RecipientNews};
use dane_relay::outcome::{Cause, Class, DeliveryOutcome, TlsVerdict};
use dane_relay::pipeline::outbound::{Outbound, OutboundPaths};
use dane_relay::pipeline::{self, Pipeline};
use dane_relay::report::driver::load_texts;
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::event as dns_event;
use dane_relay::resolve::paths::{PathName, Transport};
use dane_relay::service::start::{self, Service};
use dane_relay::spool::embedded::{CrashObserver, EmbeddedSpool, ManualWriters, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::duplex;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const SENDER: &str = "alice@office.test";
/// From the first mails to the later ones: whatever is kept of the DNS is too old then.
const GAP: Duration = Duration::from_secs(2 * 3600);
/// No first attempt takes longer.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Where the relay and the oracle differ.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) cell: usize,
    pub(crate) about: About,
    pub(crate) what: String,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Mail(Asks),
    Check,
}

/// What a batch came to.
#[derive(Debug, Default)]
pub(crate) struct Lived {
    pub(crate) differences: Vec<Difference>,
    /// How often each end was expected, to know what was tried at all.
    pub(crate) ends: BTreeMap<String, usize>,
    /// Mails on a connection that had brought another one.
    pub(crate) reused: usize,
    pub(crate) mails: usize,
}

/// A mail under way: whose, which, when.
#[derive(Clone, Copy)]
struct Sent {
    cell: usize,
    number: usize,
    mail: Mail,
    when: When,
}

impl Sent {
    fn recipient(&self) -> String {
        format!("m{}@{}", self.number, domain_name(self.cell, self.mail.domain))
    }
}

struct Nobody;

impl CrashObserver for Nobody {
    fn at(&self, _step: Step) {}
}

/// The relay from one start to its end.
struct Life {
    clock: Clock,
    spool: Arc<ManualSpool>,
    writers: ManualWriters,
    acceptor: Arc<Acceptor>,
    pipeline: Arc<Pipeline>,
    news: broadcast::Receiver<RecipientNews>,
    stop: CancellationToken,
    running: JoinHandle<usize>,
}

impl Life {
    fn begin(lab: &Arc<Lab>, config: &Config, now: Timestamp) -> Self {
        let (spool, writers) = EmbeddedSpool::open_by_hand(&config.spool, now, Arc::new(Nobody)).unwrap();
        let (clock, spool) = (Clock::with_runtime(now), Arc::new(ManualSpool::new(spool)));
        let observer = Arc::new(Observer::new().unwrap());
        let out = outbound(lab, config, &clock, &observer);
        let service =
            Service::new(out, Arc::clone(&spool) as _, Arc::clone(&observer), load_texts(None).unwrap()).unwrap();
        let (acceptor, pipeline) = (service.acceptor(), service.pipeline());
        let (stop, news) = (CancellationToken::new(), observer.subscribe());
        let running = tokio::spawn(pipeline::run(service.pipelines(), stop.clone()));
        Self { clock, spool, writers, acceptor, pipeline, news, stop, running }
    }

    /// Something that needs the writers of the spool.
    async fn along<T>(&mut self, something: impl Future<Output = T>) -> T {
        along(&self.spool, &mut self.writers, something).await
    }

    async fn end(self) -> Timestamp {
        let Self { clock, spool, mut writers, running, stop, .. } = self;
        stop.cancel();
        along(&spool, &mut writers, running).await.unwrap();
        writers.finish();
        clock.now()
    }

    /// Hands mails in, by one connection, and waits for what becomes of each.
    async fn send(&mut self, mails: &[Sent]) -> BTreeMap<String, DeliveryOutcome> {
        let (ours, theirs) = duplex(64 * 1024);
        let peer = ([127, 0, 0, 1], 40_000).into();
        tokio::spawn(listener::session(Arc::clone(&self.acceptor), theirs, peer, self.stop.clone()));
        let awaited: BTreeSet<String> = mails.iter().map(Sent::recipient).collect();
        let mut news = self.news.resubscribe();
        let hand_in = async {
            let mut client = SmtpClient::over(ours).await.unwrap();
            client.ehlo("exchange.office.test").await.unwrap();
            let mut client = client.starttls("relay.office.test").await.unwrap();
            for sent in mails {
                hand_in(&mut client, sent).await;
            }
            client.quit().await.unwrap();
        };
        let hear = async {
            let mut heard = BTreeMap::new();
            while awaited.iter().any(|recipient| !heard.contains_key(recipient)) {
                let RecipientNews { recipient, outcome, .. } = news.recv().await.unwrap();
                heard.entry(recipient.to_string()).or_insert(outcome);
            }
            heard
        };
        let both = async { tokio::join!(hand_in, timeout(PATIENCE, hear)).1 };
        Box::pin(self.along(both)).await.unwrap_or_default()
    }
}

async fn along<T>(spool: &ManualSpool, writers: &mut ManualWriters, something: impl Future<Output = T>) -> T {
    let mut something = std::pin::pin!(something);
    loop {
        tokio::select! {
            biased;
            () = spool.work() => {
                sleep(TURN).await;
                while writers.turn() {}
            }
            done = &mut something => return done,
        }
    }
}

async fn hand_in(client: &mut SmtpClient, sent: &Sent) {
    let (parameter, field) = match sent.mail.asks {
        Asks::Nothing => ("", ""),
        Asks::RequireTls => (" REQUIRETLS", ""),
        Asks::Waives => ("", "TLS-Required: No\r\n"),
    };
    let mail = format!("MAIL FROM:<{SENDER}>{parameter}");
    let content = format!("{field}From: <{SENDER}>\r\nSubject: matrix\r\n\r\nx\r\n");
    let rcpt = format!("RCPT TO:<{}>", sent.recipient());
    let handed = client.transact(&mail, &[rcpt], content.as_bytes()).await.unwrap();
    assert!(handed.accepted(), "the relay said: {}", handed.last());
}

/// What sends mail out of the lab's office.
fn outbound(lab: &Arc<Lab>, config: &Config, clock: &Clock, observer: &Arc<Observer>) -> Outbound {
    let config = Arc::new(config.clone());
    let name = PathName { upstream: "udp://127.0.0.1:53".into(), transport: Transport::Udp };
    let paths = vec![(name, Arc::new(Names(Arc::clone(lab))) as _)];
    let dns = Arc::new(Dns::over(&config, paths, clock.clone(), dns_event::nobody()).unwrap());
    let paths = OutboundPaths { dns, network: Arc::new(Pipes(Arc::clone(lab))), clock: clock.clone() };
    start::outbound(config, paths, observer).unwrap()
}

/// Lives a batch through.
pub(crate) fn live(batch: &Batch) -> Lived {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).max_blocking_threads(1).build().unwrap();
    runtime.block_on(Box::pin(lived(batch)))
}

async fn lived(batch: &Batch) -> Lived {
    let lab = Arc::new(lab(batch).start().await.unwrap());
    let folder = folder();
    let config = config(&lab, batch, folder.path());
    let mut life = Life::begin(&lab, &config, BEGIN);
    keep_policies(&mut life, batch).await;
    let mut outcomes = BTreeMap::new();
    let mut all = Box::pin(rounds(&mut life, batch, When::First, &mut outcomes)).await;
    life.along(sleep(GAP)).await;
    change(&lab, batch).await;
    if batch.between == Between::Restart {
        let now = life.end().await;
        spoil(&config.spool.path, batch);
        life = Life::begin(&lab, &config, now);
    }
    all.extend(Box::pin(rounds(&mut life, batch, When::Later, &mut outcomes)).await);
    let mut lived = compare(batch, &lab, &all, &outcomes);
    // What runs says the same as a command that has to find all out by itself.
    let out = match batch.between {
        Between::Nothing => life.pipeline.out.clone(),
        Between::Restart => outbound(&lab, &config, &life.clock, &Arc::new(Observer::new().unwrap())),
    };
    let checker = Checker::over(out);
    lived.differences.extend(life.along(checks(batch, &checker)).await);
    life.end().await;
    lived
}

/// In memory where there is such a folder.
fn folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() { tempfile::tempdir_in(in_memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Mail that is not looked at has brought the policies that are kept.
async fn keep_policies(life: &mut Life, batch: &Batch) {
    let sts = Arc::clone(&life.pipeline.out.sts);
    for (cell, domains) in batch.cells.iter().map(|cell| &cell.domains).enumerate() {
        for (nth, domain) in domains.iter().enumerate() {
            if matches!(domain.sts, Sts::Kept(..) | Sts::Replaced(..)) {
                let name = domain_name(cell, nth).parse().unwrap();
                let _state = life.along(sts.policy_for(&name)).await;
            }
        }
    }
}

/// The first mails of all cells, then the second ones, and so on, so that connections are there to
/// be used again.
async fn rounds(
    life: &mut Life,
    batch: &Batch,
    when: When,
    outcomes: &mut BTreeMap<String, DeliveryOutcome>,
) -> Vec<Sent> {
    let mut all = Vec::new();
    for round in 0.. {
        let nth = |(cell, of): (usize, &Cell)| {
            let (mails, before) = match when {
                When::First => (&of.first, 0),
                When::Later | When::Last => (&of.later, of.first.len()),
            };
            mails.get(round).map(|mail| Sent { cell, number: before + round, mail: *mail, when })
        };
        let mails: Vec<Sent> = batch.cells.iter().enumerate().filter_map(nth).collect();
        if mails.is_empty() {
            break;
        }
        outcomes.extend(Box::pin(life.send(&mails)).await);
        all.extend(mails);
    }
    all
}

/// What came to a mail host, or was begun there.
#[derive(Debug, PartialEq, Eq)]
struct Arrived {
    host: usize,
    in_tls: bool,
    demanded: bool,
}

fn compare(batch: &Batch, lab: &Lab, all: &[Sent], outcomes: &BTreeMap<String, DeliveryOutcome>) -> Lived {
    let mut lived = Lived { mails: all.len(), ..Lived::default() };
    for sent in all {
        let cell = &batch.cells[sent.cell];
        let expected = end(&batch.settings, cell, sent.mail, sent.when);
        for word in words_of(&expected) {
            *lived.ends.entry(word).or_default() += 1;
        }
        let (arrived, leaked) = arrived(lab, sent, cell.hosts.len());
        let outcome = outcomes.get(&sent.recipient());
        let agrees = leaked.is_empty()
            && outcome.is_some_and(|outcome| says(outcome, &expected, sent.cell))
            && as_expected(&arrived, &expected, sent.mail);
        if !agrees {
            let seen = outcome.map_or_else(|| "nothing".to_owned(), shown);
            let what = format!(
                "mail {} ({:?}, {:?}): expected {expected:?}; the relay says {seen}; arrived {arrived:?} {leaked:?}",
                sent.number, sent.mail, sent.when
            );
            lived.differences.push(Difference { cell: sent.cell, about: About::Mail(sent.mail.asks), what });
        }
    }
    for (number, cell) in batch.cells.iter().enumerate() {
        for host in 0..cell.hosts.len() {
            let messages = lab.mx(&host_name(number, host)).unwrap().messages();
            let connections: BTreeSet<usize> = messages.iter().map(|message| message.connection).collect();
            lived.reused += messages.len() - connections.len();
        }
    }
    lived
}

/// The copies of a mail at the hosts of its cell, and envelopes that came in clear without one.
fn arrived(lab: &Lab, sent: &Sent, hosts: usize) -> (Vec<Arrived>, Vec<String>) {
    let (mut arrived, mut leaked) = (Vec::new(), Vec::new());
    let recipient = sent.recipient();
    for host in 0..hosts {
        let mx = lab.mx(&host_name(sent.cell, host)).unwrap();
        let messages = mx.messages();
        let ours: Vec<_> = messages.iter().filter(|message| message.rcpt_to.contains(&recipient)).collect();
        arrived.extend(ours.iter().map(|message| Arrived {
            host,
            in_tls: message.tls.is_some(),
            demanded: message.mail_params.contains("REQUIRETLS"),
        }));
        let has_clear = ours.iter().any(|message| message.tls.is_none());
        let told = mx.seen().into_iter().filter(|seen| seen.line.contains(&format!("<{recipient}>")));
        let beside = told.filter(|seen| if seen.secured { ours.is_empty() } else { !has_clear });
        leaked.extend(beside.map(|seen| format!("{} heard {:?}, secured: {}", mx.name(), seen.line, seen.secured)));
    }
    (arrived, leaked)
}

fn as_expected(arrived: &[Arrived], expected: &End, mail: Mail) -> bool {
    let demanded = mail.asks == Asks::RequireTls;
    match expected {
        End::Goes(host, how) => *arrived == [Arrived { host: *host, in_tls: *how != How::Clear, demanded }],
        End::Waits(_) | End::Returns | End::Either(_) => arrived.is_empty(),
    }
}

/// Whether the relay says the same.
fn says(outcome: &DeliveryOutcome, expected: &End, cell: usize) -> bool {
    match (outcome, expected) {
        (DeliveryOutcome::Delivered { peer, tls, .. }, End::Goes(host, how)) => {
            peer.host == host_name(cell, *host) && is(tls, *how)
        }
        (DeliveryOutcome::Failed { cause }, End::Waits(whys)) => waits(cause, whys),
        (DeliveryOutcome::Failed { cause }, End::Returns) => returns(cause),
        (DeliveryOutcome::Failed { cause }, End::Either(whys)) => returns(cause) || waits(cause, whys),
        (DeliveryOutcome::Delivered { .. } | DeliveryOutcome::Failed { .. }, _) => false,
    }
}

fn waits(cause: &Cause, whys: &Whys) -> bool {
    cause.class() == Class::Transient && whys.iter().any(|why| words(*why).contains(&cause.row().word))
}

fn returns(cause: &Cause) -> bool {
    cause.row().status.to_string() == "5.7.30"
}

/// Whether the relay claims neither more nor less.
fn is(tls: &TlsVerdict, how: How) -> bool {
    match how {
        How::Clear => tls.word() == "clear-text",
        How::Unauthenticated => tls.word() == "unauthenticated",
        How::Dane => tls.word() == "dane",
        How::DaneOfHost => tls.word() == "dane-host-only",
        How::WebPki => tls.word() == "webpki",
        How::WebPkiAndDaneOfHost => tls.word() == "webpki-and-dane",
    }
}

/// The relay's words for a reason.
fn words(why: Why) -> &'static [&'static str] {
    match why {
        Why::NotFoundOut => &["dns-unavailable", "dnssec-invalid", "sts-policy-lost"],
        Why::NoTls => &["starttls-not-supported"],
        Why::Handshake => &["tls-handshake-failed", "timed-out"],
        Why::Certificate => &[
            "tlsa-invalid",
            "certificate-expired",
            "certificate-host-mismatch",
            "certificate-not-trusted",
            "validation-failure",
        ],
        Why::NotListed => &["sts-mx-not-listed"],
        Why::NoDane => &["dane-required"],
        Why::NoSts => &["sts-required"],
        Why::RequireTls => &["requiretls-unmet"],
    }
}

fn shown(outcome: &DeliveryOutcome) -> String {
    match outcome {
        DeliveryOutcome::Delivered { peer, tls, .. } => format!("delivered to {} ({})", peer.host, tls.word()),
        DeliveryOutcome::Failed { cause } => {
            format!("{} {} ({})", cause.row().status, cause.row().word, cause.sentence())
        }
    }
}

/// What was tried, to be counted.
fn words_of(end: &End) -> Vec<String> {
    match end {
        End::Goes(_, how) => vec![format!("goes: {how:?}")],
        End::Waits(whys) | End::Either(whys) => whys.iter().map(|why| format!("waits: {why:?}")).collect(),
        End::Returns => vec!["returns".to_owned()],
    }
}

/// What a check says of every domain, beside what a mail without wishes would meet.
async fn checks(batch: &Batch, checker: &Checker) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (cell, of) in batch.cells.iter().enumerate() {
        for domain in 0..of.domains.len() {
            let mail = Mail { domain, asks: Asks::Nothing };
            let expected = end(&batch.settings, of, mail, When::Last);
            let report = checker.check(&domain_name(cell, domain).parse().unwrap()).await;
            if !foretells(&report, &expected, cell) {
                let cause = report.fault.as_ref().map(|fault| fault.cause);
                let what = format!(
                    "check of domain {domain}: expected {expected:?}; it says {:?} {cause:?} {}",
                    report.verdict, report.summary
                );
                differences.push(Difference { cell, about: About::Check, what });
            }
        }
    }
    differences
}

fn foretells(report: &CheckReport, expected: &End, cell: usize) -> bool {
    let delivers = report.evidence.delivery.delivers;
    let reachable = report.hosts.iter().flat_map(|host| host.addresses.iter().map(move |address| (host, address)));
    let good = reachable.filter(|(_, address)| address.fault.is_none()).find(|(_, address)| address.tls.is_some());
    match expected {
        End::Goes(host, how) => {
            let Some((there, address)) = good else { return false };
            let agrees = address.tls.as_ref().is_some_and(|tls| is(tls, *how)) && there.name == host_name(cell, *host);
            delivers && agrees && matches!(report.verdict, Verdict::Ok | Verdict::Warning)
        }
        End::Waits(whys) => {
            let word = report.evidence.delivery.cause.as_ref().map(|cause| cause.row().word);
            let named = word.is_some_and(|word| whys.iter().any(|why| words(*why).contains(&word)));
            !delivers && named && matches!(report.verdict, Verdict::Fault | Verdict::Inconclusive)
        }
        // Nobody has asked for REQUIRETLS.
        End::Returns | End::Either(_) => false,
    }
}
