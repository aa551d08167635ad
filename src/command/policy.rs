//! `relay policy show|refresh DOMAIN`: the MTA-STS policy that is kept for a domain, and a new
//! one (RFC 8461).
//!
//! Exit codes: 0 when a policy is in force, 1 when there is none, 2 when there should be one and
//! something is wrong with it, 3 when we could not find out.

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DnsMode, RootsError, TrustedRoots};
use crate::net::Tcp;
use crate::outcome::Cause;
use crate::policy::sts::driver::{StsClient, StsPaths};
use crate::policy::sts::event::{self as sts_event, StsEvent, StsListener};
use crate::policy::sts::failure::FetchFailure;
use crate::policy::sts::lost::Lost;
use crate::policy::sts::memory::Held;
use crate::policy::sts::policy::Mode;
use crate::policy::sts::record::{PolicyId, RecordError};
use crate::policy::sts::store::StoreFault;
use crate::policy::sts::{RefreshFailure, StsAbsent, StsPolicy};
use crate::resolve::answer::Freshness;
use crate::resolve::driver::Dns;
use crate::resolve::error::DnsSetupError;
use crate::resolve::event as dns_event;
use crate::smtp::address::Domain;
use crate::text::paragraph;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};

/// The column of what stands beside a label.
const INDENT: usize = 11;

/// Why nothing can be found out.
#[derive(Debug, thiserror::Error)]
pub enum PolicySetupError {
    /// The DNS side cannot be set up.
    #[error(transparent)]
    Dns(#[from] DnsSetupError),
    /// There are no certificate authorities.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

/// What it came to, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyStatus {
    /// A policy is in force, to enforce or to test.
    Policy,
    /// None is in force.
    None,
    /// There should be one, and something is wrong with it.
    Fault,
    /// We could not find out.
    Unknown,
}

impl PolicyStatus {
    /// The exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Policy => 0,
            Self::None => 1,
            Self::Fault => 2,
            Self::Unknown => 3,
        }
    }

    const fn headline(self) -> &'static str {
        match self {
            Self::Policy => "POLICY",
            Self::None => "NONE",
            Self::Fault => "FAULT",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What is known of a domain's policy.
#[derive(Debug, Serialize)]
pub struct PolicyReport {
    /// The domain.
    pub domain: String,
    /// What it came to.
    pub status: PolicyStatus,
    /// The TXT record as it is now; only when it was asked for.
    pub record: Option<RecordReport>,
    /// The policy that is kept.
    pub policy: Option<KeptReport>,
    /// What went wrong.
    pub failure: Option<FailureReport>,
}

/// The TXT record at `_mta-sts.<domain>`.
#[derive(Debug, Serialize)]
pub struct RecordReport {
    /// The id it announces.
    pub id: Option<String>,
    /// Why it announces none.
    pub problem: Option<String>,
}

/// A policy that is kept.
#[derive(Debug, Serialize)]
pub struct KeptReport {
    /// `enforce`, `testing` or `none`.
    pub mode: &'static str,
    /// The MX hosts it allows.
    pub mx: Vec<String>,
    /// How long it holds from when it was fetched.
    pub max_age_s: u64,
    /// The id of the record it was fetched for.
    pub id: Option<String>,
    /// When it was fetched: RFC 3339.
    pub fetched_at: String,
    /// Until when it holds: RFC 3339.
    pub expires_at: String,
    /// Whether it does not hold any more.
    pub expired: bool,
    /// The last refresh, when that failed.
    pub refresh_failure: Option<RefreshFailure>,
    /// The text as it was fetched.
    pub text: String,
}

/// What went wrong.
#[derive(Debug, Serialize)]
pub struct FailureReport {
    /// The result type of RFC 8460 §4.3.2.2, for fetches.
    pub result_type: Option<&'static str>,
    /// What happened.
    pub sentence: String,
}

/// Shows what is kept and announced; fetches nothing.
///
/// # Errors
/// When the DNS side cannot be set up.
pub async fn show(config: &Config, clock: Clock, domain: &Domain) -> Result<PolicyReport, PolicySetupError> {
    let now = clock.now();
    let client = client(config, clock, sts_event::nobody()).await?;
    let announced = client.announced(domain, Freshness::Asked).await;
    let kept = client.kept(domain);
    let mut report = PolicyReport::new(domain, kept_status(&kept, now));
    match (&kept, &announced) {
        (Held::Lost(lost), _) if !lost.is_over(now) => report.failure = Some(FailureReport::lost(lost)),
        (_, Err(absent)) if report.status == PolicyStatus::None => report.status = absent_status(absent),
        (_, Ok(_) | Err(_)) => {}
    }
    if !config.mta_sts.enabled {
        report.status = PolicyStatus::None;
        report.failure = Some(FailureReport::plain(FetchFailure::SwitchedOff.to_string()));
    }
    report.policy = kept_report(&kept, now);
    report.record = Some(RecordReport::new(announced));
    Ok(report)
}

/// Fetches the policy and keeps it.
///
/// # Errors
/// When the DNS side or the certificate authorities cannot be set up.
pub async fn refresh(config: &Config, clock: Clock, domain: &Domain) -> Result<PolicyReport, PolicySetupError> {
    let store_fault: Arc<Mutex<Option<String>>> = Arc::default();
    let noted = Arc::clone(&store_fault);
    let listener: StsListener = Arc::new(move |event| match event {
        // What was lost is what the operator wants to have again.
        StsEvent::StoreFailed { fault: StoreFault::Lost { .. } | StoreFault::Unreadable { .. } } => {}
        StsEvent::StoreFailed { fault } => {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.to_string());
        }
        StsEvent::Fetched { .. } | StsEvent::FetchFailed { .. } => {}
    });
    let client = client(config, clock.clone(), listener).await?;
    let fetched = client.refresh(domain).await;
    let now = clock.now();
    let mut report = PolicyReport::new(domain, PolicyStatus::None);
    match fetched {
        Ok(policy) => {
            report.status = mode_status(policy.terms.mode);
            report.policy = Some(KeptReport::new(&policy, now));
            if let Some(fault) = store_fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
                report.status = PolicyStatus::Fault;
                report.failure = Some(FailureReport::plain(fault));
            }
        }
        Err(failure) => {
            report.status = failure_status(&failure);
            report.policy = client.cached(domain).map(|policy| KeptReport::new(&policy, now));
            let (result_type, sentence) = (Some(failure.result_type()), failure.to_string());
            report.failure = Some(FailureReport { result_type, sentence });
        }
    }
    Ok(report)
}

async fn client(config: &Config, clock: Clock, listener: StsListener) -> Result<StsClient, PolicySetupError> {
    let dns = Dns::new(config, clock.clone(), dns_event::nobody())?;
    match config.dns.mode {
        DnsMode::TrustAd => dns.probe().await?,
        DnsMode::Validate => {}
    }
    let roots = TrustedRoots::read(&config.tls.roots)?;
    let paths = StsPaths { dns: Arc::new(dns), network: Arc::new(Tcp), clock };
    Ok(StsClient::new(config, &roots, paths, listener))
}

fn kept_status(kept: &Held, now: Timestamp) -> PolicyStatus {
    match kept {
        Held::Policy(policy) if !policy.has_expired(now) => mode_status(policy.terms.mode),
        Held::Lost(lost) if !lost.is_over(now) => PolicyStatus::Fault,
        Held::Policy(_) | Held::Lost(_) | Held::Nothing => PolicyStatus::None,
    }
}

fn kept_report(kept: &Held, now: Timestamp) -> Option<KeptReport> {
    match kept {
        Held::Policy(policy) => Some(KeptReport::new(policy, now)),
        Held::Lost(_) | Held::Nothing => None,
    }
}

const fn mode_status(mode: Mode) -> PolicyStatus {
    match mode {
        Mode::Enforce | Mode::Testing => PolicyStatus::Policy,
        Mode::None => PolicyStatus::None,
    }
}

fn absent_status(absent: &StsAbsent) -> PolicyStatus {
    match absent {
        StsAbsent::UnusableRecord(_) | StsAbsent::FetchFailed(_) | StsAbsent::Lost { .. } => PolicyStatus::Fault,
        StsAbsent::Unknown(cause) => dns_status(cause),
        StsAbsent::NoRecord
        | StsAbsent::ModeNone
        | StsAbsent::AddressLiteral
        | StsAbsent::NotNeeded
        | StsAbsent::SwitchedOff => PolicyStatus::None,
    }
}

/// A zone that is signed wrongly is a fault; silence is not knowing.
fn dns_status(cause: &Cause) -> PolicyStatus {
    if matches!(cause, Cause::DnsBogus { .. }) { PolicyStatus::Fault } else { PolicyStatus::Unknown }
}

fn failure_status(failure: &FetchFailure) -> PolicyStatus {
    match failure {
        FetchFailure::NotAnnounced(RecordError::None) | FetchFailure::SwitchedOff => PolicyStatus::None,
        FetchFailure::Dns(cause) => dns_status(cause),
        FetchFailure::NoRoots { .. } | FetchFailure::Internal { .. } | FetchFailure::Slow { .. } => {
            PolicyStatus::Unknown
        }
        FetchFailure::NotAnnounced(_)
        | FetchFailure::NoAddress { .. }
        | FetchFailure::Loopback { .. }
        | FetchFailure::Connect { .. }
        | FetchFailure::Certificate { .. }
        | FetchFailure::Tls { .. }
        | FetchFailure::Http { .. }
        | FetchFailure::Status { .. }
        | FetchFailure::MediaType { .. }
        | FetchFailure::TooLarge
        | FetchFailure::TimedOut
        | FetchFailure::Invalid(_) => PolicyStatus::Fault,
    }
}

impl FailureReport {
    const fn plain(sentence: String) -> Self {
        Self { result_type: None, sentence }
    }

    fn lost(lost: &Lost) -> Self {
        let until = lost.until.map(|until| format!(", at the latest until {}", until.to_second())).unwrap_or_default();
        Self::plain(format!(
            "a policy that was kept cannot be looked into, and mail waits until it is fetched again{until}: {}",
            lost.because
        ))
    }
}

impl RecordReport {
    fn new(announced: Result<PolicyId, StsAbsent>) -> Self {
        match announced {
            Ok(id) => Self { id: Some(id.to_string()), problem: None },
            Err(absent) => Self { id: None, problem: Some(absent.phrase()) },
        }
    }
}

impl KeptReport {
    fn new(policy: &StsPolicy, now: Timestamp) -> Self {
        Self {
            mode: policy.terms.mode.word(),
            mx: policy.terms.mx.iter().map(ToString::to_string).collect(),
            max_age_s: policy.terms.max_age.as_secs(),
            id: policy.id.as_ref().map(ToString::to_string),
            fetched_at: policy.fetched_at.rfc3339(),
            expires_at: policy.expires_at().rfc3339(),
            expired: policy.has_expired(now),
            refresh_failure: policy.refresh_failure.clone(),
            text: policy.text.clone(),
        }
    }

    fn text(&self) -> String {
        let line = |label: &str, text: &str| paragraph(&format!("  {label}"), text, INDENT);
        let mut out = line("mode", self.mode);
        out += &line("mx", &if self.mx.is_empty() { "none".to_owned() } else { self.mx.join(" ") });
        out += &line("id", self.id.as_deref().unwrap_or("none: it was fetched without a usable record"));
        out += &line("fetched", &self.fetched_at);
        out += &line(if self.expired { "expired" } else { "until" }, &self.expires_at);
        if let Some(failure) = &self.refresh_failure {
            out +=
                &line("refresh", &format!("failed at {}: {}: {}", failure.at, failure.result_type, failure.sentence));
        }
        out
    }
}

impl PolicyReport {
    fn new(domain: &Domain, status: PolicyStatus) -> Self {
        Self { domain: domain.to_string(), status, record: None, policy: None, failure: None }
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |label: &str, text: &str| paragraph(&format!("  {label}"), text, INDENT);
        let mut out = format!("{}  {}\n", self.status.headline(), self.domain);
        match &self.policy {
            Some(policy) => out += &policy.text(),
            None => out += &line("kept", "nothing is kept for this domain"),
        }
        if let Some(record) = &self.record {
            out += &line(
                "record",
                &match (&record.id, &record.problem) {
                    (Some(id), _) => format!("announces the id {id}"),
                    (None, problem) => format!("none: {}", problem.as_deref().unwrap_or("not found")),
                },
            );
        }
        if let Some(failure) = &self.failure {
            let result_type = failure.result_type.map(|word| format!("{word}: ")).unwrap_or_default();
            out += &line("failure", &format!("{result_type}{}", failure.sentence));
        }
        out
    }
}
