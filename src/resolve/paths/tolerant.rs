//! A stream whose messages are made readable before hickory decodes them: one odd record shall not
//! cost the whole message, and no name more than a name may (see `dnssec/octets.rs`).
//!
//! hickory decodes what a socket gives and leaves no room between. In a stream in clear each message
//! comes after its length (RFC 1035 §4.2.2). What is encrypted is left alone: there the messages are
//! not seen.

use crate::resolve::dnssec::make_readable;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Whether messages go over the wire as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WirePrivacy {
    /// They do.
    Clear,
    /// Something encrypts them.
    Encrypted,
}

/// A stream of messages.
pub(super) struct MessageStream {
    inner: TcpStream,
    wire: WirePrivacy,
    /// The beginning of a message that is not whole yet, its length in front; at most 64 KiB.
    coming: Vec<u8>,
    /// What is left to hand out of messages that are.
    ready: Vec<u8>,
}

impl MessageStream {
    pub(super) fn new(inner: TcpStream, wire: WirePrivacy) -> Self {
        Self { inner, wire, coming: Vec::new(), ready: Vec::new() }
    }

    /// Moves whole messages over, made readable.
    fn sort(&mut self) {
        while let [high, low, rest @ ..] = self.coming.as_slice() {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if rest.len() < length {
                return;
            }
            let mut message: Vec<u8> = self.coming.drain(..length + 2).collect();
            make_readable(message.get_mut(2..).unwrap_or_default());
            self.ready.append(&mut message);
        }
    }
}

impl AsyncRead for MessageStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.wire == WirePrivacy::Encrypted {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        while self.ready.is_empty() {
            let mut octets = [0; 4096];
            let mut came = ReadBuf::new(&mut octets);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut came))?;
            if came.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.coming.extend_from_slice(came.filled());
            self.sort();
        }
        let length = buffer.remaining().min(self.ready.len());
        let taken: Vec<u8> = self.ready.drain(..length).collect();
        buffer.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MessageStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test is its own server")]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A message with one record of this type and data, its length in front.
    fn framed(record_type: u8, data: &[u8]) -> Vec<u8> {
        let mut message = vec![0, 1, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, record_type, 0, 1, 0, 0, 0, 60, 0];
        message.push(u8::try_from(data.len()).unwrap());
        message.extend_from_slice(data);
        let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
        framed.extend_from_slice(&message);
        framed
    }

    async fn received(wire: WirePrivacy, pieces: &[&[u8]]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let sending = async move {
            for piece in pieces {
                server.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let mut came = Vec::new();
        let mut stream = MessageStream::new(client, wire);
        let (_sent, read) = tokio::join!(sending, stream.read_to_end(&mut came));
        read.unwrap();
        came
    }

    #[tokio::test]
    async fn rfc4034_2_1_2_an_odd_key_in_a_stream_is_set_aside_however_the_stream_is_cut() {
        let odd = framed(48, &[1, 1, 4, 13, 0]);
        let sound = framed(48, &[1, 1, 3, 13, 0]);
        let mut aside = odd.clone();
        // The type of the record: behind length, header and the name of the root.
        aside[15] = 0xff;
        let (sent, expected) = ([odd.clone(), sound.clone()].concat(), [aside, sound].concat());
        for at in 0..sent.len() {
            let (front, back) = sent.split_at(at);
            assert_eq!(received(WirePrivacy::Clear, &[front, back]).await, expected, "cut at {at}");
        }
        assert_eq!(
            received(WirePrivacy::Encrypted, &[&sent]).await,
            sent,
            "octets that are no messages stay as they are"
        );
    }
}
