//! Who is told when mail fails, and what they can read (RFC 3464, RFC 5321 §6.1, RFC 3834).
//!
//! The reports are those that reached the sender's own mail host, read by an ordinary mail
//! library.

use crate::relay::{SENDER, World, content, expect, heard, lab, says, until};
use dane_relay::lab::mx::behaviour::Received;
use dane_relay::lab::{LabBuilder, Tlsa, TroubleAt};
use mail_parser::{MessageParser, MimeHeaders as _};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) type Fields = BTreeMap<String, String>;

/// A report as its reader has it.
pub(crate) struct Report {
    pub(crate) header: Fields,
    /// What people read, with each run of spaces and line ends as one space.
    pub(crate) text: String,
    /// The same as a page.
    pub(crate) page: String,
    /// The group about the message, then one for each recipient.
    pub(crate) groups: Vec<Fields>,
    /// What came back of the original.
    pub(crate) original: String,
}

impl Report {
    pub(crate) fn read(received: &Received) -> Self {
        let message = MessageParser::default().parse(&received.content).unwrap();
        let kind = message.content_type().unwrap();
        assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
        assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
        // The whole, and inside it the words as text and as a page.
        let leaves: Vec<_> = message.parts.iter().filter(|part| !part.is_multipart()).collect();
        let part = |nth: usize, wanted: &[&str]| {
            let part = leaves[nth];
            assert!(wanted.contains(&part.content_type().unwrap().subtype().unwrap()));
            String::from_utf8(part.contents().to_vec()).unwrap()
        };
        assert_eq!((message.parts.len(), leaves.len()), (6, 4), "the whole, the words in two forms, two parts");
        let whole = String::from_utf8(received.content.clone()).unwrap();
        Self {
            header: fields(whole.split("\r\n\r\n").next().unwrap()),
            text: part(0, &["plain"]).split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            page: part(1, &["html"]),
            groups: part(2, &["delivery-status"]).trim_end().split("\r\n\r\n").map(fields).collect(),
            original: part(3, &["rfc822-headers", "rfc822", "global-headers"]),
        }
    }

    /// Final-Recipient, Action and Status of all recipients.
    pub(crate) fn recipients(&self) -> Vec<[&str; 3]> {
        let names = ["Final-Recipient", "Action", "Status"];
        self.groups[1..].iter().map(|group| names.map(|name| group[name].as_str())).collect()
    }
}

/// Header fields by name, unfolded; of several with one name the last.
fn fields(block: &str) -> Fields {
    let unfolded = block.replace("\r\n ", " ").replace("\r\n\t", " ");
    let fields = unfolded.split("\r\n").filter_map(|line| line.split_once(": "));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Two domains that fail at once: one user is unknown, one domain takes no mail.
fn failing() -> LabBuilder {
    lab().domain("strict.test", |d| d.host(|h| h.known(&["bob"]))).domain("null.test", |d| d.null_mx())
}

#[tokio::test]
async fn rfc3464_a_failure_is_reported_to_the_mail_host_of_the_sender() {
    let world = World::start(failing()).await;
    let id = world.mail(&["nobody@strict.test"]).await;
    let received = &world.reports(1).await[0];
    assert_eq!((received.mail_from.as_str(), received.rcpt_to.clone()), ("", vec![SENDER.to_owned()]));
    assert!(received.tls.is_some(), "the way back is held to the same rules");
    let report = Report::read(received);
    assert_eq!(report.recipients(), [["rfc822; nobody@strict.test", "failed", "5.1.1"]]);
    let group = &report.groups[1];
    assert_eq!(group["Remote-MTA"], "dns; mx.strict.test");
    assert_eq!(group["Diagnostic-Code"], "smtp; 550 5.1.1 no such user here");
    assert!(report.text.starts_with("Your message was not delivered to nobody@strict.test."), "{}", report.text);
    assert!(report.page.contains("<bdi>nobody@strict.test</bdi>") && report.page.contains("no such user here"));
    assert!(!report.page.contains("href") && !report.page.contains("<img"), "nothing leads or loads from anywhere");
    assert_eq!(report.groups[0]["Reporting-MTA"], "dns; relay.office.test");
    assert_eq!(report.groups[0]["X-Relay-Queue-Id"], id.to_string());
    assert_eq!(report.header["To"], format!("<{SENDER}>"));
    assert_eq!(report.header["Subject"], "Undeliverable: Hello");
    // RFC 3834 §3.1.7, §3.1.5: nobody answers it, and it is filed with the original.
    assert_eq!(report.header["Auto-Submitted"], "auto-replied");
    assert_eq!(report.header["In-Reply-To"], "<1.nobody@strict.test>");
    let sent = content("nobody@strict.test");
    let sent_header = sent.split("\r\n\r\n").next().unwrap();
    assert!(report.original.trim_end().ends_with(sent_header), "{}", report.original);
}

#[tokio::test]
async fn rfc3464_2_3_one_report_tells_of_all_who_failed_together_and_of_nobody_else() {
    let world = World::start(failing()).await;
    let id = world.mail(&["nobody@strict.test", "bob@strict.test", "x@null.test", "noone@strict.test"]).await;
    world.delivered(id, "bob@strict.test").await;
    let report = Report::read(&world.reports(1).await[0]);
    let expected = [
        ["rfc822; nobody@strict.test", "failed", "5.1.1"],
        ["rfc822; x@null.test", "failed", "5.1.10"],
        ["rfc822; noone@strict.test", "failed", "5.1.1"],
    ];
    let mut recipients = report.recipients();
    recipients.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(recipients, sorted);
    assert!(!report.text.contains("bob@strict.test"), "{}", report.text);
    let local = report.groups.iter().find(|group| group.get("Status").is_some_and(|status| status == "5.1.10"));
    let said = "X-Relay; null-mx: The domain null.test says that it accepts no mail.";
    assert_eq!(local.unwrap()["Diagnostic-Code"], said);
    until_settled(&world).await;
    assert_eq!(world.mx("office.test").messages().len(), 1);
    assert_eq!(world.metrics().await["relay_reports_queued_total"], 1.0);
}

/// Waits until the queue is empty.
pub(crate) async fn until_settled(world: &World) {
    let empty = || async { (world.metrics().await["relay_queue_messages"] == 0.0).then_some(()) };
    until(empty, "an empty queue").await;
}

#[tokio::test]
async fn rfc5321_4_5_5_nobody_is_told_of_mail_from_the_null_reverse_path() {
    let world = World::start(failing()).await;
    let id = world.send("", &["nobody@strict.test", "x@null.test"], content("nobody@strict.test").as_bytes()).await;
    expect(&world.failed(id, "nobody@strict.test").await, "rejected", "5.1.1");
    expect(&world.failed(id, "x@null.test").await, "null-mx", "5.1.10");
    until_settled(&world).await;
    let metrics = world.metrics().await;
    assert_eq!(metrics["relay_recipients_suppressed_total"], 2.0);
    assert_eq!(metrics["relay_reports_queued_total"], 0.0);
    assert_eq!(world.mx("office.test").connections(), 0);
}

#[tokio::test]
async fn rfc3461_6_1_a_report_that_fails_makes_no_further_report() {
    let world = World::start(failing()).await;
    world.mx("office.test").trouble(TroubleAt::Rcpt, says("550 5.1.1 alice has left"));
    world.fails("x@null.test").await;
    let suppressed = || async { (world.metrics().await["relay_recipients_suppressed_total"] == 1.0).then_some(()) };
    until(suppressed, "the end of the report").await;
    until_settled(&world).await;
    let metrics = world.metrics().await;
    assert_eq!(metrics["relay_reports_queued_total"], 1.0);
    assert_eq!((heard(world.mx("office.test"), "MAIL FROM:<>"), heard(world.mx("office.test"), "MAIL")), (1, 1));
}

#[tokio::test]
async fn a_report_waits_for_the_mail_host_of_the_sender() {
    let world = World::start(failing()).await;
    world.mx("office.test").trouble(TroubleAt::Mail, says("451 4.3.0 later"));
    world.fails("x@null.test").await;
    until(|| async { (heard(world.mx("office.test"), "MAIL") >= 2).then_some(()) }, "two attempts").await;
    world.mx("office.test").trouble(TroubleAt::Mail, None);
    let report = Report::read(&world.reports(1).await[0]);
    assert_eq!(report.recipients(), [["rfc822; x@null.test", "failed", "5.1.10"]]);
    until_settled(&world).await;
}

#[tokio::test]
async fn rfc3464_2_3_6_at_the_end_of_waiting_the_report_says_what_was_waited_for() {
    let lab = lab()
        .domain("bad.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])))
        .domain("full.test", |d| d.host(|h| h.trouble(TroubleAt::Rcpt, says("452 4.2.2 the mailbox is full"))));
    let world = World::with(lab, |_, config| config.retry.expire_after = Duration::from_secs(1)).await;
    expect(world.fails("bob@full.test").await.root(), "rejected-for-now", "4.2.2");
    let full = Report::read(&world.reports(1).await[0]);
    assert_eq!(full.recipients(), [["rfc822; bob@full.test", "failed", "5.4.7"]]);
    assert_eq!(full.groups[1]["Diagnostic-Code"], "smtp; 452 4.2.2 the mailbox is full");
    assert!(full.text.contains("the mailbox is full"), "{}", full.text);

    expect(world.fails("bob@bad.test").await.root(), "tlsa-invalid", "4.7.323");
    let bad = Report::read(&world.reports(2).await[1]);
    assert_eq!(bad.recipients(), [["rfc822; bob@bad.test", "failed", "5.4.7"]]);
    assert!(!bad.groups[1].contains_key("Remote-MTA"), "no server said anything");
    let said = "X-Relay; tlsa-invalid: The certificate of the mail server mx.bad.test";
    assert!(bad.groups[1]["Diagnostic-Code"].starts_with(said), "{:?}", bad.groups[1]);
    for told in ["bob@bad.test", "mx.bad.test", "tlsa-invalid", "DANE", "relay check bad.test", "Earlier try: "] {
        assert!(bad.text.contains(told), "no {told} in: {}", bad.text);
    }
    assert!(bad.text.contains("The administrators of the recipient's mail system must act."), "{}", bad.text);
}

#[tokio::test]
async fn rfc2047_a_report_is_clean_7_bit_whatever_the_original_holds() {
    let world = World::start(failing()).await;
    let original = "Subject: Gr\u{fc}\u{df}e\r\nX-Odd: \u{1}\u{7f}\r\nMessage-ID: <a b>\r\n\r\nbody\r\n";
    world.send(SENDER, &["x@null.test"], original.as_bytes()).await;
    let received = &world.reports(1).await[0];
    assert!(received.content.iter().all(|&b| b == b'\r' || b == b'\n' || b == b'\t' || (32..127).contains(&b)));
    let report = Report::read(received);
    assert!(report.original.contains("Subject: Gr\u{fc}\u{df}e\r\nX-Odd: \u{1}\u{7f}\r\n"), "{:?}", report.original);
    assert!(!report.header.contains_key("In-Reply-To"));
}
