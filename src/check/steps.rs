//! The steps of a check as they are taken, for whoever watches it: what is asked, what came of it.

use super::observation::ProbedServer;
use crate::deliver::Planned;
use crate::outcome::{Cause, Peer, TlsVerdict};
use crate::pipeline::outbound::RouteFacts;
use crate::policy::sts::StsState;
use crate::resolve::{HostsFrom, MxHost, Security, TlsaLookup};
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

/// What is done, or came of it.
#[derive(Clone, Debug)]
pub enum StepTaken {
    /// The DNS is asked about a next hop.
    Asks(String),
    /// It does not say where mail goes.
    Unroutable(Box<Cause>),
    /// The mail servers.
    MailServers {
        /// Where they come from.
        from: HostsFrom,
        /// What DNSSEC says of the MX records.
        security: Security,
        /// The names, the first ones.
        names: Vec<String>,
    },
    /// The TLSA records of a mail server.
    Records {
        /// Its name.
        host: String,
        /// What DNSSEC says of its addresses.
        security: Security,
        /// The records, or why there are none.
        tlsa: Box<TlsaLookup>,
    },
    /// What MTA-STS says.
    Policy(StsState),
    /// A mail server is connected to.
    Connects(Peer),
    /// A mail server may not be used.
    Skips {
        /// Its name.
        host: String,
        /// What keeps it from being used.
        cause: Box<Cause>,
    },
    /// What a mail server did.
    Met {
        /// The mail server.
        peer: Peer,
        /// What went wrong.
        failure: Option<Box<Cause>>,
        /// How the connection was protected.
        tls: Option<TlsVerdict>,
    },
    /// Others are asked about this name.
    Diagnoses(String),
    /// All is judged.
    Judges,
}

impl StepTaken {
    const fn stage(&self) -> CheckStage {
        match self {
            Self::Asks(_) => CheckStage::Dns,
            Self::Unroutable(_) | Self::MailServers { .. } => CheckStage::Mx,
            Self::Records { .. } => CheckStage::Tlsa,
            Self::Policy(_) => CheckStage::Policy,
            Self::Connects(_) | Self::Skips { .. } => CheckStage::Connect,
            Self::Met { .. } => CheckStage::Tls,
            Self::Diagnoses(_) => CheckStage::Diagnosis,
            Self::Judges => CheckStage::Verdict,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Asks(next_hop) => format!("asking the DNS about {next_hop}"),
            Self::Unroutable(cause) => cause.sentence(),
            Self::MailServers { from, security, names } => {
                let from = match from {
                    HostsFrom::Mx => "MX records",
                    HostsFrom::ImplicitMx => "no MX records, the domain itself",
                    HostsFrom::Configuration => "the configuration",
                };
                format!("from {from} ({}): {}", security.word(), names.join(", "))
            }
            Self::Records { host, security, tlsa } => format!("{host} ({}): {}", security.word(), records(tlsa)),
            Self::Policy(StsState::Absent(absent)) => format!("no MTA-STS: {}", absent.phrase()),
            Self::Policy(StsState::Policy(policy)) => {
                format!("MTA-STS: a policy with mode {}", policy.terms.mode.word())
            }
            Self::Connects(peer) => format!("connecting to {} at {}", peer.host, peer.address),
            Self::Skips { host, cause } => format!("{host} may not be used: {}", cause.sentence()),
            Self::Met { peer, failure, tls } => {
                let end = match (failure, tls) {
                    (Some(cause), _) => cause.sentence(),
                    (None, Some(tls)) => protection(tls),
                    (None, None) => "it answered".to_owned(),
                };
                format!("{} at {}: {end}", peer.host, peer.address)
            }
            Self::Diagnoses(name) => format!("asking others about {name}, to find out whose fault it is"),
            Self::Judges => "judging what was found".to_owned(),
        }
    }
}

/// A step.
#[derive(Clone, Debug, Serialize)]
pub struct CheckStep {
    /// What it is about.
    pub stage: CheckStage,
    /// What is done, or came of it, in words.
    pub text: String,
    /// The same for those who have other words.
    #[serde(skip)]
    pub taken: StepTaken,
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

    fn tell(&self, taken: impl FnOnce() -> StepTaken) {
        if let Some(listener) = &self.0 {
            let taken = taken();
            listener(CheckStep { stage: taken.stage(), text: taken.text(), taken });
        }
    }

    pub(super) fn asks(&self, next_hop: &str) {
        self.tell(|| StepTaken::Asks(next_hop.to_owned()));
    }

    pub(super) fn knows(&self, known: &Result<RouteFacts, Cause>) {
        let known = match known {
            Ok(known) => known,
            Err(cause) => return self.tell(|| StepTaken::Unroutable(Box::new(cause.clone()))),
        };
        let resolution = &known.resolution;
        let first = resolution.hosts.iter().take(MOST_NAMED);
        self.tell(|| StepTaken::MailServers {
            from: resolution.hosts_from,
            security: resolution.mx_security,
            names: first.clone().map(|host| host.name.clone()).collect(),
        });
        for MxHost { name, security, tlsa, .. } in first.clone() {
            let tlsa = || Box::new(tlsa.clone());
            self.tell(|| StepTaken::Records { host: name.clone(), security: *security, tlsa: tlsa() });
        }
        self.tell(|| StepTaken::Policy(known.sts.clone()));
    }

    pub(super) fn connects(&self, step: &Planned) {
        self.tell(|| match step {
            Planned::Try(target) => StepTaken::Connects(target.peer.clone()),
            Planned::Skip { host, cause } => {
                StepTaken::Skips { host: host.to_string(), cause: Box::new(cause.clone()) }
            }
        });
    }

    pub(super) fn met(&self, server: &ProbedServer) {
        let (Planned::Try(target), Some(probe)) = (&server.step, &server.probe) else { return };
        self.tell(|| StepTaken::Met {
            peer: target.peer.clone(),
            failure: probe.failure.clone().map(Box::new),
            tls: probe.tls.clone(),
        });
    }

    pub(super) fn diagnoses(&self, name: &str) {
        self.tell(|| StepTaken::Diagnoses(name.to_owned()));
    }

    pub(super) fn judges(&self) {
        self.tell(|| StepTaken::Judges);
    }
}

fn records(tlsa: &TlsaLookup) -> String {
    match tlsa {
        TlsaLookup::Present { records, .. } => counted(records.len() as u64, "TLSA record"),
        TlsaLookup::Absent(because) => format!("no DANE: {}", because.phrase()),
        TlsaLookup::Unavailable(cause) => cause.sentence(),
    }
}

fn protection(tls: &TlsVerdict) -> String {
    let version = tls.version().unwrap_or("no TLS");
    let matched = tls.matched().map(|matched| format!(" by {matched}")).unwrap_or_default();
    format!("{version}, {}{matched}", tls.word())
}
