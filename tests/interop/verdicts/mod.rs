//! Our verdicts beside Unbound's, on zones of every shape that foreign programs signed and NSD
//! serves (RFC 4035 §5, RFC 5155 §8).

mod paths;
mod questions;
mod servers;
pub(crate) mod signer;
mod zones;

use crate::world::open_temp_dir;
use questions::{DIFFERENCES, Question, difference, questions};
use servers::{Servers, dig};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use zones::shapes;

/// What somebody makes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LookupResult {
    /// Outcome and security, in the words of [`questions`].
    verdict: String,
    /// Records of the type that was asked for, at the end of the aliases.
    records: usize,
}

/// The table, Unbound and the relay agree, question by question, in every path the relay has of
/// asking, knowing nothing yet or all that came before. The differences that are meant are in
/// [`DIFFERENCES`], and each of them is seen.
#[test]
fn rfc4035_our_verdicts_are_unbounds_verdicts() {
    let dir = open_temp_dir();
    let servers = Servers::start(dir.path(), &shapes());
    let (questions, mut wrong) = (questions(), String::new());
    let of_unbound: Vec<LookupResult> =
        questions.iter().map(|q| unbound_says(servers.validating, &q.name, &q.record_type)).collect();
    compare_with_the_table(&questions, &of_unbound, &mut wrong);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (path, config) in paths::paths(&servers) {
        let warm = paths::cold(&config);
        for (Question { name, record_type, right }, unbound) in questions.iter().zip(&of_unbound) {
            for (state, dns) in [("cold", &paths::cold(&config)), ("warm", &warm)] {
                let (ours, detail) = runtime.block_on(paths::ask(dns, name, record_type));
                let records = if right.starts_with("found") { unbound.records } else { 0 };
                if ours != (LookupResult { verdict: right.clone(), records }) {
                    wrong += &format!("{name} {record_type}: {right} is right, {path}, {state}: {ours:?} {detail}\n");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "of {} questions:\n{wrong}", questions.len());
}

/// Where Unbound differs from the table and should not, and the other way round.
fn compare_with_the_table(questions: &[Question], of_unbound: &[LookupResult], wrong: &mut String) {
    let mut seen = BTreeSet::new();
    for (Question { name, record_type, right }, unbound) in questions.iter().zip(of_unbound) {
        match difference(name) {
            _ if unbound.verdict == *right => {}
            Some(zone) if unbound.verdict.ends_with(" secure") => {
                seen.insert(zone);
            }
            _ => *wrong += &format!("{name} {record_type}: {right} is right, Unbound: {unbound:?}\n"),
        }
    }
    for (zone, why) in DIFFERENCES {
        if !seen.contains(zone) {
            *wrong += &format!("{zone} makes no difference any more: {why}\n");
        }
    }
}

/// What Unbound makes of a question. A bogus answer is SERVFAIL, unless checking is disabled
/// (RFC 4035 §5.5, §3.2.2).
fn unbound_says(unbound: SocketAddr, name: &str, record_type: &str) -> LookupResult {
    let said = read_dig(&dig(unbound, name, record_type, &[]), record_type);
    let unchecked = || read_dig(&dig(unbound, name, record_type, &["+cd"]), record_type);
    if said.verdict == "failed" && unchecked().verdict != "failed" {
        return LookupResult { verdict: "bogus".to_owned(), ..said };
    }
    said
}

/// `dig`'s output in our words.
fn read_dig(text: &str, record_type: &str) -> LookupResult {
    let flags = text.lines().find_map(|line| line.strip_prefix(";; flags:")).unwrap_or_default();
    let is_authentic = flags.split(';').next().unwrap_or_default().split(' ').any(|flag| flag == "ad");
    let security = if is_authentic { "secure" } else { "insecure" };
    let answer = text.split(";; ANSWER SECTION:").nth(1).unwrap_or_default();
    let answer = answer.split("\n;;").next().unwrap_or_default();
    let has_type = |line: &&str| line.split_whitespace().nth(3) == Some(record_type);
    let records = answer.lines().filter(has_type).count();
    let verdict = if text.contains("status: NXDOMAIN") {
        format!("nxdomain {security}")
    } else if !text.contains("status: NOERROR") {
        "failed".to_owned()
    } else if records > 0 {
        format!("found {security}")
    } else {
        format!("nodata {security}")
    };
    LookupResult { verdict, records }
}

/// The command and its exit codes, now and when the signatures are over or have not begun
/// (RFC 4035 §5.3.1): 400 days are more than any of the signers gives.
#[test]
fn rfc4035_5_3_1_relay_dns_lives_by_the_system_clock() {
    let dir = open_temp_dir();
    let servers = Servers::start(dir.path(), &shapes());
    let cases = [
        (None, "_25._tcp.five.nsec3.test", "TLSA", "secure", 0),
        (None, "host.unsigned.test", "MX", "insecure", 0),
        (None, "_25._tcp.mx.wrongds.test", "TLSA", "bogus", 2),
        (None, "loop.nsec.test", "A", "error", 3),
        (Some("+400 days"), "_25._tcp.five.nsec3.test", "TLSA", "bogus", 2),
        (Some("+400 days"), "host.unsigned.test", "MX", "bogus", 2),
        (Some("-400 days"), "_25._tcp.five.nsec3.test", "TLSA", "bogus", 2),
    ];
    for (shift, name, record_type, status, code) in cases {
        let (json, exit) = paths::relay_dns(&servers, shift, name, record_type);
        assert_eq!((json["status"].as_str(), exit), (Some(status), code), "{shift:?} {name} {record_type}: {json}");
    }
    let (json, _) = paths::relay_dns(&servers, None, "_25._tcp.five.nsec3.test", "TLSA");
    assert_eq!(json["records"].as_array().map(Vec::len), Some(5), "{json}");
    assert_eq!(json["path"], format!("udp://{}", servers.forwarding), "{json}");
}
