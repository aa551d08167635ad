//! Chains as servers send them, and the work that hostile ones can make (RFC 5280 §6.1, RFC 7671 §5.2).

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
    assert!(is_chain_failure(leaf_with(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])));
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
    let leaf = |critical| root.issue(leaf_params(&[HOST]), |params| params.custom_extensions = vec![custom(critical)]);
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
        params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
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
    as_issuer.distinguished_name.push(DnType::CommonName, DnValue::PrintableString("example root".try_into().unwrap()));
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
fn rfc7671_5_2_1_an_anchor_is_found_behind_sixty_strangers_with_and_without_its_name() {
    let without_key_id = |mut params: rcgen::CertificateParams| {
        params.use_authority_key_identifier_extension = false;
        params
    };
    let root = root("Root");
    let middle = root.issue(without_key_id(ca_params("Middle")), |_| {});
    let leaf = middle.issue(without_key_id(leaf_params(&[HOST])), |_| {});
    for names in [["Root", "Root"], ["Root", "Middle"], ["x", "y"]] {
        let stranger = |n: usize| self_signed(ca_params(names[n % 2]));
        let strangers: Vec<_> = (0..60).map(stranger).collect();
        let chain: Vec<&Made> = [&leaf].into_iter().chain(&strangers).chain([&middle, &root]).collect();
        for record in [tlsa(2, 0, 1, &root), tlsa(2, 1, 2, &root), tlsa(2, 1, 0, &root)] {
            assert_eq!(check(&chain, std::slice::from_ref(&record)), Ok(2), "{names:?} {record}");
            assert!(cost(&chain, &[record]).0 <= 62);
        }
    }
}

#[test]
fn rfc7671_5_2_1_long_chains_are_followed_to_their_anchor() {
    for length in [12, 30, 60] {
        let mut authorities = vec![root("0")];
        for n in 1..length {
            authorities.push(authorities[n - 1].ca(&n.to_string()));
        }
        let leaf = authorities[length - 1].leaf(&[HOST]);
        let chain: Vec<&Made> = [&leaf].into_iter().chain(authorities.iter().rev()).collect();
        assert_eq!(check(&chain, &[tlsa(2, 0, 1, &authorities[0])]), Ok(length));
        let shuffled: Vec<&Made> = [&leaf].into_iter().chain(&authorities).collect();
        assert_eq!(check(&shuffled, &[tlsa(2, 1, 1, &authorities[0])]), Ok(length), "in any order");
    }
}

#[test]
fn a_way_out_is_found_among_authorities_that_sign_each_other() {
    let root = root("Root");
    let first = root.ca("Same");
    let twins = twins(&first, 60);
    let leaf = first.leaf(&[HOST]);
    let chain: Vec<&Made> = [&leaf].into_iter().chain(&twins).chain([&first, &root]).collect();
    assert_eq!(check(&chain, &[tlsa(2, 0, 1, &root)]), Ok(2));
}

#[test]
fn issuers_that_sign_each_other_cost_no_more_than_the_limits() {
    let first = root("Same");
    let twins = twins(&first, 14);
    let leaf = first.leaf(&[HOST]);
    let chain: Vec<&Made> = [&leaf].into_iter().chain(&twins).collect();
    let (checks, steps, paths) = cost(&chain, &[tlsa(2, 0, 1, &first)]);
    assert!(checks == SIGNATURE_CHECKS_LIMIT || steps == STEPS_LIMIT, "{checks} checks, {steps} steps");
    assert!(checks <= SIGNATURE_CHECKS_LIMIT && steps <= STEPS_LIMIT && paths == 0);
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
