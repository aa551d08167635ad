//! Command lines out of a byte stream (RFC 5321 §2.3.8, §4.5.3.1.4).
//!
//! A line ends in CRLF and in nothing else. A line that holds a bare CR or LF, or is too long,
//! is one error: it is reported as soon as it is noticed and dropped up to its CRLF, so it can
//! never be read as two commands.

use super::data::find_line_break;

/// The longest command line, in octets with CRLF. RFC 5321 §4.5.3.1.4 says 512 and lets every
/// extension add to it: to RCPT most, 500 for ORCPT and 29 for NOTIFY (RFC 3461 §4.1, §4.2), 10
/// for SMTPUTF8 (RFC 6531 §3.1). The sum of all registered extensions stays below this.
pub const COMMAND_LINE_LIMIT: usize = 2048;

/// Why octets are no command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Above [`COMMAND_LINE_LIMIT`].
    #[error("the line is too long")]
    TooLong,
    /// A CR without LF or an LF without CR.
    #[error("the line has a bare CR or LF; lines end in CRLF")]
    BareLineEnd,
}

/// What [`LineReader::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineRead<'a> {
    /// Octets of the input that are dealt with.
    pub consumed: usize,
    /// A line without its CRLF, or an error; `None` when the input holds no further line.
    pub line: Option<Result<&'a [u8], LineError>>,
}

/// Cuts a stream into lines; see [`LineReader::next`].
#[derive(Clone, Debug, Default)]
pub struct LineReader {
    /// Set while the rest of a bad line is being dropped: what the last octet was.
    dropping: Option<Last>,
}

/// The last octet dropped: an LF behind a CR ends the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Cr,
    Other,
}

impl LineReader {
    /// Looks for one line at the start of `input`. The caller drops what was consumed and
    /// hands in the rest again, with more octets behind it when there was no line.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> LineRead<'a> {
        let dropped = self.drop_bad_line(input);
        let rest = input.get(dropped..).unwrap_or_default();
        let window = rest.get(..COMMAND_LINE_LIMIT).unwrap_or(rest);
        let (used, line) = match find_line_break(window) {
            // One octet more must follow in any case: with CRLF the line is above the limit.
            None if rest.len() >= COMMAND_LINE_LIMIT => (window.len(), Some(self.bad(LineError::TooLong, Last::Other))),
            None => (0, None),
            Some(at) if rest.get(at) == Some(&b'\n') => (at + 1, Some(self.bad(LineError::BareLineEnd, Last::Other))),
            Some(at) if at + 2 > COMMAND_LINE_LIMIT => (at + 1, Some(self.bad(LineError::TooLong, Last::Cr))),
            Some(at) => match rest.get(at + 1) {
                None => (0, None),
                Some(b'\n') => (at + 2, rest.get(..at).map(Ok)),
                Some(_) => (at + 1, Some(self.bad(LineError::BareLineEnd, Last::Cr))),
            },
        };
        LineRead { consumed: dropped + used, line }
    }

    fn bad<'a>(&mut self, error: LineError, last: Last) -> Result<&'a [u8], LineError> {
        self.dropping = Some(last);
        Err(error)
    }

    /// Drops the rest of a bad line. Gives the number of octets dropped.
    fn drop_bad_line(&mut self, input: &[u8]) -> usize {
        let Some(mut last) = self.dropping else { return 0 };
        for (i, &octet) in input.iter().enumerate() {
            if last == Last::Cr && octet == b'\n' {
                self.dropping = None;
                return i + 1;
            }
            last = if octet == b'\r' { Last::Cr } else { Last::Other };
        }
        self.dropping = Some(last);
        input.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines = Vec<Result<Vec<u8>, LineError>>;

    fn lines(pieces: &[&[u8]]) -> Lines {
        let (mut reader, mut buffer, mut lines) = (LineReader::default(), Vec::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                let found = reader.next(&buffer);
                let (consumed, line) = (found.consumed, found.line.map(|l| l.map(<[u8]>::to_vec)));
                buffer.drain(..consumed);
                let Some(line) = line else { break };
                lines.push(line);
            }
        }
        lines
    }

    #[test]
    fn rfc5321_2_3_8_bare_line_ends_never_make_two_commands() {
        let bare = || Err(LineError::BareLineEnd);
        for wire in
            ["NOOP\nMAIL FROM:<x>\r\nQUIT\r\n", "NOOP\rMAIL\r\nQUIT\r\n", "NOOP\r\r\nQUIT\r\n", "\n\n\r\nQUIT\r\n"]
        {
            assert_eq!(lines(&[wire.as_bytes()]), [bare(), Ok(b"QUIT".to_vec())], "{wire:?}");
        }
    }

    #[test]
    fn rfc5321_4_5_3_1_4_limits_hold_at_the_limit_and_one_above() {
        let at = "x".repeat(COMMAND_LINE_LIMIT - 2);
        let wire = format!("{at}\r\nx{at}\r\nNOOP\r\n");
        let expected = [Ok(at.into_bytes()), Err(LineError::TooLong), Ok(b"NOOP".to_vec())];
        assert_eq!(lines(&[wire.as_bytes()]), expected);
        let single: Vec<&[u8]> = wire.as_bytes().chunks(1).collect();
        assert_eq!(lines(&single), expected);
    }

    #[test]
    fn lines_are_the_same_wherever_the_stream_is_cut() {
        let long = "y".repeat(3000);
        let wire = format!("EHLO a\r\nx\ny\r\n\r\nz\r{long}\n\r\n{long}\r\rQ\r\nQUIT\r\n");
        let whole = lines(&[wire.as_bytes()]);
        assert_eq!(whole.len(), 6);
        for cut in 0..=wire.len() {
            let (a, b) = wire.as_bytes().split_at(cut);
            assert_eq!(lines(&[a, b]), whole, "cut at {cut}");
        }
    }
}
