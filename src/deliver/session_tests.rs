//! Conversations from both sides: `S:` what the server says, `C:` what we must say.

use super::{Event, Job, Session, StartTlsUse, Step, Transfer, TransportFault};
use crate::deliver::message::{Message, Recipient};
use crate::envelope::{BodyType, Charset, RecipientDsn};
use crate::outcome::{Cause, Class, DeliveryOutcome, DemandedBy, Peer, Phase, TlsVerdict};
use crate::smtp::address::ReversePath;
use crate::smtp::reply::{Reply, ReplyError, ReplyParser};

fn message(recipients: &[&str]) -> Message {
    Message {
        reverse_path: ReversePath::Mailbox("sender@example.org".parse().unwrap()),
        recipients: recipients.iter().enumerate().map(|(place, address)| recipient(place, address)).collect(),
        size: 1234,
        body: BodyType::SevenBit,
        conversion: None,
        signatures: None,
        converted_signatures: None,
        charset: Charset::Ascii,
        require_tls: false,
        ret: None,
        envelope_id: None,
    }
}

fn recipient(place: usize, address: &str) -> Recipient {
    Recipient { index: place + 7, address: address.parse().unwrap(), dsn: RecipientDsn::NOTHING }
}

fn session(starttls: StartTlsUse, message: Option<Message>) -> Session {
    let peer = Peer { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() };
    let hostname = "relay.example.org".into();
    Session::new(Job {
        hostname,
        peer,
        starttls,
        require_tls: false,
        most_recipients: None,
        transfer: Transfer::ChunksWhereOffered,
        message,
        login: None,
    })
}

fn reply(text: &str) -> Reply {
    let mut parser = ReplyParser::default();
    let mut lines = text.split('|');
    loop {
        if let Some(reply) = parser.line(lines.next().unwrap().as_bytes()).unwrap() {
            return reply;
        }
    }
}

/// Plays a conversation to its end and gives what was said and the outcomes.
/// `TLS`, `BODY` and `LOST` among the replies stand for the driver's own events.
fn play(mut session: Session, replies: &[&str]) -> (Vec<String>, Session) {
    let mut said = Vec::new();
    let mut step = session.on(Event::Connected);
    for event in replies {
        match &step {
            Step::Send(bytes, _) => said.push(String::from_utf8(bytes.clone()).unwrap()),
            Step::StartTls => said.push("<handshake>".into()),
            Step::SendBody => said.push("<body>".into()),
            Step::SendChunks => said.push("<chunks>".into()),
            Step::Await(_) => {}
            Step::Finish | Step::SendSecret(_) => panic!("the session ended before {event}"),
        }
        step = session.on(match *event {
            "TLS" => Event::Secured(TlsVerdict::Unauthenticated { version: "TLSv1.3".into() }),
            "BODY" => Event::BodySent,
            "CHUNKS" => Event::ChunksSent(2),
            "LOST" => Event::Broken(TransportFault::Lost("reset".into())),
            "SILENCE" => Event::Broken(TransportFault::TimedOut),
            "ODD" => Event::Broken(TransportFault::NotSmtp(ReplyError::Syntax("600 what".into()))),
            text => Event::Reply(reply(text)),
        });
    }
    assert_eq!(step, Step::Finish);
    (said, session)
}

fn words(session: &Session) -> Vec<(usize, String)> {
    let word = |outcome: &DeliveryOutcome| match outcome {
        DeliveryOutcome::Delivered { .. } => "delivered".to_owned(),
        DeliveryOutcome::Failed { cause } => format!("{} {}", cause.row().word, cause.row().status),
    };
    session.outcomes().iter().map(|(i, o)| (*i, word(o))).collect()
}

const PLAIN: [&str; 2] = ["220 mx", "250-mx|250 SIZE"];

fn in_clear(rest: &[&str]) -> Vec<(usize, String)> {
    let replies: Vec<&str> = PLAIN.iter().chain(rest).copied().collect();
    words(&play(session(StartTlsUse::IfOffered, Some(message(&["a@x.example", "b@x.example"]))), &replies).1)
}

fn both(word: &str) -> Vec<(usize, String)> {
    vec![(7, word.into()), (8, word.into())]
}

#[test]
fn rfc3207_4_2_what_was_offered_before_tls_is_forgotten() {
    let (said, session) = play(
        session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))),
        &[
            "220 mx",
            "250-mx|250-PIPELINING|250-SIZE 9|250 STARTTLS",
            "220 go",
            "TLS",
            "250 mx",
            "250 ok",
            "250 ok",
            "354 go",
            "BODY",
            "250 2.0.0 kept",
        ],
    );
    assert_eq!(
        said,
        [
            "EHLO relay.example.org\r\n",
            "STARTTLS\r\n",
            "<handshake>",
            "EHLO relay.example.org\r\n",
            "MAIL FROM:<sender@example.org>\r\n",
            "RCPT TO:<a@x.example>\r\n",
            "DATA\r\n",
            "<body>"
        ]
    );
    assert_eq!(words(&session), [(7, "delivered".to_owned())]);
}

#[test]
fn rfc2920_3_1_a_group_is_one_write_and_every_reply_is_read() {
    let (said, session) = play(
        session(StartTlsUse::IfOffered, Some(message(&["a@x.example", "b@x.example"]))),
        &["220 mx", "250-mx|250-SIZE|250 PIPELINING", "250 ok", "250 ok", "550 5.1.1 who", "354 go", "BODY", "250 ok"],
    );
    assert_eq!(
        said[1],
        "MAIL FROM:<sender@example.org> SIZE=1234\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n"
    );
    assert_eq!(words(&session), [(7, "delivered".to_owned()), (8, "rejected 5.1.1".to_owned())]);
}

#[test]
fn rfc2920_3_1_a_354_without_recipients_gets_a_lone_dot_and_no_content() {
    for replies in [
        ["220 mx", "250-mx|250 PIPELINING", "250 ok", "550 5.1.1 no", "550 5.1.1 no", "354 go", "554 none"],
        ["220 mx", "250-mx|250 PIPELINING", "451 4.7.1 later", "503 no", "503 no", "354 go", "250 odd"],
    ] {
        let (said, session) =
            play(session(StartTlsUse::IfOffered, Some(message(&["a@x.example", "b@x.example"]))), &replies);
        assert_eq!(said.last().unwrap(), ".\r\n");
        assert!(!words(&session).iter().any(|(_, word)| word == "delivered"));
    }
}

#[test]
fn rfc5321_4_2_1_every_step_and_class_has_its_outcome_for_each_recipient() {
    assert_eq!(in_clear(&["451 4.3.0 later"]), both("rejected-for-now 4.3.0"));
    assert_eq!(in_clear(&["550 5.7.1 no"]), both("rejected 5.7.1"));
    assert_eq!(
        in_clear(&["250 ok", "451 4.7.1 grey", "550 5.1.1 no"]),
        [(7, "rejected-for-now 4.7.1".to_owned()), (8, "rejected 5.1.1".to_owned())]
    );
    assert_eq!(in_clear(&["250 ok", "250 ok", "250 ok", "451 4.3.0 x"]), both("rejected-for-now 4.3.0"));
    assert_eq!(in_clear(&["250 ok", "250 ok", "250 ok", "554 5.3.0 x"]), both("rejected 5.3.0"));
    let to_the_dot = ["250 ok", "550 5.1.1 no", "250 ok", "354 go", "BODY"];
    let dot = |last: &'static str| in_clear(&[&to_the_dot[..], &[last]].concat());
    assert_eq!(dot("250 ok")[1].1, "delivered");
    assert_eq!(dot("452 4.3.1 full"), [(7, "rejected 5.1.1".to_owned()), (8, "rejected-for-now 4.3.1".to_owned())]);
    assert_eq!(dot("554 5.6.0 no")[1].1, "rejected 5.6.0");
}

#[test]
fn rfc5321_6_1_what_is_no_reply_to_the_dot_means_perhaps_taken() {
    for last in ["LOST", "SILENCE", "ODD", "354 go on", "300 odd"] {
        let (_, session) = play(
            session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))),
            &["220 mx", "250 mx", "250 ok", "250 ok", "354 go", "BODY", last],
        );
        let DeliveryOutcome::Failed { cause } = session.outcomes()[0].1.clone() else { panic!("delivered") };
        assert_eq!(cause.class(), Class::Transient);
        assert!(matches!(cause, Cause::PerhapsTaken { .. }) && cause.may_be_delivered(), "{last} {cause:?}");
        assert!(cause.sentence().contains("may have arrived"), "{}", cause.sentence());
    }
}

#[test]
fn rfc5321_4_2_1_only_a_refusal_is_a_refusal_and_before_the_dot_nothing_is_taken() {
    let to_data: &[&str] = &["250 ok", "250 ok", "250 ok"];
    for (before, odd) in
        [(&[][..], "354 odd"), (&["250 ok"], "300 odd"), (to_data, "ODD"), (&["250 ok", "250 ok"][..], "ODD")]
    {
        let after = [before, &[odd]].concat();
        let fill: &[&str] = if before.len() == 1 { &["250 ok", "354 go", "BODY", "250 ok"] } else { &[] };
        let words = in_clear(&[&after[..], fill].concat());
        assert_eq!(words[0], (7, "protocol-error 4.5.0".to_owned()), "{after:?}");
    }
    let early = in_clear(&[to_data, &["354 go", "250 taken already"]].concat());
    assert_eq!(early, both("protocol-error 4.5.0"), "the end of the content is not even sent");
    assert_eq!(in_clear(&[to_data, &["250 no content wanted"]].concat()), both("protocol-error 4.5.0"));
}

#[test]
fn rfc3207_4_what_is_said_for_want_of_tls_is_no_verdict_on_the_mail() {
    let refusing = ["220 mx", "250-mx|250 STARTTLS", "454 4.7.0 no TLS now"];
    let silent = ["220 mx", "250 mx"];
    let told = |start: &[&str], last: &str| {
        let replies = [start, &[last]].concat();
        let (_, ended) = play(session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))), &replies);
        ended.failure().cloned().unwrap()
    };
    let cause = told(&refusing, "530 5.7.0 Must issue a STARTTLS command first");
    assert_eq!(cause.row().word, "starttls-not-supported");
    assert!(cause.class() == Class::Transient && cause.sentence().contains("454 4.7.0"), "{}", cause.sentence());
    assert!(matches!(told(&silent, "530 5.7.0 TLS first"), Cause::StarttlsNotOffered { .. }));
    assert!(matches!(told(&refusing, "550 5.1.1 no such user"), Cause::Rejected { .. }));
    let handshake = Cause::TlsHandshake { peer: cause_peer(), detail: "bad record".into() };
    let job = session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))).job;
    let replies = ["220 mx", "250-mx|250 STARTTLS", "250 ok", "554 5.7.1 encryption needed"];
    let (said, down) = play(Session::stepping_down(job, handshake), &replies);
    assert!(!said.iter().any(|line| line.starts_with("STARTTLS")), "{said:?}");
    assert_eq!(words(&down), [(7, "tls-handshake-failed 4.7.321".to_owned())]);
}

fn cause_peer() -> Peer {
    Peer { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() }
}

#[test]
fn rfc3207_4_without_fall_back_a_refused_starttls_ends_the_conversation() {
    let refused = |starttls, reply| {
        let replies = ["220 mx", "250-mx|250 STARTTLS", reply];
        let (said, ended) = play(session(starttls, Some(message(&["a@x.example"]))), &replies);
        assert_eq!(said.last().unwrap(), "STARTTLS\r\n");
        words(&ended)[0].1.clone()
    };
    assert_eq!(refused(StartTlsUse::AsOffered, "454 4.7.0 not now"), "starttls-not-supported 4.7.321");
    assert_eq!(refused(StartTlsUse::AsOffered, "501 what"), "starttls-not-supported 4.7.321");
    assert_eq!(refused(StartTlsUse::IfOffered, "421 4.7.0 closing"), "starttls-not-supported 4.7.321");
    let (said, _) =
        play(session(StartTlsUse::AsOffered, Some(message(&["a@x.example"]))), &["220 mx", "250 mx", "550 no"]);
    assert!(said.last().unwrap().starts_with("MAIL"), "what is not offered is not missed");
}

#[test]
fn rfc5321_3_8_a_server_that_closes_over_one_recipient_too_many_says_how_many_it_bears() {
    let to = || message(&["a@x.example", "b@x.example", "c@x.example"]);
    for ehlo in ["250 mx", "250-mx|250 PIPELINING"] {
        let replies = ["220 mx", ehlo, "250 ok", "250 ok", "250 ok", "421 4.7.0 too many", "LOST"];
        let (_, ended) = play(session(StartTlsUse::IfOffered, Some(to())), &replies);
        assert_eq!(ended.bore(), Some(2));
        let outcomes = words(&ended);
        assert!(outcomes.iter().all(|(_, word)| word == "rejected-for-now 4.7.0"), "{outcomes:?}");
    }
    let mut fewer = session(StartTlsUse::IfOffered, Some(to()));
    fewer.job.most_recipients = Some(2);
    let replies = ["220 mx", "250-mx|250 LIMITS RCPTMAX=9", "250 ok", "250 ok", "250 ok", "354 go", "BODY", "250 ok"];
    let (_, fewer) = play(fewer, &replies);
    assert_eq!((words(&fewer), fewer.left()), (both("delivered"), vec![9]));
    let first = ["220 mx", "250 mx", "250 ok", "421 4.7.0 go away", "LOST"];
    assert_eq!(play(session(StartTlsUse::IfOffered, Some(to())), &first).1.bore(), None);
}

#[test]
fn rfc5321_4_3_2_the_words_of_a_greeting_that_refuses_are_the_cause() {
    let replies = ["220-mx.example|220-one moment|521 5.7.1 blocked by list"];
    let (_, refused) = play(session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))), &replies);
    assert_eq!(words(&refused), [(7, "rejected 5.7.1".to_owned())]);
    assert!(refused.failure().unwrap().sentence().contains("blocked by list"), "{:?}", refused.failure());
}

#[test]
fn rfc7672_2_2_a_host_that_owes_tls_gets_nothing_in_clear() {
    for (replies, expected) in [
        (vec!["220 mx", "250 mx"], "starttls-not-supported 4.7.321"),
        (vec!["220 mx", "250-mx|250 STARTTLS", "454 no"], "starttls-not-supported 4.7.321"),
        (vec!["220 mx", "502 what"], "starttls-not-supported 4.7.321"),
        (vec!["220 mx", "250-mx|250 STARTTLS", "LOST"], "connection-lost 4.4.2"),
        (vec!["220 mx", "250-mx|250 STARTTLS", "220 go", "LOST"], "connection-lost 4.4.2"),
    ] {
        let (said, session) =
            play(session(StartTlsUse::Required(DemandedBy::Dane), Some(message(&["a@x.example"]))), &replies);
        assert_eq!(words(&session), [(7, expected.to_owned())], "{replies:?}");
        assert!(!said.iter().any(|line| line.starts_with("MAIL") || line.starts_with("HELO")), "{said:?}");
    }
}

#[test]
fn rfc5321_3_2_helo_follows_only_a_permanent_refusal_of_ehlo() {
    let (said, helo) = play(
        session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))),
        &["220 mx", "502 what", "250 mx", "250 ok", "250 ok", "354 go", "BODY", "250 ok"],
    );
    assert_eq!(said[1], "HELO relay.example.org\r\n");
    assert_eq!(words(&helo), [(7, "delivered".to_owned())]);
    let (_, later) =
        play(session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))), &["220 mx", "421 4.3.2 later"]);
    assert_eq!(words(&later), [(7, "rejected-for-now 4.3.2".to_owned())]);
}

#[test]
fn rfc1870_6_a_message_above_the_limit_is_not_offered() {
    let (said, session) =
        play(session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))), &["220 mx", "250-mx|250 SIZE 1000"]);
    assert_eq!(said, ["EHLO relay.example.org\r\n"]);
    assert_eq!(words(&session), [(7, "message-too-large 5.3.4".to_owned())]);
}

#[test]
fn rfc6152_3_declared_8_bit_content_needs_8bitmime() {
    let eight_bit = || Some(Message { body: BodyType::EightBitMime, ..message(&["a@x.example"]) });
    let (_, refused) = play(session(StartTlsUse::IfOffered, eight_bit()), &["220 mx", "250 mx"]);
    assert_eq!(words(&refused), [(7, "eight-bit-not-offered 5.6.3".to_owned())]);
    let (said, _) =
        play(session(StartTlsUse::IfOffered, eight_bit()), &["220 mx", "250-mx|250 8BITMIME", "550 5.7.1 no"]);
    assert_eq!(said[1], "MAIL FROM:<sender@example.org> BODY=8BITMIME\r\n");
}

#[test]
fn rfc3030_2_a_server_with_chunking_gets_chunks_once_a_recipient_is_taken() {
    let start = ["220 mx", "250-mx|250-PIPELINING|250 CHUNKING", "250 ok"];
    let after = |rest: &[&str]| {
        let to = message(&["a@x.example", "b@x.example"]);
        let (said, session) = play(session(StartTlsUse::IfOffered, Some(to)), &[&start, rest].concat());
        assert!(said[1].contains("RCPT") && !said[1].contains("DATA"), "{said:?}");
        (said.last().unwrap() == "<chunks>", words(&session))
    };
    let ok = ["250 ok", "550 5.1.1 who", "CHUNKS", "250 one", "250 two"];
    let expected = vec![(7, "delivered".to_owned()), (8, "rejected 5.1.1".to_owned())];
    assert_eq!(after(&[&ok[..], &["250 all of it"]].concat()), (true, expected));
    assert_eq!(after(&["550 5.1.1 who", "550 5.1.1 who"]), (false, both("rejected 5.1.1")));
    for (rest, word) in [
        (&["CHUNKS", "250 one", "452 4.3.1 full"][..], "rejected-for-now 4.3.1"),
        (&["CHUNKS", "250 one", "250 two", "554 5.6.0 no"], "rejected 5.6.0"),
        (&["552 5.3.4 too much"], "rejected 5.3.4"),
        (&["CHUNKS", "LOST"], "perhaps-taken 4.4.2"),
        (&["CHUNKS", "250 one", "250 two", "SILENCE"], "perhaps-taken 4.4.2"),
        (&["CHUNKS", "250 one", "ODD"], "perhaps-taken 4.4.2"),
        (&["LOST"], "connection-lost 4.4.2"),
    ] {
        assert_eq!(after(&[&["250 ok", "250 ok"], rest].concat()).1, both(word), "{rest:?}");
    }
}

#[test]
fn rfc3030_2_a_server_that_does_not_know_what_it_offers_gets_data() {
    let unknown = |transfer, last| {
        let mut session = session(StartTlsUse::IfOffered, Some(message(&["a@x.example"])));
        session.job.transfer = transfer;
        let chunks = ["220 mx", "250-mx|250 CHUNKING", "250 ok", "250 ok", last];
        let data = ["220 mx", "250-mx|250 CHUNKING", "250 ok", "250 ok", "354 go", "BODY", last];
        let replies: &[&str] = if transfer == Transfer::Data { &data } else { &chunks };
        play(session, replies).1.knows_no_chunks()
    };
    for last in ["500 5.5.1 what", "502 no", "503 5.5.1 bad sequence"] {
        assert!(unknown(Transfer::ChunksWhereOffered, last), "{last}");
        assert!(!unknown(Transfer::Data, last), "{last}");
    }
    for last in ["552 5.3.4 too much", "554 5.6.0 no", "451 4.3.0 later"] {
        assert!(!unknown(Transfer::ChunksWhereOffered, last), "{last}");
    }
}

#[test]
fn a_probe_stops_before_mail() {
    let (said, session) =
        play(session(StartTlsUse::IfOffered, None), &["220 mx", "250-mx|250 STARTTLS", "220 go", "TLS", "250 mx"]);
    assert!(!said.iter().any(|line| line.starts_with("MAIL")));
    assert!(session.failure().is_none());
    assert!(session.outcomes().is_empty());
}

#[test]
fn a_refusal_in_the_middle_of_the_content_is_the_cause() {
    let (_, session) = play(
        session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))),
        &["220 mx", "250 mx", "250 ok", "250 ok", "354 go", "552 5.3.4 too much"],
    );
    assert!(matches!(session.failure(), Some(Cause::Rejected { phase: Phase::Content, .. })));
}

/// Plays a whole message to a server with that offer, on a new connection.
fn delivered(starttls: StartTlsUse, start: &[&str]) -> Session {
    let to_the_end = ["250 ok", "250 ok", "354 go", "BODY", "250 kept"];
    let replies = [start, &to_the_end].concat();
    play(session(starttls, Some(message(&["a@x.example"]))), &replies).1
}

/// A session for another message on the same connection.
fn next_on(first: &Session) -> Session {
    let new = session(StartTlsUse::IfOffered, Some(message(&["b@x.example", "c@x.example"])));
    Session::ready(new.job, first.learned().unwrap())
}

const IN_TLS: [&str; 5] = ["220 mx", "250-mx|250 STARTTLS", "220 go", "TLS", "250-mx|250-SIZE|250 PIPELINING"];

#[test]
fn rfc5321_4_1_1_4_a_further_message_begins_with_mail_under_what_was_learned() {
    let first = delivered(StartTlsUse::IfOffered, &IN_TLS);
    let (said, second) = play(next_on(&first), &["250 ok", "250 ok", "250 ok", "354 go", "BODY", "250 ok"]);
    let group =
        "MAIL FROM:<sender@example.org> SIZE=1234\r\nRCPT TO:<b@x.example>\r\nRCPT TO:<c@x.example>\r\nDATA\r\n";
    assert_eq!(said, [group, "<body>"]);
    assert_eq!(words(&second), both("delivered"));
    assert_eq!(second.tls(), first.tls());
    assert!(second.learned().is_some(), "and so on");
}

#[test]
fn rfc5321_4_1_1_4_only_an_accepted_message_leaves_a_connection_for_another() {
    let ends = |last: &str| {
        let (_, ended) = play(
            session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))),
            &["220 mx", "250 mx", "250 ok", "250 ok", "354 go", "BODY", last],
        );
        ended.learned().is_some()
    };
    assert!(ends("250 kept"));
    for last in ["451 4.3.0 later", "554 5.6.0 no", "354 odd", "LOST", "SILENCE"] {
        assert!(!ends(last), "{last}");
    }
    let (_, refused) =
        play(session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))), &["220 mx", "250 mx", "550 5.7.1 no"]);
    assert!(refused.learned().is_none());
    let (_, probe) = play(session(StartTlsUse::IfOffered, None), &PLAIN);
    assert!(probe.learned().is_none());
}

#[test]
fn rfc3207_4_after_a_fall_back_to_clear_text_the_next_message_tries_tls_again() {
    let plain = ["220 mx", "250 mx"];
    let offering = ["220 mx", "250-mx|250 STARTTLS"];
    let refusing = ["220 mx", "250-mx|250 STARTTLS", "454 4.7.0 not now"];
    assert!(delivered(StartTlsUse::IfOffered, &plain).learned().is_some(), "there was nothing to fall back from");
    assert!(delivered(StartTlsUse::Never, &offering).learned().is_some(), "the operator wants none");
    assert!(delivered(StartTlsUse::IfOffered, &refusing).learned().is_none());
    assert!(delivered(StartTlsUse::NotAgain, &offering).learned().is_none());
    assert!(delivered(StartTlsUse::NotAgain, &plain).learned().is_none());
}

#[test]
fn rfc5321_3_8_what_a_reused_connection_may_be_the_reason_of_is_asked_again() {
    let again = |replies: &[&str]| {
        let first = delivered(StartTlsUse::IfOffered, &["220 mx", "250 mx"]);
        play(next_on(&first), replies).1.to_ask_again()
    };
    for replies in [["421 4.4.2 idle"], ["LOST"], ["SILENCE"], ["ODD"], ["450 4.7.1 later"], ["550 too many"]] {
        assert_eq!(again(&replies), [7, 8], "{replies:?}");
    }
    for (replies, expected) in [
        (&["250 ok", "421 4.3.2 closing", "421 4.3.2 closing"][..], &[7, 8][..]),
        (&["250 ok", "250 ok", "550 too many in this session", "354 go", "BODY", "250 ok"], &[8]),
        (&["250 ok", "250 ok", "550 5.7.1 too many", "LOST"], &[8]),
        (&["250 ok", "550 5.1.1 who", "550 5.2.1 off"], &[]),
        (&["250 ok", "250 ok", "452 4.5.3 too many", "354 go", "BODY", "250 ok"], &[]),
        (&["250 ok", "LOST"], &[]),
        (&["250 ok", "250 ok", "250 ok", "LOST"], &[]),
        (&["250 ok", "250 ok", "250 ok", "354 go", "LOST"], &[]),
        (&["250 ok", "250 ok", "250 ok", "354 go", "BODY", "LOST"], &[]),
        (&["250 ok", "250 ok", "250 ok", "354 go", "BODY", "421 4.3.2 closing"], &[]),
    ] {
        assert_eq!(again(replies), expected, "{replies:?}");
    }
    let (_, fresh) =
        play(session(StartTlsUse::IfOffered, Some(message(&["a@x.example"]))), &["220 mx", "250 mx", "550 no"]);
    assert!(fresh.to_ask_again().is_empty(), "a fresh connection is no reason");
}

#[test]
fn rfc9422_4_2_recipients_above_the_limit_are_left_unless_the_message_itself_failed() {
    let after = |replies: &[&str]| {
        let start = ["220 mx", "250-mx|250-PIPELINING|250 LIMITS RCPTMAX=1"];
        let to = message(&["a@x.example", "b@x.example"]);
        let (said, session) = play(session(StartTlsUse::IfOffered, Some(to)), &[&start, replies].concat());
        assert_eq!(said[1].matches("RCPT").count(), 1);
        (words(&session), session.left())
    };
    let one = |word: &str| (vec![(7, word.to_owned())], vec![8]);
    assert_eq!(after(&["250 ok", "250 ok", "354 go", "BODY", "250 ok"]), one("delivered"));
    assert_eq!(after(&["250 ok", "550 5.1.1 who", "554 none"]), one("rejected 5.1.1"));
    assert_eq!(after(&["250 ok", "452 4.5.3 many", "554 none"]), one("rejected-for-now 4.5.3"));
    assert_eq!(after(&["550 5.7.1 no", "503 no", "503 no"]), (both("rejected 5.7.1"), vec![]));
    assert_eq!(after(&["250 ok", "250 ok", "354 go", "BODY", "554 5.6.0 no"]), (both("rejected 5.6.0"), vec![]));
    assert_eq!(after(&["250 ok", "250 ok", "LOST"]), (both("connection-lost 4.4.2"), vec![]));
}

#[test]
fn rfc5321_4_5_3_1_10_who_was_refused_for_the_number_is_left_when_others_were_accepted() {
    let after = |last: &str| {
        let replies = ["220 mx", "250 mx", "250 ok", "250 ok", "452 4.5.3 many", "354 go", "BODY", last];
        let (_, session) =
            play(session(StartTlsUse::IfOffered, Some(message(&["a@x.example", "b@x.example"]))), &replies);
        (words(&session), session.left())
    };
    assert_eq!(after("250 ok"), (vec![(7, "delivered".to_owned())], vec![8]));
    let (outcomes, left) = after("451 4.3.0 later");
    assert_eq!((outcomes.len(), left.len()), (2, 0), "the next attempt has them all");
}

#[test]
fn rfc3461_5_2_1_a_delivered_recipient_says_whether_its_notify_was_passed_on() {
    let asking = || {
        let mut message = message(&["a@x.example", "b@x.example"]);
        message.recipients[0].dsn.notify = Some("NEVER".parse().unwrap());
        message
    };
    let passed = |keyword: &str| {
        let ehlo = format!("250-mx|250 {keyword}");
        let replies = ["220 mx", &ehlo, "250 ok", "250 ok", "250 ok", "354 go", "BODY", "250 ok"];
        let (said, session) = play(session(StartTlsUse::IfOffered, Some(asking())), &replies);
        assert_eq!(said.iter().any(|line| line.contains("NOTIFY=NEVER")), keyword == "DSN");
        let passed = |outcome: DeliveryOutcome| match outcome {
            DeliveryOutcome::Delivered { notify_passed_on, .. } => notify_passed_on,
            DeliveryOutcome::Failed { cause } => panic!("{cause:?}"),
        };
        session.outcomes().into_iter().map(|(_, outcome)| passed(outcome)).collect::<Vec<_>>()
    };
    assert_eq!(passed("DSN"), [true, false]);
    assert_eq!(passed("XDSN"), [false, false]);
}
