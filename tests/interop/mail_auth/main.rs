//! Prints a report on TLS (RFC 8460 §4.4) as mail-auth has read it: from a mail, or from JSON.

use mail_auth::report::tlsrpt::TlsReport;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else { return ExitCode::from(2) };
    let report = match std::fs::read(&file) {
        Ok(octets) if file.ends_with(".json") => TlsReport::parse_json(&octets),
        Ok(octets) => TlsReport::parse_rfc5322(&octets),
        Err(_) => return ExitCode::from(2),
    };
    match report.map(|report| serde_json::to_string(&report)) {
        Ok(Ok(text)) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("{other:?}");
            ExitCode::FAILURE
        }
    }
}
