//! Hostile zones and bytes: bounded work, no panic, and never a verdict that helps the attacker.

use super::attacker::broken;
use super::{NOW, Resolver, a_record, anchors, expect, name, new_world, tlsa, verdict};
use dane_relay::clock::Timestamp;
use dane_relay::lab::dns::plan::{KeyAlgorithm, SigningPlan};
use dane_relay::lab::{AnswerFault, SignatureFault};
use dane_relay::resolve::Security;
use dane_relay::resolve::dnssec::{Outcome, Step, Validation, Zones, fuzz};
use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::RecordType;
use std::time::Duration;

fn p256() -> SigningPlan {
    SigningPlan::signed(KeyAlgorithm::EcdsaP256)
}

#[test]
fn rfc4034_appendix_b_a_few_keys_with_one_tag_are_tried_and_not_many() {
    let world = new_world();
    world.add_zone("few.test", p256().colliding(2)).unwrap();
    world.add_zone("many.test", p256().colliding(40)).unwrap();
    expect(&verdict(&world, "few.test", RecordType::SOA), "secure found 1");
    // Whether the good key is among those that are tried is chance; it is never insecure.
    let many = verdict(&world, "many.test", RecordType::SOA);
    assert_ne!(many.security, Security::Insecure, "{:?}", many.reason);
}

#[test]
fn rfc4035_5_3_3_a_flood_of_signatures_ends() {
    let world = new_world();
    world.add_zone("flood.test", p256()).unwrap();
    world.zone_fault("flood.test", AnswerFault::Signature(SignatureFault::Flooded)).unwrap();
    let flooded = verdict(&world, "flood.test", RecordType::SOA);
    // The good one is among them; whether the work allowed gets that far is all that matters.
    assert_ne!(flooded.security, Security::Insecure, "{flooded:?}");
}

/// Wherever it is spent: over the answer, over a denial, over the DS and the DNSKEY records of the zone.
#[test]
fn rfc4035_5_3_3_work_that_is_spent_is_neither_insecure_nor_absent() {
    let world = new_world();
    for (zone, plan) in [("nsec.test", p256()), ("nsec3.test", p256().nsec3(0))] {
        world.add_zone(zone, plan).unwrap();
        world.add(zone, tlsa(1)).unwrap();
        let absent = format!("absent.{zone}");
        let flooded = [
            (zone, RecordType::TLSA),
            (zone, RecordType::MX),
            (absent.as_str(), RecordType::TLSA),
            (zone, RecordType::DS),
            (zone, RecordType::DNSKEY),
        ];
        for at in flooded {
            let asks_for = if at.1 == RecordType::MX { at.1 } else { RecordType::TLSA };
            let found = Resolver::new(&world).verdict_by(at.0, asks_for, |asked, rtype, message| {
                let sections = [&mut message.answers, &mut message.authorities];
                for section in sections.into_iter().filter(|_| (asked, rtype) == at) {
                    let flood: Vec<_> = section.iter().filter_map(|r| broken(r, 200)).flatten().collect();
                    section.splice(0..0, flood.into_iter().take(500));
                }
            });
            assert_eq!(found.security, Security::Indeterminate, "{at:?}: {:?}", found.reason);
            assert!(found.reason.unwrap().sentence.contains("more work"), "{at:?}");
        }
    }
}

#[test]
fn rfc1034_3_6_2_alias_loops_end_as_not_found_out() {
    let world = new_world();
    world.add_zone("loop.test", p256()).unwrap();
    world.add_cname("a.loop.test", "b.loop.test").unwrap();
    world.add_cname("b.loop.test", "a.loop.test").unwrap();
    let ring = world.message("c.loop.test", RecordType::A).unwrap();
    assert!(ring.answers.is_empty());
    let looped = Resolver::new(&world).verdict_by("a.loop.test", RecordType::A, |_, rtype, message| {
        if rtype == RecordType::A {
            *message = world.message("a.loop.test", RecordType::CNAME).unwrap();
            message.answers.extend(world.message("b.loop.test", RecordType::CNAME).unwrap().answers);
        }
    });
    assert_eq!(looped.security, Security::Indeterminate, "{looped:?}");
}

#[test]
fn a_chain_of_trust_takes_a_bounded_number_of_questions() {
    let world = new_world();
    let deep = format!("{}deep.test", "a.".repeat(100));
    world.add_zone("deep.test", p256()).unwrap();
    world.add(&deep, a_record()).unwrap();
    let mut resolver = Resolver::new(&world);
    let stripped = resolver.verdict_by(&deep, RecordType::A, |asked, _, message| {
        if asked == deep {
            message.answers.truncate(1);
        }
    });
    assert_eq!(stripped.security, Security::Indeterminate);
    assert!(resolver.asked.len() <= 48, "{}", resolver.asked.len());
}

#[test]
fn rfc4035_4_3_what_cannot_be_fetched_is_indeterminate() {
    let world = new_world();
    world.add_zone("gone.test", p256()).unwrap();
    let anchors = anchors(&world);
    let message = world.message("gone.test", RecordType::SOA).unwrap();
    for silent in [RecordType::DS, RecordType::DNSKEY] {
        let mut validation = Validation::begin(&name("gone.test"), RecordType::SOA, message.clone(), NOW);
        let zones = Zones::new(10);
        let verdict = loop {
            match validation.step(&anchors, &zones) {
                Step::Done(verdict) => break verdict,
                Step::Ask(at, rtype) if rtype == silent && at == name("gone.test") => {
                    validation.feed(Err("no answer in time".into()));
                }
                Step::Ask(at, rtype) => validation.feed(Ok(world.message(&at.to_ascii(), rtype).unwrap())),
            }
        };
        assert_eq!(verdict.security, Security::Indeterminate);
        let reason = verdict.reason.unwrap();
        assert_eq!(reason.name, name("gone.test"));
        assert!(reason.sentence.contains("no answer in time"), "{reason}");
    }
}

#[test]
fn rfc4035_5_3_3_no_verdict_outlives_ttl_or_signature() {
    let world = new_world();
    world.add_zone("life.test", p256()).unwrap();
    world.add("life.test", tlsa(1)).unwrap();
    let inflated = Resolver::new(&world).verdict_by("life.test", RecordType::TLSA, |_, _, message| {
        for record in message.answers.iter_mut().chain(&mut message.authorities) {
            record.ttl = 604_800;
        }
    });
    // The lab signs with a TTL of 60 seconds, and denials with 10.
    assert_eq!(inflated.valid_until, NOW.plus(Duration::from_secs(60)));
    let denied = Resolver::new(&world).verdict_by("life.test", RecordType::A, |_, _, message| {
        for record in message.answers.iter_mut().chain(&mut message.authorities) {
            record.ttl = 604_800;
        }
    });
    expect(&denied, "secure nodata");
    assert_eq!(denied.valid_until, NOW.plus(Duration::from_secs(10)));
    let bogus = Resolver::new(&world).verdict_by("life.test", RecordType::TLSA, |_, _, m| m.answers.truncate(1));
    assert_eq!((bogus.security, bogus.valid_until), (Security::Bogus, NOW));
}

#[test]
fn rfc4035_5_3_3_keys_are_fetched_again_when_their_ttl_is_over() {
    let world = new_world();
    world.add_zone("life.test", p256()).unwrap();
    let mut resolver = Resolver::new(&world);
    expect(&resolver.verdict("life.test", RecordType::SOA), "secure found 1");
    let asked = resolver.asked.len();
    resolver.now = NOW.plus(Duration::from_secs(59));
    expect(&resolver.verdict("life.test", RecordType::SOA), "secure found 1");
    assert_eq!(resolver.asked.len(), asked);
    resolver.now = NOW.plus(Duration::from_secs(61));
    expect(&resolver.verdict("life.test", RecordType::SOA), "secure found 1");
    assert_eq!(resolver.asked.len(), 2 * asked);
}

#[test]
fn a_zone_without_cache_is_validated_all_the_same() {
    let world = new_world();
    world.add_zone("small.test", p256()).unwrap();
    let mut resolver = Resolver::new(&world);
    resolver.zones = Zones::new(0);
    expect(&resolver.verdict("small.test", RecordType::SOA), "secure found 1");
    assert!(resolver.zones.is_empty());
}

#[test]
fn an_alias_whose_target_cannot_be_fetched_is_indeterminate() {
    let world = new_world();
    world.add_zone("far.test", p256()).unwrap();
    world.add_cname("a.far.test", "b.far.test").unwrap();
    world.add("b.far.test", a_record()).unwrap();
    world.fault("b.far.test", RecordType::A, AnswerFault::ServFail).unwrap();
    let cut = Resolver::new(&world).verdict_by("a.far.test", RecordType::A, |asked, rtype, message| {
        if asked == "a.far.test" && rtype == RecordType::A {
            *message = world.message("a.far.test", RecordType::CNAME).unwrap();
        }
    });
    assert_eq!(cut.security, Security::Indeterminate);
    assert!(matches!(cut.outcome, Outcome::ErrorCode(_)));
}

/// Bytes of true messages with one octet changed: the fuzz entry never panics, ends, and, as the
/// lab's keys are not the root's, calls nothing secure or insecure.
#[test]
fn rfc1035_4_1_bytes_of_any_kind_end_in_a_verdict() {
    let world = new_world();
    world.add_zone("fuzz.test", p256().nsec3(1)).unwrap();
    world.add("*.w.fuzz.test", tlsa(1)).unwrap();
    world.add_cname("c.fuzz.test", "x.w.fuzz.test").unwrap();
    let mut judged = 0;
    for question in ["c.fuzz.test", "absent.fuzz.test", "fuzz.test"] {
        let bytes = world.message(question, RecordType::TLSA).unwrap().to_vec().unwrap();
        for at in 0..bytes.len() {
            for mask in [1, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= mask;
                if let Some(verdict) = fuzz::validate_bytes(&bytes, NOW) {
                    judged += 1;
                    let security = verdict.unwrap().security;
                    assert!(matches!(security, Security::Bogus | Security::Indeterminate), "{at} {mask}");
                }
            }
        }
    }
    assert!(judged > 1000, "{judged}");
    for time in [i64::MIN, -1, 0, i64::MAX] {
        let bytes = world.message("fuzz.test", RecordType::TLSA).unwrap().to_vec().unwrap();
        fuzz::validate_bytes(&bytes, Timestamp(time)).unwrap().unwrap();
    }
}

#[test]
fn rfc2308_2_2_a_referral_in_an_unsigned_zone_denies_nothing() {
    let world = new_world();
    world.add_zone("plain.test", SigningPlan::unsigned()).unwrap();
    let referred = Resolver::new(&world).verdict_by("mail.plain.test", RecordType::MX, |_, rtype, message| {
        if rtype == RecordType::MX {
            let ns = world.message("plain.test", RecordType::NS).unwrap().answers;
            *message = Message::new(0, MessageType::Response, OpCode::Query);
            message.authorities = ns;
        }
    });
    assert_eq!(referred.security, Security::Indeterminate);
    assert!(referred.reason.unwrap().sentence.contains("other servers"));
}

#[test]
fn rfc4035_5_3_1_what_the_parent_signed_before_it_delegated_is_not_the_childs() {
    let world = new_world();
    world.add_zone("child.test", p256()).unwrap();
    world.add("mail.child.test", tlsa(1)).unwrap();
    let mut resolver = Resolver::new(&world);
    expect(&resolver.verdict("child.test", RecordType::SOA), "secure found 1");
    let stale = resolver.verdict_by("mail.child.test", RecordType::TLSA, |_, rtype, message| {
        if rtype == RecordType::TLSA {
            let set = dane_relay::lab::dns::rrset::ZoneRrSet {
                owner: name("mail.child.test"),
                rtype,
                ttl_s: 60,
                data: vec![tlsa(66)],
            };
            message.answers = world.signed("test", &set, None).unwrap();
        }
    });
    expect(&stale, "bogus");
}
