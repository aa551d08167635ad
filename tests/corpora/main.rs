//! Replays the seeds of the fuzz targets in `fuzz/`, and knows what must come out of each.
//!
//! A target's rule is one function in `tests/corpora/`, which the fuzzer calls as well. Whatever
//! the fuzzer finds becomes a file in `testdata/fuzz/<target>/` and a line here.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a test is the test's result")]
#![expect(clippy::indexing_slicing, reason = "what fails in a test is the test's result")]
#![expect(clippy::disallowed_methods, reason = "the seeds are files")]

mod command;
mod content;
mod dane;
mod data;
mod dnssec;
mod reply;
mod report;
mod segment;
mod sts_policy;
mod sts_record;
mod tlsrpt_record;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

/// Holds what comes out of every seed of a target against what must; a seed without a line here,
/// or a line without its seed, is a fault too.
fn replay<T: Debug + PartialEq>(target: &str, check: impl Fn(&[u8]) -> T, expected: &[(&str, T)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz").join(target);
    let mut came = BTreeMap::new();
    for seed in std::fs::read_dir(folder).unwrap() {
        let path = seed.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        came.insert(name, check(&std::fs::read(path).unwrap()));
    }
    let came: Vec<(&str, &T)> = came.iter().map(|(name, came)| (name.as_str(), came)).collect();
    let mut expected: Vec<(&str, &T)> = expected.iter().map(|(name, expected)| (*name, expected)).collect();
    expected.sort_unstable_by_key(|(name, _)| *name);
    assert_eq!(came, expected);
}

#[test]
fn rfc5321_4_1_command_seeds() {
    let good_commands = [
        ("addresses", 5),
        ("bare-line-ends", 1),
        ("chunks", 2),
        ("control-characters", 1),
        ("extensions", 6),
        ("limits", 4),
        ("no-end", 0),
        ("parameters", 3),
        ("session", 7),
    ];
    replay("command", command::check, &good_commands);
}

#[test]
fn rfc5321_4_2_reply_seeds() {
    let good_replies = [
        ("bare-forms", 3),
        ("codes-that-differ", 2),
        ("control-characters", 2),
        ("cut-at-the-text-limit", 2),
        ("long-lines", 3),
        ("refusals", 3),
        ("session", 7),
        ("similar-enhanced-codes", 1),
        ("too-many-lines", 2),
    ];
    replay("reply", reply::check, &good_replies);
}

#[test]
fn rfc3464_2_report_seeds() {
    let reports_and_recipients = [
        ("control-characters", (1, 1)),
        ("header-alone", (1, 1)),
        ("long-lines", (1, 1)),
        ("null-reverse-path", (0, 0)),
        ("redacted", (1, 1)),
        ("two-recipients", (1, 2)),
        ("utf8", (1, 1)),
    ];
    replay("report", report::check, &reports_and_recipients);
}

#[test]
fn rfc8689_3_content_seeds() {
    use dane_relay::accept::intake::ContentFault;
    use dane_relay::envelope::TlsRequest::{ByPolicy, Optional};
    let requests_and_faults = [
        ("asks", Ok(Optional)),
        ("bare-line-end", Err(ContentFault::BareLineEnd)),
        ("behind-no-field", Ok(ByPolicy)),
        ("comments-and-folds", Ok(Optional)),
        ("continued-first-line", Ok(ByPolicy)),
        ("loop", Err(ContentFault::Loop)),
        ("programs-disagree", Ok(ByPolicy)),
        ("twice", Ok(ByPolicy)),
    ];
    replay("content", content::check, &requests_and_faults);
}

#[test]
fn rfc5321_4_5_2_data_seeds() {
    let octets_of_content = [
        ("clean-without-last-line-end", Some(7)),
        ("eight-bit-and-nul", Some(149)),
        ("empty", Some(0)),
        ("no-end", None),
        ("smuggling-bare-cr", None),
        ("smuggling-bare-lf", None),
        ("smuggling-cr-cr-lf", None),
        ("smuggling-lf-dot-crlf", None),
        ("stuffed", Some(28)),
    ];
    replay("data", data::check, &octets_of_content);
}

#[test]
fn rfc7672_3_dane_seeds() {
    let no_match = "no TLSA record matches the server's certificate chain";
    let verdicts = [
        ("ee-certificate-full", "3 0 0 at 0"),
        ("ee-key-sha256", "3 1 1 at 0"),
        ("ee-misfits-and-a-fit", "3 1 1 at 0"),
        ("ee-rsa-1024", "3 1 0 at 0"),
        ("ee-stronger-digest-misfits", no_match),
        ("ee-the-hundredth-record", "3 1 1 at 0"),
        ("ee-version-1", "3 0 1 at 0"),
        ("ta-bare-key", "2 1 0 at 1"),
        ("ta-before-its-time", "the certificate below the trust anchor in the TLSA record is not valid yet"),
        ("ta-expired", "the certificate below the trust anchor in the TLSA record has expired"),
        (
            "ta-name-constraints-with-maximum",
            "the chain to the trust anchor is not valid: a name constraint has a minimum or maximum",
        ),
        ("ta-no-readable-reference", "the certificate is not for this host; its names are: mx.example.org"),
        ("ta-other-name", "the certificate is not for this host; its names are: other.example.test"),
        (
            "ta-outside-name-constraints",
            "the chain to the trust anchor is not valid: a name lies outside the name constraints of its issuer",
        ),
        ("ta-partial-wildcard", "the certificate is not for this host; its names are: m*.example.test"),
        ("ta-ring-of-issuers", no_match),
        ("ta-root-only-in-dns", "2 0 0 at 2"),
        ("ta-root-presented", "2 0 1 at 2"),
        ("ta-second-reference", "2 0 1 at 1"),
        ("ta-self-signed-leaf", "2 1 2 at 0"),
        ("ta-shuffled-and-twice", "2 0 1 at 1"),
        ("ta-wildcard", "2 0 1 at 1"),
        ("torn-certificate", "the server's certificate cannot be read: Parsing Error: NomError(Eof)"),
        ("unusable", no_match),
        ("wrong-ee-right-ta", "2 0 1 at 1"),
    ]
    .map(|(name, verdict)| (name, verdict.to_owned()));
    let check = |input: &[u8]| match dane::check(input) {
        Ok(matched) => format!("{} at {}", &matched.record.to_string()[..5], matched.depth),
        Err(failure) => failure.to_string(),
    };
    replay("dane", check, &verdicts);
}

/// What the rule of the target asserts must hold for damaged seeds as well.
#[test]
fn rfc7672_3_damaged_dane_seeds_keep_the_rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz/dane");
    let seeds: Vec<Vec<u8>> =
        std::fs::read_dir(folder).unwrap().map(|seed| std::fs::read(seed.unwrap().path()).unwrap()).collect();
    for seed in &seeds {
        for part in 0..16 {
            let place = seed.len() * part / 16;
            let mut damaged = seed.clone();
            damaged[place] ^= 0x55;
            let _any = dane::check(&damaged);
            let _any = dane::check(&seed[..place]);
        }
    }
}

#[test]
fn rfc5321_6_1_segment_seeds() {
    let whole_and_damaged = [
        ("a-record-inside-content", (2, 0)),
        ("a-report-in-a-rebuild", (3, 0)),
        ("an-envelope-that-is-none", (2, 1)),
        ("content-file-is-gone", (2, 0)),
        ("damage-in-the-middle", (2, 1)),
        ("damaged-size-in-a-header", (2, 1)),
        ("octets-between-records", (2, 3)),
        ("the-same-message-twice", (2, 0)),
        ("three-messages", (3, 0)),
        ("torn-tail", (1, 0)),
    ];
    replay("segment", segment::check, &whole_and_damaged);
}

#[test]
fn rfc8461_3_1_sts_record_seeds() {
    use dane_relay::policy::sts::record::RecordError::{BadId, NoId, None, Several, Syntax, TooLong};
    let ids = [
        ("beside-others", Ok("1")),
        ("eight-bit", Err(Syntax)),
        ("empty-field", Err(Syntax)),
        ("extensions", Ok("7")),
        ("id-empty", Err(BadId)),
        ("id-too-long", Err(BadId)),
        ("no-id", Err(NoId)),
        ("nothing", Err(None)),
        ("ordinary", Ok("20160831085700Z")),
        ("too-long", Err(TooLong)),
        ("twice-the-field", Ok("first")),
        ("two-records", Err(Several)),
    ]
    .map(|(name, id)| (name, id.map(str::to_owned)));
    replay("sts_record", sts_record::check, &ids);
}

#[test]
fn rfc8460_3_tlsrpt_record_seeds() {
    let eight = (0..8).map(|n| format!("mailto:{n}@a.example")).collect::<Vec<_>>().join(",");
    let places = [
        ("beside-others", Ok("mailto:tls@a.example")),
        ("both-schemes", Ok("mailto:tls@a.example,https://a.example:8443/x?y=z")),
        ("eight-bit", Err("no-usable-uri")),
        ("encoded", Ok("mailto:%22a%21b%2Cc%3Bd%22@a.example")),
        ("extensions", Ok("https://a.example/")),
        ("no-rua", Err("no-rua")),
        ("nothing", Err("none")),
        ("other-schemes", Err("no-usable-uri")),
        ("size-limit", Err("no-usable-uri")),
        ("to-an-address", Err("no-usable-uri")),
        ("too-long", Err("too-long")),
        ("too-many", Ok(eight.as_str())),
        ("two-records", Err("several")),
    ]
    .map(|(name, places)| (name, places.map(str::to_owned).map_err(str::to_owned)));
    let word = |error| {
        let value = serde_json::to_value(error).unwrap();
        value.as_str().or_else(|| value.as_object()?.keys().next().map(String::as_str)).unwrap().to_owned()
    };
    replay("tlsrpt_record", |input| tlsrpt_record::check(input).map_err(word), &places);
}

#[test]
fn rfc8461_3_2_sts_policy_seeds() {
    use dane_relay::policy::sts::policy::PolicyError::{Line, MaxAge, Mode, Mx, NoMx, NotUtf8, TooLong, Version};
    let policies = [
        ("a-page", Err(Line(1))),
        ("age-too-high", Err(MaxAge)),
        ("bad-pattern", Err(Mx(3))),
        ("bare-cr", Err(Line(1))),
        ("extensions", Ok("enforce *.a 1")),
        ("line-feeds-and-spaces", Ok("testing mx.example.com 0")),
        ("mode-in-capitals", Err(Mode)),
        ("no-mx", Err(NoMx)),
        ("none", Ok("none  31557600")),
        ("not-utf-8", Err(NotUtf8)),
        ("ordinary", Ok("enforce mail.example.com *.example.net backupmx.example.com 604800")),
        ("too-long", Err(TooLong)),
        ("version-2", Err(Version)),
    ]
    .map(|(name, policy)| (name, policy.map(str::to_owned)));
    replay("sts_policy", sts_policy::check, &policies);
}

#[test]
fn rfc4035_5_dnssec_seeds() {
    // The zones of the seeds hang below a root that is not the true one.
    let no_keys = Some("bogus: .: the answer holds no keys of the root (RFC 4035 §5)");
    let not_its_keys = Some("bogus: .: no key of the root fits the trust anchors (RFC 4035 §5.2)");
    let silence = "indeterminate: .: its DNSKEY records, which prove the chain of trust, could not be fetched: \
                   nothing came (RFC 4035 §4.3)";
    let verdicts = [
        ("alias-ring", no_keys),
        ("cname-chain", no_keys),
        ("dname", no_keys),
        ("empty", None),
        ("flood-of-signatures", no_keys),
        ("no-ds", no_keys),
        ("no-question", no_keys),
        ("nsec-no-data", no_keys),
        ("nsec3-name-error", no_keys),
        ("nsec3-wildcard", no_keys),
        ("root-keys-of-a-stranger", not_its_keys),
        ("tlsa-signed", no_keys),
        ("tlsa-signed-and-nothing-more-comes", Some(silence)),
        ("torn", None),
    ]
    .map(|(name, verdict)| (name, verdict.map(str::to_owned)));
    replay("dnssec", dnssec::check, &verdicts);
}
