//! The boxes on the path do what they are named for and nothing else: clients of all kinds meet
//! them through real sockets (RFC 3207 §6, RFC 4035 §3.2, RFC 8906).

use super::boxes::{Helpless, PathFault};
use super::rrset::SignatureFault;
use crate::lab::dns::server::{DnsServer, Validating};
use crate::lab::mx::behaviour::Behaviour;
use crate::lab::mx::client::SmtpClient;
use crate::lab::mx::host::Block;
use crate::lab::{AnswerFault, Authority, Lab, MailPath, RunningMxHost};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, RecordType};
use rustls::{ClientConfig, RootCertStore};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

const DOMAIN: &str = "a.test";
const HOST: &str = "mx.a.test";
const FROM: &str = "alice@client.test";
const TO: &str = "bob@a.test";
/// How long silence is waited for.
const SILENCE: Duration = Duration::from_millis(200);

async fn lab() -> Lab {
    let many = |d: crate::lab::DomainSpec, last| d.record("five.a.test", RData::A(A(Ipv4Addr::new(192, 0, 2, last))));
    Lab::builder().domain(DOMAIN, |d| (1..=5).fold(d, many).host(|h| h.and_misfits(4))).start().await.unwrap()
}

/// Whether the client checks signatures itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checking {
    Here,
    There,
}

async fn ask(server: &DnsServer, name: &str, rtype: RecordType, checking: Checking) -> Option<Message> {
    let mut request = Message::new(1, MessageType::Query, OpCode::Query);
    request.metadata.checking_disabled = checking == Checking::Here;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    request.add_query(Query::query(name, rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232).set_dnssec_ok(true);
    request.set_edns(edns);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&request.to_vec().unwrap(), server.address()).await.unwrap();
    let before = server.dropped();
    let mut buffer = [0; 4096];
    let length = {
        let mut answer = std::pin::pin!(socket.recv(&mut buffer));
        let dropped = async {
            while server.dropped() == before {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            length = &mut answer => length.unwrap(),
            // A helpless resolver may say so all the same.
            () = dropped => timeout(SILENCE, answer).await.ok()?.unwrap(),
        }
    };
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[tokio::test]
async fn rfc4035_3_2_3_a_validating_resolver_vouches_for_what_is_signed_and_hides_what_is_bogus() {
    let lab = lab().await;
    let vouches = async |checking| ask(lab.dns(), DOMAIN, RecordType::MX, checking).await.unwrap();
    assert!(!vouches(Checking::There).await.metadata.authentic_data, "not by itself");
    lab.dns().set_validating(Validating::Yes);
    assert!(vouches(Checking::There).await.metadata.authentic_data);
    lab.world().zone_fault(DOMAIN, AnswerFault::Signature(SignatureFault::Expired)).unwrap();
    let hidden = vouches(Checking::There).await;
    assert_eq!((code(&hidden), hidden.answers.len()), (ResponseCode::ServFail, 0));
    let shown = vouches(Checking::Here).await;
    assert_eq!((code(&shown), shown.metadata.authentic_data), (ResponseCode::NoError, false));
    assert!(!shown.answers.is_empty(), "RFC 4035 §3.2.2: CD gets it all the same");
}

#[tokio::test]
async fn a_box_behind_the_resolver_makes_it_silent_or_helpless_and_takes_nothing_else() {
    let lab = lab().await;
    let five = lab.tlsa_owner(HOST);
    lab.dns().set_path_beyond(Helpless::ServFail, [PathFault::DropTlsaOver(4)]);
    let failed = ask(lab.dns(), &five, RecordType::TLSA, Checking::Here).await.unwrap();
    assert_eq!((code(&failed), failed.answers.len()), (ResponseCode::ServFail, 0));
    assert_eq!(lab.dns().dropped(), 1);
    let addresses = ask(lab.dns(), "five.a.test", RecordType::A, Checking::Here).await.unwrap();
    assert_eq!(addresses.answers.len(), 6, "five and their signature");
    lab.dns().set_path_beyond(Helpless::Silent, [PathFault::DropTlsaOver(4)]);
    assert!(ask(lab.dns(), &five, RecordType::TLSA, Checking::Here).await.is_none());
    lab.dns().set_path_beyond(Helpless::Silent, [PathFault::DropTlsaOver(5)]);
    assert_eq!(ask(lab.dns(), &five, RecordType::TLSA, Checking::Here).await.unwrap().answers.len(), 6);
}

#[tokio::test]
async fn boxes_count_any_records_and_forge_denials() {
    let lab = lab().await;
    lab.dns().set_path([PathFault::ForgeNoData(RecordType::TLSA)]);
    let forged = ask(lab.dns(), &lab.tlsa_owner(HOST), RecordType::TLSA, Checking::Here).await.unwrap();
    assert_eq!((code(&forged), forged.answers.len(), forged.authorities.len()), (ResponseCode::NoError, 0, 0));
    lab.dns().set_path([PathFault::DropRecordsOver(5)]);
    assert!(ask(lab.dns(), "five.a.test", RecordType::A, Checking::Here).await.is_some(), "signatures do not count");
    lab.dns().set_path([PathFault::DropRecordsOver(4)]);
    assert!(ask(lab.dns(), DOMAIN, RecordType::MX, Checking::Here).await.is_some());
    assert_eq!(lab.dns().dropped(), 0);
    assert!(ask(lab.dns(), "five.a.test", RecordType::A, Checking::Here).await.is_none());
    assert_eq!(lab.dns().dropped(), 1);
}

fn mx(lab: &Lab) -> &RunningMxHost {
    lab.mx(DOMAIN).unwrap()
}

/// Sends a message of two lines and a stuffed dot, and expects it at the host as it is.
async fn passes_whole(lab: &Lab, mut client: SmtpClient) {
    let content = b"Subject: hi\r\n\r\n.\r\nSTARTTLS\r\n";
    assert!(client.send(FROM, &[TO], content).await.unwrap().accepted());
    client.quit().await.unwrap();
    assert_eq!(mx(lab).messages().pop().unwrap().content, content);
}

#[tokio::test]
async fn rfc3207_6_a_box_that_strips_starttls_leaves_everything_else() {
    let lab = lab().await;
    lab.set_mail_path(MailPath::StripStartTls);
    let mut client = SmtpClient::ready(mx(&lab).address()).await.unwrap();
    assert!(client.greeting().text().starts_with(HOST));
    let ehlo = client.ehlo("client.test").await.unwrap();
    assert!(!client.offered().starttls && client.offered().pipelining, "{ehlo}");
    let refused = SmtpClient::ready(mx(&lab).address()).await.unwrap().starttls(HOST).await;
    assert!(refused.is_err(), "the command is of no use either");
    assert!(mx(&lab).seen().iter().any(|seen| seen.line == "XXXXXXXX"));
    let last = client.ehlo("client.test").await.unwrap();
    assert_eq!(last.code, 250);
    lab.set_mail_path(None);
    assert!(SmtpClient::ready(mx(&lab).address()).await.unwrap().offered().starttls, "and it can be taken away");
}

#[tokio::test]
async fn a_masking_box_shows_stars_and_carries_the_mail_as_it_is() {
    let lab = lab().await;
    lab.set_mail_path(MailPath::Mask);
    let mut client = SmtpClient::ready(mx(&lab).address()).await.unwrap();
    assert!(client.greeting().text().chars().all(|shown| shown == '*'), "{}", client.greeting());
    let ehlo = client.ehlo("client.test").await.unwrap();
    assert!(ehlo.lines.iter().any(|line| line == "XXXXXXXA"), "{ehlo}");
    let handed = client.send(FROM, &[TO], b"Subject: hi\r\n\r\n.\r\nHello\r\n").await.unwrap();
    assert!(handed.accepted());
    assert_eq!(mx(&lab).messages()[0].content, b"Subject: hi\r\n\r\n.\r\nHello\r\n");
}

#[tokio::test]
async fn an_intercepting_box_shows_its_own_certificate_and_reads_along() {
    let lab = lab().await;
    let firewall = Arc::new(Authority::new("Firewall Inspection CA").unwrap());
    lab.set_mail_path(MailPath::Intercept(Arc::clone(&firewall)));
    let mut roots = RootCertStore::empty();
    roots.add(firewall.certificate()).unwrap();
    let only_the_box = ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = SmtpClient::ready(mx(&lab).address()).await.unwrap();
    let client = client.starttls_by(&TlsConnector::from(Arc::new(only_the_box)), HOST).await.unwrap();
    passes_whole(&lab, client).await;
    assert!(mx(&lab).messages()[0].tls.is_some(), "to the host the box is a client with TLS");
}

#[tokio::test]
async fn a_proxy_answers_in_its_own_name_and_the_host_hears_nothing() {
    let lab = lab().await;
    let proxy = RunningMxHost::start("proxy.test", Ipv4Addr::LOCALHOST, 0, Behaviour::default()).await.unwrap();
    lab.set_mail_path(proxy.as_proxy());
    let mut client = SmtpClient::ready(mx(&lab).address()).await.unwrap();
    assert!(client.greeting().text().starts_with("proxy.test"));
    assert!(client.send(FROM, &[TO], b"Subject: hi\r\n\r\nhi\r\n").await.unwrap().accepted());
    assert_eq!((proxy.messages().len(), mx(&lab).messages().len(), mx(&lab).seen().len()), (1, 0, 0));
}

#[tokio::test]
async fn a_blocked_port_refuses_or_is_silent() {
    let lab = lab().await;
    let knock = || timeout(SILENCE, SmtpClient::connect(mx(&lab).address()));
    lab.block_mail(Block::Refused).await.unwrap();
    assert!(knock().await.unwrap().is_err());
    lab.block_mail(Block::Silent).await.unwrap();
    assert!(knock().await.is_err(), "neither accepted nor refused");
}
