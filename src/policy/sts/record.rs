//! The TXT record at `_mta-sts.<domain>` that announces a policy (pure) (RFC 8461 §3.1).
//!
//! Records that do not begin with `v=STSv1;` are none of ours. Exactly one must be left and keep
//! to the grammar; otherwise the domain announces no policy, and a cached one stays in force.

use crate::resolve::answer::TXT_LIMIT;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a record of ours begins; others do not count.
const BEGINNING: &[u8] = b"v=STSv1;";
/// The longest id, in characters (RFC 8461 §3.1).
const ID_LIMIT: usize = 32;
/// The longest name of a field that is not in the standard, in characters (RFC 8461 §3.1).
pub(super) const FIELD_NAME_LIMIT: usize = 32;

/// The id of a policy: another one means that the policy has changed. 1 to 32 letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyId(String);

impl PolicyId {
    fn read(text: &[u8]) -> Result<Self, RecordError> {
        let fits = (1..=ID_LIMIT).contains(&text.len()) && text.iter().all(u8::is_ascii_alphanumeric);
        if fits { Ok(Self(String::from_utf8_lossy(text).into_owned())) } else { Err(RecordError::BadId) }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PolicyId {
    type Error = RecordError;

    fn try_from(text: String) -> Result<Self, RecordError> {
        Self::read(text.as_bytes())
    }
}

impl From<PolicyId> for String {
    fn from(id: PolicyId) -> Self {
        id.0
    }
}

/// Why the TXT records announce no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum RecordError {
    /// No record is about MTA-STS.
    #[error("there is no TXT record that begins with v=STSv1;")]
    None,
    /// More than one is.
    #[error("several TXT records begin with v=STSv1; where one is allowed")]
    Several,
    /// It is not made of fields as `name=value`, divided by semicolons.
    #[error("the TXT record is not made of fields like id=20260101;")]
    Syntax,
    /// It has no id.
    #[error("the TXT record has no id")]
    NoId,
    /// Its id is not 1 to 32 letters and digits.
    #[error("the id of the TXT record is not 1 to 32 letters and digits")]
    BadId,
    /// It is longer than any such record can need.
    #[error("the TXT record is too long")]
    TooLong,
}

/// Reads all TXT records at `_mta-sts.<domain>`.
///
/// # Errors
/// [`RecordError`]: there is no policy to be fetched.
pub fn read<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> Result<PolicyId, RecordError> {
    let mut ours = records.into_iter().filter(|record| record.starts_with(BEGINNING));
    let record = ours.next().ok_or(RecordError::None)?;
    if ours.next().is_some() {
        return Err(RecordError::Several);
    }
    read_one(record)
}

/// A version, then fields with a semicolon before each, spaces and tabs allowed around it; one
/// more semicolon may end the record.
fn read_one(record: &[u8]) -> Result<PolicyId, RecordError> {
    if record.len() >= TXT_LIMIT {
        return Err(RecordError::TooLong);
    }
    let mut parts = record.split(|&b| b == b';').skip(1).peekable();
    let mut id = None;
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        // Nothing ends the last field, so there is no delimiter whose spaces these could be.
        let field = without_space(part, if is_last { Ends::Start } else { Ends::Both });
        if field.is_empty() && is_last {
            break;
        }
        match field.strip_prefix(b"id=") {
            // Of a field that is there twice the first counts (RFC 8461 §3.2).
            Some(text) if id.is_none() => id = Some(PolicyId::read(text)?),
            Some(_) | None if is_extension(field) => {}
            Some(_) | None => return Err(RecordError::Syntax),
        }
    }
    id.ok_or(RecordError::NoId)
}

/// Where spaces are taken away.
#[derive(Clone, Copy)]
enum Ends {
    Start,
    Both,
}

fn without_space(mut text: &[u8], ends: Ends) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let ([rest @ .., b' ' | b'\t'], Ends::Both) = (text, ends) {
        text = rest;
    }
    text
}

/// A field that the standard does not know: it is ignored, but it must be one.
fn is_extension(field: &[u8]) -> bool {
    let mut halves = field.splitn(2, |&b| b == b'=');
    let (Some(name), Some(value)) = (halves.next(), halves.next()) else { return false };
    let value_ok = |b: &u8| matches!(b, 0x21..=0x3a | 0x3c | 0x3e..=0x7e);
    is_field_name(name) && !value.is_empty() && value.iter().all(value_ok)
}

/// A letter or digit, then up to 31 of those and `_`, `-`, `.`; the same in policies (RFC 8461 §3.2).
pub(super) fn is_field_name(name: &[u8]) -> bool {
    let further = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    name.first().is_some_and(u8::is_ascii_alphanumeric) && name.len() <= FIELD_NAME_LIMIT && name.iter().all(further)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID_32: &str = "v=STSv1; id=abcdefghijklmnopqrstuvwxyz012345;";
    const ID_33: &str = "v=STSv1; id=abcdefghijklmnopqrstuvwxyz0123456;";
    const NAME_32: &str = "v=STSv1; id=1; a2345678901234567890123456789012=x";
    const NAME_33: &str = "v=STSv1; id=1; a23456789012345678901234567890123=x";

    fn id(records: &[&str]) -> Result<String, RecordError> {
        read(records.iter().map(|record| record.as_bytes())).map(String::from)
    }

    #[test]
    fn rfc8461_3_1_good_records() {
        for (record, expected) in [
            ("v=STSv1; id=20160831085700Z;", "20160831085700Z"),
            ("v=STSv1;id=1", "1"),
            ("v=STSv1;id=1;", "1"),
            ("v=STSv1; id=1; ", "1"),
            ("v=STSv1; id=1 ;", "1"),
            ("v=STSv1; id=1 ; ", "1"),
            ("v=STSv1;\tid=1\t;\t", "1"),
            ("v=STSv1;    id=1", "1"),
            ("v=STSv1; id=aZ09", "aZ09"),
            ("v=STSv1; id=0", "0"),
            (ID_32, "abcdefghijklmnopqrstuvwxyz012345"),
            ("v=STSv1; id=1; a=b", "1"),
            ("v=STSv1; a=b; id=1", "1"),
            ("v=STSv1; a=b; id=1; c=d;", "1"),
            ("v=STSv1; a_b-c.d=e; id=1", "1"),
            ("v=STSv1; 9a=e; id=1", "1"),
            ("v=STSv1; id=1; a=!\"#$%&'()*+,-./09:<>?@AZ[]^_`az{|}~", "1"),
            (NAME_32, "1"),
            ("v=STSv1; id=1; id=2", "1"),
            ("v=STSv1; id=1; id=2-3", "1"),
            ("v=STSv1; id=1; v=STSv2", "1"),
            ("v=STSv1; ID=7; id=1", "1"),
            ("v=STSv1; id=1; Id=x", "1"),
        ] {
            assert_eq!(id(&[record]), Ok(expected.to_owned()), "{record:?}");
        }
    }

    #[test]
    fn rfc8461_3_1_bad_records() {
        use RecordError::{BadId, NoId, None, Syntax};
        for (record, error) in [
            ("", None),
            ("v=STSv1", None),
            ("v=STSv1 ; id=1;", None),
            ("v=STSv1,id=1;", None),
            (" v=STSv1; id=1;", None),
            ("\"v=STSv1; id=1;\"", None),
            ("V=STSv1; id=1;", None),
            ("v=stsv1; id=1;", None),
            ("v=STSV1; id=1;", None),
            ("v=STSv2; id=1;", None),
            ("v=STSv10; id=1;", None),
            ("v = STSv1; id=1;", None),
            ("id=1; v=STSv1;", None),
            ("v=spf1 -all", None),
            ("v=TLSRPTv1; rua=mailto:a@b.test", None),
            ("v=STSv1;", NoId),
            ("v=STSv1; ", NoId),
            ("v=STSv1; a=b", NoId),
            ("v=STSv1; ID=1;", NoId),
            ("v=STSv1; id=;", BadId),
            ("v=STSv1; id=", BadId),
            ("v=STSv1; id= 1;", BadId),
            ("v=STSv1; id=1-2;", BadId),
            ("v=STSv1; id=1_2;", BadId),
            ("v=STSv1; id=1.2;", BadId),
            ("v=STSv1; id=1 2;", BadId),
            ("v=STSv1; id=\u{e4};", BadId),
            ("v=STSv1; id=1 ", BadId),
            ("v=STSv1; id=a-b; id=1", BadId),
            (ID_33, BadId),
            ("v=STSv1; id =1;", Syntax),
            ("v=STSv1; id=1; ;", Syntax),
            ("v=STSv1; id=1;;", Syntax),
            ("v=STSv1;; id=1", Syntax),
            ("v=STSv1; ; id=1", Syntax),
            ("v=STSv1; id=1; a", Syntax),
            ("v=STSv1; id=1; a=", Syntax),
            ("v=STSv1; id=1; =b", Syntax),
            ("v=STSv1; id=1; a=b=c", Syntax),
            ("v=STSv1; id=1; a=b c", Syntax),
            ("v=STSv1; id=1; a b=c", Syntax),
            ("v=STSv1; id=1; -a=b", Syntax),
            ("v=STSv1; id=1; a=\u{e4}", Syntax),
            ("v=STSv1; id=1; a=b\n", Syntax),
            ("v=STSv1; id=1; a=\u{0}", Syntax),
            ("v=STSv1; id=1; id=", Syntax),
            (NAME_33, Syntax),
            ("v=STSv1; id", Syntax),
            ("v=STSv1; 1", Syntax),
        ] {
            assert_eq!(id(&[record]), Err(error), "{record:?}");
        }
    }

    #[test]
    fn rfc8461_3_1_exactly_one_record_of_ours_counts() {
        let good = "v=STSv1; id=1;";
        assert_eq!(id(&[]), Err(RecordError::None));
        assert_eq!(id(&["v=spf1 -all", good, "", "v=STSv2; id=2;"]), Ok("1".to_owned()));
        assert_eq!(id(&[good, good]), Err(RecordError::Several));
        assert_eq!(id(&[good, "v=STSv1; bad"]), Err(RecordError::Several));
    }

    #[test]
    fn a_record_that_was_cut_is_not_taken_for_whole() {
        let record = |length: usize| format!("{:a<length$}", "v=STSv1; id=1; a=");
        assert_eq!(id(&[&record(TXT_LIMIT - 1)]), Ok("1".to_owned()));
        assert_eq!(id(&[&record(TXT_LIMIT)]), Err(RecordError::TooLong));
    }
}
