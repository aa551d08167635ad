//! The table of `own_hop.rs`, row by row.

use super::*;
use crate::outcome::{Class, Question, Side};
use crate::resolve::TlsaRecord;

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn domain() -> Domain {
    "exch.corp.example".parse().unwrap()
}

fn question() -> Question {
    Question { name: "exch.corp.example".into(), record_type: "A".into() }
}

fn absent() -> TlsaLookup {
    TlsaLookup::Absent(AbsentBecause::ProvenAbsent)
}

fn present() -> TlsaLookup {
    let record = TlsaRecord { usage: 3, selector: 1, matching: 1, data: vec![0; 32] };
    TlsaLookup::Present { base_domain: domain(), records: vec![record] }
}

fn public(addresses: &[&str], security: Security, tlsa: TlsaLookup) -> Option<MxHost> {
    let addresses = HostAddresses::Known(ips(addresses));
    Some(MxHost { name: domain().to_string(), preference: 0, addresses, security, tlsa })
}

fn chosen(pinned: &[&str], inside: &[&str], public: Option<MxHost>) -> (Vec<IpAddr>, TlsaLookup) {
    let views = Views { pinned: ips(pinned), inside: Ok(ips(inside)), public };
    let host = choose(&domain(), views).unwrap();
    (addresses_of(&host).to_vec(), host.tlsa)
}

const SIGNED: &[&str] = &["203.0.113.1"];
const INSIDE: &[&str] = &["10.0.0.1", "fd00::1"];
const ELSEWHERE: &[&str] = &["198.51.100.1"];

#[test]
fn a_private_name_is_where_the_hosts_file_or_its_own_servers_say() {
    let private = TlsaLookup::Absent(AbsentBecause::PrivateName);
    assert_eq!(chosen(&[], ELSEWHERE, None), (ips(ELSEWHERE), private.clone()));
    assert_eq!(chosen(SIGNED, ELSEWHERE, None), (ips(SIGNED), private));
}

#[test]
fn rfc7672_2_no_unsigned_view_takes_dane_away() {
    let secure = || public(SIGNED, Security::Secure, present());
    assert_eq!(chosen(&[], INSIDE, secure()), (ips(SIGNED), present()));
    assert_eq!(
        chosen(INSIDE, ELSEWHERE, secure()),
        (ips(INSIDE), present()),
        "the hosts file moves, and frees of nothing"
    );
    let without_address = public(&[], Security::Secure, present());
    assert_eq!(chosen(&[], INSIDE, without_address), (ips(INSIDE), present()));
}

#[test]
fn signed_addresses_give_way_to_a_view_inside_private_networks_alone() {
    let secure = || public(SIGNED, Security::Secure, absent());
    assert_eq!(chosen(&[], INSIDE, secure()).0, ips(INSIDE));
    assert_eq!(chosen(&[], ELSEWHERE, secure()).0, ips(SIGNED));
    assert_eq!(chosen(&[], &["10.0.0.1", "198.51.100.1"], secure()).0, ips(SIGNED), "all of it is inside, or none");
    assert_eq!(chosen(&[], &[], secure()).0, ips(SIGNED));
    for inside in ["100.64.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.2", "169.254.1.1", "::1", "fe80::1"] {
        assert_eq!(chosen(&[], &[inside], secure()).0, ips(&[inside]));
    }
}

#[test]
fn what_is_not_signed_is_where_the_system_says() {
    let insecure = || public(SIGNED, Security::Insecure, TlsaLookup::Absent(AbsentBecause::AddressesInsecure));
    assert_eq!(chosen(&[], ELSEWHERE, insecure()).0, ips(ELSEWHERE));
    assert_eq!(chosen(&[], &[], insecure()).0, ips(SIGNED), "any way that knows it will do");
    let denied = public(&[], Security::Secure, absent());
    assert_eq!(chosen(&[], ELSEWHERE, denied), (ips(ELSEWHERE), absent()));
}

#[test]
fn rfc7672_2_1_what_cannot_be_found_out_is_not_taken_for_absent_and_is_ours() {
    let bogus = Cause::DnsBogus { question: question(), detail: "no signature".into() };
    let unavailable = Cause::DnsUnavailable { question: question(), tried: Vec::new() };
    for cause in [bogus, unavailable] {
        let unknown = || {
            let addresses = HostAddresses::Unavailable(cause.clone());
            let tlsa = TlsaLookup::Unavailable(cause.clone());
            Some(MxHost { addresses, tlsa, ..public(&[], Security::Indeterminate, absent()).unwrap() })
        };
        let (addresses, tlsa) = chosen(&[], INSIDE, unknown());
        assert_eq!(addresses, ips(INSIDE));
        let TlsaLookup::Unavailable(told) = tlsa else { panic!("{tlsa:?}") };
        let nowhere = choose(&domain(), Views { pinned: vec![], inside: Ok(vec![]), public: unknown() }).unwrap_err();
        for cause in [told, nowhere] {
            let row = cause.row();
            assert_eq!((row.word, row.side, row.class), ("next-hop-unknown", Side::Here, Class::Transient));
            assert!(cause.advice().contains("[dns] private_zones"), "{cause:?}");
        }
    }
}

#[test]
fn what_nobody_knows_is_ours_and_temporary() {
    let tried = vec![PathFailure { upstream: "system udp://127.0.0.1:53".into(), detail: "timeout".into() }];
    for (inside, public) in [
        (Ok(vec![]), None),
        (Err(tried.clone()), None),
        (Err(tried), public(&[], Security::Secure, absent())),
        (Ok(vec![]), public(&[], Security::Insecure, absent())),
    ] {
        let cause = choose(&domain(), Views { pinned: vec![], inside, public }).unwrap_err();
        assert_eq!(cause.row().status.to_string(), "4.4.4");
        assert!(cause.advice().contains("/etc/hosts"), "{cause:?}");
    }
}

#[test]
fn another_view_is_told_and_the_same_is_not() {
    let host = |addresses: &[&str], security| public(addresses, security, absent()).unwrap();
    assert!(another_view(&ips(ELSEWHERE), &host(SIGNED, Security::Secure)).unwrap().contains("private_zones"));
    assert_eq!(another_view(&ips(SIGNED), &host(SIGNED, Security::Secure)), None);
    assert_eq!(another_view(&[], &host(SIGNED, Security::Secure)), None);
    assert_eq!(another_view(&ips(ELSEWHERE), &host(SIGNED, Security::Insecure)), None);
}
