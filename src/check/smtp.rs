//! What a mail server says in clear: its greeting and its reply to EHLO, line by line, and QUIT.
//!
//! Only where a connection went wrong, and at the controls: delivery keeps what it needs of these
//! lines, and a box on the way shows in what it does not need. Nothing but EHLO and QUIT is ever
//! sent (RFC 5321 §4.1.1.10).

use crate::net::{Network, Stream};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

/// How long all of it may take: some servers greet after six seconds.
const PATIENCE: Duration = Duration::from_secs(9);
/// Octets that are read of one reply; what is longer says nothing more.
const REPLY_OCTETS: u64 = 8192;
/// Lines of one reply.
const LINES_LIMIT: usize = 40;

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SmtpTranscript {
    /// The first line of the greeting.
    pub(super) greeting: Option<String>,
    /// The reply to EHLO, without its codes.
    pub(super) ehlo: Vec<String>,
}

/// Looks at one server; what was not said in time is not there.
pub(super) async fn look(network: &dyn Network, address: SocketAddr, hostname: &str) -> SmtpTranscript {
    let mut said = SmtpTranscript::default();
    let _whatever_came = timeout(PATIENCE, converse(network, address, hostname, &mut said)).await;
    said
}

async fn converse(
    network: &dyn Network,
    address: SocketAddr,
    hostname: &str,
    said: &mut SmtpTranscript,
) -> io::Result<()> {
    let mut stream = BufReader::new(network.connect(address).await?);
    said.greeting = reply(&mut stream).await?.into_iter().next();
    stream.write_all(format!("EHLO {hostname}\r\n").as_bytes()).await?;
    let lines = reply(&mut stream).await?;
    said.ehlo = lines.into_iter().map(|line| line.get(4..).unwrap_or_default().to_owned()).collect();
    stream.write_all(b"QUIT\r\n").await?;
    reply(&mut stream).await?;
    Ok(())
}

/// The lines of one reply; the last has a space behind its code (RFC 5321 §4.2.1).
async fn reply(stream: &mut BufReader<Box<dyn Stream>>) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    while lines.len() < LINES_LIMIT {
        let mut line = Vec::new();
        let count = stream.take(REPLY_OCTETS).read_until(b'\n', &mut line).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let is_last = text.as_bytes().get(3) != Some(&b'-');
        lines.push(text);
        if is_last {
            break;
        }
    }
    Ok(lines)
}
