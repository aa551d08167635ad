//! Message data on the wire: dot-stuffing and line ends
//! (RFC 5321 §2.3.8, §4.1.1.4, §4.5.2; RFC 3030 §2).
//!
//! All of it is incremental: pieces may be cut anywhere and the result is the same. Only
//! `CRLF . CRLF` ends data. A CR or LF that stands alone is reported, never taken for a line
//! end: servers that disagree about line ends are what SMTP smuggling lives on.
//!
//! ```
//! use dane_relay::smtp::data::{DataDecoder, DotStuffer};
//!
//! let (mut wire, mut stuffer) = (Vec::new(), DotStuffer::default());
//! stuffer.feed(b".hidden\r\n", &mut wire);
//! stuffer.finish(&mut wire);
//! assert_eq!(wire, b"..hidden\r\n.\r\n");
//!
//! let (mut content, mut decoder) = (Vec::new(), DataDecoder::default());
//! assert!(decoder.feed(&wire, &mut content).ended);
//! assert_eq!(content, b".hidden\r\n");
//! ```

use memchr::{memchr_iter, memchr2};

/// Octets for which there is room beside a piece whose dots are stuffed, its end included, before the buffer grows.
const DOTS: usize = 64;

/// Where the first CR or LF stands.
#[must_use]
pub fn find_line_break(bytes: &[u8]) -> Option<usize> {
    memchr2(b'\r', b'\n', bytes)
}

/// How much of a text within a line is content as it is: whole lines, as long as the next one begins with neither a dot nor
/// an end of line, and the text of the last one. With that a message is copied in few pieces.
fn plain_run(text: &[u8]) -> usize {
    let mut run = 0;
    while let Some(rest) = text.get(run..) {
        match find_line_break(rest) {
            None => return text.len(),
            Some(at) => match rest.get(at..) {
                Some([b'\r', b'\n', next, ..]) if !matches!(next, b'.' | b'\r' | b'\n') => run += at + 2,
                Some(_) | None => return run + at,
            },
        }
    }
    text.len()
}

/// What [`DataDecoder::feed`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Octets of the input that belong to the data; what follows them is the next command.
    pub consumed: usize,
    /// Whether `CRLF . CRLF` was met.
    pub ended: bool,
}

/// Where the decoder stands within a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// After CRLF, or before the first octet: a dot is special here.
    #[default]
    LineStart,
    /// After a dot at the start of a line; the dot is not content.
    Dot,
    /// After a dot and a CR.
    DotCr,
    /// Within a line.
    Text,
    /// After a CR; it is content together with the LF that must follow.
    Cr,
}

/// Takes the content out of DATA: removes stuffed dots and finds the end (RFC 5321 §4.5.2).
#[derive(Clone, Debug, Default)]
pub struct DataDecoder {
    at: At,
    bare_line_end: bool,
}

impl DataDecoder {
    /// Takes a piece from the wire and appends the content in it to `content`.
    /// After `ended` the decoder is used up.
    pub fn feed(&mut self, input: &[u8], content: &mut Vec<u8>) -> Fed {
        let mut rest = input;
        loop {
            if self.at == At::Text {
                let (run, after) = rest.split_at(plain_run(rest));
                content.extend_from_slice(run);
                rest = after;
            }
            let Some((&octet, after)) = rest.split_first() else {
                return Fed { consumed: input.len(), ended: false };
            };
            rest = after;
            if self.octet(octet, content) {
                return Fed { consumed: input.len() - rest.len(), ended: true };
            }
        }
    }

    /// Whether a CR without LF or an LF without CR was met. The content must then be refused:
    /// what was appended since is not what the client sent.
    #[must_use]
    pub fn bare_line_end(&self) -> bool {
        self.bare_line_end
    }

    /// Takes one octet; true when it ends the data.
    fn octet(&mut self, octet: u8, content: &mut Vec<u8>) -> bool {
        self.at = match (self.at, octet) {
            (At::DotCr, b'\n') => return true,
            (At::Cr, b'\n') => {
                content.extend_from_slice(b"\r\n");
                At::LineStart
            }
            (At::LineStart, b'.') => At::Dot,
            (At::Dot, b'\r') => At::DotCr,
            (At::LineStart | At::Text, b'\r') => At::Cr,
            // RFC 5321 §2.3.8: neither is a line end. The second CR of CR CR LF may begin one.
            (At::Cr | At::DotCr, b'\r') => self.bare(At::Cr),
            (At::LineStart | At::Dot | At::Text, b'\n') => self.bare(At::Text),
            (At::Cr | At::DotCr, _) => self.bare(At::Text),
            (At::LineStart | At::Dot | At::Text, _) => {
                content.push(octet);
                At::Text
            }
        };
        false
    }

    fn bare(&mut self, then: At) -> At {
        self.bare_line_end = true;
        then
    }
}

/// Watches content that comes by BDAT for line ends that are not CRLF. A CRLF may be cut by the
/// border between two chunks.
#[derive(Clone, Debug, Default)]
pub struct LineEndCheck {
    after_cr: bool,
    bare_line_end: bool,
}

impl LineEndCheck {
    /// Takes the next piece of content.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        if let Some((&first, after)) = rest.split_first().filter(|_| self.after_cr) {
            self.after_cr = false;
            if first == b'\n' {
                rest = after;
            } else {
                self.bare_line_end = true;
            }
        }
        while let Some((_, line_end)) = find_line_break(rest).and_then(|i| rest.split_at_checked(i)) {
            rest = match line_end {
                [b'\r', b'\n', after @ ..] => after,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, after @ ..] => {
                    self.bare_line_end = true;
                    after
                }
                [] => &[],
            };
        }
    }

    /// Whether a bare CR or LF was met so far. A CR at the very end counts once nothing can
    /// follow it: see [`LineEndCheck::ends_in_cr`].
    #[must_use]
    pub fn bare_line_end(&self) -> bool {
        self.bare_line_end
    }

    /// Whether the last octet was a CR: a bare one if this was the last piece.
    #[must_use]
    pub fn ends_in_cr(&self) -> bool {
        self.after_cr
    }
}

/// Puts content into the form DATA wants (RFC 5321 §4.5.2): a dot at the start of a line gets
/// another one in front.
///
/// Content must have no bare CR or LF; the listener lets none in.
#[derive(Clone, Debug)]
pub struct DotStuffer {
    at_line_start: bool,
    after_cr: bool,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self { at_line_start: true, after_cr: false }
    }
}

impl DotStuffer {
    /// Takes a piece of content and appends its wire form to `wire`.
    pub fn feed(&mut self, piece: &[u8], wire: &mut Vec<u8>) {
        wire.reserve(piece.len() + DOTS);
        if self.at_line_start && piece.first() == Some(&b'.') {
            wire.push(b'.');
        }
        let mut copied = 0;
        for at in memchr_iter(b'\n', piece) {
            let begins_with_dot = piece.get(at + 1) == Some(&b'.');
            if begins_with_dot && self.ends_line(piece.get(..at).unwrap_or_default()) {
                wire.extend_from_slice(piece.get(copied..=at).unwrap_or_default());
                wire.push(b'.');
                copied = at + 1;
            }
        }
        wire.extend_from_slice(piece.get(copied..).unwrap_or_default());
        if let Some((&last, before)) = piece.split_last() {
            self.at_line_start = last == b'\n' && self.ends_line(before);
            self.after_cr = last == b'\r';
        }
    }

    /// Whether an LF behind this, the beginning of a piece, is that of a CRLF.
    fn ends_line(&self, before: &[u8]) -> bool {
        before.last().map_or(self.after_cr, |&octet| octet == b'\r')
    }

    /// Appends the end of data. Content whose last line has no CRLF gets one: without it there
    /// is no end of data (RFC 5321 §4.1.1.4). Content that has one gets no second.
    pub fn finish(self, wire: &mut Vec<u8>) {
        if !self.at_line_start {
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, whether a bare line end was met, and what stood behind the end (none: no end).
    fn decode(pieces: &[&[u8]]) -> (Vec<u8>, bool, Option<Vec<u8>>) {
        let (mut decoder, mut content, mut behind) = (DataDecoder::default(), Vec::new(), None::<Vec<u8>>);
        for piece in pieces {
            match &mut behind {
                Some(behind) => behind.extend_from_slice(piece),
                None => {
                    let fed = decoder.feed(piece, &mut content);
                    behind = fed.ended.then(|| piece[fed.consumed..].to_vec());
                }
            }
        }
        (content, decoder.bare_line_end(), behind)
    }

    fn stuff(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
        for piece in pieces {
            stuffer.feed(piece, &mut wire);
        }
        stuffer.finish(&mut wire);
        wire
    }

    /// Sequences that some server once took for the end of data (CVE-2023-51764, -51765, -51766).
    const NOT_THE_END: [&[u8]; 16] = [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\n",
        b"\n.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\n.\r\r\n",
        b"\r\r\n.\r\r\n",
        b"\n\n.\r\n",
        b"\r\n.\n\r\n",
        b"\r\n.\r.\r\n",
        b"\r\n..\r\n",
    ];

    #[test]
    fn rfc5321_4_1_1_4_only_crlf_dot_crlf_ends_data() {
        for sequence in NOT_THE_END {
            let wire = [b"a", sequence, b"MAIL FROM:<evil@example.org>\r\n.\r\nQUIT\r\n"].concat();
            let (_, _, behind) = decode(&[&wire]);
            assert_eq!(behind.as_deref(), Some(b"QUIT\r\n".as_slice()), "{sequence:?}");
        }
    }

    #[test]
    fn rfc5321_2_3_8_bare_cr_and_lf_are_noticed() {
        for sequence in NOT_THE_END {
            let wire = [b"a", sequence, b"b\r\n.\r\n"].concat();
            let has_bare = wire.windows(2).any(|w| (w[0] == b'\r') != (w[1] == b'\n'));
            assert_eq!(decode(&[&wire]).1, has_bare, "{sequence:?}");
        }
        assert!(!decode(&[b"a\r\n\r\n.b\r\n.\r\n"]).1);
    }

    #[test]
    fn rfc5321_4_5_2_lone_dot_is_unstuffed() {
        let (content, bare, behind) = decode(&[b"..\r\n...\r\n.x\r\na.b\r\n.\r\n"]);
        assert_eq!(content, b".\r\n..\r\nx\r\na.b\r\n");
        assert_eq!((bare, behind), (false, Some(vec![])));
        assert_eq!(decode(&[b".\r\n"]).0, b"");
    }

    #[test]
    fn decoding_is_the_same_wherever_the_wire_is_cut() {
        for wire in NOT_THE_END.map(|s| [b"x.\r\n..y", s, b"z\r\n.\r\nQUIT"].concat()) {
            let whole = decode(&[&wire]);
            for cut in 0..=wire.len() {
                let (a, b) = wire.split_at(cut);
                assert_eq!(decode(&[a, b]), whole, "cut at {cut}");
            }
            let single: Vec<&[u8]> = wire.chunks(1).collect();
            assert_eq!(decode(&single), whole);
        }
    }

    #[test]
    fn rfc5321_4_5_2_what_is_stuffed_comes_back_unchanged() {
        let contents: [&[u8]; 7] =
            [b"", b".\r\n", b"..\r\n.a\r\n", b"\r\n.\r\n\r\n", b"a\r\n", b"x\0y\xff\r\n", b"a.\r\n.\r\n.b\r\n"];
        for content in contents {
            for cut in 0..=content.len() {
                let (a, b) = content.split_at(cut);
                let wire = stuff(&[a, b]);
                assert_eq!(decode(&[&wire]), (content.to_vec(), false, Some(vec![])), "{content:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn rfc5321_4_1_1_4_a_last_line_without_crlf_gets_one() {
        assert_eq!(stuff(&[b"a"]), b"a\r\n.\r\n");
        assert_eq!(stuff(&[b"a\r", b"\n"]), b"a\r\n.\r\n");
        assert_eq!(stuff(&[]), b".\r\n");
    }

    #[test]
    fn rfc3030_2_line_ends_in_chunks_are_checked_across_borders() {
        let check = |pieces: &[&[u8]]| {
            let mut check = LineEndCheck::default();
            for piece in pieces {
                check.feed(piece);
            }
            check.bare_line_end() || check.ends_in_cr()
        };
        assert!(!check(&[b"a\r\nb\r", b"\n", b"", b"\r\n"]));
        for bad in [b"a\nb".as_slice(), b"\n", b"\r", b"a\rb", b"\r\r\n", b"\r\n\n"] {
            for cut in 0..=bad.len() {
                let (a, b) = bad.split_at(cut);
                assert!(check(&[a, b]), "{bad:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn line_breaks_are_found_at_every_place() {
        for place in 0..100 {
            let mut bytes = [b'x'; 100];
            bytes[place] = if place % 2 == 0 { b'\r' } else { b'\n' };
            assert_eq!(find_line_break(&bytes), Some(place));
        }
        assert_eq!(find_line_break(&[b'x'; 100]), None);
    }
}
