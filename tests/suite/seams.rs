//! The whole relay by its seams alone, without one socket: a client by a pipe, the DNS by calls,
//! mail and policy hosts by pipes (RFC 7672 §2.2, RFC 8461 §3.3).

use crate::relay::{SENDER, config, content, within};
use async_trait::async_trait;
use dane_relay::accept::driver as listener;
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::lab::mx::Received;
use dane_relay::lab::{Certificate, HostAt, Lab};
use dane_relay::net::{Network, Stream};
use dane_relay::observe::Observer;
use dane_relay::pipeline::outbound::Ways;
use dane_relay::report::driver::load_texts;
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::paths::{Fault, PathName, Source, Transport};
use dane_relay::serve::{self, Works};
use dane_relay::spool::Spool;
use dane_relay::spool::embedded::EmbeddedSpool;
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex};
use tokio_util::sync::CancellationToken;

/// A Saturday.
const START: Timestamp = Timestamp(1_795_261_468_000);
/// Octets under way in one direction.
const PIPE: usize = 64 * 1024;

/// The lab as a network and as a DNS.
struct Pipes(Arc<Lab>);

#[async_trait]
impl Network for Pipes {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let (ours, theirs) = duplex(PIPE);
        let lab = Arc::clone(&self.0);
        tokio::spawn(async move {
            match lab.host_at(address) {
                Some(HostAt::Mx(host)) => host.serve_stream(theirs).await,
                Some(HostAt::Policy(host)) => host.serve_stream(theirs).await,
                None => Ok(()),
            }
        });
        Ok(Box::new(ours))
    }
}

#[async_trait]
impl Source for Pipes {
    async fn fetch(&self, name: &Name, record_type: RecordType) -> Result<Message, Fault> {
        let answer = self.0.dns().fetch(name, record_type).map_err(|error| Fault::Broken(error.to_string()))?;
        answer.ok_or(Fault::TimedOut)
    }
}

/// A relay whose world is a lab, and its spool.
fn assemble(lab: &Arc<Lab>, folder: &Path, clock: &Clock) -> (Works, Arc<EmbeddedSpool>) {
    let config = Arc::new(config(lab, folder));
    let observer = Arc::new(Observer::new().unwrap());
    let told = Arc::clone(&observer);
    let name = PathName { upstream: "the lab".into(), transport: Transport::Udp };
    let source = (name, Arc::new(Pipes(Arc::clone(lab))) as Arc<dyn Source>);
    let dns = Dns::over(&config, vec![source], clock.clone(), Arc::new(move |event| told.dns(event))).unwrap();
    let ways = Ways { dns: Arc::new(dns), network: Arc::new(Pipes(Arc::clone(lab))), clock: clock.clone() };
    let spool = Arc::new(EmbeddedSpool::open(&config.spool, clock.now()).unwrap());
    let out = serve::outbound(config, ways, &observer).unwrap();
    let works = Works::new(out, Arc::clone(&spool) as Arc<dyn Spool>, observer, load_texts(None).unwrap()).unwrap();
    (works, spool)
}

/// Hands one message in and waits for the reply to each command.
async fn hand_in(stream: DuplexStream, to: &[&str]) {
    let mut stream = BufReader::new(stream);
    let recipients = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n"));
    let commands = ["EHLO client.test\r\n".to_owned(), format!("MAIL FROM:<{SENDER}>\r\n")].into_iter();
    let body = format!("{}\r\n.\r\n", content(to[0]));
    let last = ["DATA\r\n".to_owned(), body, "QUIT\r\n".to_owned()];
    reply(&mut stream).await;
    for command in commands.chain(recipients).chain(last) {
        stream.write_all(command.as_bytes()).await.unwrap();
        reply(&mut stream).await;
    }
}

async fn reply(stream: &mut BufReader<DuplexStream>) {
    let mut line = "   -".to_owned();
    while line.as_bytes()[3] == b'-' {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        assert!(line.starts_with(['2', '3']), "{line}");
    }
}

async fn only_message(lab: &Lab, domain: &str) -> Received {
    let wait = lab.mx(domain).unwrap().wait_for_messages(1, crate::relay::PATIENCE).await;
    wait.unwrap().remove(0)
}

#[tokio::test]
async fn rfc7672_2_2_the_whole_relay_works_without_a_socket_and_by_another_clock() {
    let clock = Clock::with_runtime(START);
    let issued = Certificate::Issued;
    let lab = crate::relay::lab()
        .domain("dane.test", |d| d)
        .domain("sts.test", |d| d.plain().host(|h| h.certificate(issued)).mta_sts(|p| p.enforce()));
    let lab = Arc::new(lab.clock(clock.clone()).without_sockets().start().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (works, spool) = assemble(&lab, folder.path(), &clock);
    works.tell_of_damage(spool.recovery()).await;
    let (acceptor, stop) = (Arc::clone(&works.acceptor), CancellationToken::new());
    let (ours, theirs) = duplex(PIPE);
    let session = listener::session(acceptor, theirs, ([127, 0, 0, 1], 1).into(), stop.clone());
    works.watch(&stop);
    let failed = async move { spool.failed().await };
    let running = tokio::spawn(works.run(session, failed, stop.clone()));

    within(hand_in(ours, &["bob@dane.test", "carol@sts.test"]), "the acceptance").await;
    let by_dane = only_message(&lab, "dane.test").await;
    assert!(by_dane.tls.is_some());
    let trace = String::from_utf8(by_dane.content).unwrap();
    assert!(trace.contains("Sat, 21 Nov 2026"), "{trace}");
    assert!(only_message(&lab, "sts.test").await.tls.is_some());
    assert_eq!(lab.policy_host("sts.test").unwrap().requests().len(), 1);
    stop.cancel();
    within(running, "the end").await.unwrap().unwrap();
}
