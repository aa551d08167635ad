//! The demands of the DANE standards on certificates, each with the server that a tester would
//! set up for it (RFC 6698 §4.1, RFC 7671 §5-§9, RFC 7672 §3-§4).
//!
//! The rules themselves are tested beside their code; here stands what a domain may publish and
//! a server may present, and whether mail goes out.

use super::dane::{usable, verify};
use super::testing::{Made, NOW, ca_params, domains, leaf_params, root, self_signed, tlsa};
use crate::outcome::DaneFailure;
use crate::resolve::TlsaRecord;
use rcgen::{CrlDistributionPoint, CustomExtension, DistinguishedName, DnType, KeyIdMethod, date_time_ymd};

const HOST: &str = "mx.example.org";
/// Usage 3 or 2 with every selector and matching type.
const FORMS: [(u8, u8); 6] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];

fn check(chain: &[&Made], records: &[TlsaRecord]) -> Result<(u8, usize), DaneFailure> {
    let chain: Vec<&[u8]> = chain.iter().map(|made| made.der.as_slice()).collect();
    verify(&chain, records, &domains(&[HOST]), NOW).map(|found| (found.record.usage, found.depth))
}

fn wrong(mut record: TlsaRecord) -> TlsaRecord {
    record.data[7] ^= 1;
    record
}

fn malformed(mut record: TlsaRecord) -> TlsaRecord {
    record.data.pop();
    record
}

#[test]
fn rfc7672_3_1_1_dane_ee_takes_every_leaf_its_record_fits() {
    let ca = root("CA");
    let no_name_at_all = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names.clear();
        params.distinguished_name = DistinguishedName::new();
    };
    let unknown_critical = |params: &mut rcgen::CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    let leaves = [
        self_signed(leaf_params(&[HOST])),
        self_signed(leaf_params(&["mx.example.com"])),
        ca.leaf(&["mx.example.com"]),
        ca.issue(leaf_params(&[HOST]), |params| params.not_after = date_time_ymd(1999, 1, 1)),
        ca.issue(leaf_params(&[HOST]), |params| params.not_before = date_time_ymd(2090, 1, 1)),
        ca.issue(leaf_params(&[]), no_name_at_all),
        ca.issue(leaf_params(&[HOST]), unknown_critical),
        ca.ca("a CA as server"),
    ];
    for (i, leaf) in leaves.iter().enumerate() {
        for (selector, matching) in FORMS {
            let record = tlsa(3, selector, matching, leaf);
            assert_eq!(check(&[leaf], std::slice::from_ref(&record)), Ok((3, 0)), "{i}: {record}");
            assert_eq!(check(&[leaf, &ca], &[wrong(record)]), Err(DaneFailure::NoMatch), "{i}");
        }
    }
}

#[test]
fn rfc7671_5_2_dane_ta_takes_chains_with_and_without_key_identifiers() {
    let without = |params: &mut rcgen::CertificateParams| params.use_authority_key_identifier_extension = false;
    let strange = |params: &mut rcgen::CertificateParams| {
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1, 2, 3]);
    };
    for (root_bend, middle_bend) in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 2)] {
        let bend = |which: u8, params: &mut rcgen::CertificateParams| match which {
            0 => {}
            1 => without(params),
            _ => strange(params),
        };
        let mut params = ca_params("Root");
        bend(root_bend, &mut params);
        let root = self_signed(params);
        let middle = root.issue(ca_params("Middle"), |params| bend(middle_bend, params));
        let leaf = middle.issue(leaf_params(&[HOST]), |params| bend(middle_bend, params));
        for (selector, matching) in FORMS {
            let what = format!("{root_bend}{middle_bend}: 2 {selector} {matching}");
            assert_eq!(check(&[&leaf, &middle, &root], &[tlsa(2, selector, matching, &root)]), Ok((2, 2)), "{what}");
            assert_eq!(check(&[&leaf, &middle], &[tlsa(2, selector, matching, &middle)]), Ok((2, 1)), "{what}");
            // A digest of what the server leaves out fits nothing, and only a full record helps.
            let left_out = check(&[&leaf, &middle], &[tlsa(2, selector, matching, &root)]);
            assert_eq!(left_out.is_ok(), matching == 0, "{what}");
        }
    }
}

#[test]
fn rfc7672_3_1_2_a_self_signed_server_certificate_may_be_the_anchor() {
    let leaf = self_signed(leaf_params(&[HOST]));
    let elsewhere = self_signed(leaf_params(&["mx.example.com"]));
    let expired = self_signed({
        let mut params = leaf_params(&[HOST]);
        params.not_after = date_time_ymd(2020, 1, 1);
        params
    });
    for (selector, matching) in FORMS {
        assert_eq!(check(&[&leaf], &[tlsa(2, selector, matching, &leaf)]).map(|(usage, _)| usage), Ok(2));
        let named = check(&[&elsewhere], &[tlsa(2, selector, matching, &elsewhere)]);
        assert!(matches!(named, Err(DaneFailure::NameMismatch { .. })), "names count: {named:?}");
        assert_eq!(check(&[&expired], &[tlsa(2, selector, matching, &expired)]), Err(DaneFailure::Expired));
    }
}

#[test]
fn rfc7672_3_2_3_dns_ids_common_names_and_wildcards() {
    let ca = root("CA");
    let with = |common_name: &str, alternatives: &[&str]| {
        let leaf = ca.issue(leaf_params(alternatives), |params| {
            params.distinguished_name.push(DnType::CommonName, common_name);
        });
        check(&[&leaf, &ca], &[tlsa(2, 0, 1, &ca)]).is_ok()
    };
    let long = "a".repeat(3_000);
    for (common_name, alternatives) in [
        ("x", &[HOST] as &[&str]),
        ("x", &["other.example", "MX.EXAMPLE.ORG"]),
        (HOST, &[]),
        ("*.example.org", &[]),
        (HOST, &["192.0.2.1"]),
        ("x", &["*.example.org"]),
        ("x", &[&long, HOST]),
    ] {
        assert!(with(common_name, alternatives), "{common_name} {alternatives:.40?}");
    }
    for (common_name, alternatives) in [
        (HOST, &["other.example"] as &[&str]),
        ("x", &[]),
        ("x", &["m*.example.org"]),
        ("x", &["*x.example.org"]),
        ("x", &["*.*.org"]),
        ("x", &["*.org"]),
        ("x", &["*"]),
        ("x", &["mx.*.org"]),
        ("x", &["mx.example.org."]),
        ("x", &[".example.org"]),
        ("x", &["example.org"]),
        (HOST, &["mx.example.org\0.evil.example"]),
        (HOST, &[""]),
        (&long, &[]),
    ] {
        assert!(!with(common_name, alternatives), "{common_name:.40} {alternatives:?}");
    }
}

#[test]
fn rfc7672_3_2_2_names_in_other_scripts_are_a_labels() {
    let ca = root("CA");
    for (name, reference, fits) in [
        ("xn--mgbh0fb.xn--kgbechtv", "xn--mgbh0fb.xn--kgbechtv", true),
        ("XN--MGBH0FB.example", "xn--mgbh0fb.example", true),
        ("*.example.org", "xn--mgbh0fb.example.org", true),
        ("xn--*.example.org", "xn--mgbh0fb.example.org", false),
    ] {
        let leaf = ca.leaf(&[name]);
        let found = verify(&[&leaf.der, &ca.der], &[tlsa(2, 1, 1, &ca)], &domains(&[reference]), NOW);
        assert_eq!(found.is_ok(), fits, "{name} for {reference}");
    }
    let leaf = ca.leaf(&[HOST]);
    let with_final_dot = domains(&["mx.example.org."]);
    assert!(verify(&[&leaf.der, &ca.der], &[tlsa(2, 1, 1, &ca)], &with_final_dot, NOW).is_ok());
    assert!(verify(&[&leaf.der, &ca.der], &[tlsa(2, 1, 1, &ca)], &[], NOW).is_err(), "no name, no match");
}

#[test]
fn rfc7672_3_1_3_usages_0_and_1_neither_help_nor_harm() {
    let ca = root("CA");
    let leaf = ca.leaf(&[HOST]);
    let pkix = [tlsa(0, 0, 1, &ca), tlsa(1, 1, 1, &leaf)];
    assert!(usable(&pkix).is_empty());
    assert_eq!(check(&[&leaf, &ca], &pkix), Err(DaneFailure::NoMatch));
    let [first, second] = pkix;
    let and = |record| [first.clone(), record, second.clone()];
    assert_eq!(check(&[&leaf, &ca], &and(tlsa(3, 1, 1, &leaf))), Ok((3, 0)));
    assert_eq!(check(&[&leaf, &ca], &and(wrong(tlsa(3, 1, 1, &leaf)))), Err(DaneFailure::NoMatch));
    assert_eq!(check(&[&leaf, &ca], &and(tlsa(2, 0, 2, &ca))), Ok((2, 1)));
}

#[test]
fn rfc7671_9_the_strongest_digest_decides_for_both_usages() {
    let ca = root("CA");
    let leaf = ca.leaf(&[HOST]);
    for (usage, of) in [(3, &leaf), (2, &ca)] {
        for selector in [0, 1] {
            let (full, sha_256, sha_512) =
                (tlsa(usage, selector, 0, of), tlsa(usage, selector, 1, of), tlsa(usage, selector, 2, of));
            let other_selector = tlsa(usage, 1 - selector, 1, of);
            let passes = |records: &[TlsaRecord]| {
                let reversed: Vec<_> = records.iter().rev().cloned().collect();
                let (found, turned) = (check(&[&leaf, &ca], records).is_ok(), check(&[&leaf, &ca], &reversed).is_ok());
                assert_eq!(found, turned, "the order does not matter");
                found
            };
            assert!(!passes(&[wrong(sha_512.clone()), sha_256.clone()]));
            assert!(passes(&[sha_512.clone(), wrong(sha_256.clone())]));
            assert!(passes(&[malformed(sha_512.clone()), sha_256.clone()]));
            assert!(passes(&[wrong(sha_512.clone()), sha_512.clone()]), "a rollover");
            assert!(passes(&[wrong(sha_512.clone()), wrong(sha_256.clone()), full.clone()]));
            assert!(passes(&[wrong(sha_512.clone()), other_selector]));
            assert!(passes(&[wrong(full), sha_256]));
        }
    }
    let other_usage = [wrong(tlsa(3, 1, 2, &leaf)), tlsa(2, 1, 1, &ca)];
    assert_eq!(check(&[&leaf, &ca], &other_usage), Ok((2, 1)), "another usage is another matter");
}

#[test]
fn rfc6698_4_1_a_malformed_record_spoils_nothing_and_one_match_is_enough() {
    let ca = root("CA");
    let leaf = ca.leaf(&[HOST]);
    let unknown = |usage, selector, matching| TlsaRecord { usage, selector, matching, data: vec![7; 32] };
    let mut records = vec![
        malformed(tlsa(3, 1, 1, &leaf)),
        malformed(tlsa(2, 0, 0, &ca)),
        TlsaRecord { data: vec![], ..unknown(3, 1, 1) },
        unknown(4, 1, 1),
        unknown(3, 2, 1),
        unknown(3, 1, 3),
        unknown(255, 255, 255),
        wrong(tlsa(3, 1, 1, &leaf)),
    ];
    assert_eq!(check(&[&leaf, &ca], &records), Err(DaneFailure::NoMatch));
    records.push(tlsa(2, 0, 1, &ca));
    assert_eq!(check(&[&leaf, &ca], &records), Ok((2, 1)), "the wrong DANE-EE does not forbid the right DANE-TA");
}

#[test]
fn rfc6698_4_1_a_hundred_records_of_any_kind_are_all_looked_at() {
    let ca = root("CA");
    let leaf = ca.leaf(&[HOST]);
    for right in [tlsa(3, 0, 1, &leaf), tlsa(3, 1, 2, &leaf), tlsa(2, 1, 1, &ca), tlsa(2, 0, 2, &ca)] {
        for place in [0, 50, 99] {
            let mut records = vec![wrong(right.clone()); 99];
            records.insert(place, right.clone());
            assert_eq!(check(&[&leaf, &ca], &records).map(|(usage, _)| usage), Ok(right.usage), "{right} at {place}");
        }
    }
}

#[test]
fn rfc7672_4_revocation_is_the_removal_of_the_record() {
    // Where to ask about revocation, and that an answer must be stapled (1.3.6.1.5.5.7.1.24).
    let revocable = |params: &mut rcgen::CertificateParams| {
        let uris = vec!["http://ca.example/revoked.crl".to_owned()];
        params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
        let must_staple =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], b"\x30\x03\x02\x01\x05".into());
        params.custom_extensions.push(must_staple);
    };
    let ca = root("CA");
    let leaf = ca.issue(leaf_params(&[HOST]), revocable);
    assert_eq!(check(&[&leaf, &ca], &[tlsa(3, 1, 1, &leaf)]), Ok((3, 0)));
    assert_eq!(check(&[&leaf, &ca], &[tlsa(2, 1, 1, &ca)]), Ok((2, 1)));
}

#[test]
fn rfc5280_6_1_1_an_expired_anchor_counts_as_a_key_where_nobody_presents_its_dates() {
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let mut params = ca_params("Root");
    expired(&mut params);
    let root = self_signed(params);
    let leaf = root.leaf(&[HOST]);
    for (selector, matching) in FORMS {
        let sent = check(&[&leaf, &root], &[tlsa(2, selector, matching, &root)]);
        assert_eq!(sent, Err(DaneFailure::Expired), "2 {selector} {matching}, presented");
    }
    assert_eq!(check(&[&leaf], &[tlsa(2, 1, 0, &root)]), Ok((2, 1)), "a key has no dates");
    assert_eq!(check(&[&leaf], &[tlsa(2, 0, 0, &root)]), Err(DaneFailure::Expired), "a certificate has them");
    let middle = root.issue(ca_params("Middle"), expired);
    let below = middle.leaf(&[HOST]);
    assert_eq!(check(&[&below, &middle, &root], &[tlsa(2, 0, 1, &middle)]), Ok((2, 1)), "somebody else's dates");
}

#[test]
fn rfc5280_6_1_4_only_an_anchor_may_say_by_key_usage_alone_that_it_is_a_ca() {
    let usage_only = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::NoCa;
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    };
    let mut params = ca_params("Root");
    usage_only(&mut params);
    let old_root = self_signed(params);
    assert_eq!(check(&[&old_root.leaf(&[HOST]), &old_root], &[tlsa(2, 0, 1, &old_root)]), Ok((2, 1)));
    let root = root("Root");
    let middle = root.issue(ca_params("Middle"), usage_only);
    let chain = [&middle.leaf(&[HOST]), &middle, &root];
    assert_eq!(check(&chain, &[tlsa(2, 0, 1, &middle)]), Ok((2, 1)));
    assert!(matches!(check(&chain, &[tlsa(2, 0, 1, &root)]), Err(DaneFailure::Chain { .. })));
}
