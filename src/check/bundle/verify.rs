//! Whether a bundle holds (pure): every chain of trust is validated again from the verifier's own trust
//! anchors down, at the time that is stated, and every certificate is held against the TLSA records that
//! come of it.

use super::{Bundle, BundleError, BundledAnswer, BundledServer, decoded, name_of, sha256, type_of};
use crate::check::evidence::NegotiatedTls;
use crate::clock::Timestamp;
use crate::policy::dane;
use crate::resolve::dnssec::{Anchors, Outcome, Validated};
use crate::resolve::{Security, TlsaRecord};
use crate::smtp::address::Domain;
use crate::text::paragraph;
use hickory_proto::rr::{RData, Record, RecordType};
use std::collections::BTreeMap;
use std::time::Duration;

/// Answers of one bundle are of one check.
const ONE_CHECK: Duration = Duration::from_secs(900);
/// Clocks differ a little.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// What holds, in lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Proven by signatures, or by what follows from them.
    pub proven: Vec<String>,
    /// Stated by whoever made the bundle.
    pub stated: Vec<String>,
}

impl Verified {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = "VERIFIED  the file is as it was written, and what can be proven holds\n".to_owned();
        for line in &self.proven {
            text += &paragraph("proven:", line, 9);
        }
        for line in &self.stated {
            text += &paragraph("stated:", line, 9);
        }
        text
    }
}

/// Verifies a file of `relay check --bundle`.
///
/// # Errors
/// What does not hold.
pub fn verify(octets: &[u8], anchors: &Anchors, now: Timestamp) -> Result<Verified, BundleError> {
    let bundle = Bundle::from_file(octets)?;
    times(&bundle, now)?;
    let mut proven = Vec::new();
    let mut answers = BTreeMap::new();
    for answer in &bundle.dns {
        let validated = chain(answer, anchors)?;
        proven.push(in_words(answer, &validated));
        answers.insert((answer.name.as_str(), answer.record_type.as_str()), validated);
    }
    for server in &bundle.servers {
        shown_is_seen(&bundle, server)?;
        if let Some(words) = dane_of(&bundle, server, &answers)? {
            proven.push(words);
        }
    }
    Ok(Verified { proven, stated: stated(&bundle) })
}

/// Nobody has seen the future, and one check takes minutes at most.
fn times(bundle: &Bundle, now: Timestamp) -> Result<(), BundleError> {
    if bundle.at > now.plus(CLOCK_SLACK) {
        return Err(BundleError::False(format!("it was made at {}, which is still to come", bundle.at)));
    }
    let messages = bundle.dns.iter().flat_map(|answer| answer.messages.iter().map(|message| message.at));
    let all = messages.chain(bundle.dns.iter().map(|answer| answer.at)).chain([bundle.evidence.at]);
    match all.chain(bundle.servers.iter().map(|server| server.at)).find(|at| apart(*at, bundle.at) > ONE_CHECK) {
        Some(at) => Err(BundleError::False(format!("{at} is not of the check of {}", bundle.at))),
        None => Ok(()),
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

/// The chain of trust leads where it is said to lead.
fn chain(answer: &BundledAnswer, anchors: &Anchors) -> Result<Validated, BundleError> {
    let question = format!("{} {}", answer.name, answer.record_type);
    let fails = |why: String| BundleError::False(format!("{question}: {why}"));
    let proof = answer.proof()?;
    let asked = proof.messages.first().map(|first| (first.name.clone(), first.record_type));
    if asked != Some((name_of(&answer.name)?, type_of(&answer.record_type)?)) {
        return Err(fails("the first message answers another question".to_owned()));
    }
    let validated = proof.validate(anchors).map_err(|error| fails(error.to_string()))?;
    if validated.security.word() != answer.security {
        let reason = validated.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        return Err(fails(format!("it is {} and not {}{reason}", validated.security.word(), answer.security)));
    }
    if validated.reason.as_ref().map(ToString::to_string) != answer.reason {
        return Err(fails("it is so for another reason than is stated".to_owned()));
    }
    if shown(&validated) != answer.records {
        return Err(fails("the records are others than are stated".to_owned()));
    }
    Ok(validated)
}

/// The data of the records that an answer comes to, in an order of their own.
pub(super) fn shown(validated: &Validated) -> Vec<String> {
    let mut shown: Vec<String> = records(validated).iter().map(|record| record.data.to_string()).collect();
    shown.sort();
    shown
}

fn records(validated: &Validated) -> &[Record] {
    match &validated.outcome {
        Outcome::Found { records, .. } => records,
        Outcome::NoData { .. } | Outcome::NxDomain { .. } | Outcome::ErrorCode(_) => &[],
    }
}

fn in_words(answer: &BundledAnswer, validated: &Validated) -> String {
    let found = match &validated.outcome {
        Outcome::Found { records, .. } => crate::text::counted(records.len() as u64, "record"),
        Outcome::NoData { .. } => "there is no such record".to_owned(),
        Outcome::NxDomain { .. } => "there is no such name".to_owned(),
        Outcome::ErrorCode(code) => format!("no answer ({code})"),
    };
    let chain: Vec<String> = validated.chain.iter().map(|link| link.zone.to_string()).collect();
    let BundledAnswer { name, record_type, at, security, .. } = answer;
    let reason = answer.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{name} {record_type} at {at}: {security}, {found}{reason}; chain {}", chain.join(" → "))
}

/// The certificate is the one that the evidence speaks of.
fn shown_is_seen(bundle: &Bundle, server: &BundledServer) -> Result<(), BundleError> {
    let Some(own) = server.certificates.first() else { return Ok(()) };
    let seen = bundle.evidence.servers.iter().find(|seen| seen.address == server.address && !seen.control);
    let stated = seen.and_then(|seen| seen.certificate.as_ref()).map(|certificate| certificate.sha256.clone());
    let is_same = match stated {
        Some(stated) => stated == sha256(&decoded(own)?),
        None => true,
    };
    if is_same {
        Ok(())
    } else {
        Err(BundleError::False(format!("{}: the certificate is another one", server.address)))
    }
}

/// What the certificates come to under the TLSA records of the chain above.
fn dane_of(
    bundle: &Bundle,
    server: &BundledServer,
    answers: &BTreeMap<(&str, &str), Validated>,
) -> Result<Option<String>, BundleError> {
    let Some(owner) = &server.tlsa else { return Ok(None) };
    let fails = |why: &str| BundleError::False(format!("{} {}: {why}", server.host, server.address));
    let validated = answers.get(&(owner.as_str(), "TLSA")).ok_or_else(|| fails("its TLSA records are not there"))?;
    if validated.security != Security::Secure {
        return Err(fails("its TLSA records are not signed, and count for nothing"));
    }
    let found = judged(bundle, server, validated)?;
    if server.dane.as_ref() != Some(&found) {
        return Err(fails(&format!("under the TLSA records the certificates come to \"{found}\"")));
    }
    Ok(Some(format!("{} {}: {found}, of {owner}", server.host, server.address)))
}

/// The certificates of a server against TLSA records, in words (RFC 7672 §3).
pub(super) fn judged(bundle: &Bundle, server: &BundledServer, tlsa: &Validated) -> Result<String, BundleError> {
    let chain = server.certificates.iter().map(|der| decoded(der)).collect::<Result<Vec<_>, _>>()?;
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let records: Vec<TlsaRecord> = records(tlsa).iter().filter_map(tlsa_record).collect();
    let base = server.tlsa.as_deref().and_then(|owner| owner.splitn(3, '.').nth(2)).unwrap_or_default();
    // The domain's own name counts where signed MX records lead to the host (RFC 7672 §3.2.2).
    let is_signed = |answer: &&BundledAnswer| answer.record_type == "MX" && answer.security == "secure";
    let domain = bundle.dns.iter().find(is_signed).map(|_| bundle.domain.as_str());
    let references: Vec<Domain> =
        [base.trim_end_matches('.')].into_iter().chain(domain).filter_map(|name| name.parse().ok()).collect();
    if dane::usable(&records).is_empty() {
        return Ok("no usable TLSA record".to_owned());
    }
    Ok(match dane::verify(&chain, &records, &references, server.at) {
        Ok(found) => format!("TLSA {} fits the certificate at depth {}", found.record, found.depth),
        Err(failure) => format!("no TLSA record fits: {failure}"),
    })
}

fn tlsa_record(record: &Record) -> Option<TlsaRecord> {
    if record.record_type() != RecordType::TLSA {
        return None;
    }
    let RData::TLSA(tlsa) = &record.data else { return None };
    let (usage, selector, matching) = (tlsa.cert_usage.into(), tlsa.selector.into(), tlsa.matching.into());
    Some(TlsaRecord { usage, selector, matching, data: tlsa.cert_data.clone() })
}

fn stated(bundle: &Bundle) -> Vec<String> {
    let Bundle { relay, at, domain, verdict, .. } = bundle;
    let mut lines = vec![format!("made by relay {relay} at {at} about {domain}"), verdict.clone()];
    lines.push(crate::text::counted(bundle.evidence.dns.len() as u64, "probe") + " of the DNS with times and ports");
    let spoke = bundle.servers.iter().filter(|server| server.greeting.is_some());
    lines.extend(spoke.map(|server| {
        let greeting = server.greeting.as_deref().unwrap_or_default();
        format!("{} {} said at {}: {greeting}", server.host, server.address, server.at)
    }));
    let with_tls = bundle.evidence.servers.iter().filter(|server| !server.control);
    let with_tls = with_tls.filter_map(|server| Some((server, server.negotiated.as_ref()?)));
    lines.extend(with_tls.map(|(server, NegotiatedTls { version, group, offers })| {
        let group = group.as_ref().map_or_else(String::new, |group| format!(" with {group}"));
        let offers = if offers.is_empty() { "nothing more".to_owned() } else { offers.join(", ") };
        format!("{} {} negotiated {version}{group}, and offers behind it: {offers}", server.host, server.address)
    }));
    lines.extend(bundle.unproven.iter().map(|line| format!("not validated: {line}")));
    lines
}
