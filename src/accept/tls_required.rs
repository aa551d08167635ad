//! The header field `TLS-Required: No`, found while the content streams by (RFC 8689 §3, §4.1).
//!
//! The field asks for less security, so it counts only where nobody can read it differently: in
//! the header, exactly once, with the one value that is defined. Everything else counts as
//! absent. What is looked at passes unchanged; what is kept is bounded.

use crate::envelope::TlsRequest;
use crate::smtp::header::{LINE_LIMIT, Line, Read};

const FIELD_NAME: &[u8] = b"TLS-Required";
const VALUE: &[u8] = b"No";

/// A value with comments that is longer than two whole lines is none.
const VALUE_LIMIT: usize = 2 * LINE_LIMIT;

/// Looks for the field among the lines of the header.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsRequired {
    place: LastLine,
    /// How many fields of this name there were.
    fields: u32,
    /// The value of the first, its lines joined; none when it is above a limit.
    value: Option<Vec<u8>>,
    /// Whether there was a line that no header has: some programs see the body begin, others read
    /// on.
    has_odd_line: bool,
}

/// Where the last line stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LastLine {
    /// Within the field we look for.
    Ours,
    /// Anywhere else.
    #[default]
    Other,
}

impl TlsRequired {
    /// Takes the next line of the header.
    pub(super) fn line(&mut self, read: Read<'_>) {
        match (read.line, self.place) {
            (Line::Field { name, value }, _) => self.begin(name, value),
            (Line::Folded(more), LastLine::Ours) => self.collect(more),
            (Line::Folded(_), LastLine::Other) => {}
            (Line::Odd(_), _) => {
                self.has_odd_line = true;
                self.place = LastLine::Other;
            }
        }
        // Nobody knows what stood behind the cut.
        if self.place == LastLine::Ours && read.is_cut {
            self.value = None;
        }
    }

    /// What the header asks, as far as it has come.
    #[must_use]
    pub(super) fn request(&self) -> TlsRequest {
        let is_clear = self.fields == 1 && !self.has_odd_line;
        if is_clear && self.value.as_deref().is_some_and(is_no) { TlsRequest::Optional } else { TlsRequest::ByPolicy }
    }

    fn begin(&mut self, name: &[u8], value: &[u8]) {
        self.place = LastLine::Other;
        if !name.eq_ignore_ascii_case(FIELD_NAME) {
            return;
        }
        self.fields = self.fields.saturating_add(1);
        // Two fields count as none, whatever the second one says.
        if self.fields == 1 {
            self.place = LastLine::Ours;
            self.value = Some(Vec::new());
            self.collect(value);
        }
    }

    fn collect(&mut self, line: &[u8]) {
        self.value = self.value.take().filter(|value| value.len() + line.len() <= VALUE_LIMIT);
        if let Some(value) = &mut self.value {
            value.extend_from_slice(line);
        }
    }
}

/// The value, with comments and folding white space around it (RFC 5322 §3.2.2).
fn is_no(value: &[u8]) -> bool {
    let word = without_comments(value);
    let rest = word.and_then(|word| word.split_at_checked(VALUE.len()));
    rest.is_some_and(|(word, rest)| word.eq_ignore_ascii_case(VALUE) && without_comments(rest) == Some(&[]))
}

/// Takes comments and white space off the front. `None` when a comment does not end.
fn without_comments(text: &[u8]) -> Option<&[u8]> {
    let (mut depth, mut escaped) = (0_usize, false);
    for (i, &octet) in text.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if depth > 0 => escaped = true,
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth > 0 => {}
            _ => return text.get(i..),
        }
    }
    (depth == 0).then_some(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::header::Scanner;

    fn request(pieces: &[&[u8]]) -> TlsRequest {
        let (mut scanner, mut wanted) = (Scanner::default(), TlsRequired::default());
        pieces.iter().for_each(|piece| scanner.feed(piece, |read| wanted.line(read)));
        scanner.end(|read| wanted.line(read));
        wanted.request()
    }

    fn asks(content: &str) -> bool {
        let whole = request(&[content.as_bytes()]);
        let single: Vec<&[u8]> = content.as_bytes().chunks(1).collect();
        assert_eq!(request(&single), whole, "octet by octet: {content:?}");
        for cut in 0..=content.len() {
            let (a, b) = content.as_bytes().split_at(cut);
            assert_eq!(request(&[a, b]), whole, "cut at {cut}: {content:?}");
        }
        whole == TlsRequest::Optional
    }

    #[test]
    fn rfc8689_3_the_field_is_read_in_any_case_with_comments_and_folded() {
        for field in [
            "TLS-Required: No",
            "tls-required:nO",
            "TLS-REQUIRED : NO\t ",
            "TLS-Required:\r\n No",
            "TLS-Required:\r\n\t\r\n No\r\n ",
            "TLS-Required: (why (not) \\) ) No (it\r\n is urgent)",
        ] {
            assert!(asks(&format!("{field}\r\n\r\nbody\r\n")), "{field:?}");
            assert!(asks(&format!("Subject: x\r\n y\r\n{field}\r\nFrom: a@b.example\r\n\r\n")), "{field:?}");
            assert!(asks(field), "a header that ends with the content: {field:?}");
        }
    }

    #[test]
    fn rfc8689_3_another_value_counts_as_absent() {
        for value in [
            "",
            "Yes",
            "Not",
            "No No",
            "N o",
            "No, really",
            "\"No\"",
            "(No)",
            "No (",
            "( No",
            "No )",
            ") No",
            "N(o)o",
            "\\No",
            "No\r\n Yes",
            "No;",
            "=?us-ascii?q?No?=",
        ] {
            assert!(!asks(&format!("TLS-Required: {value}\r\n\r\n")), "{value:?}");
        }
    }

    #[test]
    fn rfc8689_3_two_fields_count_as_none() {
        for (first, second) in [("No", "No"), ("No", "Yes"), ("Yes", "No"), ("No", "")] {
            assert!(!asks(&format!("TLS-Required: {first}\r\nTo: x\r\ntls-required: {second}\r\n\r\n")));
        }
    }

    #[test]
    fn rfc5322_2_2_only_the_header_is_searched() {
        for content in [
            "",
            "\r\n",
            "\r\nTLS-Required: No\r\n",
            "Subject: x\r\n\r\nTLS-Required: No\r\n\r\n",
            "Subject: x\r\n TLS-Required: No\r\n\r\n",
            "X-TLS-Required: No\r\n\r\n",
            "TLS-Required-By: No\r\n\r\n",
            "TLS Required: No\r\n\r\n",
            "TLS-Required No\r\n\r\n",
            " TLS-Required: No\r\n\r\n",
            " x\r\nTLS-Required: No\r\n\r\n",
            "no header line\r\nTLS-Required: No\r\n\r\n",
            ": x\r\nTLS-Required: No\r\n\r\n",
            "Subject: x\r\n.\r\nTLS-Required: No\r\n\r\n",
            "TLS-Required: No\r\n.\r\n\r\n",
            "TLS-Required: No\r\nno header line\r\nTLS-Required: Yes\r\n\r\n",
        ] {
            assert!(!asks(content), "{content:?}");
        }
        assert!(asks("TLS-Required: No\r\n\r\nTLS-Required: No\r\n"), "the second one is text");
    }

    #[test]
    fn rfc5322_3_6_8_a_name_with_anything_but_blanks_behind_it_is_another_one() {
        for octet in ["\x0c", "\x0b", "\0", "\x7f", "\u{a0}", ";"] {
            assert!(!asks(&format!("TLS-Required{octet}: No\r\n\r\n")), "{octet:?}");
            assert!(!asks(&format!("TLS-Required {octet} : No\r\n\r\n")), "{octet:?}");
            assert!(!asks(&format!("{octet}TLS-Required: No\r\n\r\n")), "{octet:?}");
            let both = format!("TLS-Required: No\r\nTLS-Required{octet}: Yes\r\n\r\n");
            assert_eq!(asks(&both), octet == ";", "a field of another name, or no line of a header");
        }
    }

    #[test]
    fn what_is_kept_of_a_value_is_bounded_and_a_cut_value_is_none() {
        let mut wanted = TlsRequired::default();
        let read = |line| Read { line, is_cut: false };
        wanted.line(read(Line::Field { name: FIELD_NAME, value: b" No (" }));
        for _ in 0..1000 {
            wanted.line(read(Line::Folded(b" yyyy")));
        }
        assert_eq!(wanted.value, None);
        wanted.line(read(Line::Folded(b" )")));
        assert_eq!(wanted.request(), TlsRequest::ByPolicy);
        let padded = |blanks: usize, more: &str| format!("TLS-Required: No{}{more}\r\n\r\n", " ".repeat(blanks));
        let blanks = LINE_LIMIT - "TLS-Required: No\r\n".len();
        assert_eq!(request(&[padded(blanks, "").as_bytes()]), TlsRequest::Optional);
        assert_eq!(request(&[padded(blanks + 1, "").as_bytes()]), TlsRequest::ByPolicy);
        assert_eq!(request(&[padded(blanks + 5, "t").as_bytes()]), TlsRequest::ByPolicy);
        let folded = |lines: usize| format!("TLS-Required: No{}\r\n\r\n", "\r\n         ".repeat(lines));
        assert_eq!(request(&[folded(100).as_bytes()]), TlsRequest::Optional);
        assert_eq!(request(&[folded(300).as_bytes()]), TlsRequest::ByPolicy);
    }
}
