//! The queue under hosts that hang and hosts that are gone: nobody waits for another's host, and
//! what has an end is recorded when it has it (RFC 5321 §4.5.4.1, §6.1).

use crate::process::Serving;
use crate::relay::{PATIENCE, SENDER, World, configuration_file, content, hand_in, lab, metrics, until};
use dane_relay::lab::{DomainSpec, Trouble, TroubleAt};
use dane_relay::spool::event::Event;
use std::time::Duration;

#[tokio::test]
async fn rfc5321_6_1_a_hanging_next_hop_holds_up_neither_record_nor_report_of_the_others() {
    let lab = lab()
        .domain("good.test", |d| d)
        .domain("null.test", |d| d.null_mx())
        .domain("hang.test", |d| d.host(|h| h.trouble(TroubleAt::Connect, Trouble::Hang)));
    let lab = lab.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = configuration_file(&lab, folder.path());
    let text = std::fs::read_to_string(&config).unwrap().replace("reply_timeout = \"20s\"", "reply_timeout = \"5m\"");
    std::fs::write(&config, text).unwrap();
    let (good, hang) = (lab.mx("good.test").unwrap(), lab.mx("hang.test").unwrap());

    let relay = Serving::start(&config).await;
    let to = ["bob@hang.test", "bob@good.test", "bob@null.test"];
    hand_in(relay.smtp, SENDER, &to, content(to[0]).as_bytes()).await;
    good.wait_for_messages(1, PATIENCE).await.unwrap();
    let reports = lab.mx("office.test").unwrap().wait_for_messages(1, PATIENCE).await.unwrap();
    assert!(String::from_utf8_lossy(&reports[0].content).contains("bob@null.test"));
    until(|| async { (hang.connections() > 0).then_some(()) }, "the host that hangs").await;
    // The report is delivered and recorded; the rest of its message still hangs.
    let alone = || async { (metrics(relay.admin).await["relay_queue_messages"] == 1.0).then_some(()) };
    until(alone, "one message in the queue").await;
    // SIGKILL.
    drop(relay);

    hang.trouble(TroubleAt::Connect, None);
    let relay = Serving::start(&config).await;
    let messages = hang.wait_for_messages(1, PATIENCE).await.unwrap();
    assert_eq!(messages[0].rcpt_to, ["bob@hang.test"]);
    let empty = || async { (metrics(relay.admin).await["relay_queue_messages"] == 0.0).then_some(()) };
    until(empty, "an empty queue").await;
    assert_eq!((good.messages().len(), lab.mx("office.test").unwrap().messages().len()), (1, 1), "once each");
}

#[tokio::test]
async fn rfc5321_4_5_4_1_many_messages_for_a_host_that_hangs_do_not_hold_up_others() {
    let lab = lab()
        .domain("good.test", |d| d)
        .domain("hang.test", |d| d.host(|h| h.trouble(TroubleAt::Connect, Trouble::Hang)));
    let world = World::with(lab, |_, config| {
        config.delivery.reply_timeout = Duration::from_secs(300);
        config.delivery.max_per_next_hop = 1;
        // Two of them are for hosts that nobody knows yet.
        config.delivery.max_concurrent = 16;
    });
    let world = world.await;
    for _ in 0..30 {
        world.mail(&["bob@hang.test"]).await;
    }
    let hang = world.mx("hang.test");
    until(|| async { (hang.connections() > 0).then_some(()) }, "the host that hangs").await;
    assert_eq!(world.delivers("bob@good.test").await.tls, "dane");
    assert_eq!(hang.connections(), 1);
}

#[tokio::test]
async fn rfc5321_4_5_4_1_a_host_that_is_back_is_dialled_for_each_message_again() {
    let dead = |d: DomainSpec| d.host(|h| h.trouble(TroubleAt::Connect, Trouble::Drop));
    let world = World::start(lab().domain("dead.test", dead)).await;
    let id = world.mail(&["bob@dead.test"]).await;
    world.deferred(id, "bob@dead.test", 3).await;
    world.mx("dead.test").trouble(TroubleAt::Connect, None);
    world.delivered(id, "bob@dead.test").await;
    assert_eq!(world.delivers("carol@dead.test").await.tls, "dane");
}

#[tokio::test]
async fn rfc5321_4_5_4_1_a_dead_host_is_not_dialled_for_each_message() {
    let lab = lab()
        .domain("good.test", |d| d)
        .domain("dead.test", |d| d.host(|h| h.trouble(TroubleAt::Connect, Trouble::Drop)));
    let world = World::with(lab, |_, config| {
        config.retry.first = Duration::from_secs(3600);
        config.retry.longest = config.retry.first;
        config.retry.expire_after = Duration::from_secs(86_400);
    });
    let world = world.await;
    for _ in 0..3 {
        let id = world.mail(&["bob@dead.test"]).await;
        world.deferred(id, "bob@dead.test", 1).await;
    }
    let dead = world.mx("dead.test");
    assert_eq!(dead.connections(), 3);
    let id = world.mail(&["bob@dead.test", "bob@good.test"]).await;
    assert_eq!(world.delivered(id, "bob@good.test").await.tls, "dane");
    let history = || async {
        let history = world.relay.spool.history(id).await.unwrap();
        history.into_iter().find_map(|(_, event)| {
            let Event::Waits { recipients, backing_off: Some(cause), .. } = event else { return None };
            Some((recipients, cause))
        })
    };
    let (recipients, cause) = until(history, "the record of the wait").await;
    assert_eq!((recipients, cause.row().word), (vec![0], "connection-lost"));
    assert_eq!(dead.connections(), 3, "the fourth message knows without a connection");
}

#[tokio::test]
async fn rfc3461_5_2_5_a_notice_comes_also_while_the_next_hop_is_left_in_peace() {
    let dead = |d: DomainSpec| d.host(|h| h.trouble(TroubleAt::Connect, Trouble::Drop));
    let world = World::with(lab().domain("dead.test", dead), |_, config| {
        config.retry.first = Duration::from_secs(3600);
        config.retry.longest = config.retry.first;
        config.retry.expire_after = Duration::from_secs(86_400);
        config.notify.delay_after = Duration::from_secs(3);
    });
    let world = world.await;
    for _ in 0..4 {
        world.mail(&["bob@dead.test"]).await;
    }
    assert_eq!(world.reports(4).await.len(), 4);
    assert!(world.mx("dead.test").connections() <= 4);
}

#[tokio::test]
async fn rfc5321_4_5_4_1_time_is_up_also_while_the_next_hop_is_left_in_peace() {
    let dead = |d: DomainSpec| d.host(|h| h.trouble(TroubleAt::Connect, Trouble::Drop));
    let world = World::with(lab().domain("dead.test", dead), |_, config| {
        config.retry.first = Duration::from_secs(3600);
        config.retry.longest = config.retry.first;
        config.retry.expire_after = Duration::from_secs(3);
    });
    let world = world.await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(world.mail(&["bob@dead.test"]).await);
    }
    for id in ids {
        assert_eq!(world.failed(id, "bob@dead.test").await.row().word, "expired", "log and metrics hear of it");
    }
    let reports = world.reports(4).await;
    for report in reports {
        assert!(String::from_utf8_lossy(&report.content).contains("X-Relay-Cause: connection-lost\r\n"));
    }
}
