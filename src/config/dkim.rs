//! `[dkim]` and `[[dkim.key]]`: whose mail is signed, with which key (RFC 6376).

use super::findings::ConfigFindings;
use crate::smtp::address::Domain;
use serde::Deserialize;
use std::path::PathBuf;

/// The most keys: all of them are in memory.
const MOST_KEYS: usize = 1000;
/// The most keys of one domain: both kinds, each with one that takes its place.
const MOST_PER_DOMAIN: usize = 4;
/// The most names in a list of header fields.
const MOST_NAMES: usize = 100;
/// The longest name of a header field, in octets.
const LONGEST_NAME: usize = 64;
/// The fields of a message that say something (RFC 6376 §5.4.1).
const USUAL: [&str; 20] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Description",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Post",
];
/// Those that a reader goes by.
const OVERSIGNED: [&str; 4] = ["From", "To", "Subject", "Date"];

/// `[dkim]`: the signatures of the sender's domain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DkimConfig {
    /// What becomes of a message that cannot be signed though a key is there.
    pub on_failure: OnSigningFailure,
    /// Whether a message is signed that has a signature of the same domain already.
    pub sign_signed: bool,
    /// The fields that are signed, every one of these names that is there.
    pub headers: Vec<HeaderFieldName>,
    /// Those of which none can be added later.
    pub oversign: Vec<HeaderFieldName>,
    /// `[[dkim.key]]`
    pub key: Vec<DkimKeyRule>,
}

impl Default for DkimConfig {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|&name| HeaderFieldName(name.to_owned())).collect();
        Self {
            on_failure: OnSigningFailure::Defer,
            sign_signed: false,
            headers: names(&USUAL),
            oversign: names(&OVERSIGNED),
            key: Vec::new(),
        }
    }
}

/// What becomes of a message that cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSigningFailure {
    /// It waits, as for any other temporary fault of this side.
    Defer,
    /// It goes out without a signature, and log and metrics tell.
    Send,
}

/// A key, and whose mail is signed with it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkimKeyRule {
    /// The domain of the author in the From field, `d=`.
    pub domain: Domain,
    /// The name that the public key is published under, `s=`.
    #[serde(deserialize_with = "selector")]
    pub selector: String,
    /// The file with the private key in PEM form.
    pub key_file: Option<PathBuf>,
    /// The credential of the service manager with it: a file in `$CREDENTIALS_DIRECTORY`.
    pub credential: Option<String>,
    /// Whether mail of domains below it is signed too, where these have no key of their own.
    #[serde(default)]
    pub subdomains: bool,
}

impl DkimKeyRule {
    /// What tells it from others in messages.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.domain, self.selector)
    }
}

/// The name of a header field (RFC 5322 §3.6.8).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderFieldName(String);

impl HeaderFieldName {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HeaderFieldName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        // A semicolon would end the list in the signature.
        let fits = |octet: u8| octet.is_ascii_graphic() && octet != b':' && octet != b';';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fits) {
            return Err(format!("\"{name}\" is no name of a header field, such as \"Subject\""));
        }
        Ok(Self(name))
    }
}

/// Labels as in a domain name (RFC 6376 §3.1).
fn selector<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    is_selector(&text).map_err(serde::de::Error::custom)?;
    Ok(text.to_ascii_lowercase())
}

/// Whether a text is a selector.
///
/// # Errors
/// What to write.
pub fn is_selector(text: &str) -> Result<(), String> {
    let is_good = text.len() <= 63
        && text.is_ascii()
        && text.parse::<Domain>().is_ok_and(|name| name.as_str().len() == text.len());
    if is_good {
        Ok(())
    } else {
        Err(format!("\"{text}\" is no selector: write letters, digits and hyphens, such as \"relay2026a\""))
    }
}

/// Whether the keys go together.
pub(super) fn check(dkim: &DkimConfig, findings: &mut ConfigFindings<'_>) {
    for (key, names) in [("dkim.headers", &dkim.headers), ("dkim.oversign", &dkim.oversign)] {
        if names.len() > MOST_NAMES {
            findings.refuse(&[key], format!("at most {MOST_NAMES} names"));
        }
    }
    let signs = |name: &str| dkim.headers.iter().any(|header| header.0.eq_ignore_ascii_case(name));
    if !signs("From") {
        findings.refuse(&["dkim.headers"], "\"From\" has to be signed (RFC 6376 §5.4): put it into the list");
    }
    if signs("DKIM-Signature") || signs("Received") || signs("Return-Path") {
        let message =
            "\"DKIM-Signature\", \"Received\" and \"Return-Path\" are not signed: others add to them on the way";
        findings.refuse(&["dkim.headers"], message);
    }
    if let Some(missing) = dkim.oversign.iter().find(|name| !signs(&name.0)) {
        let message = format!("\"{}\" is not in headers: put it there too", missing.0);
        findings.refuse(&["dkim.oversign", "dkim.headers"], message);
    }
    if dkim.key.len() > MOST_KEYS {
        findings.refuse(&["dkim.key"], format!("at most {MOST_KEYS} keys"));
    }
    for (nth, rule) in dkim.key.iter().enumerate() {
        let path = |key: &str| format!("dkim.key.{nth}.{key}");
        let before = || dkim.key.iter().take(nth).filter(|other| other.domain == rule.domain);
        if rule.key_file.is_some() == rule.credential.is_some() {
            findings.refuse(&[&path("domain")], "give either key_file or credential: the file with the private key");
        }
        if rule.credential.as_deref().is_some_and(|name| name.is_empty() || name.contains('/') || name.starts_with('.'))
        {
            findings.refuse(&[&path("credential")], "write the name that LoadCredential= gives it, without a path");
        }
        if before().any(|other| other.selector == rule.selector) {
            findings.refuse(&[&path("selector")], "this selector of the domain has a key already: take another name");
        } else if before().count() >= MOST_PER_DOMAIN {
            findings.refuse(&[&path("domain")], format!("at most {MOST_PER_DOMAIN} keys of one domain"));
        } else if before().any(|other| other.subdomains != rule.subdomains) {
            findings.refuse(&[&path("subdomains")], "all keys of a domain have the same subdomains");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn parse(lines: &str) -> Result<DkimConfig, String> {
        let text = format!("[dkim]\n{lines}");
        Config::parse(&text, Path::new("relay.toml")).map(|config| config.dkim).map_err(|error| error.to_string())
    }

    const KEY: &str = "[[dkim.key]]\ndomain = \"office.example\"\nselector = \"S1\"\nkey_file = \"/x\"\n";

    #[test]
    fn a_key_of_each_kind_and_one_that_takes_its_place() {
        let two = KEY.replace("S1", "s2");
        let dkim = parse(&format!("on_failure = \"send\"\n{KEY}{two}")).unwrap();
        assert_eq!(dkim.on_failure, OnSigningFailure::Send);
        assert_eq!(dkim.key.iter().map(|key| key.selector.as_str()).collect::<Vec<_>>(), ["s1", "s2"]);
        assert!(parse("").unwrap().key.is_empty());
    }

    #[test]
    fn mistakes_are_refused_with_their_lines() {
        let credential = KEY.replace("key_file = \"/x\"", "credential = \"../x\"");
        let below = format!("{KEY}{}subdomains = true", KEY.replace("S1", "s2"));
        for (lines, words) in [
            (KEY.replace("key_file = \"/x\"\n", ""), "relay.toml:3: [[dkim.key]] domain: give either key_file or"),
            (KEY.replace("S1", "a b"), "relay.toml:4: [[dkim.key]] selector: \"a b\" is no selector"),
            (KEY.replace("S1", "s1."), "is no selector"),
            (KEY.repeat(2), "relay.toml:8: [[dkim.key]] selector: this selector"),
            (credential, "relay.toml:5: [[dkim.key]] credential: write the name"),
            (below, "relay.toml:10: [[dkim.key]] subdomains: all keys of a domain"),
            ((1..6).map(|n| KEY.replace("S1", &format!("s{n}"))).collect(), "at most 4 keys"),
            ("headers = [\"To\"]\noversign = []".into(), "relay.toml:2: [dkim] headers: \"From\" has to be signed"),
            ("headers = [\"From\", \"Received\"]\noversign = []".into(), "are not signed"),
            ("headers = [\"From:\"]".into(), "is no name of a header field"),
            ("oversign = [\"X-Own\"]".into(), "relay.toml:2: [dkim] oversign: \"X-Own\" is not in headers"),
        ] {
            let error = parse(&lines).unwrap_err();
            assert!(error.contains(words) && error.lines().count() == 1, "{lines}: {error}");
        }
    }
}
