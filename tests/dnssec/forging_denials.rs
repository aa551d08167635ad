//! The attacker says that there is nothing, or that nothing is signed: with proofs that were made
//! for something else, stripped, mixed, renamed and rewritten.

use super::forging::{Scene, TLSA, bank, denial, empty, nsec, play, rename, soa, strip};
use super::name;
use dane_relay::lab::dns::rrset::ZoneRrSet;
use dane_relay::lab::dns::world::World;
use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC3};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};

pub(crate) const NO_ERROR: ResponseCode = ResponseCode::NoError;
pub(crate) const NX_DOMAIN: ResponseCode = ResponseCode::NXDomain;
const SUB: &str = "_25._tcp.mail.sub.bank.test";
const N3: &str = "_25._tcp.mail.n3.test";
const OPT: &str = "_25._tcp.mail.opt.test";
const OPT_SUB: &str = "_25._tcp.mail.sub.opt.test";
const COMPACT: &str = "_25._tcp.mail.compact.test";

/// The SOA of a zone and its proofs for these names, all signed by the zone.
pub(crate) fn with_proofs(world: &World, zone: &str, names: &[&str]) -> Vec<Record> {
    let mut records = soa(world, zone);
    for owner in names {
        for record in world.proof(zone, owner).unwrap() {
            if !records.contains(&record) {
                records.push(record);
            }
        }
    }
    records
}

/// Every denial record that a zone has, as far as ten are enough to meet them.
fn all_proofs(world: &World, zone: &str) -> Vec<Record> {
    let names = ["", "mail.", "aa.", "zz.", "_tcp.mail.", "sub.", "a.", "b.", "c.", "d.", "e."];
    let names: Vec<String> = names.iter().map(|owner| format!("{owner}{zone}")).collect();
    with_proofs(world, zone, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The same but for the records of these names.
fn proofs_without(world: &World, zone: &str, names: &[&str]) -> Vec<Record> {
    let left_out: Vec<Record> = names.iter().flat_map(|owner| world.proof(zone, owner).unwrap()).collect();
    let mut records = all_proofs(world, zone);
    records.retain(|record| !left_out.contains(record));
    records
}

fn unsigned(mut records: Vec<Record>) -> Vec<Record> {
    records.retain(|r| r.record_type() != RecordType::RRSIG);
    records
}

/// Changes the NSEC3 records and leaves the signatures as they were.
fn each_nsec3(message: &mut Message, change: impl Fn(&NSEC3) -> NSEC3) {
    for record in &mut message.authorities {
        if let RData::DNSSEC(DNSSECRData::NSEC3(data)) = &record.data {
            record.data = RData::DNSSEC(DNSSECRData::NSEC3(change(data)));
        }
    }
}

fn nsec3(data: &NSEC3, flags: Flags, iterations: u16, salt: &[u8]) -> NSEC3 {
    let opt_out = flags == Flags::OptOut;
    let next = data.next_hashed_owner_name().to_vec();
    NSEC3::new(data.hash_algorithm(), opt_out, iterations, salt.to_vec(), next, data.type_bit_maps())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flags {
    None,
    OptOut,
}

pub(crate) fn forged_nsec(zone: &str, owner: &str, world: &World) -> Vec<Record> {
    let data = vec![nsec(&format!("zzz.{owner}"), &[RecordType::A])];
    world.signed(zone, &ZoneRrSet { owner: name(owner), rtype: RecordType::NSEC, ttl_s: 60, data }, None).unwrap()
}

pub(crate) const T: RecordType = RecordType::TLSA;
pub(crate) const DS: RecordType = RecordType::DS;

const NOTHING_THERE: &[Scene] = &[
    Scene { title: "an empty answer", question: TLSA, rtype: T, touches: &[(TLSA, T, empty)] },
    Scene {
        title: "a bare NXDOMAIN",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |_, m| denial(m, NX_DOMAIN, vec![]))],
    },
    Scene {
        title: "a bare NXDOMAIN for MX",
        question: "bank.test",
        rtype: RecordType::MX,
        touches: &[("bank.test", RecordType::MX, |_, m| denial(m, NX_DOMAIN, vec![]))],
    },
    Scene {
        title: "an unsigned SOA",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NO_ERROR, unsigned(soa(w, "bank.test"))))],
    },
    Scene {
        title: "a signed SOA without NSEC",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NO_ERROR, soa(w, "bank.test")))],
    },
    Scene {
        title: "NXDOMAIN with a signed SOA",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NX_DOMAIN, soa(w, "bank.test")))],
    },
    Scene {
        title: "the SOA of an unsigned zone",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NO_ERROR, soa(w, "evilplain.test")))],
    },
    Scene {
        title: "a made-up NSEC without signature",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| {
            let mut p = soa(w, "bank.test");
            p.push(Record::from_rdata(name(TLSA), 60, nsec("zz.bank.test", &[RecordType::A])));
            denial(m, NO_ERROR, p);
        })],
    },
    Scene {
        title: "a made-up NSEC signed by a sibling zone",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NO_ERROR, forged_nsec("sibling.test", TLSA, w)))],
    },
    Scene {
        title: "a made-up NSEC signed by a child zone",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NO_ERROR, forged_nsec("sub.bank.test", TLSA, w)))],
    },
    Scene {
        title: "the NSEC of the host",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NO_ERROR, with_proofs(w, "bank.test", &["mail.bank.test"])))],
    },
    Scene {
        title: "the NSEC of the apex",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NX_DOMAIN, with_proofs(w, "bank.test", &["bank.test"])))],
    },
    Scene {
        title: "the NSEC of the name itself, which lists TLSA",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NO_ERROR, with_proofs(w, "bank.test", &[TLSA])))],
    },
    Scene {
        title: "every NSEC there is",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "bank.test")))],
    },
    Scene {
        title: "every NSEC there is, for MX",
        question: "bank.test",
        rtype: RecordType::MX,
        touches: &[("bank.test", RecordType::MX, |w, m| denial(m, NO_ERROR, all_proofs(w, "bank.test")))],
    },
    Scene {
        title: "the denial of another name, renamed",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| {
            let mut p = with_proofs(w, "bank.test", &["mail.bank.test"]);
            rename(&mut p, "mail.bank.test", &name(TLSA));
            denial(m, NO_ERROR, p);
        })],
    },
    Scene {
        title: "the bitmap without TLSA",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| {
            let mut p = with_proofs(w, "bank.test", &[TLSA]);
            p.iter_mut()
                .filter(|r| r.record_type() == RecordType::NSEC)
                .for_each(|r| r.data = nsec("zz.bank.test", &[RecordType::A]));
            denial(m, NO_ERROR, p);
        })],
    },
    Scene {
        title: "the next name moved",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| {
            let mut p = with_proofs(w, "bank.test", &["mail.bank.test"]);
            p.iter_mut()
                .filter(|r| r.record_type() == RecordType::NSEC)
                .for_each(|r| r.data = nsec("zz.bank.test", &[RecordType::A]));
            denial(m, NX_DOMAIN, p);
        })],
    },
    Scene {
        title: "the wildcard's NSEC under another name",
        question: "_25._tcp.h.wc.bank.test",
        rtype: T,
        touches: &[("_25._tcp.h.wc.bank.test", T, |w, m| {
            let mut p = with_proofs(w, "bank.test", &["*.wc.bank.test"]);
            rename(&mut p, "*.wc.bank.test", &name("_25._tcp.h.wc.bank.test"));
            denial(m, NO_ERROR, p);
        })],
    },
    Scene {
        title: "the wildcard's NSEC as that of a name before",
        question: "_25._tcp.h.wc.bank.test",
        rtype: T,
        touches: &[("_25._tcp.h.wc.bank.test", T, |w, m| {
            let mut p = with_proofs(w, "bank.test", &["*.wc.bank.test", "bank.test"]);
            rename(&mut p, "*.wc.bank.test", &name("a.wc.bank.test"));
            denial(m, NX_DOMAIN, p);
        })],
    },
    Scene {
        title: "a wildcard is passed over",
        question: "_25._tcp.wild.bank.test",
        rtype: T,
        touches: &[("_25._tcp.wild.bank.test", T, |w, m| {
            denial(m, NX_DOMAIN, with_proofs(w, "bank.test", &["_25._tcp.wild.bank.test"]))
        })],
    },
    Scene {
        title: "a wildcard is passed over with proofs from elsewhere",
        question: "_25._tcp.wild.bank.test",
        rtype: T,
        touches: &[("_25._tcp.wild.bank.test", T, |w, m| {
            denial(
                m,
                NX_DOMAIN,
                with_proofs(
                    w,
                    "bank.test",
                    &["_25._tcp.wild.bank.test", "bank.test", "zz.bank.test", "wild.bank.test"],
                ),
            )
        })],
    },
    Scene {
        title: "a wildcard of another type denies",
        question: "_25._tcp.wild.bank.test",
        rtype: T,
        touches: &[("_25._tcp.wild.bank.test", T, |w, m| {
            denial(m, NO_ERROR, with_proofs(w, "bank.test", &["_25._tcp.wild.bank.test", "*.wc.bank.test"]))
        })],
    },
    Scene {
        title: "the parent's side of a cut denies what is below",
        question: SUB,
        rtype: T,
        touches: &[(SUB, T, |w, m| denial(m, NX_DOMAIN, with_proofs(w, "bank.test", &["sub.bank.test", "bank.test"])))],
    },
    Scene {
        title: "the parent's side of a cut denies MX at the cut",
        question: "sub.bank.test",
        rtype: RecordType::MX,
        touches: &[("sub.bank.test", RecordType::MX, |w, m| {
            denial(m, NO_ERROR, with_proofs(w, "bank.test", &["sub.bank.test"]))
        })],
    },
    Scene {
        title: "the grandparent denies what is below",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NX_DOMAIN, with_proofs(w, "test", &["bank.test", "test"])))],
    },
    Scene {
        title: "the root denies what is below",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NX_DOMAIN, with_proofs(w, "", &["test", ""])))],
    },
    Scene {
        title: "the same denial of a sibling zone",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| {
            denial(m, NX_DOMAIN, with_proofs(w, "sibling.test", &["_26._tcp.mail.sibling.test", "sibling.test"]))
        })],
    },
    Scene {
        title: "the denial of a child zone",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "sub.bank.test")))],
    },
    Scene {
        title: "NXDOMAIN of a neighbour name",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| *m = w.message("_26._tcp.mail.bank.test", T).unwrap())],
    },
    Scene {
        title: "NODATA of another type",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, |w, m| *m = w.message(TLSA, RecordType::A).unwrap())],
    },
    Scene {
        title: "an alias that ends in nothing",
        question: "_25._tcp.alias.bank.test",
        rtype: T,
        touches: &[
            ("_25._tcp.alias.bank.test", T, |w, m| {
                m.answers.retain(|r| r.name == name("_25._tcp.alias.bank.test"));
                m.authorities = with_proofs(w, "bank.test", &["mail.bank.test"]);
                m.metadata.response_code = NX_DOMAIN;
            }),
            (TLSA, T, |_, m| denial(m, NX_DOMAIN, vec![])),
        ],
    },
    Scene {
        title: "the denial of the alias instead of its target",
        question: "_25._tcp.alias.bank.test",
        rtype: T,
        touches: &[("_25._tcp.alias.bank.test", T, |w, m| {
            denial(m, NO_ERROR, with_proofs(w, "bank.test", &["_25._tcp.alias.bank.test"]))
        })],
    },
    Scene {
        title: "compact denial of the host",
        question: COMPACT,
        rtype: T,
        touches: &[(COMPACT, T, |w, m| denial(m, NO_ERROR, with_proofs(w, "compact.test", &["mail.compact.test"])))],
    },
    Scene {
        title: "compact denial of a neighbour",
        question: COMPACT,
        rtype: T,
        touches: &[(COMPACT, T, |w, m| *m = w.message("_26._tcp.mail.compact.test", T).unwrap())],
    },
    Scene {
        title: "compact denial of a neighbour, renamed",
        question: COMPACT,
        rtype: T,
        touches: &[(COMPACT, T, |w, m| {
            *m = w.message("_26._tcp.mail.compact.test", T).unwrap();
            rename(&mut m.authorities, "_26._tcp.mail.compact.test", &name(COMPACT));
        })],
    },
];

const NSEC3_SCENES: &[Scene] = &[
    Scene {
        title: "NSEC3: every record there is",
        question: N3,
        rtype: T,
        touches: &[(N3, T, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "n3.test")))],
    },
    Scene {
        title: "NSEC3: every record there is, for MX",
        question: "n3.test",
        rtype: RecordType::MX,
        touches: &[("n3.test", RecordType::MX, |w, m| denial(m, NO_ERROR, all_proofs(w, "n3.test")))],
    },
    Scene {
        title: "NSEC3: the proofs of a neighbour",
        question: N3,
        rtype: T,
        touches: &[(N3, T, |w, m| *m = w.message("_26._tcp.mail.n3.test", T).unwrap())],
    },
    Scene {
        title: "NSEC3: the record of the name itself",
        question: N3,
        rtype: T,
        touches: &[(N3, T, |w, m| denial(m, NO_ERROR, with_proofs(w, "n3.test", &[N3])))],
    },
    Scene {
        title: "NSEC3: more iterations than anyone computes",
        question: N3,
        rtype: T,
        touches: &[(N3, T, |w, m| {
            *m = w.message("_26._tcp.mail.n3.test", T).unwrap();
            each_nsec3(m, |d| nsec3(d, Flags::None, 500, d.salt()));
        })],
    },
    Scene {
        title: "NSEC3: fewer iterations",
        question: N3,
        rtype: T,
        touches: &[(N3, T, |w, m| {
            denial(m, NX_DOMAIN, all_proofs(w, "n3.test"));
            each_nsec3(m, |d| nsec3(d, Flags::None, 0, d.salt()));
        })],
    },
    Scene {
        title: "NSEC3: another salt",
        question: N3,
        rtype: T,
        touches: &[(N3, T, |w, m| {
            denial(m, NX_DOMAIN, all_proofs(w, "n3.test"));
            each_nsec3(m, |d| nsec3(d, Flags::None, 5, &[1]));
        })],
    },
    Scene {
        title: "NSEC3: opt-out switched on",
        question: N3,
        rtype: T,
        touches: &[(N3, T, |w, m| {
            denial(m, NX_DOMAIN, all_proofs(w, "n3.test"));
            each_nsec3(m, |d| nsec3(d, Flags::OptOut, 5, d.salt()));
        })],
    },
    Scene {
        title: "NSEC3: the chain of another zone under our name",
        question: N3,
        rtype: T,
        touches: &[(N3, T, |w, m| {
            let mut p = all_proofs(w, "opt.test");
            for r in &mut p {
                r.name = name(&r.name.to_ascii().replace("opt.test", "n3.test"));
            }
            denial(m, NX_DOMAIN, p);
        })],
    },
    Scene {
        title: "NSEC3: the chain of another zone",
        question: N3,
        rtype: T,
        touches: &[(N3, T, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "opt.test")))],
    },
    Scene {
        title: "NSEC3: the parent's side of a cut denies what is below",
        question: "_25._tcp.mail.sub.n3.test",
        rtype: T,
        touches: &[("_25._tcp.mail.sub.n3.test", T, |w, m| {
            denial(m, NX_DOMAIN, with_proofs(w, "n3.test", &["sub.n3.test", "mail.sub.n3.test", "*.sub.n3.test"]))
        })],
    },
    Scene {
        title: "NSEC3: the parent's side of a cut denies MX at the cut",
        question: "sub.n3.test",
        rtype: RecordType::MX,
        touches: &[("sub.n3.test", RecordType::MX, |w, m| {
            denial(m, NO_ERROR, with_proofs(w, "n3.test", &["sub.n3.test"]))
        })],
    },
    Scene {
        title: "NSEC3: a wildcard is passed over",
        question: "_25._tcp.wild.n3.test",
        rtype: T,
        touches: &[("_25._tcp.wild.n3.test", T, |w, m| {
            denial(
                m,
                NX_DOMAIN,
                with_proofs(w, "n3.test", &["_25._tcp.wild.n3.test", "_tcp.wild.n3.test", "wild.n3.test", "n3.test"]),
            )
        })],
    },
    Scene {
        title: "NSEC3: a wildcard for a name that exists",
        question: "_25._tcp.both.n3.test",
        rtype: T,
        touches: &[("_25._tcp.both.n3.test", T, |w, m| {
            *m = w.message("_26._tcp.both.n3.test", T).unwrap();
            m.answers.iter_mut().for_each(|r| r.name = name("_25._tcp.both.n3.test"));
            m.authorities.extend(all_proofs(w, "n3.test"));
        })],
    },
    Scene {
        title: "opt-out: every record there is against TLSA",
        question: OPT,
        rtype: T,
        touches: &[(OPT, T, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "opt.test")))],
    },
    Scene {
        title: "opt-out: every record there is against MX",
        question: "opt.test",
        rtype: RecordType::MX,
        touches: &[("opt.test", RecordType::MX, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "opt.test")))],
    },
    Scene {
        title: "opt-out: every record there is says that TLSA has no data",
        question: OPT,
        rtype: T,
        touches: &[(OPT, T, |w, m| denial(m, NO_ERROR, all_proofs(w, "opt.test")))],
    },
    Scene {
        title: "opt-out: every record but that of the name",
        question: OPT,
        rtype: T,
        touches: &[(OPT, T, |w, m| denial(m, NO_ERROR, proofs_without(w, "opt.test", &[OPT])))],
    },
    Scene {
        title: "opt-out: every record but those of the name and of all above it",
        question: OPT,
        rtype: T,
        touches: &[(OPT, T, |w, m| {
            let on_the_way = [OPT, "_tcp.mail.opt.test", "mail.opt.test"];
            denial(m, NO_ERROR, proofs_without(w, "opt.test", &on_the_way));
        })],
    },
    Scene {
        title: "opt-out: every record but that of the host says that it has no address",
        question: "mail.opt.test",
        rtype: RecordType::A,
        touches: &[("mail.opt.test", RecordType::A, |w, m| {
            denial(m, NO_ERROR, proofs_without(w, "opt.test", &["mail.opt.test"]));
        })],
    },
    Scene {
        title: "opt-out: every record but that of a signed child says that TLSA in it has no data",
        question: OPT_SUB,
        rtype: T,
        touches: &[(OPT_SUB, T, |w, m| denial(m, NO_ERROR, proofs_without(w, "opt.test", &["sub.opt.test"])))],
    },
    Scene {
        title: "opt-out: a range says there is an unsigned delegation above TLSA",
        question: OPT,
        rtype: T,
        touches: &[
            (OPT, T, strip),
            ("mail.opt.test", DS, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "opt.test"))),
            ("_tcp.mail.opt.test", DS, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "opt.test"))),
            (OPT, DS, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "opt.test"))),
        ],
    },
    Scene {
        title: "opt-out: a range denies DS of a signed child",
        question: OPT_SUB,
        rtype: T,
        touches: &[(OPT_SUB, T, strip), ("sub.opt.test", DS, |w, m| denial(m, NO_ERROR, all_proofs(w, "opt.test")))],
    },
    Scene {
        title: "opt-out: the range of an unsigned sibling denies DS of a signed child",
        question: OPT_SUB,
        rtype: T,
        touches: &[(OPT_SUB, T, strip), ("sub.opt.test", DS, |w, m| *m = w.message("plain.opt.test", DS).unwrap())],
    },
    Scene {
        title: "opt-out: the parent's ranges deny names in a signed child",
        question: OPT_SUB,
        rtype: T,
        touches: &[(OPT_SUB, T, |w, m| denial(m, NX_DOMAIN, all_proofs(w, "opt.test")))],
    },
];

#[test]
fn rfc4035_5_4_forged_denials_are_never_believed() {
    play(NOTHING_THERE);
}

#[test]
fn rfc5155_8_forged_nsec3_denials_are_never_believed() {
    play(NSEC3_SCENES);
}

#[test]
fn rfc4034_3_1_5_an_old_denial_is_not_believed_after_its_end() {
    let world = bank();
    let message = world.message("absent.bank.test", RecordType::A).unwrap();
    let mut resolver = super::Resolver::new(&world);
    resolver.now = super::NOW.plus(std::time::Duration::from_secs(40 * 24 * 3600));
    let verdict = resolver.verdict_by("absent.bank.test", RecordType::A, |_, rtype, m| {
        if rtype == RecordType::A {
            *m = message.clone();
        }
    });
    assert!(!super::forging::is_fooled(&verdict));
}
