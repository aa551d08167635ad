//! The single questions to the DNS that tell a filter from a fault: harmless ones first,
//! suspicious ones last, a harmless one again at the end.
//!
//! About thirty packets at most. Only servers that the configuration names are asked, and those of
//! the zone itself; a canary zone and references only where they are given.

use super::canary;
use super::evidence::ORDINARY_PAYLOAD as ORDINARY;
use super::evidence::{DnsProbe, ProbeRole, Whom};
use crate::clock::Clock;
use crate::config::{Config, Upstream};
use crate::outcome::Question;
use crate::resolve::error::DnsSetupError;
use crate::resolve::probe::{self, BRIEF, ProbeQuestion, ProbeTransport, Server};
use crate::resolve::tlsa_counts::KnownCount;
use crate::smtp::address::Domain;
use futures_util::future::join_all;
use hickory_proto::rr::{Name, RecordType};
use std::str::FromStr as _;
use std::time::Duration;

/// Resolvers of the configuration that are probed; a further one is asked by delivery alone.
const UPSTREAMS_LIMIT: usize = 3;
/// References that are asked.
const REFERENCES_LIMIT: usize = 3;
/// Servers of the zone that are asked: one that fails may be alone with it.
const AUTHORITIES_LIMIT: usize = 2;
/// Names of earlier answers that are asked for, over UDP and TCP.
const KNOWN_LIMIT: usize = 4;
/// The most TLSA records that the box lets pass that has been met.
const USUAL_STEP: usize = 4;
/// What every server takes (RFC 1035 §4.2.1).
const LEAST_PAYLOAD: u16 = 512;

/// What the questions are about.
#[derive(Clone, Debug)]
pub(super) struct Plan<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Whom to compare with.
    pub references: &'a [Upstream],
    /// Where the controls are.
    pub canary: Option<&'a Domain>,
    /// Names that have had known numbers of TLSA records.
    pub known: &'a [KnownCount],
    /// The question that has no answer.
    pub subject: &'a Question,
}

/// One question to one server.
struct Put<'a> {
    whom: Whom,
    server: &'a Server,
    role: ProbeRole,
    ask: ProbeQuestion,
}

/// The servers by what they are to us.
struct ProbedDnsServers {
    all: Vec<(Whom, Server)>,
    /// How long delivery waits for one answer.
    patience: Duration,
    /// How long controls are waited for: what is slow for everything has lost nothing.
    of_controls: Duration,
}

/// Asks all of it.
///
/// # Errors
/// When a server cannot be used.
pub(super) async fn collect(plan: &Plan<'_>, clock: &Clock) -> Result<Vec<DnsProbe>, DnsSetupError> {
    let Some(subject) = ProbeTarget::of(plan.subject) else { return Ok(Vec::new()) };
    let mut servers = ProbedDnsServers::configured(plan)?;
    // The walk to the zone's own servers may take longer than the first questions to the others.
    let walk = async {
        let found = probe::authorities(plan.config, &subject.harmless.0, AUTHORITIES_LIMIT).await;
        let authorities = ProbedDnsServers::of(Whom::Authority, found, plan.config);
        let seen = authorities.put(authorities.harmless(&subject), clock).await;
        (authorities, seen)
    };
    let (mut seen, (authorities, seen_there)) =
        tokio::join!(servers.put(servers.harmless(&subject), clock), Box::pin(walk));
    seen.extend(seen_there);
    let silent = servers.first_is_silent(&seen);
    servers.of_controls = servers.patience.min(BRIEF.max(slowest(&seen) * 2));
    servers.join(authorities);
    if !seen.iter().any(|probe: &DnsProbe| probe.seen.answered()) {
        return Ok(seen);
    }
    let controls = plan.canary.map_or_else(|| servers.known(plan), |zone| servers.controls(zone));
    let rounds = [controls, servers.subject(&subject), servers.again(&subject)];
    // Where nothing comes back there is no order to keep.
    let rounds = if silent { vec![rounds.into_iter().flatten().collect()] } else { rounds.into() };
    for questions in rounds {
        seen.extend(servers.put(questions, clock).await);
    }
    Ok(seen)
}

/// The longest that an answer took.
fn slowest(seen: &[DnsProbe]) -> Duration {
    let took = seen.iter().filter(|probe| probe.seen.answered()).map(|probe| probe.seen.took_ms);
    Duration::from_millis(took.max().unwrap_or(0))
}

/// The question that matters, and what is harmless beside it.
struct ProbeTarget {
    name: Name,
    record_type: RecordType,
    /// Another type at the same place.
    harmless: (Name, RecordType),
    /// A TLSA question without records, where the subject is one with.
    without: Option<Name>,
}

impl ProbeTarget {
    fn of(question: &Question) -> Option<Self> {
        let name = absolute(&question.name)?;
        let record_type = RecordType::from_str(&question.record_type).ok()?;
        if record_type == RecordType::TLSA {
            // `_25._tcp.host`: the host's address is harmless, and the host has no TLSA records.
            let host = name.base_name().base_name();
            return Some(Self { harmless: (host.clone(), RecordType::A), without: Some(host), name, record_type });
        }
        let other = if record_type == RecordType::A { RecordType::AAAA } else { RecordType::A };
        Some(Self { harmless: (name.clone(), other), without: None, name, record_type })
    }
}

fn absolute(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).ok()
}

impl ProbedDnsServers {
    fn of(whom: Whom, servers: Vec<Server>, config: &Config) -> Self {
        let all = servers.into_iter().map(|server| (whom, server)).collect();
        Self { all, patience: config.dns.timeout.max(BRIEF), of_controls: BRIEF }
    }

    fn configured(plan: &Plan<'_>) -> Result<Self, DnsSetupError> {
        let mut upstreams = probe::servers(plan.config, &plan.config.dns.upstreams)?;
        upstreams.truncate(UPSTREAMS_LIMIT);
        let mut references = probe::servers(plan.config, plan.references)?;
        references.truncate(REFERENCES_LIMIT);
        let mut all = Self::of(Whom::Upstream, upstreams, plan.config);
        all.join(Self::of(Whom::Reference, references, plan.config));
        Ok(all)
    }

    /// Resolvers before the zone's own servers, and those before the references.
    fn join(&mut self, more: Self) {
        self.all.extend(more.all);
        self.all.sort_by_key(|(whom, _)| match whom {
            Whom::Upstream => 0,
            Whom::Authority => 1,
            Whom::Reference => 2,
        });
    }

    /// Whether the server that gets the controls has answered nothing at all.
    fn first_is_silent(&self, seen: &[DnsProbe]) -> bool {
        let Some((whom, first)) = self.first() else { return false };
        let by_first = |probe: &&DnsProbe| *whom == probe.whom && first.name == probe.server;
        !seen.iter().filter(by_first).any(|probe| probe.seen.answered())
    }

    /// Asks side by side; what is known stands in the order of the questions.
    async fn put(&self, questions: Vec<Put<'_>>, clock: &Clock) -> Vec<DnsProbe> {
        let asked = questions.into_iter().map(|put| async move {
            let answer = put.server.ask(&put.ask, clock).await;
            DnsProbe { whom: put.whom, server: put.server.name.clone(), role: put.role, seen: answer }
        });
        join_all(asked).await
    }

    /// The first resolver in clear: controls are put to it alone.
    fn first(&self) -> Option<&(Whom, Server)> {
        self.all.iter().find(|(whom, server)| *whom == Whom::Upstream && !server.is_encrypted())
    }

    fn is_first(&self, server: &Server) -> bool {
        self.first().is_some_and(|(_, first)| std::ptr::eq(first, server))
    }

    fn harmless(&self, subject: &ProbeTarget) -> Vec<Put<'_>> {
        let mut questions = Vec::new();
        for (whom, server) in &self.all {
            let put = |role, name: &Name, record_type, transport| Put {
                whom: *whom,
                server,
                role,
                ask: ProbeQuestion {
                    name: name.clone(),
                    record_type,
                    transport,
                    edns: Some(ORDINARY),
                    within: self.patience,
                },
            };
            let (name, record_type) = &subject.harmless;
            questions.push(put(ProbeRole::Harmless, name, *record_type, server.transport()));
            if server.is_encrypted() {
                continue;
            }
            questions.extend(
                subject.without.iter().map(|n| put(ProbeRole::TlsaWithout, n, RecordType::TLSA, server.transport())),
            );
            if self.is_first(server) {
                questions.push(put(ProbeRole::Root, &Name::root(), RecordType::DNSKEY, server.transport()));
                questions.push(put(ProbeRole::Root, &Name::root(), RecordType::DNSKEY, ProbeTransport::Tcp));
                // What vanishes with EDNS may pass without.
                let mut plain = put(ProbeRole::Harmless, name, *record_type, server.transport());
                plain.ask.edns = None;
                questions.push(plain);
            }
        }
        questions
    }

    fn controls(&self, zone: &Domain) -> Vec<Put<'_>> {
        let Some((whom, server)) = self.first() else { return Vec::new() };
        let put = |role, owner: String, record_type, transport| {
            let (name, within) = (absolute(&owner)?, self.of_controls);
            let ask = ProbeQuestion { name, record_type, transport, edns: Some(ORDINARY), within };
            Some(Put { whom: *whom, server, role, ask })
        };
        let control =
            |count, over| put(ProbeRole::Control(count), canary::tlsa_owner(zone, count), RecordType::TLSA, over);
        let mut questions: Vec<_> =
            canary::COUNTS.into_iter().map(|count| control(count, server.transport())).collect();
        let addresses = canary::addresses_owner(zone);
        questions.push(put(ProbeRole::Addresses(canary::ADDRESSES), addresses, RecordType::A, server.transport()));
        questions.push(put(ProbeRole::Large, canary::large_owner(zone), RecordType::TXT, server.transport()));
        // The step that the known boxes stumble on, over TCP as well.
        questions.extend([4, 5].map(|count| control(count, ProbeTransport::Tcp)));
        questions.into_iter().flatten().collect()
    }

    /// Without a canary zone: names of earlier answers, around the number where boxes begin.
    fn known(&self, plan: &Plan<'_>) -> Vec<Put<'_>> {
        let Some((whom, server)) = self.first() else { return Vec::new() };
        let mut known: Vec<&KnownCount> = plan.known.iter().filter(|known| known.name != plan.subject.name).collect();
        known.sort_by_key(|known| known.records.abs_diff(USUAL_STEP));
        known.truncate(KNOWN_LIMIT);
        known.sort_by_key(|known| known.records);
        let put = |known: &KnownCount, transport| {
            let name = absolute(&known.name)?;
            let within = self.of_controls;
            let ask = ProbeQuestion { name, record_type: RecordType::TLSA, transport, edns: Some(ORDINARY), within };
            Some(Put { whom: *whom, server, role: ProbeRole::Known(known.records), ask })
        };
        let over = [server.transport(), ProbeTransport::Tcp];
        known.into_iter().flat_map(|known| over.map(|transport| put(known, transport))).flatten().collect()
    }

    fn subject(&self, subject: &ProbeTarget) -> Vec<Put<'_>> {
        let mut questions = Vec::new();
        for (whom, server) in &self.all {
            let put = |transport, edns| Put {
                whom: *whom,
                server,
                role: ProbeRole::Subject,
                ask: ProbeQuestion {
                    name: subject.name.clone(),
                    record_type: subject.record_type,
                    transport,
                    edns,
                    within: self.patience,
                },
            };
            questions.push(put(server.transport(), Some(ORDINARY)));
            if server.is_encrypted() || server.transport() == ProbeTransport::Tcp {
                continue;
            }
            questions.push(put(ProbeTransport::Tcp, Some(ORDINARY)));
            if self.is_first(server) {
                questions.push(put(ProbeTransport::Udp, Some(LEAST_PAYLOAD)));
                questions.push(put(ProbeTransport::Udp, None));
            }
        }
        questions
    }

    /// Resolvers are asked about the root: whether they are there has nothing to do with a zone
    /// that may be dead. Its own servers know no other.
    fn again(&self, subject: &ProbeTarget) -> Vec<Put<'_>> {
        let outside = (Name::root(), RecordType::SOA);
        // Encrypted, the root's keys are beyond the reach of whoever plays a root of its own.
        let keys = (Name::root(), RecordType::DNSKEY);
        let mut questions = Vec::new();
        for (whom, server) in &self.all {
            let (name, record_type) = match whom {
                Whom::Authority => &subject.harmless,
                Whom::Reference if !server.is_encrypted() => continue,
                Whom::Upstream | Whom::Reference if server.is_encrypted() => &keys,
                Whom::Upstream | Whom::Reference => &outside,
            };
            // Without EDNS too: whoever drops EDNS is no outage.
            for edns in [Some(ORDINARY), None].into_iter().take(if self.is_first(server) { 2 } else { 1 }) {
                let (name, transport, within) = (name.clone(), server.transport(), self.patience);
                let ask = ProbeQuestion { name, record_type: *record_type, transport, edns, within };
                questions.push(Put { whom: *whom, server, role: ProbeRole::Again, ask });
            }
        }
        questions
    }
}
