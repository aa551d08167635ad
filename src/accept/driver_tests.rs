//! The listener over real sockets on loopback, with a spool in memory.
#![expect(clippy::disallowed_methods, reason = "the tests are the clients")]

use super::test_spool::TestSpool;
use super::{AcceptEvent, Acceptor, ClientAccess, CloseReason, RefusalReason, RefusedAt, tls};
use crate::accept::ports::{self, Ports};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::smtp::address::ReversePath;
use crate::smtp::dsn::{NotifyOn, Ret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; no test waits for it unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

struct TestRelay {
    address: SocketAddr,
    spool: Arc<TestSpool>,
    events: Arc<Mutex<Vec<AcceptEvent>>>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    directory: tempfile::TempDir,
}

impl TestRelay {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_with_grace(PATIENCE, change).await
    }

    async fn start_with_grace(grace: Duration, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config { hostname: "localhost".parse().unwrap(), ..Config::default() };
        config.spool.path = directory.path().to_owned();
        change(&mut config);
        let tls = tls::listener_files(&config).unwrap();
        let spool = Arc::new(TestSpool::default());
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let observe = Arc::new(move |event| seen.lock().unwrap().push(event));
        let clock = Clock::manual(Timestamp(1_795_261_468_000));
        let acceptor = Acceptor::new(Arc::new(config), Arc::clone(&spool) as _, clock, tls, observe).with_grace(grace);
        let (stop, acceptor) = (CancellationToken::new(), Arc::new(acceptor));
        acceptor.tell_certificate();
        let (acceptors, latest) = watch::channel(Arc::clone(&acceptor));
        let ports = Ports::new(latest, stop.clone()).with_grace(grace);
        ports.open_and_close(ports.prepare(&["127.0.0.1:0".parse().unwrap()]).await.unwrap());
        let address = ports.addresses()[0];
        let running = tokio::spawn(async move {
            let rereading = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    acceptor.reread_files().await;
                }
            };
            tokio::select! {
                () = ports.all_end() => {}
                () = rereading => {}
            }
            drop(acceptors);
        });
        Self { address, spool, events, stop, running, directory }
    }

    async fn connect(&self) -> Client<TcpStream> {
        Client { stream: TcpStream::connect(self.address).await.unwrap() }
    }

    async fn connect_from(&self, source: &str) -> Client<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        Client { stream: socket.connect(self.address).await.unwrap() }
    }

    /// Stops, waits for the end, gives what happened with clients.
    async fn stop(self) -> Vec<AcceptEvent> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.running).await.expect("the listener ends").unwrap();
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| !matches!(event, AcceptEvent::CertificateInUse { .. })).cloned().collect()
    }

    /// Waits until something of that kind has happened so often.
    async fn happened(&self, times: usize, is_it: impl Fn(&AcceptEvent) -> bool) {
        let waiting = async {
            while self.events.lock().unwrap().iter().filter(|event| is_it(event)).count() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it happens");
    }

    fn messages(&self) -> usize {
        self.spool.messages.lock().unwrap().len()
    }
}

struct Client<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, wire: impl AsRef<[u8]>) {
        self.stream.write_all(wire.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// One reply, all its lines; empty at the end of the stream.
    async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            while !reply[start..].ends_with("\r\n") {
                let read = tokio::time::timeout(PATIENCE, self.stream.read_u8()).await.expect("a reply comes");
                let Ok(octet) = read else { return reply };
                reply.push(char::from(octet));
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return reply;
            }
        }
    }

    /// Sends a line, gives the reply.
    async fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        self.reply().await
    }

    async fn expect(&mut self, line: &str, code: &str) {
        let reply = self.say(line).await;
        assert!(reply.starts_with(code), "{line}: {reply}");
    }

    /// Greeting and EHLO.
    async fn hello(&mut self) {
        assert_eq!(self.reply().await, "220 localhost ESMTP\r\n");
        self.expect("EHLO client.example", "250-localhost").await;
    }

    /// Up to where the content may come.
    async fn begin(&mut self) {
        self.expect("MAIL FROM:<a@b.example>", "250 2.1.0").await;
        self.expect("RCPT TO:<c@d.example>", "250 2.1.5").await;
        self.expect("DATA", "354").await;
    }
}

#[tokio::test]
async fn rfc2920_a_whole_pipelined_session_in_one_write_is_served_in_order() {
    let relay = TestRelay::start(|_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    let envelope = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n";
    client.send(format!("{envelope}DATA\r\nA: 1\r\n\r\n..\r\n.\r\n{envelope}BDAT 3 LAST\r\nx\r\nQUIT\r\n")).await;
    for code in ["250 2.1.0", "250 2.1.5", "354 ", "250 2.0.0 Ok: queued as 0000000000000", "250 2.1.0", "250 2.1.5"] {
        let reply = client.reply().await;
        assert!(reply.starts_with(code), "{code}: {reply}");
    }
    assert_eq!(client.reply().await, "250 2.0.0 Ok: queued as 0000000000001\r\n");
    assert_eq!(client.reply().await, "221 2.0.0 bye\r\n");
    assert_eq!(client.reply().await, "");
    let content = relay.spool.messages.lock().unwrap()[0].1.clone();
    let expected = "Received: from client.example ([127.0.0.1])\r\n\tby localhost with ESMTP id 0000000000000\r\n\
                    \tfor <c@d.example>;\r\n\tSat, 21 Nov 2026 11:44:28 +0000\r\nA: 1\r\n\r\n.\r\n";
    assert_eq!(String::from_utf8(content).unwrap(), expected);
    let events = relay.stop().await;
    let AcceptEvent::MessageAccepted(accepted) = &events[1] else { panic!("{events:?}") };
    assert_eq!((accepted.recipients, accepted.protocol, accepted.size), (1, "ESMTP", expected.len() as u64));
    assert_eq!(accepted.reverse_path, ReversePath::Mailbox("a@b.example".parse().unwrap()));
    assert!(matches!(events.last(), Some(AcceptEvent::SessionClosed { reason: CloseReason::Quit, .. })), "{events:?}");
}

#[tokio::test]
async fn large_content_streams_through_unchanged() {
    let relay = TestRelay::start(|_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    let line = [b"x".repeat(5000), b"\r\n".to_vec()].concat();
    let content = line.repeat(400);
    client.begin().await;
    client.send(&content).await;
    client.expect(".", "250 2.0.0").await;
    client.expect("MAIL FROM:<a@b.example>", "250 2.1.0").await;
    client.expect("RCPT TO:<c@d.example>", "250 2.1.5").await;
    client.send(format!("BDAT {} LAST\r\n", content.len())).await;
    client.send(&content).await;
    assert!(client.reply().await.starts_with("250 2.0.0"));
    for (_, stored) in relay.spool.messages.lock().unwrap().iter() {
        assert!(stored.ends_with(&content));
    }
    assert_eq!(relay.messages(), 2);
    relay.stop().await;
}

type TlsClient = Client<tokio_rustls::client::TlsStream<TcpStream>>;

/// The handshake, which only the certificate that is in the file can pass.
async fn start_tls(relay: &TestRelay, mut client: Client<TcpStream>) -> TlsClient {
    assert_eq!(client.reply().await, "220 2.0.0 ready to start TLS\r\n");
    let pem = std::fs::read(relay.directory.path().join("tls/self-signed.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Client { stream: connector.connect(name, client.stream).await.unwrap() }
}

#[tokio::test]
async fn rfc3207_4_2_commands_sent_ahead_of_the_handshake_are_never_run() {
    let relay = TestRelay::start(|_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    client.send("STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@x.example>\r\n").await;
    let mut client = start_tls(&relay, client).await;
    client.expect("RCPT TO:<c@d.example>", "503 5.5.1").await;
    client.expect("MAIL FROM:<a@b.example>", "503 5.5.1").await;
    let offered = client.say("EHLO client.example").await;
    assert!(offered.contains("CHUNKING") && !offered.contains("STARTTLS"), "{offered}");
    client.begin().await;
    client.expect("x\r\n.", "250 2.0.0").await;
    client.expect("QUIT", "221").await;
    assert_eq!(client.reply().await, "");
    let content = relay.spool.messages.lock().unwrap()[0].1.clone();
    assert!(String::from_utf8(content).unwrap().contains("with ESMTPS id"));
    relay.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_from_the_next_handshake_on_and_open_sessions_stay() {
    let relay = TestRelay::start(|_| {}).await;
    let secure = async || {
        let mut client = relay.connect().await;
        client.hello().await;
        client.send("STARTTLS\r\n").await;
        start_tls(&relay, client).await
    };
    let mut before = secure().await;
    let file = relay.directory.path().join("tls/self-signed.pem");
    let old = std::fs::read(&file).unwrap();
    std::fs::write(&file, "broken").unwrap();
    relay.happened(1, |event| matches!(event, AcceptEvent::CertificateRefused { .. })).await;
    std::fs::write(&file, &old).unwrap();
    let in_use = |event: &AcceptEvent| matches!(event, AcceptEvent::CertificateInUse { expires_at: Some(_) });
    relay.happened(2, in_use).await;
    let mut meanwhile = secure().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let renewed = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    // Renamed into place, as tools that renew certificates do it: no half of it is ever read.
    let aside = file.with_extension("new");
    std::fs::write(&aside, key.serialize_pem() + &renewed.pem()).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    relay.happened(3, in_use).await;
    let mut after = secure().await;
    for client in [&mut before, &mut meanwhile, &mut after] {
        client.expect("NOOP", "250 2.0.0").await;
    }
    drop((before, meanwhile, after));
    relay.stop().await;
}

#[tokio::test]
async fn a_failed_handshake_is_told_and_closes() {
    let relay = TestRelay::start(|_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    client.expect("STARTTLS", "220").await;
    client.send("this is no ClientHello\r\n").await;
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest).await;
    let events = relay.stop().await;
    assert!(events.iter().any(|e| matches!(e, AcceptEvent::TlsFailed { .. })), "{events:?}");
}

#[tokio::test]
async fn rfc3461_3_what_a_client_asks_of_notifications_is_offered_and_kept() {
    let relay = TestRelay::start(|_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    assert!(client.say("EHLO client.example").await.contains("250-DSN\r\n"));
    client.expect("MAIL FROM:<a@b.example> RET=HDRS ENVID=QQ314159", "250 2.1.0").await;
    client.expect("RCPT TO:<c@d.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;C@d.example", "250 2.1.5").await;
    client.expect("RCPT TO:<e@d.example>", "250 2.1.5").await;
    client.expect("BDAT 0 LAST", "250 2.0.0").await;
    let envelope = relay.spool.messages.lock().unwrap()[0].0.clone();
    assert!(envelope.dsn_for(0).wants(NotifyOn::Success) && !envelope.dsn_for(1).wants(NotifyOn::Success));
    assert_eq!(envelope.dsn_for(0).original.as_ref().map(|o| o.address()).as_deref(), Some("C@d.example"));
    assert_eq!(envelope.dsn.ret, Some(Ret::Headers));
    relay.stop().await;
}

#[tokio::test]
async fn rfc6531_4_3_addresses_in_utf_8_are_offered_kept_and_named_in_the_trace() {
    let relay = TestRelay::start(|_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    assert!(client.say("EHLO client.example").await.contains("250-SMTPUTF8\r\n"));
    client.expect("MAIL FROM:<jürgen@bücher.example> SMTPUTF8 BODY=8BITMIME", "250 2.1.0").await;
    client.expect("RCPT TO:<用户@例子.广告>", "250 2.1.5").await;
    client.expect("BDAT 0 LAST", "250 2.0.0").await;
    let (envelope, content) = relay.spool.messages.lock().unwrap()[0].clone();
    assert!(envelope.needs_smtp_utf8());
    assert_eq!(envelope.recipients[0].host().to_string(), "xn--fsqu00a.xn--4rr70v");
    let trace = String::from_utf8(content).unwrap();
    assert!(trace.contains(" with UTF8SMTP id ") && trace.contains("\tfor <用户@例子.广告>;\r\n"), "{trace}");
    let events = relay.stop().await;
    assert!(events.iter().any(|e| matches!(e, AcceptEvent::MessageAccepted(a) if a.protocol == "UTF8SMTP")));
}

#[tokio::test]
async fn rfc5321_4_1_1_4_a_client_that_leaves_before_the_dot_leaves_nothing() {
    let relay = TestRelay::start(|_| {}).await;
    for content in ["", "half a mess", "whole lines\r\n", "almost\r\n.", "almost\r\n.\r"] {
        let mut client = relay.connect().await;
        client.hello().await;
        client.begin().await;
        client.send(content).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.reply().await, "");
    }
    assert_eq!(relay.messages(), 0);
    relay.stop().await;
}

#[tokio::test]
async fn rfc5321_7_9_a_client_from_elsewhere_may_not_relay() {
    let relay = TestRelay::start(|config| config.listen.clients = vec!["127.0.0.1/32".parse().unwrap()]).await;
    let mut client = relay.connect_from("127.0.0.2").await;
    client.hello().await;
    client.expect("MAIL FROM:<a@b.example>", "550 5.7.1").await;
    client.expect("RCPT TO:<c@d.example>", "550 5.7.1").await;
    client.expect("DATA", "503 5.5.1").await;
    let events = relay.stop().await;
    assert!(matches!(events[0], AcceptEvent::SessionOpened { standing: ClientAccess::Denied, .. }));
    let AcceptEvent::MessageRefused { refusal, .. } = &events[1] else { panic!("{events:?}") };
    assert_eq!((refusal.at, refusal.code), (RefusedAt::Mail, 550));
}

#[tokio::test]
async fn rfc5321_4_5_3_2_7_a_silent_client_is_told_and_closed() {
    let relay = TestRelay::start(|config| config.listen.idle_timeout = Duration::from_millis(50)).await;
    let mut client = relay.connect().await;
    assert!(client.reply().await.starts_with("220"));
    assert_eq!(client.reply().await, "421 4.4.2 idle for too long, closing\r\n");
    assert_eq!(client.reply().await, "");
    relay.stop().await;
}

#[tokio::test]
async fn one_session_too_many_is_sent_away_and_strangers_take_no_places() {
    let relay = TestRelay::start(|config| {
        config.listen.clients = vec!["127.0.0.1/32".parse().unwrap()];
        config.listen.max_sessions = 1;
    })
    .await;
    let mut stranger = relay.connect_from("127.0.0.3").await;
    stranger.hello().await;
    let mut first = relay.connect().await;
    first.hello().await;
    let mut second = relay.connect().await;
    assert_eq!(second.reply().await, "421 4.3.2 too many sessions, try again later\r\n");
    first.expect("QUIT", "221").await;
    assert_eq!(first.reply().await, "");
    let events = relay.stop().await;
    let refused =
        |e: &AcceptEvent| matches!(e, AcceptEvent::SessionRefused { reason: RefusalReason::TooManySessions, .. });
    assert!(events.iter().any(refused), "{events:?}");
}

#[tokio::test]
async fn rfc1870_6_a_full_disk_is_a_452_and_goes_away_by_itself() {
    let relay = TestRelay::start(|_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    relay.spool.full.store(true, Ordering::SeqCst);
    client.expect("MAIL FROM:<a@b.example> SIZE=5", "452 4.3.1").await;
    relay.spool.full.store(false, Ordering::SeqCst);
    client.begin().await;
    relay.spool.full.store(true, Ordering::SeqCst);
    client.expect("x\r\n.", "452 4.3.1").await;
    relay.spool.full.store(false, Ordering::SeqCst);
    relay.spool.broken.store(true, Ordering::SeqCst);
    client.begin().await;
    client.expect("x\r\n.", "451 4.3.0").await;
    relay.spool.broken.store(false, Ordering::SeqCst);
    client.begin().await;
    client.expect("x\r\n.", "250 2.0.0").await;
    assert_eq!(relay.messages(), 1);
    let events = relay.stop().await;
    assert_eq!(events.iter().filter(|e| matches!(e, AcceptEvent::SpoolFailed { .. })).count(), 1);
}

#[tokio::test]
async fn a_stop_lets_messages_finish_and_sends_idle_clients_away_at_once() {
    let relay = TestRelay::start(|_| {}).await;
    let mut idle = relay.connect().await;
    idle.hello().await;
    let mut waiting = relay.connect().await;
    waiting.hello().await;
    waiting.expect("MAIL FROM:<a@b.example>", "250").await;
    let mut sending = relay.connect().await;
    sending.hello().await;
    sending.begin().await;
    sending.send("first half\r\n").await;
    let mut chunks = relay.connect().await;
    chunks.hello().await;
    chunks.expect("MAIL FROM:<a@b.example>", "250").await;
    chunks.expect("RCPT TO:<c@d.example>", "250").await;
    chunks.expect("BDAT 3\r\na", "250 2.0.0 3 octets").await;
    relay.stop.cancel();
    for client in [&mut idle, &mut waiting] {
        assert_eq!(client.reply().await, "421 4.3.2 the relay is stopping, try again later\r\n");
        assert_eq!(client.reply().await, "");
    }
    while TcpStream::connect(relay.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    sending.expect("second half\r\n.", "250 2.0.0 Ok: queued").await;
    chunks.expect("BDAT 3 LAST\r\nb", "250 2.0.0 Ok: queued").await;
    for client in [&mut sending, &mut chunks] {
        assert!(client.reply().await.starts_with("421 4.3.2"));
        assert_eq!(client.reply().await, "");
    }
    let spool = Arc::clone(&relay.spool);
    drop((idle, waiting, sending, chunks));
    relay.stop().await;
    assert_eq!(spool.messages.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_message_that_does_not_finish_after_a_stop_is_cut_and_not_queued() {
    let relay = TestRelay::start_with_grace(Duration::from_millis(50), |_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    client.begin().await;
    client.send("first half\r\n").await;
    relay.stop.cancel();
    assert!(client.reply().await.starts_with("421 4.3.2"));
    assert_eq!(client.reply().await, "");
    assert_eq!(relay.messages(), 0);
    drop(client);
    relay.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_of_the_start() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = first.local_addr().unwrap();
    let failed = ports::open(&[address]).await.err().unwrap().address;
    assert_eq!(failed, address);
}

/// Exchange keeps twenty connections to a smart host and sends twenty messages over each.
#[tokio::test]
async fn twenty_connections_carry_more_than_twenty_messages_each() {
    let relay = TestRelay::start(|_| {}).await;
    let wire = "MAIL FROM:<a@b.example> SIZE=3\r\nRCPT TO:<c@d.example>\r\nBDAT 3 LAST\r\nx\r\n";
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = relay.connect().await;
        client.hello().await;
        clients.push(client);
    }
    for _ in 0..21 {
        for client in &mut clients {
            client.send(wire).await;
        }
        for client in &mut clients {
            for code in ["250 2.1.0", "250 2.1.5", "250 2.0.0 Ok: queued"] {
                let reply = client.reply().await;
                assert!(reply.starts_with(code), "{code}: {reply}");
            }
        }
    }
    assert_eq!(relay.messages(), 20 * 21);
    relay.stop().await;
}

#[tokio::test]
async fn rfc1870_4_the_largest_message_of_exchange_fits_in_one_chunk() {
    let relay = TestRelay::start(|_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    let content = [b"x".repeat(1022), b"\r\n".to_vec()].concat().repeat(36_700_160 / 1024);
    client.expect(&format!("MAIL FROM:<a@b.example> SIZE={}", content.len()), "250 2.1.0").await;
    client.expect("RCPT TO:<c@d.example>", "250 2.1.5").await;
    client.send(format!("BDAT {} LAST\r\n", content.len())).await;
    client.send(&content).await;
    assert!(client.reply().await.starts_with("250 2.0.0 Ok: queued"));
    assert!(relay.spool.messages.lock().unwrap()[0].1.ends_with(&content));
    relay.stop().await;
}

#[tokio::test]
async fn rfc5321_4_5_3_1_8_a_thousand_recipients_are_one_message() {
    let relay = TestRelay::start(|_| {}).await;
    let mut client = relay.connect().await;
    client.hello().await;
    let recipients: String = (0..1001).map(|n| format!("RCPT TO:<r{n}@d.example>\r\n")).collect();
    client.send(format!("MAIL FROM:<a@b.example>\r\n{recipients}BDAT 0 LAST\r\n")).await;
    assert!(client.reply().await.starts_with("250 2.1.0"));
    for n in 0..1001 {
        let code = if n < 1000 { "250 2.1.5" } else { "452 4.5.3" };
        assert!(client.reply().await.starts_with(code), "recipient {n}");
    }
    assert!(client.reply().await.starts_with("250 2.0.0 Ok: queued"));
    assert_eq!(relay.spool.messages.lock().unwrap()[0].0.recipients.len(), 1000);
    relay.stop().await;
}

/// A client that came by a pipe.
fn by_pipe(acceptor: &Arc<Acceptor>, peer: &str, stop: &CancellationToken) -> (Client<DuplexStream>, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let session = super::driver::session(Arc::clone(acceptor), theirs, peer.parse().unwrap(), stop.clone());
    (Client { stream: ours }, tokio::spawn(session))
}

#[tokio::test(start_paused = true)]
async fn rfc5321_3_8_a_session_by_a_pipe_has_the_rights_places_and_stop_of_one_by_a_socket() {
    let mut config = Config { hostname: "localhost".parse().unwrap(), ..Config::default() };
    config.listen.clients = vec!["192.0.2.1/32".parse().unwrap()];
    config.listen.max_sessions = 1;
    let (spool, clock) = (Arc::new(TestSpool::default()), Clock::with_runtime(Timestamp(0)));
    let acceptor =
        Arc::new(Acceptor::new(Arc::new(config), Arc::clone(&spool) as _, clock, Vec::new(), Arc::new(|_| ())));
    let stop = CancellationToken::new();
    let (mut stranger, _strangers) = by_pipe(&acceptor, "198.51.100.7:25", &stop);
    stranger.hello().await;
    stranger.expect("MAIL FROM:<a@b.example>", "550").await;
    let (mut first, session) = by_pipe(&acceptor, "192.0.2.1:1111", &stop);
    first.hello().await;
    let (mut second, refused) = by_pipe(&acceptor, "192.0.2.1:2222", &stop);
    assert_eq!(second.reply().await, "421 4.3.2 too many sessions, try again later\r\n");
    refused.await.unwrap();
    first.begin().await;
    first.send("x\r\n").await;
    stop.cancel();
    first.expect(".", "250 2.0.0").await;
    assert!(first.reply().await.starts_with("421"));
    drop(first);
    session.await.unwrap();
    assert_eq!(spool.messages.lock().unwrap().len(), 1);
}
