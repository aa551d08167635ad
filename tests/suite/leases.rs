//! A claim on a store that others share is held for as long as its delivery takes, and a delivery
//! that has lost it ends and records nothing (RFC 5321 §6.1).

use crate::relay::{SENDER, config, lab, until};
use crate::wrapped_spool::{Around, Call, WrappedSpool};
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::envelope::{ClientInfo, Envelope, Origin, QueueId};
use dane_relay::lab::{Lab, Trouble, TroubleAt};
use dane_relay::observe::Observer;
use dane_relay::outcome::{Cause, DeliveryOutcome};
use dane_relay::pipeline::outbound::OutboundPaths;
use dane_relay::report::driver::load_texts;
use dane_relay::resolve::driver::Dns;
use dane_relay::service::start::{self, Service};
use dane_relay::smtp::address::ReversePath;
use dane_relay::spool::owed::Owed;
use dane_relay::spool::{self, Lease, RecipientState, Settlement, Spool, SpoolError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Much shorter than the delivery of this file takes.
const LEASE: Duration = Duration::from_millis(150);

/// Who has the message when the relay starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    /// We, as long as we renew the claim.
    Ours,
    /// Another node takes each message as soon as we have it.
    Lost,
}

/// What makes a spool one whose claims end by time, as one that several nodes share.
#[derive(Default)]
struct Sharing {
    renewed: AtomicUsize,
    /// Another node has taken the message.
    lost: AtomicBool,
    settled: AtomicUsize,
}

impl Around for Sharing {
    type During = ();

    fn call(&self, call: Call) {
        self.settled.fetch_add(usize::from(call == Call::Settle), Ordering::SeqCst);
    }

    fn lease(&self, _inner: Lease) -> Lease {
        Lease::For(LEASE)
    }

    fn renew(&self) -> Result<(), SpoolError> {
        if self.lost.load(Ordering::SeqCst) {
            return Err(SpoolError::Fenced);
        }
        self.renewed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A message of a client for a server that goes silent.
fn for_a_silent_server(now: Timestamp) -> Envelope {
    let client = ClientInfo { address: [127, 0, 0, 1].into(), helo: "x".into(), protocol: "ESMTP".into(), user: None };
    let (sender, recipients) = (SENDER.parse().unwrap(), vec!["bob@silent.test".parse().unwrap()]);
    Envelope::new(ReversePath::Mailbox(sender), recipients, now, Origin::Client(client))
}

/// A report that could not be delivered, of which the postmaster is still to be told.
fn lost_report(now: Timestamp) -> (Envelope, RecipientState) {
    let envelope =
        Envelope::new(ReversePath::Null, vec![SENDER.parse().unwrap()], now, Origin::Report { about: QueueId(1) });
    let outcome = DeliveryOutcome::Failed { cause: Cause::DomainNotFound { domain: "gone.test".parse().unwrap() } };
    (envelope, RecipientState::Owed(Owed { outcome, tries: 1, tried_at: Some(now), due: now }))
}

/// A relay whose spool is shared, and one message in it.
struct World {
    spool: Arc<WrappedSpool<Sharing>>,
    observer: Arc<Observer>,
    stop: CancellationToken,
    _lab: Lab,
    _folder: TempDir,
}

impl World {
    /// The message and, where it was tried before, what became of its recipient.
    async fn new(envelope: Envelope, tried: Option<RecipientState>, holding: Holding) -> Self {
        let lab = lab().domain("silent.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, Trouble::Hang)));
        let (lab, folder) = (lab.start().await.unwrap(), tempfile::tempdir().unwrap());
        let (config, clock) = (Arc::new(config(&lab, folder.path())), Clock::system());
        let inner = spool::open(&config.spool, clock.now()).await.unwrap().spool;
        let around = Sharing { lost: AtomicBool::new(holding == Holding::Lost), ..Sharing::default() };
        let spool = Arc::new(WrappedSpool { inner, around });
        let observer = Arc::new(Observer::new().unwrap());
        let dns = Arc::new(Dns::new(&config, clock.clone(), Arc::new(|_event| {})).unwrap());
        let out = start::outbound(config, OutboundPaths::over_tcp(dns, clock.clone()), &observer).unwrap();
        let texts = load_texts(&out.config.notify).unwrap();
        let service = Arc::new(Service::new(out, Arc::clone(&spool) as _, Arc::clone(&observer), texts).unwrap());
        let id = spool.enqueue(spool.begin(clock.now()), envelope).await.unwrap();
        if let Some(state) = tried {
            let claim = spool.claim_one(id, clock.now()).await.unwrap().unwrap();
            let settlement = Settlement { recipients: vec![(0, state)], ..Settlement::default() };
            spool.inner.settle(claim, settlement).await.unwrap();
        }
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(service.run(async move { stopped.cancelled().await }, std::future::pending(), stop.clone()));
        Self { spool, observer, stop, _lab: lab, _folder: folder }
    }

    fn failures(&self) -> bool {
        let metrics = self.observer.render(&self.spool.stats(), Clock::system().now());
        metrics.lines().any(|line| line == "relay_spool_failures_total 1")
    }
}

#[tokio::test]
async fn rfc5321_6_1_a_delivery_holds_its_claim_and_one_that_lost_it_records_nothing() {
    let world = World::new(for_a_silent_server(Clock::system().now()), None, Holding::Ours).await;
    let renewed = || async { (world.spool.around.renewed.load(Ordering::SeqCst) > 6).then_some(()) };
    until(renewed, "renewals of more than one lease").await;
    assert!(!world.failures(), "it goes on for as long as it takes");
    world.spool.around.lost.store(true, Ordering::SeqCst);
    until(|| async { world.failures().then_some(()) }, "the end of the delivery").await;
    world.stop.cancel();
    assert_eq!(world.spool.around.settled.load(Ordering::SeqCst), 0, "what it brought is another worker's to record");
    assert_eq!(world.spool.stats().queued_messages, 1);
}

#[tokio::test]
async fn rfc5321_6_1_a_lost_report_is_held_while_it_is_gathered_with_others() {
    let (envelope, owed) = lost_report(Clock::system().now());
    let world = World::new(envelope, Some(owed), Holding::Ours).await;
    until(|| async { (world.spool.around.settled.load(Ordering::SeqCst) > 0).then_some(()) }, "what becomes of it")
        .await;
    assert!(world.spool.around.renewed.load(Ordering::SeqCst) > 1, "while others were waited for, and at the end");
    assert!(!world.failures());
    world.stop.cancel();
}

#[tokio::test]
async fn rfc5321_6_1_a_lost_report_that_another_worker_has_is_left_to_it() {
    let (envelope, owed) = lost_report(Clock::system().now());
    let world = World::new(envelope, Some(owed), Holding::Lost).await;
    until(|| async { world.failures().then_some(()) }, "the loss of the claim").await;
    world.stop.cancel();
    assert_eq!(world.spool.around.settled.load(Ordering::SeqCst), 0);
    assert_eq!(world.spool.stats().queued_messages, 1);
}
