//! `relay check DOMAIN`: the story of a delivery, stopped before MAIL FROM.
//!
//! It finds out, decides and plans with the functions that deliver mail ([`Outbound`]) and speaks
//! to the servers with the same mailer; so its verdict is what a message would meet now. Exit
//! codes: 0 ok, 1 warning, 2 fault, 3 inconclusive.

pub mod analyse;
pub mod bundle;
pub mod canary;
#[cfg(test)]
mod cause_tests;
mod certificate;
pub mod compare;
mod controls;
mod details;
pub mod dkim;
pub mod evidence;
pub mod first_start;
pub(crate) mod history;
mod listed;
mod negotiated;
mod observation;
mod opinions;
mod port_holder;
pub mod posture;
mod probes;
mod queue;
mod report;
pub mod selfcheck;
mod smtp;
pub mod spf;
mod steps;
mod text;
mod verdict;
mod view;

pub use report::{AddressReport, CauseRow, CheckReport, HostReport, StsReport, StsSource, TlsaReport, Verdict};
pub use steps::{CheckStage, CheckStep, StepListener, StepTaken};
pub use text::{Color, Detail};

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DnsMode, PrivateZone};
use crate::deliver::Planned;
use crate::envelope::TlsRequest;
use crate::outcome::{Cause, PathFailure, Question};
use crate::pipeline::outbound::{LastTry, Outbound, PolicyDoubt, RouteFacts, SetupError, Tried};
use crate::policy::sts::StsState;
use crate::resolve::TlsaLookup;
use crate::resolve::answer::{Answer, Freshness, RecordType};
use crate::route::{self, Route};
use crate::smtp::address::{Domain, Host, ReversePath};
use crate::smtp::special_use::SpecialUse;
use crate::state_dir;
use evidence::{
    DeliveryForecast, DnsProbe, Evidence, OutsideCheck, Queue, SecondOpinion, ServerSeen, ShortPatience, TlsaCount,
    Troubled,
};
use futures_util::future::join_all;
use observation::{Observation, ProbedServer, comes_after_all, conclude, subject, troubled};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use steps::StepTeller;
use tokio::time::{Instant, timeout};

/// How much is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckDepth {
    /// What delivery would do.
    Delivery,
    /// And why, by probes of its own.
    Diagnosis,
}

/// Checks domains.
pub struct Checker {
    out: Outbound,
    depth: CheckDepth,
    /// The configuration with the patience of delivery, where the check is in more of a hurry.
    patient: Option<Config>,
    /// What a check elsewhere has seen.
    outside: Option<Evidence>,
    /// Who hears of its steps.
    steps: StepTeller,
}

/// One reply of a mail server is waited for no longer than this; delivery is more patient (RFC 5321
/// §4.5.3.2). Servers that wait for who speaks too early greet after some six seconds.
const REPLY_PATIENCE: Duration = Duration::from_secs(10);
/// How long a policy host may take for the policy.
const POLICY_PATIENCE: Duration = Duration::from_secs(15);
/// How long one server may take for one question, and a look-up over all paths: enough to go
/// through three silent ones. What comes later is asked for again, with the patience of delivery.
const DNS_PATIENCE: Duration = Duration::from_millis(1500);
const LOOK_UP_PATIENCE: Duration = Duration::from_millis(5000);
/// How long the mail servers are asked alone: one that answers needs less.
const ALONE: Duration = Duration::from_secs(1);

impl Checker {
    /// A checker with the configuration that delivers mail, and the patience of a human.
    ///
    /// # Errors
    /// When the DNS side or the trusted roots cannot be set up.
    pub fn new(config: Config, clock: Clock) -> Result<Self, SetupError> {
        let patient = config.clone();
        let mut config = config;
        config.delivery.reply_timeout = config.delivery.reply_timeout.min(REPLY_PATIENCE);
        config.dns.timeout = config.dns.timeout.min(DNS_PATIENCE);
        config.dns.deadline = config.dns.deadline.min(LOOK_UP_PATIENCE);
        let hurried = Self::patient(config, clock)?;
        let out = hurried.out.waiting_for_policies_at_most(POLICY_PATIENCE);
        Ok(Self { out, patient: Some(patient), ..hurried })
    }

    /// A checker that waits for everything as long as delivery does.
    ///
    /// # Errors
    /// When the DNS side or the trusted roots cannot be set up.
    pub fn patient(config: Config, clock: Clock) -> Result<Self, SetupError> {
        let out = Outbound::for_command(config, clock)?;
        Ok(Self { depth: CheckDepth::Diagnosis, ..Self::over(out) })
    }

    /// The same, with what a check elsewhere has seen for a witness.
    #[must_use]
    pub fn beside(self, theirs: Evidence) -> Self {
        Self { outside: Some(theirs), ..self }
    }

    /// A checker over what a running relay delivers with: it finds out what delivery would do,
    /// and asks nothing that delivery does not.
    #[must_use]
    pub fn over(out: Outbound) -> Self {
        Self { out, depth: CheckDepth::Delivery, patient: None, outside: None, steps: StepTeller::default() }
    }

    /// The same, telling of each step as it is taken.
    #[must_use]
    pub fn telling(self, listener: StepListener) -> Self {
        Self { steps: StepTeller::to(listener), ..self }
    }

    /// Checks one domain.
    pub async fn check(&self, domain: &Domain) -> CheckReport {
        self.check_from(None, domain).await
    }

    /// Checks one domain for mail of one sender: destinations for certain senders count.
    pub async fn check_from(&self, sender: Option<&ReversePath>, domain: &Domain) -> CheckReport {
        let at = self.out.clock.now();
        let started = Instant::now();
        let config = &self.out.config;
        let route = route::route(&Host::Domain(domain.clone()), sender, &config.destination, config.delivery.port);
        // What nothing waits for goes along, so that silence is waited for once.
        let (looked, aside) = tokio::join!(Box::pin(self.look_at_all(&route, at)), Box::pin(self.look_aside(domain)));
        self.steps.judges();
        let Observed { met, troubled, subject, dns, opinions, servers, looked_again } = looked;
        let outside = self.outside.as_ref().and_then(|theirs| OutsideCheck::of(theirs, domain.as_str()));
        let policies = met.known.iter().map(|known| &known.sts).chain(&aside.sts);
        let evidence = Evidence {
            version: evidence::VERSION,
            domain: domain.to_string(),
            at,
            delivery: self.delivery(domain, &met),
            outside,
            upstreams: config.dns.upstreams.iter().map(ToString::to_string).collect(),
            anchors: selfcheck::trusted_tags(config).unwrap_or_default(),
            patience: self.short_patience(),
            looked_again,
            sts_unusable: policies.clone().find_map(view::sts_unusable),
            sts_slow: policies.clone().find_map(view::sts_slow),
            sts_open: met
                .known
                .as_ref()
                .is_some_and(|known| view::is_open(&known.sts) && self.out.depends_on_policy(known)),
            trust_ad: config.dns.mode == DnsMode::TrustAd,
            troubled,
            subject,
            dns,
            opinions,
            servers,
            queue: aside.queue,
            sts_announced: aside.sts_announced,
            tlsrpt: aside.tlsrpt.as_ref().and_then(view::tls_report_record),
            tls_reports: aside.tlsrpt.as_ref().and_then(view::tls_reports_asked),
            took_ms: milliseconds(started.elapsed()),
        };
        self.report(domain, &route, &met, evidence)
    }

    /// Each next hop of a list, side by side.
    async fn look_at_all(&self, route: &Route, at: Timestamp) -> Observed {
        let singles = route.in_turn(u64::try_from(at.0).unwrap_or(0), |_hop| false);
        let looks = singles.iter().map(|single| Box::pin(self.look(single, at)));
        let looked = join_all(looks).await;
        match listed::together(singles.iter().cloned().zip(looked).collect()) {
            Some(all) => all,
            None => Box::pin(self.look(route, at)).await,
        }
    }

    /// What delivery meets and, where that is trouble, what stands behind it.
    async fn look(&self, route: &Route, at: Timestamp) -> Observed {
        let seed = u64::try_from(at.0).unwrap_or(0);
        self.steps.asks(&route.hop.to_string());
        let known = self.out.find_out_all(route, TlsRequest::ByPolicy, seed).await;
        self.steps.knows(&known);
        let troubled = troubled(&known);
        let subject = subject(&troubled).filter(|question| self.is_public(&question.name));
        let ((met, controls), dns, opinions) = tokio::join!(
            Box::pin(self.meet_beside_controls(route, known)),
            Box::pin(self.probe_dns(subject.as_ref())),
            Box::pin(self.second_opinions(&troubled)),
        );
        let again = if met.lacks_answers() && dns.iter().any(comes_after_all) {
            // The resolver was only slow, and delivery is more patient.
            Box::pin(self.look_patiently(route, seed)).await
        } else {
            None
        };
        let looked_again = again.is_some();
        let (met, troubled) = again.unwrap_or((met, troubled));
        let servers = match self.depth {
            CheckDepth::Diagnosis => {
                let servers = met.servers(&self.out.mailer, at);
                Box::pin(controls::look_closer(&self.out, servers, controls)).await
            }
            CheckDepth::Delivery => met.servers(&self.out.mailer, at),
        };
        Observed { met, troubled, subject, dns, opinions, servers, looked_again }
    }

    /// The same with all the time that delivery gives the DNS.
    async fn look_patiently(&self, route: &Route, seed: u64) -> Option<(Observation, Vec<Troubled>)> {
        let mut config = Config::clone(&self.out.config);
        if let Some(patient) = &self.patient {
            config.dns = patient.dns.clone();
        }
        let out = Outbound::for_command(config, self.out.clock.clone()).ok()?;
        let out = Outbound { sts: Arc::clone(&self.out.sts), ..out };
        let patient = Self { depth: self.depth, steps: self.steps.clone(), ..Self::over(out) };
        let known = patient.out.find_out_all(route, TlsRequest::ByPolicy, seed).await;
        let troubled = troubled(&known);
        Some((Box::pin(patient.meet(route, known)).await, troubled))
    }

    /// How long a reply is waited for, where delivery waits longer.
    fn short_patience(&self) -> Option<ShortPatience> {
        let (check, delivery) = (self.out.config.delivery.reply_timeout, self.patient.as_ref()?.delivery.reply_timeout);
        let patience = ShortPatience { check_ms: milliseconds(check), delivery_ms: milliseconds(delivery) };
        (check < delivery).then_some(patience)
    }

    /// Where the servers are slow to answer, the controls are asked meanwhile, in case they will
    /// be needed.
    async fn meet_beside_controls(
        &self,
        route: &Route,
        known: Result<RouteFacts, Cause>,
    ) -> (Observation, Option<Vec<ServerSeen>>) {
        let mut meeting = std::pin::pin!(self.meet(route, known));
        if self.depth == CheckDepth::Delivery {
            return (meeting.await, None);
        }
        if let Ok(met) = timeout(ALONE, &mut meeting).await {
            return (met, None);
        }
        let (met, controls) = tokio::join!(meeting, Box::pin(controls::all(&self.out)));
        (met, Some(controls))
    }

    /// Looks at this host itself.
    pub async fn look_at_self(&self) -> Vec<selfcheck::SelfCheck> {
        selfcheck::look(&self.out).await
    }

    /// Looks at what a first start meets; `egress` are the addresses that mail leaves from as others see
    /// them, none where this host is to find out.
    pub async fn look_before_first_start(&self, egress: &[IpAddr]) -> first_start::FirstLook {
        first_start::look(&self.out, egress).await
    }

    /// What the servers do with us, up to MAIL FROM.
    async fn meet(&self, route: &Route, known: Result<RouteFacts, Cause>) -> Observation {
        let known = match known {
            Ok(known) => known,
            Err(cause) => return Observation { known: None, probed: Vec::new(), stopped: Some(cause) },
        };
        let tried = self.out.try_and_look_again(route, known, Ok(Vec::new()), |known, _those_before| async move {
            let verdicts = self.out.decide(&known);
            let plan = self.out.plan(&route.hop, &known, verdicts);
            self.probe_all(plan).await
        });
        let LastTry { facts, outcomes } = tried.await;
        let known = Some(Arc::unwrap_or_clone(facts));
        match outcomes {
            Ok(probed) => Observation { known, probed, stopped: None },
            Err(cause) => Observation { known, probed: Vec::new(), stopped: Some(cause) },
        }
    }

    /// Private names are nothing to ask the servers of the world about.
    fn is_public(&self, name: &str) -> bool {
        PrivateZone::around(name, &self.out.config.dns.private_zones).is_none() && SpecialUse::of(name).is_none()
    }

    async fn probe_dns(&self, subject: Option<&Question>) -> Vec<DnsProbe> {
        let (Some(subject), CheckDepth::Diagnosis) = (subject, self.depth) else { return Vec::new() };
        // A single question has as long as delivery gives it.
        self.steps.diagnoses(&subject.name);
        let config = self.patient.as_ref().unwrap_or(&self.out.config);
        let (references, canary) = (config.check.references.as_slice(), config.check.canary.as_ref());
        let known = history::read(state_dir::open(&config.spool).as_ref());
        let plan = probes::Plan { config, references, canary, known: &known, subject };
        // Servers that cannot be set up have stopped the checker before.
        probes::collect(&plan, &self.out.clock).await.unwrap_or_default()
    }

    /// Only about an answer that did not prove itself.
    async fn second_opinions(&self, troubled: &[Troubled]) -> Vec<SecondOpinion> {
        let bogus = |failed: &PathFailure| failed.detail.starts_with("bogus");
        let unproven = troubled.iter().find(|t| t.answered_by.is_none() && t.failed.iter().any(bogus));
        let (Some(unproven), CheckDepth::Diagnosis) = (unproven, self.depth) else { return Vec::new() };
        opinions::ask(&self.out.config, &unproven.question, &self.out.clock).await
    }

    /// What has no bearing on delivery.
    async fn look_aside(&self, domain: &Domain) -> Aside {
        if self.depth == CheckDepth::Delivery {
            return Aside { queue: None, sts_announced: None, sts: None, tlsrpt: None };
        }
        let owner = format!("_smtp._tls.{domain}");
        // A look-up that is shared may begin again when whoever began it leaves; nothing waits twice.
        let most = self.out.config.dns.deadline;
        let (queue, announced, tlsrpt) = tokio::join!(
            queue::waiting(&self.out.config.spool, domain),
            timeout(most, self.out.sts.announced(domain, Freshness::Kept)),
            timeout(most, self.out.dns.lookup(&owner, RecordType::Txt))
        );
        let sts_announced = announced.ok().and_then(Result::ok).map(|id| id.to_string());
        // Where DANE decides nobody asks for the policy; that it is broken is worth knowing all the same.
        let sts = if sts_announced.is_some() { Some(self.out.sts.policy_for(domain).await) } else { None };
        Aside { queue, sts_announced, sts, tlsrpt: tlsrpt.ok().map(|(answer, _trace)| answer) }
    }

    async fn probe_all(&self, plan: Result<Vec<Planned>, Cause>) -> Tried<Result<Vec<ProbedServer>, Cause>> {
        let steps = match plan {
            Ok(steps) => steps,
            Err(cause) => return Tried { policy: PolicyDoubt::over([&cause]), outcomes: Err(cause) },
        };
        let probed = join_all(steps.into_iter().map(|step| self.probe(step))).await;
        Tried { policy: PolicyDoubt::over(probed.iter().filter_map(ProbedServer::failure)), outcomes: Ok(probed) }
    }

    async fn probe(&self, step: Planned) -> ProbedServer {
        self.steps.connects(&step);
        let probe = match &step {
            Planned::Try(target) => Some(self.out.mailer.probe(target).await),
            Planned::Skip { .. } => None,
        };
        let probed = ProbedServer { step, probe };
        self.steps.met(&probed);
        probed
    }

    fn delivery(&self, domain: &Domain, met: &Observation) -> DeliveryForecast {
        let tlsa = met.known.iter().flat_map(|known| &known.resolution.hosts).filter_map(|host| match &host.tlsa {
            TlsaLookup::Present { base_domain, records } => {
                let name = format!("_{}._tcp.{base_domain}", self.out.config.delivery.port);
                Some(TlsaCount { name, records: records.len() })
            }
            TlsaLookup::Absent(_) | TlsaLookup::Unavailable(_) => None,
        });
        let tlsa = tlsa.collect();
        match (&met.known, &met.stopped) {
            (Some(known), None) => {
                DeliveryForecast { tlsa, ..conclude(domain, known, &met.probed, self.short_patience()) }
            }
            (_, stopped) => DeliveryForecast {
                delivers: false,
                sentence: stopped.as_ref().map(Cause::sentence).unwrap_or_default(),
                cause: stopped.clone(),
                watched: None,
                exception: None,
                tlsa,
            },
        }
    }

    fn report(&self, domain: &Domain, route: &Route, met: &Observation, evidence: Evidence) -> CheckReport {
        let (diagnosis, now) = (analyse::analyse(&evidence), self.out.clock.now());
        let delivery = &evidence.delivery;
        let fault = delivery.cause.as_ref().map(CauseRow::from);
        let fault = fault.or_else(|| delivery.watched.as_ref().map(CauseRow::watched));
        let known = met.known.as_ref();
        let hosts = match (known, &met.stopped) {
            (Some(known), None) => {
                known.resolution.hosts.iter().map(|host| view::host_report(host, known, &met.probed, now)).collect()
            }
            (_, _) => Vec::new(),
        };
        CheckReport {
            version: evidence::VERSION,
            domain: domain.clone(),
            verdict: diagnosis.level,
            summary: evidence.delivery.sentence.clone(),
            fault,
            next_hop: route.hop.to_string(),
            hosts_from: known.map(|known| known.resolution.hosts_from),
            mx_security: known.map(|known| known.resolution.mx_security),
            mta_sts: known.map(|known| view::sts_report(&known.sts, evidence.sts_announced.as_ref(), evidence.at)),
            level: known.and_then(|known| known.rule.level).map(crate::config::TlsLevel::word),
            exception: known.and_then(|known| known.rule.exception.clone()),
            notes: view::private(domain, &route.hop, &self.out.config.dns.private_zones)
                .chain(known.into_iter().flat_map(|known| view::notes(known, &met.probed, &self.out.ways_out(known))))
                .collect(),
            hosts,
            dns: known.map(|known| known.resolution.traces.clone()).unwrap_or_default(),
            chains: met.probed.iter().filter_map(ProbedServer::chain).collect(),
            diagnosis,
            evidence,
        }
    }
}

/// What delivery meets, and what was looked at to explain it.
struct Observed {
    met: Observation,
    troubled: Vec<Troubled>,
    subject: Option<Question>,
    dns: Vec<DnsProbe>,
    opinions: Vec<SecondOpinion>,
    servers: Vec<ServerSeen>,
    /// Whether the DNS was asked once more, with the patience of delivery.
    looked_again: bool,
}

/// What has no bearing on delivery.
struct Aside {
    queue: Option<Queue>,
    sts_announced: Option<String>,
    /// What the domain's policy would say, where it is announced.
    sts: Option<StsState>,
    /// What there is at `_smtp._tls`.
    tlsrpt: Option<Answer>,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
