//! From the server's certificate up to a trust anchor that a DANE-TA record names
//! (RFC 7671 §5.2, RFC 7672 §3.1.2, RFC 5280 §6.1).
//!
//! The certificates come in any order, with duplicates and strangers among them. A path counts
//! when every signature in it holds; it is accepted when it also keeps the rules in `rules.rs` and the
//! server's certificate is for one of the reference identifiers.
//!
//! A self-signed server certificate may be its own anchor (depth 0); it need not be a CA.

use super::certificate::{ParsedCertificate, PublicKey};
use super::names;
use super::rules::{Anchoring, broken_rule, outside_validity};
use super::signature::{SignatureVerdict, signed_by};
use crate::clock::Timestamp;
use crate::outcome::DaneFailure;
use crate::resolve::TlsaRecord;
use crate::smtp::address::Domain;
use std::collections::BTreeMap;

/// The most certificates in a path; public chains have three or four, private ones rarely six, and
/// OpenSSL, which other senders use, goes up to a hundred.
pub(crate) const PATH_LIMIT: usize = 100;
/// The most signature checks for one connection: some tens of milliseconds of work at the worst.
/// Sixty strangers with the name of an issuer, at two steps of the way, are within it.
pub(crate) const SIGNATURE_CHECKS_LIMIT: u32 = 192;
/// The most certificates visited while looking for a path. Cross-signed certificates make
/// exponentially many paths; real servers need fewer steps than they send certificates.
pub(crate) const STEPS_LIMIT: u32 = 1024;

/// The most complete paths held against the rules. Real servers have one or two; a bound keeps
/// thousands of names and constraints from being compared along hundreds of ways.
pub(crate) const PATHS_LIMIT: u32 = 16;

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum CertificateSource {
    /// The server presented it.
    Server,
    /// It stands in full in a TLSA record.
    Dns,
}

/// A certificate that may stand in the path. The first of them is the server's own.
#[derive(Debug)]
pub(in crate::policy) struct Candidate<'c> {
    pub(in crate::policy) certificate: ParsedCertificate<'c>,
    /// The record that makes it a trust anchor.
    pub(in crate::policy) anchor: Option<&'c TlsaRecord>,
    pub(in crate::policy) source: CertificateSource,
}

/// A trust anchor that is a key in the DNS and stands in no certificate at hand.
#[derive(Debug)]
pub(in crate::policy) struct BareKey<'c> {
    pub(in crate::policy) key: PublicKey<'c>,
    pub(in crate::policy) record: &'c TlsaRecord,
}

/// What the path is searched among.
#[derive(Debug)]
pub(in crate::policy) struct CandidatePool<'c> {
    pub(in crate::policy) candidates: Vec<Candidate<'c>>,
    pub(in crate::policy) keys: Vec<BareKey<'c>>,
}

/// A path that holds: the record of its anchor, and how many certificates stand below that.
pub(in crate::policy) type ValidPath<'c> = (&'c TlsaRecord, usize);

/// Finds a valid path, or the failure that tells most.
pub(in crate::policy) fn verify<'c>(
    pool: &CandidatePool<'c>,
    references: &[Domain],
    now: Timestamp,
) -> Result<ValidPath<'c>, DaneFailure> {
    let mut search = Search::new(pool, references, now);
    match search.climb(&mut vec![0]) {
        Some(found) => Ok(found),
        None => Err(search.most_telling()),
    }
}

struct Search<'s, 'c> {
    pool: &'s CandidatePool<'c>,
    references: &'s [Domain],
    now: i64,
    checks_left: u32,
    steps_left: u32,
    paths_left: u32,
    /// Whether the second signed the first; keys count on after the certificates.
    known: BTreeMap<(usize, usize), bool>,
    /// Why a step upwards was not possible, if for another reason than a wrong signature.
    obstacle: Option<&'static str>,
    failure: Option<DaneFailure>,
}

impl<'s, 'c> Search<'s, 'c> {
    fn new(pool: &'s CandidatePool<'c>, references: &'s [Domain], now: Timestamp) -> Self {
        Self {
            pool,
            references,
            now: now.unix_seconds(),
            checks_left: SIGNATURE_CHECKS_LIMIT,
            steps_left: STEPS_LIMIT,
            paths_left: PATHS_LIMIT,
            known: BTreeMap::new(),
            obstacle: None,
            failure: None,
        }
    }

    /// Goes up from the last certificate of `path` until an anchor is reached that holds.
    fn climb(&mut self, path: &mut Vec<usize>) -> Option<ValidPath<'c>> {
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
            return self.judge(path, record, Anchoring::Certificate);
        }
        for (i, bare) in pool.keys.iter().enumerate() {
            if self.is_signed(top, pool.candidates.len() + i)
                && let Some(found) = self.judge(path, bare.record, Anchoring::Key)
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

    /// Candidates with the issuer's name: anchors first, since the way ends there; then those with
    /// fitting key identifiers; those that lead to themselves last.
    fn issuers_of(&self, certificate: &ParsedCertificate<'c>) -> Vec<usize> {
        let named = self.pool.candidates.iter().enumerate();
        let mut named: Vec<_> =
            named.filter(|(_, candidate)| candidate.certificate.subject == certificate.issuer).collect();
        named.sort_by_key(|(_, candidate)| {
            let issuer = &candidate.certificate;
            (candidate.anchor.is_none(), !certificate.points_to(issuer), issuer.is_self_issued())
        });
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
        if signed == SignatureVerdict::Unsupported {
            self.obstacle = Some("a signature uses an algorithm that is weak or unknown");
        }
        self.known.insert((subject, issuer), signed == SignatureVerdict::Yes);
        signed == SignatureVerdict::Yes
    }

    /// Holds a complete path against the rules.
    fn judge(&mut self, path: &[usize], record: &'c TlsaRecord, end: Anchoring) -> Option<ValidPath<'c>> {
        self.paths_left = self.paths_left.checked_sub(1)?;
        let certificates: Vec<&ParsedCertificate<'c>> =
            path.iter().filter_map(|&i| self.pool.candidates.get(i)).map(|candidate| &candidate.certificate).collect();
        let failure = match broken_rule(&certificates, end) {
            Some(detail) => DaneFailure::Chain { detail },
            None => match outside_validity(&certificates, end, self.now) {
                Some(failure) => failure,
                None => {
                    let leaf = certificates.first()?;
                    if names::fits(leaf, self.references) {
                        let depth = if end == Anchoring::Key { path.len() } else { path.len() - 1 };
                        return Some((record, depth));
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
        let met_anchor = |c: &Candidate<'_>| c.anchor.is_some() && c.source == CertificateSource::Server;
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

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
