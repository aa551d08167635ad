//! Text that any mail system can carry: printable ASCII, short lines, CRLF only
//! (RFC 5322 §2.1.1, §2.2.3; RFC 2045 §6.7; RFC 2047 §2).
//!
//! Reports must pass 7-bit paths and systems that refuse bare line feeds. Remote text is data
//! here: it can neither end a line nor begin a header field.

use crate::smtp::reply::printable;
use crate::text::{fill, in_one_line};
use std::fmt::Write as _;

/// Where lines are folded, in characters (RFC 5322 §2.1.1 recommends 78).
pub(super) const LINE_WIDTH: usize = 76;
/// The longest line allowed in mail without its CRLF, in octets (RFC 5322 §2.1.1).
const LINE_LIMIT: usize = 998;
/// The longest piece of a word, in octets: with the longest name of a field, or indent, beside it a
/// line is within its limit, and an address is not torn: its domain alone, with U-labels of one
/// character repeated, could be longer.
const WORD_LIMIT: usize = LINE_LIMIT - 64;
/// The longest value of one header field, in octets: a reply of a server at its full length.
const FIELD_LIMIT: usize = 2048;
/// The most octets in one encoded word: all of them as `=XX` stay below 75 characters (RFC 2047 §2).
const ENCODED_WORD_OCTETS: usize = 21;

/// `Name: value`, folded at spaces. Any octet that is not printable ASCII is shown as `\xNN`.
pub(super) fn field(name: &str, value: &str) -> String {
    folded(name, &printable(value.as_bytes(), FIELD_LIMIT))
}

/// The same for a value that may be outside ASCII: an address on a way that takes UTF-8
/// (RFC 6533 §4).
pub(super) fn utf8_field(name: &str, value: &str) -> String {
    folded(name, &harmless(value))
}

fn folded(name: &str, value: &str) -> String {
    let mut text = format!("{name}:");
    let mut column = text.len();
    for word in words(value.trim()) {
        // A run of spaces may belong to a quoted local-part: it is kept, and never ends a line.
        let is_first = column == name.len() + 1 && !text.contains('\r');
        if column + 1 + word.len() > LINE_WIDTH && !is_first && !word.is_empty() {
            text.push_str("\r\n");
            column = 0;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + word.len();
    }
    text.push_str("\r\n");
    text
}

/// A line exactly as it is, for what must not be broken: an address. Here and in paragraphs what would turn or
/// hide text is shown as `\u{202e}`.
pub(super) fn line(text: &str, indent: usize) -> String {
    let text = in_one_line(text);
    let end = text.floor_char_boundary(LINE_LIMIT - indent);
    format!("{:indent$}{}\r\n", "", text.get(..end).unwrap_or_default())
}

/// A paragraph, every line indented, broken at spaces.
pub(super) fn utf8_paragraph(text: &str, indent: usize) -> String {
    utf8_item("", text, indent)
}

/// `label` and `text` beside it; further lines stand under the text. `width` is where the text
/// begins.
pub(super) fn utf8_item(label: &str, text: &str, width: usize) -> String {
    fill(label, words(&in_one_line(text)), width, LINE_WIDTH).into_iter().map(|line| line + "\r\n").collect()
}

/// Text that can neither end a field nor command a terminal; what is outside ASCII stays, as addresses must.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The words of a text, empty ones between neighbouring spaces; words too long for any line are
/// cut into pieces.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').flat_map(|word| {
        let mut rest = Some(word);
        std::iter::from_fn(move || {
            let (piece, more) = rest?.split_at(rest?.floor_char_boundary(WORD_LIMIT));
            rest = (!more.is_empty()).then_some(more);
            Some(piece)
        })
    })
}

/// Whether content can stand in a mail part as it is.
pub(super) fn is_clean(content: &[u8]) -> bool {
    let lines: Vec<&[u8]> = content.split(|&b| b == b'\n').collect();
    lines.iter().enumerate().all(|(i, line)| {
        let is_last = i + 1 == lines.len();
        // Every line but what stands after the last CRLF must end in CR, and hold no other.
        let text = if is_last { Some(*line) } else { line.strip_suffix(b"\r") };
        text.is_some_and(|text| text.len() <= LINE_LIMIT && text.iter().all(|&b| b == b'\t' || (32..127).contains(&b)))
    })
}

/// Quoted-printable (RFC 2045 §6.7). CRLF stays a line end; any other octet survives exactly,
/// a CR or LF that stands alone included.
pub(super) fn quoted_printable(content: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(content.len() * 2);
    let mut column = 0;
    let mut rest = content;
    while let Some((&octet, after)) = rest.split_first() {
        if let Some(after_line) = rest.strip_prefix(b"\r\n") {
            encoded.extend_from_slice(b"\r\n");
            column = 0;
            rest = after_line;
            continue;
        }
        let ends_line = after.is_empty() || after.starts_with(b"\r\n");
        let is_literal = match octet {
            b'=' => false,
            b' ' | b'\t' => !ends_line,
            other => (33..127).contains(&other),
        };
        let width = if is_literal { 1 } else { 3 };
        // One column stays free for the `=` of a soft line end.
        if column + width > LINE_WIDTH - 1 {
            encoded.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if is_literal {
            encoded.push(octet);
        } else {
            encoded.extend_from_slice(format!("={octet:02X}").as_bytes());
        }
        column += width;
        rest = after;
    }
    encoded
}

/// Text outside ASCII for a header field: encoded words in UTF-8 (RFC 2047 §4.2).
pub(super) fn encoded_words(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut octets = ENCODED_WORD_OCTETS;
    for character in text.chars() {
        let mut buffer = [0; 4];
        let bytes = character.encode_utf8(&mut buffer).bytes();
        // A character must not be divided between two words (RFC 2047 §5).
        if octets + bytes.len() > ENCODED_WORD_OCTETS {
            words.push("=?UTF-8?Q?".to_owned());
            octets = 0;
        }
        octets += bytes.len();
        if let Some(word) = words.last_mut() {
            for byte in bytes {
                let _infallible = write!(word, "={byte:02X}");
            }
        }
    }
    words.iter().map(|word| format!("{word}?=")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5322_2_2_3_fields_fold_and_remote_text_adds_no_field() {
        let text = field("Diagnostic-Code", "smtp; 550 no\r\nBcc: victim@example.org\r\n\r\nbody \u{e9}");
        assert_eq!(
            text,
            "Diagnostic-Code: smtp; 550 no\\x0D\\x0ABcc:\r\n victim@example.org\\x0D\\x0A\\x0D\\x0Abody \\xC3\\xA9\r\n"
        );
        let long = field("Diagnostic-Code", &"word ".repeat(200));
        assert!(long.split("\r\n").all(|line| line.len() <= LINE_WIDTH));
        assert!(long.split("\r\n").skip(1).all(|line| line.is_empty() || line.starts_with(' ')));
        let unbroken = field("X", &"a".repeat(5000));
        assert!(unbroken.split("\r\n").all(|line| line.len() <= LINE_LIMIT));
        let address = format!("<a@{}>", ["é".repeat(55).as_str(); 4].join("."));
        assert!(address.len() > LINE_LIMIT / 3);
        assert_eq!(
            utf8_field("Original-Recipient", &format!("utf-8; {address}")).replace("\r\n", ""),
            format!("Original-Recipient: utf-8; {address}")
        );
        let address = "é".repeat(WORD_LIMIT / 2);
        assert!(utf8_field("Original-Recipient", &address).lines().all(|line| line.len() <= LINE_LIMIT));
        assert!(utf8_field("Original-Recipient", &address).contains(&address));
        let spaces = "a".repeat(70) + &" ".repeat(20) + "b";
        assert_eq!(field("X", &spaces).replace("\r\n", ""), format!("X: {spaces}"));
    }

    #[test]
    fn rfc2045_6_7_quoted_printable_survives_decoding() {
        let all: Vec<u8> = (0..=255).chain(*b"\r\n trailing \r\n\ttab\t\r\n=\r\nlone\rcr\nlf ").collect();
        let encoded = quoted_printable(&all);
        assert!(encoded.split(|&b| b == b'\n').all(|line| line.len() <= LINE_WIDTH + 1));
        assert!(is_clean(&encoded));
        let decoded = mail_parser::decoders::quoted_printable::quoted_printable_decode(&encoded).unwrap();
        assert_eq!(decoded, all);
    }

    #[test]
    fn rfc5322_2_1_1_clean_content_is_known() {
        for clean in [&b""[..], b"a: b\r\n\tc\r\n", b"no end"] {
            assert!(is_clean(clean), "{clean:?}");
        }
        let long = [&[b'a'; LINE_LIMIT + 1][..], b"\r\n"].concat();
        assert!(is_clean(&long[1..]), "at the limit");
        for unclean in [&b"a\n"[..], b"a\rb\r\n", b"\xe9\r\n", b"\0\r\n", b"\x7f", &long] {
            assert!(!is_clean(unclean), "{unclean:?}");
        }
    }

    #[test]
    fn rfc2047_2_encoded_words_are_short_and_whole() {
        let encoded = encoded_words("Grüße aus Köln, mit vielen Grüßen und 🦀");
        assert!(encoded.split(' ').all(|word| word.len() <= 75));
        let mail = format!("Subject: {encoded}\r\n\r\n");
        let parsed = mail_parser::MessageParser::default().parse(mail.as_bytes()).unwrap();
        assert_eq!(parsed.subject(), Some("Grüße aus Köln, mit vielen Grüßen und 🦀"));
    }
}
