//! The attacker says that nothing is signed: denials of DS records, proofs of another zone or of an
//! opt-out span, stripped signatures (RFC 4035 §5.2, RFC 5155 §6).

use super::forging::{Scene, TLSA, denial, empty, play, rename, soa, strip};
use super::forging_denials::{DS, NO_ERROR, NX_DOMAIN, T, forged_nsec, with_proofs};
use super::name;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::{RData, RecordType};

/// TLSA comes without signature, and the attacker tries to show that its zone is not signed.
const NOTHING_SIGNED: &[Scene] = &[
    Scene {
        title: "DS: an empty answer",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, strip), ("bank.test", DS, empty)],
    },
    Scene {
        title: "DS: a signed SOA without proof",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, strip), ("bank.test", DS, |w, m| denial(m, NO_ERROR, soa(w, "test")))],
    },
    Scene {
        title: "DS: NXDOMAIN with a signed SOA",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, strip), ("bank.test", DS, |w, m| denial(m, NX_DOMAIN, soa(w, "test")))],
    },
    Scene {
        title: "DS: the denial of an unsigned sibling",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, strip), ("bank.test", DS, |w, m| *m = w.message("evilplain.test", DS).unwrap())],
    },
    Scene {
        title: "DS: the denial of an unsigned sibling, renamed",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("bank.test", DS, |w, m| {
                *m = w.message("evilplain.test", DS).unwrap();
                rename(&mut m.authorities, "evilplain.test", &name("bank.test"));
            }),
        ],
    },
    Scene {
        title: "DS: the denial by the child's own apex",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("bank.test", DS, |w, m| denial(m, NO_ERROR, with_proofs(w, "bank.test", &["bank.test"]))),
        ],
    },
    Scene {
        title: "DS: the denial of a range above the name",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("bank.test", DS, |w, m| denial(m, NX_DOMAIN, with_proofs(w, "test", &["test", "zz.test"]))),
        ],
    },
    Scene {
        title: "DS: the parent's record at the cut, which lists DS",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("bank.test", DS, |w, m| denial(m, NO_ERROR, with_proofs(w, "test", &["bank.test"]))),
        ],
    },
    Scene {
        title: "DS: the denial by the root",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, strip), ("bank.test", DS, |w, m| denial(m, NO_ERROR, with_proofs(w, "", &["test"])))],
    },
    Scene {
        title: "DS: signed by an attacker's zone",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("bank.test", DS, |w, m| denial(m, NO_ERROR, forged_nsec("evil.test", "bank.test", w))),
        ],
    },
    Scene {
        title: "DS: records of algorithms nobody knows, unsigned",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("bank.test", DS, |w, m| {
                strip(w, m);
                for r in &mut m.answers {
                    let unknown = hickory_proto::dnssec::rdata::DS::new(
                        1,
                        hickory_proto::dnssec::Algorithm::Unknown(253),
                        2.into(),
                        vec![0; 32],
                    );
                    r.data = RData::DNSSEC(DNSSECRData::DS(unknown));
                }
            }),
        ],
    },
    Scene {
        title: "DS: records of an unknown digest put into the signed set",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("bank.test", DS, |_, m| {
                for r in &mut m.answers {
                    if let RData::DNSSEC(DNSSECRData::DS(ds)) = &r.data {
                        let unknown = hickory_proto::dnssec::rdata::DS::new(
                            ds.key_tag(),
                            ds.algorithm(),
                            77.into(),
                            ds.digest().to_vec(),
                        );
                        r.data = RData::DNSSEC(DNSSECRData::DS(unknown));
                    }
                }
            }),
        ],
    },
    Scene {
        title: "DS: a CNAME at the cut",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("bank.test", DS, |w, m| *m = w.message("_25._tcp.alias.evil.test", RecordType::CNAME).unwrap()),
        ],
    },
    Scene {
        title: "DS: there is a cut at the host",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, strip), ("mail.bank.test", DS, |w, m| *m = w.message("plain.bank.test", DS).unwrap())],
    },
    Scene {
        title: "DS: there is a cut at the host, renamed",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("mail.bank.test", DS, |w, m| {
                *m = w.message("plain.bank.test", DS).unwrap();
                rename(&mut m.authorities, "plain.bank.test", &name("mail.bank.test"));
            }),
        ],
    },
    Scene {
        title: "DS: an unsigned child vouches for the host",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, strip), ("mail.bank.test", DS, |w, m| denial(m, NO_ERROR, soa(w, "plain.bank.test")))],
    },
    Scene { title: "keys: none", question: TLSA, rtype: T, touches: &[("bank.test", RecordType::DNSKEY, empty)] },
    Scene {
        title: "keys: without signature",
        question: TLSA,
        rtype: T,
        touches: &[(TLSA, T, strip), ("bank.test", RecordType::DNSKEY, strip)],
    },
    Scene {
        title: "keys: those of the attacker",
        question: TLSA,
        rtype: T,
        touches: &[("bank.test", RecordType::DNSKEY, |w, m| {
            *m = w.message("evil.test", RecordType::DNSKEY).unwrap();
            rename(&mut m.answers, "evil.test", &name("bank.test"));
        })],
    },
    Scene {
        title: "keys: the attacker's beside the true one",
        question: TLSA,
        rtype: T,
        touches: &[("bank.test", RecordType::DNSKEY, |w, m| {
            let mut keys = w.message("evil.test", RecordType::DNSKEY).unwrap().answers;
            rename(&mut keys, "evil.test", &name("bank.test"));
            m.answers.extend(keys);
        })],
    },
    Scene {
        title: "keys: a proof that there are none",
        question: TLSA,
        rtype: T,
        touches: &[
            (TLSA, T, strip),
            ("bank.test", RecordType::DNSKEY, |w, m| *m = w.message("mail.bank.test", RecordType::DNSKEY).unwrap()),
        ],
    },
    Scene {
        title: "root: keys of the attacker",
        question: TLSA,
        rtype: T,
        touches: &[("", RecordType::DNSKEY, |w, m| {
            *m = w.message("evil.test", RecordType::DNSKEY).unwrap();
            rename(&mut m.answers, "evil.test", &name("."));
        })],
    },
];

#[test]
fn rfc4035_5_2_signed_zones_are_never_made_insecure() {
    play(NOTHING_SIGNED);
}
