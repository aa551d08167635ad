//! The content of a message on its way into an MX host of the lab: by DATA up to the lone dot
//! (RFC 5321 §4.5.2), or by BDAT in chunks (RFC 3030 §2).

use super::wire::{IDLE, Wire};
use std::io;
use tokio::time::timeout;

/// The largest content kept, in octets; above it the reply is 552.
const CONTENT_LIMIT: usize = 64 * 1024 * 1024;

/// What came so far.
#[derive(Default)]
pub(in crate::lab) struct Content {
    octets: Vec<u8>,
    too_large: bool,
}

impl Content {
    /// Everything; none when it is above the limit.
    pub(in crate::lab) fn whole(self) -> Option<Vec<u8>> {
        if self.too_large { None } else { Some(self.octets) }
    }

    /// Reads up to the lone dot and takes the stuffing away. The dot ends it only between CRLFs.
    pub(in crate::lab) async fn up_to_the_dot(&mut self, wire: &mut Wire) -> io::Result<()> {
        let mut line_start = true;
        loop {
            let piece = timeout(IDLE, wire.line()).await??;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line_start && piece == b".\r\n" {
                return Ok(());
            }
            let unstuffed = if line_start { piece.strip_prefix(b".").unwrap_or(&piece) } else { &piece };
            self.add(unstuffed);
            // A piece may end between CR and LF when the line is long.
            line_start = piece.ends_with(b"\r\n") || (piece == b"\n" && self.octets.ends_with(b"\r\n"));
        }
    }

    /// Reads one chunk.
    pub(in crate::lab) async fn chunk(&mut self, octets: usize, wire: &mut Wire) -> io::Result<()> {
        let mut left = octets;
        while left > 0 {
            let piece = timeout(IDLE, wire.octets(left)).await??;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= piece.len();
            self.add(&piece);
        }
        Ok(())
    }

    fn add(&mut self, piece: &[u8]) {
        self.too_large |= self.octets.len() + piece.len() > CONTENT_LIMIT;
        if !self.too_large {
            self.octets.extend_from_slice(piece);
        }
    }
}

/// `86 LAST` ⇒ the size, and whether the message ends with this chunk.
pub(in crate::lab) fn chunk_size(rest: &str) -> Option<(usize, bool)> {
    let mut words = rest.split_ascii_whitespace();
    let octets = words.next()?.parse().ok()?;
    match (words.next(), words.next()) {
        (None, None) => Some((octets, false)),
        (Some(last), None) if last.eq_ignore_ascii_case("LAST") => Some((octets, true)),
        _ => None,
    }
}
