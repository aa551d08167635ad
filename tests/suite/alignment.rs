//! What `relay check --self` says of the operator's domains: keys as they are published, and the policies of DMARC,
//! from the domain above where there is none (RFC 7489 §6.6.3).

use crate::reload::Configured;
use dane_relay::lab::Lab;
use dane_relay::smtp::dkim::{DkimKey, DkimKeyType, DkimRecord, zone_file_strings};
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::TXT;
use serde_json::Value;

fn text(text: &str) -> RData {
    RData::TXT(TXT::new(zone_file_strings(text)))
}

/// What is found of a domain, by its name.
fn of<'a>(report: &'a Value, domain: &str) -> &'a Value {
    let all = report["sender_domains"].as_array().unwrap();
    all.iter().find(|one| one["domain"] == domain).unwrap_or_else(|| panic!("no {domain} in {report:#}"))
}

#[tokio::test]
async fn rfc7489_3_1_each_sender_domain_is_told_by_what_its_mail_is_aligned() {
    let keys = tempfile::tempdir().unwrap();
    let (good, lost) = (keys.path().join("good.pem"), keys.path().join("lost.pem"));
    let key = DkimKey::generate(DkimKeyType::Ed25519).unwrap();
    for file in [&good, &lost] {
        std::fs::write(file, key.to_pem().unwrap()).unwrap();
    }
    let record = text(&DkimRecord::text_for(&key));
    let lab = Lab::builder()
        .domain("office.test", |d| {
            d.record("s1._domainkey.office.test", record)
                .record("_dmarc.office.test", text("v=DMARC1; p=reject; sp=quarantine; adkim=s"))
        })
        .domain("lost.test", |d| d)
        .domain("other.test", |d| d);
    let world = Configured::with(lab, |config| {
        let domains = "[\"office.test\", \"news.office.test\", \"other.test\"]";
        let config = config.replace("[listen]\n", &format!("[listen]\nsender_domains = {domains}\n"));
        format!(
            "{config}[[dkim.key]]\ndomain = \"office.test\"\nselector = \"s1\"\nkey_file = {good:?}\nsubdomains = true\n\
             [[dkim.key]]\ndomain = \"lost.test\"\nselector = \"s1\"\nkey_file = {lost:?}\n"
        )
    })
    .await;
    let checked = world.run(&["check", "--self", "--json"]).await;
    let report: Value = serde_json::from_str(&checked.stdout).unwrap();
    let own = of(&report, "office.test");
    assert_eq!((own["status"].as_str(), &own["aligned_by"][0]), (Some("ok"), &Value::from("dkim")), "{own:#}");
    assert_eq!(own["dmarc"]["policy"]["record"]["policy"], "reject", "{own:#}");
    // Signed by the domain above, which the policy there does not let count.
    let below = of(&report, "news.office.test");
    assert_eq!(below["dmarc"]["policy"]["at"], "office.test");
    assert_eq!((below["aligned_by"].as_array().unwrap().len(), &below["dkim"]["here"]["worst"]), (0, &"same".into()));
    let lost = of(&report, "lost.test");
    assert_eq!(
        (lost["status"].as_str(), &lost["dkim"]["here"]["worst"]),
        (Some("fault"), &"absent".into()),
        "{lost:#}"
    );
    let other = of(&report, "other.test");
    assert_eq!((other["dkim"].as_str(), other["dmarc"].as_str()), (Some("not-here"), Some("absent")), "{other:#}");
    let checks = report["checks"].as_array().unwrap();
    let line = checks.iter().find(|one| one["check"] == "alignment").unwrap();
    assert!(line["status"] == "fault" && line["detail"].as_str().unwrap().contains("lost.test"), "{line}");
    let shown = world.run(&["check", "--self"]).await;
    assert_eq!(shown.code, 2);
    assert!(shown.stdout.contains("office.test passes by DKIM (p=reject)"), "{}", shown.stdout);
}
