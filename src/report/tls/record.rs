//! The TXT record at `_smtp._tls.<domain>` by which a domain asks for reports (pure) (RFC 8460 §3).
//!
//! Records that do not begin with `v=TLSRPTv1;` are none of ours, and exactly one must be left. Fields that the
//! standard does not know are passed over, well formed or not: a report that goes out harms nobody, and one that
//! does not is missed. So are places that no report can go to, as long as there is another.

use super::uri::{ReportUri, UriError};
use crate::resolve::answer::TXT_LIMIT;
use crate::smtp::reply::printable;
use serde::Serialize;

/// How a record of ours begins; others do not count.
const BEGINNING: &[u8] = b"v=TLSRPTv1;";
/// The places that are kept: each costs us a connection or a mail a day.
const MOST_URIS: usize = 8;
/// The places passed over that are told of.
const MOST_IGNORED: usize = 8;
/// As much of a place passed over is shown, in octets.
const SHOWN: usize = 200;

/// What a record asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportRecord {
    /// Where reports may go; at least one.
    pub rua: Vec<ReportUri>,
    /// What else it names, and no report can go to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<IgnoredUri>,
}

/// A place that no report can go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{uri}: {because}")]
pub struct IgnoredUri {
    /// As it stands in the record, cut.
    pub uri: String,
    /// What is wrong with it.
    pub because: UriError,
}

/// Why the TXT records ask for no report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum ReportRecordError {
    /// No record is about reports.
    #[error("there is no TXT record that begins with v=TLSRPTv1;")]
    None,
    /// More than one is.
    #[error("several TXT records begin with v=TLSRPTv1; where one is allowed")]
    Several,
    /// It says nothing of where reports go.
    #[error("the TXT record has no rua")]
    NoRua,
    /// It says where, and no report can go there.
    #[error("the TXT record names no place that a report can go to{}", told(.0))]
    NoUsableUri(Vec<IgnoredUri>),
    /// It is longer than any such record can need.
    #[error("the TXT record is too long")]
    TooLong,
}

fn told(ignored: &[IgnoredUri]) -> String {
    ignored.first().map(|first| format!(": {first}")).unwrap_or_default()
}

/// Reads all TXT records at `_smtp._tls.<domain>`, the strings of each joined without a space.
///
/// # Errors
/// [`ReportRecordError`]: there is nobody to report to.
pub fn read<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> Result<ReportRecord, ReportRecordError> {
    let mut ours = records.into_iter().filter(|record| record.starts_with(BEGINNING));
    let record = ours.next().ok_or(ReportRecordError::None)?;
    if ours.next().is_some() {
        return Err(ReportRecordError::Several);
    }
    if record.len() >= TXT_LIMIT {
        return Err(ReportRecordError::TooLong);
    }
    // Of a field that is there twice the first counts, as in the records of MTA-STS.
    let fields = record.split(|&b| b == b';').skip(1).map(without_space);
    let rua = fields.filter_map(|field| field.strip_prefix(b"rua=")).next().ok_or(ReportRecordError::NoRua)?;
    places(rua)
}

fn places(rua: &[u8]) -> Result<ReportRecord, ReportRecordError> {
    let (mut usable, mut ignored) = (Vec::new(), Vec::new());
    for place in rua.split(|&b| b == b',').map(without_space).filter(|place| !place.is_empty()) {
        let parsed = std::str::from_utf8(place).map_err(|_| UriError::Encoding).and_then(str::parse::<ReportUri>);
        match parsed {
            Ok(uri) if usable.contains(&uri) => {}
            Ok(uri) if usable.len() < MOST_URIS => usable.push(uri),
            Ok(_) => pass_over(place, UriError::TooMany, &mut ignored),
            Err(because) => pass_over(place, because, &mut ignored),
        }
    }
    if usable.is_empty() {
        return Err(ReportRecordError::NoUsableUri(ignored));
    }
    Ok(ReportRecord { rua: usable, ignored })
}

fn pass_over(place: &[u8], because: UriError, ignored: &mut Vec<IgnoredUri>) {
    if ignored.len() < MOST_IGNORED {
        ignored.push(IgnoredUri { uri: printable(place, SHOWN), because });
    }
}

/// The grammar allows spaces and tabs around semicolons and commas.
fn without_space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rua(records: &[&str]) -> Result<Vec<String>, ReportRecordError> {
        let record = read(records.iter().map(|record| record.as_bytes()))?;
        Ok(record.rua.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rfc8460_3_p01_good_records() {
        for (record, expected) in [
            ("v=TLSRPTv1; rua=mailto:a@b.example", &["mailto:a@b.example"][..]),
            ("v=TLSRPTv1;rua=mailto:a@b.example;", &["mailto:a@b.example"]),
            ("v=TLSRPTv1;\trua=mailto:a@b.example ; ", &["mailto:a@b.example"]),
            ("v=TLSRPTv1; x=y; rua=mailto:a@b.example; z", &["mailto:a@b.example"]),
            ("v=TLSRPTv1;; rua=mailto:a@b.example;;", &["mailto:a@b.example"]),
            ("v=TLSRPTv1; rua=mailto:a@b.example; rua=mailto:c@d.example", &["mailto:a@b.example"]),
            ("v=TLSRPTv1; RUA=mailto:c@d.example; rua=mailto:a@b.example", &["mailto:a@b.example"]),
            (
                "v=TLSRPTv1; rua=mailto:a@b.example , https://c.example/x,mailto:a@b.example",
                &["mailto:a@b.example", "https://c.example/x"],
            ),
            ("v=TLSRPTv1; rua=ftp://a.example,https://c.example/x", &["https://c.example/x"]),
        ] {
            assert_eq!(rua(&[record]).unwrap(), expected, "{record}");
        }
    }

    #[test]
    fn rfc8460_3_p01_exactly_one_record_of_ours_counts() {
        let good = "v=TLSRPTv1; rua=mailto:a@b.example";
        assert_eq!(rua(&[]), Err(ReportRecordError::None));
        for other in ["", "v=TLSRPTv1", "v=TLSRPTv1 ; rua=mailto:a@b.example", "V=TLSRPTv1; rua=mailto:a@b.example"] {
            assert_eq!(rua(&[other]), Err(ReportRecordError::None), "{other}");
            assert!(rua(&[other, good, "v=TLSRPTv2; rua=mailto:x@y.example", "v=spf1 -all"]).is_ok(), "{other}");
        }
        assert_eq!(rua(&[good, good]), Err(ReportRecordError::Several));
        assert_eq!(rua(&[good, "v=TLSRPTv1;"]), Err(ReportRecordError::Several));
    }

    #[test]
    fn rfc8460_3_p01_a_record_without_a_place_asks_for_nothing() {
        for record in ["v=TLSRPTv1;", "v=TLSRPTv1; x=y", "v=TLSRPTv1; rua =mailto:a@b.example"] {
            assert_eq!(rua(&[record]), Err(ReportRecordError::NoRua), "{record}");
        }
        for record in ["v=TLSRPTv1; rua=", "v=TLSRPTv1; rua= , ,", "v=TLSRPTv1; rua=a@b.example,\u{e9}"] {
            assert!(matches!(rua(&[record]), Err(ReportRecordError::NoUsableUri(_))), "{record}");
        }
        let error = rua(&["v=TLSRPTv1; rua=mailto:a@b.example!10m"]).unwrap_err();
        let said = "the TXT record names no place that a report can go to: mailto:a@b.example!10m: it has a \
                    character that must be percent-encoded";
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn rfc8460_3_p02_no_more_than_eight_places_are_kept() {
        let places = |count: usize| (0..count).map(|n| format!("mailto:a{n}@b.example")).collect::<Vec<_>>().join(",");
        let record = |count| read([format!("v=TLSRPTv1; rua={}", places(count)).as_bytes()]).unwrap();
        assert_eq!((record(8).rua.len(), record(8).ignored.len()), (8, 0));
        assert_eq!((record(9).rua.len(), record(9).ignored[0].because), (8, UriError::TooMany));
        assert_eq!(record(100).ignored.len(), MOST_IGNORED);
    }

    #[test]
    fn a_record_that_was_cut_asks_for_nothing() {
        let record = |length: usize| format!("{:a<length$}", "v=TLSRPTv1; rua=mailto:a@b.example; a=");
        assert!(rua(&[&record(TXT_LIMIT - 1)]).is_ok());
        assert_eq!(rua(&[&record(TXT_LIMIT)]), Err(ReportRecordError::TooLong));
    }
}
