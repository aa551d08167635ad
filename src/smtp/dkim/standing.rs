//! A signature that a message has when it comes to us (RFC 6376 §6.1): whether it holds.
//!
//! Stricter than verifiers must be, because what fails here is signed once more and loses nothing: a signature
//! over a part of the body (`l=`), by SHA-1, or with a key in test mode counts as none.

use super::canonical::{CanonicalForm, relaxed_field, simple_field};
use super::content::{HeaderField, HeaderFields, ReadContent, SIGNATURE_FIELD};
use super::{DOMAIN_KEY, DkimKeyType, DkimRecord, FIELDS_LIMIT};
use crate::smtp::address::Domain;
use data_encoding::BASE64;
use std::collections::HashMap;

/// Signatures of one message that are looked at: each costs a look-up and a check of a public key.
const LOOKED_AT: usize = 4;

/// A signature whose hash of the body is right; what it lacks is the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandingSignature {
    key_type: DkimKeyType,
    domain: Domain,
    selector: String,
    /// `i=`: the domain of whom it is made for.
    agent: Option<Domain>,
    /// What was signed.
    data: Vec<u8>,
    signature: Vec<u8>,
}

impl StandingSignature {
    /// Where its key is published.
    pub(crate) fn record_name(&self) -> String {
        format!("{}.{DOMAIN_KEY}.{}", self.selector, self.domain)
    }

    /// Whether it was made with the key of this record.
    pub(crate) fn holds_with(&self, record: &DkimRecord) -> bool {
        let agent_fits = match &self.agent {
            Some(agent) => *agent == self.domain || (!record.is_strict && is_below(agent, &self.domain)),
            None => true,
        };
        agent_fits
            && !record.is_test
            && record.key_type == self.key_type
            && record.verifies(&self.data, &self.signature)
    }
}

impl ReadContent {
    /// The signatures by a domain that can hold. `at` is now, in seconds since 1970.
    pub(crate) fn standing(&self, domain: &Domain, at: i64) -> Vec<StandingSignature> {
        let fields = HeaderFields::of_header(&self.header);
        let is_one = |field: &&HeaderField<'_>| field.name.eq_ignore_ascii_case(SIGNATURE_FIELD.as_bytes());
        let all = fields.all_last_first().filter(is_one);
        let by_domain = all.filter_map(|field| Some((field, Tags::of(field)?)));
        let by_domain = by_domain.filter(|(_, tags)| tags.domain("d").as_ref() == Some(domain)).take(LOOKED_AT);
        by_domain.filter_map(|(field, tags)| self.read(&fields, field, &tags, at)).collect()
    }

    fn read(
        &self,
        fields: &HeaderFields<'_>,
        field: &HeaderField<'_>,
        tags: &Tags,
        at: i64,
    ) -> Option<StandingSignature> {
        let (header_form, body_form) = forms(tags.get("c").unwrap_or("simple"))?;
        let body = match body_form {
            CanonicalForm::Relaxed => Some(&self.relaxed),
            CanonicalForm::Simple => self.simple.as_ref(),
        };
        let is_over = tags.get("x").is_some_and(|end| end.parse::<i64>().map_or(true, |end| end < at));
        let by_dns = tags.get("q").is_none_or(|ways| ways.split(':').any(|way| way.trim() == "dns/txt"));
        let names: Vec<&str> = tags.get("h")?.split(':').map(str::trim).collect();
        let names_author = names.iter().any(|name| name.eq_ignore_ascii_case("from"));
        let is_whole = tags.get("v") == Some("1") && tags.get("l").is_none() && names_author;
        let hash_fits = body.is_some_and(|body| tags.base64("bh").as_deref() == Some(body.as_slice()));
        if is_over || !by_dns || !is_whole || !hash_fits || names.len() > FIELDS_LIMIT {
            return None;
        }
        let agent = match tags.get("i") {
            Some(agent) => Some(agent.rsplit_once('@')?.1.parse().ok()?),
            None => None,
        };
        Some(StandingSignature {
            key_type: key_type(tags.get("a")?)?,
            domain: tags.domain("d")?,
            selector: tags.get("s")?.to_owned(),
            agent,
            data: signed(fields, field, &names, header_form),
            signature: tags.base64("b")?,
        })
    }
}

/// The octets that were signed: of several fields with a name the last one first (RFC 6376 §5.4.2), then the
/// signature's own field without its value (§3.7).
fn signed(fields: &HeaderFields<'_>, own: &HeaderField<'_>, names: &[&str], form: CanonicalForm) -> Vec<u8> {
    let mut left: HashMap<Vec<u8>, Vec<&HeaderField<'_>>> = HashMap::new();
    for field in fields.all_last_first().filter(|field| !std::ptr::eq(*field, own)) {
        left.entry(field.name.to_ascii_lowercase()).or_default().push(field);
    }
    left.values_mut().for_each(|fields| fields.reverse());
    let mut data = Vec::new();
    for name in names {
        if let Some(field) = left.get_mut(name.to_ascii_lowercase().as_bytes()).and_then(Vec::pop) {
            append(field.name, &field.lines, form, &mut data);
            data.extend_from_slice(b"\r\n");
        }
    }
    let bare = without_signature(&own.lines.join(&b"\r\n"[..]));
    append(own.name, &[&bare], form, &mut data);
    data
}

fn append(name: &[u8], lines: &[&[u8]], form: CanonicalForm, data: &mut Vec<u8>) {
    match form {
        CanonicalForm::Simple => simple_field(name, lines.iter().copied(), data),
        CanonicalForm::Relaxed => relaxed_field(name, lines.iter().copied(), data),
    }
}

/// The value of the field with that of `b=` taken out (RFC 6376 §3.5).
fn without_signature(value: &[u8]) -> Vec<u8> {
    let tags: Vec<&[u8]> = value.split(|&octet| octet == b';').collect();
    let bare = tags.iter().map(|tag| match tag.iter().position(|&octet| octet == b'=') {
        Some(at) if tag.get(..at).unwrap_or_default().trim_ascii() == b"b" => tag.get(..=at).unwrap_or_default(),
        Some(_) | None => tag,
    });
    bare.collect::<Vec<_>>().join(&b";"[..])
}

/// The forms of header and body that `c=` names.
fn forms(text: &str) -> Option<(CanonicalForm, CanonicalForm)> {
    let form = |word: &str| match word {
        "simple" => Some(CanonicalForm::Simple),
        "relaxed" => Some(CanonicalForm::Relaxed),
        _ => None,
    };
    let (header, body) = text.split_once('/').unwrap_or((text, "simple"));
    Some((form(header)?, form(body)?))
}

fn key_type(algorithm: &str) -> Option<DkimKeyType> {
    [DkimKeyType::Rsa, DkimKeyType::Ed25519].into_iter().find(|key_type| key_type.algorithm() == algorithm)
}

fn is_below(domain: &Domain, above: &Domain) -> bool {
    domain.as_str().strip_suffix(above.as_str()).is_some_and(|rest| rest.ends_with('.'))
}

/// The tags of a field (RFC 6376 §3.2).
struct Tags(HashMap<String, String>);

impl Tags {
    /// None where they are no such list, or name one twice.
    fn of(field: &HeaderField<'_>) -> Option<Self> {
        let value = String::from_utf8(field.lines.concat()).ok()?;
        let mut tags = HashMap::new();
        for tag in value.split(';').map(str::trim).filter(|tag| !tag.is_empty()) {
            let (name, value) = tag.split_once('=')?;
            if tags.insert(name.trim().to_owned(), value.trim().to_owned()).is_some() {
                return None;
            }
        }
        Some(Self(tags))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn domain(&self, name: &str) -> Option<Domain> {
        self.get(name)?.parse().ok()
    }

    fn base64(&self, name: &str) -> Option<Vec<u8>> {
        let text: String = self.get(name)?.split_whitespace().collect();
        BASE64.decode(text.as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests;
