//! `relay check --self`: each of its checks fails by a real fault, and no other with it but those
//! that must (RFC 4034 §3.1.5, RFC 5011 §2, RFC 1034).

use crate::relay::{config, lab, says};
use dane_relay::check::selfcheck::{self, SelfCheck};
use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::{Config, Destination, TrustAnchorSource, Upstream};
use dane_relay::lab::dns::plan::{KeySpec, Role};
use dane_relay::lab::dns::server::PathFault;
use dane_relay::lab::{
    AnswerFault, Block, HostSpec, KeyAlgorithm, Lab, LabBuilder, SignatureFault, SigningPlan, StartTls, TroubleAt,
};
use dane_relay::pipeline::outbound::Outbound;
use dane_relay::policy::sts::StsState;
use hickory_proto::rr::rdata::{A, AAAA, PTR, TXT};
use hickory_proto::rr::{Name, RData};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// The end of the lab's certificates: 2099-01-01.
const CERTIFICATES_END: Timestamp = Timestamp(4_070_908_800_000);

/// A host to look at.
struct Host {
    lab: Lab,
    config: Config,
    clock: Clock,
    _folder: TempDir,
}

impl Host {
    /// In good order; port 25 is tried at a control.
    async fn new() -> Self {
        Self::of(lab().domain("control.test", |d| d)).await
    }

    async fn of(lab: LabBuilder) -> Self {
        let lab = lab.start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&lab, folder.path());
        config.dns.timeout = Duration::from_secs(1);
        config.check.controls = vec!["mx.control.test".parse().unwrap()];
        std::fs::create_dir(&config.spool.path).unwrap();
        Self { lab, config, clock: Clock::system(), _folder: folder }
    }

    async fn look(&self) -> Vec<SelfCheck> {
        let out = Outbound::for_command(self.config.clone(), self.clock.clone()).unwrap();
        selfcheck::look(&out).await
    }

    /// Whatever is not well: its check, how it stands, and that its words contain these.
    async fn finds(&self, faults: &[(&str, Verdict, &str)]) {
        let seen = self.look().await;
        let bad: Vec<&SelfCheck> = seen.iter().filter(|one| one.status != Verdict::Ok).collect();
        let found: Vec<_> = bad.iter().map(|one| (one.check, one.status)).collect();
        let expected: Vec<_> = faults.iter().map(|(check, status, _)| (*check, *status)).collect();
        assert_eq!(found, expected, "{seen:#?}");
        for (one, (_, _, words)) in bad.iter().zip(faults) {
            assert!(one.detail.contains(words), "{words:?} is not in {one:?}");
        }
    }

    /// How one check stands and what it says, whatever the others do.
    async fn says(&self, check: &str) -> (Verdict, String) {
        let seen = self.look().await;
        let one = seen.iter().find(|one| one.check == check).unwrap_or_else(|| panic!("no {check} in {seen:#?}"));
        (one.status, one.detail.clone())
    }
}

#[tokio::test]
async fn a_host_in_good_order_has_nothing_to_say() {
    Host::new().await.finds(&[]).await;
}

#[tokio::test]
async fn a_resolver_that_fails_is_named_while_another_one_answers() {
    let mut host = Host::new().await;
    let second = host.lab.another_dns().await.unwrap();
    host.config.dns.upstreams.push(second.upstream().parse::<Upstream>().unwrap());
    host.lab.dns().set_path([PathFault::ServFail]);
    let first = host.lab.dns().upstream();
    let (resolver, validation) =
        (format!("failed lately: {first}"), format!("by {}; not by {first}", second.upstream()));
    host.finds(&[
        ("resolver", Verdict::Warning, &resolver),
        ("validation", Verdict::Warning, &validation),
        ("clock", Verdict::Warning, "shows no signature"),
    ])
    .await;
}

#[tokio::test]
async fn rfc4035_5_3_3_keys_of_the_root_that_do_not_validate_are_a_fault() {
    let host = Host::new().await;
    host.lab.world().zone_fault(".", AnswerFault::Signature(SignatureFault::Bogus)).unwrap();
    let (status, words) = host.says("validation").await;
    assert!(status == Verdict::Fault && words.contains("do not validate"), "{words}");
}

#[tokio::test]
async fn no_answer_for_the_keys_of_the_root_is_a_fault() {
    let host = Host::new().await;
    host.lab.dns().set_path([PathFault::ServFail]);
    let (status, words) = host.says("validation").await;
    assert!(status == Verdict::Fault && words.contains("no answer") && words.contains("SERVFAIL"), "{words}");
}

#[tokio::test]
async fn rfc5011_2_a_key_of_the_root_that_we_do_not_know_is_a_warning() {
    // The root is about to change its key: both sign, and our anchors have the old one alone.
    let next = KeySpec::new(KeyAlgorithm::EcdsaP256, Role::KeySigning);
    let root = SigningPlan::split(KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP256).key(next);
    let host = Host::of(lab().domain("control.test", |d| d).root(root)).await;
    let TrustAnchorSource::File(path) = &host.config.dns.trust_anchors else { panic!("the lab writes a file") };
    let both = std::fs::read_to_string(path).unwrap();
    host.finds(&[]).await;
    std::fs::write(path, both.lines().next().unwrap()).unwrap();
    host.finds(&[("trust-anchor", Verdict::Warning, "renew [dns] trust_anchors")]).await;
}

#[tokio::test]
async fn a_file_of_trust_anchors_that_is_gone_is_a_fault_before_the_next_start() {
    let host = Host::new().await;
    let out = Outbound::for_command(host.config.clone(), host.clock.clone()).unwrap();
    let TrustAnchorSource::File(path) = &host.config.dns.trust_anchors else { panic!("the lab writes a file") };
    std::fs::remove_file(path).unwrap();
    let seen = selfcheck::look(&out).await;
    let anchor = seen.iter().find(|one| one.check == "trust-anchor").unwrap();
    assert_eq!(anchor.status, Verdict::Fault, "{seen:#?}");
}

#[tokio::test]
async fn rfc4034_3_1_5_a_clock_outside_the_signatures_of_the_root_is_wrong() {
    let mut host = Host::new().await;
    let now = Clock::system().now();
    for away in [Duration::from_secs(60 * 86_400), Duration::ZERO] {
        // Signatures last some weeks; before the lab there was none.
        let then = if away.is_zero() { Timestamp(now.0 - 60 * 86_400_000) } else { now.plus(away) };
        host.clock = Clock::manual(then);
        let (status, words) = host.says("clock").await;
        assert!(status == Verdict::Fault && words.starts_with("wrong: "), "{words}");
    }
}

#[tokio::test]
async fn a_clock_that_nothing_can_be_held_against_is_a_warning() {
    let host = Host::new().await;
    host.lab.dns().set_path([PathFault::StripDnssec]);
    let (status, words) = host.says("clock").await;
    assert!(status == Verdict::Warning && words.contains("shows no signature"), "{words}");
}

#[tokio::test]
async fn without_a_way_to_the_internet_that_is_said() {
    let mut host = Host::new().await;
    // Nothing routes a datagram there without being told that it is a broadcast.
    host.config.dns.root_hints = vec!["255.255.255.255:53".parse().unwrap()];
    host.finds(&[("reverse-dns", Verdict::Warning, "no route to the internet")]).await;
}

#[tokio::test]
async fn a_blocked_port_25_is_a_fault() {
    let host = Host::new().await;
    host.lab.mx("mx.control.test").unwrap().block(Block::Refused).await.unwrap();
    host.finds(&[("port-25", Verdict::Fault, "no control can be reached")]).await;
}

#[tokio::test]
async fn a_control_without_an_address_shows_nothing_and_is_a_warning() {
    let mut host = Host::new().await;
    host.config.check.controls = vec!["gone.control.test".parse().unwrap()];
    host.finds(&[("port-25", Verdict::Warning, "no control has an address")]).await;
}

#[tokio::test]
async fn a_spool_with_less_room_than_it_keeps_free_is_a_fault() {
    let mut host = Host::new().await;
    host.config.spool.min_free_bytes = u64::MAX;
    host.finds(&[("spool", Verdict::Fault, "MiB free")]).await;
}

#[tokio::test]
async fn a_listener_certificate_warns_before_its_end_and_is_a_fault_after_it() {
    let mut host = Host::new().await;
    let path = host.config.spool.path.join("listener.pem");
    host.config.listen.certificate = Some(path.clone());
    std::fs::write(&path, "no certificate\n").unwrap();
    host.finds(&[("certificate", Verdict::Fault, "holds no certificate")]).await;
    std::fs::write(&path, host.lab.roots_pem()).unwrap();
    host.finds(&[]).await;
    let day = Duration::from_secs(86_400);
    let before = |days: i64| Timestamp(CERTIFICATES_END.0 - days * 86_400_000);
    let ends =
        [(before(15), Verdict::Ok), (before(13), Verdict::Warning), (CERTIFICATES_END.plus(day), Verdict::Fault)];
    for (now, expected) in ends {
        host.clock = Clock::manual(now);
        let (status, words) = host.says("certificate").await;
        assert_eq!(status, expected, "{now}: {words}");
    }
}

fn pointer(name: &str) -> RData {
    RData::PTR(PTR(Name::from_ascii(name).unwrap()))
}

/// A world in which 192.0.2.25 is well named, 192.0.2.26 has a name that leads elsewhere, and
/// of IPv6 only 2001:db8::25 has a name.
async fn named_world() -> Lab {
    let (v4, v6) = ("192.0.2.25".parse().unwrap(), "2001:db8::25".parse().unwrap());
    let v6_owner = Name::from(IpAddr::V6(v6)).to_ascii();
    Lab::builder()
        .domain("office.test", |d| {
            d.null_mx().record("mail.office.test", RData::A(A(v4))).record("mail.office.test", RData::AAAA(AAAA(v6)))
        })
        .domain("2.0.192.in-addr.arpa", |d| {
            d.null_mx()
                .record("25.2.0.192.in-addr.arpa", pointer("mail.office.test."))
                .record("26.2.0.192.in-addr.arpa", pointer("mail.office.test."))
        })
        .domain("8.b.d.0.1.0.0.2.ip6.arpa", |d| d.null_mx().record(&v6_owner, pointer("mail.office.test.")))
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn rfc1034_every_address_that_mail_leaves_from_is_to_have_a_name_that_leads_back() {
    let (lab, folder) = (named_world().await, tempfile::tempdir().unwrap());
    let out = Outbound::for_command(config(&lab, folder.path()), Clock::system()).unwrap();
    for (egress, status, words) in [
        (&["192.0.2.25"][..], Verdict::Ok, "192.0.2.25 is mail.office.test., and back"),
        (&["192.0.2.26"], Verdict::Warning, "192.0.2.26 is mail.office.test., but not back"),
        (&["192.0.2.27"], Verdict::Warning, "192.0.2.27 has no name (PTR)"),
        (&["192.0.2.25", "2001:db8::25"], Verdict::Ok, "2001:db8::25 is mail.office.test., and back"),
        (&["192.0.2.25", "2001:db8::26"], Verdict::Warning, "and back; 2001:db8::26 has no name"),
        (&["10.0.0.1", "2001:db8::26"], Verdict::Warning, "2001:db8::26 has no name"),
        (&["10.0.0.1", "fe80::1"], Verdict::Ok, "mail leaves from 10.0.0.1, which others see as another"),
        (&[], Verdict::Warning, "no route to the internet"),
    ] {
        let addresses: Vec<IpAddr> = egress.iter().map(|address| address.parse().unwrap()).collect();
        let seen = selfcheck::reverse_dns(&out, &addresses).await;
        assert_eq!(seen.status, status, "{seen:?}");
        assert!(seen.detail.contains(words), "{seen:?}");
    }
}

/// A destination whose mail goes to the host of another domain of the lab.
fn to(host: &Host, domain: &str, more: &str) -> Vec<Destination> {
    let port = host.lab.port();
    let text = format!("[[destination]]\ndomains = [\"far.example\"]\nnext_hop = \"mx.{domain}:{port}\"\n{more}\n");
    Config::parse(&text, Path::new("suite.toml")).unwrap().destination
}

#[tokio::test]
async fn a_next_hop_that_refuses_or_lacks_the_tls_it_needs_is_a_fault() {
    let without_tls = |h: HostSpec| h.starttls(StartTls::NotOffered);
    let lab = lab()
        .domain("control.test", |d| d)
        .domain("hop.test", |d| d)
        .domain("clear.test", |d| d.host(without_tls))
        .domain("closed.test", |d| d.host(|h| h.trouble(TroubleAt::Connect, says("554 5.7.1 not from you"))))
        .domain("down.test", |d| d.host(|h| h.down()));
    let mut host = Host::of(lab).await;
    for (domain, more, status, words) in [
        ("hop.test", "tls = \"encrypt\"", Verdict::Ok, "answers with TLSv1.3 and offers "),
        ("clear.test", "", Verdict::Ok, "answers without TLS and offers "),
        ("clear.test", "tls = \"encrypt\"", Verdict::Fault, "sends nothing there in clear text"),
        ("closed.test", "", Verdict::Fault, "554 5.7.1 not from you"),
        ("down.test", "", Verdict::Fault, "mx.down.test"),
        ("nowhere.test", "", Verdict::Fault, "mx.nowhere.test"),
    ] {
        host.config.destination = to(&host, domain, more);
        let (found, said) = host.says("next-hops").await;
        assert!(found == status && said.contains(words), "{domain} {more}: {found:?} {said}");
    }
}

#[tokio::test]
async fn rfc8461_3_3_a_policy_host_whose_port_is_closed_from_here_is_a_warning() {
    let lab = lab().domain("control.test", |d| d).domain("kept.test", |d| d.plain().mta_sts(|p| p));
    let host = Host::of(lab).await;
    let out = Outbound::for_command(host.config.clone(), host.clock.clone()).unwrap();
    let kept = out.sts.policy_for(&"kept.test".parse().unwrap()).await;
    assert!(matches!(kept, StsState::Policy(_)), "{kept:?}");
    let (status, said) = host.says("policy-host").await;
    assert!(status == Verdict::Ok && said.contains("mta-sts.kept.test"), "{said}");
    host.lab.policy_host("kept.test").unwrap().switch_off().await;
    let (status, said) = host.says("policy-host").await;
    assert!(status == Verdict::Warning && said.contains("mta-sts.kept.test"), "{said}");
}

#[tokio::test]
async fn rfc7208_the_relays_own_name_and_the_spf_of_its_domains_are_held_against_where_mail_leaves() {
    let text = |text: &str| RData::TXT(TXT::new(vec![text.to_owned()]));
    let lab = Lab::builder()
        .domain("office.test", |d| {
            d.null_mx()
                .record("mail.office.test", RData::A(A("192.0.2.25".parse().unwrap())))
                .record("office.test", text("v=spf1 ip4:192.0.2.25 -all"))
        })
        .domain("silent.test", |d| d.null_mx())
        .start()
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&lab, folder.path());
    config.hostname = "mail.office.test".parse().unwrap();
    for (domain, egress, name, spf, words) in [
        ("office.test", "192.0.2.25", Verdict::Ok, Verdict::Ok, "lets mail leave from 192.0.2.25"),
        ("office.test", "192.0.2.26", Verdict::Warning, Verdict::Fault, "forbids mail from 192.0.2.26 (-all)"),
        ("silent.test", "192.0.2.25", Verdict::Ok, Verdict::Warning, "has no SPF record"),
    ] {
        config.listen.sender_domains = vec![domain.parse().unwrap()];
        let checker = Checker::new(config.clone(), Clock::system()).unwrap();
        let looked = checker.look_before_first_start(&[egress.parse().unwrap()]).await;
        let of = |check: &str| looked.checks.iter().find(|one| one.check == check).unwrap().clone();
        assert_eq!((of("forward-name").status, of("spf").status), (name, spf), "{:#?}", looked.checks);
        assert!(of("spf").detail.contains(words), "{:?}", of("spf"));
    }
}

#[tokio::test]
async fn an_exception_that_ends_soon_is_a_warning() {
    let mut host = Host::new().await;
    host.config.destination = to(&host, "control.test", "tls = \"off\"\nreason = \"old\"\nuntil = 2099-06-30");
    let end = host.config.destination[0].until.unwrap().end();
    for (days, status, words) in [
        (30, Verdict::Ok, "1 in force, none ends within 14 days"),
        (10, Verdict::Warning, "that of far.example ends in 10 days"),
    ] {
        host.clock = Clock::manual(Timestamp(end.0 - days * 86_400_000));
        let (found, said) = host.says("exceptions").await;
        assert!(found == status && said.contains(words), "{days}: {said}");
    }
}
