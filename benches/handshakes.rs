//! How many TLS handshakes a second a client makes that does nothing else: the bound for mail with a connection for each
//! message.
//!
//! `cargo bench --bench handshakes -- NUMBER ADDRESS:PORT...`: connections to mail servers with STARTTLS (RFC 3207), 200 at
//! once, with the cryptography of the relay; no certificate is looked at. Nothing is asserted.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement prints, connects by itself, and ends at the first failure"
)]

#[path = "../tests/support/any_certificate.rs"]
mod any_certificate;

use any_certificate::AnyCertificate;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Connections at once.
const AT_ONCE: usize = 200;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let number: Option<usize> = arguments.next().map(|number| number.parse().unwrap());
    let addresses: Vec<SocketAddr> = arguments.map(|address| address.parse().unwrap()).collect();
    let Some(number) = number.filter(|_| !addresses.is_empty()) else {
        println!("give a number and the addresses of mail servers with STARTTLS, as in 2000 127.0.0.1:25");
        return;
    };
    let provider = aws_lc_rs::default_provider();
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let begin = Instant::now();
    runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for address in addresses.iter().copied().cycle().take(AT_ONCE) {
            let connector = connector.clone();
            clients.spawn(async move {
                for _ in 0..number / AT_ONCE {
                    handshake(&connector, address).await;
                }
            });
        }
        clients.join_all().await;
    });
    println!("{} handshakes: {}/s", number / AT_ONCE * AT_ONCE, per_second(number / AT_ONCE * AT_ONCE, begin));
}

#[expect(clippy::cast_precision_loss, reason = "a rate is printed without decimals")]
fn per_second(number: usize, since: Instant) -> f64 {
    (number as f64 / since.elapsed().as_secs_f64()).round()
}

async fn handshake(connector: &TlsConnector, address: SocketAddr) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    reply(&mut stream).await;
    for command in ["EHLO bench.test\r\n", "STARTTLS\r\n"] {
        stream.write_all(command.as_bytes()).await.unwrap();
        reply(&mut stream).await;
    }
    let name = ServerName::try_from("mx.test").unwrap();
    let mut stream = BufReader::new(connector.connect(name, stream.into_inner()).await.unwrap());
    stream.write_all(b"QUIT\r\n").await.unwrap();
    reply(&mut stream).await;
}

/// Reads all lines of a reply.
async fn reply(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "the server closed the connection");
        if line.as_bytes().get(3) != Some(&b'-') {
            return;
        }
    }
}
