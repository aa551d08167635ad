//! Postfix and Exim as MX hosts under every policy (RFC 7672 §2.2, RFC 8461 §5, RFC 8689 §4.2.1).
//! Neither Debian's Postfix 3.7 nor its Exim 4.96 knows REQUIRETLS.

use super::{Draft, Ground, mx_of};
use crate::certificate::{Ca, Certificate, tlsa_that_fit_nothing};
use crate::client::Swaks;
use crate::daemon::{run_ok, wait_for};
use crate::delivery::{ODD_MESSAGE, PATIENCE, with_lf};
use crate::exim::Exim;
use crate::load::promtool_is_content_with;
use crate::postfix::{Mail, Postfix};
use crate::relay::Relay;
use End::{Deferred, Delivered};
use serde_json::Value;
use std::process::Command;

/// What becomes of a message at the first attempt.
enum End {
    /// Delivered; the relay's word for the TLS of it.
    Delivered(&'static str),
    /// Kept, for this cause with this code.
    Deferred(&'static str, &'static str),
}

/// The domains, each with the policy and the certificate in its name.
const ENDS: [(&str, End); 10] = [
    ("ee.test", Delivered("dane")),
    ("anchor.test", Delivered("dane")),
    ("wrong.test", Deferred("tlsa-invalid", "4.7.323")),
    // The configuration says that its records are only watched.
    ("watched.test", Delivered("unauthenticated")),
    ("nobody.plain.test", Delivered("unauthenticated")),
    ("sts.plain.test", Delivered("webpki")),
    ("sts-name.plain.test", Deferred("certificate-host-mismatch", "4.7.5")),
    ("sts-expired.plain.test", Deferred("certificate-expired", "4.7.5")),
    ("sts-unknown.plain.test", Deferred("certificate-not-trusted", "4.7.5")),
    ("sts-clear.plain.test", Deferred("starttls-not-supported", "4.7.321")),
];

/// A weakening that is in force: it has to end within a year.
fn watched() -> String {
    let until = time::OffsetDateTime::now_utc().date() + time::Duration::days(300);
    format!(
        "[[destination]]\ndomains = [\"watched.test\"]\ntls = \"dane\"\nreport-only = true\nuntil = {until}\n\
         reason = \"their new host\"\n"
    )
}

/// What that leaves among the metrics.
const METRICS: [&str; 6] = [
    "relay_policy_watched_total{because=\"report-only\",result=\"tlsa-invalid\"} ",
    "relay_exceptions{kind=\"report-only\"} 1\n",
    "relay_mta_sts_fetches_total{result=\"ok\"} 5\n",
    "relay_recipients_delivered_total{tls=\"dane\"} 2\n",
    "relay_recipients_delivered_total{tls=\"webpki\"} 1\n",
    "relay_recipients_failed_total{cause=\"requiretls-unmet\",side=\"recipient\"} 2\n",
];

/// Sends a message that demands REQUIRETLS.
const SEND_WITH_REQUIRETLS: &str = "
import smtplib, sys
host, port, sender, recipient = sys.argv[1:]
session = smtplib.SMTP(host, int(port), local_hostname='client.test')
session.starttls()
session.ehlo()
assert session.has_extn('requiretls'), session.esmtp_features
session.sendmail(sender, [recipient], 'Subject: kept among us\\r\\n\\r\\nhello\\r\\n', mail_options=['REQUIRETLS'])
session.quit()
";

/// A mail server that is not ours.
enum Server {
    Postfix(Postfix),
    Exim(Exim),
}

impl Server {
    fn mailbox(&self) -> Vec<Mail> {
        match self {
            Self::Postfix(postfix) => postfix.mailbox(),
            Self::Exim(exim) => exim.mailbox(),
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Postfix(postfix) => postfix.log(),
            Self::Exim(exim) => exim.log(),
        }
    }

    fn wait_for_mail_to(&self, recipient: &str) -> Mail {
        let to_it = |mail: &Mail| mail.recipient() == recipient;
        wait_for(&format!("mail to {recipient}"), PATIENCE, || self.mailbox().into_iter().find(to_it))
    }
}

fn ground() -> Ground {
    let mut draft = Draft::new();
    let dir = draft.dir().to_owned();
    let own = |domain: &str| Certificate::self_signed(&dir, &mx_of(domain));
    let ee = own("ee.test");
    let fits = [ee.tlsa_3_1_1()];
    draft.mx("ee.test", Some(ee), &fits);
    let below = Certificate::below_a_ca(&dir, &mx_of("anchor.test"));
    let names_the_ca = [below.tlsa_2_0_1()];
    draft.mx("anchor.test", Some(below), &names_the_ca);
    for domain in ["wrong.test", "watched.test"] {
        draft.mx(domain, Some(own(domain)), &tlsa_that_fit_nothing(3));
    }
    for domain in ["nobody.plain.test", "sender.test"] {
        draft.mx(domain, Some(own(domain)), &[]);
    }
    let stranger = Ca::new(&dir, "stranger");
    for (domain, certificate) in [
        ("sts.plain.test", Some(draft.ca.issue(&mx_of("sts.plain.test")))),
        // RFC 8461 §4.2: the name of the domain is not that of its MX host.
        ("sts-name.plain.test", Some(draft.ca.issue("sts-name.plain.test"))),
        ("sts-expired.plain.test", Some(draft.ca.issue_expired(&mx_of("sts-expired.plain.test")))),
        ("sts-unknown.plain.test", Some(stranger.issue(&mx_of("sts-unknown.plain.test")))),
        ("sts-clear.plain.test", None),
    ] {
        draft.mx(domain, certificate, &[]);
        draft.policy(domain, |_, _| ());
    }
    draft.start()
}

/// What `relay check` says of each domain is what delivery does.
fn check_foretells_it(relay: &Relay) {
    for (domain, end) in &ENDS {
        let (code, report) = relay.command(&["check", domain, "--json"]);
        let json: Value = serde_json::from_str(&report).unwrap_or_else(|e| panic!("{e}: {report}"));
        let fault = &json["fault"];
        match end {
            Deferred(cause, status) => {
                let said = (code, fault["cause"].as_str(), fault["status"].as_str());
                assert_eq!(said, (Some(2), Some(*cause), Some(*status)), "{report}");
            }
            // 1 where something else is wrong, as with what is only watched.
            Delivered(_) => assert!(matches!(code, Some(0 | 1)), "{report}"),
        }
    }
}

/// Every policy against this server; `tls` is how its log names the TLS session.
fn keeps_to_every_policy(ground: &Ground, relay: &Relay, server: &Server, tls: &str) {
    for (domain, _) in &ENDS {
        let to = format!("b@{domain}");
        let message = Swaks { server: relay.smtp, from: "a@sender.test", to: &to, options: &[], content: ODD_MESSAGE };
        message.hand_in(ground.dir());
    }
    for (domain, end) in &ENDS {
        let to = format!("b@{domain}");
        match end {
            Delivered(word) => {
                let mail = server.wait_for_mail_to(&to);
                assert!(mail.bytes().ends_with(&with_lf(ODD_MESSAGE)), "changed on the way: {}", mail.text());
                relay.wait_for_log(&["delivered", &mx_of(domain), &format!("tls=\"{word}\"")], PATIENCE);
            }
            Deferred(cause, status) => {
                relay.wait_for_log(&["deferred", &to, cause, status], PATIENCE);
            }
        }
    }
    let delivered = ENDS.iter().filter(|(_, end)| matches!(end, Delivered(_))).count();
    assert_eq!(server.mailbox().len(), delivered, "nothing to a host that did not prove itself");
    let log = server.log();
    assert!(log.matches(tls).count() >= delivered, "{tls} in\n{log}");
    assert!(!log.contains("<b@wrong.test>"), "{log}");
}

/// The metrics of a relay that has met every policy.
fn metrics_are_well_formed(relay: &Relay) {
    let page = relay.metrics();
    for metric in METRICS {
        assert!(page.contains(metric), "{metric} in\n{page}");
    }
    promtool_is_content_with(&page);
}

/// RFC 8689 §4.2.1: the hosts prove themselves by DANE and by MTA-STS, and do not know REQUIRETLS.
fn requiretls_becomes_an_ndr(relay: &Relay, server: &Server) {
    for to in ["private@ee.test", "private@sts.plain.test"] {
        let mut python = Command::new("python3");
        python.args(["-c", SEND_WITH_REQUIRETLS, &relay.smtp.ip().to_string(), &relay.smtp.port().to_string()]);
        run_ok(python.args(["a@sender.test", to]));
        relay.wait_for_log(&["failed", to, "requiretls-unmet", "5.7.30"], PATIENCE);
    }
    let reports = wait_for("two NDRs", PATIENCE, || {
        let reports = server.mailbox().into_iter().filter(|mail| mail.recipient() == "a@sender.test");
        Some(reports.collect::<Vec<_>>()).filter(|reports| reports.len() == 2)
    });
    for ndr in reports {
        assert!(ndr.text().contains("\nStatus: 5.7.30\n"), "{}", ndr.text());
        // RFC 8689 §5: by a path that may be unprotected the text of the message does not go back.
        assert!(!ndr.text().contains("\nhello\n"), "{}", ndr.text());
    }
    assert!(server.mailbox().iter().all(|mail| !mail.recipient().starts_with("private@")));
}

#[test]
fn postfix_gets_what_the_policies_allow_and_nothing_else() {
    let ground = ground();
    let server = Server::Postfix(Postfix::start(ground.dir(), &ground.hosts));
    let relay = ground.start_relay(&watched());
    keeps_to_every_policy(&ground, &relay, &server, "TLS connection established from unknown[127.0.0.1]: TLSv1.3");
    requiretls_becomes_an_ndr(&relay, &server);
    check_foretells_it(&relay);
    metrics_are_well_formed(&relay);
}

#[test]
fn exim_gets_what_the_policies_allow_and_nothing_else() {
    let ground = ground();
    let server = Server::Exim(Exim::start(ground.dir(), &ground.hosts));
    let relay = ground.start_relay(&watched());
    keeps_to_every_policy(&ground, &relay, &server, "P=esmtps X=TLS1.3:");
    requiretls_becomes_an_ndr(&relay, &server);
    check_foretells_it(&relay);
}
