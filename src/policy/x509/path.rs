//! From the server's certificate up to a trust anchor that a DANE-TA record names
//! (RFC 7671 §5.2, RFC 7672 §3.1.2, RFC 5280 §6.1).
//!
//! The certificates come in any order, with duplicates and strangers among them. A path counts
//! when every signature in it holds; it is accepted when it also keeps the rules in `rules.rs` and the
//! server's certificate is for one of the reference identifiers.
//!
//! A self-signed server certificate may be its own anchor (depth 0); it need not be a CA.

use super::certificate::{Certificate, PublicKey};
use super::names;
use super::rules::{Anchoring, broken_rule, outside_validity};
use super::signature::{SignatureVerdict, signed_by};
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

/// The most complete paths held against the rules. Real servers have one or two; a bound keeps
/// thousands of names and constraints from being compared along hundreds of ways.
pub const PATHS_LIMIT: u32 = 16;

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
    pub(in crate::policy) certificate: Certificate<'c>,
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
        if signed == SignatureVerdict::Unsupported {
            self.obstacle = Some("a signature uses an algorithm that is weak or unknown");
        }
        self.known.insert((subject, issuer), signed == SignatureVerdict::Yes);
        signed == SignatureVerdict::Yes
    }

    /// Holds a complete path against the rules.
    fn judge(&mut self, path: &[usize], record: &'c TlsaRecord, end: Anchoring) -> Option<ValidPath<'c>> {
        self.paths_left = self.paths_left.checked_sub(1)?;
        let certificates: Vec<&Certificate<'c>> =
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
mod tests {
    use super::{PATHS_LIMIT, SIGNATURE_CHECKS_LIMIT, STEPS_LIMIT, Search};
    use crate::outcome::DaneFailure;
    use crate::policy::dane;
    use crate::policy::testing::{Made, NOW, ca_params, domains, leaf_params, root, self_signed, tlsa};
    use crate::resolve::TlsaRecord;
    use rcgen::{BasicConstraints, CustomExtension, DnType, DnValue, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa};
    use rcgen::{KeyUsagePurpose, NameConstraints, date_time_ymd};
    use std::time::Duration;

    const HOST: &str = "mx.example.org";

    /// The depth of the match, or the failure.
    fn check(chain: &[&Made], records: &[TlsaRecord]) -> Result<usize, DaneFailure> {
        let chain: Vec<&[u8]> = chain.iter().map(|made| made.der.as_slice()).collect();
        dane::verify(&chain, records, &domains(&[HOST]), NOW).map(|found| found.depth)
    }

    fn is_chain_failure(result: Result<usize, DaneFailure>) -> bool {
        matches!(result, Err(DaneFailure::Chain { .. }))
    }

    #[test]
    fn rfc7671_5_2_root_or_intermediate_may_be_the_anchor_in_any_form() {
        let root = root("Root");
        let intermediate = root.ca("Intermediate");
        let leaf = intermediate.leaf(&[HOST]);
        for selector in [0, 1] {
            for matching in [0, 1, 2] {
                let by_root = [tlsa(2, selector, matching, &root)];
                assert_eq!(check(&[&leaf, &intermediate, &root], &by_root), Ok(2));
                let by_intermediate = [tlsa(2, selector, matching, &intermediate)];
                assert_eq!(check(&[&leaf, &intermediate], &by_intermediate), Ok(1), "2 {selector} {matching}");
            }
        }
    }

    #[test]
    fn rfc7671_5_2_1_the_order_of_the_chain_duplicates_and_strangers_do_not_matter() {
        let root = root("Root");
        let first = root.ca("First");
        let second = first.ca("Second");
        let leaf = second.leaf(&[HOST]);
        let stranger = self_signed(ca_params("Stranger"));
        let junk = Made { der: b"junk".to_vec(), ..self_signed(ca_params("x")) };
        let chain = [&leaf, &leaf, &root, &junk, &first, &stranger, &first, &second];
        assert_eq!(check(&chain, &[tlsa(2, 0, 1, &root)]), Ok(3));
    }

    #[test]
    fn rfc7671_5_2_2_an_anchor_in_full_in_the_dns_may_be_missing_from_the_chain() {
        let root = root("Root");
        let intermediate = root.ca("Intermediate");
        let leaf = intermediate.leaf(&[HOST]);
        for selector in [0, 1] {
            assert_eq!(check(&[&leaf, &intermediate], &[tlsa(2, selector, 0, &root)]), Ok(2));
            assert_eq!(check(&[&leaf], &[tlsa(2, selector, 0, &intermediate)]), Ok(1));
            let unrelated = self_signed(ca_params("Root"));
            assert_eq!(check(&[&leaf, &intermediate], &[tlsa(2, selector, 0, &unrelated)]), Err(DaneFailure::NoMatch));
        }
        // A digest alone cannot stand in for what the server left out.
        assert_eq!(check(&[&leaf, &intermediate], &[tlsa(2, 0, 1, &root)]), Err(DaneFailure::NoMatch));
    }

    #[test]
    fn rfc7671_5_2_3_a_bare_key_is_no_way_around_its_own_certificate() {
        let mut params = ca_params("Root");
        params.not_after = date_time_ymd(2001, 1, 1);
        let root = self_signed(params);
        let leaf = root.leaf(&[HOST]);
        assert_eq!(check(&[&leaf, &root], &[tlsa(2, 1, 0, &root)]), Err(DaneFailure::Expired));
        assert_eq!(check(&[&leaf], &[tlsa(2, 1, 0, &root)]), Ok(1), "a key has no dates");
    }

    #[test]
    fn rfc7672_3_1_2_a_self_signed_leaf_is_its_own_anchor() {
        let leaf = self_signed(leaf_params(&[HOST]));
        assert_eq!(check(&[&leaf], &[tlsa(2, 0, 1, &leaf)]), Ok(0));
        assert_eq!(check(&[&leaf], &[tlsa(2, 1, 1, &leaf)]), Ok(0));
        let elsewhere = self_signed(leaf_params(&["mx.example.com"]));
        assert!(matches!(check(&[&elsewhere], &[tlsa(2, 0, 1, &elsewhere)]), Err(DaneFailure::NameMismatch { .. })));
        let issued = root("Root").leaf(&[HOST]);
        assert!(is_chain_failure(check(&[&issued], &[tlsa(2, 0, 1, &issued)])), "somebody else's signature");
    }

    #[test]
    fn rfc7672_3_2_2_any_reference_identifier_will_do() {
        let root = root("Root");
        for name in ["mx.example.org", "example.org", "expanded.example.net"] {
            let leaf = root.leaf(&["unrelated.example", name]);
            let chain = [leaf.der.as_slice(), root.der.as_slice()];
            let references = domains(&["mx.example.org", "example.org", "expanded.example.net"]);
            assert!(dane::verify(&chain, &[tlsa(2, 0, 1, &root)], &references, NOW).is_ok(), "{name}");
        }
    }

    #[test]
    fn rfc7672_3_2_3_the_common_name_counts_only_without_dns_ids() {
        let root = root("Root");
        let record = [tlsa(2, 0, 1, &root)];
        let named = |sans: &[&str]| {
            root.issue(leaf_params(sans), |params| params.distinguished_name.push(DnType::CommonName, HOST))
        };
        assert_eq!(check(&[&named(&[]), &root], &record), Ok(1));
        assert_eq!(check(&[&named(&["192.0.2.1"]), &root], &record), Ok(1), "an address is no DNS-ID");
        let presented = vec!["other.example".to_owned()];
        let failure = DaneFailure::NameMismatch { presented };
        assert_eq!(check(&[&named(&["other.example"]), &root], &record), Err(failure));
        assert_eq!(check(&[&root.leaf(&["*.example.org"]), &root], &record), Ok(1));
    }

    #[test]
    fn rfc7672_3_1_2_dates_count_up_to_a_self_signed_anchor() {
        let day = |year| date_time_ymd(year, 1, 1);
        let good = root("Root");
        let record = [tlsa(2, 0, 1, &good)];
        let expired = good.issue(leaf_params(&[HOST]), |params| params.not_after = day(2020));
        assert_eq!(check(&[&expired, &good], &record), Err(DaneFailure::Expired));
        let early = good.issue(leaf_params(&[HOST]), |params| params.not_before = day(2090));
        assert_eq!(check(&[&early, &good], &record), Err(DaneFailure::NotYetValid));
        let middle = good.issue(ca_params("Middle"), |params| params.not_after = day(2020));
        assert_eq!(check(&[&middle.leaf(&[HOST]), &middle, &good], &record), Err(DaneFailure::Expired));
        let by_middle = check(&[&middle.leaf(&[HOST]), &middle, &good], &[tlsa(2, 1, 1, &middle)]);
        assert_eq!(by_middle, Ok(1), "as anchor it is a name and a key (RFC 5280 §6.1.1)");
        let old = self_signed({
            let mut params = ca_params("Root");
            params.not_after = day(2020);
            params
        });
        assert_eq!(check(&[&old.leaf(&[HOST]), &old], &[tlsa(2, 0, 1, &old)]), Err(DaneFailure::Expired));
    }

    #[test]
    fn rfc5280_4_1_2_5_both_ends_of_the_validity_are_inside() {
        let root = root("Root");
        let leaf = root.issue(leaf_params(&[HOST]), |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        let at = |ms| {
            let chain = [leaf.der.as_slice(), root.der.as_slice()];
            dane::verify(&chain, &[tlsa(2, 0, 1, &root)], &domains(&[HOST]), ms).map(|found| found.depth)
        };
        let second = Duration::from_secs(1);
        let (first, last) = (crate::clock::Timestamp(1_577_836_800_000), crate::clock::Timestamp(1_609_459_200_000));
        assert_eq!(at(first), Ok(1));
        assert_eq!(at(last), Ok(1));
        assert_eq!(at(crate::clock::Timestamp(first.0 - 1)), Err(DaneFailure::NotYetValid));
        assert_eq!(at(last.plus(second)), Err(DaneFailure::Expired));
    }

    #[test]
    fn rfc5280_4_2_1_9_issuers_must_be_cas_within_their_path_length() {
        let root = root("Root");
        let record = [tlsa(2, 0, 1, &root)];
        let no_ca = root.leaf(&["other.example"]);
        assert!(is_chain_failure(check(&[&no_ca.leaf(&[HOST]), &no_ca, &root], &record)));

        let short = self_signed({
            let mut params = ca_params("Short");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params
        });
        let record = [tlsa(2, 1, 1, &short)];
        assert_eq!(check(&[&short.leaf(&[HOST]), &short], &record), Ok(1));
        let below = short.ca("Below");
        assert!(is_chain_failure(check(&[&below.leaf(&[HOST]), &below, &short], &record)));
    }

    #[test]
    fn rfc5280_4_2_1_3_key_usage_and_purpose_hold_for_issuers_and_anchor() {
        let with = |bend: fn(&mut rcgen::CertificateParams)| {
            let mut params = ca_params("Root");
            bend(&mut params);
            let root = self_signed(params);
            let leaf = root.leaf(&[HOST]);
            check(&[&leaf, &root], &[tlsa(2, 0, 1, &root)])
        };
        assert_eq!(with(|ca| ca.key_usages = vec![KeyUsagePurpose::KeyCertSign]), Ok(1));
        assert!(is_chain_failure(with(|ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign])));
        assert_eq!(with(|ca| ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), Ok(1));
        assert!(is_chain_failure(with(|ca| ca.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning])));
        let leaf_with = |bend: fn(&mut rcgen::CertificateParams)| {
            let root = root("Root");
            check(&[&root.issue(leaf_params(&[HOST]), bend), &root], &[tlsa(2, 0, 1, &root)])
        };
        assert!(is_chain_failure(leaf_with(
            |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
        )));
        assert!(is_chain_failure(leaf_with(|leaf| leaf.key_usages = vec![KeyUsagePurpose::CrlSign])));
    }

    #[test]
    fn rfc5280_4_2_unknown_critical_extensions_refuse() {
        let custom = |is_critical: bool| {
            let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
            extension.set_criticality(is_critical);
            extension
        };
        let root = root("Root");
        let record = [tlsa(2, 0, 1, &root)];
        let leaf =
            |critical| root.issue(leaf_params(&[HOST]), |params| params.custom_extensions = vec![custom(critical)]);
        assert_eq!(check(&[&leaf(false), &root], &record), Ok(1));
        assert!(is_chain_failure(check(&[&leaf(true), &root], &record)));
        // The certificate itself in the DNS asks for nothing more.
        let odd = leaf(true);
        assert_eq!(check(&[&odd, &root], &[tlsa(3, 0, 1, &odd)]), Ok(0));
    }

    #[test]
    fn rfc5280_4_2_1_10_name_constraints_of_the_anchor_hold() {
        let with = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
            let mut params = ca_params("Root");
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
            let root = self_signed(params);
            check(&[&root.leaf(&[HOST]), &root], &[tlsa(2, 0, 1, &root)])
        };
        let dns = |name: &str| vec![GeneralSubtree::DnsName(name.into())];
        assert_eq!(with(dns("example.org"), vec![]), Ok(1));
        assert!(is_chain_failure(with(dns("example.com"), vec![])));
        assert!(is_chain_failure(with(vec![], dns("example.org"))));
        assert_eq!(with(vec![], vec![GeneralSubtree::Rfc822Name("example.org".into())]), Ok(1));
    }

    #[test]
    fn rfc5280_7_1_issuer_names_compare_without_case_and_string_type() {
        let mut as_issuer = ca_params("Example  Root");
        let root = self_signed(ca_params("EXAMPLE root"));
        as_issuer
            .distinguished_name
            .push(DnType::CommonName, DnValue::PrintableString("example root".try_into().unwrap()));
        let key = rcgen::KeyPair::try_from(root.key.serialize_der()).unwrap();
        let issuer = Made { params: as_issuer, key, der: vec![] };
        let mut params = leaf_params(&[HOST]);
        params.use_authority_key_identifier_extension = false;
        let leaf = issuer.issue(params, |_| {});
        assert_eq!(check(&[&leaf, &root], &[tlsa(2, 0, 1, &root)]), Ok(1));
    }

    #[test]
    fn rfc7671_5_2_a_forged_issuer_name_is_no_path() {
        let root = root("Root");
        let forged = self_signed(ca_params("Root")).leaf(&[HOST]);
        assert!(is_chain_failure(check(&[&forged, &root], &[tlsa(2, 0, 1, &root)])));
        assert_eq!(check(&[&forged, &root], &[tlsa(2, 1, 0, &self_signed(ca_params("x")))]), Err(DaneFailure::NoMatch));
    }

    /// Signature checks, certificates visited and paths judged for one question.
    fn cost(chain: &[&Made], records: &[TlsaRecord]) -> (u32, u32, u32) {
        let chain: Vec<&[u8]> = chain.iter().map(|made| made.der.as_slice()).collect();
        let pool = dane::gather(&chain, records).unwrap();
        let references = domains(&[HOST]);
        let mut search = Search::new(&pool, &references, NOW);
        search.climb(&mut vec![0]);
        let Search { checks_left, steps_left, paths_left, .. } = search;
        (SIGNATURE_CHECKS_LIMIT - checks_left, STEPS_LIMIT - steps_left, PATHS_LIMIT - paths_left)
    }

    /// CAs with one name and one key, so that each signs each: the worst case for a search.
    fn twins(of: &Made, count: u8) -> Vec<Made> {
        let twin = |serial: u8| {
            let mut params = of.params.clone();
            params.serial_number = Some(vec![serial + 1].into());
            let der = params.self_signed(&of.key).unwrap().der().to_vec();
            Made { params, key: rcgen::KeyPair::generate().unwrap(), der }
        };
        (0..count).map(twin).collect()
    }

    #[test]
    fn an_honest_chain_costs_one_signature_check_for_each_step() {
        let root = root("Root");
        let middle = root.ca("Middle");
        let leaf = middle.leaf(&[HOST]);
        assert_eq!(cost(&[&leaf, &middle, &root], &[tlsa(2, 0, 1, &root)]), (2, 3, 1));
        assert_eq!(cost(&[&leaf, &middle], &[tlsa(2, 1, 0, &root)]), (3, 2, 1), "the key is tried at each step");
    }

    #[test]
    fn issuers_of_one_name_cost_one_signature_check_each_up_to_the_certificates_limit() {
        let root = root("Root");
        let strangers: Vec<_> = (0..60).map(|_| self_signed(ca_params("Root"))).collect();
        let leaf = root.leaf(&[HOST]);
        let record = [tlsa(2, 0, 1, &root)];
        let chain = |strangers_count| -> Vec<&Made> {
            [&leaf].into_iter().chain(strangers.iter().take(strangers_count)).chain([&root]).collect()
        };
        assert_eq!(check(&chain(dane::CERTIFICATES_LIMIT - 2), &record), Ok(1), "at the limit");
        let above = chain(60);
        assert_eq!(check(&above, &record), Err(DaneFailure::NoMatch), "above the limit it fails safely");
        assert!(cost(&above, &record).0 < 16);
    }

    #[test]
    fn issuers_that_sign_each_other_cost_no_more_than_the_limits() {
        let first = root("Same");
        let twins = twins(&first, 14);
        let leaf = first.leaf(&[HOST]);
        let chain: Vec<&Made> = [&leaf].into_iter().chain(&twins).collect();
        let (checks, steps, paths) = cost(&chain, &[tlsa(2, 0, 1, &first)]);
        assert_eq!((checks, paths), (SIGNATURE_CHECKS_LIMIT, 0), "every check that is allowed, and no anchor");
        assert!(steps <= STEPS_LIMIT);
        assert_eq!(check(&chain, &[tlsa(2, 0, 1, &first)]), Err(DaneFailure::NoMatch));
    }

    #[test]
    fn paths_that_all_break_a_rule_are_judged_no_more_often_than_the_limit() {
        let first = self_signed({
            let mut params = ca_params("Same");
            params.key_usages = vec![KeyUsagePurpose::CrlSign];
            params
        });
        let twins = twins(&first, 14);
        let leaf = first.leaf(&[HOST]);
        let chain: Vec<&Made> = [&leaf].into_iter().chain(&twins).collect();
        let records: Vec<_> = twins.iter().map(|twin| tlsa(2, 0, 1, twin)).collect();
        let (_, _, paths) = cost(&chain, &records);
        assert!((1..=PATHS_LIMIT).contains(&paths), "{paths}");
        assert!(is_chain_failure(check(&chain, &records)));
        let bare = [tlsa(2, 1, 0, &first)];
        assert!(cost(&chain, &bare).2 <= PATHS_LIMIT);
    }

    #[test]
    fn rfc5280_4_2_1_10_thousands_of_names_and_constraints_are_refused_uncompared() {
        let with = |count: u32| {
            let subtree = |n| GeneralSubtree::DnsName(format!("x{n}.example"));
            let root = self_signed({
                let mut params = ca_params("Root");
                let excluded_subtrees = (0..count).map(subtree).collect();
                params.name_constraints = Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees });
                params
            });
            let names: Vec<String> = (0..200).map(|n| format!("y{n}.example")).chain([HOST.to_owned()]).collect();
            let leaf = root.leaf(&names.iter().map(String::as_str).collect::<Vec<_>>());
            check(&[&leaf, &root], &[tlsa(2, 0, 1, &root)])
        };
        assert_eq!(with(500), Ok(1));
        assert!(is_chain_failure(with(1000)));
    }

    #[test]
    fn rfc7672_3_the_most_telling_failure_is_given() {
        let root = root("Root");
        let leaf = root.issue(leaf_params(&["other.example"]), |_| {});
        let wrong_ee = TlsaRecord { usage: 3, selector: 1, matching: 1, data: vec![0; 32] };
        let records = [wrong_ee, tlsa(2, 0, 1, &root)];
        assert!(matches!(check(&[&leaf, &root], &records), Err(DaneFailure::NameMismatch { .. })));
    }
}
