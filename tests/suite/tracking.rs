//! `relay audit --exchange-tracking`: what Exchange's message tracking log says against what the
//! ledger has, beside a relay that serves.

use crate::operator::QueueScene;
use crate::process::Serving;
use crate::relay::{SENDER, hand_in, lab};
use dane_relay::clock::{Clock, Timestamp};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const HEAD: &str = "\u{feff}#Software: Microsoft Exchange Server\r\n#Version: 15.01.2507.006\r\n\
    #Log-type: Message Tracking Log\r\n#Date: 2026-11-29T09:00:00.123Z\r\n\
    #Fields: date-time,client-ip,client-hostname,server-ip,server-hostname,source-context,connector-id,source,\
    event-id,internal-message-id,message-id,network-message-id,recipient-address,recipient-status,total-bytes,\
    recipient-count,related-recipient-address,reference,message-subject,sender-address,return-path\r\n";

/// Messages that Exchange says it handed over, and those of them that never came.
const EVENTS: usize = 1_000;
const LOST: [usize; 3] = [0, 417, 999];

/// A line of the log.
fn line(at: Timestamp, event: &str, id: &str, recipients: &str) -> String {
    format!(
        "{},10.0.0.5,EX01,10.0.0.9,relay,08DC;250 2.0.0 ok;ClientSubmitTime:,To the relay,SMTP,{event},42,<{id}>,\
         4f1c,{recipients},\"250 2.1.5 ok, taken\",4711,1,,,\"Offer; \"\"final\"\", see below\",{SENDER},{SENDER}\r\n",
        at.rfc3339()
    )
}

async fn bring(relay: &Serving, id: &str, recipients: &[&str]) {
    let content = format!("From: {SENDER}\r\nMessage-ID: <{id}>\r\nSubject: x\r\n\r\nHello\r\n");
    hand_in(relay.smtp, SENDER, recipients, content.as_bytes()).await;
}

async fn reconciled(scene: &QueueScene, log: &str) -> (Value, i32) {
    let file = scene.folder.path().join("MSGTRK2026112909-1.LOG");
    std::fs::write(&file, log).unwrap();
    let said = scene.run(&["audit", "--exchange-tracking", file.to_str().unwrap(), "--json"]).await;
    (serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.stderr)), said.code)
}

fn ids<'a>(found: &'a Value, side: &str) -> Vec<&'a str> {
    found[side].as_array().unwrap().iter().map(|one| one["message_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn of_a_thousand_that_exchange_handed_over_exactly_the_lost_ones_are_named() {
    let scene = QueueScene::new(lab().domain("good.test", |d| d)).await;
    let relay = scene.serve().await;
    let (mut log, mut names) = (HEAD.to_owned(), BTreeSet::new());
    for number in 0..EVENTS {
        let id = format!("{number}.Offer@ex01.office.example");
        if !LOST.contains(&number) {
            bring(&relay, &id, &["bob@good.test"]).await;
        }
        let event = if number % 2 == 0 { "SEND" } else { "SENDEXTERNAL" };
        log += &line(Clock::system().now(), "RECEIVE", &format!("inside-{id}"), "bob@good.test");
        log += &line(Clock::system().now(), event, &id, "Bob@Good.test");
        names.insert(id);
    }
    let (found, code) = reconciled(&scene, &log).await;
    let lost = LOST.map(|number| format!("{number}.Offer@ex01.office.example"));
    assert_eq!((ids(&found, "not_in_ledger"), code), (lost.iter().map(String::as_str).collect(), 2));
    assert_eq!((&found["handed_over"], &found["in_both"]), (&EVENTS.into(), &(EVENTS - LOST.len()).into()));
    assert_eq!(ids(&found, "not_in_log"), [""; 0], "{found}");
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
}

#[tokio::test]
async fn what_only_one_side_knows_is_named_down_to_the_recipient() {
    let scene = QueueScene::new(lab().domain("good.test", |d| d)).await;
    let relay = scene.serve().await;
    let before = Clock::system().now();
    for (id, to) in [
        ("both@ex", ["bob@good.test", "eve@good.test"].as_slice()),
        ("unlogged@ex", &["bob@good.test"]),
        ("partly@ex", &["bob@good.test", "more@good.test"]),
    ] {
        bring(&relay, id, to).await;
    }
    let after = Clock::system().now();
    let mut log = HEAD.to_owned();
    log += &line(before, "SENDEXTERNAL", "both@ex", "bob@good.test");
    log += &line(before, "SENDEXTERNAL", "both@ex", "eve@good.test");
    log += &line(after, "SENDEXTERNAL", "partly@ex", "bob@good.test;gone@good.test");
    let (found, code) = reconciled(&scene, &log).await;
    assert_eq!((ids(&found, "not_in_ledger"), code), (vec!["partly@ex"], 2));
    assert_eq!(found["not_in_ledger"][0]["recipients"], serde_json::json!(["gone@good.test"]));
    assert_eq!(ids(&found, "not_in_log"), ["unlogged@ex", "partly@ex"]);
    assert_eq!(found["not_in_log"][1]["recipients"], serde_json::json!(["more@good.test"]));

    // A log that both sides agree on, read for people while no relay runs.
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    let mut log = HEAD.to_owned();
    let _written = write!(log, "{}", line(before, "SEND", "both@ex", "bob@good.test;eve@good.test"));
    let (found, code) = reconciled(&scene, &log).await;
    assert_eq!((code, &found["in_both"]), (0, &1.into()), "{found}");
    let wrong = scene.run(&["audit", "--exchange-tracking", scene.config.to_str().unwrap()]).await;
    assert!(wrong.stderr.contains("#Fields:"), "{}", wrong.stderr);
    assert_eq!(wrong.code, 74);
}
