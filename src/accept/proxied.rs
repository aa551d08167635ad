//! The PROXY protocol, versions 1 and 2: a balancer says for whom it connects, before anything else is said.
//!
//! The header is read to its last octet and no further, so that what follows is the client's. A balancer that
//! speaks for itself (LOCAL, UNKNOWN), as its health checks do, is a client like any other.

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What the header of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What that of version 1 begins with.
const FIRST_WORD: &[u8] = b"PROXY ";
/// The longest header of version 1, with its CRLF.
const TEXT_LIMIT: usize = 107;
/// The longest one of version 2 that is taken: addresses, and what a balancer knows of the client's TLS.
const BINARY_LIMIT: usize = 4096;

/// Reads the header. Gives the client that is connected for; none when the balancer speaks for itself.
///
/// # Errors
/// When the stream ends, or no header comes.
pub(super) async fn client<S>(stream: &mut S) -> io::Result<Option<SocketAddr>>
where
    S: AsyncRead + Unpin + Send,
{
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let [_, _, high, low] = fixed;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > BINARY_LIMIT {
            return Err(no_header("it is too long"));
        }
        header.extend_from_slice(&fixed);
        let begun = header.len();
        header.resize(begun + length, 0);
        stream.read_exact(header.get_mut(begun..).unwrap_or_default()).await?;
    } else if header.starts_with(FIRST_WORD) {
        while !header.ends_with(b"\r\n") {
            if header.len() >= TEXT_LIMIT {
                return Err(no_header("it is too long"));
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(no_header("the connection begins with something else"));
    }
    parsed(&header)
}

fn parsed(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let (parsed, used) = ProxyHeader::parse(header, ParseConfig { include_tlvs: false, ..ParseConfig::default() })
        .map_err(|error| no_header(&error.to_string()))?;
    if used != header.len() {
        return Err(no_header("something stands behind it"));
    }
    match parsed.proxied_address() {
        Some(address) if address.protocol != Protocol::Stream => Err(no_header("it is about no TCP connection")),
        Some(address) => Ok(Some(SocketAddr::new(address.source.ip().to_canonical(), address.source.port()))),
        None => Ok(None),
    }
}

fn no_header(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no header of the PROXY protocol: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found, and what is left in the stream.
    async fn read(wire: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let mut stream = wire;
        let found = client(&mut stream).await;
        (found, stream.to_vec())
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, addresses].concat()
    }

    const FOUR: [u8; 12] = [192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 25];

    #[tokio::test]
    async fn the_header_is_read_to_its_end_and_no_further() {
        let six: Vec<u8> = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[9], &[0; 16], &[0, 80, 0, 25]].concat();
        let with_more = [&FOUR[..], &[4, 0, 1, 0]].concat();
        for (header, address) in [
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 4660 25\r\n".to_vec(), Some("192.0.2.7:4660")),
            (b"PROXY TCP6 2001:db8::9 ::1 80 25\r\n".to_vec(), Some("[2001:db8::9]:80")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (binary(1, 0x11, &FOUR), Some("192.0.2.7:4660")),
            (binary(1, 0x21, &six), Some("[2001:db8::9]:80")),
            (binary(1, 0x11, &with_more), Some("192.0.2.7:4660")),
            (binary(0, 0, &[]), None),
            (binary(0, 0x11, &FOUR), None),
        ] {
            let (found, left) = read(&[&header[..], b"EHLO x\r\n"].concat()).await;
            assert_eq!(found.unwrap(), address.map(|a| a.parse().unwrap()), "{header:?}");
            assert_eq!(left, b"EHLO x\r\n", "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200], b"\r\n".to_vec()].concat();
        for wrong in [
            b"EHLO client.example\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 127.0.0.1 99999 25\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7\r\n............".to_vec(),
            b"PROXY TCP4 192".to_vec(),
            long,
            binary(1, 0x12, &FOUR),
            binary(2, 0x11, &FOUR),
            binary(1, 0x11, &FOUR[..5]),
            binary(1, 0x11, &[0; 5000]),
            Vec::new(),
        ] {
            assert!(read(&wrong).await.0.is_err(), "{wrong:?}");
        }
    }
}
