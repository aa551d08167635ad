//! Evidence to hand over: one file with the DNSSEC chains, the certificates, what the servers said and
//! every probe with its time and ports, that somebody else can verify without the network.
//!
//! The file is JSON in one form alone: fields in the order of their names, two spaces. So every octet of
//! it counts: one that is changed makes another form, or another hash. The hash is against accidents; what
//! holds against somebody who makes a new one is that every chain of trust is validated again
//! (`verify.rs`), from the verifier's own trust anchors down (RFC 4035 §5), and every certificate is held
//! against the TLSA records again (RFC 6698 §2.1). Times, ports and what servers said in clear are stated,
//! not proven; the verification says which is which. No message content is in it.

mod collect;
mod verify;

pub use verify::{Verified, verify};

use super::evidence::Evidence;
use crate::clock::Timestamp;
use crate::resolve::proof::{DnsProof, ProofMessage};
use data_encoding::{BASE64, HEXLOWER};
use hickory_proto::rr::{Name, RecordType};
use serde::{Deserialize, Serialize};
use std::str::FromStr as _;

/// What the file says it is.
const FORMAT: &str = "relay-evidence-bundle";
/// The version of its form.
pub const BUNDLE_VERSION: u32 = 1;
/// The largest file, in octets.
pub const MOST_OCTETS: usize = 8 * 1024 * 1024;
/// The field with the hash over all others.
const HASH: &str = "sha256";

/// Why a file is no bundle, or is one that does not hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BundleError {
    /// It is too large to be one.
    #[error("a bundle has at most {MOST_OCTETS} octets")]
    TooLarge,
    /// It is no file of `--bundle`, or another version wrote it.
    #[error("this is no bundle of `relay check --bundle` in version {BUNDLE_VERSION}: {0}")]
    NoBundle(String),
    /// It is not as it was written.
    #[error("the file was changed after it was written: {0}")]
    Changed(&'static str),
    /// The hash is right, and what it says is not so.
    #[error("the bundle does not prove what it says: {0}")]
    False(String),
}

/// All that is handed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// What this is.
    pub format: String,
    /// The version of its form.
    pub version: u32,
    /// The relay that wrote it.
    pub relay: String,
    /// When it was made.
    pub at: Timestamp,
    /// The domain that was checked.
    pub domain: String,
    /// What the check came to, in a line.
    pub verdict: String,
    /// Answers of the DNS with their chains of trust.
    pub dns: Vec<BundledAnswer>,
    /// Look-ups of the check that no chain of trust is here for, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<String>,
    /// What mail servers showed.
    pub servers: Vec<BundledServer>,
    /// Every probe with its time and ports, as `--save` keeps it.
    pub evidence: Evidence,
}

/// An answer, and all that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledAnswer {
    /// The name.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub record_type: String,
    /// When it was judged.
    pub at: Timestamp,
    /// By which path it came.
    pub path: String,
    /// What DNSSEC says about it.
    pub security: String,
    /// Why it is not secure, where it is not.
    pub reason: Option<String>,
    /// The data of the records, as zone files write it.
    pub records: Vec<String>,
    /// The answer first, then what its chain of trust took.
    pub messages: Vec<BundledMessage>,
}

/// A message of the DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledMessage {
    /// The name that was asked for.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub record_type: String,
    /// When it came.
    pub at: Timestamp,
    /// As on the wire, in base 64.
    pub message: String,
}

/// What one address of a mail server showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledServer {
    /// The host.
    pub host: String,
    /// Address and port.
    pub address: String,
    /// When it was spoken to.
    pub at: Timestamp,
    /// Its greeting.
    pub greeting: Option<String>,
    /// Its reply to EHLO before TLS, line by line.
    pub ehlo: Vec<String>,
    /// The certificates it showed, its own first: DER in base 64.
    pub certificates: Vec<String>,
    /// Who owns the TLSA records that count for it, where it has any.
    pub tlsa: Option<String>,
    /// What the certificates come to under them.
    pub dane: Option<String>,
}

impl Bundle {
    /// The file.
    ///
    /// # Errors
    /// When it would be too large.
    pub fn to_file(&self) -> Result<String, BundleError> {
        let odd = |error: serde_json::Error| BundleError::NoBundle(error.to_string());
        let mut value = serde_json::to_value(self).map_err(odd)?;
        let hash = sha256(form(&value)?.as_bytes());
        if let serde_json::Value::Object(fields) = &mut value {
            fields.insert(HASH.to_owned(), hash.into());
        }
        let file = form(&value)?;
        if file.len() > MOST_OCTETS { Err(BundleError::TooLarge) } else { Ok(file) }
    }

    /// Reads a file: exactly as it was written, or not at all. Nothing of what it says is proven by that.
    ///
    /// # Errors
    /// When it is no bundle, or was changed.
    pub fn from_file(octets: &[u8]) -> Result<Self, BundleError> {
        if octets.len() > MOST_OCTETS {
            return Err(BundleError::TooLarge);
        }
        let odd = |error: serde_json::Error| BundleError::NoBundle(error.to_string());
        let mut value: serde_json::Value = serde_json::from_slice(octets).map_err(odd)?;
        if form(&value)?.as_bytes() != octets {
            return Err(BundleError::Changed("it is not in the form in which it is written"));
        }
        let serde_json::Value::Object(fields) = &mut value else {
            return Err(BundleError::NoBundle("it is no object".to_owned()));
        };
        let stated = fields.remove(HASH);
        if stated.as_ref().and_then(serde_json::Value::as_str) != Some(&sha256(form(&value)?.as_bytes())) {
            return Err(BundleError::Changed("the hash is another one"));
        }
        let bundle: Self = serde_json::from_value(value).map_err(odd)?;
        if (bundle.format.as_str(), bundle.version) != (FORMAT, BUNDLE_VERSION) {
            return Err(BundleError::NoBundle(format!("{} version {}", bundle.format, bundle.version)));
        }
        Ok(bundle)
    }
}

/// The one form of a value: its maps are ordered by name.
fn form(value: &serde_json::Value) -> Result<String, BundleError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| BundleError::NoBundle(error.to_string()))?;
    Ok(text + "\n")
}

fn sha256(octets: &[u8]) -> String {
    HEXLOWER.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets).as_ref())
}

fn decoded(text: &str) -> Result<Vec<u8>, BundleError> {
    BASE64.decode(text.as_bytes()).map_err(|error| BundleError::NoBundle(format!("base 64: {error}")))
}

fn name_of(text: &str) -> Result<Name, BundleError> {
    Name::from_ascii(text).map_err(|error| BundleError::NoBundle(format!("{text}: {error}")))
}

fn type_of(text: &str) -> Result<RecordType, BundleError> {
    RecordType::from_str(text).map_err(|error| BundleError::NoBundle(format!("{text}: {error}")))
}

impl BundledAnswer {
    /// The chain of trust, to be validated.
    fn proof(&self) -> Result<DnsProof, BundleError> {
        let message = |bundled: &BundledMessage| {
            let (name, record_type) = (name_of(&bundled.name)?, type_of(&bundled.record_type)?);
            Ok(ProofMessage { name, record_type, at: bundled.at, octets: decoded(&bundled.message)? })
        };
        let messages = self.messages.iter().map(message).collect::<Result<_, BundleError>>()?;
        Ok(DnsProof { at: self.at, path: self.path.clone(), messages })
    }
}
