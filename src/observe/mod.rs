//! Everything the outside can watch: metric names and log events.
//!
//! Stages report facts; this file alone gives them names. Metric labels are words from closed
//! sets, never domains or addresses, so the number of series does not grow with the mail.
//! The log has one line for each delivery attempt, with its TLS verdict, and never content.

mod archive;
mod attempt;
mod closed;
mod config;
mod dkim;
mod dns;
mod egress;
mod front;
mod hosts;
mod incidents;
pub mod log_level;
mod policy;
mod process;
mod recipient;
#[cfg(test)]
mod reference_tests;
mod register;
mod reports;
mod selfcheck;
pub mod spans;
mod store;
mod tls_reports;
pub(crate) mod traffic;
mod watch;

use crate::accept::{AcceptEvent, Accepted, REFUSALS};
use crate::clock::Timestamp;
use crate::config::PrivateZone;
use crate::deliver::AttemptReport;
use crate::deliver::dkim::SigningResult;
use crate::deliver::egress::store::{CertificateEndsAt, Reread};
use crate::deliver::hosts::view::HostsView;
use crate::envelope::QueueId;
use crate::outcome::{Cause, DeliveryOutcome, ExceptionInForce};
use crate::policy::exceptions::{Exception, ExceptionsStatus};
use crate::policy::sts::event::StsEvent;
use crate::resolve::event::DnsEvent;
use crate::smtp::address::Mailbox;
use crate::spool::Recovery;
use crate::spool::SpoolStats;
use crate::spool::Unwritten;
use crate::spool::audit::AuditFinding;
use crate::spool::event::{Act, Actor};
use crate::spool::room::{AwayStore, FullDisk};
use crate::state_dir::KeepFault;
use archive::ArchiveMetrics;
use attempt::AttemptMetrics;
use dns::DnsMetrics;
use hosts::HostMetrics;
use incidents::IncidentMetrics;
use policy::PolicyMetrics;
use prometheus::{Encoder, Error, IntCounter, IntCounterVec, Registry, TextEncoder};
use recipient::RecipientMetrics;
pub use register::MetricText;
use register::Register;
use reports::ReportMetrics;
use std::time::Duration;
use store::StoreMetrics;
use tokio::sync::broadcast;

/// How one recipient stands after an attempt, for whoever runs the relay in-process.
#[derive(Clone, Debug)]
pub struct RecipientNews {
    /// The message.
    pub id: QueueId,
    /// The recipient.
    pub recipient: Mailbox,
    /// What the attempt brought.
    pub outcome: DeliveryOutcome,
}

/// The code of a refusal for lack of disk space (RFC 3463 §3.4).
const NO_SPACE: &str = "4.3.1";

/// News kept for a subscriber that is slow; older ones are dropped for it.
const NEWS_KEPT: usize = 1024;

/// The metrics and the log.
pub struct Observer {
    registry: Registry,
    catalogue: Vec<MetricText>,
    news: broadcast::Sender<RecipientNews>,
    messages_accepted: IntCounter,
    recipients_accepted: IntCounter,
    bytes_accepted: IntCounter,
    refusals: IntCounterVec,
    attempts: AttemptMetrics,
    policy: PolicyMetrics,
    recipients: RecipientMetrics,
    archive: ArchiveMetrics,
    reports: ReportMetrics,
    spool_failures: IntCounter,
    store: StoreMetrics,
    hosts: HostMetrics,
    dkim: dkim::DkimMetrics,
    dns: DnsMetrics,
    selfcheck: selfcheck::SelfCheckMetrics,
    egress: egress::EgressMetrics,
    /// The configuration.
    pub(crate) config: config::ConfigMetrics,
    front: front::FrontMetrics,
    process: process::ProcessMetrics,
    /// Incidents.
    pub(crate) incidents: IncidentMetrics,
    /// The reports on TLS.
    pub(crate) tls_reports: tls_reports::TlsReportMetrics,
    /// The watch of other domains.
    pub(crate) watch: watch::WatchMetrics,
}

impl Observer {
    /// Registers all metrics.
    ///
    /// # Errors
    /// Only when two metrics share a name, which a test rules out.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let r = Register::new(&registry);
        r.build_info()?;
        Ok(Self {
            messages_accepted: r.counter("relay_messages_accepted_total", "Messages acknowledged with 250.")?,
            recipients_accepted: r
                .counter("relay_recipients_accepted_total", "Recipients of acknowledged messages.")?,
            bytes_accepted: r.counter("relay_accepted_bytes_total", "Content of acknowledged messages, in octets.")?,
            refusals: refusals(&r)?,
            attempts: AttemptMetrics::new(&r)?,
            recipients: RecipientMetrics::new(&r)?,
            archive: ArchiveMetrics::new(&r)?,
            reports: ReportMetrics::new(&r)?,
            spool_failures: r.counter("relay_spool_failures_total", "Operations of the spool that failed.")?,
            store: StoreMetrics::new(&r)?,
            hosts: HostMetrics::new(&r)?,
            dkim: dkim::DkimMetrics::new(&r)?,
            dns: DnsMetrics::new(&r)?,
            selfcheck: selfcheck::SelfCheckMetrics::new(&r)?,
            egress: egress::EgressMetrics::new(&r)?,
            config: config::ConfigMetrics::new(&r)?,
            front: front::FrontMetrics::new(&r)?,
            process: process::ProcessMetrics::new(&r)?,
            incidents: IncidentMetrics::new(&r)?,
            tls_reports: tls_reports::TlsReportMetrics::new(&r)?,
            watch: watch::WatchMetrics::new(&r)?,
            policy: PolicyMetrics::new(&r)?,
            news: broadcast::Sender::new(NEWS_KEPT),
            catalogue: r.catalogue(),
            registry,
        })
    }

    /// Every metric there is, also those that have no series yet.
    #[must_use]
    pub fn catalogue(&self) -> &[MetricText] {
        &self.catalogue
    }

    /// What becomes of recipients from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<RecipientNews> {
        self.news.subscribe()
    }

    /// How receiving hosts stand at the moment.
    pub fn hosts(&self, view: &HostsView) {
        self.hosts.set(view);
    }

    /// The metrics in the text format of Prometheus.
    #[must_use]
    pub fn render(&self, stats: &SpoolStats, now: Timestamp) -> String {
        self.store.set(stats, now);
        self.process.set(now);
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Something happened at the listener.
    pub fn accept(&self, event: &AcceptEvent) {
        match event {
            AcceptEvent::ListenerFailed { listener, error } => {
                tracing::error!(?listener, %error, "listener cannot take a connection");
            }
            AcceptEvent::MessageAccepted(accepted) => self.accepted(accepted),
            AcceptEvent::MessageCopied { id, of, to } => self.archive.copied(*id, *of, to),
            AcceptEvent::MessageRefused { peer, refusal } => {
                let enhanced = refusal.enhanced.map(|e| e.to_string());
                let labels = [refusal.code.to_string(), enhanced.clone().unwrap_or_default()];
                self.refusals.with_label_values(&labels).inc();
                // All mail of all clients stops here, which is more than somebody's mistake.
                if enhanced.as_deref() == Some(NO_SPACE) {
                    tracing::warn!(%peer, code = refusal.code, enhanced, "mail is refused for lack of disk space");
                } else {
                    tracing::info!(%peer, at = ?refusal.at, code = refusal.code, enhanced, "refused");
                }
            }
            AcceptEvent::SpoolFailed { peer, error } => {
                self.spool_failures.inc();
                tracing::error!(%peer, %error, "spool failed; the client was told to try again");
            }
            AcceptEvent::CertificateInUse { .. }
            | AcceptEvent::CertificateRefused { .. }
            | AcceptEvent::TlsFailed { .. }
            | AcceptEvent::SessionOpened { .. }
            | AcceptEvent::SessionRefused { .. }
            | AcceptEvent::SessionClosed { .. }
            | AcceptEvent::Limit(_)
            | AcceptEvent::Login { .. }
            | AcceptEvent::UsersInUse { .. }
            | AcceptEvent::UsersRefused { .. }
            | AcceptEvent::ProxyHeaderFailed { .. } => self.front.told(event),
        }
    }

    fn accepted(&self, accepted: &Accepted) {
        self.messages_accepted.inc();
        self.recipients_accepted.inc_by(u64::try_from(accepted.recipients).unwrap_or(0));
        self.bytes_accepted.inc_by(accepted.size);
        tracing::info!(
            id = %accepted.id,
            client = %accepted.client,
            protocol = accepted.protocol,
            user = accepted.user,
            from = %accepted.reverse_path,
            recipients = accepted.recipients,
            size = accepted.size,
            "accepted"
        );
    }

    /// Something happened with an MTA-STS policy.
    pub fn sts(&self, event: &StsEvent<'_>) {
        self.policy.sts(event);
    }

    /// A zone in which nothing is validated, because the operator says so.
    pub fn private_zone(&self, zone: &PrivateZone) {
        tracing::info!(%zone, "private zone: nothing is validated in it");
    }

    /// What is probably not meant like this.
    pub fn doubt(&self, doubt: &str) {
        tracing::warn!("{doubt}");
    }

    /// Other paths to the DNS are asked from now on: nothing is known of them yet.
    pub fn dns_paths_are_others(&self) {
        self.dns.forget_paths();
    }

    /// Something happened in the DNS stage.
    pub fn dns(&self, event: &DnsEvent<'_>) {
        self.dns.note(event);
    }

    /// One connection to a mail server has ended.
    pub fn attempt(&self, id: QueueId, next_hop: &str, report: &AttemptReport, exception: Option<&ExceptionInForce>) {
        self.attempts.ended(id, next_hop, report, exception);
        if let Some(watched) = &report.watched {
            self.policy.watched(id, &report.peer, watched);
        }
    }

    /// How the weakenings by the operator stand.
    pub fn exceptions(&self, now: &ExceptionsStatus) {
        self.policy.exceptions(now);
    }

    /// A weakening by the operator is in force, or is over.
    pub fn exception_changed(&self, exception: &Exception, now: &str) {
        let Exception { domains, kind, reason, until } = exception;
        tracing::warn!(domains, kind, until, reason, "exception {now}");
    }

    /// Which weakenings are over could not be read or kept: a restart may bring some back, until
    /// the next trial.
    pub fn exceptions_unkept(&self, fault: &KeepFault) {
        tracing::error!(%fault, "the file of exceptions that are over failed; what it held is tried again");
    }

    /// What the relay found about its own host; `status` as the exit codes of `relay check`.
    pub fn self_check(&self, check: &'static str, status: u8, detail: &str) {
        self.selfcheck.told(check, status, detail);
        self.incidents.checked(check, status, detail);
    }

    /// When the client certificates of destinations end.
    pub fn client_certificates(&self, all: &[CertificateEndsAt]) {
        self.egress.certificates(all);
    }

    /// What became of files that were read again.
    pub fn egress_reread(&self, news: &[Reread]) {
        egress::EgressMetrics::reread(news);
    }

    /// A host was left alone, or a next hop has none: no connection was made.
    pub fn no_attempt(&self, id: QueueId, next_hop: &str, cause: &Cause) {
        self.attempts.skipped(id, next_hop, cause);
    }

    /// How one recipient stands after all servers were tried.
    pub fn recipient(&self, id: QueueId, recipient: &Mailbox, outcome: &DeliveryOutcome) {
        if self.news.receiver_count() > 0 {
            let news = RecipientNews { id, recipient: recipient.clone(), outcome: outcome.clone() };
            let _nobody_listens_any_more = self.news.send(news);
        }
        self.recipients.stands(id, recipient, outcome);
    }

    /// The spool is open, with what it found.
    pub fn spool_opened(&self, recovery: &Recovery) {
        store::opened(recovery);
    }

    /// How the disk of the spool stands: full, or not.
    pub fn disk(&self, full: Option<FullDisk>) {
        self.store.disk(full);
    }

    /// Whether the database of the spool can be used.
    pub fn store_away(&self, away: Option<AwayStore>) {
        self.store.away(away);
    }

    /// The stop has waited as long as it does, and leaves this undone.
    pub fn left_undone(&self, deliveries: usize, unwritten: Unwritten) {
        store::left_undone(deliveries, unwritten);
    }

    /// An audit of the store has ended.
    pub fn audited(&self, findings: &[AuditFinding], counted: u64) {
        self.store.audited(findings, counted);
    }

    /// The operator did something with a message.
    pub fn operated(&self, id: QueueId, act: Act, actor: &Actor, recipients: usize) {
        tracing::warn!(%id, act = act.word(), recipients, by = actor.words(), "operator");
    }

    /// A report is in the queue.
    pub fn report_queued(&self, about: QueueId, to: &str) {
        self.reports.queued(about, to);
    }

    /// Recipients failed, and nobody may be told (RFC 5321 §4.5.5) or wants to be (RFC 3461 §4.1).
    pub fn report_suppressed(&self, about: QueueId, recipients: usize) {
        self.reports.suppressed(about, recipients);
    }

    /// What the signing of a message came to.
    pub(crate) fn signing(&self, id: QueueId, signing: &SigningResult) {
        self.dkim.ended(id, signing);
    }

    /// A report of ours could not be delivered: the postmaster is told, or the log tells alone.
    pub fn report_lost(&self, id: QueueId, told: Option<&Mailbox>) {
        self.reports.lost(id, told);
    }

    /// A copy for an archive could not be delivered: the postmaster is told, or the log tells alone.
    pub fn copy_lost(&self, id: QueueId, of: QueueId, told: Option<&Mailbox>) {
        self.archive.lost(id, of, told);
    }

    /// The spool could not do something; mail waits, nothing is lost.
    pub fn spool_failed(&self, action: &str, error: &dyn std::fmt::Display) {
        self.spool_failures.inc();
        tracing::error!(action, %error, "spool failed");
    }
}

fn refusals(r: &Register<'_>) -> Result<IntCounterVec, Error> {
    let help = "Refusals of MAIL, RCPT or content, by reply code and enhanced code: 452 with 4.3.1 is lack of disk space, \
                452 with 4.5.3 a message with too many recipients.";
    let counter = r.counters("relay_smtp_refusals_total", help, &["code", "status"])?;
    for (code, status) in REFUSALS {
        counter.with_label_values(&[code.to_string().as_str(), status]);
    }
    Ok(counter)
}

/// The evidence of a cause on one line.
fn evidence(cause: &Cause) -> String {
    let pairs = cause.root().evidence().into_iter().map(|(label, value)| format!("{label}: {value}"));
    pairs.collect::<Vec<_>>().join("; ")
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_own_name_and_a_help_text() {
        let text = Observer::new().unwrap().render(&SpoolStats::default(), Timestamp(0));
        assert!(text.contains("# HELP relay_queue_messages "));
        assert!(text.contains("relay_build_info{version="));
    }

    fn series(observer: &Observer) -> Vec<String> {
        let text = observer.render(&SpoolStats::default(), Timestamp(0));
        let named = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        named.map(|(name, _)| name.to_owned()).filter(|name| name.contains("_total")).collect()
    }

    #[test]
    fn every_counter_by_cause_is_there_before_the_first_event_and_none_comes_later() {
        let observer = Observer::new().unwrap();
        let (before, to) = (series(&observer), "bob@x.example".parse().unwrap());
        for cause in crate::outcome::every::cause() {
            observer.recipient(QueueId(1), &to, &DeliveryOutcome::Failed { cause });
        }
        for &(code, status) in REFUSALS {
            let digits: Vec<u16> = status.split('.').map(|digit| digit.parse().unwrap()).collect();
            let class = u8::try_from(digits[0]).unwrap();
            let enhanced = crate::smtp::reply::EnhancedStatusCode::new(class, digits[1], digits[2]);
            let at = crate::accept::RefusedAt::Mail;
            let refusal = crate::accept::Refusal { at, code, enhanced: Some(enhanced) };
            observer.accept(&AcceptEvent::MessageRefused { peer: "192.0.2.1:1".parse().unwrap(), refusal });
        }
        assert_eq!(series(&observer), before);
        assert!(before.contains(&"relay_smtp_refusals_total{code=\"452\",status=\"4.3.1\"}".to_owned()), "{before:#?}");
    }

    #[test]
    fn what_has_waited_too_long_is_counted_as_expired_and_by_the_cause_that_held_it() {
        let observer = Observer::new().unwrap();
        let reply = crate::outcome::every::reply(&[b"450 4.2.0 greylisted"]);
        let held = Cause::Rejected { peer: crate::outcome::every::peer(), phase: crate::outcome::Phase::RcptTo, reply };
        let cause = Cause::Expired { waited_s: 345_600, last: Some(Box::new(held)) };
        observer.recipient(QueueId(1), &"bob@x.example".parse().unwrap(), &DeliveryOutcome::Failed { cause });
        let text = observer.render(&SpoolStats::default(), Timestamp(0));
        for line in [
            "relay_recipients_failed_total{cause=\"expired\",side=\"recipient\"} 1\n",
            "relay_recipients_expired_total{cause=\"rejected-for-now\",side=\"recipient\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
