//! The foreign programs without the relay: when these fail, the fault is in the surroundings.

use crate::client::Swaks;
use crate::daemon::run;
use crate::delivery::{ODD_MESSAGE, PATIENCE, with_lf};
use crate::world::{Tlsa, World};
use std::process::Command;

#[test]
fn rfc4035_unbound_validates_our_zones_and_knows_what_is_unsigned() {
    let world = World::start(&[("dane.test", Tlsa::OneFitsOf(6)), ("x.plain.test", Tlsa::OneFitsOf(1))]);
    let is_secure = |name: &str, record_type: &str| {
        let answer = world.resolver.dig(name, record_type);
        let flags = answer.lines().find(|line| line.starts_with(";; flags:")).unwrap_or_default();
        (flags.split(';').nth(2).unwrap_or_default().contains(" ad"), answer)
    };
    let tlsa = format!("_{}._tcp.mx.dane.test", world.mx_port);
    let (secure, answer) = is_secure(&tlsa, "TLSA");
    assert!(secure, "{answer}");
    assert_eq!(answer.matches("TLSA\t3 1 1").count(), 6, "{answer}");
    for (name, record_type, expected) in
        [("dane.test", "MX", true), ("nothing.test", "MX", true), ("x.plain.test", "MX", false)]
    {
        let (secure, answer) = is_secure(name, record_type);
        assert_eq!(secure, expected, "{name}: {answer}");
    }
}

#[test]
fn postfix_keeps_what_swaks_sends_over_starttls() {
    let world = World::start(&[("dane.test", Tlsa::Absent)]);
    let server = std::net::SocketAddr::from(([127, 0, 1, 1], world.mx_port));
    let swaks = Swaks { server, from: "a@sender.test", to: "b@dane.test", options: &["--tls"], content: ODD_MESSAGE };
    swaks.hand_in(world.dir());
    let mail = world.postfix.wait_for_mail_to("b@dane.test", PATIENCE);
    assert!(mail.bytes().ends_with(&with_lf(ODD_MESSAGE)), "{}", mail.text());
    assert!(mail.text().contains("using TLSv1.3"), "{}", mail.text());
}

#[test]
fn rfc7671_openssl_finds_the_records_fitting_that_should_fit() {
    let world = World::start(&[
        ("ee.test", Tlsa::OneFitsOf(6)),
        ("anchor.test", Tlsa::TrustAnchor),
        ("wrong.test", Tlsa::NoneFitsOf(2)),
    ]);
    for (n, (domain, fits)) in [("ee.test", true), ("anchor.test", true), ("wrong.test", false)].into_iter().enumerate()
    {
        let host = format!("mx.{domain}");
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-starttls", "smtp", "-connect", &format!("127.0.1.{}:{}", n + 1, world.mx_port)]);
        openssl.args(["-verify_return_error", "-dane_ee_no_namechecks", "-dane_tlsa_domain", &host]);
        let answer = world.resolver.dig(&format!("_{}._tcp.{host}", world.mx_port), "TLSA");
        for (_, record) in answer.lines().filter_map(|line| line.split_once("\tIN\tTLSA\t")) {
            // dig breaks the data with blanks; openssl wants three numbers and one word.
            let words: Vec<&str> = record.split(' ').collect();
            openssl.args(["-dane_tlsa_rrdata", &format!("{} {}", words[..3].join(" "), words[3..].concat())]);
        }
        let output = run(&mut openssl);
        let said = crate::daemon::both(&output);
        assert_eq!(said.contains("Verification: OK") && said.contains("DANE TLSA"), fits, "{domain}: {said}");
    }
}
