//! `relay check DOMAIN`: the story of a delivery, stopped before MAIL FROM.
//!
//! It finds out, decides and plans with the functions that deliver mail ([`Outbound`]) and speaks
//! to the servers with the same mailer; so its verdict is what a message would meet now. Exit
//! codes: 0 ok, 1 warning, 2 fault, 3 inconclusive.

#[cfg(test)]
mod cause_tests;
mod report;
mod text;

pub use report::{AddressReport, CheckReport, Fault, HostReport, StsReport, TlsaReport, Verdict};

use crate::clock::Clock;
use crate::config::Config;
use crate::deliver::driver::Probe;
use crate::deliver::{Planned, Target};
use crate::envelope::TlsRequest;
use crate::outcome::{Cause, DaneScope, TlsVerdict};
use crate::pipeline::outbound::{Known, Outbound, SetupError, Thoroughness};
use crate::policy::sts::StsState;
use crate::policy::{TlsPolicy, dane};
use crate::resolve::{MxHost, TlsaLookup};
use crate::route::{self, Route};
use crate::smtp::address::{Domain, Host};
use std::time::Duration;

/// Checks domains.
pub struct Checker {
    out: Outbound,
}

/// Probes wait no longer than this for anything; delivery is more patient (RFC 5321 §4.5.3.2).
const PATIENCE: Duration = Duration::from_secs(8);

struct Probed {
    step: Planned,
    probe: Option<Probe>,
}

impl Probed {
    fn failure(&self) -> Option<&Cause> {
        match (&self.step, &self.probe) {
            (Planned::Skip { cause, .. }, _) => Some(cause),
            (Planned::Try(_), Some(probe)) => probe.failure.as_ref(),
            (Planned::Try(_), None) => None,
        }
    }

    fn watched_failure(&self) -> Option<&Cause> {
        self.probe.as_ref()?.watched.as_ref()?.failure.as_ref()
    }

    /// The attempt, when it is one to this host.
    fn at(&self, host: &MxHost) -> Option<(&Target, &Probe)> {
        match (&self.step, &self.probe) {
            (Planned::Try(target), Some(probe)) if target.peer.host == host.name => Some((target, probe)),
            (Planned::Try(_) | Planned::Skip { .. }, _) => None,
        }
    }
}

impl Checker {
    /// A checker with the configuration that delivers mail, and the patience of a human.
    ///
    /// # Errors
    /// When the DNS side or the trusted roots cannot be set up.
    pub fn new(mut config: Config, clock: Clock) -> Result<Self, SetupError> {
        config.delivery.connect_timeout = config.delivery.connect_timeout.min(PATIENCE);
        config.delivery.reply_timeout = config.delivery.reply_timeout.min(PATIENCE);
        config.mta_sts.fetch_timeout = config.mta_sts.fetch_timeout.min(PATIENCE);
        Outbound::for_command(config, clock).map(Self::over)
    }

    /// A checker over what a running relay delivers with.
    #[must_use]
    pub const fn over(out: Outbound) -> Self {
        Self { out }
    }

    /// Checks one domain.
    pub async fn check(&self, domain: &Domain) -> CheckReport {
        let config = &self.out.config;
        let route = route::route(&Host::Domain(domain.clone()), &config.destination, config.delivery.port);
        let seed = u64::try_from(self.out.clock.now().0).unwrap_or(0);
        let known = match self.out.find_out(&route, seed, Thoroughness::Everything).await {
            Ok(known) => known,
            Err(cause) => return blank(domain, &route, None).stopped(&cause),
        };
        let mut probed = match self.probe_all(&route, &known).await {
            Ok(probed) => probed,
            Err(cause) => return blank(domain, &route, Some(&known)).stopped(&cause),
        };
        let mut known = known;
        // As delivery does before a policy makes mail fail.
        if probed.iter().filter_map(Probed::failure).any(crate::policy::decide::sts_may_have_changed)
            && let Some(anew) = self.out.known_anew(&route, &known).await
            && let Ok(again) = self.probe_all(&route, &anew).await
        {
            (known, probed) = (anew, again);
        }
        self.report(domain, &route, &known, &probed)
    }

    async fn probe_all(&self, route: &Route, known: &Known) -> Result<Vec<Probed>, Cause> {
        let steps = self.out.plan(&route.hop, known, TlsRequest::ByPolicy)?;
        Ok(futures_util::future::join_all(steps.into_iter().map(|step| self.probe(step))).await)
    }

    async fn probe(&self, step: Planned) -> Probed {
        let probe = match &step {
            Planned::Try(target) => Some(self.out.mailer.probe(target).await),
            Planned::Skip { .. } => None,
        };
        Probed { step, probe }
    }

    fn report(&self, domain: &Domain, route: &Route, known: &Known, probed: &[Probed]) -> CheckReport {
        let hosts = known.resolution.hosts.iter().map(|host| self.host_report(host, known, probed)).collect();
        let (verdict, summary, fault) = conclude(domain, known, probed);
        CheckReport { verdict, summary, fault, hosts, notes: notes(known, probed), ..blank(domain, route, Some(known)) }
    }

    fn host_report(&self, host: &MxHost, known: &Known, probed: &[Probed]) -> HostReport {
        let mut policy = "none";
        let mut because = None;
        let mut references: &[Domain] = &[];
        let mut certificates: &[Vec<u8>] = &[];
        let mut addresses = Vec::new();
        for (target, probe) in probed.iter().filter_map(|probed| probed.at(host)) {
            policy = target.policy.word();
            match &target.policy {
                TlsPolicy::Dane(dane) => references = &dane.references,
                TlsPolicy::Opportunistic { because: why } => because = Some(why.word()),
                TlsPolicy::Off | TlsPolicy::Encrypt { .. } | TlsPolicy::WebPki { .. } => {}
            }
            if certificates.is_empty() {
                certificates = &probe.certificates;
            }
            addresses.push(address_report(target, probe));
        }
        let (tlsa_base_domain, tlsa) = self.tlsa_report(&host.tlsa, certificates, references);
        let skipped = probed.iter().find_map(|probed| match &probed.step {
            Planned::Skip { host: name, cause } if *name == host.name => Some(Fault::from(cause)),
            Planned::Skip { .. } | Planned::Try(_) => None,
        });
        let no_dane = match &host.tlsa {
            TlsaLookup::Absent(because) => Some(because.phrase()),
            TlsaLookup::Unavailable(_) | TlsaLookup::Present { .. } => None,
        };
        let listed = match &known.sts {
            StsState::Policy(policy) => Some(policy.allows(&host.name)),
            StsState::Absent(_) => None,
        };
        HostReport {
            name: host.name.clone(),
            preference: host.preference,
            security: host.security,
            policy,
            because,
            listed,
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
        let now = self.out.clock.now();
        let report = |record: &crate::resolve::TlsaRecord| TlsaReport {
            record: record.to_string(),
            usable: usable.contains(record),
            matched: usable.contains(record)
                && dane::verify(&chain, std::slice::from_ref(record), references, now).is_ok(),
        };
        (Some(base_domain.to_string()), records.iter().map(report).collect())
    }
}

fn address_report(target: &Target, probe: &Probe) -> AddressReport {
    AddressReport {
        address: target.peer.address.to_string(),
        tls: probe.tls.clone(),
        fault: probe.failure.as_ref().map(Fault::from),
        watched: probe.watched.as_ref().and_then(|watched| watched.failure.as_ref()).map(Fault::from),
        took_ms: u64::try_from(probe.took.as_millis()).unwrap_or(u64::MAX),
    }
}

/// A report that says what is known and has no verdict yet.
fn blank(domain: &Domain, route: &Route, known: Option<&Known>) -> CheckReport {
    CheckReport {
        version: 1,
        domain: domain.clone(),
        verdict: Verdict::Inconclusive,
        summary: String::new(),
        fault: None,
        next_hop: route.hop.to_string(),
        hosts_from: known.map(|known| known.resolution.hosts_from),
        mx_security: known.map(|known| known.resolution.mx_security),
        mta_sts: known.map(|known| sts_report(&known.sts)),
        level: known.and_then(|known| known.rule.level).map(crate::config::TlsLevel::word),
        exception: known.and_then(|known| known.rule.exception.clone()),
        notes: Vec::new(),
        hosts: Vec::new(),
        dns: known.map(|known| known.resolution.traces.clone()).unwrap_or_default(),
    }
}

impl CheckReport {
    fn stopped(self, cause: &Cause) -> Self {
        let (verdict, summary, fault) = (verdict_of(cause), cause.sentence(), Some(Fault::from(cause)));
        Self { verdict, summary, fault, ..self }
    }
}

fn sts_report(sts: &StsState) -> StsReport {
    match sts {
        StsState::Absent(absent) => StsReport {
            mode: "absent",
            absent: Some(absent.phrase()),
            id: None,
            mx: Vec::new(),
            expires: None,
            refresh_failure: None,
        },
        StsState::Policy(policy) => StsReport {
            mode: policy.terms.mode.word(),
            absent: None,
            id: policy.id.as_ref().map(ToString::to_string),
            mx: policy.terms.mx.iter().map(ToString::to_string).collect(),
            expires: Some(policy.expires_at().rfc3339()),
            refresh_failure: policy.refresh_failure.as_ref().map(|failure| failure.sentence.clone()),
        },
    }
}

/// What is odd and stops no mail.
fn notes(known: &Known, probed: &[Probed]) -> Vec<String> {
    let StsState::Policy(policy) = &known.sts else { return Vec::new() };
    let unlisted = known.resolution.hosts.iter().filter(|host| {
        let by_dane = |(_, probe): (&Target, &Probe)| matches!(probe.tls, Some(TlsVerdict::Dane { .. }));
        !policy.allows(&host.name) && probed.iter().filter_map(|probed| probed.at(host)).any(by_dane)
    });
    let note = |host: &MxHost| {
        format!(
            "The MTA-STS policy does not list {}, but its certificate is right by DANE: DANE wins, and mail goes there. \
             Senders without DANE will refuse it.",
            host.name
        )
    };
    unlisted.map(note).collect()
}

/// "Could not find out" is not a fault of anybody yet.
fn verdict_of(cause: &Cause) -> Verdict {
    if matches!(cause, Cause::DnsUnavailable { .. }) { Verdict::Inconclusive } else { Verdict::Fault }
}

fn conclude(domain: &Domain, known: &Known, probed: &[Probed]) -> (Verdict, String, Option<Fault>) {
    let bad = probed.iter().find_map(Probed::failure);
    let good = probed.iter().filter(|probed| probed.failure().is_none()).find_map(|probed| probed.probe.as_ref());
    let watched = probed.iter().find_map(Probed::watched_failure);
    let delivered = |probe: &Probe| format!("Mail for {domain} is delivered {}", how(probe, known));
    match (good, bad, watched, &known.rule.exception) {
        (Some(probe), Some(cause), _, _) => {
            let summary = format!("{}, but not by every server: {}", delivered(probe), cause.sentence());
            (Verdict::Warning, summary, Some(Fault::from(cause)))
        }
        (Some(probe), None, Some(cause), _) => {
            let summary = format!(
                "{}, but only because a policy is not enforced. Otherwise: {}",
                delivered(probe),
                cause.sentence()
            );
            (Verdict::Warning, summary, Some(Fault::from(cause)))
        }
        (Some(probe), None, None, Some(exception)) => {
            let summary = format!("{}, under an exception of the configuration: {exception}.", delivered(probe));
            (Verdict::Warning, summary, None)
        }
        (Some(probe), None, None, None) => (Verdict::Ok, format!("{}.", delivered(probe)), None),
        (None, Some(cause), _, _) => {
            let summary = format!("Mail for {domain} is not delivered now. {}", cause.sentence());
            (verdict_of(cause), summary, Some(Fault::from(cause)))
        }
        (None, None, _, _) => (Verdict::Fault, format!("The domain {domain} has no mail server to try."), None),
    }
}

/// How the connection is protected; nothing is claimed for the domain where its MX records are
/// not signed (RFC 7672 §2.2.1).
fn how(probe: &Probe, known: &Known) -> String {
    match &probe.tls {
        Some(TlsVerdict::Dane { version, scope: DaneScope::Domain, .. }) => {
            format!("over {version} with a certificate that DANE vouches for")
        }
        Some(TlsVerdict::Dane { version, scope: DaneScope::Host, .. }) => format!(
            "over {version} to a host that DANE vouches for (not that it serves the domain: the MX records are {})",
            known.resolution.mx_security.word()
        ),
        Some(TlsVerdict::WebPki { version, host }) => {
            format!("over {version} with a certificate of a public authority for {host}")
        }
        Some(TlsVerdict::Unauthenticated { version }) => {
            format!("over {version}, without authentication of the server")
        }
        Some(TlsVerdict::ClearText) | None => "in clear text".to_owned(),
    }
}
