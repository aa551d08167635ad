//! Whether a header is outside ASCII, found while the content streams by (RFC 6531 §3.2, RFC 6532).
//!
//! A client may declare SMTPUTF8 for any message; only one whose header needs it, at the top or in
//! one of its parts, is held to that on the way out. Of the body nothing is kept: 8-bit octets in it
//! are a matter of 8BITMIME.

use crate::envelope::Charset;

/// So much of a line is looked at, in octets: what RFC 5322 §2.1.1 allows, with its CRLF.
const LINE_LIMIT: usize = 1000;
/// Boundaries that are kept; with more, every header may be one in UTF-8.
const BOUNDARIES_LIMIT: usize = 100;

/// Looks for octets outside ASCII in the header of the message and of its parts.
#[derive(Clone, Debug)]
pub(super) struct HeaderCharset {
    section: HeaderOrBody,
    line: Vec<u8>,
    line_is_ascii: bool,
    boundaries: Vec<Vec<u8>>,
    charset: Charset,
}

/// Where the current line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeaderOrBody {
    Header,
    Body,
}

impl Default for HeaderCharset {
    fn default() -> Self {
        let (section, charset) = (HeaderOrBody::Header, Charset::Ascii);
        Self { section, line: Vec::new(), line_is_ascii: true, boundaries: Vec::new(), charset }
    }
}

impl HeaderCharset {
    /// Takes the next piece of content.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|&octet| octet == b'\n') {
            if self.is_known() {
                break;
            }
            let room = LINE_LIMIT.saturating_sub(self.line.len());
            self.line.extend_from_slice(part.get(..room).unwrap_or(part));
            self.line_is_ascii &= part.is_ascii();
            if part.ends_with(b"\n") {
                self.line_ends();
            }
        }
    }

    /// Without a part to come there is nothing more to find.
    fn is_known(&self) -> bool {
        self.charset == Charset::Utf8 || (self.section == HeaderOrBody::Body && self.boundaries.is_empty())
    }

    /// What has been found so far.
    #[must_use]
    pub(super) fn charset(&self) -> Charset {
        let in_last_line = self.section == HeaderOrBody::Header && !self.line_is_ascii;
        if in_last_line { Charset::Utf8 } else { self.charset }
    }

    fn line_ends(&mut self) {
        let line = self.line.trim_ascii_end();
        match self.section {
            HeaderOrBody::Header if line.is_empty() => self.section = HeaderOrBody::Body,
            HeaderOrBody::Header => {
                if !self.line_is_ascii {
                    self.charset = Charset::Utf8;
                }
                if let Some(boundary) = boundary(line) {
                    if self.boundaries.len() >= BOUNDARIES_LIMIT {
                        self.charset = Charset::Utf8;
                    } else {
                        self.boundaries.push(boundary.to_vec());
                    }
                }
            }
            HeaderOrBody::Body => {
                let behind = line.strip_prefix(b"--");
                let begins_part = |boundary: &Vec<u8>| behind.is_some_and(|text| text.starts_with(boundary));
                if self.boundaries.iter().any(begins_part) {
                    self.section = HeaderOrBody::Header;
                }
            }
        }
        self.line.clear();
        self.line_is_ascii = true;
    }
}

/// The value of a boundary parameter in a line of a header (RFC 2046 §5.1.1). What is none does no
/// harm: hardly any line of a body begins with it.
fn boundary(line: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"boundary=";
    let at = line.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME))?;
    let value = line.get(at + NAME.len()..)?;
    let value = match value.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|&octet| octet == b'"').next()?,
        None => value.split(|&octet| octet == b';' || octet == b' ').next()?,
    };
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charset(content: &str) -> Charset {
        let whole = {
            let mut look = HeaderCharset::default();
            look.feed(content.as_bytes());
            look.charset()
        };
        for cut in 0..content.len() {
            let (a, b) = content.as_bytes().split_at(cut);
            let mut look = HeaderCharset::default();
            look.feed(a);
            look.feed(b);
            assert_eq!(look.charset(), whole, "cut at {cut}");
        }
        whole
    }

    #[test]
    fn rfc6531_3_2_a_body_alone_makes_no_header_one_in_utf_8() {
        assert_eq!(charset("Subject: x\r\n\r\nGrüße\r\n--\r\nJürgen: x\r\n"), Charset::Ascii);
        assert_eq!(charset("Subject: Grüße\r\n\r\nx\r\n"), Charset::Utf8);
        assert_eq!(charset("Subject: x\r\n Grüße"), Charset::Utf8);
        assert_eq!(charset("\r\nSubject: Grüße\r\n"), Charset::Ascii);
    }

    #[test]
    fn rfc6532_3_1_the_header_of_a_part_counts_and_its_content_does_not() {
        let parts = |header: &str, body: &str| {
            format!(
                "Content-Type: multipart/mixed;\r\n boundary=\"a b\"\r\n\r\n--a b\r\n{header}\r\n\r\n{body}\r\n--a b--\r\n"
            )
        };
        assert_eq!(charset(&parts("Content-Type: text/plain", "Grüße\r\n--Von: Jürgen")), Charset::Ascii);
        assert_eq!(charset(&parts("Content-Disposition: attachment; filename=Grüße.txt", "x")), Charset::Utf8);
        let unquoted = parts("X: Grüße", "x").replace("\"a b\"", "ab; x=y").replace("--a b", "--ab");
        assert_eq!(charset(&unquoted), Charset::Utf8);
    }
}
