//! What the sender asks of TLS: REQUIRETLS is kept at every host or the message comes back, and
//! `TLS-Required: No` lets it go where the recipient's side would not (RFC 8689).

use crate::relay::{SENDER, World, content, expect, heard, lab, queue_id, saw_no_mail};
use dane_relay::envelope::QueueId;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{AnswerFault, Certificate, HostSpec, StartTls, Tlsa};
use hickory_proto::rr::RecordType;

/// A host that can keep REQUIRETLS.
fn able(host: HostSpec) -> HostSpec {
    host.keyword_in_tls("REQUIRETLS")
}

fn issued(host: HostSpec) -> HostSpec {
    able(host).certificate(Certificate::Issued)
}

/// Hands in a message with REQUIRETLS.
async fn demanding(world: &World, from: &str, to: &str) -> QueueId {
    let client = SmtpClient::ready(world.smtp()).await.unwrap();
    let mut client = client.starttls("relay.office.test").await.unwrap();
    let mail = format!("MAIL FROM:<{from}> REQUIRETLS");
    let handed = client.transact(&mail, &[format!("RCPT TO:<{to}>")], content(to).as_bytes()).await.unwrap();
    assert!(handed.accepted(), "the relay said: {}", handed.last());
    queue_id(&handed.last().text())
}

#[tokio::test]
async fn rfc8689_4_2_1_each_condition_is_needed_and_the_first_that_lacks_returns_the_message() {
    let lab = lab()
        .domain("dane.test", |d| d.host(able))
        .domain("signed.test", |d| d.host(|h| issued(h).tlsa([])))
        .domain("sts.test", |d| d.plain().host(issued).mta_sts(|p| p))
        // Its host is named by the policy and has DANE, and the MX record is not signed.
        .domain("hosted.test", |d| d.plain().hosted_by(10, "mx.host.test").mta_sts(|p| p.mx(&["mx.host.test"])))
        .domain("host.test", |d| d.host(issued))
        .domain("unnamed.test", |d| d.plain().hosted_by(10, "mx.other.test"))
        .domain("other.test", |d| d.host(issued))
        .domain("unproven.test", |d| d.plain().host(issued))
        .domain("notls.test", |d| d.host(|h| able(h).starttls(StartTls::NotOffered)))
        .domain("badcert.test", |d| d.host(|h| able(h).tlsa([])))
        .domain("mismatch.test", |d| d.host(|h| able(h).tlsa([Tlsa::Misfits(3, 1, 1, 0)])))
        .domain("unable.test", |d| d);
    let world = World::start(lab).await;
    for (domain, protection) in
        [("dane.test", "dane"), ("signed.test", "webpki"), ("sts.test", "webpki"), ("hosted.test", "webpki-and-dane")]
    {
        let to = format!("bob@{domain}");
        let id = demanding(&world, SENDER, &to).await;
        assert_eq!(world.delivered(id, &to).await.tls, protection);
        let host = if domain == "hosted.test" { "host.test" } else { domain };
        let params = &world.mx(host).messages()[0].mail_params;
        assert!(params.contains("REQUIRETLS"), "the demand goes on with the message: {params}");
    }
    for domain in ["unproven.test", "notls.test", "badcert.test", "mismatch.test", "unable.test"] {
        let to = format!("bob@{domain}");
        let id = demanding(&world, SENDER, &to).await;
        expect(&world.failed(id, &to).await, "requiretls-unmet", "5.7.30");
        assert_eq!(heard(world.mx(domain), "MAIL"), 0, "{domain}");
    }
    let id = demanding(&world, SENDER, "bob@unnamed.test").await;
    expect(&world.failed(id, "bob@unnamed.test").await, "requiretls-unmet", "5.7.30");
    assert_eq!(heard(world.mx("other.test"), "EHLO"), 0, "who named the host?");
}

#[tokio::test]
async fn rfc8461_5_1_a_policy_that_is_new_is_noticed_before_the_message_is_given_back() {
    let lab = lab().domain("late.test", |d| d.plain().host(issued).mta_sts(|p| p.id("1").none()));
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@late.test").await.tls, "unauthenticated");
    // The TXT record in our cache is good for a long time yet.
    world.lab.set_mta_sts("late.test", |p| p.id("2").enforce()).unwrap();
    let id = demanding(&world, SENDER, "carol@late.test").await;
    assert_eq!(world.delivered(id, "carol@late.test").await.tls, "webpki");
}

#[tokio::test]
async fn rfc8689_4_2_1_a_host_that_could_not_be_judged_yet_may_keep_it_where_the_others_cannot() {
    let lab = lab().domain("later.test", |d| {
        d.add_host("mx2.later.test", 20, able).fault("mx2.later.test", RecordType::TLSA, AnswerFault::ServFail)
    });
    let world = World::start(lab).await;
    let to = "bob@later.test";
    let id = demanding(&world, SENDER, to).await;
    assert_eq!(world.deferred(id, to, 1).await.row().word, "dns-unavailable");
    saw_no_mail(world.mx("later.test"));
    world.lab.world().fault(&world.lab.tlsa_owner("mx2.later.test"), RecordType::TLSA, None).unwrap();
    assert_eq!(world.delivered(id, to).await.host, "mx2.later.test");
}

#[tokio::test]
async fn rfc8689_4_2_1_the_next_host_may_keep_what_the_first_cannot() {
    let lab = lab().domain("two.test", |d| d.add_host("mx2.two.test", 20, able));
    let world = World::start(lab).await;
    let id = demanding(&world, SENDER, "bob@two.test").await;
    assert_eq!(world.delivered(id, "bob@two.test").await.host, "mx2.two.test");
    saw_no_mail(world.mx("mx.two.test"));
}

#[tokio::test]
async fn rfc8689_4_2_1_a_host_that_cannot_keep_it_does_not_outvote_one_that_is_down_for_now() {
    let lab = lab().domain("two.test", |d| d.host(|h| able(h).down()).add_host("mx2.two.test", 20, |h| h));
    let world = World::start(lab).await;
    let id = demanding(&world, SENDER, "bob@two.test").await;
    expect(&world.deferred(id, "bob@two.test", 2).await, "connect-failed", "4.4.1");
}

#[tokio::test]
async fn rfc8689_4_2_1_where_the_dns_is_silent_the_message_waits() {
    use dane_relay::lab::AnswerFault;
    use hickory_proto::rr::RecordType;
    let silent =
        |d: dane_relay::lab::DomainSpec| d.host(able).fault("mx.silent.test", RecordType::TLSA, AnswerFault::ServFail);
    let world = World::start(lab().domain("silent.test", silent)).await;
    let id = demanding(&world, SENDER, "bob@silent.test").await;
    expect(&world.deferred(id, "bob@silent.test", 1).await, "dns-unavailable", "4.4.3");
}

#[tokio::test]
async fn rfc8689_5_mail_of_the_null_sender_is_not_lost_because_a_host_lacks_the_keyword() {
    let lab = lab()
        .domain("unable.test", |d| d)
        .domain("able.test", |d| d.host(able))
        .domain("notls.test", |d| d.host(|h| h.starttls(StartTls::NotOffered)));
    let world = World::start(lab).await;
    for (domain, goes_on) in [("unable.test", false), ("able.test", true)] {
        let to = format!("bob@{domain}");
        let id = demanding(&world, "", &to).await;
        assert_eq!(world.delivered(id, &to).await.tls, "dane");
        assert_eq!(world.mx(domain).messages()[0].mail_params.contains("REQUIRETLS"), goes_on);
    }
    let id = demanding(&world, "", "bob@notls.test").await;
    expect(&world.failed(id, "bob@notls.test").await, "requiretls-unmet", "5.7.30");
    saw_no_mail(world.mx("notls.test"));
}

#[tokio::test]
async fn rfc8689_4_2_2_tls_required_no_delivers_where_dane_would_not_and_stays_in_the_message() {
    let misfit = |h: HostSpec| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)]);
    let lab = || lab().domain("misfit.test", move |d| d.host(misfit));
    let waiving = |to: &str| format!("TLS-Required: No\r\n{}", content(to));
    let world = World::start(lab()).await;
    let id = world.send(SENDER, &["bob@misfit.test"], waiving("bob@misfit.test").as_bytes()).await;
    assert_eq!(world.delivered(id, "bob@misfit.test").await.tls, "unauthenticated");
    let got = world.mx("misfit.test").messages()[0].content.clone();
    assert!(String::from_utf8_lossy(&got).contains("\r\nTLS-Required: No\r\n"));
    let metrics = world.metrics().await;
    let watched = "relay_policy_watched_total{because=\"tls-required-no\",result=\"tlsa-invalid\"}";
    assert_eq!(metrics[watched], 1.0);

    // Where the operator does not let senders decide, it is only a header field.
    let strict = World::with(lab(), |_, config| config.tls.tls_required_no = false).await;
    let id = strict.send(SENDER, &["bob@misfit.test"], waiving("bob@misfit.test").as_bytes()).await;
    expect(&strict.deferred(id, "bob@misfit.test", 1).await, "tlsa-invalid", "4.7.323");
    assert_eq!(heard(strict.mx("misfit.test"), "MAIL"), 0);
}
