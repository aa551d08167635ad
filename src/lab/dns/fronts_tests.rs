//! The lab's name servers and encrypted fronts, asked as a client asks them
//! (RFC 1034 §5.3.3, RFC 7858, RFC 8484).

#![expect(clippy::disallowed_methods, reason = "the test connects to the lab's fronts on loopback")]

use super::fronts::{Front, FrontKind, PATH, SERVER_NAME};
use crate::lab::dns::server::{LabTransport, PathFault};
use crate::lab::{Lab, Signing, SigningPlan};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn question(name: &str, rtype: RecordType) -> Vec<u8> {
    let mut question = Message::query();
    question.add_query(Query::query(super::world::name(name).unwrap(), rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232).set_dnssec_ok(true);
    question.set_edns(edns);
    question.to_vec().unwrap()
}

async fn ask(server: SocketAddr, name: &str, rtype: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question(name, rtype), server).await.unwrap();
    let mut buffer = [0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap()
}

async fn lab() -> Lab {
    let plan = SigningPlan::from(Signing::Signed(crate::lab::KeyAlgorithm::EcdsaP256)).nsec3(0);
    let lab = Lab::builder().domain("dane.test", |d| d.signing(plan)).domain("plain.test", |d| d.plain());
    lab.start().await.unwrap()
}

/// Follows referrals by their glue; the servers passed on the way come back with the answer.
async fn walk(root: SocketAddr, name: &str, rtype: RecordType) -> (usize, Message) {
    let mut at = root;
    for hops in 1..10 {
        let message = ask(at, name, rtype).await;
        let glue = message.additionals.iter().find_map(|r| if let RData::A(a) = &r.data { Some(a.0) } else { None });
        match glue {
            Some(address) if message.answers.is_empty() && !message.metadata.authoritative => {
                at = (address, root.port()).into();
            }
            _ => return (hops, message),
        }
    }
    panic!("the walk has no end");
}

#[tokio::test]
async fn rfc1034_5_3_3_a_walk_from_the_root_ends_at_the_answer() {
    let lab = lab().await;
    let servers = lab.authorities().await.unwrap();
    let (hops, message) = walk(servers.root(), "dane.test", RecordType::MX).await;
    assert_eq!(hops, 3);
    assert!(message.metadata.authoritative && !message.metadata.recursion_available);
    let types: Vec<_> = message.answers.iter().map(|r| r.record_type()).collect();
    assert_eq!(types, [RecordType::MX, RecordType::RRSIG]);
    assert_eq!(servers.server("dane.test").unwrap().asked("dane.test", RecordType::MX), 1);
    let (_, plain) = walk(servers.root(), "mx.plain.test", RecordType::A).await;
    assert_eq!(plain.answers.len(), 1);
    let (hops, ds) = walk(servers.root(), "dane.test", RecordType::DS).await;
    assert_eq!((hops, ds.answers.len()), (2, 2));
}

#[tokio::test]
async fn rfc4035_3_1_4_referrals_say_whether_the_child_is_signed() {
    let lab = lab().await;
    let servers = lab.authorities().await.unwrap();
    let test = servers.server("test").unwrap().address();
    for (name, proof) in [("dane.test", RecordType::DS), ("plain.test", RecordType::NSEC)] {
        let referral = ask(test, name, RecordType::MX).await;
        let types: Vec<_> = referral.authorities.iter().map(|r| r.record_type()).collect();
        assert_eq!(types, [RecordType::NS, proof, RecordType::RRSIG], "{name}");
        assert!(!referral.metadata.authoritative);
    }
    let elsewhere = ask(test, "dane.example", RecordType::MX).await;
    assert_eq!(elsewhere.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn rfc4035_3_1_4_1_parent_and_child_on_one_server_refer_to_nobody() {
    let lab = lab().await;
    let world = lab.shared_world();
    let servers = super::authority::Authorities::start_shared(world, &["test", "dane.test"]).await.unwrap();
    let (hops, message) = walk(servers.root(), "dane.test", RecordType::MX).await;
    assert_eq!((hops, message.answers.len()), (2, 2));
    let (_, ds) = walk(servers.root(), "dane.test", RecordType::DS).await;
    assert_eq!(ds.answers.len(), 2);
}

async fn tls(lab: &Lab, front: &Front, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = lab.authority().pem();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(front.address()).await?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn ask_framed(mut stream: TlsStream<TcpStream>, name: &str, rtype: RecordType) -> Option<Message> {
    let question = question(name, rtype);
    stream.write_u16(u16::try_from(question.len()).unwrap()).await.unwrap();
    stream.write_all(&question).await.unwrap();
    let read = async {
        let length = stream.read_u16().await.unwrap();
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.unwrap();
        Message::from_vec(&answer).unwrap()
    };
    tokio::time::timeout(Duration::from_millis(500), read).await.ok()
}

#[tokio::test]
async fn rfc7858_boxes_in_clear_do_not_see_what_is_encrypted() {
    let lab = lab().await;
    let front = lab.secure_dns(FrontKind::Tls).await.unwrap();
    assert_eq!(front.upstream(), format!("tls://{}#dns.lab.test", front.address()));
    lab.dns().set_path([PathFault::DropType(RecordType::MX), PathFault::BlockTcp]);
    let answer = ask_framed(tls(&lab, &front, b"dot").await.unwrap(), "dane.test", RecordType::MX).await;
    assert_eq!(answer.unwrap().answers.len(), 2);
    assert_eq!(lab.dns().asked("dane.test", RecordType::MX), 1);
    lab.dns().set_path_on(LabTransport::Tls, [PathFault::DropType(RecordType::MX)]);
    let silent = ask_framed(tls(&lab, &front, b"dot").await.unwrap(), "dane.test", RecordType::MX).await;
    assert!(silent.is_none());
    lab.dns().set_path_on(LabTransport::Tls, [PathFault::BlockTcp]);
    assert!(tls(&lab, &front, b"dot").await.is_err());
    // On UDP nothing has changed by that.
    assert_eq!(ask(lab.dns().address(), "dane.test", RecordType::SOA).await.answers.len(), 2);
}

#[tokio::test]
async fn rfc8484_4_1_questions_come_as_posts() {
    let lab = lab().await;
    let front = lab.secure_dns(FrontKind::Https).await.unwrap();
    let stream = tls(&lab, &front, b"h2").await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for (path, status) in [(PATH, 200), ("/elsewhere", 404)] {
        let request = http::Request::post(format!("https://{SERVER_NAME}{path}")).body(()).unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        body.send_data(question("dane.test", RecordType::MX).into(), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), status);
        if status == 200 {
            let answer = response.into_body().data().await.unwrap().unwrap();
            assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 2);
        }
    }
}
