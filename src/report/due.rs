//! Who is told what after an attempt (RFC 3461 §4.1, §5.2, §6.1; RFC 5321 §4.5.5, §6.1).
//!
//! Pure: from the message, the new states of its recipients and the rules of the operator to the
//! reports that are due now, and to those that wait for more to tell (`gather.rs`). Nobody is told of a message from the null reverse-path, so that two
//! systems cannot send each other reports about reports; a report of ours, or a copy for an archive, that fails
//! goes to the postmaster together with others (`digest.rs`), and one to the postmaster goes nowhere.

use super::{Due, Fate, Kind, gather, tries};
use crate::clock::Timestamp;
use crate::config::NotifyConfig;
use crate::envelope::{Envelope, Origin};
use crate::outcome::{Cause, DeliveryOutcome};
use crate::smtp::address::{Mailbox, ReversePath};
use crate::smtp::dsn::NotifyOn;
use crate::spool::owed::{Owed, Reported};
use crate::spool::{Pending, RecipientState, SpoolEntry, Told};
use std::collections::{BTreeMap, BTreeSet};

/// What the operator wants.
#[derive(Clone, Copy, Debug)]
pub struct ReportRules<'a> {
    /// When to tell of delays.
    pub notify: &'a NotifyConfig,
    /// Who is told of reports that fail.
    pub postmaster: Option<&'a Mailbox>,
}

/// When it is asked who is told.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Now.
    pub now: Timestamp,
    /// Recipients that an attempt is under way for: nothing is told of them before it ends.
    pub under_way: &'a BTreeSet<usize>,
    /// When the postmaster may be told next of reports that were lost.
    pub digest: Timestamp,
}

/// No recipient is under way.
static NOBODY: BTreeSet<usize> = BTreeSet::new();

impl Moment<'static> {
    /// While nothing of the message is under way.
    #[must_use]
    pub const fn at_rest(now: Timestamp) -> Self {
        Self { now, under_way: &NOBODY, digest: now }
    }
}

/// What follows from an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notifications {
    /// The reports to write, in an order that does not change.
    pub reports: Vec<Due>,
    /// The recipients that failed and of whom nobody is told.
    pub untold: Vec<usize>,
    /// The recipients that have their end now and are told of later, and when.
    pub owed: Vec<(usize, Timestamp)>,
    /// When the next report is due that waits for more to tell.
    pub next: Option<Timestamp>,
}

/// Decides what is told at this moment; `changes` are the states that attempts have just brought.
#[must_use]
pub fn due(
    entry: &SpoolEntry,
    changes: &[(usize, RecipientState)],
    rules: &ReportRules<'_>,
    moment: &Moment<'_>,
) -> Notifications {
    let states = after(entry, changes);
    let changed: BTreeSet<usize> = changes.iter().map(|(index, _)| *index).collect();
    let mut found = ByKind::default();
    for (&index, &state) in states.iter().filter(|(index, _)| !moment.under_way.contains(*index)) {
        if changed.contains(&index) || state.is_open() {
            let notice = notice(entry, index, state, rules.notify, moment.now);
            found.note(&entry.envelope, index, state, notice);
        }
    }
    let ByKind { failed, delayed, held_back, relayed, untold } = found;
    let mut notifications = Notifications { untold, ..Notifications::default() };
    let is_over = states.values().all(|state| state.pending().is_none());
    match &entry.envelope.reverse_path {
        ReversePath::Mailbox(sender) => {
            let kinds = [
                (Kind::Failed, failed),
                (Kind::HeldBack, held_back),
                (Kind::Delayed, delayed),
                (Kind::Relayed, relayed),
            ];
            for (kind, recipients) in kinds.into_iter().filter(|(_, recipients)| !recipients.is_empty()) {
                let opens = if is_over { moment.now } else { opens(entry, kind, rules.notify, moment) };
                if opens <= moment.now {
                    notifications.reports.push(Due { to: sender.clone(), kind, recipients });
                } else {
                    notifications.owe(kind, recipients.iter().map(|(index, _)| *index), &changed, opens);
                }
            }
        }
        ReversePath::Null => match reader_of_lost_reports(&entry.envelope, rules) {
            Some(_) => {
                let kind = kind_of_loss(&entry.envelope);
                let known = |index: &usize| entry.recipients.get(*index).and_then(RecipientState::owed);
                let opens = failed.iter().filter_map(|(index, _)| known(index)).map(|owed| owed.due).min();
                let indices = failed.iter().map(|(index, _)| *index);
                notifications.owe(kind, indices, &changed, opens.unwrap_or(moment.digest));
            }
            None => notifications.untold.extend(failed.into_iter().map(|(index, _)| index)),
        },
    }
    notifications
}

/// What the postmaster is told of this message, where it is a report that was lost.
#[must_use]
pub fn lost(entry: &SpoolEntry, rules: &ReportRules<'_>) -> Option<Due> {
    let to = reader_of_lost_reports(&entry.envelope, rules)?.clone();
    let fate = |(index, state): (usize, &RecipientState)| Some((index, Fate::Stopped(state.owed()?.cause()?.clone())));
    let recipients: Vec<_> = entry.recipients.iter().enumerate().filter_map(fate).collect();
    (!recipients.is_empty()).then_some(Due { to, kind: kind_of_loss(&entry.envelope), recipients })
}

impl Notifications {
    fn owe(
        &mut self,
        kind: Kind,
        recipients: impl Iterator<Item = usize>,
        changed: &BTreeSet<usize>,
        opens: Timestamp,
    ) {
        let recipients: Vec<usize> = recipients.collect();
        if recipients.is_empty() {
            return;
        }
        self.next = Some(self.next.map_or(opens, |next| next.min(opens)));
        match kind {
            Kind::Failed | Kind::Relayed | Kind::ReportLost | Kind::CopyLost => {
                self.owed.extend(recipients.into_iter().filter(|index| changed.contains(index)).map(|i| (i, opens)));
            }
            // Whoever waits goes on waiting.
            Kind::Delayed | Kind::HeldBack => {}
        }
    }
}

/// The states as they are with the changes.
fn after<'a>(entry: &'a SpoolEntry, changes: &'a [(usize, RecipientState)]) -> BTreeMap<usize, &'a RecipientState> {
    let before = entry.recipients.iter().enumerate();
    before.chain(changes.iter().map(|(index, state)| (*index, state))).collect()
}

/// When news of this kind may be told, for a message of which some recipients have no end.
fn opens(entry: &SpoolEntry, kind: Kind, notify: &NotifyConfig, moment: &Moment<'_>) -> Timestamp {
    let now = moment.now;
    if let Some(opens) = gather::opens(&entry.reported, kind, now) {
        return opens;
    }
    if moment.under_way.is_empty() {
        return now;
    }
    let accepted_at = entry.envelope.accepted_at;
    match kind {
        Kind::HeldBack => gather::first(accepted_at.plus(notify.policy_failure_after)),
        Kind::Delayed => gather::first(accepted_at.plus(notify.delay_after)),
        Kind::Failed | Kind::Relayed | Kind::ReportLost | Kind::CopyLost => {
            let is_of_kind = |owed: &&Owed| owed.cause().is_some() == (kind != Kind::Relayed);
            let known = entry.recipients.iter().filter_map(RecipientState::owed).filter(is_of_kind);
            known.map(|owed| owed.due).chain([gather::first(now)]).min().unwrap_or(now)
        }
    }
}

/// What ended when a message was last worked on.
#[derive(Clone, Copy, Debug)]
pub struct EndedTries<'a> {
    /// When notices are due.
    pub notify: &'a NotifyConfig,
    /// How many tries ended.
    pub tries: u32,
    /// When they ended.
    pub now: Timestamp,
}

/// Puts what is told into the states, so that nothing is told twice and what is told later is not
/// forgotten. Gives how often the sender has been told.
#[must_use]
pub fn mark(
    entry: &SpoolEntry,
    changes: &mut Vec<(usize, RecipientState)>,
    notifications: &Notifications,
    ended: &EndedTries<'_>,
) -> Reported {
    let EndedTries { notify, now, .. } = *ended;
    // Where both notices are due at once, one says it all.
    let delay_is_due = now.since(entry.envelope.accepted_at) >= notify.delay_after;
    let mut states: BTreeMap<usize, RecipientState> = std::mem::take(changes).into_iter().collect();
    let mut reported = entry.reported;
    for report in &notifications.reports {
        reported = gather::and_one(reported, report.kind, now);
        for (index, _) in &report.recipients {
            let Some(before) = entry.recipients.get(*index) else { continue };
            match states.entry(*index).or_insert_with(|| before.clone()) {
                RecipientState::Queued(Pending { told, .. }) => {
                    if report.kind == Kind::HeldBack {
                        told.policy = Some(now);
                    }
                    if delay_is_due {
                        told.delay = Some(now);
                    }
                }
                state @ RecipientState::Owed(_) => settle(state),
                RecipientState::Done { .. } | RecipientState::Removed => {}
            }
        }
    }
    for (index, due) in &notifications.owed {
        if let Some(state) = states.get_mut(index) {
            owe(state, entry.recipients.get(*index).and_then(RecipientState::pending), ended, *due);
        }
    }
    changes.extend(states);
    reported
}

/// The report is written.
pub fn settle(state: &mut RecipientState) {
    if let RecipientState::Owed(owed) = state {
        let outcome = owed.outcome.clone();
        *state = RecipientState::Done { outcome };
    }
}

/// The report comes later.
fn owe(state: &mut RecipientState, before: Option<&Pending>, ended: &EndedTries<'_>, due: Timestamp) {
    let RecipientState::Done { outcome } = state else { return };
    let (tries, tried_at) = {
        let cause = match outcome {
            DeliveryOutcome::Failed { cause } => Some(&*cause),
            DeliveryOutcome::Delivered { .. } => None,
        };
        let now_tried = tries::ended_now(cause, ended.tries);
        (before.map_or(0, |pending| pending.tries).saturating_add(now_tried), (now_tried > 0).then_some(ended.now))
    };
    *state = RecipientState::Owed(Owed { outcome: outcome.clone(), tries, tried_at, due });
}

/// When something is to be told of recipients that wait: now, later, or not at all.
#[must_use]
pub fn notice_for(
    entry: &SpoolEntry,
    recipients: &[usize],
    notify: &NotifyConfig,
    now: Timestamp,
) -> Option<Timestamp> {
    let states = recipients.iter().filter_map(|&index| Some((index, entry.recipients.get(index)?)));
    let due_now = states.clone().filter_map(|(index, state)| notice(entry, index, state, notify, now));
    let due_now = due_now.map(|kind| opens(entry, kind, notify, &Moment::at_rest(now)).max(now)).min();
    let states: Vec<_> = states.map(|(index, state)| (index, state.clone())).collect();
    due_now.into_iter().chain(next_notice(entry, &states, notify, now)).min()
}

/// When the next notice is due for a recipient that waits: the message has to be tried then, so
/// that a long interval between attempts does not hold up the notice.
#[must_use]
pub fn next_notice(
    entry: &SpoolEntry,
    changes: &[(usize, RecipientState)],
    notify: &NotifyConfig,
    now: Timestamp,
) -> Option<Timestamp> {
    let accepted_at = entry.envelope.accepted_at;
    let moments =
        changes.iter().filter(|(index, _)| may_tell_of_delay(&entry.envelope, *index)).flat_map(|(_, state)| {
            let told = state.told();
            let of_policy = told.policy.is_none() && waits_for(state).is_some_and(Cause::is_about_safety);
            let of_delay = told.delay.is_none() && waits_for(state).is_some();
            let policy = of_policy.then(|| accepted_at.plus(notify.policy_failure_after));
            let delay = of_delay.then(|| accepted_at.plus(notify.delay_after));
            policy.into_iter().chain(delay)
        });
    moments.filter(|moment| *moment > now).min()
}

/// What was found about the recipients, by what there is to tell.
#[derive(Default)]
struct ByKind {
    failed: Vec<(usize, Fate)>,
    delayed: Vec<(usize, Fate)>,
    held_back: Vec<(usize, Fate)>,
    relayed: Vec<(usize, Fate)>,
    untold: Vec<usize>,
}

impl ByKind {
    fn note(&mut self, envelope: &Envelope, index: usize, state: &RecipientState, notice: Option<Kind>) {
        let wants = |on| envelope.dsn_for(index).wants(on);
        match state {
            RecipientState::Queued(Pending { last: Some(cause), .. }) => match notice {
                Some(Kind::HeldBack) => self.held_back.push((index, Fate::Stopped(cause.clone()))),
                Some(_) => self.delayed.push((index, Fate::Stopped(cause.clone()))),
                None => {}
            },
            RecipientState::Queued(Pending { last: None, .. }) | RecipientState::Removed => {}
            RecipientState::Owed(owed) => match &owed.outcome {
                DeliveryOutcome::Failed { cause } => self.failed.push((index, Fate::Stopped(cause.clone()))),
                DeliveryOutcome::Delivered { peer, reply, .. } => {
                    self.relayed.push((index, Fate::Relayed { peer: peer.clone(), reply: reply.clone() }));
                }
            },
            RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } } if wants(NotifyOn::Failure) => {
                self.failed.push((index, Fate::Stopped(cause.clone())));
            }
            RecipientState::Done { outcome: DeliveryOutcome::Failed { .. } } => self.untold.push(index),
            RecipientState::Done { outcome: DeliveryOutcome::Delivered { peer, reply, notify_passed_on, .. } } => {
                // RFC 3461 §5.2.1: a host that took NOTIFY over tells of success itself.
                if wants(NotifyOn::Success) && !notify_passed_on {
                    self.relayed.push((index, Fate::Relayed { peer: peer.clone(), reply: reply.clone() }));
                }
            }
        }
    }
}

/// The notice that is due for a recipient that waits.
fn notice(
    entry: &SpoolEntry,
    index: usize,
    state: &RecipientState,
    notify: &NotifyConfig,
    now: Timestamp,
) -> Option<Kind> {
    let cause = waits_for(state).filter(|_| may_tell_of_delay(&entry.envelope, index))?;
    let age = now.since(entry.envelope.accepted_at);
    let Told { delay, policy } = state.told();
    if cause.is_about_safety() && policy.is_none() && age >= notify.policy_failure_after {
        return Some(Kind::HeldBack);
    }
    (delay.is_none() && age >= notify.delay_after).then_some(Kind::Delayed)
}

const fn waits_for(state: &RecipientState) -> Option<&Cause> {
    match state {
        RecipientState::Queued(Pending { last, .. }) => last.as_ref(),
        RecipientState::Owed(_) | RecipientState::Done { .. } | RecipientState::Removed => None,
    }
}

fn may_tell_of_delay(envelope: &Envelope, index: usize) -> bool {
    envelope.reverse_path != ReversePath::Null && envelope.dsn_for(index).wants(NotifyOn::Delay)
}

/// What is told to the postmaster when this has failed.
const fn kind_of_loss(envelope: &Envelope) -> Kind {
    match envelope.origin {
        Origin::Copy { .. } => Kind::CopyLost,
        Origin::Report { .. } | Origin::TlsReport { .. } | Origin::Client(_) => Kind::ReportLost,
    }
}

/// The postmaster, where a report of ours, or a copy for an archive, failed that was not for the postmaster. That a
/// stranger does not take the reports on TLS that it asks for is nothing to write of each day.
fn reader_of_lost_reports<'a>(envelope: &Envelope, rules: &ReportRules<'a>) -> Option<&'a Mailbox> {
    match envelope.origin {
        Origin::Report { .. } | Origin::Copy { .. } => {
            rules.postmaster.filter(|postmaster| !envelope.recipients.contains(postmaster))
        }
        Origin::Client(_) | Origin::TlsReport { .. } => None,
    }
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
