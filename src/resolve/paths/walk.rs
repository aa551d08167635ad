//! From the root down to the servers that know (RFC 1034 §5.3.3), without any resolver.
//!
//! Every step is bounded: referrals in one walk, name servers whose own addresses must be found
//! first, questions for one answer. Delegations are kept for as long as they say, at most a day;
//! one whose servers all fail is asked for again. Where a walk ends is no matter of trust: its
//! raw message goes to our validator.

use super::FetchError;
use super::asking::{Asking, Budget, ServerFinder, ZoneServers};
use super::exchange::WireQuestion;
use super::referral::{self, Delegated, Referral, ReferralReading};
use super::servers::Servers;
use crate::net::{Network as _, Tcp};
use futures_util::future::BoxFuture;
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Referrals followed in one walk; a name in the reverse tree of IPv6 has 34 labels, few of
/// them cuts.
const REFERRALS_LIMIT: usize = 20;
/// How deep the search for addresses of name servers may nest.
const NESTING_LIMIT: usize = 4;
/// Delegations that are kept.
const DELEGATIONS_LIMIT: usize = 10_000;
/// The longest that a delegation is kept, whatever it says.
const DELEGATION_LIFE_S: u32 = 86_400;

/// The walker, with the delegations and servers it knows.
pub(in crate::resolve) struct Walk {
    hints: Vec<SocketAddr>,
    known: Mutex<BTreeMap<Name, ZoneServers>>,
    servers: Mutex<Servers>,
}

impl Walk {
    pub(in crate::resolve) fn new(hints: Vec<SocketAddr>) -> Self {
        Self { hints, known: Mutex::default(), servers: Mutex::default() }
    }

    /// Asks the servers that are responsible, and those of `beside` only where a zone has no others.
    /// Tells who
    /// answered, on the whole way, where another one could have.
    pub(in crate::resolve) async fn fetch(
        &self,
        name: &Name,
        record_type: RecordType,
        beside: &[SocketAddr],
    ) -> (Result<Message, FetchError>, Vec<SocketAddr>) {
        let budget = Budget::new(beside);
        let question = WireQuestion { name: name.clone(), record_type };
        let fetched = self.walk(&question, NESTING_LIMIT, &budget).await;
        (fetched, budget.answered_by())
    }

    /// The lowest zone above a name that a walk has found, and its servers.
    pub(in crate::resolve) fn servers_above(&self, name: &Name) -> (Name, Vec<SocketAddr>) {
        let zone = self.nearest(name, RecordType::A);
        (zone.name, zone.servers)
    }

    async fn walk(&self, question: &WireQuestion, nesting: usize, budget: &Budget<'_>) -> Result<Message, FetchError> {
        let mut zone = self.nearest(&question.name, question.record_type);
        // What was kept and has failed; its servers may have been replaced.
        let mut failed: Option<(ZoneServers, FetchError)> = None;
        let mut is_kept = true;
        for _step in 0..REFERRALS_LIMIT {
            match Asking::new(self, &zone, question, nesting, budget).ask().await {
                Ok(ReferralReading::Answer(message) | ReferralReading::Poor(message)) => return Ok(message),
                Ok(ReferralReading::Down(referral)) => zone = self.descend(referral)?,
                Ok(ReferralReading::NotUnderstood(_) | ReferralReading::Refused(_) | ReferralReading::Lame) => {
                    return Err(FetchError::Broken(format!("no server of {} knows its zone", zone.name)));
                }
                Err(fault) => {
                    self.forget(&zone.name);
                    if !is_kept || zone.name.is_root() || failed.is_some() {
                        return Err(fault);
                    }
                    let above = self.nearest(&question.name, question.record_type);
                    failed = Some((std::mem::replace(&mut zone, above), fault));
                    continue;
                }
            }
            is_kept = false;
            if let Some((before, fault)) = failed.take_if(|(before, _)| before.name == zone.name)
                && before.servers == zone.servers
            {
                return Err(fault);
            }
        }
        Err(FetchError::Broken("too many referrals".into()))
    }

    fn descend(&self, referral: Referral) -> Result<ZoneServers, FetchError> {
        let (with_glue, without): (Vec<_>, Vec<_>) = referral.servers.into_iter().partition(|s| !s.glue.is_empty());
        let servers = self.reachable(with_glue.into_iter().flat_map(|server| server.glue));
        // Below the zone only its own servers could tell the address.
        let unfound = without.into_iter().map(|server| server.name.to_lowercase());
        let unfound: Vec<Name> = unfound.filter(|name| !referral.zone.zone_of(name)).collect();
        if servers.is_empty() && unfound.is_empty() {
            return Err(FetchError::Broken(format!("no address of a server of {}", referral.zone)));
        }
        let life = Duration::from_secs(u64::from(referral.ttl_s.min(DELEGATION_LIFE_S)));
        let (name, delegated) = (referral.zone, referral.delegated);
        let zone = ZoneServers { name, servers, unfound, delegated, until: Instant::now() + life };
        self.remember(zone.clone());
        Ok(zone)
    }

    /// Each once. The world's servers are not on this machine, unless the root is (a laboratory).
    fn reachable(&self, addresses: impl Iterator<Item = IpAddr>) -> Vec<SocketAddr> {
        // All servers have the port of the hints: 53 outside of laboratories.
        let port = self.hints.first().map_or(53, SocketAddr::port);
        let at_home = self.hints.iter().any(|hint| hint.ip().is_loopback());
        let mut reachable = Vec::new();
        for ip in addresses.map(|ip| ip.to_canonical()) {
            let is_odd = ip.is_unspecified() || ip.is_multicast() || (ip.is_loopback() && !at_home);
            let server = SocketAddr::new(ip, port);
            if !is_odd && !reachable.contains(&server) {
                reachable.push(server);
            }
        }
        reachable
    }

    fn zones(&self) -> MutexGuard<'_, BTreeMap<Name, ZoneServers>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lowest known zone above a name; for DS records above its parent.
    fn nearest(&self, name: &Name, record_type: RecordType) -> ZoneServers {
        let known = self.zones();
        let now = Instant::now();
        let mut at = if record_type == RecordType::DS { name.base_name() } else { name.clone() };
        while !at.is_root() {
            if let Some(zone) = known.get(&at).filter(|zone| zone.until > now) {
                return zone.clone();
            }
            at = at.base_name();
        }
        // The root's servers are signed for; that they know EDNS is known.
        let (servers, delegated) = (self.hints.clone(), Delegated::Signed);
        ZoneServers { name: Name::root(), servers, unfound: Vec::new(), delegated, until: now }
    }

    fn add(&self, zone: &Name, server: &Name, found: &[SocketAddr]) {
        let mut zones = self.zones();
        let Some(zone) = zones.get_mut(zone).filter(|_| !found.is_empty()) else { return };
        zone.unfound.retain(|name| name != server);
        let new: Vec<SocketAddr> = found.iter().filter(|ip| !zone.servers.contains(ip)).copied().collect();
        zone.servers.extend(new);
    }

    fn forget(&self, zone: &Name) {
        self.zones().remove(zone);
    }

    fn remember(&self, zone: ZoneServers) {
        let mut known = self.zones();
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

impl ServerFinder for Walk {
    /// What is found is kept with the zone.
    fn find<'a>(
        &'a self,
        zone: &'a ZoneServers,
        server: WireQuestion,
        nesting: usize,
        budget: &'a Budget<'a>,
    ) -> BoxFuture<'a, Vec<SocketAddr>> {
        Box::pin(async move {
            let Some(nesting) = nesting.checked_sub(1) else { return Vec::new() };
            let Ok(message) = self.walk(&server, nesting, budget).await else { return Vec::new() };
            let of_server = message.answers.iter().filter(|record| record.name == server.name);
            let found = self.reachable(of_server.filter_map(referral::address).take(referral::ADDRESSES_LIMIT));
            self.add(&zone.name, &server.name, &found);
            found
        })
    }

    /// A and AAAA, the family first that this host has a way for.
    fn types_to_find(&self) -> [RecordType; 2] {
        let mut four = self.hints.iter().filter(|hint| hint.is_ipv4());
        let no_way = four.clone().next().is_some() && !four.any(|hint| Tcp.has_way_to(hint.ip()));
        if no_way { [RecordType::AAAA, RecordType::A] } else { [RecordType::A, RecordType::AAAA] }
    }

    fn known_servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
