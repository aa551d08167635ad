//! One report: whether anybody wants it, what is in it, and who has it (RFC 8460 §3, §5).
//!
//! A domain that names several places has the report at each that takes it, and one is enough. Where none does, all
//! are tried again, for a day (RFC 8460 §5.5).

use super::ReportingError;
use crate::clock::Timestamp;
use crate::config::TlsReportsConfig;
use crate::envelope::{DsnRequest, Envelope, Origin, RecipientDsn, TlsRequest};
use crate::pipeline::outbound::Outbound;
use crate::report::tls::record::{self, ReportRecord};
use crate::report::tls::{
    ReportExtent, ReportPoster, ReportSubject, ReportSubmitter, ReportUri, TlsReportDocument, gzip, report_mail,
};
use crate::resolve::answer::{Answer, Ask, Data, Freshness, RecordType};
use crate::smtp::address::{Domain, Mailbox, ReversePath};
use crate::spool::Report;
use crate::spool::ledger::Ledger;
use crate::spool::tls_session::{DueTlsReport, TlsReportId, TlsReportState};
use bytes::Bytes;
use std::time::Duration;

/// The wait after the first try that failed; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(300);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(4 * 3600);
/// Doublings until every wait is the longest.
const MOST_DOUBLINGS: u32 = 6;
/// Until when after its day a report is tried: for 24 hours, wherever in the first four it began (RFC 8460 §5.5).
const GIVEN_UP_AFTER: Duration = Duration::from_secs(28 * 3600);

/// Whoever makes reports.
pub(crate) struct Reporter<'a> {
    out: &'a Outbound,
    submitter: ReportSubmitter<'a>,
    poster: ReportPoster,
}

/// What a domain wants of reports.
#[derive(Debug)]
pub(crate) enum ReportDemand {
    /// Reports, at these places.
    Wanted(ReportRecord),
    /// None, or it says so in no way that can be understood.
    NotWanted(String),
    /// The DNS does not say.
    Unknown(String),
}

/// A report that is ready.
pub(crate) struct ReadyReport {
    /// Where it goes.
    pub(crate) record: ReportRecord,
    /// What it says.
    pub(crate) document: TlsReportDocument,
    domain: Domain,
}

/// What a report is, once everything about it is known.
pub(crate) enum Preparation {
    /// It can go out.
    Ready(Box<ReadyReport>),
    /// It need not.
    NotWanted(String),
    /// Not now.
    NotNow(String),
}

impl<'a> Reporter<'a> {
    /// By the configuration of the ways out.
    ///
    /// # Errors
    /// When the configuration does not say who reports, or TLS cannot be set up.
    pub(crate) fn new(out: &'a Outbound) -> Result<Self, ReportingError> {
        let TlsReportsConfig { organization, contact, .. } = &out.config.tls_reports;
        let (Some(organization), Some(contact)) = (organization, contact) else {
            let wants = "[tls_reports] needs organization and contact: a report says who sends it";
            return Err(ReportingError::Setup(wants.to_owned()));
        };
        let poster = ReportPoster::new(&out.config.delivery, std::sync::Arc::clone(&out.network), &out.clock);
        let poster = poster.map_err(|error| ReportingError::Setup(error.to_string()))?;
        let submitter = ReportSubmitter { organization, contact, hostname: &out.config.hostname };
        Ok(Self { out, submitter, poster })
    }

    /// The report as it is made of what is counted; none where there is nothing to tell.
    ///
    /// # Errors
    /// When what was counted cannot be read.
    pub(crate) async fn document(
        &self,
        ledger: &dyn Ledger,
        id: &TlsReportId,
    ) -> Result<Option<TlsReportDocument>, ReportingError> {
        let Ok(domain) = id.domain.parse::<Domain>() else { return Ok(None) };
        let counts = ledger.tls_counts(id).await?;
        let only_failures = self.out.config.tls_reports.only_failures;
        let extent = if only_failures { ReportExtent::FailuresOnly } else { ReportExtent::Everything };
        let subject = ReportSubject { submitter: self.submitter, domain: &domain, day: id.day };
        Ok(TlsReportDocument::of(&subject, &counts, extent))
    }

    /// Everything about a report but sending it.
    ///
    /// # Errors
    /// When what was counted cannot be read.
    pub(crate) async fn prepare(&self, ledger: &dyn Ledger, id: &TlsReportId) -> Result<Preparation, ReportingError> {
        let Ok(domain) = id.domain.parse::<Domain>() else {
            return Ok(Preparation::NotWanted("its name cannot be asked for".to_owned()));
        };
        let config = &self.out.config.tls_reports;
        if config.is_never(&domain) {
            return Ok(Preparation::NotWanted("tls_reports.domains_never names it".to_owned()));
        }
        let record = match demand(self.out.dns.as_ref(), &domain).await {
            ReportDemand::Wanted(record) => record,
            ReportDemand::NotWanted(because) => return Ok(Preparation::NotWanted(because)),
            ReportDemand::Unknown(because) => return Ok(Preparation::NotNow(because)),
        };
        let Some(document) = self.document(ledger, id).await? else {
            return Ok(Preparation::NotWanted("nothing failed".to_owned()));
        };
        Ok(Preparation::Ready(Box::new(ReadyReport { record, document, domain })))
    }

    /// Makes a report and posts it. Gives what has become of it, and the mails that are to go out with that.
    ///
    /// # Errors
    /// When what was counted cannot be read.
    pub(super) async fn report(
        &self,
        ledger: &dyn Ledger,
        due: &DueTlsReport,
    ) -> Result<(TlsReportState, Vec<Report>), ReportingError> {
        let prepared = self.prepare(ledger, &due.id).await?;
        let now = self.out.clock.now();
        Ok(match prepared {
            Preparation::NotWanted(because) => (TlsReportState::NotWanted { at: now, because }, Vec::new()),
            Preparation::NotNow(because) => (later(due, because, now), Vec::new()),
            Preparation::Ready(report) => self.send(due, &report).await,
        })
    }

    async fn send(&self, due: &DueTlsReport, report: &ReadyReport) -> (TlsReportState, Vec<Report>) {
        let packed = Bytes::from(gzip(report.document.json().as_bytes()));
        let (mut to, mut mailboxes, mut failure) = (Vec::new(), Vec::new(), None);
        for uri in &report.record.rua {
            match uri {
                ReportUri::Mailto(mailbox) => {
                    to.push(uri.to_string());
                    mailboxes.push(mailbox.clone());
                }
                ReportUri::Https(url) => match self.poster.post(self.out.dns.as_ref(), url, packed.clone()).await {
                    Ok(()) => to.push(uri.to_string()),
                    Err(error) => failure = Some(format!("{uri}: {error}")),
                },
            }
        }
        let now = self.out.clock.now();
        if to.is_empty() {
            return (later(due, failure.unwrap_or_default(), now), Vec::new());
        }
        let subject = ReportSubject { submitter: self.submitter, domain: &report.domain, day: due.id.day };
        let copies = &self.out.config.tls_reports.copy_to;
        // A mail for each, so that one that fails is no matter of the others.
        let mail = |mailbox: &Mailbox| self.mail(&subject, mailbox, &report.document, now);
        let mails = mailboxes.iter().chain(copies).map(mail).collect();
        (TlsReportState::Sent { at: now, to }, mails)
    }

    /// Not from the null reverse-path, which is for notifications (RFC 5321 §4.5.5); that it fails is told in log and
    /// metric, and nobody writes to the contact about it. It is to arrive whatever the TLS of its reader (RFC 8460 §3).
    fn mail(&self, subject: &ReportSubject<'_>, to: &Mailbox, document: &TlsReportDocument, now: Timestamp) -> Report {
        let recipients = vec![to.clone()];
        let content = Bytes::from(report_mail(subject, &recipients, document, now));
        let origin = Origin::TlsReport { domain: subject.domain.to_string(), day: subject.day };
        let reverse_path = ReversePath::Mailbox(self.submitter.contact.clone());
        let never = RecipientDsn { notify: "NEVER".parse().ok(), original: None };
        let dsn = DsnRequest { recipients: vec![never], ..DsnRequest::default() };
        let envelope = Envelope::new(reverse_path, recipients, now, origin);
        Report { envelope: Envelope { tls: TlsRequest::Optional, dsn, ..envelope }, content }
    }
}

/// What a domain says of reports, by its TXT record at `_smtp._tls`.
pub(crate) async fn demand(dns: &dyn Ask, domain: &Domain) -> ReportDemand {
    let name = format!("_smtp._tls.{domain}");
    match dns.ask(&name, RecordType::Txt, Freshness::Kept).await {
        Answer::Found(found) => {
            let texts = found.data.iter().filter_map(|data| match data {
                Data::Txt(text) => Some(text.as_slice()),
                Data::Address(_) | Data::Mx(..) | Data::Tlsa(_) => None,
            });
            record::read(texts).map_or_else(|error| ReportDemand::NotWanted(error.to_string()), ReportDemand::Wanted)
        }
        Answer::NoData(_) | Answer::NxDomain(_) => ReportDemand::NotWanted(format!("there is no TXT record at {name}")),
        Answer::Failed(cause) => ReportDemand::Unknown(cause.sentence()),
    }
}

/// After a try that failed: the next one, or the end.
fn later(due: &DueTlsReport, because: String, now: Timestamp) -> TlsReportState {
    let before = match &due.state {
        Some(TlsReportState::Waiting { tries, .. }) => *tries,
        Some(TlsReportState::Sent { .. } | TlsReportState::NotWanted { .. } | TlsReportState::GivenUp { .. })
        | None => 0,
    };
    let wait = FIRST_WAIT.saturating_mul(1 << before.min(MOST_DOUBLINGS)).min(LONGEST_WAIT);
    let (next, last) = (now.plus(wait), due.id.day.end().plus(GIVEN_UP_AFTER));
    if next > last {
        return TlsReportState::GivenUp { at: now, because };
    }
    TlsReportState::Waiting { due: next, tries: before.saturating_add(1), last: Some(because) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::tls_session::ReportDay;

    #[test]
    fn rfc8460_5_5_p16_a_report_is_tried_for_a_day_ever_more_rarely_and_then_given_up() {
        let day = ReportDay(20_000);
        let id = TlsReportId { day, domain: "a.example".into() };
        let mut due = DueTlsReport { id, state: None };
        let (mut now, mut waits) = (day.end().plus(Duration::from_secs(4 * 3600)), Vec::new());
        let end = loop {
            let state = later(&due, "no answer".into(), now);
            let Some(next) = state.due() else { break state };
            waits.push(next.since(now).as_secs());
            now = next;
            due.state = Some(state);
        };
        assert_eq!(waits.get(..8), Some(&[300, 600, 1200, 2400, 4800, 9600, 14_400, 14_400][..]));
        assert_eq!(end, TlsReportState::GivenUp { at: now, because: "no answer".into() });
        let tried = now.since(day.end()).as_secs();
        assert!((24 * 3600..=28 * 3600).contains(&tried), "{tried}");
    }
}
