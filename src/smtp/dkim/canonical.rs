//! The relaxed form of header fields and of a body (RFC 6376 §3.4.2, §3.4.4).

use aws_lc_rs::digest::{Context, SHA256};

/// So much of the relaxed form is gathered before it is hashed, in octets.
const GATHERED: usize = 8 * 1024;

/// Octets of SHA-256.
pub(super) const HASH_OCTETS: usize = 32;

/// The hash of a body in its relaxed form, however the body is cut into pieces.
///
/// Blanks at the end of a line go, several become one, and empty lines at the end of the body go. What is
/// not known yet, whether blanks or empty lines end here, is counted and not kept.
pub(super) struct BodyHash {
    context: Context,
    relaxed: Vec<u8>,
    /// Line ends that count only if more text follows.
    line_ends: u64,
    /// Blanks that count only if more text follows in their line.
    blank: bool,
    after_cr: bool,
    has_text: bool,
}

impl Default for BodyHash {
    fn default() -> Self {
        Self {
            context: Context::new(&SHA256),
            relaxed: Vec::with_capacity(GATHERED),
            line_ends: 0,
            blank: false,
            after_cr: false,
            has_text: false,
        }
    }
}

impl BodyHash {
    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some((&octet, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_cr) {
                if octet == b'\n' {
                    self.line_ends += 1;
                    self.blank = false;
                    rest = after;
                    continue;
                }
                // Content has no bare CR; if it had, it would be text.
                self.text(b"\r");
            }
            match octet {
                b' ' | b'\t' => self.blank = true,
                b'\r' => self.after_cr = true,
                _ => {
                    let ends = |octet: &u8| matches!(octet, b' ' | b'\t' | b'\r');
                    let (text, behind) = rest.split_at(rest.iter().position(ends).unwrap_or(rest.len()));
                    self.text(text);
                    rest = behind;
                    continue;
                }
            }
            rest = after;
        }
    }

    /// The hash, after the last piece. A body without text has no octets at all.
    pub(super) fn finish(mut self) -> [u8; HASH_OCTETS] {
        if std::mem::take(&mut self.after_cr) {
            self.text(b"\r");
        }
        if self.has_text {
            self.relaxed.extend_from_slice(b"\r\n");
        }
        self.context.update(&self.relaxed);
        let mut hash = [0; HASH_OCTETS];
        hash.iter_mut().zip(self.context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }

    fn text(&mut self, text: &[u8]) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.relaxed.extend_from_slice(b"\r\n");
            self.hash_what_is_gathered();
        }
        if std::mem::take(&mut self.blank) {
            self.relaxed.push(b' ');
        }
        self.has_text = true;
        self.relaxed.extend_from_slice(text);
        self.hash_what_is_gathered();
    }

    fn hash_what_is_gathered(&mut self) {
        if self.relaxed.len() >= GATHERED {
            self.context.update(&self.relaxed);
            self.relaxed.clear();
        }
    }
}

/// Appends a header field in its relaxed form, without a line end: the name in lower case, the lines of
/// the value as one, several blanks as one, and none at its ends.
pub(super) fn relaxed_field<'a>(name: &[u8], lines: impl IntoIterator<Item = &'a [u8]>, relaxed: &mut Vec<u8>) {
    relaxed.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
    relaxed.push(b':');
    let (begins, mut blank) = (relaxed.len(), false);
    for &octet in lines.into_iter().flatten() {
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' => blank = true,
            _ => {
                if std::mem::take(&mut blank) && relaxed.len() > begins {
                    relaxed.push(b' ');
                }
                relaxed.push(octet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest::digest;
    use data_encoding::BASE64;

    fn hash(body: &[u8]) -> [u8; HASH_OCTETS] {
        let mut whole = BodyHash::default();
        whole.feed(body);
        let whole = whole.finish();
        for cut in 0..=body.len().min(300) {
            let (mut parts, (a, b)) = (BodyHash::default(), body.split_at(cut));
            parts.feed(a);
            parts.feed(b);
            assert_eq!(parts.finish(), whole, "cut at {cut}");
        }
        let mut single = BodyHash::default();
        body.chunks(1).for_each(|octet| single.feed(octet));
        assert_eq!(single.finish(), whole);
        whole
    }

    fn is_relaxed_to(body: &[u8], relaxed: &[u8]) {
        assert_eq!(hash(body).as_slice(), digest(&SHA256, relaxed).as_ref(), "{:?}", String::from_utf8_lossy(body));
    }

    #[test]
    fn rfc6376_3_4_5_the_examples() {
        is_relaxed_to(b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n");
        let mut fields = Vec::new();
        relaxed_field(b"A", [&b" X"[..]], &mut fields);
        assert_eq!(fields, b"a:X");
        fields.clear();
        relaxed_field(b"B ", [&b" Y\t"[..], b"\tZ  "], &mut fields);
        assert_eq!(fields, b"b:Y Z");
    }

    #[test]
    fn rfc6376_3_4_4_the_hash_of_an_empty_body_is_that_of_nothing() {
        for empty in [&b""[..], b"\r\n", b"\r\n\r\n\r\n", b" \t\r\n \r\n", b"  "] {
            is_relaxed_to(empty, b"");
        }
        assert_eq!(BASE64.encode(&hash(b"")), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn rfc6376_3_4_4_line_ends_and_blanks_count_where_text_follows() {
        is_relaxed_to(b"a", b"a\r\n");
        is_relaxed_to(b"a \t ", b"a\r\n");
        is_relaxed_to(b"a\r\n \r\n\t\r\nb\r\n", b"a\r\n\r\n\r\nb\r\n");
        is_relaxed_to(b"\r\n\r\na\r\n", b"\r\n\r\na\r\n");
        is_relaxed_to(b"a\r\n  b\tc  d\r\n", b"a\r\n b c d\r\n");
        is_relaxed_to(b".\r\n..\r\n\xff\x00\r\n", b".\r\n..\r\n\xff\x00\r\n");
    }

    #[test]
    fn many_empty_lines_are_hashed_without_being_kept() {
        let mut body = BodyHash::default();
        body.feed(b"a\r\n");
        (0..100_000).for_each(|_| body.feed(b"\r\n"));
        body.feed(b"b");
        assert!(body.relaxed.capacity() <= 2 * GATHERED);
        let expected = [&b"a\r\n"[..], &b"\r\n".repeat(100_000), b"b\r\n"].concat();
        assert_eq!(body.finish().as_slice(), digest(&SHA256, &expected).as_ref());
    }
}
