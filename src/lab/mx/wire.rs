//! The line-wise stream under the lab's SMTP server and client (RFC 5321 §2.3.8).
//!
//! Clear text and TLS look alike above it. A line is read up to a limit and never beyond it.

use crate::net::Stream;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// The longest piece of a line that is read at once, in octets.
pub(in crate::lab) const LINE_LIMIT: usize = 4096;
/// How long a session waits for the client: shorter than RFC 5321 §4.5.3.2 asks, since a test
/// that is this slow has failed.
pub(in crate::lab) const IDLE: Duration = Duration::from_secs(60);

/// A connection, in clear or not.
pub(in crate::lab) struct Wire {
    stream: BufReader<Box<dyn Stream>>,
}

impl Wire {
    pub(in crate::lab) fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// The next line with its end, or [`LINE_LIMIT`] octets of a longer one; empty when the other
    /// side has closed.
    pub(in crate::lab) async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while line.len() < LINE_LIMIT {
            let ready = self.stream.fill_buf().await?;
            let room = ready.get(..ready.len().min(LINE_LIMIT - line.len())).unwrap_or_default();
            let end = room.iter().position(|&b| b == b'\n').map(|at| at + 1);
            let taken = room.get(..end.unwrap_or(room.len())).unwrap_or_default();
            let (length, finished) = (taken.len(), end.is_some() || taken.is_empty());
            line.extend_from_slice(taken);
            self.stream.consume(length);
            if finished {
                break;
            }
        }
        Ok(line)
    }

    /// The next octets, at least one and at most so many; empty when the other side has closed.
    pub(in crate::lab) async fn octets(&mut self, at_most: usize) -> io::Result<Vec<u8>> {
        let ready = self.stream.fill_buf().await?;
        let piece = ready.get(..ready.len().min(at_most)).unwrap_or_default().to_vec();
        self.stream.consume(piece.len());
        Ok(piece)
    }

    pub(in crate::lab) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Ends the connection as its protocol wants it.
    pub(in crate::lab) async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// The bare stream. What was read ahead is thrown away: commands sent in clear behind
    /// STARTTLS must not be obeyed afterwards (RFC 3207 §4.2).
    pub(in crate::lab) fn into_inner(self) -> Box<dyn Stream> {
        self.stream.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_at_their_end_and_at_the_limit() {
        let (here, mut there) = tokio::io::duplex(16 * 1024);
        let mut wire = Wire::new(here);
        there.write_all(b"one\r\ntwo\n").await.unwrap();
        there.write_all(&[b'x'; LINE_LIMIT + 1]).await.unwrap();
        drop(there);
        assert_eq!(wire.line().await.unwrap(), b"one\r\n");
        assert_eq!(wire.line().await.unwrap(), b"two\n");
        assert_eq!(wire.line().await.unwrap().len(), LINE_LIMIT);
        assert_eq!(wire.line().await.unwrap(), b"x");
        assert_eq!(wire.line().await.unwrap(), b"");
    }
}
