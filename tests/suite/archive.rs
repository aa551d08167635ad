//! Copies for archives: taken in one step with the mail, octet by octet, with an end of their own.

use crate::relay::{PATIENCE, SENDER, World, content, lab};
use dane_relay::config::{ArchiveForm, ArchiveRule, Config};
use dane_relay::lab::mx::behaviour::Received;
use mail_parser::{Message, MessageParser};
use std::path::Path;

const ARCHIVE: &str = "journal@archive.test";

fn archives(lines: &str) -> Vec<ArchiveRule> {
    let text = format!("[[archive]]\nto = {ARCHIVE:?}\n{lines}");
    Config::parse(&text, Path::new("archive.toml")).unwrap().archive
}

/// Two domains that take all mail, and an archive.
async fn world(lines: &str) -> World {
    let lab = lab().domain("one.test", |d| d).domain("archive.test", |d| d);
    World::with(lab, |_lab, config| config.archive = archives(lines)).await
}

fn parsed(message: &Received) -> Message<'_> {
    MessageParser::default().parse(&message.content).unwrap()
}

fn attached(message: &Received) -> Vec<u8> {
    parsed(message).attachment(0).unwrap().message().unwrap().raw_message().to_vec()
}

#[tokio::test]
async fn mail_and_its_journal_report_arrive_and_the_attached_original_is_the_same_octets() {
    let world = world("form = \"journal\"").await;
    let small = content("bob@one.test").into_bytes();
    // Above what the spool keeps in memory, and with octets above 127.
    let large = [&small[..], &"Grüße, und noch eine Zeile dazu.\r\n".repeat(20_000).into_bytes()].concat();
    for (count, content) in [(1, small), (2, large)] {
        let to = ["bob@one.test", "carol@one.test"];
        world.send(SENDER, &to, &content).await;
        let mail = world.mx("one.test").wait_for_messages(count, PATIENCE).await.unwrap().pop().unwrap();
        let copy = world.mx("archive.test").wait_for_messages(count, PATIENCE).await.unwrap().pop().unwrap();
        assert_eq!((copy.mail_from.as_str(), &copy.rcpt_to[..]), ("", &[ARCHIVE.to_owned()][..]));
        assert!(attached(&copy) == mail.content, "the original, with our Received line");
        assert!(mail.content.ends_with(&content));
        assert_eq!(
            parsed(&copy).body_text(0).unwrap().trim_end(),
            "Sender: alice@office.test\r\nSubject: Hello\r\nMessage-ID: <1.bob@one.test>\r\nTo: bob@one.test\r\n\
             Recipient: carol@one.test"
        );
        assert!(parsed(&copy).header_raw("X-MS-Journal-Report").is_some());
    }
    assert_eq!(world.metrics().await["relay_archive_copies_total"], 2.0);
    world.stop().await;
}

#[tokio::test]
async fn only_chosen_mail_is_copied_and_never_a_report_of_ours() {
    let world = world("recipients = [\"one.test\", \"office.test\"]").await;
    assert_eq!(archives("")[0].form, ArchiveForm::Original);
    world.mail(&["bob@office.test"]).await;
    world.mx("archive.test").wait_for_messages(1, PATIENCE).await.unwrap();
    world.mail(&["bob@one.test"]).await;
    // A report about this one comes to the sender.
    world.fails("nobody@gone.test").await;
    world.reports(2).await;
    let copies = world.mx("archive.test").wait_for_messages(2, PATIENCE).await.unwrap();
    let text = parsed(&copies[1]).body_text(0).unwrap().into_owned();
    assert!(text.contains("Recipient: bob@one.test"), "{text}");
    assert_eq!(world.metrics().await["relay_archive_copies_total"], 2.0);
    world.stop().await;
}

#[tokio::test]
async fn an_archive_that_refuses_is_told_to_the_postmaster_and_never_to_the_sender() {
    let lab = lab().domain("one.test", |d| d).domain("archive.test", |d| d.host(|h| h.known(&["nobody"])));
    let lab = lab.domain("post.test", |d| d);
    let world = World::with(lab, |_lab, config| {
        config.archive = archives("");
        config.postmaster = Some("postmaster@post.test".parse().unwrap());
    })
    .await;
    let id = world.mail(&["bob@one.test"]).await;
    world.delivered(id, "bob@one.test").await;
    let told = world.mx("post.test").wait_for_messages(1, PATIENCE).await.unwrap();
    let subject = parsed(&told[0]).subject().unwrap().to_owned();
    assert!(subject.starts_with("A copy for the archive could not be delivered: Hello"), "{subject}");
    let text = parsed(&told[0]).body_text(0).unwrap().into_owned();
    assert!(text.contains(ARCHIVE) && text.contains("its sender is told"), "{text}");
    assert_eq!(world.metrics().await["relay_archive_copies_lost_total"], 1.0);
    assert_eq!(world.metrics().await["relay_reports_lost_total"], 0.0);
    assert_eq!(world.mx("office.test").messages().len(), 0, "nothing came to the sender");
    world.stop().await;
}
