//! What the relay says to a mail server and what it makes of the answers (RFC 3461 §5.2,
//! RFC 6531 §3, RFC 9422, RFC 5321 §3.2, §4.5.3).

use crate::relay::{World, expect, lab};
use crate::scripted::{Answer, Scripted, Turn, envelope, mailer, offer, target, words};
use dane_relay::deliver::AttemptReport;
use dane_relay::deliver::driver::Mailer;
use dane_relay::envelope::{Charset, DsnRequest, Envelope, RecipientDsn};
use dane_relay::lab::mx::behaviour::{Behaviour, Mailboxes};
use dane_relay::lab::mx::host::RunningMxHost;
use dane_relay::outcome::{Class, DeliveryOutcome, Phase};
use std::net::Ipv4Addr;
use std::time::Duration;

/// A host of the lab that offers these keywords and refuses what needs any other.
async fn host(keywords: &[&str]) -> RunningMxHost {
    let keywords = keywords.iter().map(|&keyword| keyword.to_owned()).collect();
    let behaviour = Behaviour { keywords, ..Behaviour::default() };
    RunningMxHost::start("scripted.test", Ipv4Addr::LOCALHOST, 0, behaviour).await.unwrap()
}

/// A server that answers to one verb like this.
async fn answering(verb: &'static str, answer: impl Fn(&Turn<'_>) -> Answer + Send + Sync + 'static) -> Scripted {
    let script = move |turn: &Turn<'_>| if turn.line.starts_with(verb) { answer(turn) } else { Answer::Friendly };
    Scripted::start(script).await
}

/// Offers a message until all its recipients have an outcome; gives them by transaction.
async fn all_transactions(mailer: &Mailer, server: &Scripted, envelope: &Envelope) -> Vec<AttemptReport> {
    let mut waiting: Vec<usize> = (0..envelope.recipients.len()).collect();
    let mut reports = Vec::new();
    while !waiting.is_empty() {
        let report = offer(mailer, &target(server.address), envelope, &waiting).await;
        waiting.clone_from(&report.left);
        reports.push(report);
        assert!(reports.len() <= envelope.recipients.len(), "each transaction settles somebody");
    }
    reports
}

fn passed_on(report: &AttemptReport) -> Vec<bool> {
    let passed = |outcome: &DeliveryOutcome| match outcome {
        DeliveryOutcome::Delivered { notify_passed_on, .. } => *notify_passed_on,
        DeliveryOutcome::Failed { cause } => panic!("{cause:?}"),
    };
    report.outcomes.iter().map(|(_, outcome)| passed(outcome)).collect()
}

#[tokio::test]
async fn rfc3461_5_2_1_a_next_hop_with_dsn_gets_what_the_sender_asked_and_no_other_does() {
    let asked = RecipientDsn {
        notify: Some("SUCCESS,DELAY".parse().unwrap()),
        original: Some("rfc822;old+2Bname@example.org".parse().unwrap()),
    };
    let dsn = DsnRequest {
        ret: Some("HDRS".parse().unwrap()),
        envelope_id: Some("a+20b".parse().unwrap()),
        recipients: vec![asked],
    };
    let envelope = Envelope { dsn, ..envelope(2) };
    let mailer = mailer("");
    let with = host(&["DSN", "PIPELINING"]).await;
    let report = offer(&mailer, &target(with.address()), &envelope, &[0, 1]).await;
    assert_eq!(passed_on(&report), [true, false], "the second recipient asks for nothing");
    let received = &with.messages()[0];
    assert_eq!(received.mail_params, "RET=HDRS ENVID=a+20b");
    assert_eq!(received.rcpt_params, ["NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Bname@example.org", ""]);
    let without = host(&["PIPELINING"]).await;
    let report = offer(&mailer, &target(without.address()), &envelope, &[0, 1]).await;
    assert_eq!(passed_on(&report), [false, false]);
    let received = &without.messages()[0];
    assert_eq!((received.mail_params.as_str(), received.rcpt_params.join("")), ("", String::new()));
}

#[tokio::test]
async fn rfc6531_3_2_mail_that_needs_utf_8_goes_only_where_it_is_offered() {
    let declared = Envelope { charset: Charset::Utf8, ..envelope(1) };
    let addressed = Envelope { recipients: vec!["jürgen@scripted.test".parse().unwrap()], ..envelope(1) };
    let mailer = mailer("");
    for envelope in [declared, addressed] {
        let with = host(&["8BITMIME", "SMTPUTF8"]).await;
        assert_eq!(words(&offer(&mailer, &target(with.address()), &envelope, &[0]).await), ["delivered"]);
        let received = &with.messages()[0];
        assert_eq!(
            (received.mail_params.as_str(), &received.rcpt_to[0]),
            ("SMTPUTF8", &envelope.recipients[0].to_string())
        );
        let without = host(&["8BITMIME"]).await;
        let report = offer(&mailer, &target(without.address()), &envelope, &[0]).await;
        match &report.outcomes[0].1 {
            DeliveryOutcome::Failed { cause } => expect(cause, "smtputf8-not-offered", "5.6.7"),
            delivered @ DeliveryOutcome::Delivered { .. } => panic!("{delivered:?}"),
        }
        assert!(!without.seen().iter().any(|seen| seen.line.starts_with("MAIL")));
    }
}

#[tokio::test]
async fn rfc9422_4_2_no_more_recipients_in_a_transaction_than_the_server_takes() {
    for (keywords, connections) in [("PIPELINING", [1, 1, 1]), ("LIMITS MAILMAX=2", [1, 1, 2])] {
        let offer = format!("250-scripted.test\r\n250-{keywords}\r\n250 LIMITS RCPTMAX=2\r\n");
        // One LIMITS line is what RFC 9422 §3 knows.
        let offer = offer.replace("MAILMAX=2\r\n250 LIMITS ", "MAILMAX=2 ").replace("250-LIMITS", "250 LIMITS");
        let server = answering("EHLO", move |_turn| Answer::Say(offer.clone())).await;
        let reports = all_transactions(&mailer(""), &server, &envelope(5)).await;
        assert!(reports.iter().flat_map(words).all(|word| word == "delivered"));
        let [first, second, third] = connections;
        assert_eq!(server.transactions(), [(first, 2), (second, 2), (third, 1)], "{keywords}");
    }
}

#[tokio::test]
async fn rfc9422_4_2_one_attempt_reaches_all_recipients_in_as_many_transactions_as_it_takes() {
    for reuse_connections in [true, false] {
        let few = lab().domain("few.test", |d| d.host(|h| h.keyword("LIMITS RCPTMAX=2")));
        let world = World::with(few, |_lab, config| config.delivery.reuse_connections = reuse_connections).await;
        let users: Vec<String> = (0..5).map(|n| format!("u{n}@few.test")).collect();
        let to: Vec<&str> = users.iter().map(String::as_str).collect();
        let id = world.mail(&to).await;
        for user in to {
            let news = world.news(id, user, |known| !known.is_empty()).await;
            assert!(matches!(news[..], [DeliveryOutcome::Delivered { .. }]), "{news:?}");
        }
        let messages = world.mx("few.test").messages();
        let seen: Vec<(usize, usize)> = messages.iter().map(|m| (m.rcpt_to.len(), m.connection)).collect();
        let expected = if reuse_connections { [(2, 1), (2, 1), (1, 1)] } else { [(2, 1), (2, 2), (1, 3)] };
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn rfc5321_4_5_3_1_10_recipients_refused_for_their_number_go_in_a_further_transaction() {
    let replies = ["452 4.5.3 too many recipients\r\n", "552 too many recipients\r\n"];
    for (reply, reuse, connections) in
        [(replies[0], "", [1, 1, 1]), (replies[1], "", [1, 1, 1]), (replies[0], "reuse_connections = false", [1, 2, 3])]
    {
        let two = move |turn: &Turn<'_>| if turn.rcpts > 2 { Answer::Say(reply.into()) } else { Answer::Friendly };
        let server = answering("RCPT", two).await;
        let reports = all_transactions(&mailer(reuse), &server, &envelope(5)).await;
        let settled: Vec<usize> = reports.iter().flat_map(|r| r.outcomes.iter().map(|(index, _)| *index)).collect();
        assert_eq!(settled, [0, 1, 2, 3, 4], "in their order, each once");
        assert!(reports.iter().flat_map(words).all(|word| word == "delivered"));
        let of: Vec<usize> = server.transactions().iter().map(|(connection, _)| *connection).collect();
        assert_eq!(of, connections, "{reply} {reuse}");
    }
}

#[tokio::test]
async fn rfc5321_4_5_3_1_10_who_is_refused_with_nobody_accepted_waits() {
    let nobody = |_: &Turn<'_>| Answer::Say("452 4.5.3 too many recipients\r\n".into());
    let server = answering("RCPT", nobody).await;
    let reports = all_transactions(&mailer(""), &server, &envelope(2)).await;
    assert_eq!(reports.len(), 1, "no transaction after one that settled nothing");
    assert_eq!(words(&reports[0]), ["rejected-for-now", "rejected-for-now"]);
    // A full mailbox is no matter of numbers.
    let full = |turn: &Turn<'_>| match turn.rcpts {
        2 => Answer::Say("452 4.2.2 mailbox full\r\n".into()),
        _ => Answer::Friendly,
    };
    let server = answering("RCPT", full).await;
    let reports = all_transactions(&mailer(""), &server, &envelope(3)).await;
    assert_eq!(words(&reports[0]), ["delivered", "rejected-for-now", "delivered"]);
}

#[tokio::test]
async fn rfc5321_4_5_3_1_5_a_flood_instead_of_a_reply_is_a_fault_of_that_server() {
    for flood in [&b"250-and so on\r\n"[..], b"2"] {
        for verb in ["EHLO", "MAIL", "."] {
            let server = answering(verb, move |_turn| Answer::Flood(flood)).await;
            let report = offer(&mailer(""), &target(server.address), &envelope(1), &[0]).await;
            let word = if verb == "." { "perhaps-taken" } else { "protocol-error" };
            assert_eq!(words(&report), [word], "{verb}");
            assert!(
                matches!(&report.outcomes[0].1, DeliveryOutcome::Failed { cause } if cause.class() == Class::Transient)
            );
        }
    }
}

/// Every way in which a reply can be odd, and what it is when it answers the end of the content.
const ODD: &[(&str, &str)] = &[
    ("250-2.0.0 kept\r\n251 2.0.0 by another\r\n", "delivered"),
    ("250-kept\r\nas 42\r\n250 it is\r\n", "delivered"),
    ("250-kept\r\n999-as\r\n250 it is\r\n", "delivered"),
    ("\r\n250 kept\r\n", "delivered"),
    ("250\r\n", "delivered"),
    ("250\n", "delivered"),
    ("250 kept\n", "delivered"),
    ("250kept\r\n", "delivered"),
    ("250\tkept\r\n", "delivered"),
    ("250 kept\ras 42\r\n", "delivered"),
    ("299 kept\r\n", "delivered"),
    ("250 ok\r\n250 ok\r\n", "delivered"),
    ("450-4.3.0 busy\r\n550 5.3.0 no\r\n", "rejected"),
    ("250-ok\r\n451 4.3.0 not yet\r\n", "rejected-for-now"),
    ("600 what\r\n", "perhaps-taken"),
    ("250-kept\r\n600 what\r\n", "perhaps-taken"),
    ("199 what\r\n", "perhaps-taken"),
    ("354 go on\r\n", "perhaps-taken"),
    ("ok\r\n", "perhaps-taken"),
    ("2500 kept\r\n", "perhaps-taken"),
    ("25\r\n", "perhaps-taken"),
    ("2 5 0 kept\r\n", "perhaps-taken"),
    ("\u{ff}\u{ff}\u{ff}\r\n", "perhaps-taken"),
    ("HTTP/1.1 200 OK\r\n\r\n", "perhaps-taken"),
];

#[tokio::test]
async fn rfc5321_4_2_the_last_line_decides_after_the_dot_and_what_cannot_be_read_means_perhaps_taken() {
    for (odd, expected) in ODD {
        let server = answering(".", move |_turn| Answer::Say((*odd).into())).await;
        let report = offer(&mailer(""), &target(server.address), &envelope(1), &[0]).await;
        assert_eq!(words(&report), [*expected], "{odd:?}");
    }
}

#[tokio::test]
async fn rfc5321_6_1_a_reply_to_the_dot_that_does_not_come_means_perhaps_taken() {
    let answers: [fn() -> Answer; 4] =
        [|| Answer::Close, || Answer::Hang, || Answer::Say("250 kept\r".into()), || Answer::Say("250-kept\r\n".into())];
    for answer in answers {
        let server = answering(".", move |_turn| answer()).await;
        let report = offer(&mailer("reply_timeout = \"1s\""), &target(server.address), &envelope(1), &[0]).await;
        assert_eq!(words(&report), ["perhaps-taken"]);
    }
}

#[tokio::test]
async fn rfc5321_4_1_1_4_a_250_before_the_dot_is_no_delivery() {
    for (verb, early) in
        [("DATA", "354 go on\r\n250 kept\r\n"), ("MAIL", "250 ok\r\n250 ok\r\n"), ("DATA", "250 kept\r\n")]
    {
        let server = answering(verb, move |_turn| Answer::Say(early.into())).await;
        let report = offer(&mailer(""), &target(server.address), &envelope(1), &[0]).await;
        assert_eq!(words(&report), ["protocol-error"], "{verb} {early:?}");
        assert!(!server.on(1).contains(&".".to_owned()), "the end of the content is not sent");
    }
}

#[tokio::test]
async fn rfc3030_2_a_server_that_offers_chunks_and_does_not_know_them_gets_data_from_then_on() {
    let server = Scripted::start(|turn| match turn.line.get(..4) {
        Some("EHLO") => Answer::Say("250-scripted.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n".into()),
        Some("BDAT") => Answer::Say("502 5.5.1 not known here\r\n".into()),
        Some(_) | None => Answer::Friendly,
    })
    .await;
    let mailer = mailer("");
    for connection in [2, 2] {
        let report = offer(&mailer, &target(server.address), &envelope(1), &[0]).await;
        assert_eq!(words(&report), ["delivered"]);
        assert!(server.on(connection).contains(&"DATA".to_owned()), "{:?}", server.on(connection));
    }
    assert_eq!(server.transactions(), [(2, 1), (2, 1)]);
}

#[tokio::test]
async fn rfc3030_4_2_the_recipients_of_a_server_that_takes_none_cost_no_content() {
    let server = host(&["PIPELINING", "CHUNKING"]).await;
    server.behave(|behaviour| behaviour.known = Mailboxes::Only(["u1".to_owned()].into()));
    let mailer = mailer("");
    let refused = offer(&mailer, &target(server.address()), &envelope(1), &[0]).await;
    assert_eq!(words(&refused), ["rejected"]);
    assert!(!server.seen().iter().any(|seen| seen.line.starts_with("BDAT")));
    let partly = offer(&mailer, &target(server.address()), &envelope(2), &[0, 1]).await;
    assert_eq!(words(&partly), ["rejected", "delivered"]);
    assert!(server.seen().iter().any(|seen| seen.line.starts_with("BDAT") && seen.line.ends_with(" LAST")));
    assert!(!server.seen().iter().any(|seen| seen.line.starts_with("DATA")));
}

#[tokio::test]
async fn rfc5321_3_8_a_server_that_closes_over_one_recipient_too_many_gets_fewer_the_next_time() {
    let server = answering("RCPT", |turn| match turn.rcpts {
        0..=3 => Answer::Friendly,
        _ => Answer::Say("421 4.7.0 too many recipients\r\n".into()),
    })
    .await;
    let mailer = mailer("");
    let first = offer(&mailer, &target(server.address), &envelope(7), &[0, 1, 2, 3, 4, 5, 6]).await;
    assert_eq!(words(&first), ["rejected-for-now"; 7]);
    let reports = all_transactions(&mailer, &server, &envelope(7)).await;
    assert!(reports.iter().flat_map(words).all(|word| word == "delivered"));
    assert_eq!(server.transactions().iter().map(|(_, rcpts)| *rcpts).collect::<Vec<_>>(), [3, 3, 1]);
}

#[tokio::test]
async fn rfc5321_4_5_3_1_5_a_reply_of_tens_of_kilobytes_is_read() {
    let long = format!("550-5.6.0 {}\r\n550 5.6.0 because of this\r\n", "<header>".repeat(5000));
    let server = answering(".", move |_turn| Answer::Say(long.clone())).await;
    let report = offer(&mailer(""), &target(server.address), &envelope(1), &[0]).await;
    assert_eq!(words(&report), ["rejected"]);
    let DeliveryOutcome::Failed { cause } = &report.outcomes[0].1 else { panic!("{report:?}") };
    assert!(cause.sentence().ends_with("because of this"), "{}", cause.sentence());
}

#[tokio::test]
async fn rfc5321_3_2_helo_follows_a_permanent_refusal_of_ehlo_and_no_other() {
    for (reply, said) in [
        ("500 5.5.1 what\r\n", true),
        ("502 5.5.1 what\r\n", true),
        ("504 5.5.4 what\r\n", true),
        ("550 5.7.1 what\r\n", true),
        ("421 4.3.2 later\r\n", false),
        ("450 4.3.2 later\r\n", false),
        ("451 4.3.2 later\r\n", false),
        ("354 go on\r\n", false),
    ] {
        let server = answering("EHLO", move |_turn| Answer::Say(reply.into())).await;
        let report = offer(&mailer(""), &target(server.address), &envelope(1), &[0]).await;
        let refused = if reply.starts_with('3') { "protocol-error" } else { "rejected-for-now" };
        assert_eq!(words(&report), [if said { "delivered" } else { refused }], "{reply}");
        assert_eq!(server.on(1).iter().any(|line| line.starts_with("HELO ")), said, "{reply}");
    }
}

#[test]
fn rfc5321_4_5_3_2_every_step_has_the_time_that_the_standard_asks_for() {
    let delivery = dane_relay::config::DeliveryConfig::default();
    let minutes = |phase| dane_relay::deliver::time_limit(phase, delivery.connect_timeout, delivery.reply_timeout);
    for (phase, least) in [
        (Phase::Greeting, 5),
        (Phase::Ehlo, 5),
        (Phase::EhloInTls, 5),
        (Phase::MailFrom, 5),
        (Phase::RcptTo, 5),
        (Phase::Data, 2),
        (Phase::Content, 3),
        (Phase::EndOfData, 10),
    ] {
        assert!(minutes(phase) >= Duration::from_secs(60 * least), "{phase:?}");
    }
}
