//! One connection to a server: bytes in, replies out (RFC 5321 §4.2).
//!
//! What a server can make us keep is bounded: one line, and what the parser keeps of a reply. A
//! reply counts when its last line is whole; what is cut off in the middle is none.

use super::session::TransportFault;
use crate::net::Stream;
use crate::smtp::reply::{REPLY_LIMIT, Reply, ReplyError, ReplyParser};
use crate::text::without_web_address;
use futures_util::FutureExt;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How long we wait for a reply to QUIT; its text matters to nobody.
pub(super) const GOODBYE_LIMIT: Duration = Duration::from_secs(5);
/// One read from the socket.
const READ_BYTES: usize = 4096;

/// An open connection.
pub(super) struct SmtpConnection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    parser: ReplyParser,
    /// Set on one that was parked: how long its next reply may take at most.
    pub(super) hurry: Option<Duration>,
}

impl SmtpConnection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, buffer: Vec::new(), parser: ReplyParser::default(), hurry: None }
    }

    /// The stream alone, for TLS. What was received and not read is gone with the rest
    /// (RFC 3207 §4.2).
    pub(super) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    pub(super) async fn read_reply(&mut self) -> Result<Reply, TransportFault> {
        loop {
            while let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Some(reply) = self.parser.line(&line).map_err(TransportFault::NotSmtp)? {
                    return Ok(reply);
                }
            }
            if self.buffer.len() > REPLY_LIMIT {
                return Err(TransportFault::NotSmtp(ReplyError::TooLong));
            }
            let mut piece = [0_u8; READ_BYTES];
            let count = self
                .stream
                .read(&mut piece)
                .await
                .map_err(|e| TransportFault::Lost(without_web_address(&e.to_string())))?;
            if count == 0 {
                return Err(closed());
            }
            self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }

    /// What the server says though nothing was asked, if it says anything; a look that waits only for
    /// the rest of what has begun to come.
    pub(super) async fn unasked(&mut self) -> Option<Result<Reply, TransportFault>> {
        if self.buffer.is_empty() {
            let mut piece = [0_u8; READ_BYTES];
            match self.stream.read(&mut piece).now_or_never()? {
                Ok(0) => return Some(Err(closed())),
                Ok(count) => self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) => return Some(Err(TransportFault::Lost(without_web_address(&error.to_string())))),
            }
        }
        let whole = timeout(GOODBYE_LIMIT, self.read_reply()).await;
        Some(whole.unwrap_or(Err(TransportFault::TimedOut)))
    }

    /// Whether the server is silent and has not closed, as it must be between two messages. A
    /// look that waits for nothing: bytes now would be read as replies to what we say next.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut piece = [0_u8; 1];
        self.buffer.is_empty() && self.stream.read(&mut piece).now_or_never().is_none()
    }

    /// Says QUIT and closes, whatever the server makes of it.
    pub(super) async fn goodbye(mut self) {
        let farewell = async {
            self.write(b"QUIT\r\n").await?;
            let _any_reply = self.read_reply().await;
            self.stream.shutdown().await
        };
        let _whatever_happens = timeout(GOODBYE_LIMIT, farewell).await;
    }
}

fn closed() -> TransportFault {
    TransportFault::Lost("the other side closed the connection".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    fn pair() -> (SmtpConnection, DuplexStream) {
        let (ours, theirs) = duplex(1024 * 1024);
        (SmtpConnection::new(Box::new(ours)), theirs)
    }

    /// What we make of these bytes and the end behind them.
    async fn reply_from(bytes: &[u8]) -> Result<Reply, TransportFault> {
        let (mut connection, mut server) = pair();
        server.write_all(bytes).await.unwrap();
        drop(server);
        connection.read_reply().await
    }

    #[tokio::test]
    async fn rfc9325_3_5_a_reply_that_is_cut_off_is_none() {
        assert!(reply_from(b"250-2.0.0 kept\r\n250 2.0.0 it\r\n").await.is_ok());
        for cut in ["", "250-2.0.0 kept\r\n", "250-2.0.0 kept\r\n250 2.0.0 it", "250 kept", "25"] {
            let fault = reply_from(cut.as_bytes()).await.unwrap_err();
            assert!(matches!(fault, TransportFault::Lost(_)), "{cut:?} {fault:?}");
        }
    }

    #[tokio::test]
    async fn rfc5321_4_5_3_1_5_a_flood_is_no_reply_and_fills_no_memory() {
        for flood in [vec![b'2'; 900_000], b"250-".repeat(200_000), b"250-x\r\n".repeat(100_000)] {
            let (mut connection, mut server) = pair();
            server.write_all(&flood).await.unwrap();
            let fault = connection.read_reply().await.unwrap_err();
            assert!(matches!(fault, TransportFault::NotSmtp(_)), "{fault:?}");
            assert!(connection.buffer.capacity() <= 2 * (REPLY_LIMIT + READ_BYTES));
        }
    }

    #[tokio::test]
    async fn rfc5321_4_3_1_only_a_silent_open_connection_is_good_for_another_message() {
        let (mut connection, mut server) = pair();
        assert!(connection.is_quiet());
        server.write_all(b"421 4.4.2 idle for too long\r\n").await.unwrap();
        assert!(!connection.is_quiet());
        let (mut connection, server) = pair();
        drop(server);
        assert!(!connection.is_quiet());
        let (mut connection, mut server) = pair();
        server.write_all(b"250 one\r\n250 two\r\n").await.unwrap();
        connection.read_reply().await.unwrap();
        assert!(!connection.is_quiet(), "a second reply to one command");
    }
}
