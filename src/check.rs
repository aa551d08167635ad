//! `relay check DOMAIN`: the story of a delivery, stopped before MAIL FROM.
//!
//! It resolves, decides and plans with the functions that deliver mail ([`pipeline::resolve`],
//! [`pipeline::plan_for`]) and speaks to the servers with the same [`Mailer`]; so its verdict is
//! what a message would meet now. Exit codes: 0 ok, 1 warning, 2 fault, 3 inconclusive.

use crate::clock::Clock;
use crate::config::Config;
use crate::deliver::Planned;
use crate::deliver::driver::{Mailer, Probe};
use crate::outcome::{Cause, TlsVerdict};
use crate::pipeline;
use crate::policy::{TlsPolicy, dane};
use crate::resolve::answer::Trace;
use crate::resolve::driver::{Dns, DnsSetupError};
use crate::resolve::event;
use crate::resolve::{HostAddresses, HostsFrom, MxHost, Resolution, Security, TlsaLookup};
use crate::route;
use crate::smtp::address::{Domain, Host};
use crate::text::paragraph;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// What the check came to; also the exit code and a Nagios state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Mail is delivered.
    Ok,
    /// Mail is delivered, and something is wrong.
    Warning,
    /// Mail is not delivered.
    Fault,
    /// We could not find out.
    Inconclusive,
}

impl Verdict {
    /// The exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Fault => 2,
            Self::Inconclusive => 3,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Fault => "FAULT",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }
}

/// Everything the check found.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Version of this JSON form.
    pub version: u32,
    /// The domain asked about.
    pub domain: Domain,
    /// What it came to.
    pub verdict: Verdict,
    /// The sentence that says so.
    pub summary: String,
    /// The cause behind a fault.
    pub fault: Option<Fault>,
    /// Where mail for the domain goes.
    pub next_hop: String,
    /// Where the hosts come from.
    pub hosts_from: Option<HostsFrom>,
    /// What DNSSEC says about the MX records.
    pub mx_security: Option<Security>,
    /// The hosts in the order they would be tried.
    pub hosts: Vec<HostReport>,
    /// Which path to the DNS each answer came by, and which paths had failed before.
    pub dns: Vec<Trace>,
}

/// A cause in the words of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// The word for it.
    pub cause: &'static str,
    /// The enhanced status code.
    pub status: String,
    /// The RFC 8460 result type.
    pub result_type: Option<&'static str>,
    /// Who has to act.
    pub side: &'static str,
    /// What happened.
    pub sentence: String,
    /// What was seen: labels and values.
    pub evidence: Vec<(&'static str, String)>,
    /// What can be done.
    pub advice: &'static str,
}

impl From<&Cause> for Fault {
    fn from(cause: &Cause) -> Self {
        let row = cause.row();
        Self {
            cause: row.word,
            status: row.status.to_string(),
            result_type: row.result_type,
            side: row.side.word(),
            sentence: cause.sentence(),
            evidence: cause.evidence(),
            advice: cause.advice(),
        }
    }
}

/// One MX host.
#[derive(Debug, Serialize)]
pub struct HostReport {
    /// Its name.
    pub name: String,
    /// Its preference.
    pub preference: u16,
    /// What DNSSEC says about its addresses.
    pub security: Security,
    /// What applies to it: `dane`, `encrypt`, `opportunistic`; `none` when it may not be used.
    pub policy: &'static str,
    /// Why there is no DANE, where there is none.
    pub no_dane: Option<&'static str>,
    /// The TLSA base domain.
    pub tlsa_base_domain: Option<String>,
    /// Every TLSA record.
    pub tlsa: Vec<TlsaReport>,
    /// Its addresses and what they answered.
    pub addresses: Vec<AddressReport>,
    /// Why it was left alone.
    pub skipped: Option<Fault>,
}

/// One TLSA record.
#[derive(Debug, Serialize)]
pub struct TlsaReport {
    /// As zone files write it.
    pub record: String,
    /// Whether DANE for SMTP can use it (RFC 7672 §3.1, §5).
    pub usable: bool,
    /// Whether it matches the certificate of the first address that showed one.
    pub matched: bool,
}

/// One address of a host.
#[derive(Debug, Serialize)]
pub struct AddressReport {
    /// The address and port.
    pub address: String,
    /// How the connection was protected.
    pub tls: Option<TlsVerdict>,
    /// What went wrong.
    pub fault: Option<Fault>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Checks domains.
pub struct Checker {
    config: Config,
    dns: Dns,
    mailer: Mailer,
    clock: Clock,
}

/// Probes wait no longer than this for anything; delivery is more patient (RFC 5321 §4.5.3.2).
const PATIENCE: Duration = Duration::from_secs(8);

struct Probed {
    step: Planned,
    probe: Option<Probe>,
}

impl Checker {
    /// A checker with the configuration that delivers mail.
    ///
    /// # Errors
    /// When the DNS side cannot be set up.
    pub fn new(mut config: Config, clock: Clock) -> Result<Self, DnsSetupError> {
        config.delivery.connect_timeout = config.delivery.connect_timeout.min(PATIENCE);
        config.delivery.reply_timeout = config.delivery.reply_timeout.min(PATIENCE);
        let dns = Dns::new(&config, clock.clone(), event::nobody())?;
        let mailer = Mailer::new(&config.hostname, &config.delivery, clock.clone());
        Ok(Self { config, dns, mailer, clock })
    }

    /// Checks one domain.
    pub async fn check(&self, domain: &Domain) -> CheckReport {
        let hop = route::next_hop(&Host::Domain(domain.clone()), &self.config.destination, self.config.delivery.port);
        let seed = u64::try_from(self.clock.now().0).unwrap_or(0);
        let resolution = match pipeline::resolve(&self.dns, &hop, self.config.delivery.port, seed).await {
            Ok(resolution) => resolution,
            Err(cause) => return stopped(domain, hop.to_string(), None, &cause),
        };
        let steps = match pipeline::plan_for(&self.config, &resolution, &hop) {
            Ok(steps) => steps,
            Err(cause) => return stopped(domain, hop.to_string(), Some(&resolution), &cause),
        };
        let probed = futures_util::future::join_all(steps.into_iter().map(|step| self.probe(step))).await;
        let hosts = resolution.hosts.iter().map(|host| self.host_report(host, &probed)).collect();
        let (verdict, summary, fault) = conclude(domain, &probed);
        CheckReport {
            version: 1,
            domain: domain.clone(),
            verdict,
            summary,
            fault,
            next_hop: hop.to_string(),
            hosts_from: Some(resolution.hosts_from),
            mx_security: Some(resolution.mx_security),
            hosts,
            dns: resolution.traces,
        }
    }

    async fn probe(&self, step: Planned) -> Probed {
        let probe = match &step {
            Planned::Try(target) => Some(self.mailer.probe(target).await),
            Planned::Skip(_) => None,
        };
        Probed { step, probe }
    }

    fn host_report(&self, host: &MxHost, probed: &[Probed]) -> HostReport {
        let mut policy = "none";
        let mut references: &[Domain] = &[];
        let mut addresses = Vec::new();
        let mut certificates: &[Vec<u8>] = &[];
        for Probed { step, probe } in probed {
            let (Planned::Try(target), Some(probe)) = (step, probe) else { continue };
            if target.peer.host != host.name {
                continue;
            }
            policy = target.policy.word();
            if let TlsPolicy::Dane(dane) = &target.policy {
                references = &dane.references;
            }
            if certificates.is_empty() {
                certificates = &probe.certificates;
            }
            addresses.push(AddressReport {
                address: target.peer.address.to_string(),
                tls: probe.tls.clone(),
                fault: probe.failure.as_ref().map(Fault::from),
                took_ms: u64::try_from(probe.took.as_millis()).unwrap_or(u64::MAX),
            });
        }
        let (tlsa_base_domain, tlsa) = self.tlsa_report(&host.tlsa, certificates, references);
        let skipped = match (&host.addresses, &host.tlsa) {
            (HostAddresses::Unavailable(cause), _) | (_, TlsaLookup::Unavailable(cause)) => Some(Fault::from(cause)),
            (HostAddresses::Known(known), _) => forbidden(known, host, probed),
        };
        let no_dane = match &host.tlsa {
            TlsaLookup::Absent(because) => Some(because.phrase()),
            TlsaLookup::Unavailable(_) | TlsaLookup::Present { .. } => None,
        };
        HostReport {
            name: host.name.clone(),
            preference: host.preference,
            security: host.security,
            policy,
            no_dane,
            tlsa_base_domain,
            tlsa,
            addresses,
            skipped,
        }
    }

    fn tlsa_report(
        &self,
        tlsa: &TlsaLookup,
        certificates: &[Vec<u8>],
        references: &[Domain],
    ) -> (Option<String>, Vec<TlsaReport>) {
        let TlsaLookup::Present { base_domain, records } = tlsa else { return (None, Vec::new()) };
        let usable = dane::usable(records);
        let chain: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
        let now = self.clock.now();
        let report = |record: &crate::resolve::TlsaRecord| TlsaReport {
            record: record.to_string(),
            usable: usable.contains(record),
            matched: usable.contains(record)
                && dane::verify(&chain, std::slice::from_ref(record), references, now).is_ok(),
        };
        (Some(base_domain.to_string()), records.iter().map(report).collect())
    }
}

/// A host whose addresses all lead where mail must not go.
fn forbidden(known: &[std::net::IpAddr], host: &MxHost, probed: &[Probed]) -> Option<Fault> {
    known.iter().find_map(|address| {
        probed.iter().find_map(|p| match &p.step {
            Planned::Skip(cause @ Cause::AddressForbidden { host: name, address: refused })
                if name == &host.name && refused == address =>
            {
                Some(Fault::from(cause))
            }
            Planned::Skip(_) | Planned::Try(_) => None,
        })
    })
}

fn stopped(domain: &Domain, next_hop: String, resolution: Option<&Resolution>, cause: &Cause) -> CheckReport {
    CheckReport {
        version: 1,
        domain: domain.clone(),
        verdict: verdict_of(cause),
        summary: cause.sentence(),
        fault: Some(Fault::from(cause)),
        next_hop,
        hosts_from: resolution.map(|r| r.hosts_from),
        mx_security: resolution.map(|r| r.mx_security),
        hosts: Vec::new(),
        dns: resolution.map(|r| r.traces.clone()).unwrap_or_default(),
    }
}

/// "Could not find out" is not a fault of anybody yet.
fn verdict_of(cause: &Cause) -> Verdict {
    if matches!(cause, Cause::DnsUnavailable { .. }) { Verdict::Inconclusive } else { Verdict::Fault }
}

fn conclude(domain: &Domain, probed: &[Probed]) -> (Verdict, String, Option<Fault>) {
    let mut good = None;
    let mut bad = None;
    for Probed { step, probe } in probed {
        let failure = match (step, probe) {
            (Planned::Skip(cause), _) => Some(cause),
            (Planned::Try(_), Some(probe)) => probe.failure.as_ref(),
            (Planned::Try(_), None) => None,
        };
        match (failure, probe) {
            (Some(cause), _) => {
                bad.get_or_insert(cause);
            }
            (None, Some(probe)) => {
                good.get_or_insert(probe);
            }
            (None, None) => {}
        }
    }
    let how = |probe: &Probe| match &probe.tls {
        Some(TlsVerdict::Dane { version, .. }) => format!("over {version} with a certificate that DANE vouches for"),
        Some(TlsVerdict::Unauthenticated { version }) => {
            format!("over {version}, without authentication of the server")
        }
        Some(TlsVerdict::ClearText) | None => "in clear text, since the server offers no TLS".to_owned(),
    };
    match (good, bad) {
        (Some(probe), None) => (Verdict::Ok, format!("Mail for {domain} is delivered {}.", how(probe)), None),
        (Some(probe), Some(cause)) => {
            let summary =
                format!("Mail for {domain} is delivered {}, but not by every server: {}", how(probe), cause.sentence());
            (Verdict::Warning, summary, Some(Fault::from(cause)))
        }
        (None, Some(cause)) => {
            let summary = format!("Mail for {domain} is not delivered now. {}", cause.sentence());
            (verdict_of(cause), summary, Some(Fault::from(cause)))
        }
        (None, None) => (Verdict::Fault, format!("The domain {domain} has no mail server to try."), None),
    }
}

impl CheckReport {
    /// The report for people: verdict first, then the proof; in 80 columns.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{}  {}\n", self.verdict.word(), self.domain);
        out += &paragraph("", &self.summary, 0);
        if let Some(fault) = &self.fault {
            let result_type = fault.result_type.map_or_else(String::new, |r| format!(", RFC 8460: {r}"));
            let cause = format!("{} ({}{result_type}), side: {}", fault.cause, fault.status, fault.side);
            out += &paragraph("cause:", &cause, LABEL_WIDTH);
            for (label, value) in &fault.evidence {
                out += &paragraph("seen:", &format!("{label}: {value}"), LABEL_WIDTH);
            }
            out += &paragraph("advice:", fault.advice, LABEL_WIDTH);
        }
        if let (Some(from), Some(security)) = (self.hosts_from, self.mx_security) {
            let source = match from {
                HostsFrom::Mx => format!("MX records ({})", security.word()),
                HostsFrom::ImplicitMx => format!("no MX records ({}), the domain is its own host", security.word()),
                HostsFrom::Configuration => "next hop named by the configuration".to_owned(),
            };
            out += &paragraph("route:", &format!("{} by {source}", self.next_hop), LABEL_WIDTH);
        }
        self.paths_text(&mut out);
        for host in &self.hosts {
            host.text(&mut out, self.fault.as_ref());
        }
        out
    }
}

impl CheckReport {
    /// The paths that brought answers, and every failure before.
    fn paths_text(&self, out: &mut String) {
        let paths: BTreeSet<&str> = self.dns.iter().filter_map(|trace| trace.path.as_deref()).collect();
        if !paths.is_empty() {
            let paths = paths.into_iter().collect::<Vec<_>>().join(", ");
            *out += &paragraph("dns:", &format!("answers by {paths}"), LABEL_WIDTH);
        }
        for trace in &self.dns {
            for failure in &trace.failed {
                *out += &paragraph("", &format!("{}: no answer by {failure}", trace.question), LABEL_WIDTH);
            }
        }
    }
}

/// Where the text beside a label begins.
const LABEL_WIDTH: usize = 8;

impl HostReport {
    fn text(&self, out: &mut String, told: Option<&Fault>) {
        let host =
            format!("{} {}, addresses {}, policy {}", self.preference, self.name, self.security.word(), self.policy);
        *out += &paragraph("host:", &host, LABEL_WIDTH);
        if let Some(reason) = self.no_dane {
            *out += &paragraph("", &format!("no DANE: {reason}"), LABEL_WIDTH);
        }
        if let Some(fault) = &self.skipped {
            *out += &paragraph("", &format!("left alone: {}", fault.brief(told)), LABEL_WIDTH);
        }
        if let Some(base) = &self.tlsa_base_domain {
            let usable = self.tlsa.iter().filter(|t| t.usable).count();
            let matched = self.tlsa.iter().filter(|t| t.matched).count();
            let count = self.tlsa.len();
            let tlsa = format!("{count} TLSA records of {base}, {usable} usable, {matched} matched:");
            *out += &paragraph("", &tlsa, LABEL_WIDTH);
        }
        for tlsa in &self.tlsa {
            let mark = match (tlsa.usable, tlsa.matched) {
                (_, true) => "matched",
                (true, false) => "usable",
                (false, false) => "unusable",
            };
            // One record is one line, however long: it is there to be compared.
            *out += &format!("  {mark:9}{}\n", tlsa.record);
        }
        for address in &self.addresses {
            let what = match (&address.fault, &address.tls) {
                (Some(fault), _) => fault.brief(told),
                (None, Some(TlsVerdict::Dane { version, .. })) => format!("{version}, authenticated by DANE"),
                (None, Some(TlsVerdict::Unauthenticated { version })) => format!("{version}, not authenticated"),
                (None, Some(TlsVerdict::ClearText) | None) => "clear text".to_owned(),
            };
            *out += &paragraph("", &format!("{}: {what} ({} ms)", address.address, address.took_ms), LABEL_WIDTH);
        }
    }
}

impl Fault {
    /// The cause, with its sentence unless the report has said it already.
    fn brief(&self, told: Option<&Self>) -> String {
        match told {
            Some(told) if told.sentence == self.sentence => format!("{} ({})", self.cause, self.status),
            Some(_) | None => format!("{} ({}): {}", self.cause, self.status, self.sentence),
        }
    }
}
