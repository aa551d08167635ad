//! From the server's certificate up to a trust anchor that a DANE-TA record names
//! (RFC 7671 §5.2, RFC 7672 §3.1.2, RFC 5280 §6.1).
//!
//! The certificates come in any order, with duplicates and strangers among them. A path counts
//! when every signature in it holds; it is accepted when it also keeps the rules. They are
//! those of OpenSSL, which is what the senders of today apply:
//!
//! - every certificate of the path is valid now, **the anchor included** where it is a
//!   certificate; an anchor that is only a key in the DNS has no dates;
//! - the anchor's own constraints hold: CA flag, path length, key usage, purpose, names;
//! - only the anchor may lack basicConstraints, as old self-signed roots do.
//!
//! A self-signed server certificate may be its own anchor (depth 0); it need not be a CA.

use super::certificate::{Certificate, PublicKey};
use super::constraints::{self, Place};
use super::dane::DaneMatch;
use super::names;
use super::signature::{Signed, signed_by};
use crate::clock::Timestamp;
use crate::outcome::DaneFailure;
use crate::resolve::TlsaRecord;
use crate::smtp::address::Domain;
use std::collections::BTreeMap;

/// The most certificates in a path; public chains have three or four, private ones rarely six.
pub const PATH_LIMIT: usize = 10;
/// The most signature checks for one connection: some milliseconds of work at the worst.
pub const SIGNATURE_CHECKS_LIMIT: u32 = 64;
/// The most certificates visited while looking for a path. Cross-signed certificates make
/// exponentially many paths; real servers need fewer steps than they send certificates.
pub const STEPS_LIMIT: u32 = 256;

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The server presented it.
    Server,
    /// It stands in full in a TLSA record.
    Dns,
}

/// A certificate that may stand in the path. The first of them is the server's own.
#[derive(Debug)]
pub(super) struct Candidate<'c> {
    pub(super) certificate: Certificate<'c>,
    /// The record that makes it a trust anchor.
    pub(super) anchor: Option<&'c TlsaRecord>,
    pub(super) source: Source,
}

/// A trust anchor that is a key in the DNS and stands in no certificate at hand.
#[derive(Debug)]
pub(super) struct BareKey<'c> {
    pub(super) key: PublicKey<'c>,
    pub(super) record: &'c TlsaRecord,
}

/// What the path is searched among.
#[derive(Debug)]
pub(super) struct Pool<'c> {
    pub(super) candidates: Vec<Candidate<'c>>,
    pub(super) keys: Vec<BareKey<'c>>,
}

/// Finds a valid path, or the failure that tells most.
pub(super) fn verify(pool: &Pool<'_>, references: &[Domain], now: Timestamp) -> Result<DaneMatch, DaneFailure> {
    let mut search = Search {
        pool,
        references,
        now: now.unix_seconds(),
        checks_left: SIGNATURE_CHECKS_LIMIT,
        steps_left: STEPS_LIMIT,
        known: BTreeMap::new(),
        obstacle: None,
        failure: None,
    };
    match search.climb(&mut vec![0]) {
        Some(found) => Ok(found),
        None => Err(search.most_telling()),
    }
}

struct Search<'s, 'c> {
    pool: &'s Pool<'c>,
    references: &'s [Domain],
    now: i64,
    checks_left: u32,
    steps_left: u32,
    /// Whether the second signed the first; keys count on after the certificates.
    known: BTreeMap<(usize, usize), bool>,
    /// Why a step upwards was not possible, if for another reason than a wrong signature.
    obstacle: Option<&'static str>,
    failure: Option<DaneFailure>,
}

/// How a path ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its last certificate is the anchor.
    Certificate,
    /// A key above its last certificate is.
    Key,
}

impl<'c> Search<'_, 'c> {
    /// Goes up from the last certificate of `path` until an anchor is reached that holds.
    fn climb(&mut self, path: &mut Vec<usize>) -> Option<DaneMatch> {
        let pool = self.pool;
        let top = *path.last()?;
        let candidate = pool.candidates.get(top)?;
        let Some(steps_left) = self.steps_left.checked_sub(1) else {
            self.obstacle = Some("too many ways lead upwards from the server's certificate");
            return None;
        };
        self.steps_left = steps_left;
        // A server certificate is an anchor only if nobody else vouches for it.
        if let Some(record) = candidate.anchor
            && (path.len() > 1 || (candidate.certificate.is_self_issued() && self.is_signed(top, top)))
        {
            return self.judge(path, record, End::Certificate);
        }
        for (i, bare) in pool.keys.iter().enumerate() {
            if self.is_signed(top, pool.candidates.len() + i)
                && let Some(found) = self.judge(path, bare.record, End::Key)
            {
                return Some(found);
            }
        }
        if path.len() >= PATH_LIMIT {
            self.obstacle = Some("the chain is too long");
            return None;
        }
        for next in self.issuers_of(&candidate.certificate) {
            if path.contains(&next) || !self.is_signed(top, next) {
                continue;
            }
            path.push(next);
            let found = self.climb(path);
            path.pop();
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Candidates with the issuer's name, those with fitting key identifiers first.
    fn issuers_of(&self, certificate: &Certificate<'c>) -> Vec<usize> {
        let named = self.pool.candidates.iter().enumerate();
        let mut named: Vec<_> =
            named.filter(|(_, candidate)| candidate.certificate.subject == certificate.issuer).collect();
        named.sort_by_key(|(_, candidate)| !certificate.points_to(&candidate.certificate));
        named.into_iter().map(|(i, _)| i).collect()
    }

    /// Whether candidate or key `issuer` signed candidate `subject`; each pair is checked once.
    fn is_signed(&mut self, subject: usize, issuer: usize) -> bool {
        if let Some(known) = self.known.get(&(subject, issuer)) {
            return *known;
        }
        let candidates = &self.pool.candidates;
        let key = match candidates.get(issuer) {
            Some(candidate) => Some(candidate.certificate.key),
            None => self.pool.keys.get(issuer.saturating_sub(candidates.len())).map(|bare| bare.key),
        };
        let Some((subject_certificate, key)) = candidates.get(subject).map(|c| &c.certificate).zip(key) else {
            return false;
        };
        let Some(checks_left) = self.checks_left.checked_sub(1) else {
            self.obstacle = Some("too many certificates have the same name");
            return false;
        };
        self.checks_left = checks_left;
        let signed = signed_by(subject_certificate, key);
        if signed == Signed::Unsupported {
            self.obstacle = Some("a signature uses an algorithm that is weak or unknown");
        }
        self.known.insert((subject, issuer), signed == Signed::Yes);
        signed == Signed::Yes
    }

    /// Holds a complete path against the rules.
    fn judge(&mut self, path: &[usize], record: &TlsaRecord, end: End) -> Option<DaneMatch> {
        let certificates: Vec<&Certificate<'c>> =
            path.iter().filter_map(|&i| self.pool.candidates.get(i)).map(|candidate| &candidate.certificate).collect();
        let failure = match broken_rule(&certificates, end) {
            Some(detail) => DaneFailure::Chain { detail },
            None => match outside_validity(&certificates, self.now) {
                Some(failure) => failure,
                None => {
                    let leaf = certificates.first()?;
                    if names::fits(leaf, self.references) {
                        let depth = if end == End::Key { path.len() } else { path.len() - 1 };
                        return Some(DaneMatch { record: record.clone(), depth });
                    }
                    DaneFailure::NameMismatch { presented: names::shown(leaf) }
                }
            },
        };
        if self.failure.as_ref().is_none_or(|known| rank(known) < rank(&failure)) {
            self.failure = Some(failure);
        }
        None
    }

    fn most_telling(self) -> DaneFailure {
        let met_anchor = |c: &Candidate<'_>| c.anchor.is_some() && c.source == Source::Server;
        match self.failure {
            Some(failure) => failure,
            None if self.pool.candidates.iter().any(met_anchor) => DaneFailure::Chain {
                detail: self
                    .obstacle
                    .unwrap_or("the server's certificate does not lead to the trust anchor")
                    .to_owned(),
            },
            None => DaneFailure::NoMatch,
        }
    }
}

/// How far a path came before it failed: signatures, rules, dates, names are checked in turn.
const fn rank(failure: &DaneFailure) -> u8 {
    match failure {
        DaneFailure::NoMatch => 0,
        DaneFailure::Unreadable { .. } => 1,
        DaneFailure::Chain { .. } => 2,
        DaneFailure::NotYetValid => 3,
        DaneFailure::Expired => 4,
        DaneFailure::NameMismatch { .. } => 5,
    }
}

/// The first rule that a path breaks, in words; dates and host names are not looked at here.
fn broken_rule(path: &[&Certificate<'_>], end: End) -> Option<String> {
    let mut issuers_below = 0;
    for (depth, certificate) in path.iter().enumerate() {
        if let Some(detail) = certificate.broken_extension() {
            return Some(detail);
        }
        if certificate.extended_key_usage().is_some_and(|usage| !usage.server_auth) {
            return Some("a certificate is not meant for TLS servers".to_owned());
        }
        if depth == 0 {
            if !may_serve_tls(certificate) {
                return Some("the key usage of the server's certificate does not fit TLS".to_owned());
            }
            continue;
        }
        let is_anchor = end == End::Certificate && depth + 1 == path.len();
        if !may_issue(certificate, is_anchor) {
            return Some("an issuer in the chain is not a certification authority".to_owned());
        }
        let limit = certificate.basic_constraints().and_then(|constraints| constraints.path_len_constraint);
        if limit.is_some_and(|limit| issuers_below > limit) {
            return Some("the chain is longer than an issuer in it allows".to_owned());
        }
        if !certificate.is_self_issued() {
            issuers_below += 1;
        }
        if let Some(detail) = forbidden_name(certificate, path.get(..depth).unwrap_or_default()) {
            return Some(detail);
        }
    }
    None
}

fn may_serve_tls(leaf: &Certificate<'_>) -> bool {
    leaf.key_usage().is_none_or(|usage| usage.digital_signature() || usage.key_encipherment() || usage.key_agreement())
}

/// RFC 5280 §4.2.1.3, §4.2.1.9.
#[expect(clippy::fn_params_excessive_bools, reason = "the question is whether the one exception applies")]
fn may_issue(issuer: &Certificate<'_>, is_anchor: bool) -> bool {
    if issuer.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
        return false;
    }
    match issuer.basic_constraints() {
        Some(constraints) => constraints.ca,
        None => is_anchor && issuer.is_self_issued() && issuer.has_no_extensions_by_version(),
    }
}

/// The constraints of an issuer hold for everything below it except self-issued issuers.
fn forbidden_name(issuer: &Certificate<'_>, below: &[&Certificate<'_>]) -> Option<String> {
    below.iter().enumerate().find_map(|(depth, certificate)| {
        let place = if depth == 0 { Place::Leaf } else { Place::Issuer };
        if place == Place::Issuer && certificate.is_self_issued() {
            return None;
        }
        constraints::violation(issuer, certificate, place)
    })
}

/// RFC 5280 §4.1.2.5: valid from notBefore through notAfter, both included.
fn outside_validity(path: &[&Certificate<'_>], now: i64) -> Option<DaneFailure> {
    path.iter().find_map(|certificate| {
        let (from, until) = certificate.validity();
        match now {
            _ if now < from => Some(DaneFailure::NotYetValid),
            _ if now > until => Some(DaneFailure::Expired),
            _ => None,
        }
    })
}
