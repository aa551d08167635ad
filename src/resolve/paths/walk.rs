//! From the root down to the servers that know (RFC 1034 §5.3.3), without any resolver.
//!
//! Every step is bounded: referrals in one walk, name servers whose own addresses must be found
//! first, questions in one walk. Delegations are kept for as long as they say, at most a day.
//! Where a walk ends is no matter of trust: its raw message goes to our validator.

use super::channel::{Channel, Flags};
use super::referral::{self, NameServer, Referral, Said};
use super::{Fault, Transport};
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use hickory_resolver::PoolContext;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Referrals followed in one walk; a name in the reverse tree of IPv6 has 34 labels, few of
/// them cuts.
const REFERRALS_LIMIT: usize = 20;
/// How deep the search for addresses of name servers may nest.
const NESTING_LIMIT: usize = 4;
/// Questions sent for one answer.
const QUESTIONS_LIMIT: usize = 60;
/// Servers of one zone that are asked before the zone counts as silent.
const SERVERS_TRIED: usize = 4;
/// How long one server of several may take; the slow ones of the world are below this.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Delegations that are kept.
const DELEGATIONS_LIMIT: usize = 10_000;
/// The longest that a delegation is kept, whatever it says.
const DELEGATION_LIFE_S: u32 = 86_400;

/// The servers of a zone.
#[derive(Clone)]
struct Zone {
    name: Name,
    servers: Vec<SocketAddr>,
    until: Instant,
}

/// The walker, with the delegations it knows.
pub(in crate::resolve) struct Walk {
    hints: Vec<SocketAddr>,
    context: Arc<PoolContext>,
    known: Mutex<BTreeMap<Name, Zone>>,
}

/// What one answer may still cost.
struct Budget {
    questions: usize,
}

impl Budget {
    fn spend(&mut self) -> Result<(), Fault> {
        self.questions = self
            .questions
            .checked_sub(1)
            .ok_or_else(|| Fault::Broken("too many questions to authoritative servers for one answer".into()))?;
        Ok(())
    }
}

impl Walk {
    pub(in crate::resolve) fn new(mut hints: Vec<SocketAddr>, context: Arc<PoolContext>) -> Self {
        hints.sort_by_key(SocketAddr::is_ipv6);
        Self { hints, context, known: Mutex::default() }
    }

    /// Asks the servers that are responsible.
    pub(in crate::resolve) async fn fetch(&self, name: &Name, record_type: RecordType) -> Result<Message, Fault> {
        let mut budget = Budget { questions: QUESTIONS_LIMIT };
        self.walk(name, record_type, NESTING_LIMIT, &mut budget).await
    }

    /// The lowest zone above a name that a walk has found, and its servers.
    pub(in crate::resolve) fn servers_above(&self, name: &Name) -> (Name, Vec<SocketAddr>) {
        let zone = self.nearest(name, RecordType::A);
        (zone.name, zone.servers)
    }

    async fn walk(
        &self,
        name: &Name,
        record_type: RecordType,
        nesting: usize,
        budget: &mut Budget,
    ) -> Result<Message, Fault> {
        let mut zone = self.nearest(name, record_type);
        for _step in 0..REFERRALS_LIMIT {
            let asked = self.ask_zone(&zone, name, record_type, budget).await;
            // Servers that fail may have been replaced: the next walk asks the parent anew.
            let said = asked.inspect_err(|_fault| self.forget(&zone.name))?;
            match said {
                Said::Answer(message) => return Ok(message),
                Said::Down(referral) => zone = self.descend(&zone, referral, nesting, budget).await?,
                Said::Lame => return Err(Fault::Broken(format!("no server of {} knows its zone", zone.name))),
            }
        }
        Err(Fault::Broken("too many referrals".into()))
    }

    /// Over UDP first; when nobody answers, over TCP.
    async fn ask_zone(
        &self,
        zone: &Zone,
        name: &Name,
        record_type: RecordType,
        budget: &mut Budget,
    ) -> Result<Said, Fault> {
        let mut last = Fault::TimedOut;
        let servers = || zone.servers.iter().take(SERVERS_TRIED);
        let tries = servers().map(|s| (s, Transport::Udp)).chain(servers().map(|s| (s, Transport::Tcp)));
        for (server, transport) in tries {
            budget.spend()?;
            let answer = self.ask_server(*server, transport, name, record_type).await;
            match answer.map(|message| referral::read(message, &zone.name, name, record_type)) {
                Ok(said @ (Said::Answer(_) | Said::Down(_))) => return Ok(said),
                Ok(Said::Lame) => last = Fault::Broken(format!("{server} does not serve {}", zone.name)),
                Err(fault) => last = fault,
            }
        }
        if last == Fault::TimedOut {
            last = Fault::Broken(format!("no answer from the servers of {} to {name} {record_type}", zone.name));
        }
        Err(last)
    }

    async fn ask_server(
        &self,
        server: SocketAddr,
        transport: Transport,
        name: &Name,
        record_type: RecordType,
    ) -> Result<Message, Fault> {
        let (udp, tcp) = Channel::udp(server.ip(), server.port(), &self.context);
        let channel = if transport == Transport::Tcp { tcp.as_ref() } else { &udp };
        let asked = channel.ask(name, record_type, Flags::Authority);
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(Fault::TimedOut))
    }

    async fn descend(
        &self,
        above: &Zone,
        referral: Referral,
        nesting: usize,
        budget: &mut Budget,
    ) -> Result<Zone, Fault> {
        let mut addresses: Vec<IpAddr> = referral.servers.iter().flat_map(|server| server.glue.clone()).collect();
        if addresses.is_empty() {
            addresses = self.addresses_of(&referral.servers, nesting, budget).await;
        }
        // The world's servers are not on this machine, unless the root is (a laboratory).
        let at_home = self.hints.iter().any(|hint| hint.ip().is_loopback());
        addresses.retain(|ip| at_home || !(ip.is_loopback() || ip.is_unspecified()));
        addresses.sort_by_key(IpAddr::is_ipv6);
        if addresses.is_empty() {
            return Err(Fault::Broken(format!("no address of a server of {}", referral.zone)));
        }
        // All servers have the port of the hints: 53 outside of laboratories.
        let port = above.servers.first().map_or(53, SocketAddr::port);
        let servers = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let life = Duration::from_secs(u64::from(referral.ttl_s.min(DELEGATION_LIFE_S)));
        let zone = Zone { name: referral.zone, servers, until: Instant::now() + life };
        self.remember(zone.clone());
        Ok(zone)
    }

    /// Servers without glue have names elsewhere, which are walked to first.
    async fn addresses_of(&self, servers: &[NameServer], nesting: usize, budget: &mut Budget) -> Vec<IpAddr> {
        let mut found = Vec::new();
        let Some(nesting) = nesting.checked_sub(1) else { return found };
        for server in servers.iter().take(SERVERS_TRIED) {
            for record_type in [RecordType::A, RecordType::AAAA] {
                let walk = Box::pin(self.walk(&server.name, record_type, nesting, budget));
                let Ok(message) = walk.await else { continue };
                let of_server = message.answers.iter().filter(|r| r.name == server.name);
                found.extend(of_server.filter_map(referral::address).take(referral::ADDRESSES_LIMIT));
            }
            if found.len() > 1 {
                break;
            }
        }
        found
    }

    /// The lowest known zone above a name; for DS records above its parent.
    fn nearest(&self, name: &Name, record_type: RecordType) -> Zone {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut at = if record_type == RecordType::DS { name.base_name() } else { name.clone() };
        while !at.is_root() {
            if let Some(zone) = known.get(&at).filter(|zone| zone.until > now) {
                return zone.clone();
            }
            at = at.base_name();
        }
        Zone { name: Name::root(), servers: self.hints.clone(), until: now }
    }

    fn forget(&self, zone: &Name) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(zone);
    }

    fn remember(&self, zone: Zone) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= DELEGATIONS_LIMIT {
            let now = Instant::now();
            known.retain(|_, zone| zone.until > now);
        }
        if known.len() >= DELEGATIONS_LIMIT {
            // Full of living ones: which of them goes makes no difference that would last.
            known.pop_first();
        }
        known.insert(zone.name.clone(), zone);
    }
}
