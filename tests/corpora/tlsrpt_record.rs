//! Records that ask for reports on TLS: RFC 8460 §3.
//!
//! Input: the TXT records of one name, a line each.

use dane_relay::report::tls::record::{ReportRecordError, read};

/// Gives the places that reports may go to, or why there are none.
pub(crate) fn check(input: &[u8]) -> Result<String, ReportRecordError> {
    let records = || input.split(|&b| b == b'\n');
    let record = read(records())?;
    let rua: Vec<String> = record.rua.iter().map(ToString::to_string).collect();
    let rua = rua.join(",");
    assert!((1..=8).contains(&record.rua.len()) && !rua.contains(['!', ';', '\r', ' ']), "{rua}");
    let plain = format!("v=TLSRPTv1; rua={rua}");
    if plain.len() < 4096 {
        assert_eq!(read([plain.as_bytes()]).map(|again| again.rua).as_ref(), Ok(&record.rua), "as we write it");
    }
    assert_eq!(read(records().chain([&b"v=spf1 -all"[..]])).as_ref(), Ok(&record), "what is not ours does not count");
    assert_eq!(read(records().chain([plain.as_bytes()])), Err(ReportRecordError::Several));
    Ok(rua)
}
