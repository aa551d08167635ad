//! Reports on TLS (RFC 8460) as others read them: a schema of §4.4 of our own under Python's jsonschema, Python's email
//! package, parsedmarc, and mail-auth (what Stalwart reads them with).

use crate::daemon::{both, run, run_ok};
use dane_relay::clock::Timestamp;
use dane_relay::report::tls::{
    RESULT_TYPES, ReportExtent, ReportSubject, ReportSubmitter, TlsReportDocument, gzip, report_mail,
};
use dane_relay::smtp::address::{Domain, Mailbox};
use dane_relay::spool::tls_session::{AppliedPolicy, PolicyType, ReportDay, SessionFailure, TlsCount};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Where `tests/run` puts those that Debian does not have.
const PARSEDMARC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/interop/parsedmarc/bin/python");
const MAIL_AUTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/interop/mail-auth/bin/mail-auth-reads");

/// Whether a document fits the schema, keys that stand there twice and numbers beyond a double included.
const BY_SCHEMA: &str = r#"
import json, jsonschema, sys
def once(pairs):
    assert len(dict(pairs)) == len(pairs), "a key stands there twice"
    return dict(pairs)
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
document = json.load(open(sys.argv[2], "rb"), object_pairs_hook=once)
checker = jsonschema.FormatChecker(["ipv4", "ipv6"])
jsonschema.Draft202012Validator(schema, format_checker=checker).validate(document)
"#;

/// What Python's email makes of the mail: by the grammars of RFC 8460 §5.1 and §5.3.
const BY_EMAIL: &str = r#"
import email, email.policy, gzip, re, sys
octets = open(sys.argv[1], "rb").read()
assert all(len(line) <= 998 for line in octets.split(b"\r\n")) and b"\n" not in octets.replace(b"\r\n", b"")
message = email.message_from_bytes(octets, policy=email.policy.default)
defects = [defect for part in message.walk() for defect in part.defects]
assert not defects, defects
assert message.get_content_type() == "multipart/report" and message.get_param("report-type") == "tlsrpt"
text, report = message.iter_parts()
assert text.get_content_type() == "text/plain" and text.get_content_disposition() != "attachment"
assert report.get_content_type() == "application/tlsrpt+gzip" and report.get_content_disposition() == "attachment"
assert report["Content-Transfer-Encoding"] == "base64"
domain, submitter = message["TLS-Report-Domain"], message["TLS-Report-Submitter"]
name = r"[A-Za-z0-9_.-]+"
assert re.fullmatch(rf"Report Domain: {re.escape(domain)} Submitter: {re.escape(submitter)} Report-ID: <{name}@{name}>", message["Subject"]), message["Subject"]
file = rf"{re.escape(submitter)}!{re.escape(domain)}!([0-9]+)!([0-9]+)!([A-Za-z0-9]+)\.json\.gz"
match = re.fullmatch(file, report.get_filename())
assert match and int(match[2]) - int(match[1]) == 86399 and int(match[1]) % 86400 == 0, report.get_filename()
assert message["TLS-Required"] == "No" and message["Auto-Submitted"] == "auto-generated" and message["MIME-Version"] == "1.0"
assert message["From"].addresses[0].domain == submitter and message["Message-ID"] and message["Date"].datetime
sys.stdout.buffer.write(gzip.decompress(report.get_content()))
"#;

/// What parsedmarc makes of a mail, or of a file as it is posted.
const BY_PARSEDMARC: &str = r#"
import json, parsedmarc, sys
octets = open(sys.argv[1], "rb").read()
parsed = parsedmarc.parse_report_file(octets, offline=True) if sys.argv[1].endswith(".gz") else parsedmarc.parse_report_email(octets, offline=True)
assert parsed["report_type"] == "smtp_tls", parsed["report_type"]
print(json.dumps(parsed["report"]))
"#;

/// A report, in each of its forms.
struct Written {
    name: &'static str,
    document: Value,
    folder: TempDir,
}

impl Written {
    fn new(name: &'static str, domain: &str, counts: &[TlsCount], extent: ReportExtent) -> Self {
        let contact: Mailbox = "tls-reports@office.example".parse().unwrap();
        let (hostname, domain): (Domain, Domain) = ("relay.office.example".parse().unwrap(), domain.parse().unwrap());
        let day: ReportDay = "2026-11-29".parse().unwrap();
        let submitter =
            ReportSubmitter { organization: "B\u{fc}ro \"Office\" Ltd", contact: &contact, hostname: &hostname };
        let subject = ReportSubject { submitter, domain: &domain, day };
        let document = TlsReportDocument::of(&subject, counts, extent).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mail = report_mail(&subject, &["tls@a.example".parse().unwrap()], &document, Timestamp(1_796_000_400_000));
        std::fs::write(folder.path().join("report.eml"), mail).unwrap();
        std::fs::write(folder.path().join("report.json"), document.json()).unwrap();
        std::fs::write(folder.path().join("report.json.gz"), gzip(document.json().as_bytes())).unwrap();
        Self { name, document: serde_json::from_str(&document.json()).unwrap(), folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn policy(kind: PolicyType, domain: &str, strings: &[&str], mx_host: &[&str]) -> AppliedPolicy {
    let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    AppliedPolicy { kind, domain: domain.to_owned(), strings: all(strings), mx_host: all(mx_host) }
}

fn failure(result_type: &str, reason: Option<&str>) -> SessionFailure {
    SessionFailure {
        result_type: result_type.to_owned(),
        sending_address: Some("2001:db8::7".parse().unwrap()),
        mx_host: Some("mx1.a.example".to_owned()),
        mx_address: Some([198, 51, 100, 25].into()),
        reason: reason.map(str::to_owned),
    }
}

/// Reports of every kind.
fn all() -> Vec<Written> {
    let record = format!("3 1 1 {}", "0F".repeat(32));
    let tlsa = policy(PolicyType::Tlsa, "mx1.a.example", &[&record, "2 0 2 AB"], &[]);
    let lines = ["version: STSv1", "mode: enforce", "mx: *.a.example", "mx: mx.b.example", "max_age: 604800"];
    let sts = policy(PolicyType::Sts, "a.example", &lines, &["*.a.example", "mx.b.example"]);
    let none = policy(PolicyType::NoPolicyFound, "a.example", &[], &[]);
    let count = |policy: &AppliedPolicy, failure, sessions| TlsCount { policy: policy.clone(), failure, sessions };
    let mut every = vec![count(&tlsa, None, 5326), count(&sts, None, 4), count(&none, None, 1)];
    every.extend((1..).zip(RESULT_TYPES).map(|(nth, known)| count(&tlsa, Some(failure(known, Some(known))), nth)));
    let bare =
        SessionFailure { sending_address: None, mx_host: None, mx_address: None, ..failure("dane-required", None) };
    every.push(count(&sts, Some(bare), 3));
    let idn =
        AppliedPolicy { mx_host: vec!["*.b\u{fc}cher.example".into()], domain: "b\u{fc}cher.example".into(), ..sts };
    let odd = "\u{fffe}\"\\\u{1}\r\nX: y\u{202e}\u{1f980}".to_owned() + &"x".repeat(400);
    let hostile = [count(&tlsa, Some(failure("odd <type>", Some(&odd))), 4_000_000_000), count(&tlsa, None, 1)];
    let good = [count(&none, None, 12)];
    use ReportExtent::{Everything, FailuresOnly};
    vec![
        Written::new("every result type", "a.example", &every, Everything),
        Written::new("failures only", "a.example", &every, FailuresOnly),
        Written::new("a heartbeat", "a.example", &good, Everything),
        Written::new("A-labels", "b\u{fc}cher.example", &[count(&idn, None, 2)], Everything),
        Written::new("odd texts", "a.example", &hostile, Everything),
    ]
}

fn by_schema(file: &Path) -> Output {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tls_report/schema.json");
    run(Command::new("/usr/bin/python3").args(["-c", BY_SCHEMA, schema]).arg(file))
}

#[test]
fn rfc8460_4_4_p03_p04_p05_p07_p08_every_report_fits_the_schema_and_its_sums_add_up() {
    for written in all() {
        let judged = by_schema(&written.file("report.json"));
        assert!(judged.status.success(), "{}: {}", written.name, both(&judged));
        for section in written.document["policies"].as_array().unwrap() {
            let details = section["failure-details"].as_array().unwrap();
            let sum: u64 = details.iter().map(|one| one["failed-session-count"].as_u64().unwrap()).sum();
            assert_eq!(section["summary"]["total-failure-session-count"], sum, "{}", written.name);
        }
    }
}

#[test]
fn rfc8460_4_4_the_schema_refuses_what_other_reporters_get_wrong() {
    let good = &all()[0];
    for (path, wrong) in [
        ("/policies", json!({})),
        ("/policies/0/policy/policy-type", json!("dane")),
        ("/policies/0/policy/policy-string", json!("3 1 1 00")),
        ("/policies/0/policy/policy-string/0", json!("3 1 1 0f")),
        ("/policies/0/failure-details/0/result-type", json!("certificate-revoked")),
        ("/policies/0/failure-details/0/failed-session-count", json!("1")),
        ("/policies/0/failure-details/0/receiving-ip", json!("mx1.a.example")),
        ("/policies/1/policy/mx-host", json!("*.a.example")),
        ("/policies/1/policy/policy-domain", json!("b\u{fc}cher.example")),
        ("/policies/1/summary", json!({ "total-successful-session-count": 4 })),
        ("/date-range/start-datetime", json!("2026-11-29T00:00:00+01:00")),
        ("/date-range", json!({ "start-datetime": "2026-11-29T00:00:00Z" })),
    ] {
        let mut document = good.document.clone();
        *document.pointer_mut(path).unwrap() = wrong;
        let file = good.file("wrong.json");
        std::fs::write(&file, document.to_string()).unwrap();
        let judged = by_schema(&file);
        assert!(both(&judged).contains("ValidationError"), "{path}: {}", both(&judged));
    }
}

#[test]
fn rfc8460_5_3_p11_p12_p14_pythons_email_finds_the_report_in_the_mail() {
    for written in all() {
        let found = run_ok(Command::new("/usr/bin/python3").args(["-c", BY_EMAIL]).arg(written.file("report.eml")));
        assert_eq!(found, std::fs::read_to_string(written.file("report.json")).unwrap(), "{}", written.name);
    }
}

/// Members of ours beside the name that parsedmarc has for them.
fn as_parsedmarc(ours: &Value, names: &[(&str, &str)]) -> Value {
    names.iter().filter_map(|(our, their)| Some(((*their).to_owned(), ours.get(*our)?.clone()))).collect()
}

#[test]
fn rfc8460_p03_p12_parsedmarc_reads_all_of_a_report_by_mail_and_by_post() {
    for written in all() {
        for form in ["report.eml", "report.json.gz"] {
            let read = run_ok(Command::new(PARSEDMARC).args(["-c", BY_PARSEDMARC]).arg(written.file(form)));
            let read: Value = serde_json::from_str(&read).unwrap();
            let ours = &written.document;
            assert_eq!(
                (&read["organization_name"], &read["report_id"], &read["begin_date"], &read["end_date"]),
                (
                    &ours["organization-name"],
                    &ours["report-id"],
                    &ours["date-range"]["start-datetime"],
                    &ours["date-range"]["end-datetime"]
                )
            );
            let theirs = read["policies"].as_array().unwrap();
            assert_eq!(theirs.len(), ours["policies"].as_array().unwrap().len(), "{}", written.name);
            for (read, ours) in theirs.iter().zip(ours["policies"].as_array().unwrap()) {
                // Not the MX hosts: parsedmarc 11.1.0 looks for `mx-host-pattern`, which is only the name that
                // RFC 8460 §4.4 has for the value of `mx-host`.
                let names = [
                    ("policy-type", "policy_type"),
                    ("policy-domain", "policy_domain"),
                    ("policy-string", "policy_strings"),
                ];
                let mut expected = as_parsedmarc(&ours["policy"], &names);
                let names = [
                    ("total-successful-session-count", "successful_session_count"),
                    ("total-failure-session-count", "failed_session_count"),
                ];
                let details = [
                    ("result-type", "result_type"),
                    ("failed-session-count", "failed_session_count"),
                    ("sending-mta-ip", "sending_mta_ip"),
                    ("receiving-ip", "receiving_ip"),
                    ("receiving-mx-hostname", "receiving_mx_hostname"),
                    ("failure-reason-code", "failure_reason_code"),
                ];
                let expected = expected.as_object_mut().unwrap();
                expected.extend(as_parsedmarc(&ours["summary"], &names).as_object().unwrap().clone());
                let details: Vec<Value> = ours["failure-details"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| as_parsedmarc(one, &details))
                    .collect();
                expected.insert("failure_details".to_owned(), details.into());
                assert_eq!(read.as_object().unwrap(), expected, "{} {form}", written.name);
            }
        }
    }
}

#[test]
fn rfc8460_p03_p12_mail_auth_reads_all_of_a_report_by_mail_and_by_post() {
    for written in all() {
        for form in ["report.eml", "report.json"] {
            let read = run_ok(Command::new(MAIL_AUTH).arg(written.file(form)));
            let mut read: Value = serde_json::from_str(&read).unwrap();
            without_nothing(&mut read);
            let mut ours = written.document.clone();
            without_nothing(&mut ours);
            assert_eq!(read, ours, "{} {form}", written.name);
        }
    }
}

/// What is not there is `null` or an empty list to mail-auth.
fn without_nothing(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, one| !one.is_null() && one.as_array().is_none_or(|list| !list.is_empty()));
            members.values_mut().for_each(without_nothing);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nothing),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
