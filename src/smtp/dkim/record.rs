//! The record that a public key is published in (RFC 6376 §3.6.1, RFC 8463 §4.2).

use super::{DkimKey, DkimKeyType};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use data_encoding::BASE64;
use std::fmt;

/// The most octets of one string in a TXT record (RFC 1035 §3.3).
const STRING_LIMIT: usize = 255;

/// A published key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimRecord {
    /// What `k=` says.
    pub key_type: DkimKeyType,
    /// The key; none where it was withdrawn (`p=` without a value).
    pub public: Option<Vec<u8>>,
    /// Whether verifiers are told to treat the mail as if it were not signed (`t=y`).
    pub is_test: bool,
    /// Whether the domain of the signer must be that of `i=`, and none below it (`t=s`).
    pub is_strict: bool,
}

/// Why a text is no record of a key that can sign mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DkimRecordFault {
    /// `v=` is not `DKIM1`, or not the first.
    Version,
    /// There is no `p=`, or it is no base64.
    Key,
    /// `k=` is neither rsa nor ed25519.
    KeyType(String),
    /// `h=` leaves SHA-256 out.
    Hash,
    /// `s=` leaves mail out.
    Service,
    /// It is no list of tags.
    Tags,
}

impl fmt::Display for DkimRecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => f.write_str("v= is not DKIM1, or does not stand first"),
            Self::Key => f.write_str("p= is missing or is no base64"),
            Self::KeyType(found) => write!(f, "k={found} is neither rsa nor ed25519"),
            Self::Hash => f.write_str("h= does not allow sha256"),
            Self::Service => f.write_str("s= does not allow email"),
            Self::Tags => f.write_str("it is no list of tags such as \"v=DKIM1; k=rsa; p=...\""),
        }
    }
}

impl DkimRecord {
    /// Reads the text of a record, its strings put together.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, DkimRecordFault> {
        let mut tags = Vec::new();
        for tag in text.split(';').map(str::trim).filter(|tag| !tag.is_empty()) {
            let (name, value) = tag.split_once('=').ok_or(DkimRecordFault::Tags)?;
            tags.push((name.trim(), value.trim()));
        }
        let value = |wanted: &str| tags.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let has = |list: &str, wanted: &[&str]| list.split(':').any(|word| wanted.contains(&word.trim()));
        let first = tags.first().map(|(name, _)| *name);
        if value("v").is_some_and(|version| version != "DKIM1" || first != Some("v")) {
            return Err(DkimRecordFault::Version);
        }
        let key_type = match value("k").unwrap_or("rsa") {
            "rsa" => DkimKeyType::Rsa,
            "ed25519" => DkimKeyType::Ed25519,
            other => return Err(DkimRecordFault::KeyType(other.chars().take(40).collect())),
        };
        if value("h").is_some_and(|hashes| !has(hashes, &["sha256"])) {
            return Err(DkimRecordFault::Hash);
        }
        if value("s").is_some_and(|services| !has(services, &["*", "email"])) {
            return Err(DkimRecordFault::Service);
        }
        let key: String = value("p").ok_or(DkimRecordFault::Key)?.split_whitespace().collect();
        let public = BASE64.decode(key.as_bytes()).map_err(|_| DkimRecordFault::Key)?;
        let flags = value("t").unwrap_or_default();
        Ok(Self {
            key_type,
            public: Some(public).filter(|key| !key.is_empty()),
            is_test: has(flags, &["y"]),
            is_strict: has(flags, &["s"]),
        })
    }

    /// Whether a signature over these octets was made with its key. RSA keys from 1,024 bits count, as they do
    /// with every verifier (RFC 8301 §3.2).
    pub(super) fn verifies(&self, data: &[u8], signature: &[u8]) -> bool {
        let Some(public) = &self.public else { return false };
        match self.key_type {
            DkimKeyType::Rsa => UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public)
                .verify(data, signature)
                .is_ok(),
            DkimKeyType::Ed25519 => {
                UnparsedPublicKey::new(&ED25519, public).verify(digest(&SHA256, data).as_ref(), signature).is_ok()
            }
        }
    }

    /// The text to publish for a key.
    #[must_use]
    pub fn text_for(key: &DkimKey) -> String {
        format!("v=DKIM1; k={}; p={}", key.key_type().word(), BASE64.encode(&key.public()))
    }
}

/// The text of a record as a zone file has it: in strings of 255 octets at the most.
#[must_use]
pub fn zone_file_strings(text: &str) -> Vec<String> {
    let mut rest = text;
    let mut strings = Vec::new();
    while !rest.is_empty() {
        let (string, behind) = rest.split_at(rest.floor_char_boundary(STRING_LIMIT));
        strings.push(string.to_owned());
        rest = behind;
    }
    strings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6376_3_6_1_the_record_of_a_key_is_read_as_it_was_written() {
        for key_type in [DkimKeyType::Rsa, DkimKeyType::Ed25519] {
            let key = DkimKey::generate(key_type).unwrap();
            let text = DkimRecord::text_for(&key);
            let strings = zone_file_strings(&text);
            assert!(strings.iter().all(|string| string.len() <= 255) && strings.concat() == text);
            assert_eq!(strings.len(), if key_type == DkimKeyType::Rsa { 2 } else { 1 });
            let record = DkimRecord::parse(&text).unwrap();
            assert_eq!((record.key_type, record.public), (key_type, Some(key.public())));
        }
    }

    #[test]
    fn rfc6376_3_6_1_tags_and_what_they_leave_out() {
        let parse = DkimRecord::parse;
        let plain = parse("p=AAAA").unwrap();
        assert_eq!((plain.key_type, plain.is_test, plain.is_strict), (DkimKeyType::Rsa, false, false));
        let flags = parse("v=DKIM1 ; t = y : s; n=note; p=AA AA;").unwrap();
        assert!(flags.is_test && flags.is_strict && flags.public == Some(vec![0, 0, 0]));
        assert_eq!(parse("v=DKIM1; p=").unwrap().public, None);
        assert_eq!(parse("k=rsa; v=DKIM1; p="), Err(DkimRecordFault::Version));
        assert_eq!(parse("v=DKIM2; p="), Err(DkimRecordFault::Version));
        assert_eq!(parse("v=DKIM1; k=rsa"), Err(DkimRecordFault::Key));
        assert_eq!(parse("v=DKIM1; p=?"), Err(DkimRecordFault::Key));
        assert_eq!(parse("v=DKIM1; k=dsa; p="), Err(DkimRecordFault::KeyType("dsa".into())));
        assert_eq!(parse("v=DKIM1; h=sha1; p="), Err(DkimRecordFault::Hash));
        assert!(parse("v=DKIM1; h=sha1:sha256; s=tlsrpt:email; p=").is_ok());
        assert_eq!(parse("v=DKIM1; s=tlsrpt; p="), Err(DkimRecordFault::Service));
        assert_eq!(parse("v=spf1 -all"), Err(DkimRecordFault::Version));
        assert_eq!(parse("some text"), Err(DkimRecordFault::Tags));
    }
}
