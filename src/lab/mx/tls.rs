//! The TLS side of an MX host of the lab: what happens behind the 220 to STARTTLS
//! (RFC 3207 §4, RFC 8446 §6).

use super::behaviour::{SessionOrigin, StartTls, TlsFacts};
use super::wire::Wire;
use crate::lab::bad;
use crate::net::Stream;
use rustls::server::ServerConnection;
use rustls::{AlertDescription, HandshakeKind, ServerConfig};
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take; a test that is this slow has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a hanging host hangs; any client of a test has given up by then.
const HANG: Duration = Duration::from_secs(600);
/// What one TCP segment holds on Ethernet, in octets: 1500 without the two headers.
const SEGMENT: usize = 1460;
/// The header of a TLS record (RFC 8446 §5.1): type, version, length.
const RECORD_HEADER: usize = 5;
/// The type of a record that holds an alert, and the level of a fatal one (RFC 8446 §5.1, §6).
const ALERT: u8 = 21;
const FATAL: u8 = 2;

/// What came of a handshake.
pub(in crate::lab) enum Shaken {
    /// TLS, with what it agreed on.
    Done(Wire, TlsFacts),
    /// The host did not want it; the connection is over.
    Spoilt(io::Error),
    /// The client gave up or spoilt it.
    Failed(io::Error),
}

/// Does behind the 220 what the host is told to do.
pub(in crate::lab) async fn start(starttls: StartTls, mut stream: Box<dyn Stream>) -> io::Result<Shaken> {
    let dropped = || io::Error::from(io::ErrorKind::ConnectionAborted);
    match starttls {
        StartTls::Offered(config) => Ok(handshake(config, stream).await),
        StartTls::LosesLargeHello(config) => {
            let hello = first_record(&mut stream).await?;
            if hello.len() > SEGMENT {
                // The client waits for an answer to what never arrived.
                sleep(HANG).await;
                return Ok(Shaken::Spoilt(dropped()));
            }
            let (rest, writer) = tokio::io::split(stream);
            Ok(handshake(config, tokio::io::join(Cursor::new(hello).chain(rest), writer)).await)
        }
        StartTls::Alert(description) => {
            first_record(&mut stream).await?;
            stream.write_all(&alert(description)).await?;
            stream.shutdown().await?;
            Ok(Shaken::Spoilt(dropped()))
        }
        StartTls::BrokenHandshake => {
            stream.write_all(b"this is not TLS at all\r\n").await?;
            stream.shutdown().await?;
            Ok(Shaken::Spoilt(bad("the handshake is broken on purpose")))
        }
        StartTls::Hang => {
            sleep(HANG).await;
            Ok(Shaken::Spoilt(dropped()))
        }
        StartTls::DropAfter | StartTls::NotOffered | StartTls::Refused(_) => Ok(Shaken::Spoilt(dropped())),
    }
}

async fn handshake(config: Arc<ServerConfig>, stream: impl Stream + 'static) -> Shaken {
    match timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)).await {
        Err(elapsed) => Shaken::Failed(elapsed.into()),
        Ok(Err(error)) => Shaken::Failed(error),
        Ok(Ok(stream)) => done(stream),
    }
}

fn done(stream: TlsStream<impl Stream + 'static>) -> Shaken {
    let facts = facts(stream.get_ref().1);
    Shaken::Done(Wire::new(stream), facts)
}

fn facts(connection: &ServerConnection) -> TlsFacts {
    TlsFacts {
        version: connection.protocol_version().map_or_else(String::new, |version| format!("{version:?}")),
        cipher: connection.negotiated_cipher_suite().map_or_else(String::new, |c| format!("{:?}", c.suite())),
        sni: connection.server_name().map(str::to_owned),
        origin: match connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => SessionOrigin::Resumed,
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => SessionOrigin::Fresh,
        },
    }
}

/// The client's first record, which holds the ClientHello.
async fn first_record(stream: &mut Box<dyn Stream>) -> io::Result<Vec<u8>> {
    let mut record = vec![0; RECORD_HEADER];
    timeout(PATIENCE, stream.read_exact(&mut record)).await??;
    let length = record.last_chunk::<2>().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
    record.resize(RECORD_HEADER + length, 0);
    timeout(PATIENCE, stream.read_exact(record.get_mut(RECORD_HEADER..).unwrap_or_default())).await??;
    Ok(record)
}

/// A fatal alert in a record that says TLS 1.0, as a server of that age sends it.
fn alert(description: AlertDescription) -> [u8; RECORD_HEADER + 2] {
    [ALERT, 3, 1, 0, 2, FATAL, description.into()]
}
