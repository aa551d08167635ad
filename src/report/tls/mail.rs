//! The mail that carries a report (pure) (RFC 8460 §5.3, RFC 6522 §3, RFC 3834 §5).
//!
//! In 7-bit, with short lines: any way can carry it, and no signature on it breaks. It asks to be delivered where
//! the TLS is broken that it is about (RFC 8689 §3), and no program answers it.

use super::ReportSubject;
use super::document::TlsReportDocument;
use super::gzip::gzip;
use crate::clock::Timestamp;
use crate::report::form::{field, utf8_item, utf8_paragraph};
use crate::report::mime::{attachment, boundary, join, text_part};
use crate::report::ndr::dated;
use crate::smtp::address::Mailbox;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

/// What a packed report is (RFC 8460 §6.4).
pub const MEDIA_TYPE: &str = "application/tlsrpt+gzip";

/// So much of the hash of its readers is in the Message-ID of a mail.
const READERS_OCTETS: usize = 4;

/// Where the values begin in their lines.
const COLUMN: usize = 25;

/// The whole mail. With the same report, recipients and time it is the same, octet by octet.
#[must_use]
pub fn report_mail(
    subject: &ReportSubject<'_>,
    to: &[Mailbox],
    document: &TlsReportDocument,
    now: Timestamp,
) -> Vec<u8> {
    let packed = gzip(document.json().as_bytes());
    let parts = [text_part(words(subject, document)), attachment(MEDIA_TYPE, subject.file_name(), &packed)];
    let boundary = boundary(&subject.unique_id(), &parts);
    let mut message = header(subject, to, now);
    message.push_str(&field("MIME-Version", "1.0"));
    let content_type = format!("multipart/report; report-type=\"tlsrpt\"; boundary=\"{boundary}\"");
    message.push_str(&field("Content-Type", &content_type));
    message.push_str("\r\nThis is a report on TLS, in the form of RFC 8460.\r\n");
    let mut message = message.into_bytes();
    join(&mut message, &boundary, &parts);
    message
}

fn header(subject: &ReportSubject<'_>, to: &[Mailbox], now: Timestamp) -> String {
    let (domain, submitter) = (subject.domain, subject.submitter.domain());
    let to: Vec<String> = to.iter().map(|mailbox| format!("<{}>", mailbox.on_the_wire())).collect();
    let mut header = field("From", &format!("<{}>", subject.submitter.contact.on_the_wire()));
    header.push_str(&field("To", &to.join(", ")));
    let id = subject.report_id();
    header.push_str(&field("Subject", &format!("Report Domain: {domain} Submitter: {submitter} Report-ID: <{id}>")));
    header.push_str(&dated(&format!("tlsrpt.{}.{id}", readers(&to)), now));
    header.push_str(&field("TLS-Report-Domain", domain.as_str()));
    header.push_str(&field("TLS-Report-Submitter", submitter.as_str()));
    // RFC 8460 §3: what the report is about must not keep it from arriving.
    header.push_str(&field("TLS-Required", "No"));
    header.push_str(&field("Auto-Submitted", "auto-generated"));
    header
}

/// Tells the mails of one report apart: each has its reader, and a mail box with two of them keeps both.
fn readers(to: &[String]) -> String {
    let hash = digest(&SHA256, to.join(",").as_bytes());
    HEXLOWER.encode(hash.as_ref().get(..READERS_OCTETS).unwrap_or_default())
}

/// What people read: the sums.
fn words(subject: &ReportSubject<'_>, document: &TlsReportDocument) -> String {
    let (day, domain, submitter) = (subject.day, subject.domain, subject.submitter);
    let mut text = utf8_paragraph(
        &format!(
            "This is a report on TLS, as the domain {domain} asks for by its TXT record at _smtp._tls.{domain}: how \
             it went when {} sent mail there on {day} (UTC).",
            submitter.organization
        ),
        0,
    );
    text.push_str("\r\n");
    let mut item = |label: &str, value: &str| text.push_str(&utf8_item(label, value, COLUMN));
    let failed = document.failed();
    item("Sessions that succeeded:", &document.succeeded().to_string());
    item("Sessions that failed:", &failed.values().fold(0_u64, |sum, one| sum.saturating_add(*one)).to_string());
    for (result_type, sessions) in failed {
        item("", &format!("{sessions} by {result_type}"));
    }
    item("Report-ID:", &subject.report_id());
    item("Questions to:", submitter.contact.as_str());
    text.push_str("\r\n");
    text.push_str(&utf8_paragraph("All of it is in the attached file, for programs: JSON, packed with gzip.", 0));
    text
}

#[cfg(test)]
mod tests {
    use super::super::document::ReportExtent;
    use super::super::gzip::unpacked;
    use super::super::testing::{Parts, count, failed, no_policy, tlsa};
    use super::*;
    use mail_parser::{MessageParser, MimeHeaders as _};

    const NOW: Timestamp = Timestamp(1_796_000_400_000);

    fn mail(domain: &str, to: &[&str]) -> (Vec<u8>, TlsReportDocument, Parts) {
        let parts = Parts::of(domain, "2026-11-29", "relay.sender.example");
        let counts = [count(no_policy(domain), None, 3), count(tlsa(), Some(failed("tlsa-invalid")), 2)];
        let document = TlsReportDocument::of(&parts.subject(), &counts, ReportExtent::Everything).unwrap();
        let to: Vec<Mailbox> = to.iter().map(|to| to.parse().unwrap()).collect();
        (report_mail(&parts.subject(), &to, &document, NOW), document, parts)
    }

    #[test]
    fn rfc8460_5_3_p12_the_mail_has_the_fields_and_parts_of_the_standard() {
        let (mail, document, parts) = mail("a.example", &["tls@a.example", "reports@b.example"]);
        let parsed = MessageParser::default().parse(&mail).unwrap();
        let id = parts.subject().report_id();
        let subject = format!("Report Domain: a.example Submitter: sender.example Report-ID: <{id}>");
        assert_eq!(parsed.subject(), Some(subject.as_str()));
        for (name, value) in [
            ("From", "<tls@sender.example>"),
            ("To", "<tls@a.example>, <reports@b.example>"),
            ("Date", "Mon, 30 Nov 2026 01:00:00 +0000"),
            ("TLS-Report-Domain", "a.example"),
            ("TLS-Report-Submitter", "sender.example"),
            ("TLS-Required", "No"),
            ("Auto-Submitted", "auto-generated"),
            ("MIME-Version", "1.0"),
        ] {
            assert_eq!(parsed.header_raw(name).unwrap().trim(), value, "{name}");
        }
        let message_id = |mail: &[u8]| MessageParser::default().parse(mail).unwrap().message_id().unwrap().to_owned();
        let own = message_id(&mail);
        assert!(own.starts_with("tlsrpt.") && own.ends_with(&format!(".{id}")), "{own}");
        let (again, _, _) = self::mail("a.example", &["tls@a.example", "reports@b.example"]);
        let (other, _, _) = self::mail("a.example", &["tls@a.example"]);
        assert!(message_id(&again) == own && message_id(&other) != own);
        let content_type = parsed.content_type().unwrap();
        assert_eq!((content_type.ctype(), content_type.subtype()), ("multipart", Some("report")));
        assert_eq!(content_type.attribute("report-type"), Some("tlsrpt"));
        assert_eq!(parsed.parts[0].sub_parts().map(<[_]>::len), Some(2));
        let text = parsed.body_text(0).unwrap().split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        for words in ["Sessions that succeeded: 3", "Sessions that failed: 2", "2 by tlsa-invalid", "Sender Ltd"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let file = parsed.attachment(0).unwrap();
        let media_type = file.content_type().unwrap();
        assert_eq!((media_type.ctype(), media_type.subtype()), ("application", Some("tlsrpt+gzip")));
        assert_eq!(file.attachment_name(), Some(parts.subject().file_name().as_str()));
        assert_eq!(unpacked(file.contents()), document.json().into_bytes());
    }

    #[test]
    fn rfc5322_2_1_1_any_way_can_carry_the_mail() {
        let long = format!("{}.example", ["a".repeat(60).as_str(); 4].join("."));
        for domain in ["a.example", &long] {
            let (mail, _, parts) = mail(domain, &["tls@a.example"; 8]);
            assert!(mail.is_ascii());
            for line in mail.split(|&b| b == b'\n') {
                assert!(line.len() < 998 && (line.is_empty() || line.ends_with(b"\r")), "{line:?}");
            }
            let parsed = MessageParser::default().parse(&mail).unwrap();
            assert_eq!(parsed.attachment(0).unwrap().attachment_name(), Some(parts.subject().file_name().as_str()));
        }
        assert_eq!(mail("a.example", &["tls@a.example"]).0, mail("a.example", &["tls@a.example"]).0);
    }
}
