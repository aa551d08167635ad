//! The questions in their order: MX, then addresses, then TLSA only where the addresses are
//! secure (RFC 5321 §5.1, RFC 7672 §2.2).

use super::answer::{Answer, Data, PositiveAnswer, RecordType, Trace};
use super::driver::Dns;
use super::own::Way;
use super::{
    AbsentBecause, HostAddresses, HostsFrom, MxHost, Resolution, Security, TlsaLookup, TlsaRecord, order_hosts,
};
use crate::outcome::{Cause, Question};
use crate::smtp::address::Domain;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// MX hosts looked at; worse ones are left out. Real domains have fewer than ten. That none of
/// these has an address says nothing about the others.
const MX_HOSTS_LIMIT: usize = 16;

/// Addresses of one family looked at of one host, more than are ever tried. Whoever publishes
/// thousands must not make the relay look for a way to each of them.
const ADDRESSES_LIMIT: usize = 16;

/// Asks, and keeps the traces of the answers.
pub(super) struct Asker<'a> {
    pub(super) dns: &'a Dns,
    traces: Mutex<Vec<Trace>>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(dns: &'a Dns) -> Self {
        Self { dns, traces: Mutex::default() }
    }

    async fn lookup(&self, name: &str, record_type: RecordType) -> Answer {
        self.lookup_by(Way::Configured, name, record_type).await
    }

    pub(super) async fn lookup_by(&self, way: Way, name: &str, record_type: RecordType) -> Answer {
        let (answer, trace) = self.dns.lookup_by(way, name, record_type).await;
        // What the system does not know has the next look-up to answer for it, and stands in the
        // cause where that does not either.
        if way == Way::Configured || trace.path.is_some() {
            self.traces.lock().unwrap_or_else(PoisonError::into_inner).push(trace);
        }
        answer
    }

    /// The order of hosts is shuffled and answers race each other; traces stand in a fixed order.
    pub(super) fn traces(self) -> Vec<Trace> {
        let mut traces = self.traces.into_inner().unwrap_or_else(PoisonError::into_inner);
        traces.sort_by_cached_key(|trace| (trace.question.record_type.clone(), trace.question.name.clone()));
        traces
    }
}

/// Finds the MX hosts of a recipient domain.
///
/// `seed` shuffles hosts of equal preference.
///
/// # Errors
/// The [`Cause`] that stops all mail to this domain: no such domain, null MX, no usable answer.
pub async fn resolve_domain(dns: &Dns, domain: &Domain, port: u16, seed: u64) -> Result<Resolution, Cause> {
    if dns.has_no_dns(domain.as_str()) {
        return Err(Cause::SpecialUseDomain { domain: domain.clone() });
    }
    let dns = Asker::new(dns);
    let (mut exchanges, hosts_from, mx_security, expanded) = match dns.lookup(domain.as_str(), RecordType::Mx).await {
        Answer::Found(found) => {
            let exchanges = exchanges(&found, domain)?;
            (exchanges, HostsFrom::Mx, found.security, found.expanded)
        }
        // RFC 5321 §5.1: without MX records the domain is its own host, at preference 0.
        Answer::NoData(security) => (vec![(0, domain.clone())], HostsFrom::ImplicitMx, security, None),
        Answer::NxDomain(_) => return Err(Cause::DomainNotFound { domain: domain.clone() }),
        Answer::Failed(cause) => return Err(cause),
    };
    order_hosts(&mut exchanges, seed);
    let all_looked_at = exchanges.len() <= MX_HOSTS_LIMIT;
    exchanges.truncate(MX_HOSTS_LIMIT);
    let hosts = join_all(exchanges.iter().map(|(preference, name)| resolve_host(&dns, name, *preference, port))).await;
    let known = |host: &MxHost| host.addresses != HostAddresses::Known(Vec::new());
    if !hosts.iter().any(known) {
        let question = Question { name: domain.to_string(), record_type: RecordType::Mx.word().to_owned() };
        let unknown = Cause::DnsUnavailable { question, tried: Vec::new() };
        return Err(if all_looked_at { Cause::NoMailHost { domain: domain.clone() } } else { unknown });
    }
    let references = match mx_security {
        Security::Secure => std::iter::once(domain.clone()).chain(expanded).collect(),
        Security::Insecure | Security::Bogus | Security::Indeterminate => Vec::new(),
    };
    Ok(Resolution {
        next_hop: domain.to_string(),
        port,
        hosts_from,
        mx_security,
        references,
        hosts,
        traces: dns.traces(),
    })
}

/// Looks up one host of the public DNS by its name: its addresses and TLSA records, no MX.
///
/// # Errors
/// [`Cause::NoMailHost`] when it has no address.
pub async fn resolve_named_host(dns: &Dns, name: &Domain, port: u16) -> Result<Resolution, Cause> {
    let dns = Asker::new(dns);
    let host = resolve_host(&dns, name, 0, port).await;
    if host.addresses == HostAddresses::Known(Vec::new()) {
        return Err(Cause::NoMailHost { domain: name.clone() });
    }
    Ok(of_named_host(name, port, host, dns.traces()))
}

/// A next hop that is this one host, because the operator says so.
pub(super) fn of_named_host(name: &Domain, port: u16, host: MxHost, traces: Vec<Trace>) -> Resolution {
    Resolution {
        next_hop: name.to_string(),
        port,
        hosts_from: HostsFrom::Configuration,
        // The operator's word needs no signature.
        mx_security: Security::Secure,
        references: vec![name.clone()],
        hosts: vec![host],
        traces,
    }
}

/// A next hop that is an address: nothing to look up, and DANE cannot apply (RFC 7672 §2.2).
#[must_use]
pub fn literal(address: IpAddr, port: u16) -> Resolution {
    let host = MxHost {
        name: address.to_string(),
        preference: 0,
        addresses: HostAddresses::Known(vec![address]),
        security: Security::Insecure,
        tlsa: TlsaLookup::Absent(AbsentBecause::AddressLiteral),
    };
    Resolution {
        next_hop: address.to_string(),
        port,
        hosts_from: HostsFrom::Configuration,
        mx_security: Security::Insecure,
        references: Vec::new(),
        hosts: vec![host],
        traces: Vec::new(),
    }
}

fn exchanges(found: &PositiveAnswer, domain: &Domain) -> Result<Vec<(u16, Domain)>, Cause> {
    let mut hosts = Vec::new();
    let mut null = false;
    for data in &found.data {
        match data {
            Data::Mx(preference, Some(name)) => hosts.push((*preference, name.clone())),
            Data::Mx(_, None) => null = true,
            Data::Address(_) | Data::Tlsa(_) | Data::Txt(_) => {}
        }
    }
    // A host that stands there twice counts once, at its best.
    hosts.sort();
    let mut seen = BTreeSet::new();
    hosts.retain(|(_, name)| seen.insert(name.clone()));
    // RFC 7505 §3: `0 .` counts only alone; beside real hosts it is ignored.
    match (hosts.is_empty(), null) {
        (true, true) => Err(Cause::NullMx { domain: domain.clone() }),
        (true, false) => Err(Cause::NoMailHost { domain: domain.clone() }),
        (false, _) => Ok(hosts),
    }
}

pub(super) async fn resolve_host(dns: &Asker<'_>, name: &Domain, preference: u16, port: u16) -> MxHost {
    let (v6, v4) = tokio::join!(dns.lookup(name.as_str(), RecordType::Aaaa), dns.lookup(name.as_str(), RecordType::A),);
    let found = combine(v6, v4);
    let tlsa = tlsa_of_host(dns, name, port, &found).await;
    MxHost { name: name.to_string(), preference, addresses: found.addresses, security: found.security, tlsa }
}

/// A and AAAA taken together.
pub(super) struct Addresses {
    pub(super) addresses: HostAddresses,
    security: Security,
    expanded: Option<Domain>,
    first_alias: Option<Security>,
}

/// One family suffices: the other may fail without harm, since each answer proves itself (RFC 4035 §5), and
/// is then not connected to. Nor does the failure decide about DANE (RFC 7672 §2.2.2): what was found
/// is at the same name, and secure stays secure. Insecure is a proof, too: from the zone that
/// delegates, about the name and all its types; who can make one family fail cannot make that proof.
/// Where nothing was found and one family is not known, nothing is: that host waits.
pub(super) fn combine(v6: Answer, v4: Answer) -> Addresses {
    let mut all = Vec::new();
    let mut failure = None;
    let mut links: Option<PositiveAnswer> = None;
    let mut denied = None;
    for answer in [v6, v4] {
        match answer {
            Answer::Found(found) => {
                let addresses = found.data.iter().filter_map(|data| match data {
                    Data::Address(address) => Some(*address),
                    Data::Mx(..) | Data::Tlsa(_) | Data::Txt(_) => None,
                });
                all.extend(addresses.take(ADDRESSES_LIMIT));
                let weaker = links.as_ref().is_none_or(|l| l.security == Security::Secure);
                if weaker {
                    links = Some(found);
                }
            }
            Answer::NoData(security) | Answer::NxDomain(security) => denied = Some(security),
            Answer::Failed(cause) => failure = Some(cause),
        }
    }
    match (links, failure) {
        (Some(found), _) => Addresses {
            addresses: HostAddresses::Known(all),
            security: found.security,
            expanded: found.expanded,
            first_alias: found.first_alias,
        },
        (None, Some(cause)) => Addresses {
            addresses: HostAddresses::Unavailable(cause),
            security: Security::Indeterminate,
            expanded: None,
            first_alias: None,
        },
        (None, None) => Addresses {
            addresses: HostAddresses::Known(Vec::new()),
            security: denied.unwrap_or(Security::Indeterminate),
            expanded: None,
            first_alias: None,
        },
    }
}

/// RFC 7672 §2.2.2: with secure addresses the fully expanded name is the TLSA base domain, then
/// the original one. When the chain ends insecurely but starts with a secure CNAME, only the
/// original one. With insecure addresses TLSA is not asked for at all.
async fn tlsa_of_host(dns: &Asker<'_>, name: &Domain, port: u16, found: &Addresses) -> TlsaLookup {
    match &found.addresses {
        HostAddresses::Unavailable(cause) => return TlsaLookup::Unavailable(cause.clone()),
        HostAddresses::Known(addresses) if addresses.is_empty() => {
            return TlsaLookup::Absent(AbsentBecause::AddressesInsecure);
        }
        HostAddresses::Known(_) => {}
    }
    let secure = found.security == Security::Secure;
    if dns.dns.own.is_in_private_zone(name.as_str()) {
        return TlsaLookup::Absent(AbsentBecause::PrivateName);
    }
    if !secure && found.first_alias != Some(Security::Secure) {
        return TlsaLookup::Absent(AbsentBecause::AddressesInsecure);
    }
    if let (true, Some(expanded)) = (secure, &found.expanded) {
        match tlsa(dns, expanded, port).await {
            TlsaLookup::Absent(_) => {}
            found @ (TlsaLookup::Present { .. } | TlsaLookup::Unavailable(_)) => return found,
        }
    }
    tlsa(dns, name, port).await
}

pub(super) async fn tlsa(dns: &Asker<'_>, base_domain: &Domain, port: u16) -> TlsaLookup {
    // RFC 7672 §2.2.3: the real port, before the base domain.
    let owner = format!("_{port}._tcp.{base_domain}");
    match dns.lookup(&owner, RecordType::Tlsa).await {
        Answer::Found(found) => match found.security {
            Security::Secure => TlsaLookup::Present { base_domain: base_domain.clone(), records: tlsa_records(&found) },
            insecure @ (Security::Insecure | Security::Bogus | Security::Indeterminate) => {
                without_tlsa(insecure, owner)
            }
        },
        Answer::NoData(security) | Answer::NxDomain(security) => without_tlsa(security, owner),
        Answer::Failed(cause) => TlsaLookup::Unavailable(cause),
    }
}

/// What an answer without secure records means. Only a proof of absence, or a proof that the
/// zone is not signed, lets DANE go.
fn without_tlsa(security: Security, owner: String) -> TlsaLookup {
    match security {
        Security::Secure => TlsaLookup::Absent(AbsentBecause::ProvenAbsent),
        Security::Insecure => TlsaLookup::Absent(AbsentBecause::TlsaInsecure),
        Security::Bogus | Security::Indeterminate => {
            let question = Question { name: owner, record_type: RecordType::Tlsa.word().to_owned() };
            TlsaLookup::Unavailable(Cause::DnsUnavailable { question, tried: Vec::new() })
        }
    }
}

fn tlsa_records(found: &PositiveAnswer) -> Vec<TlsaRecord> {
    let record = |data: &Data| match data {
        Data::Tlsa(record) => Some(record.clone()),
        Data::Address(_) | Data::Mx(..) | Data::Txt(_) => None,
    };
    found.data.iter().filter_map(record).collect()
}
