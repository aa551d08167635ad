//! Domains, mailboxes and paths (RFC 5321 §4.1.2, RFC 6531 §3.3), parsed strictly and kept
//! verbatim.
//!
//! What the client wrote goes to the next hop byte for byte; only look-ups use the
//! normalised form: lower case, and A-labels for U-labels (RFC 5890 §2.3.2.1). Limits:
//! domain 255 octets (RFC 5321 §4.5.3.1). The standard asks for local-parts of 64 octets at least and
//! for no limit at best, and it lets whoever owns a mailbox say how it is called: longer ones (of
//! ticket systems, of forwarders) and ones with two dots or a dot at an end are passed on.
//!
//! Characters outside ASCII are read everywhere and normalised nowhere (RFC 6531 §3.2 leaves that
//! to whoever owns the mailbox). Whether they may be used, [`Mailbox::is_ascii`] tells and the
//! session decides.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest local-part, in octets: RFC 5321 §4.5.3.1.1 asks for 64.
pub const LOCAL_PART_LIMIT: usize = 255;
/// The longest domain (RFC 5321 §4.5.3.1.2), in octets; what fits in DNS is 253.
pub const DOMAIN_LIMIT: usize = 253;
/// The longest domain with U-labels, in octets of UTF-8. Its A-labels must fit [`DOMAIN_LIMIT`],
/// each with at least one octet for a character that UTF-8 writes with four at the most.
const U_LABELS_LIMIT: usize = 4 * DOMAIN_LIMIT;
/// The longest name of the DNS with every octet escaped, in octets of text.
const ESCAPED_LIMIT: usize = 4 * 255;
/// Why an address was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not the grammar of RFC 5321 §4.1.2.
    #[error("the address does not follow RFC 5321")]
    Syntax,
    /// The local-part is above [`LOCAL_PART_LIMIT`].
    #[error("the local-part is longer than 255 octets")]
    LocalPartTooLong,
    /// The domain or one of its labels is too long for the DNS.
    #[error("the domain is too long")]
    DomainTooLong,
    /// A character outside ASCII where SMTPUTF8 was not given, or octets that are no UTF-8
    /// (RFC 6531 §3.5).
    #[error("the address has characters outside ASCII")]
    NonAscii,
}

/// A DNS domain name in the form that is looked up: lower case A-labels, no final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    /// The name as text, without the final dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name as a record of the DNS holds it, odd octets as in a master file: `\\032` (RFC 1035 §5.1).
    /// Whoever publishes one has it, and it is looked up as it stands (RFC 2181 §11): labels with a hyphen at
    /// an edge are no host names (RFC 5321 §4.1.2), and there are mail servers that are called so.
    ///
    /// # Errors
    /// For what no record can hold in this form.
    pub fn published(text: &str) -> Result<Self, AddressError> {
        let is_escape = |octet: u8| octet == b'\\';
        let is_label =
            |label: &str| !label.is_empty() && label.bytes().all(|octet| is_named_so(octet) || is_escape(octet));
        // Escapes are longer than what they stand for; what is too long is found when it is asked for.
        if text.len() > ESCAPED_LIMIT || !text.split('.').all(is_label) {
            return Err(AddressError::Syntax);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name with the final dot that the DNS uses, so that no search list applies.
    #[must_use]
    pub fn fqdn(&self) -> String {
        format!("{}.", self.0)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse_domain(text)
    }
}

fn parse_domain(text: &str) -> Result<Domain, AddressError> {
    let name = a_labels(text)?;
    let name = name.strip_suffix('.').unwrap_or(&name);
    if name.len() > DOMAIN_LIMIT || name.split('.').any(|label| label.len() > 63) {
        return Err(AddressError::DomainTooLong);
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(is_named_so) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !name.split('.').all(is_label) {
        return Err(AddressError::Syntax);
    }
    Ok(Domain(name.to_ascii_lowercase()))
}

/// Underscores are no host names, yet MX targets and test domains with them exist.
const fn is_named_so(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')
}

/// U-labels as A-labels (RFC 5890 §2.3.2.1, by UTS 46). A name in ASCII stays as it is: what it
/// may hold is checked by whoever asks.
fn a_labels(name: &str) -> Result<Cow<'_, str>, AddressError> {
    if name.is_ascii() {
        return Ok(Cow::Borrowed(name));
    }
    if name.len() > U_LABELS_LIMIT {
        return Err(AddressError::DomainTooLong);
    }
    let ascii =
        Uts46::new().to_ascii(name.as_bytes(), AsciiDenyList::EMPTY, Hyphens::CheckFirstLast, DnsLength::Ignore);
    ascii.map_err(|_| AddressError::Syntax)
}

/// For what is configured or kept: the error says what to write.
impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error| in_plain_words(error, "write a domain name such as relay.example.org"))
    }
}

fn in_plain_words(error: AddressError, advice: &str) -> String {
    match error {
        AddressError::Syntax => advice.to_owned(),
        AddressError::LocalPartTooLong | AddressError::DomainTooLong | AddressError::NonAscii => error.to_string(),
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

/// What stands right of the `@`: a domain, or an address literal (RFC 5321 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Host {
    /// A name to be resolved.
    Domain(Domain),
    /// `[192.0.2.1]` or `[IPv6:2001:db8::1]`: connected to as it is; DANE does not apply.
    Literal(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Literal(IpAddr::V4(v4)) => write!(f, "[{v4}]"),
            Self::Literal(IpAddr::V6(v6)) => write!(f, "[IPv6:{v6}]"),
        }
    }
}

impl FromStr for Host {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some(inner) = text.strip_prefix('[') else {
            return text.parse().map(Self::Domain);
        };
        let inner = inner.strip_suffix(']').ok_or(AddressError::Syntax)?;
        let address = match inner.get(..5) {
            Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
                let v6 = inner.get(5..).unwrap_or_default();
                IpAddr::V6(v6.parse::<Ipv6Addr>().map_err(|_| AddressError::Syntax)?)
            }
            _ => IpAddr::V4(inner.parse::<Ipv4Addr>().map_err(|_| AddressError::Syntax)?),
        };
        Ok(Self::Literal(address))
    }
}

/// A mailbox, `local-part@domain`, kept as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mailbox {
    text: String,
    host: Host,
}

impl Mailbox {
    /// The address without brackets, byte for byte as it was given, but for a dot at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is in ASCII (RFC 6531 §3.5).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// Whether only a server with SMTPUTF8 can have it: the local-part is outside ASCII. A domain
    /// with U-labels alone goes out by its A-labels (RFC 6531 §3.2).
    #[must_use]
    pub fn needs_smtp_utf8(&self) -> bool {
        self.local_part().is_some_and(|local| !local.is_ascii())
    }

    /// As it goes to a next hop: as it was given, but for U-labels behind a local-part in ASCII,
    /// which become A-labels.
    #[must_use]
    pub fn on_the_wire(&self) -> Cow<'_, str> {
        match self.local_part() {
            Some(local) if local.is_ascii() && !self.is_ascii() => Cow::Owned(format!("{local}@{}", self.host)),
            Some(_) | None => Cow::Borrowed(&self.text),
        }
    }

    fn local_part(&self) -> Option<&str> {
        self.text.rsplit_once('@').map(|(local, _)| local)
    }

    /// What stands right of the last `@`.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // UTF-8 brings control characters of its own, U+0080 to U+009F.
        if text.contains(char::is_control) {
            return Err(AddressError::Syntax);
        }
        // The last @ divides: a quoted local-part may hold others, a domain may not.
        let (local, host) = text.rsplit_once('@').ok_or(AddressError::Syntax)?;
        if local.len() > LOCAL_PART_LIMIT {
            return Err(AddressError::LocalPartTooLong);
        }
        if !(is_dot_string(local) || is_quoted_string(local)) {
            return Err(AddressError::Syntax);
        }
        let host = host.parse()?;
        // RFC 5321 §2.3.5 knows no dot at the end, and some servers refuse it.
        let text = text.strip_suffix('.').unwrap_or(text);
        Ok(Self { text: text.to_owned(), host })
    }
}

/// For what is configured or kept: the error says what to write.
impl TryFrom<String> for Mailbox {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error| in_plain_words(error, "write an address such as postmaster@example.org"))
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> Self {
        mailbox.text
    }
}

/// The reverse-path of MAIL FROM: whom to tell when delivery fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReversePath {
    /// `<>`: nobody may be told (RFC 5321 §4.5.5).
    Null,
    /// The sender.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Whether it is in ASCII (RFC 6531 §3.5).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Mailbox(mailbox) => mailbox.is_ascii(),
        }
    }

    /// Whether only a server with SMTPUTF8 can have it.
    #[must_use]
    pub fn needs_smtp_utf8(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Mailbox(mailbox) => mailbox.needs_smtp_utf8(),
        }
    }

    /// As it goes to a next hop, without its brackets; see [`Mailbox::on_the_wire`].
    #[must_use]
    pub fn on_the_wire(&self) -> Cow<'_, str> {
        match self {
            Self::Null => Cow::Borrowed(""),
            Self::Mailbox(mailbox) => mailbox.on_the_wire(),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

/// The forward-path of RCPT TO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPath {
    /// A recipient.
    Mailbox(Mailbox),
    /// `<postmaster>` without a domain, in any case (RFC 5321 §4.5.1).
    Postmaster,
}

/// Parses `<…>` of MAIL FROM. A source route is accepted and forgotten (RFC 5321 App. C).
///
/// # Errors
/// [`AddressError`] when the brackets or the address do not fit the grammar.
pub fn parse_reverse_path(path: &str) -> Result<ReversePath, AddressError> {
    match inside_brackets(path)? {
        "" => Ok(ReversePath::Null),
        inner => without_source_route(inner)?.parse().map(ReversePath::Mailbox),
    }
}

/// Parses `<…>` of RCPT TO. A source route is accepted and forgotten (RFC 5321 App. C).
///
/// # Errors
/// [`AddressError`] when the brackets or the address do not fit the grammar.
pub fn parse_forward_path(path: &str) -> Result<ForwardPath, AddressError> {
    let inner = inside_brackets(path)?;
    if inner.eq_ignore_ascii_case("postmaster") {
        return Ok(ForwardPath::Postmaster);
    }
    without_source_route(inner)?.parse().map(ForwardPath::Mailbox)
}

fn inside_brackets(path: &str) -> Result<&str, AddressError> {
    path.strip_prefix('<').and_then(|p| p.strip_suffix('>')).ok_or(AddressError::Syntax)
}

/// `@a,@b:user@c` ⇒ `user@c`; the hops named must be domains and are never used.
fn without_source_route(inner: &str) -> Result<&str, AddressError> {
    if !inner.starts_with('@') {
        return Ok(inner);
    }
    let (route, mailbox) = inner.split_once(':').ok_or(AddressError::Syntax)?;
    for hop in route.split(',') {
        hop.strip_prefix('@').ok_or(AddressError::Syntax)?.parse::<Domain>()?;
    }
    Ok(mailbox)
}

/// Dots may stand anywhere: addresses with two of them, or with one at an end, exist, and whose they
/// are knows it. One of dots alone does not.
fn is_dot_string(local: &str) -> bool {
    local.bytes().all(|b| b == b'.' || is_atext(b) || !b.is_ascii()) && local.bytes().any(|b| b != b'.')
}

/// The octets of an atom (RFC 5321 §4.1.2).
pub(super) fn is_atext(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b)
}

fn is_quoted_string(local: &str) -> bool {
    let Some(inner) = local.strip_prefix('"').and_then(|l| l.strip_suffix('"')) else {
        return false;
    };
    let mut escaped = false;
    for b in inner.bytes() {
        match (escaped, b) {
            (_, 0..=31 | 127) | (false, b'"') => return false,
            (false, b'\\') => escaped = true,
            _ => escaped = false,
        }
    }
    !escaped && local.len() >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(text: &str) -> Result<Mailbox, AddressError> {
        text.parse()
    }

    #[test]
    fn rfc5321_2_3_5_a_dot_at_the_end_of_a_domain_goes() {
        let mailbox: Mailbox = "u@Example.com.".parse().unwrap();
        assert_eq!((mailbox.as_str(), mailbox.on_the_wire()), ("u@Example.com", "u@Example.com".into()));
        for bad in ["u@.", "u@example.com..", "u@[192.0.2.1]."] {
            assert_eq!(bad.parse::<Mailbox>(), Err(AddressError::Syntax), "{bad}");
        }
    }

    #[test]
    fn rfc5321_4_1_2_mailboxes_are_kept_verbatim() {
        for text in ["User.Name+tag@Example.ORG", "\"a b\"@x.example", "\"a@b\"@x.example", "u@[192.0.2.1]"] {
            assert_eq!(mailbox(text).unwrap().to_string(), text);
        }
        assert_eq!(mailbox("a@Example.ORG").unwrap().host().to_string(), "example.org");
        assert_eq!(mailbox("a@[IPv6:2001:db8::1]").unwrap().host(), &Host::Literal("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn rfc5321_4_1_2_bad_mailboxes_are_refused() {
        for text in [
            "",
            "a",
            "@x",
            "a@",
            ".@x",
            "..@x",
            "a. b@x",
            "a b@x",
            "a@x..y",
            "a@-x",
            "a@[1.2.3]",
            "a@[1.2.3.4",
            "\"a@x",
            "\"\\\"@x",
            "\"a\"b\"@x",
            "a\r\n@x",
            "a@x\r\n",
            "a@x y",
            "\"\u{1}\"@x",
            "a@[::1]",
        ] {
            assert!(mailbox(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn rfc6531_3_3_characters_outside_ascii_are_kept_verbatim() {
        for text in
            ["jürgen@example.org", "\"jürgen k\"@example.org", "用户@例子.广告", "i\u{301}@x.example", "😀@x.example"]
        {
            assert_eq!(mailbox(text).unwrap().as_str(), text);
            assert!(!mailbox(text).unwrap().is_ascii());
        }
        for text in ["a\u{85}@x.example", "\"\u{9f}\"@x.example", "a@x\u{80}.example", "j ü@x.example", "ü,ü@x.example"]
        {
            assert_eq!(mailbox(text), Err(AddressError::Syntax), "{text:?}");
        }
        assert!(mailbox(&format!("{}@x.example", "ü".repeat(127))).is_ok());
        assert_eq!(mailbox(&format!("{}@x.example", "ü".repeat(128))), Err(AddressError::LocalPartTooLong));
        assert!(mailbox("a@x.example").unwrap().is_ascii() && ReversePath::Null.is_ascii());
    }

    #[test]
    fn rfc5321_4_5_3_1_local_parts_with_odd_dots_are_kept_as_they_are() {
        for text in [".a@x.example", "a.@x.example", "a..b@x.example", "a...@x.example", "ü..ü@x.example"] {
            assert_eq!(mailbox(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn rfc6531_3_2_only_a_local_part_outside_ascii_needs_smtputf8() {
        for (text, wire, needs) in [
            ("a@bücher.example", "a@xn--bcher-kva.example", false),
            ("A.b@Example.ORG", "A.b@Example.ORG", false),
            ("jürgen@bücher.example", "jürgen@bücher.example", true),
            ("\"a@b\"@例子.广告", "\"a@b\"@xn--fsqu00a.xn--4rr70v", false),
        ] {
            let mailbox = mailbox(text).unwrap();
            assert_eq!((mailbox.on_the_wire().as_ref(), mailbox.needs_smtp_utf8()), (wire, needs));
        }
    }

    #[test]
    fn rfc5890_2_3_2_1_u_labels_are_looked_up_as_a_labels() {
        for (written, looked_up) in [
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.Example.", "xn--bcher-kva.example"),
            ("straße.example", "xn--strae-oqa.example"),
            ("例子.广告", "xn--fsqu00a.xn--4rr70v"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("a_b.bücher.example", "a_b.xn--bcher-kva.example"),
        ] {
            assert_eq!(written.parse::<Domain>().unwrap().as_str(), looked_up);
        }
        assert_eq!(mailbox("a@bücher.example").unwrap().host().to_string(), "xn--bcher-kva.example");
        for bad in ["ü..example", "-ü.example", "ü .example", "ü@x.example", "\u{301}a.example", "xn--\u{fc}.example"]
        {
            assert_eq!(bad.parse::<Domain>(), Err(AddressError::Syntax), "{bad:?}");
        }
        let label = "ü".repeat(50);
        assert!(format!("{label}.example").parse::<Domain>().is_ok());
        assert_eq!(format!("{label}{label}.example").parse::<Domain>(), Err(AddressError::DomainTooLong));
        assert_eq!("ü".repeat(U_LABELS_LIMIT).parse::<Domain>(), Err(AddressError::DomainTooLong));
    }

    #[test]
    fn rfc5321_4_5_3_1_limits_hold_at_the_limit_and_one_above() {
        for octets in [64, 65, 92, 255] {
            assert!(mailbox(&format!("{}@example.org", "a".repeat(octets))).is_ok());
        }
        let above = format!("{}@example.org", "a".repeat(256));
        assert_eq!(mailbox(&above), Err(AddressError::LocalPartTooLong));
        let label = "a".repeat(63);
        assert!(format!("{label}.example").parse::<Domain>().is_ok());
        assert_eq!(format!("a{label}.example").parse::<Domain>(), Err(AddressError::DomainTooLong));
    }

    #[test]
    fn rfc5321_app_c_source_routes_are_dropped() {
        let path = parse_forward_path("<@a.example,@b.example:u@d.example>").unwrap();
        assert_eq!(path, ForwardPath::Mailbox(mailbox("u@d.example").unwrap()));
        assert!(parse_forward_path("<@a b:u@d.example>").is_err());
    }

    #[test]
    fn rfc5321_4_5_1_postmaster_needs_no_domain() {
        assert_eq!(parse_forward_path("<PostMaster>").unwrap(), ForwardPath::Postmaster);
        assert_eq!(parse_reverse_path("<>").unwrap(), ReversePath::Null);
        assert!(parse_forward_path("<>").is_err());
        assert!(parse_reverse_path("a@b.example").is_err());
    }
}
