//! Reports that could not be delivered, collected for the postmaster (RFC 5321 §6.1).
//!
//! Invariant: however many reports are lost, the postmaster gets a few mails an hour about them
//! (`report/gather.rs`), and each lost report is in one. Until then it waits in the spool, owed like any
//! end that is still to be told; a mail and all that it tells of are recorded in one transaction. The
//! claims of those that wait to be gathered are renewed by the writer of the mail, and one that is lost
//! is left to whoever has it.
//! How many mails there were is known to this process alone: each start may bring one at once.

use super::Pipeline;
use super::lease;
use super::reports::JustTried;
use crate::clock::Timestamp;
use crate::envelope::{Origin, QueueId};
use crate::report::gather::{and_digest, digest_opens};
use crate::report::{self, LostReport, due};
use crate::smtp::address::Mailbox;
use crate::spool::event::Silence;
use crate::spool::owed::Rounds;
use crate::spool::{Claim, Notification, RecipientState, Report, Settlement, SpoolEntry, SpoolError};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long the first lost report waits for those that were lost together with it.
const GATHER: Duration = Duration::from_secs(2);

/// Lost reports that one mail tells of: one transaction. More come with the next mail.
const MOST_AT_ONCE: usize = 2000;

/// What is collected.
#[derive(Default)]
pub(super) struct Postmaster(Mutex<Gathered>);

#[derive(Default)]
struct Gathered {
    /// Mails made.
    rounds: Rounds,
    /// For the next one.
    lost: Vec<Claim>,
    /// Whether somebody is about to write it.
    open: bool,
}

impl Postmaster {
    /// When the postmaster may be told next.
    pub(super) fn opens(&self, now: Timestamp) -> Timestamp {
        digest_opens(self.gathered().rounds, now)
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies of the claims on what is collected, which stays so.
    fn collected(&self) -> Vec<Claim> {
        let copy = |claim: &Claim| Claim { entry: claim.entry.clone(), generation: claim.generation };
        self.gathered().lost.iter().map(copy).collect()
    }

    /// Puts a lost report with the others.
    fn collect(&self, claim: Claim, now: Timestamp) -> Collected<'_> {
        let mut gathered = self.gathered();
        let opens = digest_opens(gathered.rounds, now);
        if opens > now {
            return Collected::TooSoon(claim, opens);
        }
        if gathered.lost.len() >= MOST_AT_ONCE {
            return Collected::TooSoon(claim, now.plus(GATHER));
        }
        gathered.lost.push(claim);
        if std::mem::replace(&mut gathered.open, true) {
            Collected::WithOthers
        } else {
            Collected::First(DigestWriter(self))
        }
    }
}

/// What has become of a lost report.
enum Collected<'a> {
    /// The next mail comes then.
    TooSoon(Claim, Timestamp),
    /// Somebody writes the mail soon.
    WithOthers,
    /// Whoever has this writes it.
    First(DigestWriter<'a>),
}

/// Who writes the next mail. It does not stay open when the writer is cut off.
struct DigestWriter<'a>(&'a Postmaster);

impl DigestWriter<'_> {
    /// All that was collected.
    fn take(self, now: Timestamp) -> Vec<Claim> {
        let mut gathered = self.0.gathered();
        gathered.rounds = and_digest(gathered.rounds, now);
        std::mem::take(&mut gathered.lost)
    }
}

impl Drop for DigestWriter<'_> {
    fn drop(&mut self) {
        self.0.gathered().open = false;
    }
}

/// Whether a message is a report of ours, or a copy for an archive, that was lost, with nothing left but to tell the postmaster.
pub(super) fn is_lost_report(entry: &SpoolEntry) -> bool {
    let is_open = |state: &&RecipientState| state.is_open();
    let is_report = match entry.envelope.origin {
        Origin::Report { .. } | Origin::Copy { .. } => true,
        Origin::Client(_) | Origin::TlsReport { .. } => false,
    };
    let mut open = entry.recipients.iter().filter(is_open).peekable();
    is_report && open.peek().is_some() && open.all(|state| state.owed().is_some())
}

impl Pipeline {
    /// Tells the postmaster of a lost report, in its time and together with others.
    pub(super) async fn tell_postmaster(&self, claim: Claim) {
        let writer = match self.postmaster.collect(claim, self.out.clock.now()) {
            Collected::TooSoon(claim, until) => return self.postpone(claim, until).await,
            Collected::WithOthers => return,
            Collected::First(writer) => writer,
        };
        self.gather().await;
        let mut lost = writer.take(self.out.clock.now());
        let gone = self.renew_all(&lost).await;
        lost.retain(|claim| !gone.contains(&claim.entry.id));
        self.write_digest(lost).await;
    }

    /// Waits for those that were lost together with the first.
    async fn gather(&self) {
        let end = Instant::now() + GATHER;
        let Some(pause) = lease::pause(self.spool.lease()) else { return sleep_until(end).await };
        while Instant::now() < end {
            sleep_until(end.min(Instant::now() + pause)).await;
            let gone = self.renew_all(&self.postmaster.collected()).await;
            self.postmaster.gathered().lost.retain(|claim| !gone.contains(&claim.entry.id));
        }
    }

    /// Gives the messages whose claims are lost; a store that cannot be reached loses none before its time.
    async fn renew_all(&self, claims: &[Claim]) -> BTreeSet<QueueId> {
        let renewed = join_all(claims.iter().map(|claim| self.spool.renew(claim))).await;
        let gone = claims.iter().zip(renewed).filter_map(|(claim, renewed)| match renewed {
            Err(error @ SpoolError::Fenced) => {
                self.observer.spool_failed("renew a claim; the report is left to others", &error);
                Some(claim.entry.id)
            }
            Ok(()) | Err(_) => None,
        });
        gone.collect()
    }

    async fn write_digest(&self, lost: Vec<Claim>) {
        let now = self.out.clock.now();
        let (reader, reports) = self.digest(&lost, now).await;
        // The configuration may have changed since they were lost.
        let notification =
            if reports.is_empty() { Notification::Nobody(Silence::NullReversePath) } else { Notification::ByReport(0) };
        let mut settlements = lost.into_iter().map(|claim| {
            let settlement = done(&claim.entry, notification, now);
            (claim, settlement)
        });
        let Some((first, settlement)) = settlements.next() else { return };
        let others: Vec<_> = settlements.collect();
        let id = first.entry.id;
        match self.spool.settle_together(first, Settlement { reports, ..settlement }, others).await {
            Ok(()) => reader.iter().for_each(|to| self.observer.report_queued(id, to.as_str())),
            Err(error) => self.observer.spool_failed("settle", &error),
        }
    }

    /// One lost report is shown, several are listed.
    async fn digest(&self, lost: &[Claim], now: Timestamp) -> (Option<Mailbox>, Vec<Report>) {
        let entries: Vec<&SpoolEntry> = lost.iter().map(|claim| &claim.entry).collect();
        let told = entries.iter().find_map(|entry| Some((*entry, due::lost(entry, &self.rules())?)));
        let Some((entry, first)) = told else { return (None, Vec::new()) };
        let to = first.to.clone();
        if entries.len() == 1 {
            return (Some(to), self.compose(entry, &[first], &JustTried::default(), now).await);
        }
        let named: Vec<LostReport<'_>> = entries.into_iter().map(LostReport).collect();
        let report = report::digest(&self.report_context(), &to, &named, now);
        (Some(to), vec![report])
    }
}

/// All that was owed is told.
fn done(entry: &SpoolEntry, notification: Notification, now: Timestamp) -> Settlement {
    let owed = entry.recipients.iter().enumerate().filter(|(_, state)| state.owed().is_some());
    let recipients: Vec<_> = owed
        .map(|(index, state)| {
            let mut state = state.clone();
            due::settle(&mut state);
            (index, state)
        })
        .collect();
    let told = recipients.iter().map(|(index, _)| (*index, notification)).collect();
    Settlement { recipients, told, at: Some(now), ..Settlement::default() }
}
