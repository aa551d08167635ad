//! What is found out about a route before anyone connects, and the plan that follows from it.
//! Delivery and `relay check` both go through here, so that their verdicts cannot differ.

use crate::clock::Clock;
use crate::config::{Config, DomainPattern, PrivateZone, RootsError, TrustedRoots};
use crate::deliver::dkim::SigningKeys;
use crate::deliver::dkim::store::KeyFileError;
use crate::deliver::driver::Mailer;
use crate::deliver::egress::Egress;
use crate::deliver::egress::store::{EgressError, EgressStore};
use crate::deliver::families::WaysOut;
use crate::deliver::{AddressPolicy, Loopback, Planned, plan};
use crate::envelope::{Envelope, Origin, TlsRequest};
use crate::net::{Network, Tcp};
use crate::outcome::Cause;
use crate::policy::HostVerdict;
use crate::policy::decide::{Facts, decide, sts_matters, sts_may_have_changed};
use crate::policy::exceptions::store;
use crate::policy::exceptions::{Exceptions, ExceptionsStatus, LocalRule};
use crate::policy::sts::driver::{StsClient, StsPaths};
use crate::policy::sts::event::{self as sts_event, StsListener};
use crate::policy::sts::{StsAbsent, StsState};
use crate::policy::x509::webpki::WebPki;
use crate::resolve::answer::Ask;
use crate::resolve::driver::Dns;
use crate::resolve::error::DnsSetupError;
use crate::resolve::{Resolution, event as dns_event, mail, own_hop};
use crate::route::{ChosenBy, NextHop, Route};
use crate::smtp::address::{Domain, Host};
use crate::state_dir;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

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
    /// A key to sign with cannot be had.
    #[error(transparent)]
    Key(#[from] KeyFileError),
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
    /// The keys that mail is signed with.
    pub signing: Arc<SigningKeys>,
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

/// Whether the MTA-STS policy by which servers were judged may be another one by now. The server that
/// raises the doubt need not be the one whose word the recipients have in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyDoubt {
    /// No server was left out or failed over it.
    None,
    /// One was.
    MayHaveChanged,
}

impl PolicyDoubt {
    /// After failures with these causes.
    pub fn over<'a>(causes: impl IntoIterator<Item = &'a Cause>) -> Self {
        if causes.into_iter().any(sts_may_have_changed) { Self::MayHaveChanged } else { Self::None }
    }
}

/// What came of trying the servers of a plan.
#[derive(Debug)]
pub struct Tried<T> {
    /// What became of whom.
    pub outcomes: T,
    /// Whether it is worth a look at the policy.
    pub policy: PolicyDoubt,
}

/// What came of all tries.
#[derive(Debug)]
pub struct LastTry<T> {
    /// What was known at the last one.
    pub facts: Arc<RouteFacts>,
    /// What became of whom.
    pub outcomes: T,
}

impl Outbound {
    /// Puts together what a running relay delivers with.
    ///
    /// # Errors
    /// When a file that the configuration names cannot be used: trusted roots, a password, a certificate.
    pub fn new(config: Arc<Config>, ways: OutboundPaths, told: StsListener) -> Result<Self, OutboundError> {
        let signing = SigningKeys::load(&config)?;
        Self::with_keys(signing, config, ways, told)
    }

    fn with_keys(
        signing: SigningKeys,
        config: Arc<Config>,
        ways: OutboundPaths,
        told: StsListener,
    ) -> Result<Self, OutboundError> {
        let OutboundPaths { dns, network, clock } = ways;
        let roots = TrustedRoots::read(&config.tls.roots)?;
        let ask = Arc::clone(&dns) as Arc<dyn Ask>;
        let paths = StsPaths { dns: ask, network: Arc::clone(&network), clock: clock.clone() };
        let sts = Arc::new(StsClient::new(&config, &roots, paths, told));
        let mailer = Mailer::new(&config, WebPki::new(roots.or_none()), Arc::clone(&network), clock.clone());
        let mailer = Arc::new(mailer);
        let egress = Arc::new(EgressStore::load(Arc::clone(&config))?);
        let signing = Arc::new(signing);
        // What cannot be read is told by whoever watches them; it costs a trial.
        let ended = store::load(state_dir::open(&config.spool).as_ref()).unwrap_or_default();
        let exceptions = Arc::new(Exceptions::resumed(ended, &config.destination));
        Ok(Self { config, dns, sts, mailer, network, egress, signing, exceptions, clock })
    }

    /// Puts together what delivers by another configuration. What was learnt of the ways out, and which
    /// weakenings are over, goes on; kept policies do where the same ways lead to them. All files that the
    /// configuration names are read.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn succeeded_by(&self, config: Arc<Config>, dns: Arc<Dns>, told: StsListener) -> Result<Self, OutboundError> {
        let roots = TrustedRoots::read(&config.tls.roots)?;
        let mailer = Arc::new(self.mailer.succeeded_by(&config, WebPki::new(roots.or_none())));
        let egress = Arc::new(EgressStore::load(Arc::clone(&config))?);
        let signing = Arc::new(SigningKeys::load(&config)?);
        let asks_alike = Arc::ptr_eq(&dns, &self.dns)
            && config.mta_sts == self.config.mta_sts
            && config.tls.roots == self.config.tls.roots;
        let sts = if asks_alike {
            Arc::clone(&self.sts)
        } else {
            let ask = Arc::clone(&dns) as Arc<dyn Ask>;
            let paths = StsPaths { dns: ask, network: Arc::clone(&self.network), clock: self.clock.clone() };
            Arc::new(StsClient::new(&config, &roots, paths, told))
        };
        let exceptions = Arc::new(Exceptions::resumed(self.exceptions.ended(), &config.destination));
        Ok(Self {
            config,
            dns,
            sts,
            mailer,
            egress,
            signing,
            exceptions,
            network: Arc::clone(&self.network),
            clock: self.clock.clone(),
        })
    }

    /// Puts together what a command needs that ends soon and tells only its own result.
    ///
    /// # Errors
    /// When the DNS side or the trusted roots cannot be set up.
    pub fn for_command(config: Config, clock: Clock) -> Result<Self, SetupError> {
        let config = Arc::new(config);
        let dns = Arc::new(Dns::new(&config, clock.clone(), dns_event::nobody())?);
        let ways = OutboundPaths::over_tcp(dns, clock);
        Ok(Self::with_keys(SigningKeys::none(&config), config, ways, sts_event::nobody())?)
    }

    /// The mail servers of a next hop (RFC 5321 §5.1), with what secures them (RFC 7672 §2). `seed`
    /// shuffles hosts of equal preference.
    ///
    /// # Errors
    /// The cause that stops all its recipients.
    pub async fn resolve(&self, hop: &NextHop, seed: u64) -> Result<Resolution, Cause> {
        match hop {
            NextHop::Domain(domain) => mail::resolve_domain(&self.dns, domain, self.config.delivery.port, seed).await,
            NextHop::Host { name, port } => own_hop::resolve_next_hop(&self.dns, name, *port).await,
            NextHop::Address { address, port, .. } => Ok(mail::literal(*address, *port)),
            // Whoever delivers goes through its hosts one by one.
            NextHop::OneOf(list) => Box::pin(self.resolve(list.first(), seed)).await,
        }
    }

    /// Adds what the operator, the sender of a message and MTA-STS say (RFC 8461 §3). A message waits
    /// for the policy only where it matters.
    pub async fn ask_policies(&self, route: &Route, request: TlsRequest, resolution: Resolution) -> RouteFacts {
        let Some(domain) = policy_domain(&route.hop) else {
            return self.facts(route, request, resolution, StsState::Absent(StsAbsent::AddressLiteral));
        };
        let facts = self.facts(route, request, resolution, StsState::Absent(StsAbsent::NotNeeded));
        // What the plan is made from says itself whether there is more to ask for.
        if sts_matters(&self.deciding(&facts)) {
            RouteFacts { sts: self.sts.policy_for(domain).await, ..facts }
        } else {
            facts
        }
    }

    /// All there is to show of a route: MTA-STS is asked at once, and though its answer may make no
    /// difference.
    ///
    /// # Errors
    /// As [`Outbound::resolve`].
    pub async fn find_out_all(&self, route: &Route, request: TlsRequest, seed: u64) -> Result<RouteFacts, Cause> {
        let policy = async {
            match policy_domain(&route.hop) {
                Some(domain) => Ok(self.sts.policy_for(domain).await),
                None => Ok(StsState::Absent(StsAbsent::AddressLiteral)),
            }
        };
        let (resolution, sts) = tokio::try_join!(self.resolve(&route.hop, seed), policy)?;
        Ok(self.facts(route, request, resolution, sts))
    }

    /// The same for somebody who waits for a policy only so long.
    #[must_use]
    pub fn waiting_for_policies_at_most(self, patience: Duration) -> Self {
        Self { sts: Arc::new(self.sts.waiting_at_most(patience)), ..self }
    }

    /// Whether what becomes of mail depends on the answer of MTA-STS.
    #[must_use]
    pub fn depends_on_policy(&self, facts: &RouteFacts) -> bool {
        sts_matters(&self.deciding(facts))
    }

    fn facts(&self, route: &Route, request: TlsRequest, resolution: Resolution, sts: StsState) -> RouteFacts {
        let rule = self.exceptions.rule(self.clock.now(), route.rule, &self.config.destination);
        let egress = self.egress.of(route.rule);
        RouteFacts { resolution, sts, rule, request, egress }
    }

    /// What the sender of a message asks of TLS, as far as the operator lets it count. A report on TLS arrives whatever
    /// the policies of its readers (RFC 8460 §3): it is ours, and tells of them.
    #[must_use]
    pub fn request_of(&self, envelope: &Envelope) -> TlsRequest {
        let is_ours = matches!(envelope.origin, Origin::TlsReport { .. });
        let counts = is_ours || self.config.tls.tls_required_no;
        if envelope.tls == TlsRequest::Optional && !counts { TlsRequest::ByPolicy } else { envelope.tls }
    }

    fn deciding<'a>(&self, facts: &'a RouteFacts) -> Facts<'a> {
        Facts {
            resolution: &facts.resolution,
            sts: &facts.sts,
            rule: &facts.rule,
            request: facts.request,
            dane_behind_insecure_mx: self.config.tls.dane_behind_insecure_mx,
        }
    }

    /// How the operator's weakenings stand.
    #[must_use]
    pub fn exceptions_now(&self) -> ExceptionsStatus {
        self.exceptions.standing(self.clock.now(), &self.config.destination)
    }

    /// Tries the servers of a route by what is known of it, and once more where the policy of MTA-STS
    /// turns out to have changed: that must not make mail fail (RFC 8461 §5.1). `try_servers` gets
    /// what has come of it so far, and gives what has then.
    pub async fn try_and_look_again<T, F>(
        &self,
        route: &Route,
        facts: RouteFacts,
        so_far: T,
        mut try_servers: impl FnMut(Arc<RouteFacts>, T) -> F,
    ) -> LastTry<T>
    where
        F: Future<Output = Tried<T>>,
    {
        let facts = Arc::new(facts);
        let Tried { outcomes, policy } = try_servers(Arc::clone(&facts), so_far).await;
        if policy == PolicyDoubt::MayHaveChanged
            && let Some(changed) = self.look_again(route, &facts).await
        {
            let changed = Arc::new(changed);
            let outcomes = try_servers(Arc::clone(&changed), outcomes).await.outcomes;
            return LastTry { facts: changed, outcomes };
        }
        LastTry { facts, outcomes }
    }

    /// Looks at the MTA-STS policy again, past everything that is kept: what is known if that changes
    /// something.
    async fn look_again(&self, route: &Route, facts: &RouteFacts) -> Option<RouteFacts> {
        let sts = self.sts.recheck(policy_domain(&route.hop)?).await;
        let is_the_same = match (&facts.sts, &sts) {
            (StsState::Absent(_), StsState::Absent(_)) => true,
            (StsState::Policy(old), StsState::Policy(new)) => old.terms == new.terms,
            (StsState::Absent(_), StsState::Policy(_)) | (StsState::Policy(_), StsState::Absent(_)) => false,
        };
        (!is_the_same).then(|| RouteFacts { sts, ..facts.clone() })
    }

    /// What security each host gets, in the order of the hosts.
    #[must_use]
    pub fn decide(&self, facts: &RouteFacts) -> Vec<HostVerdict> {
        let deciding = self.deciding(facts);
        let verdict = |host| match decide(&deciding, host) {
            HostVerdict::Use(decision) => HostVerdict::Use(facts.egress.strengthened(&host.name, decision)),
            skip @ HostVerdict::Skip(_) => skip,
        };
        facts.resolution.hosts.iter().map(verdict).collect()
    }

    /// The servers to try, in order.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn plan(&self, hop: &NextHop, facts: &RouteFacts, verdicts: Vec<HostVerdict>) -> Result<Vec<Planned>, Cause> {
        let (allowed, ways) = (self.address_policy(hop), self.ways_out(facts));
        let steps = plan(&facts.resolution, verdicts, &self.config.hostname, &allowed, &ways)?;
        Ok(steps.into_iter().map(|step| step.leaving_by(&facts.egress)).collect())
    }

    /// What is known of the ways to the hosts of a route, and what the operator wants of them.
    #[must_use]
    pub fn ways_out(&self, facts: &RouteFacts) -> WaysOut {
        WaysOut { choice: facts.egress.family, ..self.mailer.ways_out(&facts.resolution) }
    }

    /// Where a next hop may lead: whatever the operator names, by itself or as a zone of his own, leads
    /// where he likes.
    fn address_policy(&self, hop: &NextHop) -> AddressPolicy {
        let delivery = &self.config.delivery;
        let this_host = if delivery.allow_loopback { Loopback::Allowed } else { Loopback::Refused };
        let private = match hop {
            NextHop::Host { .. } | NextHop::OneOf(_) | NextHop::Address { chosen_by: ChosenBy::Operator, .. } => {
                return AddressPolicy::Anywhere;
            }
            NextHop::Domain(domain)
                if PrivateZone::around(domain.as_str(), &self.config.dns.private_zones).is_some() =>
            {
                vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
            }
            NextHop::Address { address, .. } if self.names_literal(*address) => vec![IpNet::from(*address)],
            NextHop::Domain(_) | NextHop::Address { .. } => delivery.allow_private.clone(),
        };
        AddressPolicy::Outward { this_host, private }
    }

    /// Whether a destination names an address literal, or its network, as such.
    fn names_literal(&self, address: IpAddr) -> bool {
        let host = Host::Literal(address);
        let mut patterns = self.config.destination.iter().flat_map(|destination| &destination.domains);
        patterns.any(|pattern| matches!(pattern, DomainPattern::Literals(_)) && pattern.fit(&host).is_some())
    }
}

/// The domain whose policy counts: a smart host's own where the operator names one
/// (RFC 8461 §3.4).
pub(super) fn policy_domain(hop: &NextHop) -> Option<&Domain> {
    match hop {
        NextHop::OneOf(list) => policy_domain(list.first()),
        NextHop::Domain(domain) | NextHop::Host { name: domain, .. } => Some(domain),
        NextHop::Address { .. } => None,
    }
}
