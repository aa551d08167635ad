//! An attacker on the path: what is signed is never taken for absent or insecure.
//!
//! Each scene says what is asked, which messages are touched and how. The attacker has all that
//! the zones ever publish, owns a signed zone and an unsigned one, and has no key of others.

use super::{Resolver, a_record, name, new_world, of_type, tlsa};
use dane_relay::lab::SignatureFault;
use dane_relay::lab::dns::plan::{KeyAlgorithm, Signing, SigningPlan};
use dane_relay::lab::dns::rrset::ZoneRrSet;
use dane_relay::lab::dns::world::World;
use dane_relay::lab::dns::zone::dname;
use dane_relay::resolve::Security;
use dane_relay::resolve::dnssec::{Outcome, Validated};
use hickory_proto::dnssec::Algorithm;
use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC, RRSIG};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, MX, NS};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

pub(crate) const TLSA: &str = "_25._tcp.mail.bank.test";

/// One message to touch, and how.
pub(crate) type Touch = (&'static str, RecordType, fn(&World, &mut Message));

/// One attack.
pub(crate) struct Scene {
    pub(crate) title: &'static str,
    pub(crate) question: &'static str,
    pub(crate) rtype: RecordType,
    pub(crate) touches: &'static [Touch],
}

/// A bank with signed mail hosts, in four ways to deny; its neighbours; the attacker's own zones.
pub(crate) fn bank() -> World {
    let world = new_world();
    let p256 = || SigningPlan::signed(KeyAlgorithm::EcdsaP256);
    for (zone, plan) in [
        ("bank.test", p256()),
        ("n3.test", p256().nsec3(5)),
        ("opt.test", p256().opt_out()),
        ("compact.test", p256().compact()),
        ("sibling.test", p256()),
        ("evil.test", p256()),
    ] {
        world.add_zone(zone, plan).unwrap();
        let at = |owner: &str| format!("{owner}.{zone}");
        world.add(zone, RData::MX(MX::new(10, name(&at("mail"))))).unwrap();
        for owner in ["mail", "*.wc", "h.wc", "zz", "aa"] {
            world.add(&at(owner), a_record()).unwrap();
        }
        for owner in ["_25._tcp.mail", "_25._tcp.h.wc", "_25._tcp.set"] {
            world.add(&at(owner), tlsa(1)).unwrap();
        }
        world.add(&at("_25._tcp.set"), tlsa(2)).unwrap();
        world.add(&at("*._tcp.wild"), tlsa(1)).unwrap();
        // Has records of its own, beside a wildcard that says something else.
        world.add(&at("_25._tcp.both"), tlsa(1)).unwrap();
        world.add(&at("*._tcp.both"), tlsa(66)).unwrap();
        world.add(&at("*.deep"), tlsa(66)).unwrap();
        world.add(&at("_25._tcp.x.deep"), tlsa(1)).unwrap();
        world.add_cname(&at("_25._tcp.alias"), &at("_25._tcp.mail")).unwrap();
        world.add(&at("tree"), dname(&name(&at("mail"))).unwrap()).unwrap();
        world.add_zone(&at("sub"), p256()).unwrap();
        world.add(&at("sub"), RData::MX(MX::new(10, name(&at("mail.sub"))))).unwrap();
        world.add(&at("_25._tcp.mail.sub"), tlsa(1)).unwrap();
        world.add(&at("mail.sub"), a_record()).unwrap();
        world.add_zone(&at("plain"), Signing::Unsigned).unwrap();
        world.add(&at("_25._tcp.mail.plain"), tlsa(66)).unwrap();
    }
    world.add_zone("evilplain.test", Signing::Unsigned).unwrap();
    world.add("_25._tcp.mail.evilplain.test", tlsa(66)).unwrap();
    world
}

/// Takes all signatures out of the answer.
pub(crate) fn strip(_: &World, message: &mut Message) {
    message.answers.retain(|r| r.record_type() != RecordType::RRSIG);
}

/// Empties the message.
pub(crate) fn empty(_: &World, message: &mut Message) {
    message.answers.clear();
    message.authorities.clear();
}

fn strip_all(_: &World, message: &mut Message) {
    for section in [&mut message.answers, &mut message.authorities] {
        section.retain(|r| !matches!(r.data, RData::DNSSEC(_)));
    }
}

/// Replaces the message by a denial with these records.
pub(crate) fn denial(message: &mut Message, code: ResponseCode, proof: Vec<Record>) {
    message.answers.clear();
    message.authorities = proof;
    message.metadata.response_code = code;
}

pub(crate) fn soa(world: &World, zone: &str) -> Vec<Record> {
    let message = world.message(&format!("no-such-name.{zone}"), RecordType::A).unwrap();
    let of_soa = |r: &Record| {
        let covers = |data: &RData| matches!(data, RData::DNSSEC(DNSSECRData::RRSIG(s)) if s.input().type_covered == RecordType::SOA);
        r.record_type() == RecordType::SOA || covers(&r.data)
    };
    message.authorities.into_iter().filter(of_soa).collect()
}

/// The truth, or nothing: the true records, signed, or a refusal to say anything.
pub(crate) fn is_fooled(verdict: &Validated) -> bool {
    match (&verdict.outcome, verdict.security) {
        (_, Security::Bogus | Security::Indeterminate) => false,
        (Outcome::Found { records, .. }, Security::Secure) => {
            let bad = |r: &Record| r.data == tlsa(66);
            let short = records.len() != 1 && records.len() != 2;
            short || records.iter().any(bad)
        }
        _ => true,
    }
}

fn forge_unsigned(_: &World, message: &mut Message) {
    let (owner, rtype) = (message.queries[0].name().clone(), message.queries[0].query_type());
    let data = if rtype == RecordType::MX { RData::MX(MX::new(1, name("mail.evilplain.test"))) } else { tlsa(66) };
    message.answers = vec![Record::from_rdata(owner, 60, data)];
    message.authorities.clear();
}

fn each_signature(message: &mut Message, change: impl Fn(&mut hickory_proto::dnssec::rdata::SigInput)) {
    for record in message.answers.iter_mut().chain(&mut message.authorities) {
        if let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data {
            let mut input = rrsig.input().clone();
            change(&mut input);
            record.data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, rrsig.sig().to_vec())));
        }
    }
}

fn signed_by(world: &World, zone: &str, owner: &str, data: RData) -> Vec<Record> {
    let set = ZoneRrSet { owner: name(owner), rtype: data.record_type(), ttl_s: 60, data: vec![data] };
    world.signed(zone, &set, None).unwrap()
}

fn alias_to(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
}

const POSITIVE: &[Scene] = &[
    Scene {
        title: "the signature of TLSA is stripped",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, strip)],
    },
    Scene {
        title: "the signature of MX is stripped",
        question: "bank.test",
        rtype: RecordType::MX,
        touches: &[("bank.test", RecordType::MX, strip)],
    },
    Scene {
        title: "all of DNSSEC is stripped from the answer",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, strip_all)],
    },
    Scene {
        title: "DNSSEC is stripped from answer and DS",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, strip_all), ("bank.test", RecordType::DS, strip_all)],
    },
    Scene {
        title: "DNSSEC is stripped from the root on",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, strip_all), ("", RecordType::DNSKEY, strip_all)],
    },
    Scene {
        title: "unsigned records replace TLSA",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, forge_unsigned)],
    },
    Scene {
        title: "unsigned records replace MX",
        question: "bank.test",
        rtype: RecordType::MX,
        touches: &[("bank.test", RecordType::MX, forge_unsigned)],
    },
    Scene {
        title: "a record is added to a signed set",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| m.answers.push(Record::from_rdata(name(TLSA), 60, tlsa(66))))],
    },
    Scene {
        title: "a record is taken out of a signed set",
        question: "_25._tcp.set.bank.test",
        rtype: RecordType::TLSA,
        touches: &[("_25._tcp.set.bank.test", RecordType::TLSA, |_, m| m.answers.retain(|r| r.data != tlsa(2)))],
    },
    Scene {
        title: "the signature of another type is there instead",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            strip(w, m);
            let other = of_type(&w.message("mail.bank.test", RecordType::A).unwrap().answers, RecordType::RRSIG);
            m.answers.extend(other.into_iter().map(|mut r| {
                r.name = name(TLSA);
                r
            }));
        })],
    },
    Scene {
        title: "the signature of another type says it covers this one",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            strip(w, m);
            m.answers.extend(
                of_type(&w.message("mail.bank.test", RecordType::A).unwrap().answers, RecordType::RRSIG)
                    .into_iter()
                    .map(|mut r| {
                        r.name = name(TLSA);
                        r
                    }),
            );
            each_signature(m, |input| {
                input.type_covered = RecordType::TLSA;
                input.num_labels = 5;
            });
        })],
    },
    Scene {
        title: "the signature is of a sibling zone",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| m.answers = signed_by(w, "sibling.test", TLSA, tlsa(66)))],
    },
    Scene {
        title: "the signature is of a child zone",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| m.answers = signed_by(w, "sub.bank.test", TLSA, tlsa(66)))],
    },
    Scene {
        title: "a foreign signature says it is of the bank",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            m.answers = signed_by(w, "evil.test", TLSA, tlsa(66));
            each_signature(m, |input| input.signer_name = name("bank.test"));
        })],
    },
    Scene {
        title: "the signature names a zone below, which does not exist",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            forge_unsigned(w, m);
            m.answers.extend(signed_by(w, "evil.test", TLSA, tlsa(66)).into_iter().skip(1));
            each_signature(m, |i| i.signer_name = name("mail.bank.test"));
        })],
    },
    Scene {
        title: "the signature has an algorithm that nobody knows",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| {
            each_signature(m, |input| input.algorithm = Algorithm::Unknown(253))
        })],
    },
    Scene {
        title: "the signature counts fewer labels",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| each_signature(m, |input| input.num_labels = 2))],
    },
    Scene {
        title: "the window of an old signature is moved",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| {
            each_signature(m, |input| input.sig_expiration = (input.sig_expiration.get() + 86_400).into())
        })],
    },
    Scene {
        title: "a wildcard stands for a name that exists",
        question: "_25._tcp.both.bank.test",
        rtype: RecordType::TLSA,
        touches: &[("_25._tcp.both.bank.test", RecordType::TLSA, |w, m| {
            *m = w.message("_26._tcp.both.bank.test", RecordType::TLSA).unwrap();
            m.answers.iter_mut().for_each(|r| r.name = name("_25._tcp.both.bank.test"));
        })],
    },
    Scene {
        title: "a wildcard stands in without a proof",
        question: "_25._tcp.wild.bank.test",
        rtype: RecordType::TLSA,
        touches: &[("_25._tcp.wild.bank.test", RecordType::TLSA, |_, m| m.authorities.clear())],
    },
    Scene {
        title: "a wildcard jumps over a name that exists",
        question: "_26._tcp.x.deep.bank.test",
        rtype: RecordType::TLSA,
        touches: &[("_26._tcp.x.deep.bank.test", RecordType::TLSA, |w, m| {
            let proof = w.message("_26._tcp.x.deep.bank.test", RecordType::TLSA).unwrap().authorities;
            *m = w.message("other.deep.bank.test", RecordType::TLSA).unwrap();
            m.authorities.extend(proof);
            m.answers.iter_mut().for_each(|r| r.name = name("_26._tcp.x.deep.bank.test"));
        })],
    },
    Scene {
        title: "a parent's wildcard stands for a name in a signed child",
        question: "_25._tcp.mail.sub.bank.test",
        rtype: RecordType::TLSA,
        touches: &[("_25._tcp.mail.sub.bank.test", RecordType::TLSA, |w, m| {
            m.answers = signed_by(w, "bank.test", "*.bank.test", tlsa(66));
            m.answers.iter_mut().for_each(|r| r.name = name("_25._tcp.mail.sub.bank.test"));
            m.authorities = w.proof("bank.test", "sub.bank.test").unwrap();
        })],
    },
    Scene {
        title: "an unsigned CNAME leads into an unsigned zone",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            *m = w.message("_25._tcp.mail.evilplain.test", RecordType::TLSA).unwrap();
            m.answers.insert(0, alias_to(TLSA, "_25._tcp.mail.evilplain.test"));
        })],
    },
    Scene {
        title: "a CNAME that the attacker's zone signed",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            m.answers = signed_by(w, "evil.test", TLSA, RData::CNAME(CNAME(name("_25._tcp.mail.evilplain.test"))))
        })],
    },
    Scene {
        title: "the target of a signed CNAME is changed",
        question: "_25._tcp.alias.bank.test",
        rtype: RecordType::TLSA,
        touches: &[("_25._tcp.alias.bank.test", RecordType::TLSA, |w, m| {
            let signature = of_type(&m.answers, RecordType::RRSIG);
            *m = w.message("_25._tcp.mail.evilplain.test", RecordType::TLSA).unwrap();
            m.answers.insert(0, alias_to("_25._tcp.alias.bank.test", "_25._tcp.mail.evilplain.test"));
            m.answers.extend(signature);
        })],
    },
    Scene {
        title: "the CNAME of a DNAME leads elsewhere",
        question: "_25._tcp.tree.bank.test",
        rtype: RecordType::TLSA,
        touches: &[("_25._tcp.tree.bank.test", RecordType::TLSA, |w, m| {
            m.answers.retain(|r| r.name == name("tree.bank.test"));
            m.answers.push(alias_to("_25._tcp.tree.bank.test", "_25._tcp.mail.evilplain.test"));
            m.answers.extend(w.message("_25._tcp.mail.evilplain.test", RecordType::TLSA).unwrap().answers);
        })],
    },
    Scene {
        title: "the DNAME is taken away and its CNAME stays",
        question: "_25._tcp.tree.bank.test",
        rtype: RecordType::TLSA,
        touches: &[("_25._tcp.tree.bank.test", RecordType::TLSA, |_, m| {
            m.answers.retain(|r| r.name != name("tree.bank.test"))
        })],
    },
    Scene {
        title: "a DNAME without signature above a signed name",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            m.answers = vec![
                Record::from_rdata(name("mail.bank.test"), 60, dname(&name("mail.evilplain.test")).unwrap()),
                alias_to(TLSA, "_25._tcp.mail.evilplain.test"),
            ];
            m.answers.extend(w.message("_25._tcp.mail.evilplain.test", RecordType::TLSA).unwrap().answers);
        })],
    },
    Scene {
        title: "a DNAME that the attacker's zone signed",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            m.answers = signed_by(w, "evil.test", "bank.test", dname(&name("evilplain.test")).unwrap())
        })],
    },
    Scene {
        title: "the records stand in the additional section only",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| {
            let records = std::mem::take(&mut m.answers);
            m.add_additionals(records);
        })],
    },
    Scene {
        title: "the records stand in the authority section only",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| m.authorities = std::mem::take(&mut m.answers))],
    },
    Scene {
        title: "all records are of class CH",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| m.answers.iter_mut().for_each(|r| r.dns_class = DNSClass::CH))],
    },
    Scene {
        title: "a forged set of class CH beside the true one",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| {
            let mut r = Record::from_rdata(name(TLSA), 60, tlsa(66));
            r.dns_class = DNSClass::CH;
            m.answers.insert(0, r);
        })],
    },
    Scene {
        title: "records of other zones around the true ones",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            m.answers.insert(0, Record::from_rdata(name("_25._tcp.mail.evilplain.test"), 60, tlsa(66)));
            m.answers.extend(w.message("_25._tcp.mail.sibling.test", RecordType::TLSA).unwrap().answers);
            m.authorities.extend(soa(w, "evil.test"));
            m.authorities.extend(w.proof("evil.test", "_25._tcp.mail.evil.test").unwrap());
            m.authorities.push(Record::from_rdata(name("bank.test"), 60, RData::NS(NS(name("ns.evil.test")))));
        })],
    },
    Scene {
        title: "NXDOMAIN above true records",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| m.metadata.response_code = ResponseCode::NXDomain)],
    },
    Scene {
        title: "SERVFAIL above true records",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| m.metadata.response_code = ResponseCode::ServFail)],
    },
    Scene {
        title: "NOTIMP instead of records",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            empty(w, m);
            m.metadata.response_code = ResponseCode::NotImp;
        })],
    },
    Scene {
        title: "REFUSED instead of DS",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[("bank.test", RecordType::DS, |w, m| {
            empty(w, m);
            m.metadata.response_code = ResponseCode::Refused;
        })],
    },
    Scene {
        title: "a truncated, empty answer",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            empty(w, m);
            m.metadata.truncation = true;
        })],
    },
    Scene {
        title: "more records than anyone reads",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |_, m| {
            m.answers.extend((0..1000).map(|n| Record::from_rdata(name(TLSA), n, a_record())))
        })],
    },
    Scene {
        title: "a referral to the attacker's servers",
        question: TLSA,
        rtype: RecordType::TLSA,
        touches: &[(TLSA, RecordType::TLSA, |w, m| {
            empty(w, m);
            m.authorities.push(Record::from_rdata(name("mail.bank.test"), 60, RData::NS(NS(name("ns.evil.test")))));
        })],
    },
];

#[test]
fn rfc4035_5_forged_answers_are_never_believed() {
    play(POSITIVE);
}

/// Plays all scenes against the bank, and once more when everything about its zones is known.
pub(crate) fn play(scenes: &[Scene]) {
    let world = bank();
    let mut faults = Vec::new();
    for scene in scenes {
        let truth = super::verdict(&world, scene.question, scene.rtype);
        assert_eq!(truth.security, Security::Secure, "{}: the truth: {:?}", scene.title, truth.reason);
        let warm = {
            let mut resolver = Resolver::new(&world);
            resolver.verdict(scene.question, scene.rtype);
            resolver.verdict("bank.test", RecordType::SOA);
            resolver
        };
        for (known, mut resolver) in [("nothing", Resolver::new(&world)), ("all", warm)] {
            let touched = std::cell::Cell::new(false);
            let verdict = resolver.verdict_by(scene.question, scene.rtype, |asked, rtype, message| {
                let here = scene.touches.iter().filter(|(at, of, _)| *at == asked && *of == rtype);
                here.for_each(|(_, _, touch)| {
                    touch(&world, message);
                    touched.set(true);
                });
            });
            if is_fooled(&verdict) {
                faults.push(format!("{} ({known} known): {}", scene.title, super::word(&verdict)));
            }
            assert!(touched.get() || known == "all", "{}: the attack did not take place", scene.title);
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn rfc4035_5_3_1_each_faulty_signature_is_refused() {
    let world = bank();
    for fault in [
        SignatureFault::Expired,
        SignatureFault::NotYetValid,
        SignatureFault::Bogus,
        SignatureFault::Missing,
        SignatureFault::WrongSigner,
        SignatureFault::TooFewLabels,
        SignatureFault::TooManyLabels,
        SignatureFault::WrongTag,
        SignatureFault::WrongAlgorithm,
    ] {
        for (question, rtype) in
            [(TLSA, RecordType::TLSA), ("bank.test", RecordType::DNSKEY), ("bank.test", RecordType::DS)]
        {
            world.fault(question, rtype, dane_relay::lab::AnswerFault::Signature(fault)).unwrap();
            let verdict = super::verdict(&world, TLSA, RecordType::TLSA);
            assert_eq!(verdict.security, Security::Bogus, "{fault:?} of {rtype}");
            world.fault(question, rtype, None).unwrap();
        }
    }
}

pub(crate) fn nsec(next: &str, types: &[RecordType]) -> RData {
    RData::DNSSEC(DNSSECRData::NSEC(NSEC::new_cover_self(name(next), types.iter().copied())))
}

pub(crate) fn rename(records: &mut [Record], from: &str, to: &Name) {
    let from = name(from);
    records.iter_mut().filter(|r| r.name == from).for_each(|r| r.name = to.clone());
}
