//! One fault, the same words everywhere: every cause through `relay why` (RFC 3464, RFC 8460
//! §4.3).

use super::*;
use crate::command::json;
use crate::envelope::Envelope;
use crate::outcome::every;
use crate::spool::Pending;
use crate::spool::event::Group;
use crate::spool::ledger::LedgerRecipient;
use crate::spool::owed::Reported;
use crate::text::harmless;
use serde_json::json;

fn story(cause: &Cause) -> Story {
    let (at, address) = (Timestamp(0), "bob@partner.example");
    let origin = Origin::Report { about: QueueId(1) };
    let envelope = Envelope::new(ReversePath::Null, vec![address.parse().unwrap()], at, origin);
    let state = RecipientState::Queued(Pending { last: Some(cause.clone()), tries: 1, ..Pending::NEW });
    let outcome = DeliveryOutcome::Failed { cause: cause.clone() };
    let attempt = Event::Attempt(Box::new(Attempt {
        next_hop: "partner.example".into(),
        peer: every::peer(),
        policy: "dane".into(),
        tls: None,
        exception: None,
        took_ms: 1,
        results: vec![Group { recipients: vec![0], outcome }],
        group: None,
        dns: Vec::new(),
    }));
    let not_tried = Event::NotTried { next_hop: "partner.example".into(), recipients: vec![0], cause: cause.clone() };
    let ended = Event::Ended { recipients: vec![0], cause: Some(cause.clone()) };
    let happening = |event| Happening { at, event };
    Story {
        message: LedgerMessage {
            id: QueueId(7),
            message_id: None,
            envelope,
            size: 5,
            standing: MessageState::Queued,
            due_at: at,
            finished_at: None,
            attempts: 1,
            reported: Reported::NOTHING,
            recipients: vec![Some(LedgerRecipient { address: address.to_owned(), state, told: None })],
        },
        history: [attempt, not_tried, ended].map(happening).into(),
        incidents: Vec::new(),
        copies: vec![QueueId(9), QueueId(8)],
    }
}

fn filled(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_cause_has_its_words_in_the_story_of_a_message() {
    for cause in every::cause() {
        let (row, story) = (cause.row(), story(&cause));
        let text = filled(&harmless(&story.text()));
        let said = filled(&harmless(&format!("{}, status {}: {}", row.word, row.status, cause.sentence())));
        assert!(text.contains(&said), "no {said:?} in {text}");
        assert!(text.contains(&format!("({}), tried 1 time", row.word)) || text.contains(&format!("({})", row.word)));

        let told = Explanation { subject: "7".into(), stories: vec![story], more: false, unreadable: Vec::new() };
        let json = json::value(&told);
        let story = &json["stories"][0];
        let history = &story["history"];
        let places = [
            &story["message"]["recipients"][0]["last"],
            &history[0]["results"][0]["outcome"]["cause"],
            &history[1]["cause"],
            &history[2]["cause"],
        ];
        for told in places {
            assert_eq!((&told["cause"], &told["status"]), (&json!(row.word), &json!(row.status.to_string())), "{told}");
            assert_eq!((&told["side"], &told["result_type"]), (&json!(row.side.word()), &json!(row.result_type)));
            assert_eq!((&told["sentence"], &told["advice"]), (&json!(cause.sentence()), &json!(cause.advice())));
        }
    }
}

#[test]
fn what_lies_behind_an_expiry_has_its_words_as_well() {
    let last = || every::dane(crate::outcome::DaneFailure::NoMatch);
    let expired = Cause::Expired { waited_s: 345_600, last: Some(Box::new(last())) };
    let why = Explanation { subject: "7".into(), stories: vec![story(&expired)], more: false, unreadable: Vec::new() };
    let told = &json::value(&why)["stories"][0]["history"][2]["cause"];
    assert_eq!((&told["cause"], &told["last"]["cause"]), (&json!("expired"), &json!("tlsa-invalid")));
    assert_eq!(told["last"]["sentence"], json!(last().sentence()));
    assert!(told["last"]["peer"].is_object(), "the evidence stays: {told}");
}

#[test]
fn a_story_names_the_copies_of_its_message() {
    let text = story(&every::dane(crate::outcome::DaneFailure::NoMatch)).text();
    assert!(text.contains(&format!("Copies      {}, {}, for an archive", QueueId(9), QueueId(8))), "{text}");
}
