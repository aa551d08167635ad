//! A mail server whose every answer a scenario decides, and a mailer that speaks to it alone:
//! for what no real server would say.

use async_trait::async_trait;
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::Config;
use dane_relay::deliver::driver::{Mailer, OpenBody};
use dane_relay::deliver::message::Message;
use dane_relay::deliver::{AttemptReport, Target};
use dane_relay::envelope::{Envelope, Origin, QueueId};
use dane_relay::net::Tcp;
use dane_relay::outcome::{DeliveryOutcome, Peer};
use dane_relay::policy::x509::webpki::WebPki;
use dane_relay::policy::{TlsPolicy, WhyOpportunistic};
use dane_relay::resolve::AbsentBecause;
use dane_relay::smtp::address::ReversePath;
use dane_relay::spool::{BodyReader, SpoolError};
use rustls::RootCertStore;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What the server has just heard.
pub(crate) struct Turn<'a> {
    /// Which connection, from 1.
    pub(crate) connection: usize,
    /// MAIL commands of this connection so far, with this one.
    pub(crate) mails: usize,
    /// RCPT commands of this transaction so far, with this one.
    pub(crate) rcpts: usize,
    /// The command; empty before the greeting, `.` after the content.
    pub(crate) line: &'a str,
}

/// What it does about it.
pub(crate) enum Answer {
    /// What a friendly server says.
    Friendly,
    /// This, with its line ends.
    Say(String),
    /// This over and over, until the client has had enough.
    Flood(&'static [u8]),
    /// It closes without a word.
    Close,
    /// It says nothing any more.
    Hang,
}

/// What was heard: connection and line.
type Heard = Arc<Mutex<Vec<(usize, String)>>>;

/// The server; it stops when it is dropped.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    heard: Heard,
    _task: AbortOnDropHandle<()>,
}

impl Scripted {
    pub(crate) async fn start(script: impl Fn(&Turn<'_>) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Heard::default();
        let (script, log) = (Arc::new(script), Arc::clone(&heard));
        let serving = async move {
            for connection in 1.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                tokio::spawn(async move {
                    let _ended = serve(stream, connection, script.as_ref(), &log).await;
                });
            }
        };
        Self { address, heard, _task: AbortOnDropHandle::new(tokio::spawn(serving)) }
    }

    /// All that was heard on one connection.
    pub(crate) fn on(&self, connection: usize) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(number, _)| *number == connection).map(|(_, line)| line.clone()).collect()
    }

    /// The RCPT commands of each transaction that came to its dot, and its connection.
    pub(crate) fn transactions(&self) -> Vec<(usize, usize)> {
        let mut rcpts = 0;
        let mut transactions = Vec::new();
        for (connection, line) in self.heard.lock().unwrap().iter() {
            match line.split(' ').next() {
                Some("MAIL") => rcpts = 0,
                Some("RCPT") => rcpts += 1,
                Some(".") => transactions.push((*connection, rcpts)),
                Some(_) | None => {}
            }
        }
        transactions
    }
}

async fn serve(
    stream: TcpStream,
    connection: usize,
    script: &(dyn Fn(&Turn<'_>) -> Answer + Send + Sync),
    log: &Heard,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut mails, mut rcpts) = (0, 0);
    let mut line = String::new();
    loop {
        match script(&Turn { connection, mails, rcpts, line: &line }) {
            Answer::Friendly => stream.write_all(friendly(&line).as_bytes()).await?,
            Answer::Say(text) => {
                stream.write_all(text.as_bytes()).await?;
                // RFC 5321 §3.8: behind 421 the server closes.
                if text.starts_with("421") {
                    return Ok(());
                }
            }
            Answer::Flood(bytes) => loop {
                stream.write_all(bytes).await?;
            },
            Answer::Close => return Ok(()),
            Answer::Hang => std::future::pending().await,
        }
        if line == "DATA" {
            while line != ".\r\n" {
                line.clear();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
            }
        } else {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
        }
        line.truncate(line.trim_end().len());
        match line.get(..4) {
            Some("MAIL") => (mails, rcpts) = (mails + 1, 0),
            Some("RCPT") => rcpts += 1,
            Some(_) | None => {}
        }
        log.lock().unwrap().push((connection, line.clone()));
    }
}

fn friendly(line: &str) -> &'static str {
    match line.get(..4).unwrap_or(line) {
        "" => "220 scripted.test\r\n",
        "EHLO" => "250-scripted.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
        "DATA" => "354 go on\r\n",
        "QUIT" => "221 bye\r\n",
        _ => "250 ok\r\n",
    }
}

/// The content of every message here.
struct Hello;

#[async_trait]
impl OpenBody for Hello {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Ok(Box::new(Once(Some(b"Subject: Hello\r\n\r\nHello\r\n".to_vec().into()))))
    }
}

struct Once(Option<bytes::Bytes>);

#[async_trait]
impl BodyReader for Once {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, SpoolError> {
        Ok(self.0.take())
    }
}

/// A mailer with the default configuration but for this part of its file.
pub(crate) fn mailer(delivery: &str) -> Mailer {
    let text = format!("hostname = \"relay.office.test\"\n[delivery]\n{delivery}\n");
    let config = Config::parse(&text, Path::new("suite.toml")).unwrap();
    Mailer::new(&config, WebPki::new(Arc::new(RootCertStore::empty())), Arc::new(Tcp), Clock::system())
}

/// That server, held to nothing.
pub(crate) fn target(address: SocketAddr) -> Target {
    let because = WhyOpportunistic::NoPolicy(AbsentBecause::AddressLiteral);
    let policy = TlsPolicy::Opportunistic { because };
    Target {
        peer: Peer { host: "scripted.test".into(), address },
        policy,
        watched: None,
        require_tls: false,
        egress: Arc::default(),
    }
}

/// A message for so many recipients of one domain.
pub(crate) fn envelope(recipients: usize) -> Envelope {
    let sender = ReversePath::Mailbox("alice@office.test".parse().unwrap());
    let recipients = (0..recipients).map(|n| format!("u{n}@scripted.test").parse().unwrap()).collect();
    Envelope::new(sender, recipients, Timestamp(0), Origin::Report { about: QueueId(1) })
}

/// Offers these recipients of the message to the server, as the pipeline does.
pub(crate) async fn offer(mailer: &Mailer, target: &Target, envelope: &Envelope, indices: &[usize]) -> AttemptReport {
    mailer.attempt(target, Message::of(envelope, 24, indices), &Hello).await
}

/// A message for one recipient, which is delivered; gives what the report says of the connection.
pub(crate) async fn delivers(mailer: &Mailer, target: &Target) -> u32 {
    let report = offer(mailer, target, &envelope(1), &[0]).await;
    assert_eq!(words(&report), ["delivered"]);
    report.nth_on_connection
}

/// How each recipient stands, in a word.
pub(crate) fn words(report: &AttemptReport) -> Vec<&'static str> {
    let word = |outcome: &DeliveryOutcome| match outcome {
        DeliveryOutcome::Delivered { .. } => "delivered",
        DeliveryOutcome::Failed { cause } => cause.row().word,
    };
    report.outcomes.iter().map(|(_, outcome)| word(outcome)).collect()
}
