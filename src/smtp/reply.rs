//! SMTP replies, enhanced status codes and EHLO keywords
//! (RFC 5321 §4.2, RFC 2034, RFC 3463, RFC 9422).
//!
//! The same [`Reply`] is what our server says and what our client hears. Texts that come from
//! a remote side are bounded and printable before anything else sees them.

use super::shown::readable;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

pub use super::shown::printable;

/// The longest line of a reply we read, in octets. RFC 5321 §4.5.3.1.5 says 512; some servers repeat whole
/// header fields in their refusals.
pub const REPLY_LIMIT: usize = 64 * 1024;
/// The longest reply we read, in octets with its line ends: thousands of lines. An endless reply is an error.
const WHOLE_REPLY_LIMIT: usize = 8 * REPLY_LIMIT;
/// The most lines of one reply that are kept: the first ones, and the last, which decides.
pub const REPLY_LINES_LIMIT: usize = 128;
/// How much text of one reply is kept for logs and NDRs, in octets.
pub const REPLY_TEXT_LIMIT: usize = 2000;
/// How much of it the lines before the last may take: the last one is what the server wants to say.
const TEXT_BEFORE_LAST_LIMIT: usize = 1500;
/// How much of a line is shown that cannot be read, in octets.
const ODD_LINE_SHOWN: usize = 200;

/// The most ways to log in that we read; real servers have fewer than ten.
const AUTH_LIMIT: usize = 32;

/// An enhanced status code, `class.subject.detail` (RFC 3463 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnhancedStatusCode {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// What the code is about, 0–999.
    pub subject: u16,
    /// The detail, 0–999.
    pub detail: u16,
}

impl EnhancedStatusCode {
    /// A code from its three numbers.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }
}

impl fmt::Display for EnhancedStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The text is not an enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code")]
pub struct NotAStatusCode;

impl FromStr for EnhancedStatusCode {
    type Err = NotAStatusCode;

    /// RFC 3463 §2: class 2, 4 or 5; subject and detail of one to three digits, no leading zeros.
    fn from_str(text: &str) -> Result<Self, NotAStatusCode> {
        let mut parts = text.split('.');
        let mut number = |most: usize| {
            let part = parts.next().ok_or(NotAStatusCode)?;
            let leading_zero = part.len() > 1 && part.starts_with('0');
            if part.is_empty() || part.len() > most || leading_zero || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(NotAStatusCode);
            }
            part.parse::<u16>().map_err(|_| NotAStatusCode)
        };
        let (class, subject, detail) = (number(1)?, number(3)?, number(3)?);
        if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
            return Err(NotAStatusCode);
        }
        Ok(Self { class: u8::try_from(class).map_err(|_| NotAStatusCode)?, subject, detail })
    }
}

impl TryFrom<String> for EnhancedStatusCode {
    type Error = NotAStatusCode;

    fn try_from(text: String) -> Result<Self, NotAStatusCode> {
        text.parse()
    }
}

impl From<EnhancedStatusCode> for String {
    fn from(code: EnhancedStatusCode) -> Self {
        code.to_string()
    }
}

/// What the first digit of a reply says (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 2yz: done.
    Completed,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: try again later.
    Transient,
    /// 5yz: do not try again.
    Permanent,
}

/// A reply of an SMTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The three digits, 200–599.
    pub code: u16,
    /// The enhanced code, when one stands at the start of the text and fits the reply's class.
    pub enhanced: Option<EnhancedStatusCode>,
    /// The text of each line, without codes and CRLF.
    pub lines: Vec<String>,
}

impl Reply {
    /// A one-line reply without an enhanced code, as greetings and EHLO want it (RFC 2034 §4).
    #[must_use]
    pub fn plain(code: u16, text: impl Into<String>) -> Self {
        Self { code, enhanced: None, lines: vec![text.into()] }
    }

    /// A one-line reply with an enhanced code whose class fits `code`.
    #[must_use]
    pub fn new(code: u16, subject: u16, detail: u16, text: impl Into<String>) -> Self {
        let class = u8::try_from(code / 100).unwrap_or(5);
        let enhanced = Some(EnhancedStatusCode::new(class, subject, detail));
        Self { code, enhanced, lines: vec![text.into()] }
    }

    /// What the first digit says.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.code / 100 {
            2 => Severity::Completed,
            3 => Severity::Intermediate,
            4 => Severity::Transient,
            // The parser and our own replies hold nothing outside 200–599.
            _ => Severity::Permanent,
        }
    }

    /// The lines as one text, without codes.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// The reply as it goes over the wire.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(64);
        let last = self.lines.len().saturating_sub(1);
        for (i, line) in self.lines.iter().enumerate() {
            wire.extend_from_slice(self.code.to_string().as_bytes());
            wire.push(if i == last { b' ' } else { b'-' });
            if let Some(enhanced) = self.enhanced {
                wire.extend_from_slice(enhanced.to_string().as_bytes());
                wire.push(b' ');
            }
            wire.extend(line.bytes().filter(|b| (32..127).contains(b)).take(440));
            wire.extend_from_slice(b"\r\n");
        }
        wire
    }
}

/// `550 5.1.1 no such user`, several lines joined.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text())
    }
}

/// Why bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line above [`REPLY_LIMIT`], or one that does not end.
    #[error("the reply is too long")]
    TooLong,
    /// The line that should decide has no code from 200 to 599; as it may be shown.
    #[error("not an SMTP reply: {0}")]
    Syntax(String),
}

/// Collects one reply from lines as they arrive; see [`ReplyParser::line`].
#[derive(Debug, Default)]
pub struct ReplyParser {
    lines: Vec<String>,
    read: usize,
    kept: usize,
}

/// What a line is within a reply.
enum ReplyLine<'a> {
    /// There is more to come.
    More(&'a [u8]),
    /// The last one, which decides.
    Last(u16, &'a [u8]),
    /// No code stands at its beginning.
    Text(&'a [u8]),
}

impl ReplyParser {
    /// Takes one line (with or without its line end). Gives the reply with its last line.
    ///
    /// The code of the last line is that of the reply (RFC 5321 §4.2): servers that say `220-` and
    /// then `521` exist. What stands before it, a code or none, is text; so are empty lines before
    /// the first.
    ///
    /// # Errors
    /// [`ReplyError`] when it is no reply; the connection is then unusable.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        self.read = self.read.saturating_add(line.len());
        if line.len() > REPLY_LIMIT || self.read > WHOLE_REPLY_LIMIT {
            return Err(ReplyError::TooLong);
        }
        let line = without_line_end(line);
        match part(line) {
            ReplyLine::More(text) => self.keep_before_last(text),
            ReplyLine::Text([]) if self.lines.is_empty() => {}
            ReplyLine::Text(text) if !self.lines.is_empty() => self.keep_before_last(text),
            ReplyLine::Last(code, text) if (200..600).contains(&code) => {
                self.keep(text, REPLY_TEXT_LIMIT);
                let lines = std::mem::take(&mut self.lines);
                *self = Self::default();
                return Ok(Some(with_enhanced_code(code, lines)));
            }
            ReplyLine::Text(_) | ReplyLine::Last(..) => return Err(ReplyError::Syntax(readable(line, ODD_LINE_SHOWN))),
        }
        Ok(None)
    }

    /// What a server says at length is no reason to doubt its code: lines in the middle are left out.
    fn keep_before_last(&mut self, text: &[u8]) {
        if self.lines.len() + 1 < REPLY_LINES_LIMIT {
            self.keep(text, TEXT_BEFORE_LAST_LIMIT);
        }
    }

    fn keep(&mut self, text: &[u8], limit: usize) {
        let text = readable(text, limit.saturating_sub(self.kept));
        self.kept += text.len();
        self.lines.push(text);
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The blank behind the code may be missing, or be a tab; a fourth digit is no code.
fn part(line: &[u8]) -> ReplyLine<'_> {
    let Some((digits, rest)) = line.split_at_checked(3) else { return ReplyLine::Text(line) };
    if !digits.iter().all(u8::is_ascii_digit) {
        return ReplyLine::Text(line);
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => ReplyLine::Last(code, rest),
        Some((b'-', text)) => ReplyLine::More(text),
        Some((b' ' | b'\t', text)) => ReplyLine::Last(code, text),
        Some((digit, _)) if digit.is_ascii_digit() => ReplyLine::Text(line),
        Some(_) => ReplyLine::Last(code, rest),
    }
}

/// Takes `x.y.z ` off each line when it fits the reply's class (RFC 2034 §4). Where lines disagree
/// the last one has it.
fn with_enhanced_code(code: u16, mut lines: Vec<String>) -> Reply {
    let begins = |line: &String| {
        let word = line.split(' ').next().unwrap_or_default();
        let enhanced = word.parse().ok().filter(|e: &EnhancedStatusCode| u16::from(e.class) == code / 100);
        enhanced.map(|enhanced| (enhanced, word.to_owned()))
    };
    let found = lines.first().and_then(begins).or_else(|| lines.last().and_then(begins));
    let enhanced = found.as_ref().map(|(enhanced, _)| *enhanced);
    if let Some((_, word)) = found {
        for line in &mut lines {
            // `5.1.10` begins with `5.1.1` and is another code.
            if let Some(rest) = line.strip_prefix(&word).filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
                *line = rest.trim_start().to_owned();
            }
        }
    }
    Reply { code, enhanced, lines }
}

/// What a server offers in its reply to EHLO. Unknown keywords are ignored (RFC 5321 §4.1.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a keyword of its own that is there or not")]
pub struct Capabilities {
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// REQUIRETLS; it counts only inside TLS (RFC 8689 §2).
    pub require_tls: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
    /// LIMITS (RFC 9422).
    pub limits: Limits,
    /// AUTH: the ways to log in (RFC 4954).
    pub auth: Vec<String>,
    /// SIZE (RFC 1870): offered, and the limit when one above zero was named.
    pub size: Option<Option<u64>>,
}

/// What LIMITS says (RFC 9422 §4); a limit that is not named does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `MAILMAX`: MAIL commands in one connection.
    pub mail: Option<u32>,
    /// `RCPTMAX`: RCPT commands in one transaction.
    pub rcpt: Option<u32>,
    /// `RCPTDOMAINMAX`: domains of recipients in one connection.
    pub rcpt_domain: Option<u32>,
}

impl Limits {
    /// Reads the words behind the keyword. Unknown limits and values that cannot be one count for
    /// nothing (RFC 9422 §3).
    fn from_words<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut limits = Self::default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = limit_value(value);
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => limits.mail = value,
                "RCPTMAX" => limits.rcpt = value,
                "RCPTDOMAINMAX" => limits.rcpt_domain = value,
                _ => {}
            }
        }
        limits
    }
}

/// One to six digits, the first of them not 0 (RFC 9422 §4).
fn limit_value(digits: &str) -> Option<u32> {
    let is_one =
        (1..=6).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| is_one)
}

impl Capabilities {
    /// Reads the keywords of a positive reply to EHLO. The first line is the name of the server, but
    /// for servers that begin with a keyword at once.
    #[must_use]
    pub fn from_ehlo(reply: &Reply) -> Self {
        let mut offered = Self::default();
        let begins_at_once = reply.lines.first().is_some_and(|first| is_keyword_alone(first));
        for line in reply.lines.iter().skip(usize::from(!begins_at_once)) {
            let mut words = line.split_ascii_whitespace();
            match words.next().map(str::to_ascii_uppercase).as_deref() {
                Some("STARTTLS") => offered.starttls = true,
                Some("REQUIRETLS") => offered.require_tls = true,
                Some("PIPELINING") => offered.pipelining = true,
                Some("8BITMIME") => offered.eight_bit_mime = true,
                Some("CHUNKING") => offered.chunking = true,
                Some("DSN") => offered.dsn = true,
                Some("SMTPUTF8") => offered.smtp_utf8 = true,
                Some("AUTH") => offered.auth = words.take(AUTH_LIMIT).map(str::to_ascii_uppercase).collect(),
                Some("LIMITS") => offered.limits = Limits::from_words(words),
                Some("SIZE") => {
                    let limit = words.next().and_then(|n| n.parse().ok()).filter(|&n| n > 0);
                    offered.size = Some(limit);
                }
                Some(_) | None => {}
            }
        }
        offered
    }
}

/// Whether the first line of a reply to EHLO can be nothing but a keyword: a server with such a name
/// and a word of greeting behind it is none.
fn is_keyword_alone(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let keyword = words.next().map(str::to_ascii_uppercase);
    let behind: Vec<&str> = words.collect();
    match keyword.as_deref() {
        Some("STARTTLS" | "REQUIRETLS" | "PIPELINING" | "8BITMIME" | "CHUNKING" | "DSN" | "SMTPUTF8") => {
            behind.is_empty()
        }
        Some("SIZE") => behind.len() <= 1 && behind.iter().all(|word| word.bytes().all(|b| b.is_ascii_digit())),
        Some("LIMITS" | "AUTH" | "ENHANCEDSTATUSCODES") => true,
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(wire: &str) -> Result<Reply, ReplyError> {
        let mut parser = ReplyParser::default();
        for line in wire.split_inclusive('\n') {
            if let Some(reply) = parser.line(line.as_bytes())? {
                return Ok(reply);
            }
        }
        Err(ReplyError::Syntax("it ended early".into()))
    }

    #[test]
    fn rfc5321_4_2_multiline_replies_are_one_reply() {
        let reply = parse("550-5.1.1 no such\r\n550 5.1.1 user\r\n").unwrap();
        assert_eq!(reply.to_string(), "550 5.1.1 no such user");
        assert_eq!(reply.severity(), Severity::Permanent);
        assert_eq!(parse("250\r\n").unwrap().text(), "");
        assert_eq!(parse("220 x\n").unwrap().text(), "x");
    }

    #[test]
    fn rfc5321_4_2_what_is_no_reply_is_refused_and_shown() {
        for wire in [
            "",
            "25\r\n",
            "abc\r\n",
            "650 x\r\n",
            "+20 x\r\n",
            "2500 x\r\n",
            "199 a\r\n",
            "000\r\n",
            "250-a\r\n600 b\r\n",
        ] {
            assert!(parse(wire).is_err(), "{wire:?}");
        }
        let shown = parse("HTTP/1.1 400 Bad\r\n").unwrap_err().to_string();
        assert_eq!(shown, "not an SMTP reply: HTTP/1.1 400 Bad");
    }

    #[test]
    fn rfc5321_4_2_the_code_of_the_last_line_decides_however_odd_the_others_are() {
        for (wire, code, text) in [
            ("250-a\r\n251 b\r\n", 251, "a b"),
            ("220-mx\r\n521 blocked\r\n", 521, "mx blocked"),
            ("250-a\r\n600-b\r\n250 c\r\n", 250, "a b c"),
            ("250-a\r\n and more\r\n\r\n250 b\r\n", 250, "a  and more  b"),
            ("\r\n\n250 after empty lines\r\n", 250, "after empty lines"),
            ("250ok\r\n", 250, "ok"),
            ("250\tok\r\n", 250, "ok"),
            ("550", 550, ""),
        ] {
            let reply = parse(wire).unwrap();
            assert_eq!((reply.code, reply.text().as_str()), (code, text), "{wire:?}");
        }
    }

    #[test]
    fn rfc6531_3_7_4_text_in_utf_8_stays_and_other_octets_are_shown_by_number() {
        let shown = |text: &[u8]| ReplyParser::default().line(&[b"550 ", text].concat()).unwrap().unwrap().text();
        assert_eq!(shown("Postfach für Jürgen gesperrt 満杯".as_bytes()), "Postfach für Jürgen gesperrt 満杯");
        assert_eq!(shown(b"f\xfcr \xff\r\x1b[2J"), r"f\xFCr \xFF\x0D\x1B[2J");
        assert_eq!(shown("a\u{202e}b".as_bytes()), r"a\xE2\x80\xAEb", "nothing turns the text around");
        assert_eq!(printable("ü".as_bytes(), 7), r"\xC3", "an octet is shown whole or not at all");
    }

    #[test]
    fn a_long_reply_is_read_and_its_last_line_is_kept() {
        let mut wire = "550-5.6.0 ".to_owned() + &"x".repeat(20_000) + "\r\n";
        wire += &("550-".to_owned() + &"y".repeat(20_000) + "\r\n550 5.6.0 the reason\r\n");
        let reply = parse(&wire).unwrap();
        assert!(reply.text().ends_with("the reason") && reply.text().len() <= REPLY_TEXT_LIMIT);
    }

    #[test]
    fn rfc3463_2_only_well_formed_codes_of_the_same_class_count() {
        assert_eq!(parse("550 5.1.1 no").unwrap().enhanced, Some(EnhancedStatusCode::new(5, 1, 1)));
        for wire in ["550 no", "550 5.01.1 no", "550 4.1.1 no", "550 5.1 no", "550 5.1.1.1 no", "550 5.1.1000 x"] {
            assert_eq!(parse(wire).unwrap().enhanced, None, "{wire}");
        }
    }

    #[test]
    fn rfc2034_4_a_longer_code_on_a_later_line_stays_text() {
        let reply = parse("550-5.1.1 one\r\n550-5.1.10 two\r\n550 5.1.1\r\n").unwrap();
        assert_eq!(reply.lines, ["one", "5.1.10 two", ""]);
    }

    #[test]
    fn rfc5321_4_2_a_refusal_of_many_lines_is_a_refusal() {
        let mut wire: String = (1..400).map(|n| format!("550-5.7.1 reason {n}{}\r\n", " x".repeat(200))).collect();
        wire.push_str("550 5.7.1 the last word\r\n");
        let reply = parse(&wire).unwrap();
        assert_eq!((reply.code, reply.enhanced), (550, Some(EnhancedStatusCode::new(5, 7, 1))));
        assert_eq!(reply.lines.len(), REPLY_LINES_LIMIT);
        assert!(reply.lines[0].starts_with("reason 1 x"), "{}", reply.lines[0]);
        assert_eq!(reply.lines.last().unwrap(), "the last word");
        assert!(reply.text().len() <= REPLY_TEXT_LIMIT + REPLY_LINES_LIMIT);
    }

    #[test]
    fn endless_and_binary_replies_are_bounded() {
        let mut parser = ReplyParser::default();
        let end = (0..WHOLE_REPLY_LIMIT).find_map(|_| parser.line(b"250-x\r\n").err());
        assert_eq!(end, Some(ReplyError::TooLong));
        let long = [b"250 ".as_slice(), &[b'x'; REPLY_LIMIT]].concat();
        assert_eq!(ReplyParser::default().line(&long), Err(ReplyError::TooLong));
        let reply = parse("550 a\rSubject: x\u{7f}\r\n").unwrap();
        assert_eq!(reply.text(), r"a\x0DSubject: x\x7F");
    }

    #[test]
    fn rfc5321_4_1_1_1_unknown_keywords_are_ignored() {
        let reply = parse("250-mx\r\n250-X-ANONYMOUSTLS\r\n250-size 1000\r\n250-XRDST\r\n250 StartTLS\r\n").unwrap();
        let offered = Capabilities::from_ehlo(&reply);
        assert_eq!(offered, Capabilities { starttls: true, size: Some(Some(1000)), ..Capabilities::default() });
    }

    #[test]
    fn rfc5321_4_1_1_1_a_reply_to_ehlo_may_begin_with_a_keyword_and_a_name_is_none() {
        let offered = |wire: &str| Capabilities::from_ehlo(&parse(wire).unwrap());
        assert!(offered("250-PIPELINING\r\n250-SIZE 5\r\n250 STARTTLS\r\n").pipelining);
        assert_eq!(offered("250-SIZE 5\r\n250 HELP\r\n").size, Some(Some(5)));
        assert!(offered("250 8BITMIME\r\n").eight_bit_mime);
        for named in
            ["250-dsn Hello relay\r\n250 HELP\r\n", "250-size.example\r\n250 HELP\r\n", "250 size of a server\r\n"]
        {
            assert_eq!(offered(named), Capabilities::default(), "{named:?}");
        }
    }

    #[test]
    fn rfc9422_3_limits_are_read_and_what_is_none_is_ignored() {
        let limits = |words: &str| {
            let reply = parse(&format!("250-mx\r\n250 LIMITS {words}\r\n")).unwrap();
            let Limits { mail, rcpt, rcpt_domain } = Capabilities::from_ehlo(&reply).limits;
            [mail, rcpt, rcpt_domain]
        };
        assert_eq!(limits("MailMax=7 RCPTMAX=999999 X-OTHER=1 RCPTDOMAINMAX=1"), [Some(7), Some(999_999), Some(1)]);
        assert_eq!(limits(""), [None; 3]);
        for value in ["0", "01", "1000000", "+1", "-1", "", "many", "1;2"] {
            assert_eq!(limits(&format!("RCPTMAX={value} MAILMAX=2")), [Some(2), None, None], "{value}");
        }
    }

    #[test]
    fn our_replies_carry_the_code_on_every_line() {
        let mut reply = Reply::new(451, 4, 3, "one");
        reply.lines.push("two\r\nthree".into());
        assert_eq!(reply.to_wire(), b"451-4.4.3 one\r\n451 4.4.3 twothree\r\n");
    }
}
