//! Policies from a real web server (RFC 8461 §3.3), and delivery under them.

use super::{Draft, Ground, mx_of, nginx::Site};
use crate::certificate::{Ca, Certificate};
use crate::client::Swaks;
use crate::daemon::wait_for;
use crate::delivery::{ODD_MESSAGE, PATIENCE};
use crate::postfix::Postfix;
use serde_json::Value;

/// How a policy host is spoilt, or made different.
type Change = fn(&mut Site, &Ca);

/// A name, what is different at the policy host of `<name>.plain.test`, and what is said of it:
/// the exit code of `relay policy refresh` and the result type of RFC 8460 §4.3.2.2.
const SITES: [(&str, Change, i32, Option<&str>); 15] = [
    ("good", |_, _| (), 0, None),
    ("http2", |site, _| site.listen = "http2", 0, None),
    ("tls12", |site, _| site.server = "ssl_protocols TLSv1.2;".into(), 0, None),
    ("tls13", |site, _| site.server = "ssl_protocols TLSv1.3;".into(), 0, None),
    ("gzip", |site, _| site.place += "gzip on;\ngzip_min_length 1;\ngzip_types text/plain;", 0, None),
    // Nothing is replaced, but the length is not known any more.
    ("chunked", |site, _| site.place += "sub_filter_types text/plain;\nsub_filter \"no such text\" \"\";", 0, None),
    ("charset", |site, _| site.place += "charset utf-8;\ncharset_types text/plain;", 0, None),
    (
        "tls11",
        |site, _| site.server = "ssl_protocols TLSv1 TLSv1.1;\nssl_ciphers ALL:@SECLEVEL=0;".into(),
        2,
        Some("sts-policy-fetch-error"),
    ),
    (
        "demands-a-certificate",
        |site, _| {
            site.server +=
                &format!("ssl_verify_client on;\nssl_client_certificate {};", site.certificate.chain.display())
        },
        2,
        Some("sts-policy-fetch-error"),
    ),
    ("absent", |site, _| site.policy = None, 2, Some("sts-policy-fetch-error")),
    (
        "moved",
        |site, _| site.place = "return 301 https://mta-sts.good.plain.test:$server_port$request_uri;".into(),
        2,
        Some("sts-policy-fetch-error"),
    ),
    ("html", |site, _| site.place = "default_type text/html;".into(), 2, Some("sts-policy-fetch-error")),
    (
        "expired",
        |site, ca| site.certificate = ca.issue_expired("mta-sts.expired.plain.test"),
        2,
        Some("sts-webpki-invalid"),
    ),
    ("other-name", |site, ca| site.certificate = ca.issue("other-name.plain.test"), 2, Some("sts-webpki-invalid")),
    (
        "large",
        |site, _| site.policy = site.policy.take().map(|text| text + &"x: y\n".repeat(20_000)),
        2,
        Some("sts-policy-invalid"),
    ),
];

fn domain(name: &str) -> String {
    format!("{name}.plain.test")
}

fn ground() -> Ground {
    let mut draft = Draft::new();
    for (name, change, code, _) in SITES {
        let domain = domain(name);
        draft.policy(&domain, change);
        // Where a policy is in force only a certificate of the CA will do.
        let host = mx_of(&domain);
        let certificate = if code == 0 { draft.ca.issue(&host) } else { Certificate::self_signed(draft.dir(), &host) };
        draft.mx(&domain, Some(certificate), &[]);
    }
    draft.start()
}

#[test]
fn rfc8461_3_3_policies_come_from_nginx_and_rule_the_delivery() {
    let ground = ground();
    let postfix = Postfix::start(ground.dir(), &ground.hosts);
    let relay = ground.start_relay("");
    for (name, _, code, result_type) in SITES {
        let (exit, report) = relay.command(&["policy", "refresh", &domain(name), "--json"]);
        let json: Value = serde_json::from_str(&report).unwrap_or_else(|e| panic!("{e}: {report}"));
        let said = (exit, json["failure"]["result_type"].as_str(), json["policy"]["mode"].as_str());
        assert_eq!(said, (Some(code), result_type, (code == 0).then_some("enforce")), "{name}: {report}");
    }

    // Before the relay itself has asked: one request for each, and none to where 301 leads.
    let requests = ground.nginx.requests();
    for (name, status, tls) in [
        ("good", 200, "TLSv1.3"),
        ("http2", 200, "TLSv1.3"),
        ("tls12", 200, "TLSv1.2"),
        ("gzip", 200, "TLSv1.3"),
        ("chunked", 200, "TLSv1.3"),
        ("demands-a-certificate", 400, "TLSv1.3"),
        ("absent", 404, "TLSv1.3"),
        ("moved", 301, "TLSv1.3"),
    ] {
        let host = format!("mta-sts.{}", domain(name));
        let line = format!("{host} {status} HTTP/1.1 {tls} sni={host} encoding=- cache=");
        assert_eq!(requests.matches(&line).count(), 1, "{line} in\n{requests}");
    }
    assert!(!requests.contains("mta-sts.expired") && !requests.contains("mta-sts.other-name"), "{requests}");

    for (name, _, code, _) in SITES {
        let to = format!("b@{}", domain(name));
        let (from, server) = ("a@sender.test", relay.smtp);
        Swaks { server, from, to: &to, options: &[], content: ODD_MESSAGE }.hand_in(ground.dir());
        // RFC 8461 §3.3: a policy that cannot be fetched, and never was, is none.
        let tls = if code == 0 { "tls=\"webpki\"" } else { "tls=\"unauthenticated\"" };
        relay.wait_for_log(&["delivered", &mx_of(&domain(name)), tls], PATIENCE);
    }
    wait_for("one message each", PATIENCE, || (postfix.mailbox().len() == SITES.len()).then_some(()));
}

#[test]
fn rfc8461_5_1_a_kept_policy_holds_while_the_policy_host_is_gone() {
    let mut draft = Draft::new();
    let (good, spoilt) = (domain("good"), domain("spoilt"));
    for domain in [&good, &spoilt] {
        draft.policy(domain, |_, _| ());
    }
    let trusted = draft.ca.issue(&mx_of(&good));
    draft.mx(&good, Some(trusted), &[]);
    let own = Certificate::self_signed(draft.dir(), &mx_of(&spoilt));
    draft.mx(&spoilt, Some(own), &[]);
    let mut ground = draft.start();
    let _postfix = Postfix::start(ground.dir(), &ground.hosts);
    let mut relay = ground.start_relay("");
    for domain in [&good, &spoilt] {
        assert_eq!(relay.command(&["policy", "refresh", domain]).0, Some(0));
    }
    ground.nginx.stop();
    relay.crash_and_restart();
    for domain in [&good, &spoilt] {
        let to = format!("b@{domain}");
        let (from, server) = ("a@sender.test", relay.smtp);
        Swaks { server, from, to: &to, options: &[], content: ODD_MESSAGE }.hand_in(ground.dir());
    }
    relay.wait_for_log(&["delivered", &mx_of(&good), "tls=\"webpki\""], PATIENCE);
    relay.wait_for_log(&["deferred", &format!("b@{spoilt}"), "certificate-not-trusted"], PATIENCE);
}
