//! Quoted-printable and base64 for content that comes in pieces (RFC 2045 §6.7, §6.8).

use data_encoding::BASE64;

/// Octets in a line of base64: 76 characters.
const BASE64_OCTETS: usize = 57;
/// Characters in a line of quoted-printable, without the `=` that ends a soft one.
const LINE_CHARACTERS: usize = 75;

/// Takes the text of lines and their ends apart.
#[derive(Debug)]
pub(super) enum Encoder {
    /// As it is.
    None,
    /// Quoted-printable.
    QuotedPrintable {
        column: usize,
        /// A blank that must be encoded if the line ends behind it.
        blank: Option<u8>,
    },
    /// Base64.
    Base64 { open: Vec<u8>, is_first_line: bool },
}

impl Encoder {
    pub(super) const fn quoted_printable() -> Self {
        Self::QuotedPrintable { column: 0, blank: None }
    }

    pub(super) const fn base64() -> Self {
        Self::Base64 { open: Vec::new(), is_first_line: true }
    }

    /// Octets without a line end.
    pub(super) fn text(&mut self, octets: &[u8], wire: &mut Vec<u8>) {
        match self {
            Self::None => wire.extend_from_slice(octets),
            Self::QuotedPrintable { column, blank } => {
                for &octet in octets {
                    if let Some(held) = blank.take() {
                        put(&[held], column, wire);
                    }
                    match octet {
                        b' ' | b'\t' => *blank = Some(octet),
                        b'=' | ..=32 | 127.. => put(&escaped(octet), column, wire),
                        plain => put(&[plain], column, wire),
                    }
                }
            }
            Self::Base64 { open, is_first_line } => {
                open.extend_from_slice(octets);
                let whole = open.len() - open.len() % BASE64_OCTETS;
                for line in open.drain(..whole).collect::<Vec<_>>().chunks(BASE64_OCTETS) {
                    base64_line(line, is_first_line, wire);
                }
            }
        }
    }

    /// The end of a line of the content.
    pub(super) fn line_end(&mut self, wire: &mut Vec<u8>) {
        match self {
            Self::None => wire.extend_from_slice(b"\r\n"),
            Self::QuotedPrintable { column, blank } => {
                if let Some(held) = blank.take() {
                    put(&escaped(held), column, wire);
                }
                wire.extend_from_slice(b"\r\n");
                *column = 0;
            }
            Self::Base64 { .. } => self.text(b"\r\n", wire),
        }
    }

    /// What is left. The line that it stands in has no end.
    pub(super) fn finish(self, wire: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::QuotedPrintable { mut column, blank } => {
                if let Some(held) = blank {
                    put(&escaped(held), &mut column, wire);
                }
            }
            Self::Base64 { open, mut is_first_line } => {
                if !open.is_empty() {
                    base64_line(&open, &mut is_first_line, wire);
                }
            }
        }
    }
}

/// One character of the content, which is not torn by a soft line break.
fn put(character: &[u8], column: &mut usize, wire: &mut Vec<u8>) {
    if *column + character.len() > LINE_CHARACTERS {
        wire.extend_from_slice(b"=\r\n");
        *column = 0;
    }
    wire.extend_from_slice(character);
    *column += character.len();
}

fn escaped(octet: u8) -> [u8; 3] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    [b'=', digit(octet >> 4), digit(octet & 15)]
}

fn base64_line(octets: &[u8], is_first_line: &mut bool, wire: &mut Vec<u8>) {
    if !std::mem::take(is_first_line) {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(BASE64.encode(octets).as_bytes());
}
