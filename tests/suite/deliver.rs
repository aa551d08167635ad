//! From the queue to the mailbox: each recipient has an end of its own, nothing is lost and
//! nothing is changed on the way (RFC 5321 §3.3, §4.2.1, §4.5; RFC 1870, RFC 3030).

use crate::relay::{PATIENCE, SENDER, World, below_received, content, expect, heard, lab, queue_id, says, until};
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{LabBuilder, Trouble, TroubleAt};
use dane_relay::outcome::{Cause, Phase as At};
use futures_util::future::join_all;
use std::time::Duration;

/// The steps of a conversation at which a host can say no.
const PHASES: [(TroubleAt, &str); 6] = [
    (TroubleAt::Connect, "connect.test"),
    (TroubleAt::Ehlo, "ehlo.test"),
    (TroubleAt::Mail, "mail.test"),
    (TroubleAt::Rcpt, "rcpt.test"),
    (TroubleAt::Data, "data.test"),
    (TroubleAt::EndOfData, "dot.test"),
];

fn with_trouble(trouble: &Trouble) -> LabBuilder {
    PHASES
        .into_iter()
        .fold(lab(), |lab, (phase, domain)| lab.domain(domain, |d| d.host(|h| h.trouble(phase, trouble.clone()))))
}

/// The mail waits with a cause that `is_right`, and is delivered once the trouble is over.
async fn waits_and_arrives(trouble: Trouble, is_right: impl Fn(TroubleAt, &Cause) -> bool) {
    let world = World::with(with_trouble(&trouble), |_, config| {
        config.delivery.reply_timeout = Duration::from_secs(1);
    });
    let world = world.await;
    let (world, is_right) = (&world, &is_right);
    let one = |(phase, domain): (TroubleAt, &'static str)| async move {
        let to = format!("bob@{domain}");
        let id = world.mail(&[&to]).await;
        let cause = world.deferred(id, &to, 1).await;
        assert!(is_right(phase, &cause), "{phase:?}: {cause:?}");
        if cause.may_be_delivered() {
            // It comes again much later.
            return;
        }
        world.deferred(id, &to, 2).await;
        assert_eq!(world.mx(domain).messages().len(), 0, "{phase:?}");
        world.mx(domain).trouble(phase, None);
        assert_eq!(world.delivered(id, &to).await.tls, "dane");
        assert_eq!(world.mx(domain).messages().len(), 1, "{phase:?}");
    };
    join_all(PHASES.map(one)).await;
}

#[tokio::test]
async fn rfc5321_4_2_1_a_4yz_reply_at_any_step_keeps_the_mail() {
    let rejected = |cause: &Cause| cause.row().word == "rejected-for-now" && cause.sentence().contains("try later");
    waits_and_arrives(says("451 4.3.0 try later"), |_, cause| rejected(cause)).await;
    // RFC 5321 §3.8: with 421 the host closes as well.
    waits_and_arrives(says("421 4.3.2 try later"), |_, cause| rejected(cause)).await;
}

#[tokio::test]
async fn rfc5321_4_5_4_1_a_connection_lost_at_any_step_keeps_the_mail() {
    let word = |phase| if phase == TroubleAt::EndOfData { "perhaps-taken" } else { "connection-lost" };
    waits_and_arrives(Trouble::Drop, |phase, cause| cause.row().word == word(phase)).await;
}

#[tokio::test]
async fn rfc5321_4_5_3_2_a_host_that_falls_silent_at_any_step_keeps_the_mail() {
    let at = |phase| match phase {
        TroubleAt::Connect => At::Greeting,
        TroubleAt::Ehlo | TroubleAt::EhloInTls | TroubleAt::StartTls | TroubleAt::Quit => At::Ehlo,
        TroubleAt::Mail => At::MailFrom,
        TroubleAt::Rcpt => At::RcptTo,
        TroubleAt::Data => At::Data,
        TroubleAt::EndOfData => At::EndOfData,
    };
    let is_right = |phase, cause: &Cause| {
        let is_silence = matches!(cause, Cause::TimedOut { phase: when, .. } if *when == at(phase));
        is_silence || (phase == TroubleAt::EndOfData && matches!(cause, Cause::PerhapsTaken { .. }))
    };
    waits_and_arrives(Trouble::Hang, is_right).await;
}

#[tokio::test]
async fn rfc5321_4_2_1_a_5yz_reply_at_any_step_fails_the_recipient() {
    let world = World::start(with_trouble(&says("554 5.7.1 not from you"))).await;
    for (phase, domain) in PHASES {
        if phase == TroubleAt::Ehlo {
            // Without EHLO there is no STARTTLS, and that is for the host's administrator to mend.
            expect(&world.defers(&format!("bob@{domain}")).await, "starttls-not-supported", "4.7.321");
        } else {
            let cause = world.fails(&format!("bob@{domain}")).await;
            expect(&cause, "rejected", "5.7.1");
            assert!(cause.sentence().contains("not from you"));
        }
        assert_eq!(world.mx(domain).messages().len(), 0, "{phase:?}");
    }
}

#[tokio::test]
async fn rfc5321_3_3_every_recipient_of_a_message_has_its_own_end() {
    let lab = lab()
        .domain("good.test", |d| d.host(|h| h.known(&["bob"])))
        .domain("grey.test", |d| d.host(|h| h.known(&["bob"]).greylisting()));
    let world = World::start(lab).await;
    let to = ["bob@good.test", "nobody@good.test", "bob@grey.test", "nobody@grey.test"];
    let id = world.mail(&to).await;
    assert_eq!(world.delivered(id, to[0]).await.tls, "dane");
    expect(&world.failed(id, to[1]).await, "rejected", "5.1.1");
    assert_eq!(world.delivered(id, to[2]).await.tls, "dane");
    expect(&world.failed(id, to[3]).await, "rejected", "5.1.1");
    let waited = world.news(id, to[2], |known| known.len() == 2).await;
    assert_eq!(waited.len(), 2, "greylisted once, then delivered");
    for (domain, transactions) in [("good.test", 1), ("grey.test", 2)] {
        let messages = world.mx(domain).messages();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].rcpt_to, [format!("bob@{domain}")]);
        // Who has an end is not offered again.
        assert_eq!(heard(world.mx(domain), "MAIL"), transactions);
        assert_eq!(heard(world.mx(domain), "RCPT TO:<NOBODY@"), 1, "{:?}", world.mx(domain).seen());
    }
}

#[tokio::test]
async fn rfc5321_4_5_4_1_recipients_of_one_domain_share_a_transaction_up_to_its_limit() {
    let world = World::start(lab().domain("many.test", |d| d)).await;
    let users: Vec<String> = (0..150).map(|n| format!("u{n}@many.test")).collect();
    let to: Vec<&str> = users.iter().map(String::as_str).collect();
    let id = world.mail(&to).await;
    for user in &to {
        assert_eq!(world.delivered(id, user).await.tls, "dane");
    }
    let counts: Vec<usize> = world.mx("many.test").messages().iter().map(|m| m.rcpt_to.len()).collect();
    assert_eq!(counts, [100, 50], "RFC 5321 §4.5.3.1.8: every server takes 100");
}

#[tokio::test]
async fn rfc5321_6_1_a_reply_lost_after_the_dot_makes_no_copies_while_other_mail_is_tried_again() {
    let lab = lab()
        .domain("lossy.test", |d| {
            d.host(|h| h.trouble(TroubleAt::EndOfData, Trouble::KeepThenDrop)).add_host("mx2.lossy.test", 20, |h| h)
        })
        .domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later"))));
    let world = World::start(lab).await;
    let id = world.mail(&["bob@lossy.test"]).await;
    let cause = world.deferred(id, "bob@lossy.test", 1).await;
    assert!(matches!(cause, Cause::PerhapsTaken { .. }), "{cause:?}");
    let other = world.mail(&["bob@busy.test"]).await;
    world.deferred(other, "bob@busy.test", 5).await;
    // Another host would make the second copy certain, and another try likely.
    assert_eq!(world.mx("mx2.lossy.test").connections(), 0);
    assert_eq!((world.mx("lossy.test").connections(), world.mx("lossy.test").messages().len()), (1, 1));
}

#[tokio::test]
async fn rfc1870_6_2_a_message_above_the_size_of_the_host_fails_before_it_is_sent() {
    let world = World::start(lab().domain("small.test", |d| d)).await;
    world.mx("small.test").behave(|b| b.keywords = vec!["PIPELINING".into(), "SIZE 200".into()]);
    expect(&world.fails("bob@small.test").await, "message-too-large", "5.3.4");
    assert_eq!((heard(world.mx("small.test"), "MAIL"), heard(world.mx("small.test"), "DATA")), (0, 0));
}

#[tokio::test]
async fn rfc6152_3_declared_8_bit_content_goes_only_where_it_is_offered() {
    let world = World::start(lab().domain("new.test", |d| d).domain("old.test", |d| d)).await;
    world.mx("old.test").behave(|b| b.keywords = vec!["SIZE".into()]);
    let body = "Subject: 8\r\n\r\nGr\u{fc}\u{df}e\r\n";
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let to = ["RCPT TO:<bob@new.test>".to_owned(), "RCPT TO:<bob@old.test>".to_owned()];
    let handed = client.transact(&format!("MAIL FROM:<{SENDER}> BODY=8BITMIME"), &to, body.as_bytes()).await.unwrap();
    let id = queue_id(&handed.last().text());
    world.delivered(id, "bob@new.test").await;
    let received = &world.mx("new.test").messages()[0];
    assert!(received.mail_params.contains("BODY=8BITMIME"), "{}", received.mail_params);
    assert_eq!(below_received(received), body.as_bytes());
    world.delivered(id, "bob@old.test").await;
    let converted = &world.mx("old.test").messages()[0];
    assert!(!converted.mail_params.contains("BODY"), "{}", converted.mail_params);
    let text = String::from_utf8(converted.content.clone()).unwrap();
    assert!(text.is_ascii() && text.starts_with("X-MIME-Autoconverted: from 8bit to 7bit by relay."), "{text}");
    assert!(text.contains(&format!(" id {id}\r\n")), "{text}");
    assert!(text.ends_with("Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n"), "{text}");
}

#[tokio::test]
async fn rfc6152_3_all_hosts_are_asked_before_content_is_converted() {
    let lab = lab().domain("two.test", |d| d.add_host("mx2.two.test", 20, |h| h));
    let world = World::start(lab).await;
    world.mx("two.test").behave(|b| b.keywords = vec!["SIZE".into()]);
    let body = "Subject: 8\r\n\r\nGr\u{fc}\u{df}e\r\n";
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let (mail, to) = (format!("MAIL FROM:<{SENDER}> BODY=8BITMIME"), ["RCPT TO:<bob@two.test>".to_owned()]);
    let handed = client.transact(&mail, &to, body.as_bytes()).await.unwrap();
    world.delivered(queue_id(&handed.last().text()), "bob@two.test").await;
    assert_eq!(below_received(&world.mx("mx2.two.test").messages()[0]), body.as_bytes());
    assert!(world.mx("two.test").messages().is_empty());
}

#[tokio::test]
async fn rfc1847_2_1_signed_8_bit_content_comes_back_and_says_why() {
    let world = World::start(lab().domain("old.test", |d| d)).await;
    world.mx("old.test").behave(|b| b.keywords = vec!["SIZE".into()]);
    let body = "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: text/plain\r\n\
                Content-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}\u{df}e\r\n--s\r\n\r\nsignature\r\n--s--\r\n";
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let (mail, to) = (format!("MAIL FROM:<{SENDER}> BODY=8BITMIME"), ["RCPT TO:<bob@old.test>".to_owned()]);
    let handed = client.transact(&mail, &to, body.as_bytes()).await.unwrap();
    let cause = world.failed(queue_id(&handed.last().text()), "bob@old.test").await;
    expect(&cause, "eight-bit-not-offered", "5.6.3");
    assert!(cause.sentence().contains("it is signed"), "{}", cause.sentence());
    assert!(world.mx("old.test").messages().is_empty());
}

#[tokio::test]
async fn rfc5321_4_5_3_1_1_local_parts_that_are_long_or_have_odd_dots_arrive_as_they_are() {
    let world = World::start(lab().domain("long.test", |d| d)).await;
    let locals = ["a".repeat(65), "a".repeat(92), "a".repeat(255), "two..dots".into(), ".first".into(), "last.".into()];
    let to: Vec<String> = locals.iter().map(|local| format!("{local}@long.test")).collect();
    let id = world.mail(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for recipient in &to {
        world.delivered(id, recipient).await;
    }
    assert_eq!(world.mx("long.test").messages()[0].rcpt_to, to);
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let too_long = [format!("RCPT TO:<{}@long.test>", "a".repeat(256)), "RCPT TO:<b@long.test>".to_owned()];
    let handed = client.transact(&format!("MAIL FROM:<{SENDER}>"), &too_long, b"x: y\r\n\r\n").await.unwrap();
    world.delivered(queue_id(&handed.last().text()), "b@long.test").await;
}

#[tokio::test]
async fn rfc6531_3_2_what_was_only_declared_smtputf8_goes_out_in_ascii() {
    let lab = lab().domain("ascii.test", |d| d).domain("xn--bcher-kva.test", |d| d);
    let world = World::start(lab).await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    for (to, arrives) in [("bob@ascii.test", "bob@ascii.test"), ("bob@b\u{fc}cher.test", "bob@xn--bcher-kva.test")] {
        let domain = arrives.rsplit_once('@').unwrap().1;
        let (mail, rcpt) = (format!("MAIL FROM:<{SENDER}> SMTPUTF8"), [format!("RCPT TO:<{to}>")]);
        let handed = client.transact(&mail, &rcpt, "Subject: x\r\n\r\nHello\r\n".as_bytes()).await.unwrap();
        world.delivered(queue_id(&handed.last().text()), to).await;
        let received = &world.mx(domain).messages()[0];
        assert_eq!((&received.rcpt_to[0][..], received.mail_params.contains("UTF8")), (arrives, false));
        assert!(received.content.is_ascii());
    }
}

/// A client may declare any message so; what is 7-bit all the same is not returned for that.
#[tokio::test]
async fn rfc6152_3_a_declaration_alone_makes_no_content_8_bit() {
    let world = World::start(lab().domain("old.test", |d| d)).await;
    world.mx("old.test").behave(|b| b.keywords = vec!["SIZE".into()]);
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let (mail, to) = (format!("MAIL FROM:<{SENDER}> BODY=8BITMIME"), ["RCPT TO:<bob@old.test>".to_owned()]);
    let handed = client.transact(&mail, &to, b"Subject: 7\r\n\r\nHello\r\n").await.unwrap();
    world.delivered(queue_id(&handed.last().text()), "bob@old.test").await;
}

#[tokio::test]
async fn rfc5321_3_7_one_message_goes_once_to_each_domain() {
    let world = World::start(lab().domain("a.test", |d| d).domain("b.test", |d| d.plain())).await;
    let to = ["bob@a.test", "bob@b.test", "carol@a.test"];
    let id = world.mail(&to).await;
    for to in to {
        world.delivered(id, to).await;
    }
    assert_eq!(world.mx("a.test").messages()[0].rcpt_to, ["bob@a.test", "carol@a.test"]);
    assert_eq!(world.mx("b.test").messages()[0].rcpt_to, ["bob@b.test"]);
    assert_eq!((world.mx("a.test").messages().len(), world.mx("b.test").messages().len()), (1, 1));
}

#[tokio::test]
async fn rfc5321_4_5_4_1_a_host_that_hangs_does_not_hold_up_other_mail() {
    let stalled = |lab: LabBuilder, n: usize| {
        lab.domain(&format!("stalled{n}.test"), |d| d.host(|h| h.trouble(TroubleAt::Mail, Trouble::Hang)))
    };
    let world = World::start((0..3).fold(lab().domain("good.test", |d| d), stalled)).await;
    let mut waiting = Vec::new();
    for n in 0..3 {
        let to = format!("bob@stalled{n}.test");
        let id = world.mail(&[&to]).await;
        until(|| async { (heard(world.mx(&format!("stalled{n}.test")), "MAIL") > 0).then_some(()) }, "MAIL").await;
        waiting.push((id, to));
    }
    assert_eq!(world.delivers("bob@good.test").await.tls, "dane");
    for (id, to) in waiting {
        assert!(world.news(id, &to, |_| true).await.is_empty(), "{to} still hangs");
    }
}

#[tokio::test]
async fn rfc5321_6_4_content_arrives_octet_for_octet_below_one_received_line() {
    let lab = lab().domain("dane.test", |d| d).domain("plain.test", |d| d.plain());
    let world = World::start(lab.domain("chunks.test", |d| d.host(|h| h.keyword("CHUNKING")))).await;
    let long_line = "x".repeat(5000);
    let dots =
        format!("Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.x\r\nx.\r\n\r\n{long_line}\r\n.{long_line}\r\n\r\n\r\n");
    let large: String = (0..16_384).map(|n| format!("{n:061}.\r\n")).collect();
    let large = format!("Subject: large\r\n\r\n{large}");
    assert!(large.len() > 1024 * 1024);
    let odd = "no header at all\r\n".to_owned();
    for (nth, sent) in [dots, large, odd, "\r\n".to_owned()].into_iter().enumerate() {
        let to = ["bob@dane.test", "bob@plain.test", "bob@chunks.test"];
        let id = world.send(SENDER, &to, sent.as_bytes()).await;
        for domain in ["dane.test", "plain.test", "chunks.test"] {
            world.delivered(id, &format!("bob@{domain}")).await;
            let received = world.mx(domain).wait_for_messages(nth + 1, PATIENCE).await.unwrap();
            assert!(below_received(&received[nth]) == sent.as_bytes(), "message {nth} was changed");
        }
    }
    assert_eq!(heard(world.mx("chunks.test"), "DATA"), 0);
    assert!(heard(world.mx("chunks.test"), "BDAT") > 4, "the large one in several");
}

#[tokio::test]
async fn rfc3030_2_chunks_arrive_octet_for_octet_over_data() {
    let world = World::start(lab().domain("dane.test", |d| d)).await;
    // Chunks end in the middle of a line, between CR and LF, and around a lone dot.
    let chunks = ["Subject: ch", "unks\r", "\n\r\n", ".", "\r\n.\r\nRSET\r\n", "", "..two\r\nlast\r\n"];
    let mut wire = format!("MAIL FROM:<{SENDER}>\r\nRCPT TO:<bob@dane.test>\r\n");
    for chunk in chunks {
        wire += &format!("BDAT {}\r\n{chunk}", chunk.len());
    }
    wire += "BDAT 0 LAST\r\n";
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    client.raw(wire.as_bytes()).await.unwrap();
    let mut last = client.reply().await.unwrap();
    for _reply in 0..chunks.len() + 2 {
        last = client.reply().await.unwrap();
        assert_eq!(last.code, 250, "{last}");
    }
    world.delivered(queue_id(&last.text()), "bob@dane.test").await;
    let received = world.mx("dane.test").messages();
    assert_eq!(String::from_utf8_lossy(below_received(&received[0])), chunks.concat());
}

#[tokio::test]
async fn rfc5321_6_1_a_client_that_leaves_before_the_dot_leaves_nothing() {
    let world = World::start(lab().domain("dane.test", |d| d)).await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let started = format!("MAIL FROM:<{SENDER}>\r\nRCPT TO:<bob@dane.test>\r\nDATA\r\nSubject: half\r\n");
    client.raw(started.as_bytes()).await.unwrap();
    for code in [250, 250, 354] {
        assert_eq!(client.reply().await.unwrap().code, code);
    }
    drop(client);
    // A whole message behind it is the only one that arrives.
    let id = world.send(SENDER, &["carol@dane.test"], content("carol@dane.test").as_bytes()).await;
    world.delivered(id, "carol@dane.test").await;
    assert_eq!(world.mx("dane.test").messages().len(), 1);
    assert_eq!(world.metrics().await["relay_messages_accepted_total"], 1.0);
}
