//! How long a server may draw things out, in paused time (RFC 5321 §4.5.3.2).

use super::*;
use crate::clock::Timestamp;
use crate::envelope::{Envelope, Origin, QueueId};
use crate::outcome::{DeliveryOutcome, Peer};
use crate::policy::WhyOpportunistic;
use crate::resolve::AbsentBecause;
use crate::spool::{BodyReader, SpoolError};
use async_trait::async_trait;
use rustls::RootCertStore;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, duplex};

/// A server in memory that takes so long for each of its replies.
struct Slow {
    before_content: Duration,
    after_dot: Duration,
}

#[async_trait]
impl Network for Slow {
    async fn connect(&self, _address: SocketAddr) -> io::Result<Box<dyn crate::net::Stream>> {
        let (ours, theirs) = duplex(64 * 1024);
        let (before_content, after_dot) = (self.before_content, self.after_dot);
        tokio::spawn(async move {
            let mut client = BufReader::new(theirs);
            let mut line = String::new();
            let mut inside_content = false;
            loop {
                let (wait, reply) = match line.trim_end() {
                    "." => (after_dot, "250 taken"),
                    _ if inside_content => (Duration::ZERO, ""),
                    "" => (before_content, "220 slow"),
                    "DATA" => (before_content, "354 go on"),
                    _ => (before_content, "250 ok"),
                };
                inside_content = (inside_content || line == "DATA\r\n") && line != ".\r\n";
                tokio::time::sleep(wait).await;
                if !reply.is_empty() && client.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
                    return;
                }
                line.clear();
                if client.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
            }
        });
        Ok(Box::new(ours))
    }
}

struct EhloAnswer;

#[async_trait]
impl OpenBody for EhloAnswer {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Ok(Box::new(Once(Some("Subject: Hello\r\n\r\nHello\r\n".into()))))
    }
}

struct Once(Option<bytes::Bytes>);

#[async_trait]
impl BodyReader for Once {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, SpoolError> {
        Ok(self.0.take())
    }
}

/// What becomes of a message for so many recipients, and how long that takes.
async fn offered(network: Slow, recipients: usize) -> (Vec<&'static str>, Duration) {
    let roots = WebPki::new(Arc::new(RootCertStore::empty()));
    let mailer = Mailer::new(&Config::default(), roots, Arc::new(network), Clock::system());
    let peer = Peer { host: "slow.test".into(), address: "192.0.2.1:25".parse().unwrap() };
    let because = WhyOpportunistic::NoPolicy(AbsentBecause::AddressLiteral);
    let target = Target {
        peer,
        policy: TlsPolicy::Opportunistic { because },
        watched: None,
        require_tls: false,
        egress: Arc::default(),
    };
    let sender = ReversePath::Mailbox("alice@office.test".parse().unwrap());
    let to = (0..recipients).map(|n| format!("u{n}@slow.test").parse().unwrap()).collect();
    let envelope = Envelope::new(sender, to, Timestamp(0), Origin::Report { about: QueueId(1) });
    let indices: Vec<usize> = (0..recipients).collect();
    let message = Message::of(&envelope, 24, &indices);
    let report = Box::pin(mailer.attempt(&target, message, &EhloAnswer)).await;
    let word = |outcome: &DeliveryOutcome| match outcome {
        DeliveryOutcome::Delivered { .. } => "delivered",
        DeliveryOutcome::Failed { cause } => cause.row().word,
    };
    (report.outcomes.iter().map(|(_, outcome)| word(outcome)).collect(), report.took)
}

#[tokio::test(start_paused = true)]
async fn rfc5321_4_5_3_2_a_server_that_draws_out_every_reply_is_left() {
    let slow = Slow { before_content: Duration::from_secs(290), after_dot: Duration::ZERO };
    let (words, took) = offered(slow, 100).await;
    assert_eq!(words, vec!["timed-out"; 100]);
    assert_eq!(took, Duration::from_secs(1800), "and not for eight hours");
}

#[tokio::test(start_paused = true)]
async fn rfc5321_4_5_3_2_6_a_server_that_is_slow_after_the_dot_is_waited_for() {
    let slow = Slow { before_content: Duration::from_secs(100), after_dot: Duration::from_secs(595) };
    let (words, _) = offered(slow, 1).await;
    assert_eq!(words, ["delivered"]);
}
