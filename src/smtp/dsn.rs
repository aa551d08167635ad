//! What a sender asks of delivery status notifications: NOTIFY, ORCPT, RET, ENVID (RFC 3461 §4).
//!
//! Each value is checked once and kept as it was written, because it has to reach the next hop
//! with the same octets (RFC 3461 §5.2.1); its meaning is read from it. Decoded values hold no
//! control characters, so they can stand in a report without breaking it.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The longest value of ENVID (RFC 3461 §4.4), in octets as it is written.
pub const ENVID_LIMIT: usize = 100;
/// The longest value of ORCPT (RFC 3461 §4.2), in octets as it is written.
pub const ORCPT_LIMIT: usize = 500;

/// The value does not follow RFC 3461 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value does not follow RFC 3461")]
pub struct NotDsn;

/// `RET=`: how much of the message comes back with a report of failure (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ret {
    /// The whole message.
    #[serde(rename = "FULL")]
    Full,
    /// Its header alone.
    #[serde(rename = "HDRS")]
    Headers,
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        })
    }
}

impl FromStr for Ret {
    type Err = NotDsn;

    fn from_str(text: &str) -> Result<Self, NotDsn> {
        [Self::Full, Self::Headers].into_iter().find(|ret| text.eq_ignore_ascii_case(&ret.to_string())).ok_or(NotDsn)
    }
}

/// What a recipient's fate can be told for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyOn {
    /// It was delivered, or passed to a host that cannot tell.
    Success,
    /// It failed for good.
    Failure,
    /// It waits.
    Delay,
}

impl NotifyOn {
    fn word(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Delay => "DELAY",
        }
    }
}

/// `NOTIFY=`: `NEVER`, or a list of the others, each at most once (RFC 3461 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Notify(String);

impl Notify {
    /// Whether the list has this word. `NEVER` has none.
    #[must_use]
    pub fn has(&self, on: NotifyOn) -> bool {
        self.0.split(',').any(|word| word.eq_ignore_ascii_case(on.word()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Notify {
    type Err = NotDsn;

    fn from_str(text: &str) -> Result<Self, NotDsn> {
        let notify = Self(text.to_owned());
        let all = [NotifyOn::Success, NotifyOn::Failure, NotifyOn::Delay];
        let known = all.into_iter().filter(|on| notify.has(*on)).count();
        // With a word twice, or with another one, there are more words than known ones.
        let is_list = known > 0 && text.split(',').count() == known;
        if is_list || text.eq_ignore_ascii_case("NEVER") { Ok(notify) } else { Err(NotDsn) }
    }
}

/// `ENVID=`: the sender's name for this envelope (RFC 3461 §4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvelopeId(String);

impl EnvelopeId {
    /// As it was written, in xtext.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the sender knows it, in printable ASCII.
    #[must_use]
    pub fn decoded(&self) -> String {
        printable(&self.0).unwrap_or_default()
    }
}

impl FromStr for EnvelopeId {
    type Err = NotDsn;

    fn from_str(text: &str) -> Result<Self, NotDsn> {
        let fits = !text.is_empty() && text.len() <= ENVID_LIMIT && printable(text).is_some();
        if fits { Ok(Self(text.to_owned())) } else { Err(NotDsn) }
    }
}

/// `ORCPT=type;address`: the recipient as the sender wrote it (RFC 3461 §4.2; the address type
/// `utf-8`: RFC 6533 §3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OriginalRecipient(String);

impl OriginalRecipient {
    /// As it was written: the address in xtext.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it goes to a next hop, always in ASCII (RFC 6533 §3): whether that takes UTF-8 is decided by
    /// the addresses that it must know.
    #[must_use]
    pub fn on_the_wire(&self) -> Cow<'_, str> {
        if self.0.is_ascii() {
            return Cow::Borrowed(&self.0);
        }
        Cow::Owned(format!("{};{}", self.address_type(), to_code_points(&self.address())))
    }

    /// The address type, as it was written: `rfc822`, `utf-8`, `x400`.
    #[must_use]
    pub fn address_type(&self) -> &str {
        self.0.split_once(';').map_or("", |(kind, _)| kind)
    }

    /// The address as the sender knows it; printable, outside ASCII only with the type `utf-8`.
    #[must_use]
    pub fn address(&self) -> String {
        self.0.split_once(';').and_then(|(kind, address)| decode_address(kind, address)).unwrap_or_default()
    }
}

impl FromStr for OriginalRecipient {
    type Err = NotDsn;

    fn from_str(text: &str) -> Result<Self, NotDsn> {
        let (kind, address) = text.split_once(';').ok_or(NotDsn)?;
        let is_atom = !kind.is_empty() && kind.bytes().all(super::address::is_atext);
        let fits = text.len() <= ORCPT_LIMIT && is_atom && decode_address(kind, address).is_some();
        if fits { Ok(Self(text.to_owned())) } else { Err(NotDsn) }
    }
}

/// The three values that are kept as text: all the same on the way to the disk and back.
macro_rules! kept_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotDsn;

            fn try_from(text: String) -> Result<Self, NotDsn> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    )*};
}

kept_as_text!(Notify, EnvelopeId, OriginalRecipient);

/// Octets as xtext (RFC 3461 §4).
#[must_use]
pub fn to_xtext(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for &octet in octets {
        if octet.is_ascii_graphic() && !b"+=".contains(&octet) {
            text.push(char::from(octet));
        } else {
            text.push_str(&format!("+{octet:02X}"));
        }
    }
    text
}

/// The octets behind xtext (RFC 3461 §4); `None` when it is none. What is outside ASCII passes,
/// for those who allow it.
fn from_xtext(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => hex_digit(rest.next()?)? * 16 + hex_digit(rest.next()?)?,
            b'=' => return None,
            _ if octet.is_ascii_graphic() || !octet.is_ascii() => octet,
            _ => return None,
        });
    }
    Some(octets)
}

/// Capital letters alone (RFC 3461 §4).
fn hex_digit(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        _ => None,
    }
}

/// Decodes what must be printable ASCII.
fn printable(xtext: &str) -> Option<String> {
    let decoded = String::from_utf8(from_xtext(xtext)?).ok()?;
    (xtext.is_ascii() && decoded.bytes().all(|b| (32..127).contains(&b))).then_some(decoded)
}

fn decode_address(kind: &str, address: &str) -> Option<String> {
    if !kind.eq_ignore_ascii_case("utf-8") {
        return printable(address);
    }
    let decoded = without_code_points(&String::from_utf8(from_xtext(address)?).ok()?)?;
    (!decoded.contains(char::is_control)).then_some(decoded)
}

/// An address with `\x{HEX}` for whatever is not plain (RFC 6533 §3, utf-8-addr-xtext).
#[must_use]
pub fn to_code_points(address: &str) -> String {
    address.chars().fold(String::new(), |mut text, character| {
        if character.is_ascii_graphic() && !"+=\\".contains(character) {
            text.push(character);
        } else {
            text.push_str(&format!("\\x{{{:02X}}}", u32::from(character)));
        }
        text
    })
}

/// Replaces `\x{HEX}`, the way to write any character in ASCII (RFC 6533 §3).
fn without_code_points(text: &str) -> Option<String> {
    let mut parts = text.split('\\');
    let mut decoded = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.strip_prefix("x{")?.split_once('}')?;
        let is_number = (2..=6).contains(&digits.len()) && digits.bytes().all(|b| hex_digit(b).is_some());
        let code_point = is_number.then(|| u32::from_str_radix(digits, 16).ok())??;
        decoded.push(char::from_u32(code_point)?);
        decoded.push_str(rest);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(text: &str) -> Result<Notify, NotDsn> {
        text.parse()
    }

    #[test]
    fn rfc3461_4_1_notify_is_never_or_a_list_without_repetition() {
        let has = |text: &str| {
            let notify = notify(text).unwrap();
            assert_eq!(notify.to_string(), text, "the next hop gets what was written");
            [NotifyOn::Success, NotifyOn::Failure, NotifyOn::Delay].map(|on| notify.has(on))
        };
        assert_eq!(has("NEVER"), [false, false, false]);
        assert_eq!(has("never"), [false, false, false]);
        assert_eq!(has("SUCCESS"), [true, false, false]);
        assert_eq!(has("failure"), [false, true, false]);
        assert_eq!(has("Delay,Success"), [true, false, true]);
        assert_eq!(has("DELAY,FAILURE,SUCCESS"), [true, true, true]);
        for bad in [
            "",
            ",",
            "NEVER,SUCCESS",
            "SUCCESS,NEVER",
            "NEVER,NEVER",
            "SUCCESS,SUCCESS",
            "success,SUCCESS",
            "SUCCESS,",
            ",SUCCESS",
            "SUCCESS,,DELAY",
            "SUCCESS;DELAY",
            "SUCCESS, DELAY",
            "ALWAYS",
            "FAILURE,OFTEN",
            "SUCCES",
        ] {
            assert_eq!(notify(bad), Err(NotDsn), "{bad:?}");
        }
    }

    #[test]
    fn rfc3461_4_3_ret_is_full_or_headers() {
        assert_eq!(("full".parse(), "HDRS".parse()), (Ok(Ret::Full), Ok(Ret::Headers)));
        for bad in ["", "HEADERS", "FULL,HDRS", "NONE"] {
            assert_eq!(bad.parse::<Ret>(), Err(NotDsn), "{bad:?}");
        }
    }

    #[test]
    fn rfc3461_4_xtext_comes_back_unchanged() {
        for octets in [b"".as_slice(), b"QQ314159", b"a+b=c d", b"\0\x7f\x80\xff", b"~!\"#$%&'()*,-./:;<>?@[\\]^_`{|}"]
        {
            let text = to_xtext(octets);
            assert_eq!(from_xtext(&text).as_deref(), Some(octets), "{text}");
            assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b'='));
        }
        assert_eq!(to_xtext(b"a+b=c d"), "a+2Bb+3Dc+20d");
        for bad in ["a=b", "a b", "+", "+4", "+4g", "+4a", "++", "\t", "\u{7f}"] {
            assert_eq!(from_xtext(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rfc3461_4_4_an_envelope_id_is_printable_and_at_most_one_hundred_octets() {
        let id: EnvelopeId = "QQ+20314159+2B".parse().unwrap();
        assert_eq!((id.as_str(), id.decoded().as_str()), ("QQ+20314159+2B", "QQ 314159+"));
        assert!("x".repeat(ENVID_LIMIT).parse::<EnvelopeId>().is_ok());
        let above = "x".repeat(ENVID_LIMIT + 1);
        for bad in ["", "a=b", "a+0D+0A", "a+00", "a+7F", "a+FC", "+C3+BC", "\u{fc}", &above] {
            assert_eq!(bad.parse::<EnvelopeId>(), Err(NotDsn), "{bad:?}");
        }
    }

    fn orcpt(text: &str) -> Result<(String, String), NotDsn> {
        let parsed: OriginalRecipient = text.parse()?;
        assert_eq!(parsed.as_str(), text, "the next hop gets what was written");
        Ok((parsed.address_type().to_owned(), parsed.address()))
    }

    #[test]
    fn rfc3461_4_2_an_original_recipient_has_a_type_and_a_printable_address() {
        let is = |kind: &str, address: &str| Ok((kind.to_owned(), address.to_owned()));
        assert_eq!(orcpt("rfc822;Bob@Example.COM"), is("rfc822", "Bob@Example.COM"));
        assert_eq!(orcpt("RFC822;a+2Bb+20;c@d.example"), is("RFC822", "a+b ;c@d.example"));
        assert_eq!(orcpt("x400;/G+3DAnn/S+3DLee/"), is("x400", "/G=Ann/S=Lee/"));
        assert_eq!(orcpt("rfc822;"), is("rfc822", ""), "xtext may be empty, and it may be kept so; RCPT refuses it");
        let at = format!("rfc822;{}", "x".repeat(ORCPT_LIMIT - 7));
        assert!(orcpt(&at).is_ok());
        for bad in [
            "",
            ";",
            "rfc822",
            ";a@b.example",
            "rfc 822;a",
            "rfc@822;a",
            "rfc822;a=b",
            "rfc822;a b",
            "rfc822;a+0a",
            "rfc822;a+0D+0ASubject:",
            "rfc822;a+00",
            "rfc822;+C3+BC",
            "rfc822;j\u{fc}rgen@b.example",
            &format!("{at}x"),
        ] {
            assert_eq!(orcpt(bad), Err(NotDsn), "{bad:?}");
        }
    }

    #[test]
    fn rfc6533_3_the_type_utf_8_takes_characters_outside_ascii_in_each_form() {
        let is = |address: &str| Ok(("utf-8".to_owned(), address.to_owned()));
        for written in
            ["j\u{fc}rgen@b.example", "j\\x{FC}rgen@b.example", "j+5Cx{FC}rgen@b.example", "j+C3+BCrgen@b.example"]
        {
            assert_eq!(orcpt(&format!("utf-8;{written}")), is("j\u{fc}rgen@b.example"));
        }
        assert_eq!(orcpt("utf-8;a\\x{2B}\\x{3D}\\x{5C}\\x{1F600}"), is("a+=\\\u{1f600}"));
        for bad in [
            "\\",
            "\\x",
            "\\x{",
            "\\x{}",
            "\\x{1}",
            "\\x{FC",
            "\\x{fc}",
            "\\x{110000}",
            "\\x{D800}",
            "\\x{0D}",
            "\\x{85}",
            "a\\\\b",
            "+C3",
            "+0D",
            "a b",
            "\u{85}",
        ] {
            assert_eq!(orcpt(&format!("utf-8;{bad}")), Err(NotDsn), "{bad:?}");
        }
    }

    #[test]
    fn what_is_read_from_the_disk_is_checked_again() {
        let read = |json: &str| serde_json::from_str::<Notify>(json).is_ok();
        assert!(read("\"SUCCESS,DELAY\"") && !read("\"SUCCESS\\r\\n\""));
        let id: EnvelopeId = "a+20b".parse().unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str(&json).unwrap()), ("\"a+20b\"", id));
    }
}
