//! The policy at `https://mta-sts.<domain>/.well-known/mta-sts.txt` (pure) (RFC 8461 §3.2, §4.1).
//!
//! Lines of `key: value`. Keys are case-sensitive; keys that the standard does not know are
//! ignored, and of a key that is there twice the first counts, `mx` excepted. Empty lines say
//! nothing. A policy that breaks the rules is none.

use super::record::is_field_name;
use crate::smtp::address::Domain;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The longest policy, in octets (RFC 8461 §3.2 advises a limit of 64 kilobytes).
pub const POLICY_LIMIT: usize = 65_536;
/// The longest life of a policy: a year (RFC 8461 §3.2).
pub const MAX_AGE_LIMIT: Duration = Duration::from_secs(31_557_600);
/// The most `mx` patterns of a policy; real ones have a handful. One of the longest could name ten
/// thousand, which take ten times its room.
pub const MX_LIMIT: usize = 1000;
/// The most digits of `max_age` (RFC 8461 §3.2).
const MAX_AGE_DIGITS: usize = 10;

/// What shall happen to mail for MX hosts that do not keep to the policy (RFC 8461 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// They must not get it.
    Enforce,
    /// They get it, and the domain is told.
    Testing,
    /// The domain has no policy any more.
    None,
}

impl Mode {
    /// The word of the standard.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

/// MX hosts that a policy allows (RFC 8461 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxPattern {
    /// This host.
    Exactly(Domain),
    /// `*.` and a domain: the hosts with exactly one label more.
    Below(Domain),
}

impl MxPattern {
    fn read(text: &str) -> Option<Self> {
        // RFC 8461 §3.2 wants A-labels; a domain would take U-labels, too.
        if !text.is_ascii() {
            return None;
        }
        match text.strip_prefix("*.") {
            Some(parent) => parent.parse().ok().map(Self::Below),
            None => text.parse().ok().map(Self::Exactly),
        }
    }

    /// Whether an MX host is meant, compared as A-labels without regard to case; a dot at its
    /// end does not count.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Exactly(name) => host.eq_ignore_ascii_case(name.as_str()),
            Self::Below(parent) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent.as_str())),
        }
    }
}

impl fmt::Display for MxPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => write!(f, "{name}"),
            Self::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// What a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How it is meant.
    pub mode: Mode,
    /// The MX hosts it allows; at least one unless the mode is none.
    pub mx: Vec<MxPattern>,
    /// How long it holds.
    pub max_age: Duration,
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyError {
    /// It is longer than [`POLICY_LIMIT`].
    #[error("it is longer than 65,536 octets")]
    TooLong,
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It begins with a byte order mark, which the grammar has no place for (RFC 8461 §3.2).
    #[error("it begins with a byte order mark (U+FEFF), as some editors write it")]
    ByteOrderMark,
    /// A line is no `key: value`.
    #[error("line {0} is not of the form key: value")]
    Line(usize),
    /// There is no `version: STSv1`.
    #[error("it has no version: STSv1")]
    Version,
    /// There is no mode, or not one of the three.
    #[error("it has no mode of enforce, testing or none")]
    Mode,
    /// There is no `max_age`, or it is no number of seconds up to a year.
    #[error("it has no max_age of 0 to 31557600 seconds")]
    MaxAge,
    /// It has no `mx`, and its mode is not none.
    #[error("it names no mx")]
    NoMx,
    /// It names more than [`MX_LIMIT`].
    #[error("it names more than 1,000 mx")]
    ManyMx,
    /// An `mx` is neither a host name nor `*.` and a domain.
    #[error("line {0}: its mx is neither a host name nor a pattern like *.example.org")]
    Mx(usize),
}

/// Reads a policy.
///
/// # Errors
/// [`PolicyError`], the first thing that is wrong.
pub fn read(text: &[u8]) -> Result<Terms, PolicyError> {
    if text.len() > POLICY_LIMIT {
        return Err(PolicyError::TooLong);
    }
    let text = std::str::from_utf8(text).map_err(|_| PolicyError::NotUtf8)?;
    if text.starts_with('\u{feff}') {
        return Err(PolicyError::ByteOrderMark);
    }
    let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
    for (nth, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim_matches([' ', '\t']).is_empty() {
            continue;
        }
        let (key, value) = field(line).ok_or(PolicyError::Line(nth + 1))?;
        match key {
            "version" => _ = version.get_or_insert(value),
            "mode" => _ = mode.get_or_insert(value),
            "max_age" => _ = max_age.get_or_insert(value),
            "mx" if mx.len() == MX_LIMIT => return Err(PolicyError::ManyMx),
            "mx" => mx.push(MxPattern::read(value).ok_or(PolicyError::Mx(nth + 1))?),
            _ => {}
        }
    }
    if version != Some("STSv1") {
        return Err(PolicyError::Version);
    }
    let mode = mode.and_then(read_mode).ok_or(PolicyError::Mode)?;
    let max_age = max_age.and_then(read_max_age).ok_or(PolicyError::MaxAge)?;
    if mx.is_empty() && mode != Mode::None {
        return Err(PolicyError::NoMx);
    }
    Ok(Terms { mode, mx, max_age })
}

/// One line: a key, a colon, spaces, a value without control characters, spaces.
fn field(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let value = value.trim_matches([' ', '\t']);
    let value_ok = !value.is_empty() && !value.chars().any(char::is_control);
    (is_field_name(key.as_bytes()) && value_ok).then_some((key, value))
}

fn read_mode(word: &str) -> Option<Mode> {
    [Mode::Enforce, Mode::Testing, Mode::None].into_iter().find(|mode| mode.word() == word)
}

fn read_max_age(digits: &str) -> Option<Duration> {
    let plain = digits.len() <= MAX_AGE_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    let max_age = Duration::from_secs(digits.parse().ok().filter(|_| plain)?);
    (max_age <= MAX_AGE_LIMIT).then_some(max_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n";

    fn terms(text: &str) -> Result<Terms, PolicyError> {
        read(text.as_bytes())
    }

    fn changed(from: &str, to: &str) -> Result<Terms, PolicyError> {
        assert!(GOOD.contains(from));
        terms(&GOOD.replacen(from, to, 1))
    }

    #[test]
    fn rfc8461_3_2_crlf_or_lf_ends_a_line_and_the_last_may_have_none() {
        let good = terms(GOOD).unwrap();
        let shown: Vec<_> = good.mx.iter().map(ToString::to_string).collect();
        assert_eq!((good.mode, shown.join(" ")), (Mode::Enforce, "mail.example.com *.example.net".to_owned()));
        assert_eq!(good.max_age, Duration::from_secs(604_800));
        let crlf = GOOD.replace('\n', "\r\n");
        let mixed = GOOD.replacen('\n', "\r\n", 2);
        for text in [crlf.as_str(), &mixed, GOOD.trim_end(), crlf.trim_end(), &format!("{crlf}\r\n\r\n")] {
            assert_eq!(terms(text).as_ref(), Ok(&good), "{text:?}");
        }
        assert_eq!(terms(&GOOD.replace('\n', "\r")), Err(PolicyError::Line(1)), "a bare CR ends nothing");
    }

    #[test]
    fn rfc8461_3_2_spaces_stand_behind_the_colon_and_at_the_end() {
        let good = terms(GOOD);
        assert_eq!(terms(&GOOD.replace(": ", ":")), good);
        assert_eq!(terms(&GOOD.replace(": ", ":\t  ")), good);
        assert_eq!(terms(&GOOD.replace('\n', " \t\n")), good);
        assert_eq!(changed("mode:", "mode :"), Err(PolicyError::Line(2)));
        assert_eq!(changed("mode:", " mode:"), Err(PolicyError::Line(2)));
    }

    #[test]
    fn rfc8461_3_2_a_policy_of_thousands_of_mx_is_none() {
        let with = |more: usize| terms(&(GOOD.to_owned() + &"mx: a\n".repeat(more))).map(|terms| terms.mx.len());
        assert_eq!((with(MX_LIMIT - 2), with(MX_LIMIT - 1)), (Ok(MX_LIMIT), Err(PolicyError::ManyMx)));
    }

    #[test]
    fn rfc8461_3_2_unknown_keys_are_ignored_and_must_be_keys() {
        let good = terms(GOOD);
        for line in ["a: b", "Mode: none", "MODE: none", "x-y_z.0: \u{fc}ber alles", "9: :", "a: b: c", "mode2: none"] {
            assert_eq!(terms(&format!("{line}\n{GOOD}")), good, "{line}");
        }
        let long = format!("{}: x", "a".repeat(33));
        for line in ["a", "a:", "a: ", ": b", "-a: b", "a b: c", "a: \u{0}", "a: b\tc", "\u{fc}: a", &long] {
            assert_eq!(terms(&format!("{GOOD}{line}\n")), Err(PolicyError::Line(6)), "{line}");
        }
        assert_eq!(terms(""), Err(PolicyError::Version));
        assert_eq!(terms("<html>\n"), Err(PolicyError::Line(1)));
        assert_eq!(read(b"a: \xff\n"), Err(PolicyError::NotUtf8));
    }

    #[test]
    fn rfc8461_3_2_of_a_key_that_is_there_twice_the_first_counts() {
        let good = terms(GOOD);
        assert_eq!(terms(&format!("{GOOD}mode: none\nmax_age: 1\nversion: STSv2\nmode: x\nmax_age: x\n")), good);
        assert_eq!(terms(&format!("mode: x\n{GOOD}")), Err(PolicyError::Mode));
        assert_eq!(terms(&format!("{GOOD}mx: a.example\n")).unwrap().mx.len(), 3);
    }

    #[test]
    fn rfc8461_3_2_version_mode_and_max_age_are_needed_and_exact() {
        for (from, to, error) in [
            ("version: STSv1\n", "", PolicyError::Version),
            ("STSv1", "STSv2", PolicyError::Version),
            ("STSv1", "stsv1", PolicyError::Version),
            ("version", "Version", PolicyError::Version),
            ("mode: enforce\n", "", PolicyError::Mode),
            ("enforce", "Enforce", PolicyError::Mode),
            ("enforce", "report", PolicyError::Mode),
            ("max_age: 604800\n", "", PolicyError::MaxAge),
            ("max_age", "max-age", PolicyError::MaxAge),
            ("604800", "-1", PolicyError::MaxAge),
            ("604800", "+1", PolicyError::MaxAge),
            ("604800", "1.5", PolicyError::MaxAge),
            ("604800", "1d", PolicyError::MaxAge),
            ("604800", "31557601", PolicyError::MaxAge),
            ("604800", "00000000001", PolicyError::MaxAge),
            ("604800", "9999999999", PolicyError::MaxAge),
        ] {
            assert_eq!(changed(from, to), Err(error), "{to}");
        }
        for (digits, seconds) in [("0", 0), ("0000000001", 1), ("31557600", 31_557_600)] {
            assert_eq!(changed("604800", digits).unwrap().max_age, Duration::from_secs(seconds));
        }
        assert_eq!(changed("enforce", "testing").unwrap().mode, Mode::Testing);
    }

    #[test]
    fn rfc8461_3_2_mx_is_needed_unless_the_mode_is_none() {
        let without = GOOD.replace("mx: mail.example.com\nmx: *.example.net\n", "");
        assert_eq!(terms(&without), Err(PolicyError::NoMx));
        assert_eq!(terms(&without.replace("enforce", "testing")), Err(PolicyError::NoMx));
        assert_eq!(terms(&without.replace("enforce", "none")).unwrap().mx, vec![]);
        for mx in
            ["*", "*.", ".example.com", "*.*.example.com", "a.*.com", "m*.example.com", "[192.0.2.1]", "a b", "a..b"]
        {
            assert_eq!(changed("mail.example.com", mx), Err(PolicyError::Mx(3)), "{mx}");
        }
        assert_eq!(changed("mail.example.com", "m\u{fc}ller.example"), Err(PolicyError::Mx(3)), "A-labels alone");
    }

    #[test]
    fn rfc8461_3_2_the_longest_policy_still_counts() {
        let fill = |length: usize| format!("{GOOD}a: {}\n", "x".repeat(length - GOOD.len() - 4));
        assert_eq!(fill(POLICY_LIMIT).len(), POLICY_LIMIT);
        assert!(terms(&fill(POLICY_LIMIT)).is_ok());
        assert_eq!(terms(&fill(POLICY_LIMIT + 1)), Err(PolicyError::TooLong));
    }

    #[test]
    fn rfc8461_4_1_a_pattern_is_a_host_or_one_label_more_than_a_domain() {
        for (pattern, host, expected) in [
            ("mail.example.com", "mail.example.com", true),
            ("mail.example.com", "MAIL.Example.Com.", true),
            ("MAIL.example.com.", "mail.example.com", true),
            ("mail.example.com", "example.com", false),
            ("mail.example.com", "a.mail.example.com", false),
            ("mail.example.com", "mail.example.com.evil.test", false),
            ("*.example.com", "mail.example.com", true),
            ("*.Example.com", "MX.example.COM.", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "mailexample.com", false),
            ("*.com", "example.com", true),
            ("xn--mller-kva.example", "xn--mller-kva.example", true),
            ("*.example.com", "", false),
        ] {
            let pattern = MxPattern::read(pattern).unwrap();
            assert_eq!(pattern.matches(host), expected, "{pattern} and {host}");
        }
    }
}
