//! What `relay check` found, as data: the JSON form, and what the text is made from. The result
//! types are those of RFC 8460 §4.3.

use super::analyse::Diagnosis;
use super::evidence::Evidence;
pub use super::verdict::Verdict;
use crate::outcome::{Cause, ExceptionInForce, TlsVerdict};
use crate::resolve::answer::Trace;
use crate::resolve::{HostsFrom, Security};
use crate::smtp::address::Domain;
use serde::Serialize;

/// Everything the check found.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Version of this JSON form.
    pub version: u32,
    /// The domain asked about.
    pub domain: Domain,
    /// What it came to.
    pub verdict: Verdict,
    /// The sentence that says so.
    pub summary: String,
    /// The cause behind a fault.
    pub fault: Option<CauseRow>,
    /// Where mail for the domain goes.
    pub next_hop: String,
    /// Where the hosts come from.
    pub hosts_from: Option<HostsFrom>,
    /// What DNSSEC says about the MX records.
    pub mx_security: Option<Security>,
    /// What the domain's MTA-STS policy says.
    pub mta_sts: Option<StsReport>,
    /// The level that a `[[destination]]` asks for.
    pub level: Option<&'static str>,
    /// The weakening by a `[[destination]]` that is in force.
    pub exception: Option<ExceptionInForce>,
    /// What else an administrator should know.
    pub notes: Vec<String>,
    /// The hosts in the order they would be tried.
    pub hosts: Vec<HostReport>,
    /// Which path to the DNS each answer came by, and which paths had failed before.
    pub dns: Vec<Trace>,
    /// Whose fault it is, and how sure that is.
    pub diagnosis: Diagnosis,
    /// All that was seen.
    pub evidence: Evidence,
    /// The certificates that servers showed, for a bundle.
    #[serde(skip)]
    pub chains: Vec<ShownChain>,
}

/// The certificates that one address showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownChain {
    /// The host.
    pub host: String,
    /// Address and port.
    pub address: String,
    /// Its own first, in DER.
    pub certificates: Vec<Vec<u8>>,
}

impl CheckReport {
    /// Whether every server takes mail, under every policy, enforced or watched, and without an exception.
    /// Where nobody could say what a policy demands, that is not known.
    #[must_use]
    pub const fn is_delivered_everywhere(&self) -> bool {
        let delivery = &self.evidence.delivery;
        let is_delivered = delivery.delivers && delivery.cause.is_none() && delivery.watched.is_none();
        is_delivered && delivery.exception.is_none() && !self.evidence.sts_open
    }
}

/// A cause in the words of the table.
#[derive(Clone, Debug, Serialize)]
pub struct CauseRow {
    /// The word for it.
    pub cause: &'static str,
    /// The enhanced status code.
    pub status: String,
    /// The RFC 8460 result type.
    pub result_type: Option<&'static str>,
    /// Who has to act.
    pub side: &'static str,
    /// What happened.
    pub sentence: String,
    /// What was seen: labels and values.
    pub evidence: Vec<(&'static str, String)>,
    /// What can be done.
    pub advice: &'static str,
}

impl CauseRow {
    /// Of a policy that is not enforced: the mail goes out all the same.
    #[must_use]
    pub fn watched(cause: &Cause) -> Self {
        Self { sentence: cause.finding(), ..Self::from(cause) }
    }
}

impl From<&Cause> for CauseRow {
    fn from(cause: &Cause) -> Self {
        let row = cause.row();
        Self {
            cause: row.word,
            status: row.status.to_string(),
            result_type: row.result_type,
            side: row.side.word(),
            sentence: cause.sentence(),
            evidence: cause.evidence(),
            advice: cause.advice(),
        }
    }
}

/// What MTA-STS says about the domain (RFC 8461).
#[derive(Debug, Serialize)]
pub struct StsReport {
    /// `enforce`, `testing`, or `absent` where no policy is in force.
    pub mode: &'static str,
    /// Why no policy is in force.
    pub absent: Option<String>,
    /// The id of the policy.
    pub id: Option<String>,
    /// The MX patterns it lists.
    pub mx: Vec<String>,
    /// When it was fetched.
    pub fetched: Option<String>,
    /// Whether that was for this check.
    pub source: Option<StsSource>,
    /// The id that the DNS announces now; another than the policy's means that a newer one waits.
    pub announced: Option<String>,
    /// When it expires.
    pub expires: Option<String>,
    /// Why its last refresh failed, if it did.
    pub refresh_failure: Option<String>,
}

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StsSource {
    /// Fetched for this check.
    Live,
    /// Kept from earlier (RFC 8461 §3.3).
    Cache,
}

/// One MX host.
#[derive(Debug, Serialize)]
pub struct HostReport {
    /// Its name.
    pub name: String,
    /// Its preference.
    pub preference: u16,
    /// What DNSSEC says about its addresses.
    pub security: Security,
    /// What applies to it: `dane`, `webpki`, `encrypt`, `opportunistic`, `off`; `none` when it may
    /// not be used.
    pub policy: &'static str,
    /// Why the policy is opportunistic, where it is.
    pub because: Option<&'static str>,
    /// Whether the MTA-STS policy lists it, where there is one.
    pub listed: Option<bool>,
    /// Why there is no DANE, where there is none.
    pub no_dane: Option<&'static str>,
    /// The TLSA base domain.
    pub tlsa_base_domain: Option<String>,
    /// Every TLSA record.
    pub tlsa: Vec<TlsaReport>,
    /// Its addresses and what they answered.
    pub addresses: Vec<AddressReport>,
    /// Why it was left alone.
    pub skipped: Option<CauseRow>,
}

/// One TLSA record.
#[derive(Debug, Serialize)]
pub struct TlsaReport {
    /// As zone files write it.
    pub record: String,
    /// Whether DANE for SMTP can use it (RFC 7672 §3.1, §5).
    pub usable: bool,
    /// Whether it matches the certificate of the first address that showed one.
    pub matched: bool,
}

/// One address of a host.
#[derive(Debug, Serialize)]
pub struct AddressReport {
    /// The address and port.
    pub address: String,
    /// How the connection was protected.
    pub tls: Option<TlsVerdict>,
    /// The key exchange of TLS, by the name of its group.
    pub group: Option<&'static str>,
    /// What went wrong.
    pub fault: Option<CauseRow>,
    /// What a policy that is only watched would have refused it for.
    pub watched: Option<CauseRow>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}
