//! What will go wrong with a domain before it does, or does so already for a part of its servers (pure):
//! what `relay watch` looks for in a check of it.
//!
//! - a signature that ends within a day, and is at the end of its life (RFC 4035 §5.3.1);
//! - a certificate that ends, where that stops mail;
//! - one of several addresses that fails where another is good;
//! - an MX host that the MTA-STS policy does not list (RFC 8461 §4.1), or a policy that is announced and
//!   cannot be used;
//! - TLSA records that fit the present key alone while its certificate ends: with a new key nothing fits
//!   (RFC 7671 §8.1).

mod letter;
pub mod store;
pub mod view;

pub use letter::letter;

use super::evidence::CertificateEnd;
use super::report::{CheckReport, HostReport};
use crate::clock::Timestamp;
use crate::resolve::proof::SignatureEnd;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use store::WatchedDomain;

/// A signature that ends within it is news.
const SIGNATURE_ENDS: Duration = Duration::from_secs(86_400);
/// And has less than this part of its life left: some zones sign for a day or two at a time.
const LAST_PART: u64 = 4;
/// A certificate that ends within it is news.
const CERTIFICATE_ENDS: Duration = Duration::from_secs(14 * 86_400);
/// Findings of one domain; more are not kept.
const MOST_FINDINGS: usize = 20;

/// What is wrong, or soon will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostureKind {
    /// A signature of the zone ends.
    SignatureEnds,
    /// A certificate ends that has to be valid.
    CertificateEnds,
    /// One of several addresses is not like the others.
    AddressDiffers,
    /// An MX host is not in the policy.
    HostNotInPolicy,
    /// The policy is announced and cannot be used.
    PolicyUnusable,
    /// The next key has no TLSA record.
    TlsaWithoutNextKey,
}

impl PostureKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SignatureEnds,
        Self::CertificateEnds,
        Self::AddressDiffers,
        Self::HostNotInPolicy,
        Self::PolicyUnusable,
        Self::TlsaWithoutNextKey,
    ];

    /// The word for metrics and lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SignatureEnds => "signature-ends",
            Self::CertificateEnds => "certificate-ends",
            Self::AddressDiffers => "address-differs",
            Self::HostNotInPolicy => "host-not-in-policy",
            Self::PolicyUnusable => "policy-unusable",
            Self::TlsaWithoutNextKey => "tlsa-without-next-key",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostureFinding {
    /// The kind of trouble.
    pub kind: PostureKind,
    /// In words, with the host and the time.
    pub detail: String,
    /// When it stops mail, where that is known.
    pub until: Option<Timestamp>,
}

/// A domain as a check has found it.
#[must_use]
pub fn watched(report: &CheckReport, signatures: &[SignatureEnd], now: Timestamp) -> WatchedDomain {
    let domain = report.domain.to_string();
    WatchedDomain {
        contact: letter::contact(&domain, report.evidence.tlsrpt.as_deref()),
        at: now,
        verdict: report.verdict.word().to_owned(),
        findings: findings(report, signatures, now),
        domain,
    }
}

/// What a check of a domain says about its near future; `signatures` are the ends of those of its zones.
#[must_use]
pub fn findings(report: &CheckReport, signatures: &[SignatureEnd], now: Timestamp) -> Vec<PostureFinding> {
    let mut found = Vec::new();
    found.extend(signatures.iter().filter_map(|signature| signature_ends(signature, now)));
    found.extend(certificates(report, now));
    for host in &report.hosts {
        found.extend(differs(host));
        found.extend(not_listed(host));
        found.extend(without_next_key(report, host, now));
    }
    found.extend(policy(report));
    found.truncate(MOST_FINDINGS);
    found
}

fn finding(kind: PostureKind, until: Option<Timestamp>, detail: String) -> PostureFinding {
    PostureFinding { kind, detail, until }
}

fn signature_ends(signature: &SignatureEnd, now: Timestamp) -> Option<PostureFinding> {
    let left = signature.ends.since(now);
    let life = signature.ends.since(signature.begins);
    let is_old = left.as_secs().saturating_mul(LAST_PART) < life.as_secs();
    if left >= SIGNATURE_ENDS || !is_old {
        return None;
    }
    let SignatureEnd { name, record_type, ends, .. } = signature;
    let detail = format!("the signature of {name} {record_type} ends at {} and has not been renewed", ends.to_second());
    Some(finding(PostureKind::SignatureEnds, Some(*ends), detail))
}

fn certificates(report: &CheckReport, now: Timestamp) -> impl Iterator<Item = PostureFinding> {
    let own = report.evidence.servers.iter().filter(|server| !server.control);
    own.filter_map(move |server| {
        let certificate = server.certificate.as_ref()?;
        let ends_soon = certificate.not_after.since(now) < CERTIFICATE_ENDS;
        (certificate.end == CertificateEnd::Counts && ends_soon).then(|| {
            let (host, address, ends) = (&server.host, &server.address, certificate.not_after);
            let detail = format!("the certificate of {host} at {address} ends at {}", ends.to_second());
            finding(PostureKind::CertificateEnds, Some(ends), detail)
        })
    })
}

/// An address that fails beside one that is good.
fn differs(host: &HostReport) -> Option<PostureFinding> {
    let good = host.addresses.iter().any(|address| address.fault.is_none());
    let bad = host.addresses.iter().find_map(|address| Some((address, address.fault.as_ref()?)));
    let (address, fault) = bad.filter(|_| good)?;
    let detail = format!("{} is good at another address and not at {}: {}", host.name, address.address, fault.sentence);
    Some(finding(PostureKind::AddressDiffers, None, detail))
}

fn not_listed(host: &HostReport) -> Option<PostureFinding> {
    (host.listed == Some(false)).then(|| {
        let detail = format!("the MTA-STS policy does not list the MX host {}", host.name);
        finding(PostureKind::HostNotInPolicy, None, detail)
    })
}

/// Every usable record fits the certificate that ends: none is there for the next key. A certificate
/// that is renewed for the same key breaks nothing; mostly it comes with a new one.
fn without_next_key(report: &CheckReport, host: &HostReport, now: Timestamp) -> Option<PostureFinding> {
    let usable: Vec<_> = host.tlsa.iter().filter(|tlsa| tlsa.usable).collect();
    let is_tight = usable.iter().all(|tlsa| tlsa.matched && tlsa.record.starts_with('3'));
    let of_host = |server: &&super::evidence::ServerSeen| server.host == host.name && !server.control;
    let ends = report.evidence.servers.iter().filter(of_host).filter_map(|server| server.certificate.as_ref());
    let ends = ends.map(|certificate| certificate.not_after).min()?;
    if usable.is_empty() || !is_tight || ends.since(now) >= CERTIFICATE_ENDS {
        return None;
    }
    let detail = format!(
        "every TLSA record of {} fits the present certificate alone, which ends at {}: publish the record of the next \
         key before it is used",
        host.name,
        ends.to_second()
    );
    Some(finding(PostureKind::TlsaWithoutNextKey, Some(ends), detail))
}

fn policy(report: &CheckReport) -> Option<PostureFinding> {
    let why = &report.evidence.sts_unusable.as_ref()?.reason;
    Some(finding(
        PostureKind::PolicyUnusable,
        None,
        format!("the MTA-STS policy is announced and cannot be used: {why}"),
    ))
}
