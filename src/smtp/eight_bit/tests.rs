//! Messages before and after, cut anywhere; and mail-parser, which must read the same from both.

use super::{ConversionPlan, Converter, Survey, Unconvertible};
use mail_parser::{MessageParser, MimeHeaders as _};

fn survey(pieces: &[&[u8]]) -> Result<ConversionPlan, Unconvertible> {
    let mut survey = Survey::default();
    pieces.iter().for_each(|piece| survey.feed(piece));
    survey.finish()
}

fn converted_in(pieces: &[&[u8]], plan: &ConversionPlan) -> Vec<u8> {
    let mut converter = Converter::new(plan, "X-Note: x\r\n".into());
    let mut wire: Vec<u8> = pieces.iter().flat_map(|piece| converter.feed(piece)).collect();
    wire.extend(converter.finish());
    wire
}

/// The result, which is the same wherever the content is cut, 7-bit, and of short lines.
fn converted(content: &[u8]) -> String {
    let plan = survey(&[content]).unwrap();
    let whole = converted_in(&[content], &plan);
    for cut in 0..content.len() {
        let (a, b) = content.split_at(cut);
        assert_eq!(survey(&[a, b]).as_ref(), Ok(&plan), "cut at {cut}");
        assert_eq!(converted_in(&[a, b], &plan), whole, "cut at {cut}");
    }
    let text = String::from_utf8(whole).unwrap();
    assert!(text.is_ascii(), "{text}");
    text
}

fn refused(content: &str) -> Unconvertible {
    survey(&[content.as_bytes()]).unwrap_err()
}

/// The contents of all parts, decoded.
fn read(content: &[u8]) -> Vec<Vec<u8>> {
    let message = MessageParser::default().parse(content).unwrap();
    message.parts.iter().filter(|part| !part.is_multipart()).map(|part| part.contents().to_vec()).collect()
}

#[test]
fn rfc2045_6_7_text_becomes_quoted_printable_and_says_so() {
    let content = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                   Content-Transfer-Encoding: 8bit\r\n\r\nGrüße = \t\r\n.\r\nFrom x\r\n";
    assert_eq!(
        converted(content.as_bytes()),
        "X-Note: x\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =3D =09\r\n.\r\nFrom x\r\n"
    );
}

#[test]
fn rfc2045_4_a_message_that_says_nothing_of_mime_says_it_afterwards() {
    let utf8 = converted("Subject: x\r\n\r\nGrüße\r\n".as_bytes());
    let fields = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                  Content-Transfer-Encoding: quoted-printable\r\n\r\n";
    assert!(utf8.contains(fields), "{utf8}");
    assert!(converted(b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n").contains("charset=unknown-8bit\r\n"));
    let all = converted(b"\r\nGr\xfc\xdfe");
    assert!(all.starts_with("X-Note: x\r\nMIME-Version: 1.0\r\n") && all.ends_with("\r\n\r\nGr=FC=DFe"), "{all}");
}

const MIXED: &str = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"a b\"\r\n\
     Content-Transfer-Encoding: 8bit\r\n\r\npreamble ü\r\n--a b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n\
     <p>Grüße</p>\r\n\r\n--a b\r\nContent-Type: text/plain\r\n\r\nstays  as it is = \r\n--a b\r\n\
     Content-Type: application/x-thing\r\nContent-Transfer-Encoding:\r\n\tbinary\r\n\r\nthing ü\r\nand more\r\n\r\n\
     --a b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: inner\r\n\r\n\
     Innen: grün\r\n--a b--\r\nepilogue\r\n";

#[test]
fn rfc6152_3_each_part_that_needs_it_is_converted_and_the_others_stay() {
    let all = converted(MIXED.as_bytes());
    assert!(all.contains("Content-Type: text/plain\r\n\r\nstays  as it is = \r\n--a b\r\n"), "{all}");
    assert!(!all.contains("8bit") && !all.contains("binary"), "{all}");
    assert_eq!(all.matches("MIME-Version").count(), 1, "{all}");
    assert!(all.contains("preamble ??\r\n") && all.ends_with("--a b--\r\nepilogue\r\n"), "{all}");
    let (before, after) = (read(MIXED.as_bytes()), read(all.as_bytes()));
    assert_eq!(before.len(), after.len());
    assert_eq!(before[..3], after[..3], "the same content to whoever decodes it");
    let inner = |content: &[u8]| {
        let message = MessageParser::default().parse(content).unwrap();
        let inner = message.parts.iter().find_map(|part| part.message().cloned().map(|m| m.into_owned())).unwrap();
        (inner.subject().map(str::to_owned), inner.body_text(0).map(|text| text.trim_end().to_owned()))
    };
    assert_eq!(inner(MIXED.as_bytes()), inner(all.as_bytes()));
}

#[test]
fn rfc1847_2_1_what_is_signed_or_encrypted_is_never_changed() {
    let container = |kind: &str, inner: &str| {
        format!(
            "Content-Type: multipart/{kind}; boundary=o\r\n\r\n--o\r\n{inner}\r\n--o\r\nContent-Type: x/y\r\n\r\n0\r\n--o--\r\n"
        )
    };
    let text = "Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n";
    assert_eq!(refused(&container("signed", text)), Unconvertible::Signed);
    assert_eq!(refused(&container("encrypted", text)), Unconvertible::Encrypted);
    let deep = container("signed", &container("mixed", text).replace("--o", "--i").replace("=o", "=i"));
    assert_eq!(refused(&deep), Unconvertible::Signed);
    let smime = "Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary\r\n\r\nü\r\n";
    assert_eq!(refused(smime), Unconvertible::Signed);
    // What is signed and 7-bit stays to the octet beside what is converted.
    let seven = "Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain  \r\n";
    let signed = container("signed", seven).replace("--o", "--s").replace("=o", "=s");
    let mixed =
        format!("Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n{signed}\r\n--m\r\n\r\nü\r\n--m--\r\n");
    let after = converted(mixed.as_bytes());
    assert!(after.contains(&signed), "{after}");
}

#[test]
fn rfc6376_5_3_a_signature_over_the_whole_message_does_not_keep_it_from_arriving() {
    let content = "DKIM-Signature: v=1; bh=x; b=y\r\nSubject: x\r\n\r\nü\r\n";
    assert!(converted(content.as_bytes()).contains("=C3=BC\r\n"));
}

#[test]
fn what_cannot_be_relied_on_is_left_alone() {
    for (content, why) in [
        ("Subject: Grüße\r\n\r\nü\r\n", Unconvertible::Header),
        ("Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nX: ü\r\n\r\nx\r\n--o--\r\n", Unconvertible::Header),
        ("Content-Type: multipart/mixed\r\n\r\nü\r\n", Unconvertible::Malformed),
        ("Content-Transfer-Encoding: base64\r\n\r\nü\r\n", Unconvertible::Malformed),
        ("Content-Type: text/plain\r\nContent-Type: image/png\r\n\r\nü\r\n", Unconvertible::Malformed),
        ("Content-Type: message/partial; id=x\r\n\r\nü\r\n", Unconvertible::Fixed),
        ("Content-Type: message/delivery-status\r\n\r\nü\r\n", Unconvertible::Fixed),
    ] {
        assert_eq!(refused(content), why, "{content}");
    }
    let deep: String =
        (0..200).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n")).collect();
    assert_eq!(refused(&format!("{deep}\r\nü")), Unconvertible::Malformed);
    let endless = format!("X: {}\r\n\r\nü", "x".repeat(300_000));
    assert_eq!(refused(&endless), Unconvertible::Malformed);
}

#[test]
fn rfc2045_6_8_other_content_becomes_base64_in_lines_of_76() {
    let octets: Vec<u8> =
        (0..=255_u8).cycle().take(1000).flat_map(|n| [n, b'x']).filter(|b| !b"\r\n".contains(b)).collect();
    let content = [b"Content-Type: image/png\r\n\r\n".as_slice(), &octets, b"\r\n"].concat();
    let plan = survey(&[&content]).unwrap();
    let wire = converted_in(&[&content], &plan);
    let text = String::from_utf8(wire).unwrap();
    assert!(text.lines().all(|line| line.len() <= 76), "{text}");
    assert_eq!(read(text.as_bytes()), [[octets.as_slice(), b"\r\n"].concat()]);
}

#[test]
fn a_line_without_end_is_converted_in_bounded_memory_and_read_back() {
    let line = "ü x".repeat(5_000);
    let content = format!("Content-Type: text/plain; charset=utf-8\r\n\r\n{line}\r\n");
    let plan = survey(&[content.as_bytes()]).unwrap();
    let wire = converted_in(&content.as_bytes().chunks(777).collect::<Vec<_>>(), &plan);
    assert!(wire.split(|&b| b == b'\n').all(|line| line.len() <= 77));
    let message = MessageParser::default().parse(&wire).unwrap();
    assert_eq!(message.content_transfer_encoding(), Some("quoted-printable"));
    assert_eq!(message.body_text(0).unwrap().trim_end(), line);
}
