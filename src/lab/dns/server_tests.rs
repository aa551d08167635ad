//! The lab's DNS against a validator that is not ours (RFC 4035 §5): hickory-resolver finds
//! secure what shall be secure, and everything else as the fault says.

use super::plan::{KeyAlgorithm, Signing};
use super::rrset::SignatureFault;
use super::world::{AnchorForm, World};
use super::zone::{AnswerFault, dname};
use crate::clock::Clock;
use crate::lab::dns::server::{DnsServer, PathFault};
use hickory_proto::dnssec::{Proof, TrustAnchors};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_proto::rr::rdata::{A, MX, TLSA};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{Resolver, TokioResolver};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

const OWNER: &str = "_25._tcp.mx.dane.test";

fn tlsa(data: u8) -> RData {
    RData::TLSA(TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, vec![data; 32]))
}

fn host(world: &World, domain: &str) {
    let mx = format!("mx.{domain}");
    world.add(domain, RData::MX(MX::new(10, super::world::name(&mx).unwrap()))).unwrap();
    world.add(&mx, RData::A(A(Ipv4Addr::new(127, 0, 0, 9)))).unwrap();
    world.add(&format!("_25._tcp.{mx}"), tlsa(1)).unwrap();
}

async fn lab() -> (Arc<World>, DnsServer) {
    let world = World::new(Clock::system()).unwrap();
    for (zone, signing) in [
        ("dane.test", Signing::Signed(KeyAlgorithm::EcdsaP256)),
        ("edwards.test", Signing::Signed(KeyAlgorithm::Ed25519)),
        ("plain.test", Signing::Unsigned),
        ("island.test", Signing::NoDs),
        ("wrongds.test", Signing::WrongDs),
        ("stripped.test", Signing::DsButUnsigned),
        ("other.example", Signing::Signed(KeyAlgorithm::Ed25519)),
    ] {
        world.add_zone(zone, signing).unwrap();
        host(&world, zone);
    }
    let world = Arc::new(world);
    let server = DnsServer::start(Arc::clone(&world)).await.unwrap();
    (world, server)
}

fn resolver(world: &World, server: &DnsServer) -> TokioResolver {
    let anchors: TrustAnchors = world.trust_anchor(AnchorForm::DnsKey).unwrap().parse().unwrap();
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.address().port();
        connection
    });
    let upstream = NameServerConfig::new(server.address().ip(), true, connections.into());
    let config = ResolverConfig::from_parts(None, vec![], vec![upstream]);
    Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_trust_anchor(Arc::new(anchors))
        .build()
        .unwrap()
}

/// `secure`, `insecure` or `bogus`, with `denied` and the response code before it for absence.
async fn verdict(resolver: &TokioResolver, name: &str, rtype: RecordType) -> String {
    let word = |proof: Proof| format!("{proof:?}").to_lowercase();
    match resolver.lookup(format!("{name}."), rtype).await {
        Ok(lookup) => {
            let proofs = lookup.answers().iter().filter(|r| r.record_type() == rtype).map(|r| word(r.proof));
            proofs.min().unwrap()
        }
        Err(NetError::Dns(DnsError::Nsec { proof, response, .. })) => {
            format!("denied {:?} {}", response.metadata.response_code, word(proof)).to_lowercase()
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            // Hickory gives a denial that it proved as plain absence, with the proofs marked.
            let mut nsec =
                none.authorities.iter().flat_map(|a| a.iter()).filter(|r| r.record_type() == RecordType::NSEC);
            let proven = nsec.any(|r| r.proof.is_secure());
            format!("denied {:?} {}", none.response_code, if proven { "secure" } else { "insecure" }).to_lowercase()
        }
        Err(NetError::Dns(DnsError::DnssecBogus)) => "bogus".into(),
        Err(other) => other.to_string(),
    }
}

#[tokio::test]
async fn rfc4035_5_signed_answers_are_secure() {
    let (world, server) = lab().await;
    let resolver = resolver(&world, &server);
    for domain in ["dane.test", "edwards.test", "other.example"] {
        assert_eq!(verdict(&resolver, domain, RecordType::MX).await, "secure", "{domain}");
        let (a, tlsa) = (format!("mx.{domain}"), format!("_25._tcp.mx.{domain}"));
        assert_eq!(verdict(&resolver, &a, RecordType::A).await, "secure", "{domain}");
        assert_eq!(verdict(&resolver, &tlsa, RecordType::TLSA).await, "secure", "{domain}");
    }
    assert_eq!(server.asked("_25._tcp.MX.dane.test", RecordType::TLSA), 1);
    assert_eq!(server.asked("_25._tcp.mx.plain.test", RecordType::TLSA), 0);
}

#[tokio::test]
async fn rfc4035_5_2_without_a_ds_a_zone_is_insecure() {
    let (world, server) = lab().await;
    let resolver = resolver(&world, &server);
    assert_eq!(verdict(&resolver, "plain.test", RecordType::MX).await, "insecure");
    assert_eq!(verdict(&resolver, "mx.plain.test", RecordType::A).await, "insecure");
    assert_eq!(verdict(&resolver, "island.test", RecordType::MX).await, "insecure");
}

#[tokio::test]
async fn rfc4035_5_2_a_ds_that_no_key_fits_is_bogus() {
    let (world, server) = lab().await;
    let resolver = resolver(&world, &server);
    for domain in ["wrongds.test", "stripped.test"] {
        assert_eq!(verdict(&resolver, domain, RecordType::MX).await, "bogus", "{domain}");
    }
}

#[tokio::test]
async fn rfc4035_5_3_faulty_signatures_are_bogus_and_heal() {
    let (world, server) = lab().await;
    for fault in [SignatureFault::Expired, SignatureFault::NotYetValid, SignatureFault::Bogus, SignatureFault::Missing]
    {
        world.fault(OWNER, RecordType::TLSA, AnswerFault::Signature(fault)).unwrap();
        let verdict = verdict(&resolver(&world, &server), OWNER, RecordType::TLSA).await;
        assert_eq!(verdict, "bogus", "{fault:?}");
    }
    world.zone_fault("dane.test", AnswerFault::Signature(SignatureFault::Expired)).unwrap();
    assert_eq!(verdict(&resolver(&world, &server), "dane.test", RecordType::MX).await, "bogus");
    world.zone_fault("dane.test", None).unwrap();
    world.fault(OWNER, RecordType::TLSA, None).unwrap();
    assert_eq!(verdict(&resolver(&world, &server), OWNER, RecordType::TLSA).await, "secure");
}

#[tokio::test]
async fn rfc4035_5_4_denials_are_proven() {
    let (world, server) = lab().await;
    let resolver = resolver(&world, &server);
    assert_eq!(verdict(&resolver, "mx.dane.test", RecordType::TLSA).await, "denied noerror secure");
    assert_eq!(verdict(&resolver, "_25._tcp.no.dane.test", RecordType::TLSA).await, "denied nxdomain secure");
    assert_eq!(verdict(&resolver, "mx.plain.test", RecordType::TLSA).await, "denied noerror insecure");
    assert_eq!(verdict(&resolver, "nowhere.test", RecordType::MX).await, "denied nxdomain secure");
}

#[tokio::test]
async fn rfc4035_3_1_3_1_an_empty_non_terminal_has_no_data() {
    let (world, server) = lab().await;
    let verdict = verdict(&resolver(&world, &server), "_tcp.mx.dane.test", RecordType::TLSA).await;
    assert_eq!(verdict, "denied noerror secure");
    let answer = world.answer(&Name::from_ascii("_tcp.mx.dane.test.").unwrap(), RecordType::TLSA).unwrap();
    assert_eq!(answer.code, ResponseCode::NoError);
    let nsec = answer.authorities.iter().find(|r| r.record_type() == RecordType::NSEC).unwrap();
    assert_eq!(nsec.name.to_ascii(), "mx.dane.test.");
    assert!(nsec.data.to_string().starts_with(&format!("{OWNER}. ")), "{}", nsec.data);
}

#[tokio::test]
async fn rfc4035_3_1_3_wildcards_are_proven() {
    let (world, _server) = lab().await;
    world.add("*.dane.test", RData::A(A(Ipv4Addr::LOCALHOST))).unwrap();
    world.add("lone.dane.test", RData::A(A(Ipv4Addr::LOCALHOST))).unwrap();
    let any = world.answer(&Name::from_ascii("any.dane.test.").unwrap(), RecordType::A).unwrap();
    assert!(any.answers.iter().all(|r| r.name.to_ascii() == "any.dane.test."));
    assert_eq!(any.authorities.iter().filter(|r| r.record_type() == RecordType::NSEC).count(), 1);
    let answer = world.answer(&Name::from_ascii("many.dane.test.").unwrap(), RecordType::MX).unwrap();
    let proofs = answer.authorities.iter().filter(|r| r.record_type() == RecordType::NSEC);
    let owners: Vec<_> = proofs.map(|r| r.name.to_ascii()).collect();
    assert_eq!(owners, ["lone.dane.test.", "*.dane.test."]);
}

#[tokio::test]
async fn rfc4035_5_4_forged_denials_are_bogus() {
    let (world, server) = lab().await;
    for fault in [AnswerFault::ForgedNoData, AnswerFault::ForgedNxDomain] {
        world.fault(OWNER, RecordType::TLSA, fault).unwrap();
        let verdict = verdict(&resolver(&world, &server), OWNER, RecordType::TLSA).await;
        assert!(verdict.contains("bogus"), "{fault:?}: {verdict}");
    }
}

#[tokio::test]
async fn rfc4035_3_2_alias_chains_cross_zones() {
    let (world, server) = lab().await;
    world.add_cname("alias.dane.test", "mx.other.example").unwrap();
    let answer = world.answer(&Name::from_ascii("ALIAS.dane.test.").unwrap(), RecordType::A).unwrap();
    let types: Vec<_> = answer.answers.iter().map(|r| r.record_type()).collect();
    assert_eq!(types, [RecordType::CNAME, RecordType::RRSIG, RecordType::A, RecordType::RRSIG]);
    assert_eq!(verdict(&resolver(&world, &server), "alias.dane.test", RecordType::A).await, "secure");
    world.add_cname("a.dane.test", "b.dane.test").unwrap();
    world.add_cname("b.dane.test", "a.dane.test").unwrap();
    let circle = world.answer(&Name::from_ascii("a.dane.test.").unwrap(), RecordType::A).unwrap();
    assert_eq!(circle.code, ResponseCode::ServFail);
}

#[tokio::test]
async fn rfc6672_a_dname_moves_the_tree_below_it() {
    let (world, _server) = lab().await;
    world.add("tree.dane.test", dname(&Name::from_ascii("other.example.").unwrap()).unwrap()).unwrap();
    let answer = world.answer(&Name::from_ascii("mx.tree.dane.test.").unwrap(), RecordType::A).unwrap();
    let types: Vec<_> = answer.answers.iter().map(|r| r.record_type()).collect();
    let (cname, sig) = (RecordType::CNAME, RecordType::RRSIG);
    assert_eq!(types, [RecordType::DNAME, sig, cname, RecordType::A, sig]);
}

#[tokio::test]
async fn rfc7766_sixty_records_come_over_tcp() {
    let (world, server) = lab().await;
    world.replace(OWNER, RecordType::TLSA, (0..60).map(tlsa).collect()).unwrap();
    let resolver = resolver(&world, &server);
    let lookup = resolver.lookup(format!("{OWNER}."), RecordType::TLSA).await.unwrap();
    let records = lookup.answers().iter().filter(|r| r.record_type() == RecordType::TLSA && r.proof.is_secure());
    assert_eq!(records.count(), 60);
}

/// One question over UDP; none when there is no answer soon.
async fn ask(server: &DnsServer, payload: u16, rtype: RecordType) -> Option<(Message, usize)> {
    ask_within(server, payload, rtype, Duration::from_secs(10)).await
}

/// Whether a TLSA question stays without an answer for a while.
async fn is_silent(server: &DnsServer) -> bool {
    ask_within(server, 1232, RecordType::TLSA, Duration::from_millis(200)).await.is_none()
}

async fn ask_within(server: &DnsServer, payload: u16, rtype: RecordType, wait: Duration) -> Option<(Message, usize)> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut question = Message::query();
    question.add_query(Query::query(super::world::name(OWNER).unwrap(), rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_dnssec_ok(true);
    question.set_edns(edns);
    socket.send_to(&question.to_vec().unwrap(), server.address()).await.unwrap();
    let mut buffer = [0; 4096];
    let length = tokio::time::timeout(wait, socket.recv(&mut buffer)).await.ok()?.unwrap();
    Some((Message::from_vec(&buffer[..length]).unwrap(), length))
}

#[tokio::test]
async fn rfc6891_6_2_4_the_payload_size_is_kept() {
    let (world, server) = lab().await;
    world.replace(OWNER, RecordType::TLSA, (0..30).map(tlsa).collect()).unwrap();
    let (small, length) = ask(&server, 1232, RecordType::TLSA).await.unwrap();
    assert!(small.metadata.truncation && length <= 1232);
    assert!(small.metadata.recursion_available && !small.metadata.authentic_data);
    let (large, _) = ask(&server, 4096, RecordType::TLSA).await.unwrap();
    assert!(!large.metadata.truncation);
    assert_eq!(large.answers.len(), 31);
}

#[tokio::test]
async fn faults_of_answers_and_paths_are_as_named() {
    let (world, server) = lab().await;
    for (fault, code) in [
        (AnswerFault::ServFail, ResponseCode::ServFail),
        (AnswerFault::Refused, ResponseCode::Refused),
        (AnswerFault::NotImplemented, ResponseCode::NotImp),
    ] {
        world.fault(OWNER, RecordType::TLSA, fault).unwrap();
        assert_eq!(ask(&server, 1232, RecordType::TLSA).await.unwrap().0.metadata.response_code, code);
    }
    world.fault(OWNER, RecordType::TLSA, AnswerFault::TruncatedOverUdp).unwrap();
    assert!(ask(&server, 1232, RecordType::TLSA).await.unwrap().0.metadata.truncation);
    assert_eq!(verdict(&resolver(&world, &server), OWNER, RecordType::TLSA).await, "secure");
    world.fault(OWNER, RecordType::TLSA, AnswerFault::Silent).unwrap();
    assert!(is_silent(&server).await);
    world.replace(OWNER, RecordType::TLSA, (0..5).map(tlsa).collect()).unwrap();
    world.fault(OWNER, RecordType::TLSA, None).unwrap();
    server.set_path([PathFault::DropTlsaOver(4)]);
    assert!(is_silent(&server).await);
    server.set_path([PathFault::DropTlsaOver(5), PathFault::StripDnssec]);
    assert_eq!(ask(&server, 1232, RecordType::TLSA).await.unwrap().0.answers.len(), 5);
}
