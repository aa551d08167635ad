//! What is said and heard on one connection, each within its time (RFC 5321 §4.5.3.2), and the content:
//! dot-stuffed after DATA, or as it is in chunks (RFC 3030 §2, §4.2).
//!
//! Content streams from the spool to the socket; a damaged copy is noticed before its end, and then the
//! end is never sent, neither the dot nor the last chunk. With PIPELINING several chunks are under way
//! before their replies are read, but never so many that both sides wait for each other's buffers.

use super::body::OpenBody;
use super::connection::{GOODBYE_LIMIT, SmtpConnection};
use super::dkim::SignedBody;
use super::eight_bit::Converted;
use super::hosts::driver::HostSeat;
use super::session::{Event, Session, TransportFault};
use super::time_limit;
use crate::outcome::Phase;
use crate::smtp::data::DotStuffer;
use crate::smtp::reply::{Reply, Severity};
use crate::spool::SpoolError;
use crate::text::without_web_address;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Content is gathered up to this many octets before it makes a chunk, or comes in larger pieces.
const CHUNK_OCTETS: usize = 64 * 1024;
/// Chunks under way whose replies have not been read.
const UNANSWERED_LIMIT: usize = 8;

/// How many chunks a server takes before it has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The next chunk waits for the answer to the last.
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

/// How content is put on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum ContentForm {
    /// After DATA, dot-stuffed.
    Lines,
    /// By BDAT.
    Chunks,
}

fn pace(session: &Session) -> Pace {
    if session.offered().pipelining { Pace::Pipelined } else { Pace::OneByOne }
}

/// How long things may take.
#[derive(Clone)]
pub(super) struct Patience {
    /// Until a connection is open.
    pub(super) connect: Duration,
    /// Until a reply is there.
    pub(super) reply: Duration,
    /// The place at the server, which others may want.
    pub(super) seat: Option<Arc<HostSeat>>,
}

/// Nothing came back in time.
pub(super) struct Silent;

impl Patience {
    /// Says something and waits for the reply.
    pub(super) async fn send(
        &self,
        connection: &mut SmtpConnection,
        bytes: &[u8],
        phase: Phase,
        end: Instant,
    ) -> Event {
        match self.within(phase, connection.write(bytes)).await {
            Ok(()) => self.answer(connection, phase, end).await,
            Err(fault) => self.last_words(connection, fault).await,
        }
    }

    /// The next reply; those before the content have to be there by `end`.
    pub(super) async fn answer(&self, connection: &mut SmtpConnection, phase: Phase, end: Instant) -> Event {
        let hurry = connection.hurry.take().unwrap_or(Duration::MAX);
        let limit = self.limit(phase).min(hurry).min(until(end, phase));
        let read = if phase == Phase::EndOfData {
            // Who stops listening here delivers twice.
            timeout(limit, connection.read_reply()).await.map_err(|_elapsed| Silent)
        } else {
            self.listen(limit, connection.read_reply()).await
        };
        match read {
            Err(Silent) => Event::Broken(TransportFault::TimedOut),
            Ok(Ok(reply)) => {
                if let (Some(seat), Phase::Greeting, Severity::Completed) = (&self.seat, phase, reply.severity()) {
                    seat.greeted();
                }
                Event::Reply(reply)
            }
            Ok(Err(fault)) => Event::Broken(fault),
        }
    }

    /// Waits for the server; less patiently while others want the place.
    pub(super) async fn listen<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Result<T, Silent> {
        let Some(seat) = &self.seat else { return timeout(limit, answer).await.map_err(|_elapsed| Silent) };
        let listening = seat.listening();
        tokio::select! {
            biased;
            answer = timeout(limit, answer) => answer.map_err(|_elapsed| Silent),
            () = listening.cut() => Err(Silent),
        }
    }

    /// Sends the content as the server takes it.
    pub(super) async fn send_content(
        &self,
        connection: &mut SmtpConnection,
        session: &Session,
        body: Option<&dyn OpenBody>,
        form: ContentForm,
    ) -> Event {
        let Some(body) = body else { return Event::Broken(TransportFault::ContentDamaged) };
        let converted = session.conversion().map(|conversion| Converted { body, conversion });
        let body = converted.as_ref().map_or(body, |converted| converted as &dyn OpenBody);
        let signed = session.signatures().map(|signatures| SignedBody { body, signatures });
        let body = signed.as_ref().map_or(body, |signed| signed as &dyn OpenBody);
        match form {
            ContentForm::Lines => self.send_lines(connection, body).await,
            ContentForm::Chunks => self.send_chunks(connection, body, pace(session)).await,
        }
    }

    async fn send_lines(&self, connection: &mut SmtpConnection, body: &dyn OpenBody) -> Event {
        let mut reader = match body.open().await {
            Ok(reader) => reader,
            Err(error) => return Event::Broken(content_fault(&error)),
        };
        let mut stuffer = DotStuffer::default();
        let mut wire = Vec::new();
        loop {
            let piece = match reader.next().await {
                Ok(None) => break,
                Err(error) => return Event::Broken(content_fault(&error)),
                Ok(Some(piece)) => piece,
            };
            if let Some(event) = self.interrupted(connection).await {
                return event;
            }
            // One piece is held back, so that a small message and its dot, which goes out only
            // after the checksum was found right, are one write.
            if let Err(fault) = self.content(connection, &wire).await {
                return self.last_words(connection, fault).await;
            }
            wire.clear();
            stuffer.feed(&piece, &mut wire);
        }
        stuffer.finish(&mut wire);
        if let Some(event) = self.interrupted(connection).await {
            return event;
        }
        match self.content(connection, &wire).await {
            Ok(()) => Event::BodySent,
            Err(fault) => self.last_words(connection, fault).await,
        }
    }

    /// A reply that comes before the end of the content is none to it, whatever it says: the end must
    /// not follow, or nobody could tell which of them is meant.
    async fn interrupted(&self, connection: &mut SmtpConnection) -> Option<Event> {
        let said = connection.unasked().await?;
        Some(said.map_or_else(Event::Broken, Event::Reply))
    }

    async fn content(&self, connection: &mut SmtpConnection, wire: &[u8]) -> Result<(), TransportFault> {
        if wire.is_empty() {
            return Ok(());
        }
        self.within(Phase::Content, connection.write(wire)).await
    }

    /// A server that closes while we write has often said why; that reply is the better cause.
    async fn last_words(&self, connection: &mut SmtpConnection, fault: TransportFault) -> Event {
        match timeout(GOODBYE_LIMIT, connection.read_reply()).await {
            Ok(Ok(reply)) => Event::Reply(reply),
            Ok(Err(_)) | Err(_) => Event::Broken(fault),
        }
    }

    /// Sends the content in chunks; gives [`Event::ChunksSent`], or what came in between.
    async fn send_chunks(&self, connection: &mut SmtpConnection, body: &dyn OpenBody, pace: Pace) -> Event {
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
    async fn answers(&self, connection: &mut SmtpConnection, unanswered: &mut usize, pace: Pace) -> Result<(), Event> {
        while *unanswered > pace.unanswered() {
            match self.answer(connection, Phase::Content, Instant::now()).await {
                Event::Reply(reply) if is_success(&reply) => *unanswered -= 1,
                other @ (Event::Reply(_)
                | Event::Broken(_)
                | Event::Connected
                | Event::Secured(_)
                | Event::BodySent
                | Event::ChunksSent(_)) => return Err(other),
            }
        }
        Ok(())
    }

    async fn within(&self, phase: Phase, action: impl Future<Output = io::Result<()>>) -> Result<(), TransportFault> {
        match timeout(self.limit(phase), action).await {
            Err(_elapsed) => Err(TransportFault::TimedOut),
            Ok(done) => done.map_err(|e| TransportFault::Lost(without_web_address(&e.to_string()))),
        }
    }

    pub(super) fn limit(&self, phase: Phase) -> Duration {
        time_limit(phase, self.connect, self.reply)
    }
}

/// The replies before the content have one end in common. After it a server may have taken the
/// message, so whoever stops listening delivers it twice.
fn until(end: Instant, phase: Phase) -> Duration {
    match phase {
        Phase::Content | Phase::EndOfData => Duration::MAX,
        Phase::Connect
        | Phase::Greeting
        | Phase::Ehlo
        | Phase::StartTls
        | Phase::Handshake
        | Phase::EhloInTls
        | Phase::Auth
        | Phase::MailFrom
        | Phase::RcptTo
        | Phase::Data => end.saturating_duration_since(Instant::now()),
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

fn content_fault(error: &SpoolError) -> TransportFault {
    match error {
        SpoolError::Damaged => TransportFault::ContentDamaged,
        SpoolError::Full
        | SpoolError::Io { .. }
        | SpoolError::Engine(_)
        | SpoolError::Unreachable(_)
        | SpoolError::Fenced
        | SpoolError::Stopped
        | SpoolError::InUse { .. }
        | SpoolError::Unusable(_) => TransportFault::Lost(format!("our own spool: {error}")),
    }
}
