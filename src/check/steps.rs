//! The steps of a check as they are taken, for whoever watches it: what is asked, what came of it.

use super::observation::ProbedServer;
use crate::deliver::Planned;
use crate::outcome::{Cause, TlsVerdict};
use crate::pipeline::outbound::RouteFacts;
use crate::policy::sts::StsState;
use crate::resolve::{HostsFrom, MxHost, TlsaLookup};
use crate::text::counted;
use serde::Serialize;
use std::sync::Arc;

/// Hosts that a step names.
const MOST_NAMED: usize = 10;

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStage {
    /// The DNS is asked for mail servers, their addresses and TLSA records.
    Dns,
    /// What the MX records are, and how they are signed.
    Mx,
    /// The TLSA records of a mail server.
    Tlsa,
    /// The MTA-STS policy.
    Policy,
    /// A mail server is connected to.
    Connect,
    /// How TLS with it went.
    Tls,
    /// What stands behind a fault is looked for.
    Diagnosis,
    /// All that was found is judged.
    Verdict,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckStep {
    /// What it is about.
    pub stage: CheckStage,
    /// What is done, or came of it, in words.
    pub text: String,
}

impl CheckStep {
    fn new(stage: CheckStage, text: String) -> Self {
        Self { stage, text }
    }
}

/// Whoever hears of steps, as they are taken.
pub type StepListener = Arc<dyn Fn(CheckStep) + Send + Sync>;

/// Tells of steps, if somebody hears it.
#[derive(Clone, Default)]
pub(super) struct StepTeller(Option<StepListener>);

impl StepTeller {
    pub(super) fn to(listener: StepListener) -> Self {
        Self(Some(listener))
    }

    fn tell(&self, stage: CheckStage, text: impl FnOnce() -> String) {
        if let Some(listener) = &self.0 {
            listener(CheckStep::new(stage, text()));
        }
    }

    pub(super) fn asks(&self, next_hop: &str) {
        self.tell(CheckStage::Dns, || format!("asking the DNS about {next_hop}"));
    }

    pub(super) fn knows(&self, known: &Result<RouteFacts, Cause>) {
        let known = match known {
            Ok(known) => known,
            Err(cause) => return self.tell(CheckStage::Mx, || cause.sentence()),
        };
        self.tell(CheckStage::Mx, || mail_servers(known));
        for host in known.resolution.hosts.iter().take(MOST_NAMED) {
            self.tell(CheckStage::Tlsa, || records(host));
        }
        self.tell(CheckStage::Policy, || policy(&known.sts));
    }

    pub(super) fn connects(&self, step: &Planned) {
        match step {
            Planned::Try(target) => {
                let peer = &target.peer;
                self.tell(CheckStage::Connect, || format!("connecting to {} at {}", peer.host, peer.address));
            }
            Planned::Skip { host, cause } => {
                self.tell(CheckStage::Connect, || format!("{host} may not be used: {}", cause.sentence()));
            }
        }
    }

    pub(super) fn met(&self, server: &ProbedServer) {
        let (Planned::Try(target), Some(probe)) = (&server.step, &server.probe) else { return };
        let peer = &target.peer;
        self.tell(CheckStage::Tls, || {
            let end = match (&probe.failure, &probe.tls) {
                (Some(cause), _) => cause.sentence(),
                (None, Some(tls)) => protection(tls),
                (None, None) => "it answered".to_owned(),
            };
            format!("{} at {}: {end}", peer.host, peer.address)
        });
    }

    pub(super) fn diagnoses(&self, name: &str) {
        self.tell(CheckStage::Diagnosis, || format!("asking others about {name}, to find out whose fault it is"));
    }

    pub(super) fn judges(&self) {
        self.tell(CheckStage::Verdict, || "judging what was found".to_owned());
    }
}

fn mail_servers(known: &RouteFacts) -> String {
    let resolution = &known.resolution;
    let from = match resolution.hosts_from {
        HostsFrom::Mx => "MX records",
        HostsFrom::ImplicitMx => "no MX records, the domain itself",
        HostsFrom::Configuration => "the configuration",
    };
    let names: Vec<&str> = resolution.hosts.iter().take(MOST_NAMED).map(|host| host.name.as_str()).collect();
    format!("from {from} ({}): {}", resolution.mx_security.word(), names.join(", "))
}

fn records(host: &MxHost) -> String {
    let what = match &host.tlsa {
        TlsaLookup::Present { records, .. } => counted(records.len() as u64, "TLSA record"),
        TlsaLookup::Absent(because) => format!("no DANE: {}", because.phrase()),
        TlsaLookup::Unavailable(cause) => cause.sentence(),
    };
    format!("{} ({}): {what}", host.name, host.security.word())
}

fn policy(sts: &StsState) -> String {
    match sts {
        StsState::Absent(absent) => format!("no MTA-STS: {}", absent.phrase()),
        StsState::Policy(policy) => format!("MTA-STS: a policy with mode {}", policy.terms.mode.word()),
    }
}

fn protection(tls: &TlsVerdict) -> String {
    let version = tls.version().unwrap_or("no TLS");
    let matched = tls.matched().map(|matched| format!(" by {matched}")).unwrap_or_default();
    format!("{version}, {}{matched}", tls.word())
}
