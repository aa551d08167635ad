//! Our verdicts beside Unbound's, on zones of every shape that foreign programs signed and NSD
//! serves (RFC 4035 §5, RFC 5155 §8).

mod questions;
mod servers;
mod signer;
mod zones;

use crate::world::open_temp_dir;
use questions::{DIFFERENCES, Question, questions};
use servers::Servers;
use zones::shapes;

#[test]
fn rfc4035_unbound_agrees_with_the_table() {
    let dir = open_temp_dir();
    let servers = Servers::start(dir.path(), &shapes());
    let mut wrong = String::new();
    for Question { name, record_type, right } in questions() {
        let verdict = verdict_of_unbound(&servers, &name, &record_type);
        if verdict != right {
            wrong += &format!("{name} {record_type}: {right} is right, Unbound says {verdict}\n");
        }
    }
    if std::env::var_os("STAY").is_some() { eprintln!("{wrong}{} {}", servers.validating, dir.path().display()); std::thread::sleep(std::time::Duration::from_secs(100000)); }
    assert_eq!(wrong, "");
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
