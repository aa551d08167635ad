//! Each fault of a zone by itself: what validation says, and which section it names.

use super::{Resolver, a_record, new_world, tlsa, verdict, word};
use dane_relay::lab::dns::plan::{
    Denial, DsOf, DsSpec, KeyAlgorithm, KeyFlags, KeySpec, OptOut, Role, Signing, SigningPlan,
};
use dane_relay::lab::dns::world::World;
use dane_relay::lab::{AnswerFault, SignatureFault};
use dane_relay::resolve::Security;
use hickory_proto::dnssec::DigestType;
use hickory_proto::rr::RecordType;

const ZONE: &str = "fault.test";
const TLSA: &str = "_25._tcp.mail.fault.test";

fn p256() -> SigningPlan {
    SigningPlan::signed(KeyAlgorithm::EcdsaP256)
}

fn world(plan: impl Into<SigningPlan>) -> World {
    let world = new_world();
    world.add_zone(ZONE, plan).unwrap();
    world.add(TLSA, tlsa(1)).unwrap();
    world.add("mail.fault.test", a_record()).unwrap();
    world.add("*.wild.fault.test", a_record()).unwrap();
    world
}

#[track_caller]
fn is_bogus(world: &World, question: &str, rtype: RecordType, rfc: &str) {
    let verdict = verdict(world, question, rtype);
    let reason = verdict.reason.expect("a reason");
    assert_eq!((verdict.security, reason.rfc), (Security::Bogus, rfc), "{reason}");
}

#[test]
fn rfc4035_5_3_1_a_signature_outside_its_window_is_none() {
    for fault in [SignatureFault::Expired, SignatureFault::NotYetValid] {
        let world = world(p256());
        world.fault(TLSA, RecordType::TLSA, AnswerFault::Signature(fault)).unwrap();
        is_bogus(&world, TLSA, RecordType::TLSA, "RFC 4035 §5.3.1");
    }
}

#[test]
fn rfc4035_5_3_3_a_signature_that_does_not_fit_is_bogus() {
    let world = world(p256());
    for fault in [SignatureFault::Bogus, SignatureFault::WrongTag] {
        world.fault(TLSA, RecordType::TLSA, AnswerFault::Signature(fault)).unwrap();
        is_bogus(&world, TLSA, RecordType::TLSA, "RFC 4035 §5.3.3");
    }
}

#[test]
fn rfc4035_5_2_records_without_signature_in_a_signed_zone_are_bogus() {
    let world = world(p256());
    world.fault(TLSA, RecordType::TLSA, AnswerFault::Signature(SignatureFault::Missing)).unwrap();
    is_bogus(&world, TLSA, RecordType::TLSA, "RFC 4035 §5.2");
}

#[test]
fn rfc4035_5_2_broken_delegations_are_bogus() {
    is_bogus(&world(Signing::WrongDs), TLSA, RecordType::TLSA, "RFC 4035 §5.2");
    is_bogus(&world(Signing::DsButUnsigned), TLSA, RecordType::TLSA, "RFC 4035 §5.2");
    let damaged = p256().ds([DsSpec::new(DsOf::Damaged(0), DigestType::SHA256)]);
    is_bogus(&world(damaged), TLSA, RecordType::TLSA, "RFC 4035 §5.2");
}

#[test]
fn rfc4035_5_2_a_zone_without_ds_is_insecure() {
    for signing in [Signing::Unsigned, Signing::NoDs] {
        let verdict = verdict(&world(signing), TLSA, RecordType::TLSA);
        assert_eq!(word(&verdict), "insecure found 1");
        assert_eq!(verdict.reason.unwrap().rfc, "RFC 4035 §5.2");
    }
}

#[test]
fn rfc4034_2_1_1_a_key_that_is_not_for_zones_opens_nothing() {
    let entry = KeySpec::new(KeyAlgorithm::EcdsaP256, Role::Combined);
    for flags in [KeyFlags::NotForZones, KeyFlags::Revoked] {
        let plan = SigningPlan { keys: vec![entry.flags(flags)], ..p256() };
        is_bogus(&world(plan), TLSA, RecordType::TLSA, "RFC 4035 §5.2");
    }
}

/// The DS fits a sound key, which signs the keys. What a second key of the zone signs counts for
/// as much as that key may do: revoked it is good for nothing but its own revocation (RFC 5011
/// §2.1), and without the zone bit for nothing at all.
#[test]
fn rfc4034_2_1_1_a_key_that_is_not_for_zones_signs_nothing_beside_one_that_is() {
    let signing = KeySpec::new(KeyAlgorithm::EcdsaP256, Role::ZoneSigning);
    let entry = KeySpec::new(KeyAlgorithm::EcdsaP256, Role::KeySigning);
    for (flags, expected) in
        [(KeyFlags::Sound, "secure found 1"), (KeyFlags::Revoked, "bogus"), (KeyFlags::NotForZones, "bogus")]
    {
        let plan = SigningPlan { keys: vec![entry, signing.flags(flags)], ..p256() };
        let world = world(plan);
        assert_eq!(word(&verdict(&world, TLSA, RecordType::TLSA)), expected, "{flags:?}");
        // The key set holds all the same: it is signed by the key that the DS names.
        assert_eq!(word(&verdict(&world, ZONE, RecordType::DNSKEY)), "secure found 2", "{flags:?}");
        if flags != KeyFlags::Sound {
            is_bogus(&world, TLSA, RecordType::TLSA, "RFC 4035 §5.3.3");
            is_bogus(&world, TLSA, RecordType::A, "RFC 4035 §5.3.3");
        }
    }
}

#[test]
fn rfc4035_5_2_the_key_of_the_ds_must_sign_the_keys() {
    // The DS names the first key, which signs nothing; the second signs everything.
    let keys = vec![
        KeySpec::new(KeyAlgorithm::EcdsaP256, Role::Standby),
        KeySpec::new(KeyAlgorithm::EcdsaP256, Role::Combined),
    ];
    is_bogus(&world(SigningPlan { keys, ..p256() }), TLSA, RecordType::TLSA, "RFC 4035 §5.3.3");
}

#[test]
fn rfc4035_5_4_a_denial_needs_each_of_its_proofs() {
    for plan in [p256(), p256().nsec3(0)] {
        let world = world(plan);
        // NSEC: the name and the wildcard. NSEC3: encloser, next closer, wildcard.
        let question = "x.mail.fault.test";
        let proofs = world.message(question, RecordType::TLSA).unwrap().authorities;
        let count = proofs.iter().filter(|r| matches!(r.record_type(), RecordType::NSEC | RecordType::NSEC3)).count();
        assert_eq!(word(&verdict(&world, question, RecordType::TLSA)), "secure nxdomain");
        for place in 0..count {
            world.fault(question, RecordType::TLSA, AnswerFault::OmitProof(place)).unwrap();
            let found = verdict(&world, question, RecordType::TLSA);
            assert_eq!(found.security, Security::Bogus, "without proof {place} of {count}");
        }
        for question in [(TLSA, RecordType::A), ("a.wild.fault.test", RecordType::A)] {
            world.fault(question.0, question.1, AnswerFault::OmitProof(0)).unwrap();
            assert_eq!(verdict(&world, question.0, question.1).security, Security::Bogus, "{question:?}");
        }
    }
}

#[test]
fn rfc4035_5_4_forged_denials_of_tlsa_are_bogus() {
    for plan in [p256(), p256().nsec3(0), p256().opt_out(), p256().compact()] {
        let world = world(plan);
        for fault in [AnswerFault::ForgedNoData, AnswerFault::ForgedNxDomain] {
            world.fault(TLSA, RecordType::TLSA, fault).unwrap();
            is_bogus(&world, TLSA, RecordType::TLSA, "RFC 4035 §5.4");
        }
    }
}

#[test]
fn rfc2308_5_a_denial_without_soa_holds_and_one_with_an_unsigned_soa_does_not() {
    let world = world(p256());
    world.fault(TLSA, RecordType::A, AnswerFault::OmitSoa).unwrap();
    assert_eq!(word(&verdict(&world, TLSA, RecordType::A)), "secure nodata");
    world.fault(TLSA, RecordType::A, None).unwrap();
    let unsigned = Resolver::new(&world).verdict_by(TLSA, RecordType::A, |_, rtype, message| {
        if rtype == RecordType::A {
            let apex = super::name(ZONE);
            message.authorities.retain(|r| r.name != apex || r.record_type() != RecordType::RRSIG);
        }
    });
    assert_eq!(word(&unsigned), "bogus");
}

#[test]
fn rfc5155_8_2_records_of_two_chains_prove_nothing_together() {
    let other = Denial::Nsec3 { salt: vec![1], iterations: 0, opt_out: OptOut::No };
    let world = world(p256().nsec3(2));
    let twin = self::world(p256().denial(other));
    let mixed = Resolver::new(&world).verdict_by("x.mail.fault.test", RecordType::TLSA, |asked, rtype, message| {
        if rtype == RecordType::TLSA {
            let foreign = twin.message(asked, rtype).unwrap().authorities;
            message.authorities.truncate(4);
            message.authorities.extend(foreign);
        }
    });
    assert_eq!(word(&mixed), "bogus");
}

#[test]
fn error_codes_are_not_found_out() {
    for (fault, code) in [(AnswerFault::ServFail, "Server Failure"), (AnswerFault::NotImplemented, "Not Implemented")] {
        let world = world(p256());
        world.fault(TLSA, RecordType::TLSA, fault).unwrap();
        let verdict = verdict(&world, TLSA, RecordType::TLSA);
        assert_eq!(verdict.security, Security::Indeterminate);
        assert!(word(&verdict).contains(code), "{}", word(&verdict));
    }
}
