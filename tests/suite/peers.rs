//! Mail servers of all kinds at the other end of STARTTLS, and people on the path to them
//! (RFC 3207 §4.2, RFC 7672 §8.1, RFC 9325 §3).

use crate::relay::{World, expect, heard, lab, saw_no_mail, says};
use dane_relay::check::Checker;
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::lab::mx::behaviour::TlsFacts;
use dane_relay::lab::{
    Certificate, HostSpec, Lab, LabBuilder, RunningMxHost, SessionOrigin, StartTls, TlsShape, Tlsa, Trouble, TroubleAt,
    Versions,
};
use dane_relay::outcome::{Cause, DeliveryOutcome, Phase as At};
use std::sync::Arc;
use std::time::Duration;

fn dane(lab: LabBuilder, domain: &str, change: impl FnOnce(HostSpec) -> HostSpec) -> LabBuilder {
    lab.domain(domain, |d| d.host(change))
}

fn plain(lab: LabBuilder, domain: &str, change: impl FnOnce(HostSpec) -> HostSpec) -> LabBuilder {
    lab.domain(domain, |d| d.plain().host(change))
}

/// What the host says of the TLS session of its last message.
fn last_session(host: &RunningMxHost) -> TlsFacts {
    host.messages().pop().unwrap().tls.unwrap()
}

#[tokio::test]
async fn rfc3207_4_2_what_came_in_clear_behind_the_220_counts_for_nothing() {
    let injected = |h: HostSpec| h.behind_220(b"250-REQUIRETLS\r\n250 SIZE 1\r\n");
    let world = World::start(plain(dane(lab(), "dane.test", injected), "plain.test", injected)).await;
    // A relay that believed it would find its message too large.
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
    assert_eq!(world.delivers("bob@plain.test").await.tls, "unauthenticated");
    let mx = world.mx("dane.test");
    assert_eq!(mx.seen().iter().filter(|seen| seen.secured && seen.line.starts_with("EHLO")).count(), 1);
    assert!(!mx.messages()[0].mail_params.contains("REQUIRETLS"));
}

#[tokio::test]
async fn rfc3207_4_2_the_offer_before_tls_is_forgotten() {
    let lab = dane(lab(), "dane.test", |h| h.keyword_in_clear("CHUNKING").keyword_in_clear("DSN"));
    let world = World::start(lab).await;
    let mx = world.mx("dane.test");
    mx.behave(|behaviour| {
        let all = std::mem::take(&mut behaviour.keywords);
        behaviour.keywords_in_clear.extend(all);
    });
    // The host refuses with 555 whatever it does not offer inside TLS.
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
    assert_eq!((heard(mx, "BDAT"), mx.messages()[0].mail_params.as_str()), (0, ""));
}

#[tokio::test]
async fn rfc7672_8_1_the_chain_may_depend_on_sni() {
    let by_sni = |h: HostSpec| h.certificate(Certificate::Issued).tls(TlsShape::by_sni()).tlsa([Tlsa::Fits(3, 1, 1)]);
    let world = World::start(dane(lab(), "dane.test", by_sni)).await;
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
    assert_eq!(last_session(world.mx("dane.test")).sni.as_deref(), Some("mx.dane.test"));
}

#[tokio::test]
async fn rfc9325_3_4_no_resumed_session_hides_another_certificate() {
    for versions in [Versions::Only12, Versions::Only13] {
        let shape = TlsShape { versions, ..TlsShape::default() };
        let world = World::start(dane(lab(), "dane.test", |h| h.tls(shape))).await;
        assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
        assert_eq!(last_session(world.mx("dane.test")).origin, SessionOrigin::Fresh);
        world.lab.set_certificate("mx.dane.test", &Certificate::SelfSigned).unwrap();
        expect(&world.defers("carol@dane.test").await, "tlsa-invalid", "4.7.323");
        assert_eq!(world.mx("dane.test").messages().len(), 1);
    }
}

#[tokio::test]
async fn rfc9325_3_5_a_cut_inside_tls_after_the_dot_is_no_success_and_one_after_the_reply_is() {
    let at_the_dot = |trouble| move |h: HostSpec| h.trouble(TroubleAt::EndOfData, trouble);
    let lab = dane(lab(), "cut.test", at_the_dot(Trouble::Drop));
    let world = World::start(dane(lab, "told.test", at_the_dot(Trouble::ReplyThenDrop))).await;
    let id = world.mail(&["bob@cut.test"]).await;
    let cut = world.deferred(id, "bob@cut.test", 1).await;
    assert_eq!((cut.row().word, world.mx("cut.test").messages().len()), ("perhaps-taken", 0));
    assert_eq!(world.delivers("bob@told.test").await.tls, "dane");
    assert_eq!(world.mx("told.test").messages().len(), 1);
}

#[tokio::test]
async fn rfc8446_4_4_2_4_a_host_that_demands_a_client_certificate_spoils_tls() {
    for versions in [Versions::Only12, Versions::Only13] {
        let demanding = |h: HostSpec| h.tls(TlsShape::client_certificate(versions));
        let world = World::start(plain(dane(lab(), "dane.test", demanding), "plain.test", demanding)).await;
        expect(&world.defers("bob@dane.test").await, "tls-handshake-failed", "4.7.321");
        saw_no_mail(world.mx("dane.test"));
        assert_eq!(world.delivers("bob@plain.test").await.tls, "clear-text");
    }
}

#[tokio::test]
async fn a_path_that_loses_large_client_hellos_costs_one_handshake_and_is_named() {
    let mut shared = None;
    let world = World::with(dane(lab(), "dane.test", |h| h), |_, config| {
        config.delivery.reply_timeout = Duration::from_secs(1);
        shared = Some(config.clone());
    });
    let world = world.await;
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
    assert_eq!(world.mx("dane.test").connections(), 1, "nothing is wrong yet");
    let mx = world.mx("dane.test");
    mx.behave(|behaviour| {
        if let StartTls::Offered(config) = &behaviour.starttls {
            behaviour.starttls = StartTls::LosesLargeHello(Arc::clone(config));
        }
    });
    let id = world.mail(&["bob@dane.test"]).await;
    let news = world.news(id, "bob@dane.test", |news| !news.is_empty()).await;
    assert_eq!(news.len(), 1, "in the same attempt: {news:?}");
    assert_eq!(world.delivered(id, "bob@dane.test").await.tls, "dane");
    assert_eq!(mx.connections(), 3, "a large and a small one");
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
    assert_eq!(mx.connections(), 4, "the small one first from then on");
    let report = Checker::new(shared.unwrap(), Clock::system()).unwrap().check(&"dane.test".parse().unwrap()).await;
    assert!(report.notes.iter().any(|note| note.starts_with("large-client-hello-lost")), "{:?}", report.notes);
    assert_eq!(report.hosts[0].addresses[0].group, Some("X25519"));
}

#[tokio::test]
async fn rfc8446_4_2_8_a_post_quantum_exchange_is_made_where_both_can() {
    let mut shared = None;
    let world = World::with(dane(lab(), "dane.test", |h| h), |_, config| shared = Some(config.clone()));
    let world = world.await;
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
    let report = Checker::new(shared.unwrap(), Clock::system()).unwrap().check(&"dane.test".parse().unwrap()).await;
    assert_eq!(report.hosts[0].addresses[0].group, Some("X25519MLKEM768"));
}

#[tokio::test]
async fn rfc7435_silence_in_the_handshake_does_not_stop_mail_that_nobody_protects() {
    let silent = |h: HostSpec| h.starttls(StartTls::Hang);
    let world = World::with(plain(lab(), "plain.test", silent), |_, config| {
        config.delivery.reply_timeout = Duration::from_secs(1);
    });
    let world = world.await;
    let id = world.mail(&["bob@plain.test"]).await;
    assert_eq!(world.delivered(id, "bob@plain.test").await.tls, "clear-text");
    assert_eq!(world.mx("plain.test").connections(), 3, "in the same attempt: a large hello, a small one, none");
}

#[tokio::test]
async fn rfc7435_a_refusal_or_silence_at_ehlo_inside_tls_is_spoilt_tls() {
    for trouble in [says("451 4.3.0 not now"), says("550 5.7.1 not you"), Trouble::Hang, Trouble::Drop] {
        let spoilt = |h: HostSpec| h.trouble(TroubleAt::EhloInTls, trouble.clone());
        let world = World::with(dane(plain(lab(), "plain.test", spoilt), "dane.test", spoilt), |_, config| {
            config.delivery.reply_timeout = Duration::from_secs(1);
        });
        let world = world.await;
        assert_eq!(world.delivers("bob@plain.test").await.tls, "clear-text", "{trouble:?}");
        // What it says inside TLS that is proven is a verdict.
        let id = world.mail(&["bob@dane.test"]).await;
        let told = world.news(id, "bob@dane.test", |news| !news.is_empty()).await;
        assert!(matches!(told[0], DeliveryOutcome::Failed { .. }), "{told:?}");
        saw_no_mail(world.mx("dane.test"));
    }
}

#[tokio::test]
async fn rfc5321_3_2_a_host_that_knows_helo_alone_has_no_tls() {
    let old = |h: HostSpec| h.helo_only();
    let world = World::start(plain(dane(lab(), "dane.test", old), "plain.test", old)).await;
    assert_eq!(world.delivers("bob@plain.test").await.tls, "clear-text");
    assert_eq!(world.mx("plain.test").messages()[0].mail_params, "");
    expect(&world.defers("bob@dane.test").await, "starttls-not-supported", "4.7.321");
    saw_no_mail(world.mx("dane.test"));
}

#[tokio::test]
async fn rfc7672_2_2_a_host_that_is_silent_in_the_handshake_gets_nothing_under_dane() {
    let impatient = |_: &Lab, config: &mut Config| config.delivery.reply_timeout = Duration::from_millis(300);
    let world = World::with(dane(lab(), "dane.test", |h| h.starttls(StartTls::Hang)), impatient).await;
    let cause = world.defers("bob@dane.test").await;
    assert!(matches!(cause, Cause::TimedOut { phase: At::Handshake, .. }), "{cause:?}");
    saw_no_mail(world.mx("dane.test"));
}
