//! The forms that header fields and a body are signed in (RFC 6376 §3.4): relaxed, in which we sign, and simple.

use aws_lc_rs::digest::{Context, SHA256};

/// So much of the relaxed form is gathered before it is hashed, in octets.
const GATHERED: usize = 8 * 1024;

/// Octets of SHA-256.
pub(super) const HASH_OCTETS: usize = 32;

/// How much of what mail servers change on the way a signature allows for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CanonicalForm {
    /// Nothing but empty lines at the end (§3.4.1, §3.4.3).
    Simple,
    /// Blanks as well (§3.4.2, §3.4.4).
    Relaxed,
}

/// The hash of a body in one of its forms, however the body is cut into pieces.
///
/// Empty lines at the end of the body go; relaxed, blanks at the end of a line go as well, and several become
/// one. What is not known yet, whether blanks or empty lines end here, is counted and not kept.
pub(super) struct BodyHash {
    form: CanonicalForm,
    context: Context,
    /// The body in its form.
    gathered: Vec<u8>,
    /// Line ends that count only if more text follows.
    line_ends: u64,
    /// Blanks that count only if more text follows in their line.
    blank: bool,
    after_cr: bool,
    has_text: bool,
}

impl BodyHash {
    /// Of nothing yet.
    pub(super) fn of(form: CanonicalForm) -> Self {
        Self {
            form,
            context: Context::new(&SHA256),
            gathered: Vec::with_capacity(GATHERED),
            line_ends: 0,
            blank: false,
            after_cr: false,
            has_text: false,
        }
    }

    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        let is_relaxed = self.form == CanonicalForm::Relaxed;
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
                b' ' | b'\t' if is_relaxed => self.blank = true,
                b'\r' => self.after_cr = true,
                _ => {
                    let ends = |octet: &u8| *octet == b'\r' || (is_relaxed && matches!(octet, b' ' | b'\t'));
                    let (text, behind) = rest.split_at(rest.iter().position(ends).unwrap_or(rest.len()));
                    self.text(text);
                    rest = behind;
                    continue;
                }
            }
            rest = after;
        }
    }

    /// The hash, after the last piece. A body without text is an empty line, and relaxed no octets at all.
    pub(super) fn finish(mut self) -> [u8; HASH_OCTETS] {
        if std::mem::take(&mut self.after_cr) {
            self.text(b"\r");
        }
        if self.has_text || self.form == CanonicalForm::Simple {
            self.gathered.extend_from_slice(b"\r\n");
        }
        self.context.update(&self.gathered);
        let mut hash = [0; HASH_OCTETS];
        hash.iter_mut().zip(self.context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }

    fn text(&mut self, text: &[u8]) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.gathered.extend_from_slice(b"\r\n");
            self.hash_what_is_gathered();
        }
        if std::mem::take(&mut self.blank) {
            self.gathered.push(b' ');
        }
        self.has_text = true;
        self.gathered.extend_from_slice(text);
        self.hash_what_is_gathered();
    }

    fn hash_what_is_gathered(&mut self) {
        if self.gathered.len() >= GATHERED {
            self.context.update(&self.gathered);
            self.gathered.clear();
        }
    }
}

/// Appends a header field as it is, without a line end at the last of its lines.
pub(super) fn simple_field<'a>(name: &[u8], lines: impl IntoIterator<Item = &'a [u8]>, simple: &mut Vec<u8>) {
    simple.extend_from_slice(name);
    simple.push(b':');
    for (nth, line) in lines.into_iter().enumerate() {
        if nth > 0 {
            simple.extend_from_slice(b"\r\n");
        }
        simple.extend_from_slice(line);
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
        hash_of(CanonicalForm::Relaxed, body)
    }

    fn hash_of(form: CanonicalForm, body: &[u8]) -> [u8; HASH_OCTETS] {
        let mut whole = BodyHash::of(form);
        whole.feed(body);
        let whole = whole.finish();
        for cut in 0..=body.len().min(300) {
            let (mut parts, (a, b)) = (BodyHash::of(form), body.split_at(cut));
            parts.feed(a);
            parts.feed(b);
            assert_eq!(parts.finish(), whole, "cut at {cut}");
        }
        let mut single = BodyHash::of(form);
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
    fn rfc6376_3_4_1_and_3_4_3_the_simple_form_keeps_all_but_empty_lines_at_the_end() {
        let simple = |body: &[u8], form: &[u8]| {
            let hash = hash_of(CanonicalForm::Simple, body);
            assert_eq!(hash.as_slice(), digest(&SHA256, form).as_ref(), "{:?}", String::from_utf8_lossy(body));
        };
        simple(b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n");
        simple(b"a", b"a\r\n");
        simple(b"a\r\n \r\n", b"a\r\n \r\n");
        for empty in [&b""[..], b"\r\n", b"\r\n\r\n"] {
            simple(empty, b"\r\n");
        }
        let mut field = Vec::new();
        simple_field(b"B ", [&b" Y\t"[..], b"\tZ  "], &mut field);
        assert_eq!(field, b"B : Y\t\r\n\tZ  ");
    }

    #[test]
    fn many_empty_lines_are_hashed_without_being_kept() {
        let mut body = BodyHash::of(CanonicalForm::Relaxed);
        body.feed(b"a\r\n");
        (0..100_000).for_each(|_| body.feed(b"\r\n"));
        body.feed(b"b");
        assert!(body.gathered.capacity() <= 2 * GATHERED);
        let expected = [&b"a\r\n"[..], &b"\r\n".repeat(100_000), b"b\r\n"].concat();
        assert_eq!(body.finish().as_slice(), digest(&SHA256, &expected).as_ref());
    }
}
