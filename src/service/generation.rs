//! The relay by the configuration that counts now, and how another one takes its place.
//!
//! What takes mail in and what carries it out are each made for one configuration and never changed; another
//! configuration brings others, who share the spool, the places and all that was learnt. Whoever begins
//! something takes the latest ones, and ends it with them.

use crate::accept::LimitNews;
use crate::accept::driver::Acceptor;
use crate::accept::ports::Acceptors;
use crate::accept::suspended::Suspensions;
use crate::accept::tls::{ListenerError, ListenerFiles, listener_files};
use crate::config::Config;
use crate::observe::Observer;
use crate::pipeline::outbound::{Outbound, OutboundError, OutboundPaths};
use crate::pipeline::{self, Pipeline, Pipelines};
use crate::policy::sts::driver as sts;
use crate::policy::sts::event::{StsEvent, StsListener};
use crate::report::Texts;
use crate::service::error::RunError;
use crate::service::{exceptions, files, limits, selfcheck, tls_reports};
use crate::spool::{Recovery, Spool};
use crate::state_dir;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long the stop waits for the writers of the spool, after sessions and deliveries have ended: all of it stays below
/// the 90 seconds that the service manager gives.
const CLOSE_PATIENCE: Duration = Duration::from_secs(20);

/// What sends mail out by these ways and tells the observer of policies.
///
/// # Errors
/// When a file that the configuration names cannot be used: trusted roots, a password, a certificate.
pub fn outbound(config: Arc<Config>, ways: OutboundPaths, observer: &Arc<Observer>) -> Result<Outbound, OutboundError> {
    Outbound::new(config, ways, of_policies(observer))
}

/// Tells the observer what happens with policies.
pub(in crate::service) fn of_policies(observer: &Arc<Observer>) -> StsListener {
    let observer = Arc::clone(observer);
    Arc::new(move |event: &StsEvent<'_>| observer.sts(event))
}

/// The relay without its ports: what takes mail in, and what carries it out.
pub struct Service {
    acceptors: watch::Sender<Arc<Acceptor>>,
    pipelines: watch::Sender<Arc<Pipeline>>,
    /// Limits that were reached, for whoever tells the postmaster.
    limits: Mutex<Option<Receiver<LimitNews>>>,
}

/// What another configuration brings.
pub(super) struct NextGeneration {
    /// The ways out.
    pub out: Outbound,
    /// What the files of the listeners held.
    pub listeners: Vec<ListenerFiles>,
    /// The words of reports.
    pub texts: Texts,
}

impl Service {
    /// Puts the relay together around a spool. Nothing runs yet.
    ///
    /// # Errors
    /// When a certificate or the users of a listener cannot be used.
    pub fn new(
        out: Outbound,
        spool: Arc<dyn Spool>,
        observer: Arc<Observer>,
        texts: Texts,
    ) -> Result<Self, ListenerError> {
        let listeners = listener_files(&out.config)?;
        let (config, clock, told) = (Arc::clone(&out.config), out.clock.clone(), Arc::clone(&observer));
        let (teller, limits) = limits::teller();
        let told = Arc::new(move |event| {
            teller.told(&event);
            told.accept(&event);
        });
        let suspensions = kept_suspensions(&config, &observer);
        let acceptor = Acceptor::new(config, Arc::clone(&spool), clock, listeners, told);
        let acceptor = Arc::new(acceptor.with_suspensions(suspensions));
        let pipeline = Arc::new(Pipeline::new(out, spool, observer, texts));
        let (acceptors, pipelines) = (watch::Sender::new(acceptor), watch::Sender::new(pipeline));
        Ok(Self { acceptors, pipelines, limits: Mutex::new(Some(limits)) })
    }

    /// Takes mail in.
    #[must_use]
    pub fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.acceptors.borrow())
    }

    /// Carries it out; it has the spool, the observer and the ways out.
    #[must_use]
    pub fn pipeline(&self) -> Arc<Pipeline> {
        Arc::clone(&self.pipelines.borrow())
    }

    /// The latest of those that take mail in.
    #[must_use]
    pub(super) fn acceptors(&self) -> Acceptors {
        self.acceptors.subscribe()
    }

    /// The latest of those that carry it out.
    #[must_use]
    pub fn pipelines(&self) -> Pipelines {
        self.pipelines.subscribe()
    }

    /// Another configuration counts from now on.
    pub(super) fn succeed(&self, next: NextGeneration) {
        let NextGeneration { out, listeners, texts } = next;
        let (before, config) = (self.pipeline(), Arc::clone(&out.config));
        let (acceptor_before, acceptor) = (self.acceptor(), self.acceptor().succeeded_by(config, listeners));
        self.acceptors.send_replace(Arc::clone(&acceptor));
        if !Arc::ptr_eq(&acceptor_before, &acceptor) {
            acceptor_before.let_go();
        }
        // Last, for whoever looks after the relay waits for these.
        let pipeline = Arc::new(before.succeeded_by(out, texts));
        pipeline.takes_over();
        self.pipelines.send_replace(pipeline);
        // Connections that wait for a message were opened by what counted before.
        tokio::spawn(async move { before.out.mailer.close().await });
    }

    /// Tells the postmaster of damage that the opening of the spool found.
    pub async fn tell_of_damage(&self, recovery: &Recovery) {
        let pipeline = self.pipeline();
        if recovery.damaged_records > 0
            && let Err(error) = pipeline.tell_of_damage(recovery.damaged_records).await
        {
            pipeline.observer.spool_failed("tell the postmaster of damage", &error);
        }
    }

    /// Starts what looks after kept policies, our own records, files and exceptions, until the stop.
    pub fn watch(&self, stop: &CancellationToken) {
        tokio::spawn(keep_policies_fresh(self.pipelines(), stop.clone()));
        tokio::spawn(selfcheck::watch(self.pipelines(), stop.clone()));
        tokio::spawn(files::watch(self.acceptors(), self.pipelines(), stop.clone()));
        if let Some(news) = self.limits.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tokio::spawn(limits::watch(news, self.pipelines(), stop.clone()));
        }
        tokio::spawn(exceptions::watch(self.pipelines(), stop.clone()));
        tokio::spawn(tls_reports::watch(self.pipelines(), stop.clone()));
    }

    /// Runs until the stop, or until the spool has `failed`; then sessions and deliveries end first
    /// and the spool last. `accepting` are the sessions: it ends after the stop with the last of
    /// them.
    ///
    /// # Errors
    /// When the spool failed.
    pub async fn run<A, F>(self: Arc<Self>, accepting: A, failed: F, stop: CancellationToken) -> Result<(), RunError>
    where
        A: Future<Output = ()> + Send + 'static,
        F: Future<Output = String> + Send,
    {
        let (spool, observer) = (Arc::clone(&self.pipeline().spool), Arc::clone(&self.pipeline().observer));
        let accepting = tokio::spawn(accepting);
        let delivering = tokio::spawn(pipeline::run(self.pipelines(), stop.clone()));
        let failure = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            detail = failed => Some(detail),
        };
        stop.cancel();
        let (_sessions, delivering) = tokio::join!(accepting, delivering);
        // A writer that waits for a disk that never answers must not hold the process.
        let _closed_or_hangs = tokio::time::timeout(CLOSE_PATIENCE, spool.close()).await;
        observer.left_undone(delivering.unwrap_or_default(), spool.unwritten());
        match failure {
            None => Ok(()),
            Some(detail) => Err(RunError::Spool(detail)),
        }
    }
}

/// What was suspended before the last stop. Where that cannot be read, mail goes on, and the log says so.
fn kept_suspensions(config: &Config, observer: &Observer) -> Arc<Suspensions> {
    let kept = Suspensions::load(state_dir::open(&config.spool));
    Arc::new(kept.unwrap_or_else(|fault| {
        observer.spool_failed("read what is suspended", &fault);
        Suspensions::none(state_dir::open(&config.spool))
    }))
}

/// Refreshes the kept policies by whatever fetches them now.
async fn keep_policies_fresh(mut pipelines: Pipelines, stop: CancellationToken) {
    loop {
        let client = Arc::clone(&pipelines.borrow_and_update().out.sts);
        let same = Arc::clone(&client);
        let other_comes = async {
            let is_other = |pipeline: &Arc<Pipeline>| !Arc::ptr_eq(&pipeline.out.sts, &same);
            if pipelines.wait_for(is_other).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let keeping = async {
            sts::keep_fresh(client, stop.clone()).await;
            // Switched off, there is nothing to keep until it is switched on.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = other_comes => {}
            () = keeping => {}
        }
    }
}
