//! What is known of one receiving domain, without a check: what the DNS says of its mail servers, how the last
//! deliveries went, and what is kept of it.
//!
//! The DNS is asked as delivery asks it, through the same cache, beside whoever wants to know: a page shows what has
//! come so far. Bounded: few domains are looked up at once, and few are remembered, for a minute.

use super::Api;
use super::checks::{CheckState, Checks};
use super::reading::{ApiFault, blocking, policies};
use crate::check::CauseRow;
use crate::check::posture::store::WatchedDomain;
use crate::check::posture::view;
use crate::clock::Timestamp;
use crate::command::policy_list::KeptPolicy;
use crate::outcome::{Cause, TlsVerdict};
use crate::pipeline::outbound::Outbound;
use crate::policy::dane;
use crate::resolve::{AbsentBecause, HostAddresses, HostsFrom, MxHost, Resolution, Security, TlsaLookup};
use crate::route;
use crate::smtp::address::{Domain, Host};
use crate::spool::ledger::{DeliveriesWanted, PastDelivery};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Deliveries that are shown.
const MOST_DELIVERIES: usize = 10;
/// Recipients among whom they are looked for: the newest.
const AMONG: u32 = 5_000;
/// Domains whose answers are remembered.
const MOST_DOMAINS: usize = 100;
/// Domains that are looked up at once; of others nothing is known meanwhile.
const MOST_AT_ONCE: usize = 8;
/// For so long an answer of the DNS is shown without asking again.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// How long the DNS may take, over all its questions.
const LONGEST: Duration = Duration::from_secs(20);
/// Mail servers that are shown.
const MOST_HOSTS: usize = 20;

/// All that is known of a domain.
#[derive(Debug, Serialize)]
pub(super) struct DomainView {
    /// The domain.
    pub(super) domain: String,
    /// What the DNS says; none while it is being asked.
    pub(super) dns: Option<DomainDns>,
    /// The MTA-STS policy that is kept.
    pub(super) policy: Option<KeptPolicy>,
    /// What the watch has found.
    pub(super) posture: Option<WatchedDomain>,
    /// The last deliveries, the newest messages first.
    pub(super) deliveries: Vec<PastDelivery>,
    /// The most recipients among whom they were looked for.
    pub(super) deliveries_among: u32,
}

/// What the DNS says of the mail servers of a domain.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DomainDns {
    /// When it was asked.
    pub(super) at: Timestamp,
    /// Where mail goes.
    pub(super) next_hop: String,
    /// Where the hosts come from.
    pub(super) hosts_from: Option<HostsFrom>,
    /// What DNSSEC says of the MX records.
    pub(super) mx_security: Option<Security>,
    /// Why nothing can be said.
    pub(super) fault: Option<DnsFault>,
    /// The hosts, in the order in which they are tried.
    pub(super) hosts: Vec<HostDns>,
}

/// What the DNS says of a mail server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HostDns {
    /// Its name.
    pub(super) name: String,
    /// Its preference.
    pub(super) preference: u16,
    /// What DNSSEC says of its addresses.
    pub(super) security: Security,
    /// Its addresses.
    pub(super) addresses: Vec<String>,
    /// Why there is no DANE, where there is none.
    #[serde(serialize_with = "phrase")]
    pub(super) no_dane: Option<AbsentBecause>,
    /// Why addresses or TLSA records are not known.
    pub(super) fault: Option<DnsFault>,
    /// Its TLSA records.
    pub(super) tlsa: Vec<MarkedTlsa>,
}

/// Why the DNS gave no answer that can be used.
#[derive(Clone, Debug)]
pub(super) struct DnsFault(pub(super) Cause);

impl Serialize for DnsFault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        CauseRow::from(&self.0).serialize(serializer)
    }
}

#[expect(clippy::ref_option, reason = "serde hands it over so")]
fn phrase<S: Serializer>(because: &Option<AbsentBecause>, serializer: S) -> Result<S::Ok, S::Error> {
    because.map(AbsentBecause::phrase).serialize(serializer)
}

/// A TLSA record, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MarkedTlsa {
    /// As zone files write it.
    pub(super) record: String,
    /// Whether DANE for SMTP can use it.
    pub(super) usable: bool,
    /// Whether a certificate of the host matched it lately, in a delivery or a check.
    pub(super) matched: bool,
}

/// What the DNS said lately, by domain.
#[derive(Default)]
pub(super) struct DomainLookUps(Mutex<Vec<DomainLookUp>>);

struct DomainLookUp {
    domain: Domain,
    begun: Timestamp,
    answer: watch::Receiver<Option<Arc<DomainDns>>>,
}

/// All that is known of a domain now; the DNS is waited for no longer than `patience`.
///
/// # Errors
/// When what is kept cannot be read.
pub(super) async fn known(api: &Api, domain: &Domain, patience: Duration) -> Result<DomainView, ApiFault> {
    let out = api.operator.pipeline().out.clone();
    let coming = api.look_ups.begin(&out, domain);
    let wanted = DeliveriesWanted { domain: domain.clone(), most: MOST_DELIVERIES, among: Some(AMONG) };
    let deliveries = api.operator.ledger().await?.delivered(&wanted).await?;
    let policy = policies(api).await?.into_iter().find(|policy| policy.domain == domain.as_str());
    let asked = domain.clone();
    let posture = blocking(api, move |config| view::show(config, &asked)).await?;
    let dns = match coming {
        None => None,
        Some(mut coming) => {
            let come = timeout(patience, coming.wait_for(Option::is_some)).await;
            come.ok().and_then(Result::ok).and_then(|dns| dns.clone())
        }
    };
    let matched = matched_lately(&deliveries, &api.checks, domain);
    let dns = dns.map(|dns| dns.marked(&matched));
    let domain = domain.to_string();
    Ok(DomainView { domain, dns, policy, posture, deliveries, deliveries_among: AMONG })
}

impl DomainLookUps {
    /// The answer, as soon as it comes; none where too many are being looked up.
    fn begin(&self, out: &Outbound, domain: &Domain) -> Option<watch::Receiver<Option<Arc<DomainDns>>>> {
        let now = out.clock.now();
        let mut known = self.known();
        known.retain(|one| now.since(one.begun) < GOOD_FOR);
        if let Some(one) = known.iter().find(|one| one.domain == *domain) {
            return Some(one.answer.clone());
        }
        if known.iter().filter(|one| one.answer.borrow().is_none()).count() >= MOST_AT_ONCE {
            return None;
        }
        if known.len() >= MOST_DOMAINS {
            known.remove(0);
        }
        let (teller, answer) = watch::channel(None);
        known.push(DomainLookUp { domain: domain.clone(), begun: now, answer: answer.clone() });
        let (out, domain) = (out.clone(), domain.clone());
        tokio::spawn(async move {
            let asked = timeout(LONGEST, Box::pin(look_up(&out, &domain))).await;
            let none = || DomainDns::none(&domain, out.clock.now());
            teller.send_replace(Some(Arc::new(asked.unwrap_or_else(|_elapsed| none()))));
        });
        Some(answer)
    }

    fn known(&self) -> MutexGuard<'_, Vec<DomainLookUp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look_up(out: &Outbound, domain: &Domain) -> DomainDns {
    let (config, at) = (&out.config, out.clock.now());
    let route = route::route(&Host::Domain(domain.clone()), None, &config.destination, config.delivery.port);
    let found = out.resolve(&route.hop, u64::try_from(at.0).unwrap_or_default()).await;
    DomainDns { next_hop: route.hop.to_string(), ..DomainDns::of(domain, at, found.as_ref()) }
}

impl DomainDns {
    /// It did not come.
    fn none(domain: &Domain, at: Timestamp) -> Self {
        Self { at, next_hop: domain.to_string(), hosts_from: None, mx_security: None, fault: None, hosts: Vec::new() }
    }

    fn of(domain: &Domain, at: Timestamp, found: Result<&Resolution, &Cause>) -> Self {
        let none = Self::none(domain, at);
        match found {
            Err(cause) => Self { fault: Some(DnsFault(cause.clone())), ..none },
            Ok(resolution) => Self {
                hosts_from: Some(resolution.hosts_from),
                mx_security: Some(resolution.mx_security),
                hosts: resolution.hosts.iter().take(MOST_HOSTS).map(HostDns::of).collect(),
                ..none
            },
        }
    }

    fn marked(&self, matched: &BTreeSet<MatchedRecord>) -> Self {
        let mut marked = self.clone();
        for host in &mut marked.hosts {
            for record in &mut host.tlsa {
                let asked = MatchedRecord { host: host.name.clone(), record: record.record.clone() };
                record.matched = record.usable && matched.contains(&asked);
            }
        }
        marked
    }
}

impl HostDns {
    fn of(host: &MxHost) -> Self {
        let (addresses, unknown) = match &host.addresses {
            HostAddresses::Known(addresses) => (addresses.iter().map(ToString::to_string).collect(), None),
            HostAddresses::Unavailable(cause) => (Vec::new(), Some(cause)),
        };
        let (no_dane, unavailable, tlsa) = match &host.tlsa {
            TlsaLookup::Absent(because) => (Some(*because), None, Vec::new()),
            TlsaLookup::Unavailable(cause) => (None, Some(cause), Vec::new()),
            TlsaLookup::Present { records, .. } => {
                let usable = dane::usable(records);
                let marked = records.iter().map(|record| MarkedTlsa {
                    record: record.to_string(),
                    usable: usable.contains(record),
                    matched: false,
                });
                (None, None, marked.collect())
            }
        };
        Self {
            name: host.name.clone(),
            preference: host.preference,
            security: host.security,
            addresses,
            no_dane,
            fault: unknown.or(unavailable).cloned().map(DnsFault),
            tlsa,
        }
    }
}

/// A record that a certificate of a host matched.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MatchedRecord {
    host: String,
    record: String,
}

/// What matched in the last deliveries, and in the last check of the domain that is remembered.
fn matched_lately(deliveries: &[PastDelivery], checks: &Checks, domain: &Domain) -> BTreeSet<MatchedRecord> {
    let delivered = deliveries.iter().filter_map(|one| match &one.tls {
        TlsVerdict::Dane { matched, .. } | TlsVerdict::WebPkiAndDane { matched, .. } => {
            Some(MatchedRecord { host: one.peer.host.clone(), record: matched.clone() })
        }
        TlsVerdict::ClearText | TlsVerdict::Unauthenticated { .. } | TlsVerdict::WebPki { .. } => None,
    });
    let checked = checks.all().into_iter().find(|one| one.domain == domain.as_str() && one.state == CheckState::Done);
    let report = checked.and_then(|one| one.report).unwrap_or_default();
    delivered.chain(matched_in(&report)).collect()
}

fn matched_in(report: &Value) -> Vec<MatchedRecord> {
    let hosts = report["hosts"].as_array().into_iter().flatten();
    let of_host = |host: &Value| {
        let name = host["name"].as_str().unwrap_or_default().to_owned();
        let records = host["tlsa"].as_array().cloned().unwrap_or_default().into_iter();
        let matched = records.filter(|record| record["matched"] == true);
        let record = |record: Value| Some(record.get("record")?.as_str()?.to_owned());
        matched.filter_map(record).map(|record| MatchedRecord { host: name.clone(), record }).collect::<Vec<_>>()
    };
    hosts.flat_map(of_host).collect()
}
