//! The zones of the comparison: a root, `test.`, and below it one zone for every way of being
//! signed, of denying, and of being broken (RFC 4035, RFC 5155, RFC 6672, RFC 9276).

use super::signer::{Damage, Denial, Ds, Shape, Signer, Window};
use std::fmt::Write as _;

/// The full set of names, in each of these zones.
pub(crate) const FULL: [&str; 4] = ["nsec.test.", "nsec3.test.", "it5.test.", "optout.test."];

/// The zone of odd names and data that reaches the relay as it was written.
pub(crate) const WITH_CAPITALS: &str = "odd.test.";

/// A small zone: one mail domain with one TLSA record.
const SMALL: &str = "\
@ 300 IN MX 10 mx
mx 300 IN A 127.0.1.1
_25._tcp.mx 300 IN TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000001
*.wild 300 IN A 127.0.1.2
";

/// The names of a full zone; `{other}` is another full zone. `a.only` is a delegation whose zone
/// nobody has.
const LARGE: &str = "\
mail 300 IN MX 10 mx.mail
mail 300 IN MX 20 five
mx.mail 300 IN A 127.0.1.1
mx.mail 300 IN AAAA ::1
five 300 IN A 127.0.1.5
null 300 IN MX 0 .
alias 300 IN CNAME mx.mail
mxalias 300 IN CNAME mail
_25._tcp.alias 300 IN CNAME _25._tcp.mx.mail
twice 300 IN CNAME alias
gone 300 IN CNAME missing
loop 300 IN CNAME pool
pool 300 IN CNAME loop
across 300 IN CNAME mx.mail.{other}
mxacross 300 IN CNAME mail.{other}
_25._tcp.across 300 IN CNAME _25._tcp.mx.mail.{other}
goneacross 300 IN CNAME missing.{other}
wildacross 300 IN CNAME any.wild.{other}
tounsigned 300 IN CNAME host.unsigned.test.
tobogus 300 IN CNAME mx.wrongds.test.
*.wild 300 IN A 127.0.1.2
*.wild 300 IN MX 10 mx.mail
exact.wild 300 IN A 127.0.1.3
*._tcp.wildtlsa 300 IN TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000002
*.wildcname 300 IN CNAME mx.mail
a.b.ent 300 IN A 127.0.1.4
dname 300 IN DNAME mail
dnameacross 300 IN DNAME mail.{other}
dnameunsigned 300 IN DNAME unsigned.test.
a.only 300 IN NS ns2.test.
";

/// How many records the TLSA sets of a full zone have, with the labels of their hosts.
pub(crate) const TLSA_SETS: [(&str, usize); 4] = [("mx.mail", 1), ("five", 5), ("thirteen", 13), ("sixty", 60)];

/// Names and data that are easily put into the wrong canonical form or order (RFC 4034 §6).
const ODD: &str = r#"
Upper 300 IN MX 10 MX.Mail.Nsec.TEST.
Upper 300 IN A 127.0.1.7
srv 300 IN SRV 0 0 25 Host.Upper
ptr 300 IN PTR Some.Host.TEST.
naptr 300 IN NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:a@b.example!" Some.Host.TEST.
rp 300 IN RP Mbox.Example. Txt.Example.
afsdb 300 IN AFSDB 1 Some.Host.TEST.
hinfo 300 IN HINFO "PC" "Unix"
caa 300 IN CAA 0 issue "Ca.Example"
sshfp 300 IN SSHFP 4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
generic 300 IN TYPE65280 \# 4 0a000001
empty 300 IN TXT ""
texts 300 IN TXT "b"
texts 300 IN TXT "aa"
texts 300 IN TXT "a"
texts 300 IN TXT "a" "b"
many 300 IN A 127.0.2.200
many 300 IN A 127.0.2.3
many 300 IN A 10.0.0.1
many 300 IN A 127.0.10.1
short 0 IN A 127.0.1.8
z 300 IN A 127.0.1.9
Z.a 300 IN A 127.0.1.10
yljkjljk.a 300 IN A 127.0.1.11
\001 300 IN A 127.0.1.12
\200 300 IN A 127.0.1.13
a\.b 300 IN A 127.0.1.14
Cased 300 IN CNAME UPPER
"#;

const UNSIGNED: &str = "\
host 300 IN A 127.0.1.6
host 300 IN MX 10 host
_25._tcp.host 300 IN TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000003
back 300 IN CNAME mx.mail.nsec.test.
_25._tcp.back 300 IN CNAME _25._tcp.mx.mail.nsec.test.
";

/// All zones, the root first, each parent before its children.
pub(crate) fn shapes() -> Vec<Shape> {
    let mut shapes = vec![
        Shape { signer: Signer::Bind, algorithm: "RSASHA256", ..Shape::new(".", "") },
        Shape::new("test.", "ns0 300 IN A 127.0.3.1\nns1 300 IN A 127.0.3.2\nns2 300 IN A 127.0.3.3\n"),
        // A second top-level domain, with nothing below it.
        Shape { denial: Denial::OptOut, ..Shape::new("quiet.", "") },
        Shape::unsigned("unsigned.test.", Ds::Absent, UNSIGNED),
        // A signed zone below an unsigned one: nobody vouches for it.
        Shape::new("island.unsigned.test.", SMALL),
    ];
    shapes.push(Shape::new(WITH_CAPITALS, ODD));
    let nsec3 = Denial::Nsec3 { salt: "-", iterations: 0 };
    shapes.push(Shape { signer: Signer::Bind, denial: nsec3, ..Shape::new("odd3.test.", ODD) });
    shapes.extend(full_zones());
    shapes.extend(algorithms());
    shapes.extend(delegations());
    shapes.extend(damaged());
    shapes.extend(many_keys());
    shapes.extend(costly_aliases());
    shapes
}

fn full_zones() -> Vec<Shape> {
    let denials = [
        (Signer::Ldns, Denial::Nsec),
        (Signer::Bind, Denial::Nsec3 { salt: "-", iterations: 0 }),
        (Signer::Ldns, Denial::Nsec3 { salt: "00c0ffee", iterations: 5 }),
        (Signer::Bind, Denial::OptOut),
    ];
    let mut zones = Vec::new();
    for (i, (zone, (signer, denial))) in FULL.into_iter().zip(denials).enumerate() {
        let mut lines = LARGE.replace("{other}", FULL[(i + 1) % FULL.len()]);
        for (host, count) in TLSA_SETS {
            for n in 1..=count {
                writeln!(lines, "_25._tcp.{host} 300 IN TLSA 3 1 1 {n:064x}").unwrap();
            }
        }
        zones.push(Shape { signer, denial, ..Shape::new(zone, &lines) });
        zones.push(Shape { algorithm: "ED25519", ..Shape::new(&format!("child.{zone}"), SMALL) });
        zones.push(Shape::unsigned(&format!("unsig.{zone}"), Ds::Absent, UNSIGNED));
        // Delegations below names that are no zones.
        zones.push(Shape::new(&format!("signed.below.it.{zone}"), SMALL));
        zones.push(Shape::unsigned(&format!("unsigned.below.it.{zone}"), Ds::Absent, UNSIGNED));
        // And one below a name that holds nothing else: with opt-out nothing speaks of that name.
        zones.push(Shape::unsigned(&format!("unsigned.lone.{zone}"), Ds::Absent, UNSIGNED));
    }
    let opt_out = Shape { denial: Denial::OptOut, ..Shape::new("optldns.test.", SMALL) };
    zones.extend([opt_out, Shape::unsigned("unsigned.lone.optldns.test.", Ds::Absent, UNSIGNED)]);
    zones
}

/// A further key that signs.
const ZSK: &[&str] = &[];
const KSK: &[&str] = &["-f", "KSK"];
const OTHER_ZSK: &[&str] = &["-a", "ED25519"];
const OTHER_KSK: &[&str] = &["-a", "ED25519", "-f", "KSK"];
/// A key that is published and signs nothing.
const IDLE: &[&str] = &["-A", "none"];

/// Sound zones with more keys and signatures than usual.
fn many_keys() -> Vec<Shape> {
    let keyed = |name: &str, more_keys, ds, damage| Shape {
        signer: Signer::Bind,
        more_keys,
        ds,
        damage,
        ..Shape::new(name, SMALL)
    };
    vec![
        keyed("eightksk.test.", &[KSK; 7], Ds::OfKey(8), Damage::None),
        keyed("bothroll.test.", &[KSK, ZSK, OTHER_KSK, OTHER_ZSK, OTHER_KSK, OTHER_ZSK], Ds::OfKey(6), Damage::None),
        keyed("gonekeys.test.", &[ZSK; 7], Ds::Fits(&[2]), Damage::KeysGone),
        keyed("manykeys.test.", &[IDLE; 40], Ds::Fits(&[2]), Damage::OwnKeysLast),
        // RFC 4034 §2.1.2: a key with another protocol number must not be used.
        Shape::new("oddkey.test.", &format!("{SMALL}@ 300 IN DNSKEY 256 2 13 {ODD_KEY}\n")),
    ]
}

/// Any octets in the length of a key for P-256.
const ODD_KEY: &str = "b2RkIGtleSBvZGQga2V5IG9kZCBrZXkgb2RkIGtleSBvZGQga2V5IG9kZCBrZXkgb2RkIGtleSBvZGQga2V5IA==";

/// Aliases through zones of the dearest algorithm.
fn costly_aliases() -> Vec<Shape> {
    let zone = |n: usize| {
        let next = n + 1;
        let far = format!(
            "far 300 IN CNAME far.p384-{next}.test.\n_25._tcp.far 300 IN CNAME _25._tcp.far.p384-{next}.test.\n"
        );
        let end = "far 300 IN A 127.0.1.1\n_25._tcp.far 300 IN CNAME _25._tcp.mx\n";
        let lines = SMALL.to_owned() + if next > P384_ZONES { end } else { &far };
        Shape { algorithm: "ECDSAP384SHA384", ..Shape::new(&format!("p384-{n}.test."), &lines) }
    };
    (1..=P384_ZONES).map(zone).collect()
}

/// How many of them there are, each leading to the next.
const P384_ZONES: usize = 4;

fn algorithms() -> Vec<Shape> {
    let nsec3 = Denial::Nsec3 { salt: "ab", iterations: 1 };
    let small = |name: &str, signer, algorithm, denial| Shape { signer, algorithm, denial, ..Shape::new(name, SMALL) };
    let many = |iterations| Denial::Nsec3 { salt: "ab", iterations };
    vec![
        small("a5.test.", Signer::Bind, "RSASHA1", Denial::Nsec),
        small("a7.test.", Signer::Bind, "NSEC3RSASHA1", nsec3),
        small("a8.test.", Signer::Ldns, "RSASHA256", nsec3),
        small("a10.test.", Signer::Bind, "RSASHA512", Denial::Nsec),
        small("a13.test.", Signer::Bind, "ECDSAP256SHA256", nsec3),
        small("a14.test.", Signer::Ldns, "ECDSAP384SHA384", Denial::Nsec),
        small("a15.test.", Signer::Bind, "ED25519", nsec3),
        small("a16.test.", Signer::Bind, "ED448", Denial::Nsec),
        small("it100.test.", Signer::Bind, "ECDSAP256SHA256", many(100)),
        small("it120.test.", Signer::Bind, "ECDSAP256SHA256", many(120)),
        small("it150.test.", Signer::Bind, "ECDSAP256SHA256", many(150)),
        // BIND signs with 150 at most.
        small("it151.test.", Signer::Ldns, "ECDSAP256SHA256", many(151)),
        small("it500.test.", Signer::Ldns, "ECDSAP256SHA256", many(500)),
    ]
}

fn delegations() -> Vec<Shape> {
    let keyed = |name: &str, more_keys| Shape { signer: Signer::Bind, more_keys, ..Shape::new(name, SMALL) };
    let with = |name: &str, ds| Shape { ds, ..Shape::new(name, SMALL) };
    vec![
        with("sha1ds.test.", Ds::Fits(&[1])),
        with("sha384ds.test.", Ds::Fits(&[4])),
        with("allds.test.", Ds::Fits(&[1, 2, 4])),
        with("strongds.test.", Ds::StrongOneIsWrong),
        with("wrongds.test.", Ds::Wrong),
        with(
            "unknownalg.test.",
            Ds::Text("4711 201 2 abababababababababababababababababababababababababababababababab"),
        ),
        with("unknowndigest.test.", Ds::Text("4711 13 99 abababababababababababababababab")),
        with("mixedds.test.", Ds::FitsBesideUnknown),
        with("nods.test.", Ds::Absent),
        Shape::unsigned("nokeys.test.", Ds::ForNoKey, SMALL),
        Shape { signer: Signer::Bind, ..with("zskds.test.", Ds::OfKey(1)) },
        keyed("rolling.test.", &[&["-f", "KSK"], &[]]),
        keyed("twoalgs.test.", &[&["-a", "ED25519", "-f", "KSK"], &["-a", "ED25519"]]),
        keyed("unknownkey.test.", &[&["-a", "ED448", "-f", "KSK"], &["-a", "ED448"]]),
    ]
}

fn damaged() -> Vec<Shape> {
    let with = |name: &str, denial, damage| Shape { denial, damage, ..Shape::new(name, SMALL) };
    let at = |name: &str, window| Shape { window, ..Shape::new(name, SMALL) };
    let nsec3 = Denial::Nsec3 { salt: "-", iterations: 0 };
    vec![
        at("expired.test.", Window::Past),
        at("future.test.", Window::Future),
        with("olddata.test.", nsec3, Damage::DataOutOf(Window::Past)),
        with("nosigs.test.", Denial::Nsec, Damage::SignaturesGone("*")),
        with("nokeysig.test.", Denial::Nsec, Damage::SignaturesGone("DNSKEY")),
        with("notlsasig.test.", nsec3, Damage::SignaturesGone("TLSA")),
        with("nonsec.test.", Denial::Nsec, Damage::RecordsGone("NSEC")),
        with("nonsec3.test.", nsec3, Damage::RecordsGone("NSEC3")),
        with("nonsecsig.test.", Denial::Nsec, Damage::SignaturesGone("NSEC")),
        with("forged.test.", Denial::Nsec, Damage::Replaced("127.0.1.1", "127.0.1.11")),
    ]
}
