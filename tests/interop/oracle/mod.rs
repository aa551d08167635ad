//! Our verdicts on certificates beside OpenSSL's (RFC 7671 §4-§9, RFC 7672 §3).
//!
//! OpenSSL does the DANE of Postfix and Exim, so where a sender of today delivers we must deliver
//! and where it refuses we must refuse. What is meant to differ stands in [`DIFFERENCES`].

mod chains;
mod command_line;
mod made_by_openssl;

use crate::world::open_temp_dir;
use aws_lc_rs::digest::{SHA256, SHA512, digest};
use chains::{Chain, HOST};
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::policy::dane;
use dane_relay::resolve::TlsaRecord;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The libraries behind the openssl command, by way of Python.
const OPENSSL: &str = include_str!("openssl.py");
/// How many chains with any number of faults there are beside the ones with a single fault.
const RANDOM_CHAINS: u32 = 120;
/// OpenSSL's own default since 3.2 and Debian's for longer: 112 bits, so RSA from 2048 and no SHA-1.
const SECURITY_LEVEL: u8 = 2;

/// Where we mean to differ: a part of the case's name, what OpenSSL says (its beginning), why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "depth 0",
        "no no matching DANE TLSA records",
        "A self-signed server certificate may be its own anchor (RFC 7671 §5.2 names no least depth). OpenSSL takes \
         it as anchor by its key in full (2 1 0) and in no other form; we take it in all of them.",
    ),
    (
        "named like its issuer",
        "no no matching DANE TLSA records",
        "Whether a certificate signed itself shows in its signature. OpenSSL goes by the names where the \
         certificates have no key identifiers, and does not look for the issuer.",
    ),
    (
        "named like its issuer",
        "ok 2 1 0 0",
        "The same; it is the anchor's key by accident and the depth is told wrong.",
    ),
    (
        "leaf with RSA",
        "no EE certificate key too weak",
        "A short key of a server endangers that server alone, and its domain vouches for it. Issuers with one are \
         refused by both of us.",
    ),
    ("alone signed with SHA-1", "ok 2 1 0 0", "SHA-1 proves nothing; OpenSSL does not look at this one signature."),
    ("root with secp256k1", "ok 2", "A curve that TLS does not have; no public CA has used it."),
    ("root with brainpoolP256r1", "ok 2", "The library does not know the curve, and TLS 1.3 does not have it."),
    ("root with ED448", "ok 2", "The library does not know it."),
    ("and a short salt", "ok 2", "RFC 4055 §3.1 recommends a salt as long as the digest; the library takes no other."),
    ("and the longest salt", "ok 2", "The same."),
    (
        "cross-signed",
        "no no matching DANE TLSA records",
        "Any valid path is enough (RFC 7671 §5.2). OpenSSL goes up one way and does not turn back.",
    ),
    (
        "wildcard common name only",
        "ok 2",
        "A host name is held against name constraints wherever it stands. OpenSSL passes over a Common Name with a \
         wildcard, and then takes it for a host name all the same.",
    ),
    (
        "excludes the host, 0: wildcard",
        "ok 2",
        "A wildcard is for every host below it, so it may not reach an excluded one. OpenSSL compares its letters.",
    ),
    ("excludes a neighbour, 0: wildcard", "ok 2", "The same."),
    ("without its root", "ok 2 1 0", "A matter of counting: we count the key in the DNS as a step, OpenSSL does not."),
];

/// A question to both.
struct Case {
    name: String,
    chain: Vec<Vec<u8>>,
    records: Vec<TlsaRecord>,
    /// Several of the records fit, and which is told does not matter.
    has_choice: bool,
}

/// Every chain with every record that fits one of its certificates, and with wrong ones.
#[test]
fn rfc7671_our_verdicts_are_those_of_openssl() {
    let dir = open_temp_dir();
    let mut all = chains::chains(RANDOM_CHAINS);
    all.extend(made_by_openssl::chains(dir.path()));
    let cases: Vec<Case> = all.iter().flat_map(cases).collect();
    let now = Clock::system().now().plus(Duration::from_secs(60));

    let (ours, openssl) = std::thread::scope(|scope| {
        let openssl = scope.spawn(|| openssl_says(&cases, now));
        let ours: Vec<String> = cases.iter().map(|case| we_say(case, now)).collect();
        (ours, openssl.join().unwrap())
    });
    let (mut wrong, mut seen, mut agreed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for ((case, ours), openssl) in cases.iter().zip(ours).zip(openssl) {
        let same_yes = ours == openssl || case.has_choice && ours.starts_with("ok ") && openssl.starts_with("ok ");
        let alike = same_yes || ours.starts_with("no ") && openssl.starts_with("no ");
        let known = DIFFERENCES.iter().find(|(part, said, _)| case.name.contains(part) && openssl.starts_with(said));
        match known {
            _ if alike => drop(agreed.insert(openssl)),
            Some((part, said, _)) => drop(seen.insert((*part, *said))),
            None => wrong.push(format!("{}:\n   OpenSSL: {openssl}\n   we:      {ours}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let unseen: Vec<_> = DIFFERENCES.iter().filter(|(part, said, _)| !seen.contains(&(*part, *said))).collect();
    assert!(unseen.is_empty(), "no difference any more: {unseen:?}");
    assert!(agreed.len() > 20, "the cases are of many kinds: {agreed:?}");
}

/// The records that fit a certificate of the chain, one at a time, and what must not fit.
fn cases(chain: &Chain) -> Vec<Case> {
    let case = |what: String, records: Vec<TlsaRecord>| Case {
        name: format!("{}; {what}", chain.name),
        chain: chain.sent.clone(),
        records,
        has_choice: false,
    };
    let mut cases = Vec::new();
    for (depth, der) in chain.path.iter().enumerate() {
        for usage in if depth == 0 { [3, 2].as_slice() } else { &[2] } {
            for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
                let good = tlsa(*usage, selector, matching, der);
                cases.push(case(format!("{usage} {selector} {matching} for {depth}"), vec![good.clone()]));
            }
        }
        cases.push(case(format!("3 1 1 for {depth}"), vec![tlsa(3, 1, 1, der)]));
        let (mut bad, mut weaker) = (tlsa(2, 1, 2, der), tlsa(2, 1, 1, der));
        bad.data[7] ^= 1;
        cases.push(case(format!("wrong 2 1 2, right 2 1 1 for {depth}"), vec![bad, weaker.clone()]));
        weaker.data[7] ^= 1;
        cases.push(case(format!("right 2 1 2, wrong 2 1 1 for {depth}"), vec![weaker, tlsa(2, 1, 2, der)]));
    }
    let mut strange = tlsa(3, 1, 1, &chain.path[0]);
    strange.data[0] ^= 1;
    cases.push(case("wrong 3 1 1".to_owned(), vec![strange.clone()]));
    let root = chain.path.last().unwrap();
    cases.push(case("wrong 3 1 1, right 2 0 1 for the root".to_owned(), vec![strange, tlsa(2, 0, 1, root)]));
    let everything = chain.path.iter().flat_map(|der| [tlsa(2, 0, 0, der), tlsa(2, 1, 0, der)]).collect();
    cases.push(Case { has_choice: true, ..case("all in full".to_owned(), everything) });
    cases
}

/// RFC 6698 §2.1, worked out without the code under test.
fn tlsa(usage: u8, selector: u8, matching: u8, der: &[u8]) -> TlsaRecord {
    let (_, x509) = x509_parser::parse_x509_certificate(der).unwrap();
    let selected = if selector == 0 { der } else { x509.public_key().raw };
    let data = match matching {
        0 => selected.to_vec(),
        1 => digest(&SHA256, selected).as_ref().to_vec(),
        _ => digest(&SHA512, selected).as_ref().to_vec(),
    };
    TlsaRecord { usage, selector, matching, data }
}

fn we_say(case: &Case, now: Timestamp) -> String {
    let chain: Vec<&[u8]> = case.chain.iter().map(Vec::as_slice).collect();
    match dane::verify(&chain, &case.records, &[HOST.parse().unwrap()], now) {
        Ok(found) => {
            let TlsaRecord { usage, selector, matching, .. } = found.record;
            format!("ok {usage} {selector} {matching} {}", found.depth)
        }
        Err(failure) => format!("no {failure}"),
    }
}

/// One answer for each case, in their order.
fn openssl_says(cases: &[Case], now: Timestamp) -> Vec<String> {
    let mut python =
        Command::new("python3").args(["-c", OPENSSL]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut questions = python.stdin.take().unwrap();
    let lines: Vec<String> = cases.iter().map(|case| question(case, now)).collect();
    let writer = std::thread::spawn(move || lines.iter().try_for_each(|line| writeln!(questions, "{line}")));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let answers: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), cases.len());
    answers
}

fn question(case: &Case, now: Timestamp) -> String {
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let records = case.records.iter().map(|r| json!([r.usage, r.selector, r.matching, hex(&r.data)]));
    json!({
        "chain": case.chain.iter().map(|der| hex(der)).collect::<Vec<_>>(),
        "records": records.collect::<Vec<_>>(),
        "names": [HOST],
        "time": now.unix_seconds(),
        "level": SECURITY_LEVEL,
    })
    .to_string()
}
