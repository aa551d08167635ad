//! Our verdicts beside Unbound's, on zones of every shape that foreign programs signed and NSD
//! serves (RFC 4035 §5, RFC 5155 §8).

mod questions;
mod servers;
mod signer;
mod ways;
mod zones;

use crate::world::open_temp_dir;
use questions::{Question, difference, questions};
use servers::Servers;
use zones::shapes;

/// The table, Unbound and the relay agree, question by question; the differences that are meant
/// are in [`questions::DIFFERENCES`], and each of them is seen.
#[test]
fn rfc4035_our_verdicts_are_unbounds_verdicts() {
    let dir = open_temp_dir();
    let servers = Servers::start(dir.path(), &shapes());
    let questions = questions();
    let mut wrong = verdicts_of_unbound(&servers, &questions);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (way, config) in ways::ways(&servers) {
        let warm = ways::cold(&config);
        for Question { name, record_type, right } in &questions {
            let state = [("cold", &ways::cold(&config)), ("warm", &warm)];
            for (state, dns) in state {
                let (verdict, detail) = runtime.block_on(ways::ask(dns, name, record_type));
                if verdict != *right {
                    wrong += &format!("{name} {record_type}: {right} is right, {verdict} {way}, {state}: {detail}\n");
                }
            }
        }
        eprintln!("{way}: done");
    }
    if std::env::var_os("STAY").is_some() {
        eprintln!("{wrong}{} {} {} {}", servers.validating, servers.forwarding, servers.root, dir.path().display());
        std::thread::sleep(std::time::Duration::from_secs(100_000));
    }
    assert_eq!(wrong, "");
}

/// Where Unbound differs from the table.
fn verdicts_of_unbound(servers: &Servers, questions: &[Question]) -> String {
    let mut wrong = String::new();
    let mut seen = std::collections::BTreeSet::new();
    for Question { name, record_type, right } in questions {
        let verdict = verdict_of_unbound(servers, name, record_type);
        match difference(name) {
            _ if verdict == *right => {}
            Some(zone) if verdict.ends_with(" secure") => {
                seen.insert(zone);
            }
            _ => wrong += &format!("{name} {record_type}: {right} is right, Unbound says {verdict}\n"),
        }
    }
    for (zone, why) in questions::DIFFERENCES {
        if !seen.contains(zone) {
            wrong += &format!("{zone} makes no difference any more: {why}\n");
        }
    }
    wrong
}

/// What Unbound makes of a question. A bogus answer is SERVFAIL, unless checking is disabled
/// (RFC 4035 §5.5, §3.2.2).
fn verdict_of_unbound(servers: &Servers, name: &str, record_type: &str) -> String {
    let text = servers.dig(name, record_type, &[]);
    let verdict = verdict_of_dig(&text, record_type);
    if verdict == "failed" && verdict_of_dig(&servers.dig(name, record_type, &["+cd"]), record_type) != "failed" {
        return "bogus".to_owned();
    }
    verdict
}

/// `dig`'s output in our words.
fn verdict_of_dig(text: &str, record_type: &str) -> String {
    let flags = text.lines().find_map(|line| line.strip_prefix(";; flags:")).unwrap_or_default();
    let is_authentic = flags.split(';').next().unwrap_or_default().split(' ').any(|flag| flag == "ad");
    let security = if is_authentic { "secure" } else { "insecure" };
    let answer = text.split(";; ANSWER SECTION:").nth(1).unwrap_or_default();
    let answer = answer.split("\n;;").next().unwrap_or_default();
    let has_type = |line: &str| line.split_whitespace().nth(3) == Some(record_type);
    if text.contains("status: NXDOMAIN") {
        format!("nxdomain {security}")
    } else if !text.contains("status: NOERROR") {
        "failed".to_owned()
    } else if answer.lines().any(has_type) {
        format!("found {security}")
    } else {
        format!("nodata {security}")
    }
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
        let (json, exit) = ways::relay_dns(&servers, shift, name, record_type);
        assert_eq!((json["status"].as_str(), exit), (Some(status), code), "{shift:?} {name} {record_type}: {json}");
    }
    let (json, _) = ways::relay_dns(&servers, None, "_25._tcp.five.nsec3.test", "TLSA");
    assert_eq!(json["records"].as_array().map(Vec::len), Some(5), "{json}");
    assert_eq!(json["path"], format!("udp://{}", servers.forwarding), "{json}");
}
