//! Whether the SPF record of a sender domain covers the address that mail leaves from (RFC 7208): receivers ask
//! the same, and refuse or suspect what is not covered.
//!
//! Enough of the language to be sure, and "it cannot be told" for the rest: macros, `exists` and `ptr`.

use super::{SelfCheck, is_inward, records};
use crate::check::verdict::Verdict;
use crate::pipeline::outbound::Outbound;
use crate::smtp::address::{Domain, Host};
use futures_util::future::BoxFuture;
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::IpNet;
use std::net::IpAddr;

/// Terms that may lead to further questions, of one evaluation (RFC 7208 §4.6.4).
const QUESTIONS_LIMIT: usize = 10;
/// Records of MX that are looked at of one term (RFC 7208 §4.6.4).
const MX_LIMIT: usize = 10;

/// What a record says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpfResult {
    /// `+`
    Pass,
    /// `-`
    Fail,
    /// `~`
    SoftFail,
    /// `?`, or nothing fits.
    Neutral,
    /// There is no record.
    Absent,
    /// The record breaks the rules, or asks for more than we look at.
    Unclear,
}

/// The domain of the postmaster, for every address that mail leaves from and that others see.
pub(super) async fn look(out: &Outbound, egress: &[IpAddr]) -> SelfCheck {
    const CHECK: &str = "spf";
    let domain = out.config.postmaster.as_ref().and_then(|mailbox| match mailbox.host() {
        Host::Domain(domain) => Some(domain.clone()),
        Host::Literal(_) => None,
    });
    let Some(domain) = domain else {
        return SelfCheck::not_looked_at(CHECK, "postmaster names no domain that mail is sent from");
    };
    let outward: Vec<IpAddr> = egress.iter().copied().filter(|address| !is_inward(*address)).collect();
    if outward.is_empty() {
        return SelfCheck::not_looked_at(CHECK, "the address that others see is not one of this host's");
    }
    let mut said = Vec::new();
    for address in outward {
        said.push(about(out, &domain, address).await);
    }
    let status = said.iter().map(|(status, _)| *status).max_by_key(|status| status.weight()).unwrap_or(Verdict::Ok);
    SelfCheck::new(CHECK, status, said.into_iter().map(|(_, detail)| detail).collect::<Vec<_>>().join("; "))
}

async fn about(out: &Outbound, domain: &Domain, address: IpAddr) -> (Verdict, String) {
    let result = match Name::from_ascii(format!("{domain}.")) {
        Ok(name) => Evaluation { out, address, left: QUESTIONS_LIMIT }.check(name).await,
        Err(_no_name) => SpfResult::Unclear,
    };
    match result {
        SpfResult::Pass => (Verdict::Ok, format!("{domain} lets {address} send (SPF)")),
        SpfResult::Fail => {
            (Verdict::Fault, format!("the SPF record of {domain} forbids {address}: receivers refuse its mail"))
        }
        SpfResult::SoftFail | SpfResult::Neutral => {
            (Verdict::Warning, format!("the SPF record of {domain} does not cover {address}"))
        }
        SpfResult::Absent => (Verdict::Warning, format!("{domain} has no SPF record")),
        SpfResult::Unclear => (Verdict::Warning, format!("the SPF record of {domain} cannot be judged for {address}")),
    }
}

struct Evaluation<'a> {
    out: &'a Outbound,
    address: IpAddr,
    left: usize,
}

/// What one term comes to.
enum Term {
    Fits,
    Passes,
    Unclear,
}

impl Evaluation<'_> {
    /// RFC 7208 §4: the terms from left to right; the first that fits decides.
    fn check(&mut self, domain: Name) -> BoxFuture<'_, SpfResult> {
        Box::pin(async move {
            let Some(record) = self.record(&domain).await else { return SpfResult::Absent };
            let mut redirect = None;
            for term in record.split_ascii_whitespace().skip(1) {
                if let Some(to) = term.strip_prefix("redirect=") {
                    redirect = Some(to.to_owned());
                    continue;
                }
                let (result, mechanism) = qualifier(term);
                match self.term(mechanism, &domain).await {
                    Term::Fits => return result,
                    Term::Passes => {}
                    Term::Unclear => return SpfResult::Unclear,
                }
            }
            match redirect.map(|to| Name::from_ascii(format!("{}.", to.trim_end_matches('.')))) {
                Some(Ok(to)) if self.may_ask() => match self.check(to).await {
                    SpfResult::Absent => SpfResult::Unclear,
                    result => result,
                },
                Some(_) => SpfResult::Unclear,
                None => SpfResult::Neutral,
            }
        })
    }

    /// The one record that begins with the version (RFC 7208 §4.5).
    async fn record(&self, domain: &Name) -> Option<String> {
        let all = records(self.out, domain, RecordType::TXT).await;
        let texts = all.iter().filter_map(|data| if let RData::TXT(text) = data { Some(text) } else { None });
        let mut ours =
            texts.map(|text| text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect::<String>());
        ours.find(|text| text == "v=spf1" || text.starts_with("v=spf1 "))
    }

    const fn may_ask(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    async fn term(&mut self, mechanism: &str, domain: &Name) -> Term {
        let lower = mechanism.to_ascii_lowercase();
        let (kind, rest) = lower
            .split_once([':', '/'])
            .map_or((lower.as_str(), ""), |(kind, _)| (kind, lower.get(kind.len()..).unwrap_or_default()));
        if lower.contains('%') {
            return Term::Unclear;
        }
        match kind {
            "all" => Term::Fits,
            "ip4" | "ip6" => fits(rest.trim_start_matches(':'), self.address),
            // Modifiers that decide nothing (RFC 7208 §6.2, §6).
            _ if kind.contains('=') => Term::Passes,
            "include" | "a" | "mx" if !self.may_ask() => Term::Unclear,
            "include" => match Name::from_ascii(format!("{}.", rest.trim_start_matches(':').trim_end_matches('.'))) {
                Ok(to) => match self.check(to).await {
                    SpfResult::Pass => Term::Fits,
                    SpfResult::Fail | SpfResult::SoftFail | SpfResult::Neutral => Term::Passes,
                    SpfResult::Absent | SpfResult::Unclear => Term::Unclear,
                },
                Err(_no_name) => Term::Unclear,
            },
            "a" | "mx" => self.by_name(kind, rest, domain).await,
            _ => Term::Unclear,
        }
    }

    /// `a:host/24//64`: the addresses of a name, or of its mail hosts.
    async fn by_name(&self, kind: &str, rest: &str, domain: &Name) -> Term {
        let (named, lengths) = rest.split_once('/').map_or((rest, ""), |(named, lengths)| (named, lengths));
        let named = named.trim_start_matches(':').trim_end_matches('.');
        let name = if named.is_empty() { Ok(domain.clone()) } else { Name::from_ascii(format!("{named}.")) };
        let Ok(name) = name else { return Term::Unclear };
        let mut hosts = vec![name.clone()];
        if kind == "mx" {
            let all = records(self.out, &name, RecordType::MX).await;
            hosts = all
                .iter()
                .filter_map(|data| if let RData::MX(mx) = data { Some(mx.exchange.clone()) } else { None })
                .collect();
        }
        let (v4, v6) = lengths.split_once("//").unwrap_or((lengths.trim_start_matches('/'), lengths));
        let length = if self.address.is_ipv4() { v4 } else { v6.trim_start_matches('/') };
        let kind = if self.address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        for host in hosts.iter().take(MX_LIMIT) {
            for data in records(self.out, host, kind).await {
                let Some(address) = data.ip_addr() else { continue };
                let full = if address.is_ipv4() { 32 } else { 128 };
                let network = IpNet::new(address, length.parse().unwrap_or(full));
                if network.is_ok_and(|network| network.contains(&self.address)) {
                    return Term::Fits;
                }
            }
        }
        Term::Passes
    }
}

fn qualifier(term: &str) -> (SpfResult, &str) {
    let by = [("+", SpfResult::Pass), ("-", SpfResult::Fail), ("~", SpfResult::SoftFail), ("?", SpfResult::Neutral)];
    let found = by.into_iter().find_map(|(sign, result)| Some((result, term.strip_prefix(sign)?)));
    found.unwrap_or((SpfResult::Pass, term))
}

/// An address, or a network.
fn fits(text: &str, address: IpAddr) -> Term {
    let network = text.parse::<IpNet>().or_else(|_no_network| text.parse::<IpAddr>().map(IpNet::from));
    match network {
        Ok(network) if network.contains(&address) => Term::Fits,
        Ok(_) => Term::Passes,
        Err(_) => Term::Unclear,
    }
}
