//! `relay dns NAME TYPE`: one validated look-up by the code that delivers mail.
//!
//! Exit codes: 0 for an answer that is secure or provably not signed, 2 bogus, 3 when we could
//! not find out.

use crate::clock::Clock;
use crate::config::Config;
use crate::outcome::PathFailure;
use crate::resolve::dnssec::{Outcome, Validated, ZoneLink};
use crate::resolve::driver::{Dns, Lookup, LookupFailure};
use crate::resolve::error::DnsSetupError;
use crate::resolve::event;
use hickory_proto::rr::{Name, RData, RecordType};
use serde::Serialize;
use std::str::FromStr;

/// Whether the answer may be used, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsStatus {
    /// Signed, with an unbroken chain of trust.
    Secure,
    /// Provably not signed.
    Insecure,
    /// Wrong, on every path.
    Bogus,
    /// We could not find out.
    Error,
}

impl DnsStatus {
    /// The exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Secure | Self::Insecure => 0,
            Self::Bogus => 2,
            Self::Error => 3,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Secure => "secure",
            Self::Insecure => "insecure",
            Self::Bogus => "bogus",
            Self::Error => "error",
        }
    }
}

/// How much is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsDetail {
    /// The answer.
    Answer,
    /// And the chain of trust, zone by zone.
    Chain,
}

/// What the look-up came to.
#[derive(Debug, Serialize)]
pub struct DnsReport {
    /// The name asked for.
    pub name: String,
    /// The type asked for.
    #[serde(rename = "type")]
    pub record_type: String,
    /// Whether the answer may be used.
    pub status: DnsStatus,
    /// `NOERROR` or `NXDOMAIN`; none without an answer.
    pub rcode: Option<&'static str>,
    /// The data of the records, as zone files write it.
    pub records: Vec<String>,
    /// The aliases from the question to the records, in order.
    pub aliases: Vec<AliasReport>,
    /// Why it is not secure.
    pub reason: Option<String>,
    /// The path that answered.
    pub path: Option<String>,
    /// The paths that did not.
    pub failed: Vec<PathFailure>,
    /// How long the answer holds: RFC 3339.
    pub valid_until: Option<String>,
    /// The chain of trust, zone by zone.
    pub chain: Vec<ChainLink>,
}

/// One zone on the way from the root.
#[derive(Debug, Serialize)]
pub struct ChainLink {
    /// The zone, or the name from which on nothing is signed.
    pub zone: String,
    /// What DNSSEC says about it.
    pub security: &'static str,
    /// The tags of its keys, or why it is insecure.
    pub detail: String,
}

impl From<&ZoneLink> for ChainLink {
    fn from(link: &ZoneLink) -> Self {
        Self { zone: link.zone.to_ascii(), security: link.security.word(), detail: link.detail.clone() }
    }
}

/// One alias on the way.
#[derive(Debug, Serialize)]
pub struct AliasReport {
    /// The alias.
    pub from: String,
    /// Where it leads.
    pub to: String,
    /// What DNSSEC says about this link.
    pub security: &'static str,
}

/// Reads the name of a record type: `MX`, `tlsa`, `TYPE65280`.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse_type(text: &str) -> Result<RecordType, String> {
    let upper = text.to_ascii_uppercase();
    if let Some(number) = upper.strip_prefix("TYPE").and_then(|number| number.parse::<u16>().ok()) {
        return Ok(RecordType::from(number));
    }
    RecordType::from_str(&upper)
        .map_err(|_| format!("{text} is no record type; write for example MX, TLSA or TYPE65280"))
}

/// Reads a name as it is written, with or without the dot at the end.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_str(text).map_err(|e| format!("{text} is no domain name: {e}"))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Asks once.
///
/// # Errors
/// When the DNS side cannot be set up.
pub async fn look_up(
    config: &Config,
    clock: Clock,
    name: &Name,
    record_type: RecordType,
) -> Result<DnsReport, DnsSetupError> {
    let dns = Dns::new(config, clock, event::nobody())?;
    if config.dns.mode == crate::config::DnsMode::TrustAd {
        dns.probe().await?;
    }
    Ok(report(name, record_type, &*dns.find(name, record_type).await))
}

fn report(name: &Name, record_type: RecordType, lookup: &Lookup) -> DnsReport {
    let mut report = DnsReport {
        name: name.to_ascii(),
        record_type: type_name(record_type),
        status: DnsStatus::Error,
        rcode: None,
        records: Vec::new(),
        aliases: Vec::new(),
        reason: None,
        path: lookup.path.as_ref().map(ToString::to_string),
        failed: lookup.failed.clone(),
        valid_until: None,
        chain: Vec::new(),
    };
    match &lookup.result {
        Ok(validated) => report.fill(validated),
        Err(LookupFailure::Bogus(detail)) => {
            report.status = DnsStatus::Bogus;
            report.reason = Some(detail.clone());
        }
        Err(LookupFailure::Unavailable) => {
            let said = lookup.failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            report.reason = Some(said);
        }
    }
    report
}

/// `TYPE65280` for types without a name (RFC 3597 §5).
fn type_name(record_type: RecordType) -> String {
    if let RecordType::Unknown(number) = record_type { format!("TYPE{number}") } else { record_type.to_string() }
}

/// The data as zone files write it; of types without a form of their own `\\# 2 00ff`
/// (RFC 3597 §5).
fn data_text(data: &RData) -> String {
    let RData::Unknown { rdata, .. } = data else { return data.to_string() };
    let hex: String = rdata.anything.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\\# {} {hex}", rdata.anything.len())
}

impl DnsReport {
    fn fill(&mut self, validated: &Validated) {
        use crate::resolve::Security;
        self.status = match validated.security {
            Security::Secure => DnsStatus::Secure,
            Security::Insecure => DnsStatus::Insecure,
            Security::Bogus => DnsStatus::Bogus,
            Security::Indeterminate => DnsStatus::Error,
        };
        self.reason = validated.reason.as_ref().map(ToString::to_string);
        self.valid_until = Some(validated.valid_until.rfc3339());
        self.chain = validated.chain.iter().map(ChainLink::from).collect();
        let aliases = match &validated.outcome {
            Outcome::Found { records, aliases, .. } => {
                self.rcode = Some("NOERROR");
                self.records = records.iter().map(|record| data_text(&record.data)).collect();
                aliases.as_slice()
            }
            Outcome::NoData { aliases, .. } => {
                self.rcode = Some("NOERROR");
                aliases
            }
            Outcome::NxDomain { aliases, .. } => {
                self.rcode = Some("NXDOMAIN");
                aliases
            }
            Outcome::ErrorCode(code) => {
                self.rcode = Some(code.to_str());
                &[]
            }
        };
        self.aliases = aliases
            .iter()
            .map(|alias| AliasReport {
                from: alias.from.to_ascii(),
                to: alias.to.to_ascii(),
                security: alias.security.word(),
            })
            .collect();
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self, detail: DnsDetail) -> String {
        let mut out = format!("{}  {} {}", self.status.word().to_uppercase(), self.name, self.record_type);
        if let Some(rcode) = self.rcode {
            out += &format!("  {rcode}");
        }
        out.push('\n');
        for alias in &self.aliases {
            out += &format!("  alias   {} -> {} ({})\n", alias.from, alias.to, alias.security);
        }
        for record in &self.records {
            out += &format!("  record  {record}\n");
        }
        if let Some(reason) = &self.reason {
            out += &format!("  reason  {reason}\n");
        }
        if let Some(path) = &self.path {
            out += &format!("  path    {path}\n");
        }
        for failure in &self.failed {
            out += &format!("  failed  {failure}\n");
        }
        if detail == DnsDetail::Chain {
            for link in &self.chain {
                out += &format!("  chain   {} {}: {}\n", link.zone, link.security, link.detail);
            }
            if let Some(until) = &self.valid_until {
                out += &format!("  until   {until}\n");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_name_and_by_number() {
        for name in ["A", "AAAA", "MX", "TLSA", "CNAME", "TXT", "DNSKEY", "DS", "SOA", "NS", "CAA", "PTR", "SRV"] {
            assert_eq!(parse_type(name).unwrap().to_string(), name);
        }
        assert_eq!(parse_type("tlsa"), Ok(RecordType::TLSA));
        assert_eq!(parse_type("TYPE52"), Ok(RecordType::TLSA));
        assert_eq!(type_name(parse_type("TYPE65280").unwrap()), "TYPE65280");
        assert!(parse_type("NONSENSE").unwrap_err().contains("TYPE65280"));
        assert!(parse_type("TYPE65536").is_err());
    }

    #[test]
    fn rfc3597_5_data_without_a_form_of_its_own_is_hexadecimal() {
        let rdata = hickory_proto::rr::rdata::NULL::with(vec![0, 255]);
        assert_eq!(data_text(&RData::Unknown { code: RecordType::Unknown(65280), rdata }), "\\# 2 00ff");
    }

    #[test]
    fn names_are_absolute_with_and_without_their_dot() {
        assert_eq!(parse_name("_25._tcp.mx.test"), parse_name("_25._tcp.mx.test."));
        assert!(parse_name(".").unwrap().is_root());
        assert!(parse_name("a..b").is_err());
    }
}
