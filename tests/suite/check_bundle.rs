//! `relay check --bundle` and `--verify`: evidence that holds on another machine without the network, and
//! is refused when one octet is another.

use crate::relay::{config, lab};
use dane_relay::check::bundle::{Bundle, BundleError, Verified, verify};
use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::Config;
use dane_relay::lab::dns::server::PathFault;
use dane_relay::lab::dns::world::AnchorForm;
use dane_relay::lab::{AnswerFault, Lab, LabBuilder, SignatureFault};
use dane_relay::resolve::dnssec::Anchors;
use data_encoding::BASE64;
use hickory_proto::rr::RecordType;
use std::path::Path;

struct Made {
    lab: Lab,
    bundle: Bundle,
    anchors: Anchors,
}

impl Made {
    async fn of(builder: LabBuilder, domain: &str) -> Self {
        let lab = builder.start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let checker = Checker::new(config(&lab, folder.path()), Clock::system()).unwrap();
        let report = checker.check(&domain.parse().unwrap()).await;
        let bundle = checker.bundle(&report).await;
        let anchors = Anchors::parse(&lab.world().trust_anchor(AnchorForm::Ds).unwrap()).unwrap();
        Self { lab, bundle, anchors }
    }

    /// What another machine says about it.
    fn elsewhere(&self, bundle: &Bundle) -> Result<Verified, BundleError> {
        verify(bundle.to_file().unwrap().as_bytes(), &self.anchors, Clock::system().now())
    }

    /// Somebody changes it and makes a new hash.
    fn forged(&self, change: impl FnOnce(&mut Bundle)) -> String {
        let mut bundle = self.bundle.clone();
        change(&mut bundle);
        match self.elsewhere(&bundle) {
            Ok(verified) => panic!("{}", verified.text()),
            Err(error) => error.to_string(),
        }
    }
}

fn partner() -> LabBuilder {
    lab().domain("partner.test", |d| d.host(|h| h.and_misfits(2)))
}

fn changed(message: &mut String, at: usize) {
    let mut octets = BASE64.decode(message.as_bytes()).unwrap();
    let place = octets.len() - 1 - at;
    octets[place] ^= 1;
    *message = BASE64.encode(&octets);
}

#[tokio::test]
async fn what_a_check_saw_is_proven_elsewhere_without_the_network() {
    let Made { lab, bundle, anchors } = Made::of(partner(), "partner.test").await;
    let file = bundle.to_file().unwrap();
    drop(lab);
    let verified = verify(file.as_bytes(), &anchors, Clock::system().now()).unwrap();
    let text = verified.text();
    for proven in ["partner.test. MX", "_tcp.mx.partner.test. TLSA", "mx.partner.test. A"] {
        assert!(verified.proven.iter().any(|line| line.contains(proven) && line.contains(": secure")), "{text}");
    }
    assert!(verified.proven.iter().any(|line| line.contains("fits the certificate at depth 0")), "{text}");
    assert!(verified.stated.iter().any(|line| line.contains("said at") && line.contains("220 ")), "{text}");
    // What was agreed inside TLS is the word of whoever made it, as what was said in clear is.
    let inside = verified.stated.iter().find(|line| line.contains("negotiated TLSv1.3 with ")).expect(&text);
    assert!(inside.contains("offers behind it: ") && inside.contains("8BITMIME"), "{text}");
    assert_eq!(bundle.unproven, Vec::<String>::new());
    assert_eq!(Bundle::from_file(file.as_bytes()).unwrap(), bundle);
}

#[tokio::test]
async fn one_flipped_octet_anywhere_is_refused() {
    let made = Made::of(partner(), "partner.test").await;
    let file = made.bundle.to_file().unwrap().into_bytes();
    let now = Clock::system().now();
    verify(&file, &made.anchors, now).unwrap();
    // Every octet of the beginning and the end, and one of each short piece between.
    let places = (0..400).chain((400..file.len()).step_by(61)).chain(file.len() - 400..file.len());
    for place in places {
        for bit in [0x01, 0x20, 0x80] {
            let mut other = file.clone();
            other[place] ^= bit;
            assert!(verify(&other, &made.anchors, now).is_err(), "octet {place}, bit {bit}");
        }
    }
    for cut in [0, 1, file.len() / 2, file.len() - 1] {
        assert!(verify(&file[..cut], &made.anchors, now).is_err(), "cut at {cut}");
    }
    assert!(verify(&[file.as_slice(), b"\n"].concat(), &made.anchors, now).is_err());
}

#[tokio::test]
async fn a_new_hash_over_forged_evidence_does_not_make_it_true() {
    let made = Made::of(partner(), "partner.test").await;
    let tlsa = |bundle: &mut Bundle| bundle.dns.iter().position(|answer| answer.record_type == "TLSA").unwrap();
    let said = made.forged(|bundle| {
        let nth = tlsa(bundle);
        changed(&mut bundle.dns[nth].messages[0].message, 40);
    });
    assert!(said.contains("does not prove") && said.contains("TLSA"), "a signature: {said}");
    let said = made.forged(|bundle| {
        let nth = tlsa(bundle);
        bundle.dns[nth].records.pop();
    });
    assert!(said.contains("records are others"), "{said}");
    let said = made.forged(|bundle| {
        let nth = tlsa(bundle);
        bundle.dns[nth].messages.pop();
    });
    assert!(said.contains("which is not there"), "{said}");
    let said = made.forged(|bundle| {
        let (nth, more) = (tlsa(bundle), bundle.dns[0].messages[0].clone());
        bundle.dns[nth].messages.push(more);
    });
    assert!(said.contains("belongs to no chain of trust"), "{said}");
    let said = made.forged(|bundle| changed(&mut bundle.servers[0].certificates[0], 3));
    assert!(said.contains("certificate"), "{said}");
    let said = made.forged(|bundle| {
        let other = "no TLSA record fits: nothing";
        bundle.servers[0].dane = Some(other.to_owned());
    });
    assert!(said.contains("fits the certificate"), "{said}");
    let said = made.forged(|bundle| bundle.dns[0].at = Timestamp(bundle.dns[0].at.0 - 365 * 86_400_000));
    assert!(said.contains("is not of the check"), "{said}");
    let said = made.forged(|bundle| bundle.at = Timestamp(bundle.at.0 + 365 * 86_400_000));
    assert!(said.contains("still to come"), "{said}");
}

#[tokio::test]
async fn rfc4035_5_another_trust_anchor_proves_nothing() {
    let made = Made::of(partner(), "partner.test").await;
    let file = made.bundle.to_file().unwrap();
    let refused = verify(file.as_bytes(), &Anchors::builtin(), Clock::system().now());
    assert!(matches!(refused, Err(BundleError::False(_))), "{refused:?}");
}

#[tokio::test]
async fn what_is_bogus_is_shown_to_be_bogus() {
    let fault = AnswerFault::Signature(SignatureFault::Bogus);
    let builder = lab().domain("forged.test", |d| d.fault("mx.forged.test", RecordType::TLSA, fault));
    let made = Made::of(builder, "forged.test").await;
    let verified = made.elsewhere(&made.bundle).unwrap();
    let bogus = verified.proven.iter().find(|line| line.contains("TLSA")).unwrap();
    assert!(bogus.contains(": bogus"), "{}", verified.text());
    let said = made.forged(|bundle| {
        let answer = bundle.dns.iter_mut().find(|answer| answer.record_type == "TLSA").unwrap();
        "secure".clone_into(&mut answer.security);
    });
    assert!(said.contains("bogus and not secure"), "{said}");
}

#[tokio::test]
async fn the_probes_of_a_fault_are_in_it_with_times_and_ports_and_no_message() {
    let lab = lab().domain("partner.test", |d| d.host(|h| h.and_misfits(5))).start().await.unwrap();
    lab.dns().set_path([PathFault::DropTlsaOver(4)]);
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&lab, folder.path());
    config.dns.timeout = std::time::Duration::from_millis(700);
    let checker = Checker::new(config, Clock::system()).unwrap();
    let report = checker.check(&"partner.test".parse().unwrap()).await;
    let bundle = checker.bundle(&report).await;
    let probes = &bundle.evidence.dns;
    assert!(probes.len() > 5 && probes.iter().any(|probe| probe.seen.source.is_some()), "{probes:#?}");
    let anchors = Anchors::parse(&lab.world().trust_anchor(AnchorForm::Ds).unwrap()).unwrap();
    let verified = verify(bundle.to_file().unwrap().as_bytes(), &anchors, Clock::system().now()).unwrap();
    assert!(verified.stated.iter().any(|line| line.contains(report.verdict.word())), "{}", verified.text());
}

#[tokio::test]
async fn rfc7646_what_is_in_a_private_zone_is_said_not_to_be_validated() {
    let lab = lab().domain("corp.test", |d| d).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&lab, folder.path());
    let zones = format!("[dns]\nprivate_zones = [{{ zone = \"corp.test\", servers = [\"{}\"] }}]", lab.dns().address());
    config.dns.private_zones = Config::parse(&zones, Path::new("suite.toml")).unwrap().dns.private_zones;
    let checker = Checker::new(config, Clock::system()).unwrap();
    let report = checker.check(&"corp.test".parse().unwrap()).await;
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    let bundle = checker.bundle(&report).await;
    assert_eq!(bundle.dns, [], "nothing is claimed of it");
    let anchors = Anchors::parse(&lab.world().trust_anchor(AnchorForm::Ds).unwrap()).unwrap();
    let verified = verify(bundle.to_file().unwrap().as_bytes(), &anchors, Clock::system().now()).unwrap();
    for question in ["corp.test. MX", "mx.corp.test. A", "mx.corp.test. TLSA"] {
        let line = verified.stated.iter().find(|line| line.starts_with("not validated: ") && line.contains(question));
        assert!(line.is_some_and(|line| line.contains("in a private zone")), "{question}: {}", verified.text());
    }
    assert!(verified.proven.is_empty(), "{}", verified.text());
}
