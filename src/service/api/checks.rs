//! The checks that are asked for over the admin port: a few at once, each followed while it runs, and ended when it is
//! no longer wanted.

use super::sessions::random_name;
use crate::check::{CheckReport, CheckStep, Checker, Color, Detail, Verdict};
use crate::clock::{Clock, Timestamp};
use crate::command::json;
use crate::config::Config;
use crate::smtp::address::Domain;
use crate::text::in_one_line;
use serde::Serialize;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Checks at once: each asks the DNS and holds connections to mail servers.
const MOST_AT_ONCE: usize = 3;
/// Checks that are remembered, the newest.
const MOST_KEPT: usize = 30;
/// Steps that are told of one check; a domain with hundreds of servers has more.
const MOST_STEPS: usize = 200;
/// From one word about a check that runs to the next.
const TICK: Duration = Duration::from_secs(1);
/// After so long a check has come to nothing.
const LONGEST: Duration = Duration::from_secs(300);

/// How a check stands.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CheckProgress {
    /// Its name.
    pub(super) id: String,
    /// The domain.
    pub(super) domain: String,
    /// The user who began it.
    pub(super) by: String,
    /// When it began.
    pub(super) since: Timestamp,
    /// Whether it runs.
    pub(super) state: CheckState,
    /// How long it has run, in seconds.
    pub(super) elapsed_s: u64,
    /// The steps that were taken so far, the first ones.
    pub(super) steps: Vec<CheckStep>,
    /// The verdict: ok, warning, fault or inconclusive.
    pub(super) verdict: Option<Verdict>,
    /// What `relay check` prints.
    pub(super) text: Option<String>,
    /// What `relay check --json` prints.
    pub(super) report: Option<Value>,
    /// The same for those who have other words.
    #[serde(skip)]
    pub(super) found: Option<Arc<CheckReport>>,
}

/// Whether a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CheckState {
    /// It goes on.
    Running,
    /// It has ended with a verdict.
    Done,
    /// Somebody ended it.
    Cancelled,
    /// It came to nothing.
    Failed,
}

impl CheckProgress {
    /// What strangers said stands in steps, and goes to a browser as it is.
    fn took(&mut self, step: CheckStep) {
        if self.steps.len() < MOST_STEPS {
            self.steps.push(CheckStep { text: in_one_line(&step.text).into_owned(), ..step });
        }
    }
}

struct KnownCheck {
    progress: watch::Receiver<CheckProgress>,
    stop: CancellationToken,
}

/// All of them, the oldest first.
pub(super) struct Checks {
    known: Mutex<Vec<KnownCheck>>,
    stop: CancellationToken,
}

impl Checks {
    /// None yet; they end with the relay.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { known: Mutex::default(), stop }
    }

    /// Begins one.
    ///
    /// # Errors
    /// When too many run already.
    pub(super) fn begin(
        self: &Arc<Self>,
        config: &Config,
        clock: Clock,
        domain: Domain,
        by: &str,
    ) -> Result<CheckProgress, String> {
        let mut known = self.known();
        let running = known.iter().filter(|one| one.progress.borrow().state == CheckState::Running).count();
        if running >= MOST_AT_ONCE {
            return Err(format!("{running} checks run already: wait for one, or end it"));
        }
        let begun = CheckProgress {
            id: random_name()?,
            domain: domain.to_string(),
            by: by.to_owned(),
            since: clock.now(),
            state: CheckState::Running,
            elapsed_s: 0,
            steps: Vec::new(),
            verdict: None,
            text: None,
            report: None,
            found: None,
        };
        let checker = Checker::new(config.clone(), clock.clone()).map_err(|error| error.to_string())?;
        let (teller, progress) = watch::channel(begun.clone());
        let (teller, stop) = (Arc::new(teller), self.stop.child_token());
        let steps = Arc::clone(&teller);
        let checker = checker.telling(Arc::new(move |step| steps.send_modify(|progress| progress.took(step))));
        tokio::spawn(run(checker, domain, clock, teller, stop.clone()));
        known.push(KnownCheck { progress, stop });
        let too_many = known.len().saturating_sub(MOST_KEPT);
        known.drain(..too_many);
        Ok(begun)
    }

    /// All that are known, the newest first.
    pub(super) fn all(&self) -> Vec<CheckProgress> {
        self.known().iter().rev().map(|one| one.progress.borrow().clone()).collect()
    }

    /// One of them, to be followed.
    pub(super) fn follow(&self, id: &str) -> Option<watch::Receiver<CheckProgress>> {
        self.known().iter().find(|one| one.progress.borrow().id == id).map(|one| one.progress.clone())
    }

    /// Ends one; it stands as it does then.
    pub(super) async fn cancel(&self, id: &str) -> Option<CheckProgress> {
        let mut progress = self.follow(id)?;
        if let Some(one) = self.known().iter().find(|one| one.progress.borrow().id == id) {
            one.stop.cancel();
        }
        let ended = progress.wait_for(|now| now.state != CheckState::Running).await;
        ended.ok().map(|now| now.clone())
    }

    fn known(&self) -> MutexGuard<'_, Vec<KnownCheck>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(
    checker: Checker,
    domain: Domain,
    clock: Clock,
    teller: Arc<watch::Sender<CheckProgress>>,
    stop: CancellationToken,
) {
    let ticking = async {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            teller.send_modify(|progress| progress.elapsed_s = clock.now().since(progress.since).as_secs());
        }
    };
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => CheckState::Cancelled,
        () = tokio::time::sleep(LONGEST) => CheckState::Failed,
        report = Box::pin(checker.check(&domain)) => {
            teller.send_modify(|progress| {
                progress.verdict = Some(report.verdict);
                progress.text = Some(report.shown(Detail::Verdict, Color::Plain));
                progress.report = Some(json::value(&report));
                progress.found = Some(Arc::new(report));
            });
            CheckState::Done
        }
        () = ticking => CheckState::Failed,
    };
    teller.send_modify(|progress| progress.state = end);
}
