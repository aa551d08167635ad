//! Who is told what after an attempt (RFC 3461 §4.1, §5.2, §6.1; RFC 5321 §4.5.5, §6.1).
//!
//! Pure: from the message, the new states of its recipients and the rules of the operator to the
//! reports that are due. Nobody is told of a message from the null reverse-path, so that two
//! systems cannot send each other reports about reports; a report of ours that fails goes to the
//! postmaster, and one to the postmaster goes nowhere.

use super::{Due, Fate, Kind};
use crate::clock::Timestamp;
use crate::config::Notify;
use crate::envelope::{Envelope, Origin};
use crate::outcome::{Cause, DeliveryOutcome};
use crate::smtp::address::{Mailbox, ReversePath};
use crate::smtp::dsn::NotifyOn;
use crate::spool::{Pending, RecipientState, SpoolEntry, Told};

/// What the operator wants.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// When to tell of delays.
    pub notify: &'a Notify,
    /// Who is told of reports that fail.
    pub postmaster: Option<&'a Mailbox>,
}

/// What follows from an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tellings {
    /// The reports to write, in an order that does not change.
    pub reports: Vec<Due>,
    /// The recipients that failed and of whom nobody is told.
    pub untold: Vec<usize>,
}

/// Decides after an attempt that ended at `now`; `changes` are the states it brought.
#[must_use]
pub fn due(entry: &SpoolEntry, changes: &[(usize, RecipientState)], rules: &Rules<'_>, now: Timestamp) -> Tellings {
    let mut found = Found::default();
    for (index, state) in changes {
        found.note(&entry.envelope, *index, state, notice(entry, (*index, state), rules.notify, now));
    }
    let Found { failed, delayed, held_back, relayed, mut untold } = found;
    let mut reports = Vec::new();
    match &entry.envelope.reverse_path {
        ReversePath::Mailbox(sender) => {
            let kinds = [
                (Kind::Failed, failed),
                (Kind::HeldBack, held_back),
                (Kind::Delayed, delayed),
                (Kind::Relayed, relayed),
            ];
            let some = kinds.into_iter().filter(|(_, recipients)| !recipients.is_empty());
            reports.extend(some.map(|(kind, recipients)| Due { to: sender.clone(), kind, recipients }));
        }
        ReversePath::Null => match reader_of_lost_reports(&entry.envelope, rules).filter(|_| !failed.is_empty()) {
            Some(to) => reports.push(Due { to: to.clone(), kind: Kind::ReportLost, recipients: failed }),
            None => untold.extend(failed.into_iter().map(|(index, _)| index)),
        },
    }
    Tellings { reports, untold }
}

/// Notes in the new states what their senders are told, so that no notice comes twice.
pub fn mark(
    entry: &SpoolEntry,
    changes: &mut [(usize, RecipientState)],
    reports: &[Due],
    notify: &Notify,
    now: Timestamp,
) {
    // Where both notices are due at once, one says it all.
    let delay_is_due = now.since(entry.envelope.accepted_at) >= notify.delay_after;
    for report in reports {
        for (index, _) in &report.recipients {
            let place = changes.iter_mut().find(|(changed, _)| changed == index);
            let Some((_, RecipientState::Queued(Pending { told, .. }))) = place else { continue };
            if report.kind == Kind::HeldBack {
                told.policy = Some(now);
            }
            if delay_is_due {
                told.delay = Some(now);
            }
        }
    }
}

/// When the next notice is due for a recipient that waits: the message has to be tried then, so
/// that a long interval between attempts does not hold up the notice.
#[must_use]
pub fn next_notice(
    entry: &SpoolEntry,
    changes: &[(usize, RecipientState)],
    notify: &Notify,
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
struct Found {
    failed: Vec<(usize, Fate)>,
    delayed: Vec<(usize, Fate)>,
    held_back: Vec<(usize, Fate)>,
    relayed: Vec<(usize, Fate)>,
    untold: Vec<usize>,
}

impl Found {
    fn note(&mut self, envelope: &Envelope, index: usize, state: &RecipientState, notice: Option<Kind>) {
        let wants = |on| envelope.dsn_for(index).wants(on);
        match state {
            RecipientState::Queued(Pending { last: Some(cause), .. }) => match notice {
                Some(Kind::HeldBack) => self.held_back.push((index, Fate::Stopped(cause.clone()))),
                Some(_) => self.delayed.push((index, Fate::Stopped(cause.clone()))),
                None => {}
            },
            RecipientState::Queued(Pending { last: None, .. }) | RecipientState::Removed => {}
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
    (index, state): (usize, &RecipientState),
    notify: &Notify,
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
        RecipientState::Done { .. } | RecipientState::Removed => None,
    }
}

fn may_tell_of_delay(envelope: &Envelope, index: usize) -> bool {
    envelope.reverse_path != ReversePath::Null && envelope.dsn_for(index).wants(NotifyOn::Delay)
}

/// The postmaster, where a report of ours failed that was not for the postmaster.
fn reader_of_lost_reports<'a>(envelope: &Envelope, rules: &Rules<'a>) -> Option<&'a Mailbox> {
    match envelope.origin {
        Origin::Report { .. } => rules.postmaster.filter(|postmaster| !envelope.recipients.contains(postmaster)),
        Origin::Client(_) => None,
    }
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
