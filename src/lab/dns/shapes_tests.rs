//! Zones of every shape: what they answer is true, and is proven as the standards want it
//! (RFC 4035 §3.1, RFC 5155 §7.2, RFC 6672, RFC 9824).

use super::plan::{
    Denial, DsOf, DsSpec, EXCESSIVE_ITERATIONS, KeyAlgorithm, KeyFlags, KeySpec, OptOut, Role, Signing, SigningPlan,
};
use super::rrset::SignatureFault;
use super::world::World;
use super::zone::{AnswerFault, dname};
use crate::clock::Clock;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData};
use hickory_proto::dnssec::{DigestType, Verifier as _};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::Ipv4Addr;

const A_RECORD: RData = RData::A(A(Ipv4Addr::LOCALHOST));

/// A zone with a wildcard, an empty non-terminal, aliases and delegations of both kinds.
fn furnish(world: &World, zone: &str) {
    let at = |owner: &str| format!("{owner}.{zone}");
    for owner in ["a", "mx", "b.ent", "*.wild", "z"] {
        world.add(&at(owner), A_RECORD).unwrap();
    }
    world.add_cname(&at("*.alias"), &at("mx")).unwrap();
    world.add_cname(&at("toabsent"), &at("absent")).unwrap();
    world.add_cname(&at("tonodata"), &at("ent")).unwrap();
    world.add(&at("tree"), dname(&super::world::name(&at("wild")).unwrap()).unwrap()).unwrap();
    world.add_zone(&at("plain"), Signing::Unsigned).unwrap();
    world.add_zone(&at("child"), KeyAlgorithm::Ed25519).unwrap();
    world.add(&at("host.plain"), A_RECORD).unwrap();
    world.add(&at("host.child"), A_RECORD).unwrap();
}

fn world(plan: impl Into<SigningPlan>) -> World {
    let world = World::new(Clock::system()).unwrap();
    world.add_zone("shape.test", plan).unwrap();
    furnish(&world, "shape.test");
    world
}

fn plan() -> SigningPlan {
    SigningPlan::signed(KeyAlgorithm::EcdsaP256)
}

fn owners(records: &[Record], rtype: RecordType) -> Vec<String> {
    records.iter().filter(|r| r.record_type() == rtype).map(|r| r.name.to_ascii()).collect()
}

fn dnskey(data: &RData) -> Option<&DNSKEY> {
    if let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = data { Some(key) } else { None }
}

/// Every signature of a zone in a message is good, by hickory's own canonical form.
fn signatures_hold(world: &World, zone: &str, message: &Message) -> usize {
    let keys = world.message(zone, RecordType::DNSKEY).unwrap();
    let origin = Name::from_ascii(format!("{zone}.")).unwrap();
    let mut held = 0;
    for section in [&message.answers, &message.authorities] {
        for record in section {
            let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data else { continue };
            let input = rrsig.input();
            if input.signer_name != origin {
                continue;
            }
            let set: Vec<_> = section
                .iter()
                .filter(|r| r.name == record.name && r.record_type() == input.type_covered)
                .cloned()
                .collect();
            let mut keys = keys.answers.iter().filter_map(|key| dnskey(&key.data));
            let good = keys.any(|key| key.verify_rrsig(&record.name, DNSClass::IN, rrsig, set.iter()).is_ok());
            assert!(good, "{} {}", record.name, input.type_covered);
            held += 1;
        }
    }
    held
}

#[test]
fn every_algorithm_signs_what_a_validator_accepts() {
    for algorithm in [
        KeyAlgorithm::RsaSha256,
        KeyAlgorithm::RsaSha512,
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Ed25519,
    ] {
        let world = World::new(Clock::system()).unwrap();
        world.add_zone("shape.test", SigningPlan::split(algorithm, algorithm)).unwrap();
        let keys = world.message("shape.test", RecordType::DNSKEY).unwrap();
        assert_eq!(owners(&keys.answers, RecordType::DNSKEY).len(), 2);
        assert_eq!(signatures_hold(&world, "shape.test", &keys), 1, "{algorithm:?}");
        let none = world.message("absent.shape.test", RecordType::A).unwrap();
        assert_eq!(signatures_hold(&world, "shape.test", &none), 2, "{algorithm:?}");
    }
}

#[test]
fn algorithms_without_signatures_are_named_by_number() {
    for (algorithm, number) in
        [(KeyAlgorithm::RsaSha1, 5), (KeyAlgorithm::RsaSha1Nsec3, 7), (KeyAlgorithm::Unknown(253), 253)]
    {
        let world = World::new(Clock::system()).unwrap();
        world.add_zone("shape.test", algorithm).unwrap();
        let ds = world.message("shape.test", RecordType::DS).unwrap();
        let RData::DNSSEC(DNSSECRData::DS(ds)) = &ds.answers[0].data else { panic!("no DS") };
        assert_eq!(u8::from(ds.algorithm()), number);
        let soa = world.message("shape.test", RecordType::SOA).unwrap();
        let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &soa.answers[1].data else { panic!("no RRSIG") };
        assert_eq!(u8::from(rrsig.input().algorithm), number);
    }
}

#[test]
fn rfc5155_7_2_every_denial_has_its_records() {
    let world = world(plan().nsec3(3));
    let count = |name: &str, rtype: RecordType| {
        let message = world.message(&format!("{name}shape.test"), rtype).unwrap();
        assert!(signatures_hold(&world, "shape.test", &message) > 0);
        (message.metadata.response_code, owners(&message.authorities, RecordType::NSEC3).len())
    };
    let (fine, absent) = (ResponseCode::NoError, ResponseCode::NXDomain);
    assert_eq!(count("mx.", RecordType::TLSA), (fine, 1));
    assert_eq!(count("ent.", RecordType::A), (fine, 1));
    assert_eq!(count("plain.", RecordType::DS), (fine, 1));
    assert_eq!(count("a.", RecordType::DS), (fine, 1));
    assert_eq!(count("x.wild.", RecordType::A), (fine, 1));
    // Closest encloser, next closer name, wildcard: three records, or fewer when one does for two.
    for (code, (name, rtype)) in [
        (absent, ("absent.", RecordType::A)),
        (absent, ("x.y.z.", RecordType::A)),
        (fine, ("x.wild.", RecordType::TLSA)),
        (absent, ("toabsent.", RecordType::A)),
        (fine, ("x.tree.", RecordType::TLSA)),
    ] {
        let (got, records) = count(name, rtype);
        assert!(got == code && (2..=3).contains(&records), "{name}: {got} {records}");
    }
}

#[test]
fn rfc5155_7_1_the_chain_is_closed_and_complete() {
    let world = world(plan().nsec3(0));
    let mut owners_and_next = Vec::new();
    for name in [
        "",
        "a.",
        "mx.",
        "ent.",
        "b.ent.",
        "wild.",
        "*.wild.",
        "z.",
        "alias.",
        "*.alias.",
        "toabsent.",
        "tonodata.",
        "tree.",
        "plain.",
        "child.",
    ] {
        let proof = world.proof("shape.test", &format!("{name}shape.test")).unwrap();
        let RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) = &proof[0].data else { panic!("no NSEC3") };
        assert!(!nsec3.opt_out());
        let next = nsec3.next_hashed_owner_name_base32().unwrap().to_string();
        owners_and_next.push((String::from_utf8_lossy(proof[0].name.iter().next().unwrap()).into_owned(), next));
    }
    let mut ends: Vec<_> = owners_and_next.iter().map(|(_, next)| next.clone()).collect();
    let mut starts: Vec<_> = owners_and_next.into_iter().map(|(owner, _)| owner).collect();
    ends.sort();
    starts.sort();
    assert_eq!(starts, ends);
    starts.dedup();
    assert_eq!(starts.len(), 15);
}

#[test]
fn rfc5155_7_2_4_opt_out_leaves_unsigned_delegations_out() {
    let world = world(plan().opt_out());
    let denial = world.message("plain.shape.test", RecordType::DS).unwrap();
    assert_eq!(denial.metadata.response_code, ResponseCode::NoError);
    let proofs: Vec<_> = denial.authorities.iter().filter(|r| r.record_type() == RecordType::NSEC3).collect();
    assert!((1..=2).contains(&proofs.len()));
    for proof in proofs {
        let RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) = &proof.data else { panic!("no NSEC3") };
        assert!(nsec3.opt_out());
    }
    // A signed delegation is in the chain, and so is every other name.
    let ds = world.message("child.shape.test", RecordType::DS).unwrap();
    assert_eq!(owners(&ds.answers, RecordType::DS).len(), 1);
    let child = world.message_at("shape.test", "host.child.shape.test", RecordType::A).unwrap();
    assert_eq!(owners(&child.authorities, RecordType::DS).len(), 1);
    assert!(owners(&child.authorities, RecordType::NSEC3).is_empty());
}

#[test]
fn rfc9824_a_compact_denial_is_about_the_name_asked() {
    let world = world(plan().compact());
    let none = world.message("absent.shape.test", RecordType::A).unwrap();
    assert_eq!(none.metadata.response_code, ResponseCode::NoError);
    let types = |message: &Message| {
        let nsec = message.authorities.iter().find(|r| r.record_type() == RecordType::NSEC).unwrap();
        let RData::DNSSEC(DNSSECRData::NSEC(nsec)) = &nsec.data else { panic!("no NSEC") };
        nsec.type_bit_maps().map(u16::from).collect::<Vec<_>>()
    };
    assert_eq!(owners(&none.authorities, RecordType::NSEC), ["absent.shape.test."]);
    assert_eq!(types(&none), [46, 47, 128]);
    assert_eq!(types(&world.message("mx.shape.test", RecordType::TLSA).unwrap()), [1, 46, 47]);
    assert_eq!(types(&world.message("ent.shape.test", RecordType::TLSA).unwrap()), [46, 47]);
    assert_eq!(types(&world.message("plain.shape.test", RecordType::DS).unwrap()), [2, 46, 47]);
    let wild = world.message("x.wild.shape.test", RecordType::A).unwrap();
    assert_eq!(signatures_hold(&world, "shape.test", &wild), 1);
    assert!(wild.authorities.is_empty());
}

#[test]
fn rfc4592_a_wildcard_may_be_an_alias() {
    let world = world(plan());
    let message = world.message("x.alias.shape.test", RecordType::A).unwrap();
    assert_eq!(owners(&message.answers, RecordType::CNAME), ["x.alias.shape.test."]);
    assert_eq!(owners(&message.answers, RecordType::A), ["mx.shape.test."]);
    assert_eq!(owners(&message.authorities, RecordType::NSEC), ["*.alias.shape.test."]);
    assert_eq!(signatures_hold(&world, "shape.test", &message), 3);
}

#[test]
fn rfc6672_5_3_1_the_made_alias_is_not_signed() {
    let world = world(plan());
    let message = world.message("x.tree.shape.test", RecordType::A).unwrap();
    assert_eq!(owners(&message.answers, RecordType::DNAME), ["tree.shape.test."]);
    assert_eq!(owners(&message.answers, RecordType::A), ["x.wild.shape.test."]);
    assert_eq!(signatures_hold(&world, "shape.test", &message), 3);
    let alias = world.message("x.tree.shape.test", RecordType::CNAME).unwrap();
    assert_eq!(alias.answers.len(), 3);
    // A `*` is a label like others to a DNAME.
    let message = world.message("*.tree.shape.test", RecordType::A).unwrap();
    assert_eq!(owners(&message.answers, RecordType::A), ["*.wild.shape.test."]);
    // RFC 6672 §2.2: a name that would be too long cannot be made.
    let long = Name::from_ascii(format!("{0}.{0}.{0}.{1}.", "l".repeat(60), "m".repeat(50))).unwrap();
    world.add("deep.shape.test", dname(&long).unwrap()).unwrap();
    let label = "n".repeat(60);
    let message = world.message(&format!("{label}.deep.shape.test"), RecordType::A).unwrap();
    assert_eq!(message.metadata.response_code, ResponseCode::YXDomain);
}

#[test]
fn rfc4035_3_1_4_the_parent_refers_and_does_not_answer() {
    let world = world(plan());
    let referral = world.message_at("shape.test", "host.plain.shape.test", RecordType::A).unwrap();
    assert!(!referral.metadata.authoritative && !referral.metadata.recursion_available);
    assert!(referral.answers.is_empty());
    assert_eq!(owners(&referral.authorities, RecordType::NSEC), ["plain.shape.test."]);
    let own = world.message_at("shape.test", "mx.shape.test", RecordType::A).unwrap();
    assert!(own.metadata.authoritative && owners(&own.answers, RecordType::A).len() == 1);
    // The child's side of the cut knows no DS.
    let child = world.message_at("child.shape.test", "child.shape.test", RecordType::DS).unwrap();
    assert!(child.answers.is_empty());
    assert_eq!(owners(&child.authorities, RecordType::NSEC), ["child.shape.test."]);
}

#[test]
fn colliding_tags_are_equal_and_the_keys_differ() {
    for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Ed25519] {
        let world = World::new(Clock::system()).unwrap();
        world.add_zone("shape.test", SigningPlan::signed(algorithm).colliding(8)).unwrap();
        let message = world.message("shape.test", RecordType::DNSKEY).unwrap();
        let keys: Vec<_> = message.answers.iter().filter_map(|r| dnskey(&r.data)).collect();
        assert_eq!(keys.len(), 9);
        let tag = keys[0].calculate_key_tag().unwrap();
        assert!(keys.iter().all(|key| key.zone_key() && key.calculate_key_tag().unwrap() == tag));
        assert_eq!(signatures_hold(&world, "shape.test", &message), 1);
    }
}

#[test]
fn rfc4034_5_ds_records_are_as_planned() {
    let ds = [
        DsSpec::new(DsOf::Stranger(KeyAlgorithm::EcdsaP256), DigestType::SHA256),
        DsSpec::new(DsOf::Key(0), DigestType::SHA1),
        DsSpec::new(DsOf::Key(0), DigestType::SHA384),
        DsSpec::new(DsOf::Damaged(0), DigestType::SHA256),
        DsSpec::new(DsOf::Key(0), DigestType::Unknown(99)),
    ];
    let world = world(SigningPlan::split(KeyAlgorithm::EcdsaP256, KeyAlgorithm::Ed25519).ds(ds));
    let message = world.message("shape.test", RecordType::DS).unwrap();
    let lengths: Vec<_> = message
        .answers
        .iter()
        .filter_map(|r| if let RData::DNSSEC(DNSSECRData::DS(ds)) = &r.data { Some(ds) } else { None })
        .map(|ds| (u8::from(ds.digest_type()), ds.digest().len()))
        .collect();
    assert_eq!(lengths, [(2, 32), (1, 20), (4, 48), (2, 32), (99, 32)]);
    assert_eq!(signatures_hold(&world, "test", &message), 1);
}

#[test]
fn faults_of_signatures_and_proofs_are_as_named() {
    let world =
        world(plan().denial(Denial::Nsec3 { salt: vec![], iterations: EXCESSIVE_ITERATIONS, opt_out: OptOut::No }));
    let rrsigs = |fault: SignatureFault| {
        world.fault("mx.shape.test", RecordType::A, AnswerFault::Signature(fault)).unwrap();
        let message = world.message("mx.shape.test", RecordType::A).unwrap();
        let rrsigs = message
            .answers
            .iter()
            .filter_map(|r| if let RData::DNSSEC(DNSSECRData::RRSIG(sig)) = &r.data { Some(sig) } else { None });
        rrsigs.map(|rrsig| rrsig.input().clone()).collect::<Vec<_>>()
    };
    assert_eq!(rrsigs(SignatureFault::WrongSigner)[0].signer_name.to_ascii(), "test.");
    assert_eq!(rrsigs(SignatureFault::TooFewLabels)[0].num_labels, 2);
    let message = world.message("mx.shape.test", RecordType::A).unwrap();
    assert_eq!(signatures_hold(&world, "shape.test", &message), 1);
    assert_eq!(rrsigs(SignatureFault::TooManyLabels)[0].num_labels, 4);
    assert_eq!(rrsigs(SignatureFault::Flooded).len(), 41);
    assert!(rrsigs(SignatureFault::Missing).is_empty());
    let proofs = |fault: Option<AnswerFault>| {
        world.fault("q.q.shape.test", RecordType::A, fault).unwrap();
        let message = world.message("q.q.shape.test", RecordType::A).unwrap();
        let owners = owners(&message.authorities, RecordType::NSEC3);
        (owners, message.authorities.iter().any(|r| r.record_type() == RecordType::SOA))
    };
    let (all, soa) = proofs(None);
    assert!(soa);
    assert_eq!(proofs(Some(AnswerFault::OmitProof(0))).0, all[1..]);
    assert_eq!(proofs(Some(AnswerFault::OmitSoa)), (all, false));
}

#[test]
fn rfc4034_2_1_1_flags_of_keys_are_as_planned() {
    let revoked = KeySpec::new(KeyAlgorithm::EcdsaP256, Role::Combined).flags(KeyFlags::Revoked);
    let other = KeySpec::new(KeyAlgorithm::EcdsaP256, Role::Standby).flags(KeyFlags::NotForZones);
    let world = world(plan().key(revoked).key(other));
    let message = world.message("shape.test", RecordType::DNSKEY).unwrap();
    let flags = message.answers.iter().filter_map(|r| dnskey(&r.data)).map(|key| key.flags());
    assert_eq!(flags.collect::<Vec<_>>(), [0x0101, 0x0181, 0]);
    assert_eq!(signatures_hold(&world, "shape.test", &message), 2);
}

#[test]
fn rfc3597_5_a_zone_file_has_every_record_and_its_signature() {
    let world = world(plan().nsec3(1));
    world.fault("a.shape.test", RecordType::A, AnswerFault::Signature(SignatureFault::Missing)).unwrap();
    let text = world.zone_file("shape.test").unwrap();
    let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(count(" IN TYPE50 "), 15);
    assert_eq!(count("mx.shape.test. 60 IN TYPE1 \\# 4 7f000001"), 1);
    assert!(count("mx.shape.test. 60 IN TYPE46 ") == 1 && !text.contains("\na.shape.test. 60 IN TYPE46 "));
    // Delegations: name servers unsigned, DS signed.
    assert_eq!(count("plain.shape.test. 60 IN TYPE46 "), 0);
    assert_eq!(count("child.shape.test. 60 IN TYPE46 "), 1);
    assert!(self::world(plan().compact()).zone_file("shape.test").is_err());
}
