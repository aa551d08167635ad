//! Two checks of one domain side by side: this host's, and one made elsewhere (pure). Where the
//! two differ, the difference is the host's or its network's, and not the recipient's.

use super::analyse::{Diagnosis, analyse};
use super::evidence::{Evidence, ServerSeen};
use super::verdict::Verdict;
use crate::text::paragraph;
use std::collections::BTreeMap;

/// Where the text beside a label begins.
const LABEL_WIDTH: usize = 9;

/// The differences in words; `theirs` was read from a file.
#[must_use]
pub fn compare(ours: &Evidence, theirs: &Evidence) -> String {
    let (here, there) = (analyse(ours), analyse(theirs));
    let mut out = format!("COMPARED  {}\n", ours.domain);
    if ours.domain != theirs.domain {
        return out + &paragraph("", &format!("The file is about another domain: {}.", theirs.domain), 0);
    }
    out += &paragraph("here:", &verdict(ours, &here), LABEL_WIDTH);
    out += &paragraph("there:", &verdict(theirs, &there), LABEL_WIDTH);
    out += &paragraph("", &conclusion(&here, &there), 0);
    let differences: Vec<String> =
        tlsa(ours, theirs).into_iter().chain(dns(ours, theirs)).chain(servers(ours, theirs)).collect();
    if differences.is_empty() {
        out += "No difference in what the DNS and the mail servers said.\n";
    }
    for difference in differences {
        out += &paragraph("differs:", &difference, LABEL_WIDTH);
    }
    out
}

fn verdict(evidence: &Evidence, diagnosis: &Diagnosis) -> String {
    let side = diagnosis.side.map_or_else(String::new, |side| format!(", side {}", side.word()));
    let word = if diagnosis.level == Verdict::Ok { String::new() } else { format!(" {}", diagnosis.word) };
    format!("{}: {}{word}{side}: {}", evidence.at, diagnosis.level.word(), diagnosis.sentence)
}

fn conclusion(here: &Diagnosis, there: &Diagnosis) -> String {
    let good = |diagnosis: &Diagnosis| matches!(diagnosis.level, Verdict::Ok);
    match (good(here), good(there)) {
        (true, true) => "Both find the domain in good order.".to_owned(),
        (false, true) => {
            "There it works: the cause is on this side, at this host, its resolver or its network.".to_owned()
        }
        (true, false) => "Here it works: the cause is on the other side.".to_owned(),
        (false, false) if here.word == there.word => {
            "Both meet the same fault: it is most likely the recipient's, or one that both networks share.".to_owned()
        }
        (false, false) => "Both meet a fault, and not the same one.".to_owned(),
    }
}

/// TLSA records that only one side got, or not as many.
fn tlsa(ours: &Evidence, theirs: &Evidence) -> Vec<String> {
    let counts = |evidence: &Evidence| -> BTreeMap<String, usize> {
        evidence.delivery.tlsa.iter().map(|tlsa| (tlsa.name.clone(), tlsa.records)).collect()
    };
    let (here, there) = (counts(ours), counts(theirs));
    let names: std::collections::BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let told = |count: Option<&usize>| count.map_or_else(|| "none".to_owned(), ToString::to_string);
    let differ = names.into_iter().filter(|name| here.get(*name) != there.get(*name));
    differ
        .map(|name| format!("TLSA records of {name}: {} here, {} there", told(here.get(name)), told(there.get(name))))
        .collect()
}

/// Questions that had no answer on one side only.
fn dns(ours: &Evidence, theirs: &Evidence) -> Vec<String> {
    let failed = |evidence: &Evidence| -> BTreeMap<String, usize> {
        evidence.troubled.iter().map(|troubled| (troubled.question.to_string(), troubled.failed.len())).collect()
    };
    let (here, there) = (failed(ours), failed(theirs));
    let only = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>, place: &str| -> Vec<String> {
        let alone = a.keys().filter(|question| !b.contains_key(*question));
        alone.map(|question| format!("{question} fails on some path {place} only")).collect()
    };
    [only(&here, &there, "here"), only(&there, &here, "there")].concat()
}

/// Mail servers that behave otherwise, address by address.
fn servers(ours: &Evidence, theirs: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for server in &ours.servers {
        let Some(other) = theirs.servers.iter().find(|other| other.address == server.address) else {
            found.push(format!("{} {} was met here only", server.host, server.address));
            continue;
        };
        found.extend(server_difference(server, other));
    }
    let unmet = |other: &&ServerSeen| !ours.servers.iter().any(|server| server.address == other.address);
    found.extend(theirs.servers.iter().filter(unmet).map(|s| format!("{} {} was met there only", s.host, s.address)));
    found
}

fn server_difference(here: &ServerSeen, there: &ServerSeen) -> Option<String> {
    let word = |server: &ServerSeen| server.cause.as_ref().map_or("good", |cause| cause.row().word);
    if word(here) != word(there) {
        return Some(format!("{} {}: {} here, {} there", here.host, here.address, word(here), word(there)));
    }
    let (a, b) = (here.certificate.as_ref()?, there.certificate.as_ref()?);
    (a.sha256 != b.sha256).then(|| {
        format!("{} {} shows another certificate: here by {}, there by {}", here.host, here.address, a.issuer, b.issuer)
    })
}
