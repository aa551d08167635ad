//! What a copy is wrapped in, as a parser of others reads it.

use super::*;
use crate::envelope::testing::envelope;
use mail_parser::MimeHeaders as _;

const ID: QueueId = QueueId(7);

fn message(form: ArchiveForm, envelope: &Envelope, content: &[u8]) -> Vec<u8> {
    let (hostname, to) = ("relay.office.example".parse().unwrap(), "archive@office.example".parse().unwrap());
    let cover = Cover { hostname: &hostname, postmaster: None, form, to: &to, envelope, id: ID, nth: 1, head: content };
    let (before, after) = around(&cover);
    [&before, content, &after].concat()
}

fn attached(whole: &[u8]) -> Vec<u8> {
    let parsed = MessageParser::default().parse(whole).unwrap();
    let part = parsed.attachment(0).unwrap().message().unwrap();
    part.raw_message().to_vec()
}

#[test]
fn a_journal_report_has_the_fields_that_importers_of_exchange_read() {
    let recipients = ["bob@one.example", "carol@two.example", "dave@three.example"];
    let content = b"From: Alice <alice@office.example>\r\nTo: \"B\" <Bob@one.example>\r\nCc: carol@two.example\r\n\
                    Subject: The\r\n contract\r\nMessage-ID: <m1@office.example>\r\n\r\nHello\r\n";
    let whole = message(ArchiveForm::Journal, &envelope("alice@office.example", &recipients), content);
    let parsed = MessageParser::default().parse(&whole).unwrap();
    assert_eq!(
        parsed.body_text(0).unwrap().trim_end(),
        "Sender: alice@office.example\r\nSubject: The contract\r\nMessage-ID: <m1@office.example>\r\n\
         To: bob@one.example\r\nCc: carol@two.example\r\nRecipient: dave@three.example"
    );
    assert_eq!(parsed.subject(), Some("The contract"));
    assert_eq!(parsed.to().unwrap().first().unwrap().address(), Some("archive@office.example"));
    assert_eq!(parsed.from().unwrap().first().unwrap().address(), Some("postmaster@relay.office.example"));
    assert!(whole.windows(24).any(|window| window == b"\r\nX-MS-Journal-Report:\r\n"));
    assert_eq!(parsed.attachment(0).unwrap().content_type().unwrap().subtype(), Some("rfc822"));
    assert_eq!(parsed.attachment_count(), 1);
    assert_eq!(attached(&whole), content);
}

#[test]
fn a_copy_of_the_original_says_whose_it_is_and_is_no_journal_report() {
    let content = b"Subject: x\r\n\r\nbody";
    let whole = message(ArchiveForm::Original, &envelope("<>", &["bob@one.example"]), content);
    let parsed = MessageParser::default().parse(&whole).unwrap();
    let text = parsed.body_text(0).unwrap();
    assert!(text.contains("Sender: <>\r\nRecipient: bob@one.example") && text.contains(&ID.to_string()), "{text}");
    assert!(parsed.header_raw("X-MS-Journal-Report").is_none());
    assert_eq!(attached(&whole), content, "also without a line end at its end");
}

#[test]
fn rfc2047_2_a_subject_of_any_kind_stays_within_its_field() {
    let subject = "Grüße ".repeat(30);
    let content = format!("Subject: {subject}\r\n\r\nx\r\n");
    let eight_bit = Envelope { body: BodyType::EightBitMime, ..envelope("a@b.example", &["jürgen@one.example"]) };
    let whole = message(ArchiveForm::Journal, &eight_bit, content.as_bytes());
    let parsed = MessageParser::default().parse(&whole).unwrap();
    assert_eq!(parsed.subject().map(str::trim), Some(subject.trim()));
    let text = parsed.body_text(0).unwrap();
    assert!(text.contains(&format!("Subject: {}\r\n", subject.trim())), "{text}");
    assert!(text.contains("Recipient: jürgen@one.example"), "{text}");
    let before = whole.windows(content.len()).position(|window| window == content.as_bytes()).unwrap();
    assert!(whole[..before].is_ascii());
    assert!(whole[..before].split(|&octet| octet == b'\n').all(|line| line.len() <= 79));
    assert_eq!(attached(&whole), content.as_bytes());
}

#[test]
fn no_content_can_end_its_attachment_or_add_a_field() {
    let first = message(ArchiveForm::Journal, &envelope("a@b.example", &["c@one.example"]), b"Subject: x\r\n\r\n");
    let end = String::from_utf8_lossy(&first).lines().last().unwrap().to_owned();
    let forged = format!("Subject: =?utf-8?q?x=0D=0ABcc:_d=40e?=\r\n\r\n{end}\r\n\r\n--x\r\n");
    let whole = message(ArchiveForm::Journal, &envelope("a@b.example", &["c@one.example"]), forged.as_bytes());
    assert_eq!(attached(&whole), forged.as_bytes());
    let parsed = MessageParser::default().parse(&whole).unwrap();
    assert!(parsed.bcc().is_none());
}
