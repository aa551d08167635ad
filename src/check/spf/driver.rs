//! Evaluates a record by the DNS that delivers mail (RFC 7208 §4).

use super::record::{NamedHosts, SpfMechanism, Term, is_record, terms};
use super::{SpfResult, SpfSeen};
use crate::pipeline::outbound::Outbound;
use crate::resolve::dnssec::Outcome;
use crate::resolve::driver::LookupFailure;
use crate::smtp::address::Domain;
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::IpAddr;

/// Look-ups that one evaluation may cost (RFC 7208 §4.6.4); more is a fault of the record.
const LOOK_UPS_LIMIT: usize = 10;
/// Hosts of one `mx` (RFC 7208 §4.6.4).
const MX_LIMIT: usize = 10;

/// The record of a domain and what it says of an address.
pub(in crate::check) async fn evaluate(out: &Outbound, domain: &Domain, address: IpAddr) -> SpfSeen {
    let mut evaluation = Evaluation { out, address, left: LOOK_UPS_LIMIT };
    let record = match evaluation.record(&domain.to_string()).await {
        Ok(record) => record,
        Err(result) => return SpfSeen { record: None, result },
    };
    let result = evaluation.decide(&domain.to_string(), &record).await;
    SpfSeen { record: Some(record), result }
}

/// One evaluation with what it may still cost.
struct Evaluation<'a> {
    out: &'a Outbound,
    address: IpAddr,
    left: usize,
}

impl Evaluation<'_> {
    /// The one record of a domain (RFC 7208 §4.5).
    async fn record(&self, domain: &str) -> Result<String, SpfResult> {
        let found = self.ask(domain, RecordType::TXT).await?;
        let texts = found.iter().filter_map(|data| if let RData::TXT(txt) = data { Some(txt) } else { None });
        let texts = texts.map(|txt| txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect::<String>());
        let mut records = texts.filter(|text| is_record(text));
        match (records.next(), records.next()) {
            (None, _) => Err(SpfResult::NoRecord),
            (Some(record), None) => Ok(record),
            (Some(_), Some(_)) => Err(SpfResult::Invalid(format!("{domain} has several records"))),
        }
    }

    /// Recursion ends with the look-ups that may be made.
    async fn decide(&mut self, domain: &str, record: &str) -> SpfResult {
        let terms = match terms(record) {
            Ok(terms) => terms,
            Err(wrong) => return SpfResult::Invalid(format!("{domain}: {wrong}")),
        };
        let mut further = None;
        for term in terms {
            match term {
                Term::Directive { result, mechanism } => match self.fits(domain, &mechanism).await {
                    Ok(true) => return result,
                    Ok(false) => {}
                    Err(stopped) => return stopped,
                },
                Term::Redirect(to) => further = Some(to),
                Term::Other => {}
            }
        }
        match further {
            None => SpfResult::Neutral,
            Some(to) => {
                let result = self.other(&to).await;
                if result == SpfResult::NoRecord {
                    return SpfResult::Invalid(format!("redirect={to}, where there is no record"));
                }
                result
            }
        }
    }

    /// What the record of another domain says.
    async fn other(&mut self, domain: &str) -> SpfResult {
        if let Err(stopped) = self.pay() {
            return stopped;
        }
        match self.record(domain).await {
            Ok(record) => Box::pin(self.decide(domain, &record)).await,
            Err(result) => result,
        }
    }

    async fn fits(&mut self, domain: &str, mechanism: &SpfMechanism) -> Result<bool, SpfResult> {
        match mechanism {
            SpfMechanism::All => Ok(true),
            SpfMechanism::Network(network) => Ok(network.contains(&self.address)),
            SpfMechanism::Unknown(text) => Err(SpfResult::Depends(text.clone())),
            SpfMechanism::Include(other) => match self.other(other).await {
                SpfResult::Pass => Ok(true),
                SpfResult::Fail | SpfResult::SoftFail | SpfResult::Neutral => Ok(false),
                SpfResult::NoRecord => Err(SpfResult::Invalid(format!("include:{other}, where there is no record"))),
                stopped @ (SpfResult::Invalid(_) | SpfResult::Unavailable(_) | SpfResult::Depends(_)) => Err(stopped),
            },
            SpfMechanism::A(hosts) => {
                self.pay()?;
                self.host_fits(hosts.name.as_deref().unwrap_or(domain), hosts).await
            }
            SpfMechanism::Mx(hosts) => {
                self.pay()?;
                self.servers_fit(hosts.name.as_deref().unwrap_or(domain), hosts).await
            }
        }
    }

    async fn servers_fit(&self, name: &str, hosts: &NamedHosts) -> Result<bool, SpfResult> {
        let found = self.ask(name, RecordType::MX).await?;
        let servers = found.iter().filter_map(|data| if let RData::MX(mx) = data { Some(&mx.exchange) } else { None });
        for server in servers.take(MX_LIMIT) {
            if self.host_fits(&server.to_string(), hosts).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn host_fits(&self, name: &str, hosts: &NamedHosts) -> Result<bool, SpfResult> {
        let kind = if self.address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        let found = self.ask(name, kind).await?;
        Ok(found.iter().filter_map(RData::ip_addr).any(|host| hosts.covers(host, self.address)))
    }

    fn pay(&mut self) -> Result<(), SpfResult> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(SpfResult::Invalid(format!("it costs more than {LOOK_UPS_LIMIT} look-ups"))),
        }
    }

    /// Nothing where the name or the type is not there.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, SpfResult> {
        let absolute = Name::from_ascii(format!("{}.", name.trim_end_matches('.')));
        let Ok(absolute) = absolute else { return Err(SpfResult::Invalid(format!("\"{name}\" is no name"))) };
        match &self.out.dns.find(&absolute, kind).await.result {
            Ok(validated) => match &validated.outcome {
                Outcome::Found { records, .. } => Ok(records.iter().map(|record| record.data.clone()).collect()),
                Outcome::NoData { .. } | Outcome::NxDomain { .. } => Ok(Vec::new()),
                Outcome::ErrorCode(code) => Err(SpfResult::Unavailable(format!("{name} {kind}: {code}"))),
            },
            Err(LookupFailure::Bogus(reason)) => Err(SpfResult::Unavailable(format!("{name} {kind}: {reason}"))),
            Err(LookupFailure::Unavailable) => Err(SpfResult::Unavailable(format!("{name} {kind}: no usable answer"))),
        }
    }
}
