//! What is found out about a route before anyone connects, and the plan that follows from it.
//! Delivery and `relay check` both go through here, so that their verdicts cannot differ.

use crate::clock::Clock;
use crate::config::{Config, RootsError, RootsSource};
use crate::deliver::driver::Mailer;
use crate::deliver::egress::Egress;
use crate::deliver::egress::store::{EgressError, EgressStore};
use crate::deliver::families::WaysOut;
use crate::deliver::{Loopback, Planned, plan};
use crate::envelope::TlsRequest;
use crate::net::{Network, Tcp};
use crate::outcome::Cause;
use crate::policy::Verdict;
use crate::policy::decide::{Facts, decide, sts_matters};
use crate::policy::exceptions::store;
use crate::policy::exceptions::{Exceptions, ExceptionsStatus, LocalRule};
use crate::policy::sts::driver::StsClient;
use crate::policy::sts::event::{self as sts_event, StsListener};
use crate::policy::sts::{StsAbsent, StsState};
use crate::policy::x509::webpki::WebPki;
use crate::resolve::answer::Ask;
use crate::resolve::driver::Dns;
use crate::resolve::error::DnsSetupError;
use crate::resolve::{Resolution, event as dns_event, mail, own_hop};
use crate::route::{ChosenBy, NextHop, Route};
use crate::smtp::address::Domain;
use crate::state_dir;
use rustls::RootCertStore;
use std::sync::Arc;

/// Why nothing can be found out: one line, with the key to change.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The DNS side cannot be set up.
    #[error(transparent)]
    Dns(#[from] DnsSetupError),
    /// What a command delivers with cannot be put together.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
}

/// Why nothing can be delivered: one line, with the key to change.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The trusted certificate authorities cannot be had.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A password or a client certificate cannot be had.
    #[error(transparent)]
    Egress(#[from] EgressError),
}

/// The ways out of this machine. A simulation has its own.
#[derive(Clone)]
pub struct OutboundPaths {
    /// The ways to the DNS.
    pub dns: Arc<Dns>,
    /// The way to mail servers and policy hosts.
    pub network: Arc<dyn Network>,
    /// The time.
    pub clock: Clock,
}

impl OutboundPaths {
    /// The DNS, TCP and the time.
    #[must_use]
    pub fn over_tcp(dns: Arc<Dns>, clock: Clock) -> Self {
        Self { dns, network: Arc::new(Tcp), clock }
    }
}

/// All that a message needs on its way out.
#[derive(Clone)]
pub struct Outbound {
    /// The operator's choices.
    pub config: Arc<Config>,
    /// The ways to the DNS.
    pub dns: Arc<Dns>,
    /// The MTA-STS policies.
    pub sts: Arc<StsClient>,
    /// Speaks to mail servers.
    pub mailer: Arc<Mailer>,
    /// The way to mail servers and policy hosts.
    pub network: Arc<dyn Network>,
    /// The logins, certificates and addresses that destinations name.
    pub egress: Arc<EgressStore>,
    /// Which of the operator's weakenings are over.
    pub exceptions: Arc<Exceptions>,
    /// The time.
    pub clock: Clock,
}

/// What is known about a route before anyone connects.
#[derive(Clone, Debug)]
pub struct RouteFacts {
    /// What the DNS says.
    pub resolution: Resolution,
    /// What MTA-STS says.
    pub sts: StsState,
    /// What the operator says.
    pub rule: LocalRule,
    /// What the sender of the message says, as far as the operator lets it count.
    pub request: TlsRequest,
    /// How the operator wants it to leave.
    pub egress: Arc<Egress>,
}

/// Whether MTA-STS is asked though its answer makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactsWanted {
    /// Only what decides: a message does not wait for more.
    WhatDecides,
    /// All there is to show.
    Everything,
}

impl Outbound {
    /// Puts together what a running relay delivers with.
    ///
    /// # Errors
    /// When a file that the configuration names cannot be used: trusted roots, a password, a certificate.
    pub fn new(config: Arc<Config>, ways: OutboundPaths, told: StsListener) -> Result<Self, OutboundError> {
        let OutboundPaths { dns, network, clock } = ways;
        let ask = Arc::clone(&dns) as Arc<dyn Ask>;
        let sts = Arc::new(StsClient::new(&config, ask, Arc::clone(&network), clock.clone(), told)?);
        let mailer = Arc::new(Mailer::new(&config, roots(&config)?, Arc::clone(&network), clock.clone()));
        let egress = Arc::new(EgressStore::load(Arc::clone(&config))?);
        // What cannot be read is told by whoever watches them; it costs a trial.
        let ended = store::load(state_dir::open(&config.spool).as_ref()).unwrap_or_default();
        let exceptions = Arc::new(Exceptions::resumed(ended, &config.destination));
        Ok(Self { config, dns, sts, mailer, network, egress, exceptions, clock })
    }

    /// Puts together what a command needs that ends soon and tells only its own result.
    ///
    /// # Errors
    /// When the DNS side or the trusted roots cannot be set up.
    pub fn for_command(config: Config, clock: Clock) -> Result<Self, SetupError> {
        let config = Arc::new(config);
        let dns = Arc::new(Dns::new(&config, clock.clone(), dns_event::nobody())?);
        Ok(Self::new(config, OutboundPaths::over_tcp(dns, clock), sts_event::nobody())?)
    }

    /// Asks the DNS and MTA-STS about a route, for a message whose sender asks this of TLS. `seed`
    /// shuffles hosts of equal preference.
    ///
    /// # Errors
    /// The cause that stops all its recipients.
    pub async fn find_out(
        &self,
        route: &Route,
        request: TlsRequest,
        seed: u64,
        thoroughness: FactsWanted,
    ) -> Result<RouteFacts, Cause> {
        let (resolution, sts) = match (policy_domain(&route.hop), thoroughness) {
            (None, _) => (self.resolve(&route.hop, seed).await?, StsState::Absent(StsAbsent::AddressLiteral)),
            (Some(domain), FactsWanted::Everything) => {
                let policy = async { Ok(self.sts.policy_for(domain).await) };
                tokio::try_join!(self.resolve(&route.hop, seed), policy)?
            }
            (Some(_), FactsWanted::WhatDecides) => {
                (self.resolve(&route.hop, seed).await?, StsState::Absent(StsAbsent::NotNeeded))
            }
        };
        let rule = self.exceptions.rule(self.clock.now(), route.rule, &self.config.destination);
        let waives = request == TlsRequest::Optional && !self.config.tls.tls_required_no;
        let request = if waives { TlsRequest::ByPolicy } else { request };
        let egress = self.egress.of(route.rule);
        let known = RouteFacts { resolution, sts, rule, request, egress };
        // What the plan is made from says itself whether there is more to ask for.
        match (policy_domain(&route.hop), thoroughness) {
            (Some(domain), FactsWanted::WhatDecides) if sts_matters(&self.facts(&known)) => {
                Ok(RouteFacts { sts: self.sts.policy_for(domain).await, ..known })
            }
            (Some(_) | None, _) => Ok(known),
        }
    }

    fn facts<'a>(&self, known: &'a RouteFacts) -> Facts<'a> {
        Facts {
            resolution: &known.resolution,
            sts: &known.sts,
            rule: &known.rule,
            request: known.request,
            dane_behind_insecure_mx: self.config.tls.dane_behind_insecure_mx,
        }
    }

    /// How the operator's weakenings stand.
    #[must_use]
    pub fn exceptions_now(&self) -> ExceptionsStatus {
        self.exceptions.standing(self.clock.now(), &self.config.destination)
    }

    async fn resolve(&self, hop: &NextHop, seed: u64) -> Result<Resolution, Cause> {
        match hop {
            NextHop::Domain(domain) => mail::resolve_domain(&self.dns, domain, self.config.delivery.port, seed).await,
            NextHop::Host { name, port } => own_hop::resolve_next_hop(&self.dns, name, *port).await,
            NextHop::Address { address, port, .. } => Ok(mail::literal(*address, *port)),
            // Whoever delivers goes through its hosts one by one.
            NextHop::OneOf(list) => Box::pin(self.resolve(list.first(), seed)).await,
        }
    }

    /// Looks at the MTA-STS policy anew, past everything that is kept: what is known if that
    /// changes something (RFC 8461 §5.1).
    pub async fn known_anew(&self, route: &Route, known: &RouteFacts) -> Option<RouteFacts> {
        let sts = self.sts.recheck(policy_domain(&route.hop)?).await;
        let is_the_same = match (&known.sts, &sts) {
            (StsState::Absent(_), StsState::Absent(_)) => true,
            (StsState::Policy(old), StsState::Policy(new)) => old.terms == new.terms,
            (StsState::Absent(_), StsState::Policy(_)) | (StsState::Policy(_), StsState::Absent(_)) => false,
        };
        (!is_the_same).then(|| RouteFacts { sts, ..known.clone() })
    }

    /// The servers to try, in order.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn plan(&self, hop: &NextHop, known: &RouteFacts) -> Result<Vec<Planned>, Cause> {
        let facts = self.facts(known);
        let verdict = |host| match decide(&facts, host) {
            Verdict::Use(decision) => Verdict::Use(known.egress.strengthened(&host.name, decision)),
            skip @ Verdict::Skip(_) => skip,
        };
        let verdicts = known.resolution.hosts.iter().map(verdict).collect();
        let chosen = match hop {
            NextHop::Domain(_) | NextHop::Address { chosen_by: ChosenBy::Recipient, .. } => ChosenBy::Recipient,
            NextHop::Host { .. } | NextHop::Address { chosen_by: ChosenBy::Operator, .. } | NextHop::OneOf(_) => {
                ChosenBy::Operator
            }
        };
        let allowed = self.config.delivery.allow_loopback || chosen == ChosenBy::Operator;
        let loopback = if allowed { Loopback::Allowed } else { Loopback::Refused };
        let steps = plan(&known.resolution, verdicts, &self.config.hostname, loopback, &self.ways_out(known))?;
        Ok(steps.into_iter().map(|step| step.leaving_by(&known.egress)).collect())
    }

    /// What is known of the ways to the hosts of a route, and what the operator wants of them.
    #[must_use]
    pub fn ways_out(&self, known: &RouteFacts) -> WaysOut {
        WaysOut { choice: known.egress.family, ..self.mailer.ways_out(&known.resolution) }
    }
}

/// Those of the machine may be missing: then no public certificate is trusted, which is a reason
/// to stop the mail that needs one and no other. A file that the operator names has to be good.
fn roots(config: &Config) -> Result<WebPki, RootsError> {
    let store = match (config.tls.roots.load(), &config.tls.roots) {
        (Ok(store), _) => store,
        (Err(_none_here), RootsSource::System) => RootCertStore::empty(),
        (Err(error), RootsSource::File(_)) => return Err(error),
    };
    Ok(WebPki::new(Arc::new(store)))
}

/// The domain whose policy counts: a smart host's own where the operator names one
/// (RFC 8461 §3.4).
fn policy_domain(hop: &NextHop) -> Option<&Domain> {
    match hop {
        NextHop::OneOf(list) => policy_domain(list.first()),
        NextHop::Domain(domain) | NextHop::Host { name: domain, .. } => Some(domain),
        NextHop::Address { .. } => None,
    }
}
