//! After an attempt: whoever has to be told is told (RFC 3461 §5.2, RFC 5321 §6.1).
//!
//! A report goes into the same settlement as the end of the recipients that it tells of; until it is
//! written they are owed. What the senders of waiting recipients were told goes into their states, so
//! that nothing is told twice.

use super::Pipeline;
use super::conclude::Progress;
use crate::accept::LimitNews;
use crate::clock::Timestamp;
use crate::config::NotifyConfig;
use crate::envelope::{Origin, QueueId};
use crate::outcome::Cause;
use crate::report::due::{self, Moment, Notifications, ReportRules};
use crate::report::{self, Due, Kind, Original, ReportContext};
use crate::smtp::address::ReversePath;
use crate::spool::event::{Event, Silence};
use crate::spool::owed::Reported;
use crate::spool::{Notification, RecipientState, Report, SpoolEntry, SpoolError, schedule};
use std::collections::BTreeSet;

/// What a settlement has to say beside the states.
#[derive(Default)]
pub(super) struct DueReports {
    pub(super) reports: Vec<Report>,
    /// Who is told of which recipient.
    pub(super) told: Vec<(usize, Notification)>,
    /// How often the sender has been told, where that changes.
    pub(super) reported: Option<Reported>,
    /// When the next report is due.
    pub(super) next: Option<Timestamp>,
}

/// What has come with the attempts that a report follows on.
#[derive(Default)]
pub(super) struct JustTried {
    /// The recipients whose attempts have just ended.
    changed: BTreeSet<usize>,
    /// How many tries that makes.
    tries_now: u32,
}

impl Pipeline {
    /// The reports that are due when attempts have been concluded at `now`, and of whom they tell;
    /// `under_way` are the recipients of attempts that go on.
    /// The states come to say what was told and what is still owed, and the next attempts come no later
    /// than the next notice.
    pub(super) async fn reports(
        &self,
        entry: &SpoolEntry,
        progress: &mut Progress,
        under_way: &BTreeSet<usize>,
        now: Timestamp,
    ) -> DueReports {
        let config = &self.out.config;
        let Progress { conclusion, events, .. } = progress;
        let moment = Moment { now, under_way, digest: self.postmaster.opens(now) };
        let notifications = due::due(entry, &conclusion.recipients, &self.rules(), &moment);
        let changed = conclusion.recipients.iter().map(|(index, _)| *index).collect();
        let tries_now = u32::from(events.iter().any(is_try));
        let tried = JustTried { changed, tries_now };
        let ended = due::EndedTries { notify: &config.notify, tries: tries_now, now };
        let reported = due::mark(entry, &mut conclusion.recipients, &notifications, &ended);
        let next_notice = due::next_notice(entry, &conclusion.recipients, &config.notify, now);
        for (_, state) in &mut conclusion.recipients {
            if let (RecipientState::Queued(pending), Some(notice)) = (state, next_notice)
                // A notice is not worth another copy.
                && !pending.last.as_ref().is_some_and(Cause::may_be_delivered)
            {
                pending.due = pending.due.map(|due| due.min(notice));
            }
        }
        if !notifications.untold.is_empty() {
            self.observer.report_suppressed(entry.id, notifications.untold.len());
        }
        if !conclusion.failures.is_empty() {
            let reader = config.postmaster.as_ref().filter(|_| !notifications.owed.is_empty());
            match &entry.envelope.origin {
                Origin::Report { .. } => self.observer.report_lost(entry.id, reader),
                Origin::Copy { of } => self.observer.copy_lost(entry.id, *of, reader),
                Origin::TlsReport { domain, .. } => self.observer.tls_reports.lost(entry.id, domain),
                Origin::Client(_) => {}
            }
        }
        let mut told =
            DueReports { told: told(entry, &notifications), next: notifications.next, ..DueReports::default() };
        if !notifications.reports.is_empty() {
            told.reported = Some(reported);
            told.reports = self.compose(entry, &notifications.reports, &tried, now).await;
        }
        told
    }

    /// Writes reports.
    pub(super) async fn compose(
        &self,
        entry: &SpoolEntry,
        reports: &[Due],
        tried: &JustTried,
        now: Timestamp,
    ) -> Vec<Report> {
        let content = self.beginning(entry, reports).await;
        let until = schedule::expires_at(&self.out.config.retry, &entry.envelope);
        let history = if report::history_wanted(reports) { self.history(entry.id).await } else { Vec::new() };
        let all = reports.iter().flat_map(|due| due.recipients.iter().map(|(index, _)| *index));
        let earlier: BTreeSet<usize> = all.filter(|index| !tried.changed.contains(index)).collect();
        let tries_now = tried.tries_now;
        let incidents = &self.incidents.ours();
        let (content, history, earlier) = (&content, &history, &earlier);
        let original = Original { entry, content, until, history, tries_now, earlier, incidents };
        reports.iter().map(|due| report::compose(&self.report_context(), &original, due, now)).collect()
    }

    pub(super) fn rules(&self) -> ReportRules<'_> {
        let config = &self.out.config;
        ReportRules { notify: &config.notify, postmaster: config.postmaster.as_ref() }
    }

    /// When a notice is due about recipients that wait: now, later, or not at all.
    pub(super) fn next_notice(&self, entry: &SpoolEntry, recipients: &[usize], now: Timestamp) -> Option<Timestamp> {
        due::notice_for(entry, recipients, &self.out.config.notify, now)
    }

    /// Whether a report about a message is due or waits for more to tell.
    pub(super) fn has_to_tell(&self, entry: &SpoolEntry, now: Timestamp) -> bool {
        let notifications = due::due(entry, &[], &self.rules(), &Moment::at_rest(now));
        notifications.next.is_some() || !notifications.reports.is_empty()
    }

    pub(super) fn report_context(&self) -> ReportContext<'_> {
        let config = &self.out.config;
        let NotifyConfig { return_full_below, html, .. } = config.notify;
        ReportContext { hostname: &config.hostname, texts: &self.texts, return_full_below, html }
    }

    /// The start of the original, with its header; a report without it is better than none.
    async fn beginning(&self, entry: &SpoolEntry, reports: &[Due]) -> Vec<u8> {
        let wanted = report::content_wanted(entry, reports, self.out.config.notify.return_full_below);
        let mut content = Vec::new();
        if let Err(error) = self.read_up_to(entry.id, wanted, &mut content).await {
            self.observer.spool_failed("read the message for a report", &error);
        }
        content.truncate(wanted);
        content
    }

    /// What happened so far; a report without it is better than none.
    async fn history(&self, id: QueueId) -> Vec<(Timestamp, Event)> {
        self.spool.history(id).await.unwrap_or_else(|error| {
            self.observer.spool_failed("read the history for a report", &error);
            Vec::new()
        })
    }

    async fn read_up_to(&self, id: QueueId, wanted: usize, content: &mut Vec<u8>) -> Result<(), SpoolError> {
        let mut reader = self.spool.open_body(id).await?;
        while content.len() < wanted
            && let Some(piece) = reader.next().await?
        {
            content.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// Tells the postmaster that records were found damaged; without a postmaster the log has
    /// told alone.
    ///
    /// # Errors
    /// When the notice cannot be stored.
    pub async fn tell_of_damage(&self, records: u64) -> Result<(), SpoolError> {
        let Some(postmaster) = &self.out.config.postmaster else { return Ok(()) };
        let now = self.out.clock.now();
        let notice = report::damage_notice(&self.report_context(), postmaster, records, now);
        self.send_notice(notice, now).await
    }

    /// Tells the postmaster, if there is one, of sending limits that were reached.
    ///
    /// # Errors
    /// When the spool does not take the notice.
    pub async fn tell_of_limits(&self, news: &[LimitNews]) -> Result<(), SpoolError> {
        let Some(postmaster) = &self.out.config.postmaster else { return Ok(()) };
        let now = self.out.clock.now();
        let notice = report::limit_notice(&self.report_context(), postmaster, news, now);
        self.send_notice(notice, now).await
    }

    async fn send_notice(&self, notice: Report, now: Timestamp) -> Result<(), SpoolError> {
        let mut draft = self.spool.begin(now);
        draft.body.write(&notice.content).await?;
        self.spool.enqueue(draft, notice.envelope).await.map(|_id| ())
    }
}

fn is_try(event: &Event) -> bool {
    matches!(event, Event::Attempt(_) | Event::NotTried { .. } | Event::Broken { .. })
}

/// Who is told of which recipient.
fn told(entry: &SpoolEntry, notifications: &Notifications) -> Vec<(usize, Notification)> {
    let mut told = Vec::new();
    for (place, report) in notifications.reports.iter().enumerate() {
        let notification = match report.kind {
            Kind::Failed | Kind::ReportLost | Kind::CopyLost => Notification::ByReport(place),
            Kind::HeldBack | Kind::Delayed | Kind::Relayed => Notification::Notice(place),
        };
        told.extend(report.recipients.iter().map(|(index, _)| (*index, notification)));
    }
    let because = match entry.envelope.reverse_path {
        ReversePath::Null => Silence::NullReversePath,
        ReversePath::Mailbox(_) => Silence::NotAsked,
    };
    told.extend(notifications.untold.iter().map(|index| (*index, Notification::Nobody(because))));
    told
}
