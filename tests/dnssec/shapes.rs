//! Truthful answers of every shape get the verdict they deserve.

use super::{Resolver, a_record, expect, name, new_world, of_type, tlsa, verdict};
use dane_relay::lab::dns::plan::{
    DsOf, DsSpec, EXCESSIVE_ITERATIONS, KeyAlgorithm, KeySpec, Role, Signing, SigningPlan,
};
use dane_relay::lab::dns::rrset::ZoneRrSet as LabSet;
use dane_relay::lab::dns::world::World;
use dane_relay::lab::dns::zone::dname;
use dane_relay::resolve::Security;
use dane_relay::resolve::dnssec::Outcome;
use hickory_proto::dnssec::DigestType;
use hickory_proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_proto::rr::rdata::{MX, NULL};
use hickory_proto::rr::{RData, Record, RecordType};

const TLSA: &str = "_25._tcp.mail.";

/// A mail domain with aliases, wildcards, a DNAME and delegations of all kinds.
pub(crate) fn furnish(world: &World, zone: &str) {
    let at = |owner: &str| format!("{owner}.{zone}");
    world.add(zone, RData::MX(MX::new(10, name(&at("mail"))))).unwrap();
    for owner in ["mail", "b.ent", "*.wild", "zz"] {
        world.add(&at(owner), a_record()).unwrap();
    }
    world.add(&at("_25._tcp.mail"), tlsa(1)).unwrap();
    world.add(&at("*._tcp.wild"), tlsa(2)).unwrap();
    world.add_cname(&at("_25._tcp.alias"), &at("_25._tcp.mail")).unwrap();
    world.add_cname(&at("*.star"), &at("mail")).unwrap();
    world.add_cname(&at("tonodata"), &at("ent")).unwrap();
    world.add_cname(&at("toabsent"), &at("absent")).unwrap();
    world.add_cname(&at("toplain"), &at("host.plain")).unwrap();
    world.add_cname(&at("toplainabsent"), &at("absent.plain")).unwrap();
    world.add(&at("tree"), dname(&name(&at("mail"))).unwrap()).unwrap();
    world.add_zone(&at("plain"), Signing::Unsigned).unwrap();
    world.add_zone(&at("island"), Signing::NoDs).unwrap();
    world.add_zone(&at("child"), KeyAlgorithm::Ed25519).unwrap();
    for owner in ["host.plain", "host.island", "host.child"] {
        world.add(&at(owner), a_record()).unwrap();
    }
    world.add_cname(&at("back.plain"), &at("mail")).unwrap();
    world.add_cname(&at("up.child"), &at("mail")).unwrap();
    for alias in 0..8 {
        world.add_cname(&at(&format!("c{alias}")), &at(&format!("c{}", alias + 1))).unwrap();
    }
    world.add_cname(&at("c8"), &at("mail")).unwrap();
}

fn world(plan: impl Into<SigningPlan>) -> World {
    let world = new_world();
    world.add_zone("shape.test", plan).unwrap();
    furnish(&world, "shape.test");
    world
}

fn p256() -> SigningPlan {
    SigningPlan::signed(KeyAlgorithm::EcdsaP256)
}

/// Owner, type and verdict, the same for every way to deny.
const TABLE: &[(&str, RecordType, &str)] = &[
    ("", RecordType::MX, "secure found 1"),
    ("mail.", RecordType::A, "secure found 1"),
    (TLSA, RecordType::TLSA, "secure found 1"),
    ("_25._tcp.alias.", RecordType::TLSA, "secure found 1"),
    ("c0.", RecordType::A, "secure found 1"),
    ("mail.", RecordType::AAAA, "secure nodata"),
    ("ent.", RecordType::A, "secure nodata"),
    ("_tcp.mail.", RecordType::TLSA, "secure nodata"),
    ("", RecordType::TLSA, "secure nodata"),
    ("absent.", RecordType::A, "secure nxdomain"),
    ("a.b.absent.", RecordType::TLSA, "secure nxdomain"),
    ("_25._tcp.zz.", RecordType::TLSA, "secure nxdomain"),
    ("any.wild.", RecordType::A, "secure found 1"),
    ("x.any.wild.", RecordType::A, "secure found 1"),
    ("_25._tcp.wild.", RecordType::TLSA, "secure found 1"),
    ("any.wild.", RecordType::AAAA, "secure nodata"),
    ("*.wild.", RecordType::A, "secure found 1"),
    ("x.star.", RecordType::A, "secure found 1"),
    ("x.star.", RecordType::MX, "secure nodata"),
    ("tonodata.", RecordType::A, "secure nodata"),
    ("toabsent.", RecordType::A, "secure nxdomain"),
    ("_25._tcp.tree.", RecordType::TLSA, "secure found 1"),
    ("_443._tcp.tree.", RecordType::TLSA, "secure nxdomain"),
    ("tree.", RecordType::A, "secure nodata"),
    ("plain.", RecordType::A, "insecure nodata"),
    ("host.plain.", RecordType::A, "insecure found 1"),
    ("_25._tcp.host.plain.", RecordType::TLSA, "insecure nxdomain"),
    ("host.island.", RecordType::A, "insecure found 1"),
    ("absent.island.", RecordType::A, "insecure nxdomain"),
    ("toplain.", RecordType::A, "insecure found 1"),
    ("toplain.", RecordType::AAAA, "insecure nodata"),
    ("toplainabsent.", RecordType::A, "insecure nxdomain"),
    ("back.plain.", RecordType::A, "insecure found 1"),
    ("host.child.", RecordType::A, "secure found 1"),
    ("up.child.", RecordType::A, "secure found 1"),
    ("absent.child.", RecordType::A, "secure nxdomain"),
    ("child.", RecordType::DS, "secure found 1"),
    ("child.", RecordType::DNSKEY, "secure found 1"),
    ("plain.", RecordType::DS, "secure nodata"),
    ("mail.", RecordType::DS, "secure nodata"),
    ("", RecordType::SOA, "secure found 1"),
];

/// All questions of the table, and a few more, about a zone.
pub(crate) fn questions(zone: &str) -> Vec<(String, RecordType)> {
    let more = [("", RecordType::DNSKEY), ("", RecordType::DS), ("_25._tcp.absent.child.", RecordType::TLSA)];
    let all = TABLE.iter().map(|(owner, rtype, _)| (*owner, *rtype)).chain(more);
    all.map(|(owner, rtype)| (format!("{owner}{zone}"), rtype)).collect()
}

fn hold(world: &World, table: &[(&str, RecordType, &str)], zone: &str) {
    let mut faults = Vec::new();
    for (owner, rtype, expected) in table {
        let found = verdict(world, &format!("{owner}{zone}"), *rtype);
        if super::word(&found) != *expected {
            let why = found.reason.map(|r| r.to_string()).unwrap_or_default();
            faults.push(format!("{owner} {rtype}: {:?} {} not {expected}: {why}", found.security, found.chain.len()));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn rfc4035_5_a_zone_with_nsec_is_judged_as_it_is() {
    hold(&world(p256()), TABLE, "shape.test");
}

#[test]
fn rfc5155_8_a_zone_with_nsec3_is_judged_as_it_is() {
    hold(&world(p256().nsec3(0)), TABLE, "shape.test");
    hold(&world(p256().nsec3(10)), TABLE, "shape.test");
}

#[test]
fn rfc9824_a_zone_with_compact_denial_is_judged_as_it_is() {
    hold(&world(p256().compact()), TABLE, "shape.test");
}

#[test]
fn rfc5155_9_2_opt_out_leaves_open_what_does_not_exist_and_nothing_else() {
    let open = |(owner, rtype, expected): &(&'static str, RecordType, &'static str)| {
        let expected = match (*owner, *expected) {
            // The child zone does without opt-out.
            ("absent.child.", _) => *expected,
            // The denial of a name rests on a range with opt-out.
            (_, "secure nxdomain") => "insecure nxdomain",
            ("any.wild." | "x.any.wild." | "_25._tcp.wild.", "secure found 1") => "insecure found 1",
            ("x.star.", "secure found 1") => "insecure found 1",
            ("any.wild." | "x.star.", "secure nodata") => "insecure nodata",
            ("plain.", "secure nodata") => "insecure nodata",
            (_, other) => other,
        };
        (*owner, *rtype, expected)
    };
    let table: Vec<_> = TABLE.iter().map(open).collect();
    hold(&world(p256().opt_out()), &table, "shape.test");
}

/// RFC 5155 §7.1: with opt-out a name that only unsigned delegations lie below need not be in the chain, and a
/// server that knows of it has nothing to say but the closest encloser and the range (NSD does so).
#[test]
fn rfc5155_9_2_a_range_with_opt_out_leaves_open_what_is_there_whatever_the_wildcard_has() {
    let world = world(p256().opt_out());
    let mut proofs = Vec::new();
    for nth in 0..8 {
        let lone = format!("lone{nth}.shape.test");
        world.add_zone(&format!("unsigned.{lone}"), Signing::Unsigned).unwrap();
        expect(&verdict(&world, &lone, RecordType::A), "insecure nodata");
        expect(&verdict(&world, &lone, RecordType::DS), "insecure nodata");
        proofs.push(world.message(&lone, RecordType::A).unwrap().authorities);
    }
    let about_the_wildcard = world.proof("shape.test", "*.shape.test").unwrap();
    let silent = |proof: &&Vec<Record>| !proof.iter().any(|record| about_the_wildcard.contains(record));
    assert!(proofs.iter().filter(silent).count() > 0, "in some of them nothing is said of the wildcard");
}

#[test]
fn rfc9276_3_2_denials_with_too_many_iterations_are_insecure() {
    let world = world(p256().nsec3(EXCESSIVE_ITERATIONS));
    expect(&verdict(&world, "_25._tcp.mail.shape.test", RecordType::TLSA), "secure found 1");
    expect(&verdict(&world, "absent.shape.test", RecordType::A), "insecure nxdomain");
    expect(&verdict(&world, "host.plain.shape.test", RecordType::A), "insecure found 1");
    let world = self::world(p256().nsec3(150));
    expect(&verdict(&world, "absent.shape.test", RecordType::A), "secure nxdomain");
}

#[test]
fn every_algorithm_we_know_validates_and_the_others_are_insecure() {
    for (algorithm, expected) in [
        (KeyAlgorithm::RsaSha256, "secure found 1"),
        (KeyAlgorithm::RsaSha512, "secure found 1"),
        (KeyAlgorithm::EcdsaP256, "secure found 1"),
        (KeyAlgorithm::EcdsaP384, "secure found 1"),
        (KeyAlgorithm::Ed25519, "secure found 1"),
        // RFC 4035 §5.2 and RFC 9905 §2.
        (KeyAlgorithm::RsaSha1, "insecure found 1"),
        (KeyAlgorithm::RsaSha1Nsec3, "insecure found 1"),
        (KeyAlgorithm::Unknown(253), "insecure found 1"),
    ] {
        let world = world(SigningPlan::split(algorithm, algorithm));
        let found = verdict(&world, "_25._tcp.mail.shape.test", RecordType::TLSA);
        assert_eq!(super::word(&found), expected, "{algorithm:?}: {:?}", found.reason);
    }
}

#[test]
fn rfc4035_5_2_ds_digests_we_know_count_and_a_zone_with_others_only_is_insecure() {
    let ds = |of, digest| DsSpec::new(of, digest);
    let key = DsOf::Key(0);
    let stranger = DsOf::Stranger(KeyAlgorithm::EcdsaP256);
    for (records, expected) in [
        (vec![ds(key, DigestType::SHA256)], "secure found 1"),
        (vec![ds(key, DigestType::SHA384)], "secure found 1"),
        (vec![ds(key, DigestType::SHA1)], "secure found 1"),
        (vec![ds(key, DigestType::from(77))], "insecure found 1"),
        (vec![ds(key, DigestType::SHA1), ds(key, DigestType::from(77))], "secure found 1"),
        (vec![ds(stranger, DigestType::SHA1)], "bogus"),
        (vec![ds(DsOf::Damaged(0), DigestType::SHA1)], "bogus"),
        // The better digest is of an algorithm that we do not know, and so of no use.
        (
            vec![ds(DsOf::Stranger(KeyAlgorithm::Unknown(253)), DigestType::SHA256), ds(key, DigestType::SHA1)],
            "secure found 1",
        ),
        (vec![ds(key, DigestType::SHA256), ds(key, DigestType::SHA1)], "secure found 1"),
        (vec![ds(stranger, DigestType::SHA256), ds(key, DigestType::SHA256)], "secure found 1"),
        // A good SHA-1 digest does not help against a bad SHA-256 one.
        (vec![ds(DsOf::Damaged(0), DigestType::SHA256), ds(key, DigestType::SHA1)], "bogus"),
        (vec![ds(stranger, DigestType::SHA256), ds(key, DigestType::from(77))], "bogus"),
        (vec![ds(DsOf::Stranger(KeyAlgorithm::RsaSha1), DigestType::SHA256)], "insecure found 1"),
    ] {
        let world = world(p256().ds(records.clone()));
        let found = verdict(&world, "mail.shape.test", RecordType::A);
        assert_eq!(super::word(&found), expected, "{records:?}: {:?}", found.reason);
    }
}

#[test]
fn rfc6840_5_11_one_algorithm_that_we_know_is_enough() {
    let unknown = KeySpec::new(KeyAlgorithm::Unknown(253), Role::Combined);
    let plan = p256()
        .key(unknown)
        .ds([DsSpec::new(DsOf::Key(0), DigestType::SHA256), DsSpec::new(DsOf::Key(1), DigestType::SHA256)]);
    expect(&verdict(&world(plan), "mail.shape.test", RecordType::A), "secure found 1");
}

#[test]
fn tlsa_sets_of_all_sizes_are_found_whole() {
    let world = world(p256());
    for count in [1_u8, 4, 5, 9, 60] {
        let data = (1..=count).map(tlsa).collect();
        world.replace("_25._tcp.mail.shape.test", RecordType::TLSA, data).unwrap();
        expect(&verdict(&world, "_25._tcp.mail.shape.test", RecordType::TLSA), &format!("secure found {count}"));
    }
}

#[test]
fn rfc7672_2_1_3_an_alias_chain_is_as_secure_as_its_weakest_link() {
    let world = world(p256());
    world.add_cname("via.shape.test", "back.plain.shape.test").unwrap();
    let found = verdict(&world, "via.shape.test", RecordType::A);
    expect(&found, "insecure found 1");
    let Outcome::Found { aliases, name, .. } = found.outcome else { panic!() };
    let steps: Vec<_> = aliases.iter().map(|a| (a.from.to_ascii(), a.security)).collect();
    let expected = [("via.shape.test.", Security::Secure), ("back.plain.shape.test.", Security::Insecure)];
    assert_eq!(steps, expected.map(|(name, security)| (name.to_owned(), security)));
    assert_eq!(name, super::name("mail.shape.test"));
}

#[test]
fn rfc4034_6_2_names_are_compared_and_signed_without_case() {
    let world = world(p256());
    let mixed = Resolver::new(&world).verdict_by("_25._TCP.MaIl.shape.TEST", RecordType::TLSA, |_, _, message| {
        for record in message.answers.iter_mut().chain(&mut message.authorities) {
            record.name = name(&record.name.to_ascii().to_uppercase());
        }
    });
    expect(&mixed, "secure found 1");
}

#[test]
fn a_server_that_does_not_follow_aliases_is_asked_for_the_rest() {
    let world = world(p256());
    let mut resolver = Resolver::new(&world);
    let cut = resolver.verdict_by("c0.shape.test", RecordType::A, |asked, rtype, message| {
        if rtype == RecordType::A {
            message.answers.retain(|r| r.name == name(asked));
        }
    });
    expect(&cut, "secure found 1");
    assert!(resolver.asked.contains(&(name("mail.shape.test"), RecordType::A)));
}

#[test]
fn rfc4035_4_7_zones_are_walked_once() {
    let world = world(p256());
    let mut resolver = Resolver::new(&world);
    expect(&resolver.verdict("_25._tcp.mail.shape.test", RecordType::TLSA), "secure found 1");
    let expected = [("", "DNSKEY"), ("test", "DS"), ("test", "DNSKEY"), ("shape.test", "DS"), ("shape.test", "DNSKEY")];
    let asked: Vec<_> = resolver.asked.iter().map(|(n, t)| (n.to_ascii(), t.to_string())).collect();
    assert_eq!(asked, expected.map(|(n, t)| (format!("{n}."), t.to_owned())));
    expect(&resolver.verdict("shape.test", RecordType::MX), "secure found 1");
    expect(&resolver.verdict("nowhere.shape.test", RecordType::MX), "secure nxdomain");
    assert_eq!(resolver.asked.len(), expected.len());
}

/// Roll-overs of all kinds: what counts is the work, and what fits no key costs none.
#[test]
fn rfc6781_4_1_many_keys_and_signatures_are_sound() {
    let p256 = KeyAlgorithm::EcdsaP256;
    let keys = |many: &[(usize, KeyAlgorithm, Role)]| -> Vec<KeySpec> {
        many.iter().flat_map(|(count, of, role)| std::iter::repeat_n(KeySpec::new(*of, *role), *count)).collect()
    };
    for (keys, entry) in [
        (keys(&[(8, p256, Role::KeySigning), (1, p256, Role::ZoneSigning)]), 7),
        (keys(&[(40, p256, Role::Standby), (1, p256, Role::Combined)]), 40),
        (keys(&[(12, p256, Role::KeySigning), (12, p256, Role::ZoneSigning)]), 11),
        (
            keys(&[
                (2, KeyAlgorithm::EcdsaP384, Role::KeySigning),
                (2, KeyAlgorithm::Ed25519, Role::KeySigning),
                (2, KeyAlgorithm::EcdsaP384, Role::ZoneSigning),
                (2, KeyAlgorithm::Ed25519, Role::ZoneSigning),
            ]),
            3,
        ),
    ] {
        let plan = SigningPlan { keys, ..self::p256() }.nsec3(0);
        let world = world(plan.ds([DsSpec::new(DsOf::Key(entry), DigestType::SHA256)]));
        for (question, rtype, expected) in [
            ("_25._tcp.mail.shape.test", RecordType::TLSA, "secure found 1"),
            ("any.wild.shape.test", RecordType::A, "secure found 1"),
            ("absent.shape.test", RecordType::A, "secure nxdomain"),
        ] {
            expect(&verdict(&world, question, rtype), expected);
        }
    }
}

#[test]
fn rfc6781_4_1_signatures_of_keys_that_are_gone_cost_nothing() {
    let world = world(p256());
    let found = Resolver::new(&world).verdict_by("mail.shape.test", RecordType::A, |_, _, message| {
        for section in [&mut message.answers, &mut message.authorities] {
            let old: Vec<Record> = section.iter().flat_map(of_other_keys).collect();
            section.splice(0..0, old);
        }
    });
    expect(&found, "secure found 1");
}

/// A signature as keys with other tags would have made it; none of another record.
fn of_other_keys(record: &Record) -> Vec<Record> {
    let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data else { return Vec::new() };
    let with_tag = |step: u16| {
        let mut input = rrsig.input().clone();
        input.key_tag = input.key_tag.wrapping_add(step);
        let data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, rrsig.sig().to_vec())));
        Record::from_rdata(record.name.clone(), record.ttl, data)
    };
    (1..40).map(with_tag).collect()
}

#[test]
fn rfc6605_4_aliases_over_many_zones_with_the_dearest_signatures_are_sound() {
    let world = new_world();
    let plan = || SigningPlan::split(KeyAlgorithm::EcdsaP384, KeyAlgorithm::EcdsaP384);
    for zone in 0..5 {
        world.add_zone(&format!("zone{zone}.test"), plan()).unwrap();
        world.add_cname(&format!("a.zone{zone}.test"), &format!("a.zone{}.test", zone + 1)).unwrap();
    }
    world.add_zone("zone5.test", plan().nsec3(0)).unwrap();
    world.add("*.zone5.test", a_record()).unwrap();
    expect(&verdict(&world, "a.zone0.test", RecordType::A), "secure found 1");
    expect(&verdict(&world, "a.zone0.test", RecordType::TLSA), "secure nodata");
}

/// A record that cannot be used belongs to its set all the same: it is signed with the others, and
/// skipped.
#[test]
fn rfc4034_2_1_2_an_odd_record_in_a_set_is_skipped() {
    let world = world(p256().nsec3(0));
    let odd = |code, data: &[u8]| RData::Unknown { code, rdata: NULL::with(data.to_vec()) };
    let mut keys: Vec<RData> =
        of_type(&world.message("shape.test", RecordType::DNSKEY).unwrap().answers, RecordType::DNSKEY)
            .into_iter()
            .map(|r| r.data)
            .collect();
    keys.insert(0, odd(RecordType::DNSKEY, &[1, 0, 2, 13, 1, 2, 3]));
    world.replace("shape.test", RecordType::DNSKEY, keys).unwrap();
    expect(&verdict(&world, "_25._tcp.mail.shape.test", RecordType::TLSA), "secure found 1");
    // Beside a sound proof, an NSEC3 record with flags that nobody knows (RFC 5155 §8.2).
    let set = LabSet {
        owner: name("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.shape.test"),
        rtype: RecordType::NSEC3,
        ttl_s: 60,
        data: vec![odd(RecordType::NSEC3, &[1, 0x82, 0, 0, 0, 1, 9, 0, 1, 0x40])],
    };
    let strange = world.signed("shape.test", &set, None).unwrap();
    let denied = Resolver::new(&world).verdict_by("absent.shape.test", RecordType::A, |_, rtype, message| {
        if rtype == RecordType::A {
            message.authorities.splice(0..0, strange.clone());
        }
    });
    expect(&denied, "secure nxdomain");
}
