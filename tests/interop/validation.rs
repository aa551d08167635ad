//! Our verdict on DNS answers beside Unbound's, on zones signed by ldns and served by NSD
//! (RFC 4035 §5, RFC 5155 §8).

use crate::resolver::Resolver;
use crate::world::open_temp_dir;
use crate::zone::{Authority, ZoneText};
use dane_relay::clock::Clock;
use dane_relay::config::{Config, TrustAnchorSource, Upstream};
use dane_relay::resolve::Security;
use dane_relay::resolve::answer::{Answer, RecordType};
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::event;

/// What an answer says, in words that both sides can be brought to.
type Verdict = (&'static str, &'static str);

const SECURE: &str = "secure";
const INSECURE: &str = "insecure";
const FAILED: Verdict = ("failed", "");

/// Everything that the table below asks for.
const SIGNED: &str = "\
mail.test. 300 IN MX 10 mx.mail.test.
mx.mail.test. 300 IN A 127.0.1.1
_25._tcp.mx.mail.test. 300 IN TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000001
alias.test. 300 IN CNAME mx.mail.test.
_25._tcp.alias.test. 300 IN CNAME _25._tcp.mx.mail.test.
out.test. 300 IN CNAME host.plain.test.
null.test. 300 IN MX 0 .
*.wild.test. 300 IN A 127.0.1.2
*._tcp.wildtlsa.test. 300 IN TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000002
forged.test. 300 IN A 127.0.1.3
";

const UNSIGNED: &str = "\
host.plain.test. 300 IN A 127.0.1.4
_25._tcp.host.plain.test. 300 IN TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000003
";

/// The questions and the right answers.
const CASES: [(&str, RecordType, Verdict); 15] = [
    ("mail.test", RecordType::Mx, ("found", SECURE)),
    ("null.test", RecordType::Mx, ("found", SECURE)),
    ("mx.mail.test", RecordType::A, ("found", SECURE)),
    ("mx.mail.test", RecordType::Aaaa, ("nodata", SECURE)),
    ("_25._tcp.mx.mail.test", RecordType::Tlsa, ("found", SECURE)),
    ("_tcp.mx.mail.test", RecordType::Tlsa, ("nodata", SECURE)),
    ("_26._tcp.mx.mail.test", RecordType::Tlsa, ("nxdomain", SECURE)),
    ("nothing.test", RecordType::Mx, ("nxdomain", SECURE)),
    ("alias.test", RecordType::A, ("found", SECURE)),
    ("out.test", RecordType::A, ("found", INSECURE)),
    ("any.wild.test", RecordType::A, ("found", SECURE)),
    ("_25._tcp.wildtlsa.test", RecordType::Tlsa, ("found", SECURE)),
    ("host.plain.test", RecordType::A, ("found", INSECURE)),
    ("_25._tcp.host.plain.test", RecordType::Tlsa, ("found", INSECURE)),
    ("forged.test", RecordType::A, FAILED),
];

/// Right answers that the DNS library's validator takes for bogus: mail waits, and is not lost to
/// a weaker channel. They belong above once our own validator decides.
const CASES_THAT_MAY_FAIL: [(&str, RecordType, Verdict); 2] = [
    ("alias.test", RecordType::Aaaa, ("nodata", SECURE)),
    ("_25._tcp.alias.test", RecordType::Tlsa, ("found", SECURE)),
];

#[test]
fn rfc4035_our_verdicts_are_unbounds_verdicts() {
    let dir = open_temp_dir();
    let mut zone = ZoneText::default();
    zone.signed_lines(SIGNED);
    zone.unsigned_lines(UNSIGNED);
    zone.forge("forged.test.\t300\tIN\tA\t127.0.1.3", "forged.test.\t300\tIN\tA\t127.0.1.33");
    let authority = Authority::start(dir.path(), &zone);
    let resolver = Resolver::start(dir.path(), &authority);
    let mut config = Config::default();
    config.dns.upstreams = vec![Upstream::Udp(resolver.address)];
    config.dns.trust_anchors = TrustAnchorSource::File(authority.anchor.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ours = Dns::new(&config, Clock::system(), event::nobody()).unwrap();

    let mut wrong = String::new();
    for (name, record_type, right) in CASES.into_iter().chain(CASES_THAT_MAY_FAIL) {
        let dig = resolver.dig(name, record_type.word());
        let unbound = verdict_of_dig(&dig, record_type);
        assert_eq!(unbound, right, "Unbound on {name} {}: {dig}", record_type.word());
        let (answer, _trace) = runtime.block_on(ours.lookup(name, record_type));
        let may_fail = CASES_THAT_MAY_FAIL.contains(&(name, record_type, right));
        let verdict = verdict_of(&answer);
        if verdict != right && !(may_fail && verdict == FAILED) {
            wrong += &format!("{name} {}: {right:?} is right, ours is {answer:?}\n", record_type.word());
        }
    }
    assert_eq!(wrong, "");
}

fn verdict_of(answer: &Answer) -> Verdict {
    match answer {
        Answer::Found(found) => ("found", word(found.security)),
        Answer::NoData(security) => ("nodata", word(*security)),
        Answer::NxDomain(security) => ("nxdomain", word(*security)),
        Answer::Failed(_) => FAILED,
    }
}

fn word(security: Security) -> &'static str {
    match security {
        Security::Secure => SECURE,
        Security::Insecure => INSECURE,
        Security::Bogus => "bogus",
        Security::Indeterminate => "indeterminate",
    }
}

/// `dig`'s output of Unbound's answer; a bogus one is SERVFAIL (RFC 4035 §5.5).
fn verdict_of_dig(text: &str, record_type: RecordType) -> Verdict {
    let flags = text.lines().find_map(|line| line.strip_prefix(";; flags:")).unwrap();
    let is_authentic = flags.split(';').next().unwrap().split(' ').any(|flag| flag == "ad");
    let security = if is_authentic { SECURE } else { INSECURE };
    let data = format!("\tIN\t{}\t", record_type.word());
    if text.contains("status: NXDOMAIN") {
        ("nxdomain", security)
    } else if !text.contains("status: NOERROR") {
        FAILED
    } else if text.lines().any(|line| !line.starts_with(';') && line.contains(&data)) {
        ("found", security)
    } else {
        ("nodata", security)
    }
}
