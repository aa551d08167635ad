//! Trust anchors: what is believed of the root without a proof (RFC 4035 §4.4, RFC 5011 §2).
//!
//! Built in are the root's key-signing keys of 2017 (tag 20326) and 2024 (tag 38696), which
//! signs since October 2026. A file holds DNSKEY or DS lines, as Unbound's root.key does; of keys
//! with a state note only those count that Unbound itself trusts.

use super::digest::{digests_of, is_supported_digest};
use super::signature::{is_supported, is_supported_key};
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS};
use hickory_proto::dnssec::{PublicKey as _, TrustAnchors};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::txt::trust_anchor;

/// The flags of a key-signing key (RFC 4034 §2.1.1).
const KEY_SIGNING: u16 = 257;

/// Keys or digests of keys of the root zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchors {
    keys: Vec<DNSKEY>,
    digests: Vec<DS>,
}

/// Why a text gives no trust anchors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// A line is not understood.
    #[error("line {line}: {message}; write DNSKEY or DS lines, as in Unbound's root.key")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// Nothing in it can be used.
    #[error("holds no usable key of the root zone; write a DNSKEY or DS line for \".\"")]
    Empty,
}

impl Anchors {
    /// The root's keys that this program was built with.
    #[must_use]
    pub fn builtin() -> Self {
        let known = TrustAnchors::default();
        let keys = (0..known.len()).filter_map(|index| known.get(index));
        Self { keys: keys.map(|key| DNSKEY::with_flags(KEY_SIGNING, key.clone())).collect(), digests: Vec::new() }
    }

    /// Reads DNSKEY and DS lines of the root: `. [TTL] [IN] DNSKEY 257 3 8 …`, comments after
    /// `;`, and Unbound's notes after `;;`.
    ///
    /// # Errors
    /// [`AnchorError`] when a line is not understood or nothing in the text can be used.
    pub fn parse(text: &str) -> Result<Self, AnchorError> {
        let mut anchors = Self { keys: Vec::new(), digests: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let data = read_line(line).map_err(|message| AnchorError::Line { line: index + 1, message })?;
            let Some(RData::DNSSEC(data)) = data else { continue };
            if let DNSSECRData::DNSKEY(key) = data {
                if key.zone_key() && !key.revoke() && is_supported_key(key.public_key()) {
                    anchors.keys.push(key);
                }
            } else if let DNSSECRData::DS(ds) = data
                && is_supported(ds.algorithm())
                && is_supported_digest(&ds)
            {
                anchors.digests.push(ds);
            }
        }
        if anchors.keys.is_empty() && anchors.digests.is_empty() { Err(AnchorError::Empty) } else { Ok(anchors) }
    }

    /// The tags of the keys, for display.
    #[must_use]
    pub fn key_tags(&self) -> Vec<u16> {
        let keys = self.keys.iter().filter_map(|key| key.calculate_key_tag().ok());
        keys.chain(self.digests.iter().map(DS::key_tag)).collect()
    }

    /// Whether a key of the root's DNSKEY set is one of these.
    pub(super) fn trust(&self, tag: u16, key: &DNSKEY) -> bool {
        let same = |known: &DNSKEY| {
            let (known, key) = (known.public_key(), key.public_key());
            known.algorithm() == key.algorithm() && known.public_bytes() == key.public_bytes()
        };
        self.keys.iter().any(same) || !digests_of(&self.digests, tag, key, &Name::root()).is_empty()
    }
}

fn read_line(line: &str) -> Result<Option<RData>, String> {
    let (record, notes) = line.split_once(';').unwrap_or((line, ""));
    let fields: Vec<&str> = record.split_whitespace().filter(|f| *f != "(" && *f != ")").collect();
    let Some((owner, mut rest)) = fields.split_first() else { return Ok(None) };
    if *owner != "." {
        return Err(format!("{owner} is not the root zone, which is written as a dot"));
    }
    while let Some((field, after)) = rest.split_first()
        && (field.eq_ignore_ascii_case("IN") || field.bytes().all(|b| b.is_ascii_digit()))
    {
        rest = after;
    }
    let Some((rtype, data)) = rest.split_first() else { return Err("the record is not complete".into()) };
    let rtype = match rtype.to_ascii_uppercase().as_str() {
        "DNSKEY" => RecordType::DNSKEY,
        "DS" => RecordType::DS,
        other => return Err(format!("{other} is no DNSKEY or DS record")),
    };
    let data = data.join(" ");
    let data = if rtype == RecordType::DNSKEY { read_key(&data)? } else { read_digest(&data)? };
    Ok(is_trusted_state(notes).then_some(data))
}

fn read_digest(data: &str) -> Result<RData, String> {
    RData::try_from_str(RecordType::DS, data).map_err(|e| e.to_string())
}

/// The reader of zone files knows no DNSKEY; the one for trust anchors does.
fn read_key(data: &str) -> Result<RData, String> {
    let mut entries = trust_anchor::Parser::new(format!(". IN DNSKEY {data}\n")).parse().map_err(|e| e.to_string())?;
    let Some(trust_anchor::Entry::DNSKEY(record)) = entries.pop() else { return Err("the key is not complete".into()) };
    Ok(RData::DNSSEC(DNSSECRData::DNSKEY(record.data().clone())))
}

/// Unbound follows RFC 5011 and notes the state of each key; only VALID (2) and MISSING (3) keys
/// are trusted: one that is still waiting, or is revoked, is not (RFC 5011 §4.2).
fn is_trusted_state(notes: &str) -> bool {
    let state = notes.split_once("state=").and_then(|(_, after)| after.chars().next());
    state.is_none_or(|state| state == '2' || state == '3')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DS_2017: &str = ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";

    #[test]
    fn both_root_keys_are_built_in() {
        assert_eq!(Anchors::builtin().key_tags(), [20326, 38696]);
    }

    #[test]
    fn the_published_digest_fits_the_key_that_is_built_in() {
        let anchors = Anchors::parse(DS_2017).unwrap();
        let trusted: Vec<bool> = Anchors::builtin().keys.iter().map(|key| anchors.trust(20326, key)).collect();
        assert_eq!(trusted, [true, false]);
    }

    #[test]
    fn rfc5011_4_2_only_valid_and_missing_keys_of_unbound_count() {
        let key = Anchors::builtin().keys[0].to_string();
        let text = |state| {
            format!(
                "; autotrust trust anchor file\n;;id: . 1\n.\t86400\tIN\tDNSKEY\t{key} ;{{id = 20326 (ksk), size = 2048b}} ;;state={state} [ X ] ;;count=0\n"
            )
        };
        for (state, trusted) in [(0, false), (1, false), (2, true), (3, true), (4, false), (5, false)] {
            assert_eq!(Anchors::parse(&text(state)).is_ok(), trusted, "state {state}");
        }
    }

    #[test]
    fn a_text_without_usable_keys_is_an_error() {
        for text in ["", "; nothing\n", ". DS 1 8 1 00", ". DS 1 253 2 00", ". DS 1 8 2 00"] {
            assert_eq!(Anchors::parse(text).unwrap_err(), AnchorError::Empty, "{text}");
        }
        for text in ["garbage", "test. DS 1 8 2 00", ". A 127.0.0.1", ".", ". IN DS", ". DNSKEY 257 3 8 !"] {
            assert!(matches!(Anchors::parse(text), Err(AnchorError::Line { line: 1, .. })), "{text}");
        }
    }
}
