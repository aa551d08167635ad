//! Records that announce MTA-STS policies: RFC 8461 §3.1.
//!
//! Input: the TXT records of one name, a line each.

use dane_relay::policy::sts::record::{RecordError, read};

/// Gives the id, or why there is none.
pub(crate) fn check(input: &[u8]) -> Result<String, RecordError> {
    let records = || input.split(|&b| b == b'\n');
    let id = read(records())?;
    assert!((1..=32).contains(&id.as_str().len()) && id.as_str().bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
    let plain = format!("v=STSv1; id={id};");
    assert_eq!(read([plain.as_bytes()]).as_ref(), Ok(&id), "the id alone says the same");
    assert_eq!(read(records().chain([&b"v=spf1 -all"[..]])).as_ref(), Ok(&id), "what is not ours does not count");
    assert_eq!(read(records().chain([plain.as_bytes()])), Err(RecordError::Several));
    Ok(id.to_string())
}
