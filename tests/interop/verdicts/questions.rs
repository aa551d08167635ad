//! The questions of the comparison and the right verdict on each, as text: name, type, verdict
//! (RFC 4035 §5, RFC 5155 §8, RFC 6672 §5.3, RFC 6840 §5, RFC 7672 §2.1).

/// Asked in every full zone `{z}`. The verdict in a zone with opt-out stands last where it is
/// another: there a denial leaves room for an unsigned delegation (RFC 5155 §9.2). Of `lone`, an empty name
/// that BIND's chain with opt-out leaves out, NSD 4.6 sends the closest encloser and the range; of delegations
/// below it, it proves nothing: bogus to everybody.
const IN_FULL_ZONES: &str = "
{z}                      SOA     found secure
{z}                      NS      found secure
{z}                      DNSKEY  found secure
{z}                      DS      found secure
{z}                      MX      nodata secure
mail.{z}                 MX      found secure
null.{z}                 MX      found secure
mail.{z}                 DS      nodata secure
mx.mail.{z}              A       found secure
mx.mail.{z}              AAAA    found secure
mx.mail.{z}              MX      nodata secure
_25._tcp.mx.mail.{z}     TLSA    found secure
_25._tcp.five.{z}        TLSA    found secure
_25._tcp.thirteen.{z}    TLSA    found secure
_25._tcp.sixty.{z}       TLSA    found secure
_tcp.mx.mail.{z}         TLSA    nodata secure
_26._tcp.mx.mail.{z}     TLSA    nxdomain secure    nxdomain insecure
_25._tcp.missing.{z}     TLSA    nxdomain secure    nxdomain insecure
missing.{z}              MX      nxdomain secure    nxdomain insecure
alias.{z}                A       found secure
alias.{z}                CNAME   found secure
alias.{z}                TXT     nodata secure
twice.{z}                AAAA    found secure
mxalias.{z}              MX      found secure
_25._tcp.alias.{z}       TLSA    found secure
gone.{z}                 A       nxdomain secure    nxdomain insecure
across.{z}               A       found secure
across.{z}               TXT     nodata secure
mxacross.{z}             MX      found secure
_25._tcp.across.{z}      TLSA    found secure
tounsigned.{z}           A       found insecure
tounsigned.{z}           TXT     nodata insecure
tobogus.{z}              A       bogus
any.wild.{z}             A       found secure       found insecure
any.wild.{z}             MX      found secure       found insecure
any.wild.{z}             TXT     nodata secure      nodata insecure
very.deep.wild.{z}       A       found secure       found insecure
*.wild.{z}               A       found secure
exact.wild.{z}           A       found secure
exact.wild.{z}           MX      nodata secure
below.exact.wild.{z}     A       nxdomain secure    nxdomain insecure
_25._tcp.wildtlsa.{z}    TLSA    found secure       found insecure
any.wildcname.{z}        A       found secure       found insecure
any.wildcname.{z}        TXT     nodata secure      nodata insecure
ent.{z}                  A       nodata secure
b.ent.{z}                TLSA    nodata secure
x.b.ent.{z}              A       nxdomain secure    nxdomain insecure
dname.{z}                DNAME   found secure
dname.{z}                A       nodata secure
mx.dname.{z}             A       found secure
mx.dname.{z}             TXT     nodata secure
_25._tcp.mx.dname.{z}    TLSA    found secure
none.dname.{z}           A       nxdomain secure    nxdomain insecure
mx.dnameacross.{z}       AAAA    found secure
host.dnameunsigned.{z}   A       found insecure
child.{z}                DS      found secure
child.{z}                NS      found secure
child.{z}                A       nodata secure
mx.child.{z}             A       found secure
mx.child.{z}             DS      nodata secure
_25._tcp.mx.child.{z}    TLSA    found secure
none.child.{z}           A       nxdomain secure
unsig.{z}                DS      nodata secure      nodata insecure
unsig.{z}                SOA     found insecure
host.unsig.{z}           A       found insecure
host.unsig.{z}           DS      nodata insecure
_25._tcp.host.unsig.{z}  TLSA    found insecure
none.unsig.{z}           A       nxdomain insecure
back.unsig.{z}           A       found insecure
only.{z}                 A       nodata secure      nodata insecure
a.only.{z}               DS      nodata secure      nodata insecure
it.{z}                   A       nodata secure
below.it.{z}             DS      nodata secure
signed.below.it.{z}      DS      found secure
mx.signed.below.it.{z}   A       found secure
_25._tcp.mx.signed.below.it.{z}     TLSA    found secure
none.below.it.{z}        TLSA    nxdomain secure    nxdomain insecure
unsigned.below.it.{z}    DS      nodata secure      nodata insecure
host.unsigned.below.it.{z}          MX      found insecure
_25._tcp.back.unsigned.below.it.{z} TLSA    found insecure
unsigned.lone.{z}        DS      nodata secure      nodata insecure
host.unsigned.lone.{z}   MX      found insecure     bogus
none.unsigned.lone.{z}   A       nxdomain insecure  bogus
_25._tcp.host.unsigned.lone.{z} TLSA found insecure bogus
_25._TCP.Mx.MAIL.{z}     TLSA    found secure
MISSING.{z}              A       nxdomain secure    nxdomain insecure
ANY.Wild.{z}             A       found secure       found insecure
";

/// Asked in the zones of odd names and data. There are no wildcards: Unbound as authority sends the
/// NSEC record of a wildcard under the expanded name, which denies nothing (RFC 4035 §3.1.3.3).
const IN_ODD_ZONES: &str = r"
upper.{z}                MX      found secure
UPPER.{z}                A       found secure
cased.{z}                A       found secure
srv.{z}                  SRV     found secure
ptr.{z}                  PTR     found secure
naptr.{z}                NAPTR   found secure
rp.{z}                   RP      found secure
afsdb.{z}                AFSDB   found secure
hinfo.{z}                HINFO   found secure
caa.{z}                  CAA     found secure
sshfp.{z}                SSHFP   found secure
generic.{z}              TYPE65280  found secure
generic.{z}              TYPE65281  nodata secure
empty.{z}                TXT     found secure
texts.{z}                TXT     found secure
many.{z}                 A       found secure
short.{z}                A       found secure
short.{z}                TLSA    nodata secure
z.a.{z}                  A       found secure
a.{z}                    A       nodata secure
y.a.{z}                  A       nxdomain secure
zz.a.{z}                 A       nxdomain secure
\000.{z}                A       nxdomain secure
\001.{z}                A       found secure
\002.{z}                A       nxdomain secure
\200.{z}                A       found secure
\199.{z}                A       nxdomain secure
\255.{z}                A       nxdomain secure
a\.b.{z}                A       found secure
a\.c.{z}                A       nxdomain secure
b.{z}                    A       nxdomain secure
zzz.{z}                  A       nxdomain secure
";

/// Chains from one full zone into another: what the second one leaves open counts too.
const BETWEEN_ZONES: &str = "
goneacross.nsec.test.    A     nxdomain secure
goneacross.nsec3.test.   A     nxdomain secure
goneacross.it5.test.     A     nxdomain insecure
goneacross.optout.test.  A     nxdomain secure
wildacross.nsec.test.    A     found secure
wildacross.nsec3.test.   A     found secure
wildacross.it5.test.     A     found insecure
wildacross.optout.test.  A     found secure
none.dnameacross.it5.test.   A  nxdomain insecure
none.dnameacross.nsec.test.  A  nxdomain secure
loop.nsec.test.          A     failed
loop.nsec3.test.         TLSA  failed
";

/// Sound zones that limits have kept out: many keys and signatures, odd keys, aliases over zones of the
/// dearest algorithm, and unsigned zones below names that opt-out leaves unspoken of.
const SOUND: &str = "
_25._tcp.mx.eightksk.test.   TLSA    found secure
eightksk.test.               DNSKEY  found secure
none.eightksk.test.          A       nxdomain secure
_25._tcp.mx.bothroll.test.   TLSA    found secure
bothroll.test.               DNSKEY  found secure
none.bothroll.test.          A       nxdomain secure
_25._tcp.mx.gonekeys.test.   TLSA    found secure
gonekeys.test.               DNSKEY  found secure
none.gonekeys.test.          A       nxdomain secure
_25._tcp.mx.manykeys.test.   TLSA    found secure
manykeys.test.               DNSKEY  found secure
none.manykeys.test.          A       nxdomain secure
_25._tcp.mx.oddkey.test.     TLSA    found secure
none.oddkey.test.            A       nxdomain secure
far.p384-4.test.             A       found secure
far.p384-2.test.             A       found secure
far.p384-1.test.             A       found secure
far.p384-1.test.             AAAA    nodata secure
_25._tcp.far.p384-2.test.    TLSA    found secure
_25._tcp.far.p384-1.test.    TLSA    found secure
none.optldns.test.           A       nxdomain insecure
lone.optldns.test.           A       nodata secure
unsigned.lone.optldns.test.  DS      nodata secure
lone.nsec.test.              A       nodata secure
lone.nsec3.test.             A       nodata secure
lone.it5.test.               A       nodata secure
lone.optout.test.            A       nodata insecure
host.unsigned.lone.optldns.test.           MX    found insecure
_25._tcp.host.unsigned.lone.optldns.test.  TLSA  found insecure
none.unsigned.lone.optldns.test.           A     nxdomain insecure
";

/// The root, top-level domains, and all small zones.
const ELSEWHERE: &str = "
.                        SOA     found secure
.                        NS      found secure
.                        DNSKEY  found secure
.                        DS      nodata secure
.                        MX      nodata secure
.                        TLSA    nodata secure
test.                    SOA     found secure
test.                    DS      found secure
test.                    DNSKEY  found secure
test.                    A       nodata secure
quiet.                   DS      found secure
quiet.                   MX      nodata secure
nothing.quiet.           MX      nxdomain insecure
nothing.                 A       nxdomain secure
nothing.                 DS      nxdomain secure
_25._tcp.nothing.        TLSA    nxdomain secure
nothing.test.            DS      nxdomain secure
unsigned.test.           DS      nodata secure
unsigned.test.           MX      nodata insecure
unsigned.test.           DNSKEY  nodata insecure
host.unsigned.test.      MX      found insecure
host.unsigned.test.      AAAA    nodata insecure
none.unsigned.test.      A       nxdomain insecure
_25._tcp.host.unsigned.test.   TLSA  found insecure
back.unsigned.test.      A       found insecure
_25._tcp.back.unsigned.test.   TLSA  found insecure
island.unsigned.test.    DNSKEY  found insecure
mx.island.unsigned.test. A       found insecure
_25._tcp.mx.island.unsigned.test.  TLSA  found insecure
";

/// Asked in every small zone, with the verdict on a positive answer, a wildcard, and a denial.
const SMALL_ZONES: [(&str, [&str; 3]); 46] = [
    // RFC 9905: SHA-1 vouches for nothing, by stated decision.
    ("a5.test.", INSECURE),
    ("a7.test.", INSECURE),
    ("a8.test.", SECURE),
    ("a10.test.", SECURE),
    ("a13.test.", SECURE),
    ("a14.test.", SECURE),
    ("a15.test.", SECURE),
    // Ed448 is none of our algorithms: as good as unknown (RFC 4035 §5.2).
    ("a16.test.", INSECURE),
    // RFC 9276 §3.2: above 150 iterations a denial proves nothing, positive data still does.
    ("it100.test.", SECURE),
    ("it120.test.", SECURE),
    ("it150.test.", SECURE),
    ("it151.test.", TOO_MANY_ITERATIONS),
    ("it500.test.", TOO_MANY_ITERATIONS),
    ("sha1ds.test.", SECURE),
    ("sha384ds.test.", SECURE),
    ("allds.test.", SECURE),
    ("strongds.test.", BOGUS),
    ("wrongds.test.", BOGUS),
    ("unknownalg.test.", INSECURE),
    ("unknowndigest.test.", INSECURE),
    ("mixedds.test.", SECURE),
    ("nods.test.", INSECURE),
    ("nokeys.test.", BOGUS),
    ("zskds.test.", SECURE),
    ("rolling.test.", SECURE),
    ("twoalgs.test.", SECURE),
    ("unknownkey.test.", SECURE),
    ("eightksk.test.", SECURE),
    ("bothroll.test.", SECURE),
    ("gonekeys.test.", SECURE),
    ("manykeys.test.", SECURE),
    ("oddkey.test.", SECURE),
    ("optldns.test.", OPT_OUT),
    ("p384-1.test.", SECURE),
    ("p384-2.test.", SECURE),
    ("p384-3.test.", SECURE),
    ("p384-4.test.", SECURE),
    ("expired.test.", BOGUS),
    ("future.test.", BOGUS),
    ("olddata.test.", BOGUS),
    ("nosigs.test.", BOGUS),
    ("nokeysig.test.", BOGUS),
    ("notlsasig.test.", ["found secure", "found secure", "nodata secure"]),
    ("nonsec.test.", ["found secure", "bogus", "bogus"]),
    ("nonsec3.test.", ["found secure", "bogus", "bogus"]),
    ("nonsecsig.test.", ["found secure", "bogus", "bogus"]),
];
const SECURE: [&str; 3] = ["found secure", "found secure", "nodata secure"];
const INSECURE: [&str; 3] = ["found insecure", "found insecure", "nodata insecure"];
/// The proof that no name is closer than the wildcard leaves room for an unsigned delegation.
const OPT_OUT: [&str; 3] = ["found secure", "found insecure", "nodata secure"];
const BOGUS: [&str; 3] = ["bogus"; 3];
const TOO_MANY_ITERATIONS: [&str; 3] = ["found secure", "found insecure", "nodata insecure"];

/// Single questions to damaged zones.
const DAMAGED: &str = "
_25._tcp.mx.notlsasig.test.  TLSA    bogus
mx.forged.test.              A       bogus
_25._tcp.mx.forged.test.     TLSA    found secure
none.forged.test.            A       nxdomain secure
none.nonsec.test.            A       bogus
_26._tcp.mx.nonsec.test.     TLSA    bogus
_26._tcp.mx.nonsec3.test.    TLSA    bogus
_26._tcp.mx.nonsecsig.test.  TLSA    bogus
olddata.test.                DNSKEY  found secure
olddata.test.                DS      found secure
_25._tcp.mx.expired.test.    TLSA    bogus
expired.test.                DS      found secure
nokeys.test.                 DNSKEY  bogus
wrongds.test.                DS      found secure
_25._tcp.mx.wrongds.test.    TLSA    bogus
_25._tcp.mx.sha1ds.test.     TLSA    found secure
none.sha1ds.test.            A       nxdomain secure
sha1ds.test.                 DS      found secure
unknownalg.test.             DS      found secure
none.it150.test.             A       nxdomain secure
none.it151.test.             A       nxdomain insecure
none.it500.test.             A       nxdomain insecure
_25._tcp.mx.it500.test.      TLSA    found secure
none.a5.test.                A       nxdomain insecure
";

/// Where a validating Unbound 1.17 takes for secure what we do not, and why we keep to our verdict.
/// A zone is meant with all names below it.
pub(crate) const DIFFERENCES: [(&str, &str); 4] = [
    ("a5.test.", "RFC 9905 §2: a validator may treat SHA-1 signatures as insecure; Unbound leaves that to its builder"),
    ("a7.test.", "the same for algorithm 7"),
    ("strongds.test.", "RFC 4509 §3: SHA-1 is ignored beside SHA-256; Unbound asks for harden-algo-downgrade first"),
    ("a16.test.", "Ed448 is optional (RFC 8624 §3.1) and not among our algorithms: insecure, not bogus"),
];

/// The zone of [`DIFFERENCES`] that a name is in.
pub(crate) fn difference(name: &str) -> Option<&'static str> {
    let is_in = |zone: &str| name == zone || name.ends_with(&format!(".{zone}"));
    DIFFERENCES.into_iter().map(|(zone, _)| zone).find(|zone| is_in(zone))
}

/// A question and the right verdict on the answer.
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) record_type: String,
    pub(crate) right: String,
}

/// All of them.
pub(crate) fn questions() -> Vec<Question> {
    let mut all: Vec<Question> =
        [ELSEWHERE, BETWEEN_ZONES, DAMAGED, SOUND].into_iter().flat_map(|text| parse(text, "")).collect();
    for zone in super::zones::FULL {
        all.extend(parse(IN_FULL_ZONES, zone));
    }
    for zone in ["odd.test.", "odd3.test."] {
        all.extend(parse(IN_ODD_ZONES, zone));
    }
    for (zone, verdicts) in SMALL_ZONES {
        for ((name, record_type), right) in [("mx.", "A"), ("any.wild.", "A"), ("", "TXT")].into_iter().zip(verdicts) {
            let name = format!("{name}{zone}");
            all.push(Question { name, record_type: record_type.to_owned(), right: right.to_owned() });
        }
    }
    all
}

fn parse<'a>(text: &'a str, zone: &'a str) -> impl Iterator<Item = Question> + 'a {
    text.lines().filter(|line| !line.is_empty()).map(move |line| {
        let mut words = line.split_whitespace();
        let mut next = || words.next().unwrap_or_default();
        let (name, record_type) = (next().replace("{z}", zone), next().to_owned());
        let mut right = verdict(&mut next);
        let with_opt_out = verdict(&mut next);
        if zone == "optout.test." && !with_opt_out.is_empty() {
            right = with_opt_out;
        }
        Question { name, record_type, right }
    })
}

/// One verdict: "bogus" and "failed" are one word, the others are two.
fn verdict<'a>(next: &mut impl FnMut() -> &'a str) -> String {
    match next() {
        word @ ("bogus" | "failed" | "") => word.to_owned(),
        outcome => format!("{outcome} {}", next()),
    }
}
