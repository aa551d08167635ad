//! Connections carry further messages only under the same security identity, and a reused one
//! that fails costs nothing (RFC 7672 §3.2.2, RFC 8461 §4, RFC 5321 §4.5.4.1).

use crate::relay::{World, expect, heard, lab, until, within};
use crate::scripted::{Answer, Scripted, Turn, delivers, envelope, mailer, offer, target, words};
use dane_relay::lab::{Certificate, DomainSpec, LabBuilder, Tlsa, Trouble, TroubleAt};
use dane_relay::outcome::DeliveryOutcome;
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

async fn reusing(lab: LabBuilder) -> World {
    World::with(lab, |_lab, config| config.delivery.reuse_connections = true).await
}

/// On which connections the messages came to a host.
fn connections_of(world: &World, host: &str) -> Vec<usize> {
    world.mx(host).messages().iter().map(|message| message.connection).collect()
}

/// A server that is friendly but for one answer.
async fn friendly_but(odd: impl Fn(&Turn<'_>) -> Option<Answer> + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |turn| odd(turn).unwrap_or(Answer::Friendly)).await
}

#[tokio::test]
async fn rfc7672_3_1_1_domains_of_one_host_under_the_same_records_share_its_connection() {
    let shared = lab().domain("a.test", |d| d).domain("b.test", |d| d.hosted_by(10, "mx.a.test"));
    let world = reusing(shared).await;
    for to in ["bob@a.test", "bob@b.test", "carol@a.test"] {
        assert_eq!(world.delivers(to).await.tls, "dane");
    }
    assert_eq!(connections_of(&world, "a.test"), [1, 1, 1]);
    let mx = world.mx("a.test");
    assert_eq!((heard(mx, "STARTTLS"), heard(mx, "EHLO"), heard(mx, "MAIL")), (1, 2, 3));
    assert!(mx.messages().iter().all(|message| message.tls.is_some()));
}

#[tokio::test]
async fn rfc7672_3_2_2_a_name_proven_for_one_domain_is_proven_again_for_another() {
    // The certificate names a.test alone, and a trust anchor vouches for it.
    let named = lab()
        .domain("a.test", |d| {
            d.host(|h| h.certificate(Certificate::IssuedFor("a.test".into())).tlsa([Tlsa::Fits(2, 0, 1)]))
        })
        .domain("b.test", |d| d.hosted_by(10, "mx.a.test"));
    let world = reusing(named).await;
    assert_eq!(world.delivers("bob@a.test").await.tls, "dane");
    expect(&world.defers("bob@b.test").await, "certificate-host-mismatch", "4.7.325");
    assert_eq!(world.delivers("carol@a.test").await.tls, "dane");
    let rcpt: Vec<_> = world.mx("a.test").messages().into_iter().flat_map(|message| message.rcpt_to).collect();
    assert_eq!(rcpt, ["bob@a.test", "carol@a.test"]);
}

#[tokio::test]
async fn rfc8461_4_a_connection_without_a_policy_is_none_for_a_domain_that_has_one() {
    // Nobody vouches for the certificate; one of the two domains demands it.
    let strict = |d: DomainSpec| d.plain().mta_sts(|p| p);
    let tenant = |d: DomainSpec| d.plain().hosted_by(10, "mx.strict.test");
    let world = reusing(lab().domain("strict.test", strict).domain("tenant.test", tenant)).await;
    assert_eq!(world.delivers("bob@tenant.test").await.tls, "unauthenticated");
    expect(&world.defers("bob@strict.test").await, "certificate-not-trusted", "4.7.5");
    assert_eq!(world.delivers("carol@tenant.test").await.tls, "unauthenticated");
    let rcpt: Vec<_> = world.mx("strict.test").messages().into_iter().flat_map(|message| message.rcpt_to).collect();
    assert_eq!(rcpt, ["bob@tenant.test", "carol@tenant.test"]);
}

#[tokio::test]
async fn rfc7672_2_2_1_a_connection_proven_by_dane_alone_is_none_for_a_domain_with_a_policy() {
    // The host has DANE and no public certificate; one of its two tenants demands that, too.
    let strict = |d: DomainSpec| d.plain().hosted_by(10, "mx.host.test").mta_sts(|p| p.mx(&["mx.host.test"]));
    let tenants = lab()
        .domain("host.test", |d| d)
        .domain("tenant.test", |d| d.plain().hosted_by(10, "mx.host.test"))
        .domain("strict.test", strict);
    let world = reusing(tenants).await;
    assert_eq!(world.delivers("bob@tenant.test").await.tls, "dane-host-only");
    expect(&world.defers("bob@strict.test").await, "certificate-not-trusted", "4.7.5");
    assert_eq!(world.delivers("carol@tenant.test").await.tls, "dane-host-only");
    let rcpt: Vec<_> = world.mx("host.test").messages().into_iter().flat_map(|message| message.rcpt_to).collect();
    assert_eq!(rcpt, ["bob@tenant.test", "carol@tenant.test"]);
}

#[tokio::test]
async fn rfc5321_4_5_4_1_a_queue_for_one_host_needs_few_connections() {
    let world = World::with(lab().domain("busy.test", |d| d), |_lab, config| {
        config.delivery.reuse_connections = true;
        config.delivery.max_per_next_hop = 2;
    });
    let world = world.await;
    let users: Vec<String> = (0..20).map(|n| format!("u{n}@busy.test")).collect();
    let all = join_all(users.iter().map(|to| world.delivers(to))).await;
    assert!(all.iter().all(|delivered| delivered.tls == "dane"));
    let mx = world.mx("busy.test");
    assert_eq!(mx.messages().len(), 20);
    assert!(mx.connections() <= 10, "{} connections for 20 messages", mx.connections());
}

#[tokio::test]
async fn rfc3207_4_a_connection_that_fell_back_to_clear_text_is_not_reused() {
    let refusing = crate::relay::says("454 4.7.0 no TLS now");
    let world =
        reusing(lab().domain("plain.test", |d| d.plain().host(|h| h.trouble(TroubleAt::StartTls, refusing)))).await;
    assert_eq!(world.delivers("bob@plain.test").await.tls, "clear-text");
    world.mx("plain.test").trouble(TroubleAt::StartTls, None);
    assert_eq!(world.delivers("carol@plain.test").await.tls, "unauthenticated");
    assert_eq!(connections_of(&world, "plain.test"), [1, 2]);
}

#[tokio::test]
async fn rfc8446_6_1_a_connection_that_the_server_has_closed_is_noticed_before_it_is_used() {
    let closing = lab().domain("dane.test", |d| d.host(|h| h.trouble(TroubleAt::EndOfData, Trouble::ReplyThenDrop)));
    let world = reusing(closing).await;
    for user in ["bob", "carol"] {
        let to = format!("{user}@dane.test");
        let id = world.mail(&[&to]).await;
        let news = world.news(id, &to, |known| !known.is_empty()).await;
        assert!(matches!(news[..], [DeliveryOutcome::Delivered { .. }]), "{news:?}");
    }
    assert_eq!(connections_of(&world, "dane.test"), [1, 2]);
}

#[tokio::test]
async fn rfc5321_3_8_a_reused_connection_that_ends_at_mail_costs_nothing() {
    let answers: [fn() -> Answer; 4] = [
        || Answer::Say("421 4.4.2 that was enough\r\n".into()),
        || Answer::Close,
        || Answer::Hang,
        || Answer::Say("this is no reply\r\n".into()),
    ];
    for answer in answers {
        let server = friendly_but(move |turn| (turn.line.starts_with("MAIL") && turn.mails == 2).then(answer)).await;
        // The greeting of a fresh connection is in time; a hang at MAIL ends with the same limit.
        let mailer = mailer("reply_timeout = \"3s\"");
        let target = target(server.address);
        assert_eq!([delivers(&mailer, &target).await, delivers(&mailer, &target).await], [1, 1]);
        assert_eq!(server.transactions(), [(1, 1), (2, 1)]);
    }
}

#[tokio::test]
async fn rfc5321_4_2_1_a_refusal_on_a_reused_connection_is_asked_again_on_a_fresh_one() {
    for (verb, reply) in [
        ("MAIL", "450 4.7.1 slow down\r\n"),
        ("MAIL", "550 5.7.1 too many in this session\r\n"),
        ("RCPT", "550 too many in this session\r\n"),
    ] {
        let refused =
            move |turn: &Turn<'_>| (turn.line.starts_with(verb) && turn.mails == 2).then(|| Answer::Say(reply.into()));
        let server = friendly_but(refused).await;
        let (mailer, target) = (mailer(""), target(server.address));
        delivers(&mailer, &target).await;
        assert_eq!(delivers(&mailer, &target).await, 1, "{reply}");
        until(|| async { (server.on(1).last()? == "QUIT").then_some(()) }, "QUIT").await;
    }
}

#[tokio::test]
async fn rfc5321_4_2_1_who_was_accepted_on_a_reused_connection_is_not_asked_again() {
    let second_refused = |turn: &Turn<'_>| {
        let refused = turn.line.starts_with("RCPT") && turn.mails == 2 && turn.rcpts == 2;
        refused.then(|| Answer::Say("550 too many in this session\r\n".into()))
    };
    let server = friendly_but(second_refused).await;
    let (mailer, target) = (mailer(""), target(server.address));
    delivers(&mailer, &target).await;
    let report = offer(&mailer, &target, &envelope(3), &[0, 1, 2]).await;
    assert_eq!(words(&report), ["delivered"; 3]);
    assert_eq!(server.transactions(), [(1, 1), (1, 3), (2, 1)]);
}

#[tokio::test]
async fn rfc5321_4_2_1_a_refusal_that_a_fresh_connection_hears_too_counts() {
    let server = friendly_but(|turn| {
        let refused = turn.line.starts_with("MAIL") && (turn.connection > 1 || turn.mails == 2);
        refused.then(|| Answer::Say("550 5.7.1 not you\r\n".into()))
    })
    .await;
    let (mailer, target) = (mailer(""), target(server.address));
    delivers(&mailer, &target).await;
    let report = offer(&mailer, &target, &envelope(1), &[0]).await;
    assert_eq!((words(&report), report.nth_on_connection), (vec!["rejected"], 1));
}

#[tokio::test]
async fn rfc5321_4_5_4_1_silence_after_the_dot_on_a_reused_connection_is_left_to_the_next_attempt() {
    let silent = |turn: &Turn<'_>| (turn.line == "." && turn.mails == 2).then_some(Answer::Close);
    let server = friendly_but(silent).await;
    let (mailer, target) = (mailer(""), target(server.address));
    delivers(&mailer, &target).await;
    let report = offer(&mailer, &target, &envelope(1), &[0]).await;
    assert_eq!(words(&report), ["perhaps-taken"]);
    // It may have the message: nobody sent it again by himself.
    assert_eq!(server.transactions(), [(1, 1), (1, 1)]);
}

#[tokio::test]
async fn rfc5321_4_2_bytes_that_nobody_asked_for_end_a_parked_connection() {
    let talkative = |turn: &Turn<'_>| (turn.line == ".").then(|| Answer::Say("250 ok\r\n250 and more\r\n".into()));
    let server = friendly_but(talkative).await;
    let (mailer, target) = (mailer(""), target(server.address));
    assert_eq!([delivers(&mailer, &target).await, delivers(&mailer, &target).await], [1, 1]);
}

#[tokio::test]
async fn rfc9422_4_1_no_more_messages_than_the_server_takes_on_one_connection() {
    let limited = |turn: &Turn<'_>| {
        let limits = || Answer::Say("250-scripted.test\r\n250 LIMITS MAILMAX=2\r\n".into());
        turn.line.starts_with("EHLO").then(limits)
    };
    let server = friendly_but(limited).await;
    let (mailer, target) = (mailer(""), target(server.address));
    let mut nth = Vec::new();
    for _message in 0..5 {
        nth.push(delivers(&mailer, &target).await);
    }
    assert_eq!(nth, [1, 2, 1, 2, 1]);
}

#[tokio::test]
async fn rfc9422_4_3_a_server_that_counts_domains_has_one_message_on_each_connection() {
    let limited = |turn: &Turn<'_>| {
        let limits = || Answer::Say("250-scripted.test\r\n250 LIMITS RCPTDOMAINMAX=1\r\n".into());
        turn.line.starts_with("EHLO").then(limits)
    };
    let server = friendly_but(limited).await;
    let (mailer, target) = (mailer(""), target(server.address));
    assert_eq!([delivers(&mailer, &target).await, delivers(&mailer, &target).await], [1, 1]);
}

#[tokio::test]
async fn without_reuse_every_message_has_its_own_connection() {
    let server = friendly_but(|_turn| None).await;
    let (mailer, target) = (mailer("reuse_connections = false"), target(server.address));
    assert_eq!([delivers(&mailer, &target).await, delivers(&mailer, &target).await], [1, 1]);
    until(|| async { (server.on(1).last()? == "QUIT").then_some(()) }, "QUIT").await;
}

#[tokio::test]
async fn rfc5321_4_1_1_10_idle_connections_say_quit_by_themselves_and_at_the_stop() {
    let server = friendly_but(|_turn| None).await;
    let (mailer, target) = (mailer(""), target(server.address));
    delivers(&mailer, &target).await;
    until(|| async { (server.on(1).last()? == "QUIT").then_some(()) }, "QUIT after the time to wait").await;
    assert_eq!(delivers(&mailer, &target).await, 1);
    within(mailer.close(), "the farewell").await;
    assert_eq!(server.on(2).last().map(String::as_str), Some("QUIT"));
    // Behind the stop nothing is parked.
    assert_eq!([delivers(&mailer, &target).await, delivers(&mailer, &target).await], [1, 1]);
}

#[tokio::test]
async fn a_probe_neither_takes_nor_leaves_a_connection() {
    let probed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&probed);
    let server = friendly_but(move |turn| {
        seen.fetch_or(turn.connection == 2 && turn.line == "QUIT", Ordering::SeqCst);
        None
    });
    let server = server.await;
    let (mailer, target) = (mailer(""), target(server.address));
    delivers(&mailer, &target).await;
    let probe = mailer.probe(&target).await;
    assert!(probe.failure.is_none() && probed.load(Ordering::SeqCst), "it said goodbye on a connection of its own");
    assert_eq!(delivers(&mailer, &target).await, 2, "the parked one is still there");
}
