//! Sends content in chunks (RFC 3030 §2, §4.2): as it is, without a dot to stuff or to end with.
//!
//! With PIPELINING several chunks are under way before their replies are read, but never so many that
//! both sides wait for each other's buffers. The last chunk is named so only when the whole content
//! was found undamaged; without it the server has nothing.

use super::driver::{Mailer, OpenBody, content_fault};
use super::session::Event;
use super::connection::Connection;
use crate::outcome::Phase;
use crate::smtp::reply::{Reply, Severity};
use tokio::time::Instant;

/// Content is gathered up to this many octets before it makes a chunk, or comes in larger pieces.
const CHUNK_OCTETS: usize = 64 * 1024;
/// Chunks under way whose replies have not been read.
const UNANSWERED_LIMIT: usize = 8;

/// How many chunks a server takes before it has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// One.
    OneByOne,
    /// Some (RFC 2920).
    Pipelined,
}

impl Pace {
    const fn unanswered(self) -> usize {
        match self {
            Self::OneByOne => 0,
            Self::Pipelined => UNANSWERED_LIMIT,
        }
    }
}

impl Mailer {
    /// Sends the content in chunks; gives [`Event::ChunksSent`], or what came in between.
    pub(super) async fn send_chunks(&self, connection: &mut Connection, body: &dyn OpenBody, pace: Pace) -> Event {
        let mut reader = match body.open().await {
            Ok(reader) => reader,
            Err(error) => return Event::Broken(content_fault(&error)),
        };
        let (mut chunk, mut unanswered) = (Vec::new(), 0_usize);
        loop {
            let piece = match reader.next().await {
                Ok(None) => break,
                Err(error) => return Event::Broken(content_fault(&error)),
                Ok(Some(piece)) => piece,
            };
            if !chunk.is_empty() && chunk.len() + piece.len() > CHUNK_OCTETS {
                if let Err(fault) = self.content(connection, &with_command(&chunk, "")).await {
                    return self.last_words(connection, fault).await;
                }
                unanswered += 1;
                if let Err(event) = self.answers(connection, &mut unanswered, pace).await {
                    return event;
                }
                chunk.clear();
            }
            chunk.extend_from_slice(&piece);
        }
        match self.content(connection, &with_command(&chunk, " LAST")).await {
            Ok(()) => Event::ChunksSent(unanswered),
            Err(fault) => self.last_words(connection, fault).await,
        }
    }

    /// Reads replies until no more of them are open than the pace allows.
    async fn answers(&self, connection: &mut Connection, unanswered: &mut usize, pace: Pace) -> Result<(), Event> {
        while *unanswered > pace.unanswered() {
            match self.reply(connection, Phase::Content, Instant::now()).await {
                Event::Reply(reply) if is_success(&reply) => *unanswered -= 1,
                other => return Err(other),
            }
        }
        Ok(())
    }
}

fn is_success(reply: &Reply) -> bool {
    reply.severity() == Severity::Completed
}

/// One write, so that a small message is one segment.
fn with_command(chunk: &[u8], last: &str) -> Vec<u8> {
    let mut wire = format!("BDAT {}{last}\r\n", chunk.len()).into_bytes();
    wire.extend_from_slice(chunk);
    wire
}
