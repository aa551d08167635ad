//! The lines of a message header, and where it ends (RFC 5322 §2.1, §2.2).
//!
//! The one place that says it, so that no two readers of a header disagree about what is a field
//! and what is text:
//!
//! - The header ends at the first empty line, or with the content. A line of blanks alone is not
//!   empty: it goes on with the field above it (RFC 5322 §4.2).
//! - A field begins with its name: printable ASCII without blanks and colon (RFC 5322 §3.6.8 ftext).
//!   Blanks, and nothing else, may stand between name and colon (§4.5).
//! - A line that begins with a blank goes on with the field above it (§2.2.3).
//! - Anything else is no line of a header. Some programs see the body begin there, others read on:
//!   it is shown as [`Line::Odd`], and whoever acts on a field decides what that means for him.

/// So much of a line is looked at, in octets: what RFC 5322 §2.1.1 allows, with its CRLF.
pub(crate) const LINE_LIMIT: usize = 1000;

/// A line of a header, without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The first line of a field.
    Field {
        /// Its name as it is written.
        name: &'a [u8],
        /// What stands behind the colon.
        value: &'a [u8],
    },
    /// A field goes on.
    Folded(&'a [u8]),
    /// No line of a header.
    Odd(&'a [u8]),
}

/// The lines of the header that stands at the beginning of `content`.
pub(crate) fn lines(content: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let whole = content.split_inclusive(|&octet| octet == b'\n').map(without_line_end);
    whole.take_while(|line| !line.is_empty()).scan(Above::default(), |above, line| Some(above.next(line)))
}

/// How many octets of `content` are header, its last line end included; `None` when the content
/// has no empty line.
#[must_use]
pub(crate) fn length(content: &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        if line.ends_with(b"\n") && without_line_end(line).is_empty() {
            return Some(length);
        }
        length += line.len();
    }
    None
}

/// Reads the lines of a header that comes in pieces, however it is cut. Of a longer line it keeps
/// the first [`LINE_LIMIT`] octets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scanner {
    line: Vec<u8>,
    is_cut: bool,
    above: Above,
    has_ended: bool,
}

/// A line, and whether octets at its end are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read<'a> {
    /// The line.
    pub line: Line<'a>,
    /// Whether it was longer than what is kept.
    pub is_cut: bool,
}

impl Scanner {
    /// Takes the next piece of content; `see` is shown every line that is whole now.
    pub(crate) fn feed(&mut self, piece: &[u8], mut see: impl FnMut(Read<'_>)) {
        for part in piece.split_inclusive(|&octet| octet == b'\n') {
            if self.has_ended {
                return;
            }
            let room = LINE_LIMIT.saturating_sub(self.line.len());
            self.line.extend_from_slice(part.get(..room).unwrap_or(part));
            self.is_cut |= part.len() > room;
            if part.ends_with(b"\n") {
                self.line_ends(&mut see);
            }
        }
    }

    /// Says that no more content comes: a last line without a line end counts.
    pub(crate) fn end(&mut self, mut see: impl FnMut(Read<'_>)) {
        if !self.has_ended && !self.line.is_empty() {
            self.line_ends(&mut see);
        }
        self.has_ended = true;
    }

    fn line_ends(&mut self, see: &mut impl FnMut(Read<'_>)) {
        let (kept, is_cut) = (std::mem::take(&mut self.line), std::mem::take(&mut self.is_cut));
        let text = without_line_end(&kept);
        if text.is_empty() {
            self.has_ended = true;
            return;
        }
        let line = self.above.next(text);
        see(Read { line, is_cut });
        self.line = kept;
        self.line.clear();
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What stands above a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Above {
    /// Nothing that a line can go on with.
    #[default]
    Nothing,
    /// A field.
    Field,
}

impl Above {
    /// What the next line is; the one behind it has it above.
    fn next<'l>(&mut self, line: &'l [u8]) -> Line<'l> {
        let is_folded = *self == Self::Field && line.first().copied().is_some_and(is_blank);
        let line = if is_folded { Line::Folded(line) } else { field(line).unwrap_or(Line::Odd(line)) };
        *self = match line {
            Line::Field { .. } | Line::Folded(_) => Self::Field,
            Line::Odd(_) => Self::Nothing,
        };
        line
    }
}

fn field(line: &[u8]) -> Option<Line<'_>> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    let (name, rest) = line.split_at_checked(colon)?;
    let length = name.iter().rposition(|&octet| !is_blank(octet)).map_or(0, |last| last + 1);
    let name = name.get(..length)?;
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_name.then_some(Line::Field { name, value: rest.get(1..)? })
}

const fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5322_2_1_a_header_is_read_line_by_line_up_to_the_first_empty_one() {
        let mut lines = lines(b"Subject : Hello\r\n again\r\n\r\nTo: the body\r\n");
        assert_eq!(lines.next(), Some(Line::Field { name: b"Subject", value: b" Hello" }));
        assert_eq!(lines.next(), Some(Line::Folded(b" again")));
        assert_eq!(lines.next(), None);
    }

    fn word(line: Line<'_>) -> String {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        match line {
            Line::Field { name, value } => format!("{}={}", text(name), text(value)),
            Line::Folded(more) => format!("+{}", text(more)),
            Line::Odd(line) => format!("?{}", text(line)),
        }
    }

    fn streamed(pieces: &[&[u8]]) -> Vec<String> {
        let (mut scanner, mut seen) = (Scanner::default(), Vec::new());
        pieces.iter().for_each(|piece| scanner.feed(piece, |read| seen.push(word(read.line))));
        scanner.end(|read| seen.push(word(read.line)));
        seen
    }

    /// The lines, which are the same for a whole header and for one in pieces.
    fn read(content: &[u8]) -> Vec<String> {
        let whole: Vec<String> = lines(content).map(word).collect();
        for cut in 0..=content.len() {
            let (a, b) = content.split_at(cut);
            assert_eq!(streamed(&[a, b]), whole, "cut at {cut}");
        }
        assert_eq!(streamed(&content.chunks(1).collect::<Vec<_>>()), whole);
        whole
    }

    #[test]
    fn rfc5322_2_2_fields_and_their_folded_lines() {
        assert_eq!(read(b"a: b\r\n c\r\n\td\r\nE:\r\n\r\nf: g\r\n"), ["a= b", "+ c", "+\td", "E="]);
        assert_eq!(read(b"a: b:c"), ["a= b:c"], "a header that ends with the content");
        assert!(read(b"\r\na: b\r\n").is_empty() && read(b"").is_empty());
    }

    #[test]
    fn rfc5322_3_6_8_a_name_is_printable_and_only_blanks_stand_before_the_colon() {
        assert_eq!(read(b"a \t: b\r\n!\"~: c\r\n"), ["a= b", "!\"~= c"]);
        for before in ["a\x0c", "a\x0b", "a\r", "a\0", "a\x7f", "a b", "\u{e4}", "a\u{a0}", " a", "", " "] {
            let line = format!("{before}: b");
            assert_eq!(read(format!("{line}\r\n").as_bytes()), [format!("?{line}")], "{before:?}");
        }
    }

    #[test]
    fn rfc5322_4_2_a_line_of_blanks_is_no_end_and_a_first_line_goes_on_with_nothing() {
        assert_eq!(read(b"a: b\r\n \t\r\nc: d\r\n\r\n"), ["a= b", "+ \t", "c= d"]);
        assert_eq!(read(b" a: b\r\nc: d\r\n"), ["? a: b", "c= d"]);
        assert_eq!(read(b"a: b\r\nodd\r\n c\r\nd: e\r\n"), ["a= b", "?odd", "? c", "d= e"]);
        assert_eq!(read(b"a: b\r\n\x0c\r\nc: d\r\n"), ["a= b", "?\x0c", "c= d"]);
    }

    #[test]
    fn the_length_of_a_header_is_up_to_its_empty_line() {
        for (content, header) in [
            ("a: b\r\n\r\nbody\r\n\r\n", Some("a: b\r\n")),
            ("\r\nbody", Some("")),
            ("a: b\r\n \r\n\r\n", Some("a: b\r\n \r\n")),
            ("a: b\r\n", None),
            ("a: b\r\n\r", None),
            ("", None),
        ] {
            assert_eq!(length(content.as_bytes()), header.map(str::len), "{content:?}");
        }
    }

    #[test]
    fn what_is_kept_of_a_line_is_bounded_and_a_cut_line_is_known_as_one() {
        let (mut scanner, mut seen) = (Scanner::default(), Vec::new());
        let long = [b'x'; 100];
        scanner.feed(b"a: ", |_| panic!("no line is whole"));
        for _ in 0..1000 {
            scanner.feed(&long, |_| panic!("no line is whole"));
        }
        assert!(scanner.line.capacity() <= 2 * LINE_LIMIT);
        scanner.feed(b"\r\nb: c\r\n", |read| seen.push((word(read.line).len(), read.is_cut)));
        assert_eq!(seen, [("a=".len() + LINE_LIMIT - 2, true), (4, false)]);
        let fits = [&b"a: "[..], &vec![b'x'; LINE_LIMIT - 5], b"\r\n"].concat();
        Scanner::default().feed(&fits, |read| assert!(!read.is_cut));
    }
}
