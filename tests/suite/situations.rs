//! The faults that must be told apart, each through real sockets with a box on the path: what
//! becomes of mail in every [`Situation`] of the lab, and that a check foretells it.

use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::Clock;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::story::ips;
use dane_relay::lab::story::situation::MessageFate;
use dane_relay::lab::story::stage::{DOMAIN, HOST};
use dane_relay::lab::{RunningMxHost, Situation, Stage};
use dane_relay::outcome::DeliveryOutcome;
use dane_relay::service::start;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Hands a message in before the trouble has anything to do with it; gives what its first attempt
/// came to.
async fn first_attempt(stage: &Stage) -> DeliveryOutcome {
    let folder = tempfile::tempdir().unwrap();
    let config = stage.config(folder.path()).await.unwrap();
    let relay = start::start(config, Clock::system()).await.unwrap();
    stage.strike().await.unwrap();
    let mut news = relay.observer.subscribe();
    let mut client = SmtpClient::ready(relay.smtp[0]).await.unwrap();
    let to = format!("bob@{DOMAIN}");
    let handed = client.send("alice@office.test", &[&to], b"Subject: hi\r\n\r\nhi\r\n").await.unwrap();
    assert!(handed.accepted(), "{}", handed.last());
    client.quit().await.unwrap();
    let first = timeout(PATIENCE, news.recv()).await.unwrap().unwrap();
    relay.stop();
    relay.ended().await.unwrap();
    first.outcome
}

async fn mail_meets_the_truth(situation: Situation) {
    let stage = Stage::calm(situation).await.unwrap();
    let outcome = first_attempt(&stage).await;
    let inbox = stage.lab.hosts().filter(|host| host.name() == HOST).map(|host| host.messages().len()).sum::<usize>();
    match (situation.truth().mail, outcome) {
        (MessageFate::Delivered(expected), DeliveryOutcome::Delivered { tls, .. }) => {
            assert_eq!((tls.word(), inbox), (expected, 1), "{situation:?}");
        }
        (
            MessageFate::Waits { cause: word, status } | MessageFate::Returned { cause: word, status },
            DeliveryOutcome::Failed { cause },
        ) => {
            let row = cause.row();
            assert_eq!((row.word, row.status.to_string().as_str()), (word, status), "{situation:?}: {cause:?}");
            assert_eq!(inbox + stage.proxy().messages().len(), 0, "{situation:?}: nobody got it");
        }
        (expected, outcome) => panic!("{situation:?}: {expected:?} was expected and {outcome:?} came"),
    }
    // What let the mail through or stopped it was the box, and not luck.
    let word = situation.truth().word.unwrap_or_default();
    let answers_itself = matches!(situation, Situation::RefusedOverCount | Situation::CutToFour);
    let by_a_box = !answers_itself
        && ["count", "type", "size", "edns"].iter().any(|kind| word == format!("local-dns-{kind}-filter"));
    assert_eq!(stage.lab.dns().dropped() > 0, by_a_box || situation == Situation::Tcp53Blocked, "{situation:?}");
}

/// What a check says is what delivery does, for the same cause; it begins no message, and it takes
/// its leave.
async fn check_foretells_the_truth(situation: Situation) {
    let stage = Stage::set(situation).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let checker = Checker::new(stage.config(folder.path()).await.unwrap(), Clock::system()).unwrap();
    let report = checker.check(&DOMAIN.parse().unwrap()).await;
    let cause = report.fault.as_ref().map(|fault| (fault.cause, fault.status.as_str()));
    match (situation.truth().mail, report.verdict) {
        (MessageFate::Delivered(_), Verdict::Ok | Verdict::Warning) => {}
        (
            MessageFate::Waits { cause: word, status } | MessageFate::Returned { cause: word, status },
            Verdict::Fault | Verdict::Inconclusive,
        ) => {
            assert_eq!(cause, Some((word, status)), "{situation:?}\n{}", report.text());
        }
        (mail, _) => panic!("{situation:?}: mail has {mail:?}\n{}", report.text()),
    }
    for host in hosts(&stage) {
        for verb in ["MAIL", "RCPT", "DATA", "BDAT"] {
            assert_eq!(heard(host, verb), 0, "{}: {:?}", host.name(), host.seen());
        }
    }
    // Where somebody else ends TLS, the host hears nothing of what is said inside; one that turns
    // us away in its greeting does not wait.
    if !matches!(situation, Situation::TlsIntercepted | Situation::AddressListed) {
        they_hear_the_farewell(&stage).await;
    }
}

fn hosts(stage: &Stage) -> impl Iterator<Item = &RunningMxHost> {
    stage.lab.hosts().chain([stage.proxy()])
}

fn heard(host: &RunningMxHost, verb: &str) -> usize {
    host.seen().iter().filter(|seen| seen.line.to_ascii_uppercase().starts_with(verb)).count()
}

/// RFC 5321 §4.1.1.10; a connection whose handshake failed is beyond words. Hosts may hear of it
/// a moment later than the check ends.
async fn they_hear_the_farewell(stage: &Stage) {
    let connections = || stage.lab.hosts().map(RunningMxHost::connections).sum::<usize>();
    let ended = || hosts(stage).map(|host| heard(host, "QUIT") + host.handshakes_failed()).sum::<usize>();
    let all = async {
        while ended() < connections() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, all).await.is_ok(), "{} of {}", ended(), connections());
}

/// Both side by side: most of their time is waiting for what does not come.
async fn is_as_told(situation: Situation) {
    tokio::join!(Box::pin(mail_meets_the_truth(situation)), Box::pin(check_foretells_the_truth(situation)));
}

macro_rules! situations {
    ($($name:ident: $situation:ident,)*) => {
        const TESTED: &[Situation] = &[$(Situation::$situation),*];
        $(#[tokio::test]
        async fn $name() {
            is_as_told(Situation::$situation).await;
        })*
    };
}

situations! {
    a_healthy_domain_gets_its_mail_by_dane: Healthy,
    a_healthy_domain_without_dane_gets_its_mail: HealthyWithoutDane,
    rfc7672_2_1_2_more_than_four_tlsa_records_are_dropped: CountFilter,
    more_than_four_tlsa_records_are_dropped_over_udp_alone: CountFilterOverUdp,
    more_than_four_tlsa_records_are_dropped_behind_a_silent_resolver: CountFilterBeyondSilence,
    more_than_four_tlsa_records_are_dropped_behind_a_resolver_that_says_servfail: CountFilterBeyondServFail,
    more_than_four_tlsa_records_are_refused_by_an_ips: RefusedOverCount,
    more_than_four_tlsa_records_are_cut_to_four_by_an_ips: CutToFour,
    every_tlsa_answer_is_dropped: TypeFilter,
    every_tlsa_answer_is_dropped_behind_a_resolver_that_says_servfail: TypeFilterBeyondServFail,
    any_answer_with_more_than_four_records_is_dropped: AnyCountFilter,
    large_datagrams_are_dropped: SizeFilter,
    rfc8906_3_2_questions_with_edns_are_dropped: EdnsFilter,
    questions_with_edns_are_dropped_over_udp_alone: EdnsFilterOverUdp,
    rfc7766_5_tcp_53_is_blocked_and_the_answer_truncated: Tcp53Blocked,
    rfc4035_5_4_tlsa_records_are_forged_away: TlsaForged,
    the_resolver_strips_signatures: ResolverStrips,
    rfc4035_4_9_3_the_resolver_has_ceased_to_validate: ResolverNotValidating,
    the_resolver_answers_servfail: ResolverFails,
    rfc4035_5_2_the_resolver_has_no_keys: ResolverWithoutKeys,
    the_zone_of_the_recipient_is_bogus: ZoneBogus,
    the_signatures_of_the_recipient_have_expired: ZoneExpired,
    the_servers_of_the_recipient_answer_servfail_for_tlsa: RecipientServFail,
    the_servers_of_the_recipient_drop_tlsa_questions: RecipientDropsTlsa,
    the_servers_of_the_recipient_are_silent_for_one_name: RecipientSilent,
    the_servers_of_the_recipient_are_dead: NameServersDead,
    rfc7671_8_1_the_certificate_was_rolled_without_tlsa: CertificateRolled,
    one_of_four_addresses_has_an_old_certificate: OneOldCertificate,
    rfc8461_4_1_the_policy_misses_the_new_mx: PolicyMissesHost,
    rfc3207_6_starttls_is_stripped: StartTlsStripped,
    the_banner_is_masked: BannerMasked,
    tls_is_intercepted: TlsIntercepted,
    a_proxy_answers_for_everyone: ProxyForEveryone,
    a_gateway_answers_for_everyone_and_has_a_certificate: GatewayForEveryone,
    every_handshake_is_cut: HandshakesCut,
    the_address_of_this_host_is_on_a_block_list: AddressListed,
    port_25_is_refused: Port25Refused,
    port_25_is_silent: Port25Silent,
    rfc4035_5_3_1_the_clock_is_wrong: WrongClock,
    more_than_four_tlsa_records_are_dropped_over_udp_behind_a_resolver_that_says_servfail:
        CountFilterOverUdpBeyondServFail,
    tlsa_records_are_forged_away_behind_a_resolver_that_says_servfail: TlsaForgedBeyondServFail,
    rfc4035_4_3_the_trust_anchors_are_those_of_another_root: WrongAnchors,
    rfc7671_8_1_a_public_certificate_was_rolled_without_tlsa: PublicCertificateRolled,
    tls_is_intercepted_by_an_authority_that_is_trusted: InterceptedByTrusted,
    rfc8461_4_2_the_intermediate_certificate_is_missing: IntermediateMissing,
    rfc8461_3_2_the_policy_begins_with_a_byte_order_mark: PolicyWithMark,
    rfc5321_4_5_3_2_1_the_server_greets_late: GreetsLate,
    rfc5321_4_5_3_2_every_reply_is_late: RepliesLate,
    every_answer_of_the_resolver_is_late: ResolverSlow,
}

#[test]
fn every_situation_is_tested() {
    assert_eq!(TESTED, Situation::ALL);
}

#[tokio::test]
async fn the_seed_story_comes_out_as_told() {
    let mut told = Vec::new();
    let good = ips::tell(&mut told).await.unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(good, "{told}");
    let wide: Vec<_> = told.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
}
