//! The parameters of MAIL and RCPT (RFC 5321 §4.1.1.11; RFC 1870, RFC 3461, RFC 4954, RFC 6152,
//! RFC 6531, RFC 8689).
//!
//! Keywords are read in any case, each may be given once, every value is checked here. Whether
//! its extension is offered, the session knows.

use super::dsn::{EnvelopeId, Notify, OriginalRecipient, Ret};
use super::error::CommandError;
use std::str::FromStr;

/// The parameters of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=`, in octets (RFC 1870 §5); a number beyond 64 bits counts as the largest.
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152 §2).
    pub body: Option<BodyParameter>,
    /// `REQUIRETLS` (RFC 8689 §2).
    pub require_tls: bool,
    /// `SMTPUTF8` (RFC 6531 §3.4).
    pub smtp_utf8: bool,
    /// `RET=` (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// `ENVID=` (RFC 3461 §4.4).
    pub envelope_id: Option<EnvelopeId>,
    /// `AUTH=`: who is said to have submitted the message (RFC 4954 §5). It is checked and not believed.
    pub submitter: Option<Submitter>,
}

/// A value of `AUTH=` that is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitter;

/// The parameters of RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// `NOTIFY=` (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// `ORCPT=` (RFC 3461 §4.2).
    pub original_recipient: Option<OriginalRecipient>,
}

/// The values of `BODY=` we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyParameter {
    /// `7BIT`.
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}

/// The most digits of a number of octets (RFC 1870 §3; RFC 3030 names no limit).
const OCTETS_DIGITS_LIMIT: usize = 20;

impl MailParameters {
    /// Reads what follows the reverse-path.
    ///
    /// # Errors
    /// [`CommandError::UnknownParameter`] or [`CommandError::ParameterValue`].
    pub fn parse(text: &[u8]) -> Result<Self, CommandError> {
        let mut parameters = Self::default();
        for (keyword, value) in parameters_of(text) {
            match keyword.to_ascii_uppercase().as_slice() {
                b"SIZE" => once(&mut parameters.size, value.and_then(octets))?,
                b"BODY" => once(&mut parameters.body, body(value.unwrap_or_default())?)?,
                b"REQUIRETLS" => flag(&mut parameters.require_tls, value)?,
                b"SMTPUTF8" => flag(&mut parameters.smtp_utf8, value)?,
                b"RET" => once(&mut parameters.ret, parsed(value))?,
                b"ENVID" => once(&mut parameters.envelope_id, parsed(value))?,
                b"AUTH" => once(&mut parameters.submitter, value.and_then(submitter))?,
                _ => return Err(CommandError::UnknownParameter),
            }
        }
        Ok(parameters)
    }

    /// Whether any of them belongs to the DSN extension.
    #[must_use]
    pub fn are_of_dsn(&self) -> bool {
        self.ret.is_some() || self.envelope_id.is_some()
    }
}

impl RcptParameters {
    /// Reads what follows the forward-path.
    ///
    /// # Errors
    /// [`CommandError::UnknownParameter`] or [`CommandError::ParameterValue`].
    pub fn parse(text: &[u8]) -> Result<Self, CommandError> {
        let mut parameters = Self::default();
        for (keyword, value) in parameters_of(text) {
            match keyword.to_ascii_uppercase().as_slice() {
                b"NOTIFY" => once(&mut parameters.notify, parsed(value))?,
                b"ORCPT" => once(&mut parameters.original_recipient, parsed(value).filter(names_somebody))?,
                _ => return Err(CommandError::UnknownParameter),
            }
        }
        Ok(parameters)
    }

    /// Whether any of them belongs to the DSN extension.
    #[must_use]
    pub fn are_of_dsn(&self) -> bool {
        self.notify.is_some() || self.original_recipient.is_some()
    }
}

/// An address of no octets is one by the grammar of RFC 3461 §4.2, and tells whoever reads a report nothing.
fn names_somebody(original: &OriginalRecipient) -> bool {
    !original.address().is_empty()
}

/// The longest value of `AUTH=` (RFC 4954 §5).
const SUBMITTER_LIMIT: usize = 500;

/// `xtext` (RFC 3461 §4): printable, and `+` only before two digits in upper case.
fn submitter(value: &[u8]) -> Option<Submitter> {
    let is_hex = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b));
    let sound = |(at, b): (usize, &u8)| match b {
        b'+' => is_hex(value.get(at + 1)) && is_hex(value.get(at + 2)),
        _ => b.is_ascii_graphic(),
    };
    let fits = !value.is_empty() && value.len() <= SUBMITTER_LIMIT && value.iter().enumerate().all(sound);
    fits.then_some(Submitter)
}

/// Words of a line.
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// Digits and nothing else. Twenty digits may exceed 64 bits: then it is the largest number.
pub(super) fn octets(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > OCTETS_DIGITS_LIMIT || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |n, &d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

/// Keyword and value of each; no value is something else than an empty one.
fn parameters_of(text: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    words(text).map(|word| {
        let equals = word.iter().position(|&b| b == b'=').unwrap_or(word.len());
        let (keyword, value) = word.split_at_checked(equals).unwrap_or_default();
        (keyword, value.strip_prefix(b"="))
    })
}

/// Takes a good value, once.
fn once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), CommandError> {
    match (&place, value) {
        (None, Some(value)) => *place = Some(value),
        (None, None) | (Some(_), _) => return Err(CommandError::ParameterValue),
    }
    Ok(())
}

/// Takes a keyword without a value, not even an empty one, once.
fn flag(place: &mut bool, value: Option<&[u8]>) -> Result<(), CommandError> {
    if *place || value.is_some() {
        return Err(CommandError::ParameterValue);
    }
    *place = true;
    Ok(())
}

fn parsed<T: FromStr>(value: Option<&[u8]>) -> Option<T> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

/// BINARYMIME is not offered, so its value is no known one (RFC 3030 §3).
fn body(value: &[u8]) -> Result<Option<BodyParameter>, CommandError> {
    match value.to_ascii_uppercase().as_slice() {
        b"7BIT" => Ok(Some(BodyParameter::SevenBit)),
        b"8BITMIME" => Ok(Some(BodyParameter::EightBitMime)),
        b"BINARYMIME" => Err(CommandError::UnknownParameter),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(text: &str) -> Result<MailParameters, CommandError> {
        MailParameters::parse(text.as_bytes())
    }

    fn rcpt(text: &str) -> Result<RcptParameters, CommandError> {
        RcptParameters::parse(text.as_bytes())
    }

    #[test]
    fn rfc5321_4_1_1_11_parameters_come_in_any_order_and_case() {
        assert_eq!(mail(""), Ok(MailParameters::default()));
        let all = MailParameters {
            size: Some(7),
            body: Some(BodyParameter::EightBitMime),
            require_tls: true,
            smtp_utf8: true,
            ret: Some(Ret::Headers),
            envelope_id: Some("QQ+2B1".parse().unwrap()),
            submitter: Some(Submitter),
        };
        assert_eq!(
            mail(" size=007 Body=8bitmime RequireTLS RET=hdrs SmtpUtf8 ENVID=QQ+2B1 auth=e+3Dmc2@b.example"),
            Ok(all.clone())
        );
        assert_eq!(mail("\tAUTH=<> SMTPUTF8 EnvId=QQ+2B1  ret=HDRS REQUIRETLS BODY=8BITMIME SIZE=7 "), Ok(all));
        assert_eq!(mail("SIZE=99999999999999999999").map(|p| p.size), Ok(Some(u64::MAX)));
        let both = RcptParameters {
            notify: Some("SUCCESS,delay".parse().unwrap()),
            original_recipient: Some("rfc822;a@b.example".parse().unwrap()),
        };
        assert_eq!(rcpt(" notify=SUCCESS,delay orcpt=rfc822;a@b.example"), Ok(both));
        assert_eq!(rcpt("  "), Ok(RcptParameters::default()));
    }

    #[test]
    fn rfc3461_4_5_a_bad_value_or_a_second_one_is_an_error() {
        for text in [
            "SIZE",
            "SIZE=",
            "SIZE=-1",
            "SIZE=1 SIZE=1",
            "BODY",
            "BODY=9BIT",
            "BODY=7BIT BODY=8BITMIME",
            "REQUIRETLS=",
            "REQUIRETLS=YES",
            "REQUIRETLS SIZE=1 REQUIRETLS",
            "SMTPUTF8=1",
            "SMTPUTF8 SMTPUTF8",
            "RET",
            "RET=",
            "RET=ALL",
            "RET=FULL RET=FULL",
            "ENVID",
            "ENVID=",
            "ENVID=a=b",
            "ENVID=a+0A",
            "ENVID=a ENVID=a",
            "AUTH=",
            "AUTH=a+3d",
            "AUTH=a+4",
            "AUTH=<> AUTH=<>",
        ] {
            assert_eq!(mail(text), Err(CommandError::ParameterValue), "{text}");
        }
        for text in [
            "NOTIFY",
            "NOTIFY=",
            "NOTIFY=NEVER,DELAY",
            "NOTIFY=NEVER NOTIFY=NEVER",
            "ORCPT",
            "ORCPT=",
            "ORCPT=rfc822;",
            "ORCPT=utf-8;",
            "ORCPT=a@b.example",
            "ORCPT=rfc822;a ORCPT=rfc822;a",
        ] {
            assert_eq!(rcpt(text), Err(CommandError::ParameterValue), "{text}");
        }
    }

    #[test]
    fn rfc5321_4_1_1_11_each_parameter_belongs_to_its_command() {
        for text in ["NOTIFY=NEVER", "ORCPT=rfc822;a", "BODY=BINARYMIME", "BY=1", "REQUIRETLSX", "=", "X-Y=1"] {
            assert_eq!(mail(text), Err(CommandError::UnknownParameter), "{text}");
        }
        for text in ["RET=FULL", "ENVID=a", "SIZE=1", "REQUIRETLS", "SMTPUTF8", "AUTH=<>", "\u{e9}=1"] {
            assert_eq!(rcpt(text), Err(CommandError::UnknownParameter), "{text}");
        }
    }
}
