//! `relay lab`: mail sent through the relay's production code, in a signed mini-internet.
//!
//! Every message has an expected end. The story is told from what really came: the relay's own
//! words, the inboxes of the MX hosts, and the NDRs that reached the sender's mail server.

use crate::clock::Clock;
use crate::command::queue::Filter;
use crate::config::Config;
use crate::config::users::{UserRole, hash, with_user};
use crate::envelope::QueueId;
use crate::lab::dns::rrset::SignatureFault;
use crate::lab::dns::world::AnchorForm;
use crate::lab::dns::zone::AnswerFault;
use crate::lab::mx::behaviour::{Received, reply};
use crate::lab::mx::client::SmtpClient;
use crate::lab::tls::certificate::Tlsa;
use crate::lab::{Lab, Trouble, TroubleAt, bad};
use crate::observe::RecipientNews;
use crate::outcome::{Class, DeliveryOutcome, TlsVerdict};
use crate::service::control::ControlClient;
use crate::service::order::OrderEvent;
use crate::service::start;
use crate::spool::event::Act;
use crate::text::paragraph;
use hickory_proto::rr::RecordType;
use mail_parser::{MessageParser, MimeHeaders};
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

/// Longer than the whole story takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The relay's configuration in the lab's directory.
const CONFIG_FILE: &str = "relay.toml";
/// Who may log in at the page, which is on loopback; the lab and all that is in it end with it.
const USER: &str = "demo";
/// With which password.
const PASSWORD: &str = "demonstration";
/// From one look at a message that is in delivery to the next.
const BREATH: Duration = Duration::from_millis(200);
/// So many looks, in which it would have expired.
const LOOKS: usize = 20;
/// Whose server wants the message later.
const LATER: &str = "carol@later.test";
/// The sender of all messages.
const SENDER: &str = "alice@office.test";

/// A message and what must become of it.
struct Chapter {
    recipient: &'static str,
    about: &'static str,
    expected: Expected,
}

enum Expected {
    /// Delivered, with this word for the protection.
    Delivered(&'static str),
    /// An NDR with this status whose root cause has this word.
    Returned { status: &'static str, cause: &'static str },
}

const CHAPTERS: [Chapter; 6] = [
    Chapter {
        recipient: "bob@dane.test",
        about: "DANE with 6 TLSA records, one of which fits the server's certificate",
        expected: Expected::Delivered("dane"),
    },
    Chapter {
        recipient: "bob@mismatch.test",
        about: "DANE whose TLSA records do not fit the server's certificate",
        expected: Expected::Returned { status: "5.4.7", cause: "tlsa-invalid" },
    },
    Chapter {
        recipient: "bob@plain.test",
        about: "an unsigned domain: no DANE, TLS without authentication",
        expected: Expected::Delivered("unauthenticated"),
    },
    Chapter {
        recipient: "nobody@dane.test",
        about: "a user that the recipient's server does not know",
        expected: Expected::Returned { status: "5.1.1", cause: "rejected" },
    },
    Chapter {
        recipient: "bob@nullmx.test",
        about: "a domain that says it takes no mail (null MX)",
        expected: Expected::Returned { status: "5.1.10", cause: "null-mx" },
    },
    Chapter {
        recipient: "bob@forged.test",
        about: "TLSA records whose signature is forged: \"could not find out\" is never \"there are none\"",
        expected: Expected::Returned { status: "5.4.7", cause: "dnssec-invalid" },
    },
];

/// Tells the story; `true` when every outcome was the expected one. Before the end it waits for
/// `stay` when there is one, so that the running lab can be looked at.
///
/// # Errors
/// When the lab or the relay cannot start, or `out` cannot be written.
pub async fn tell(out: &mut impl Write, stay: Option<impl Future<Output = ()>>) -> io::Result<bool> {
    let lab = internet().await?;
    let directory = tempfile::tempdir()?;
    let relay = start::start(config(&lab, directory.path()).await?, Clock::system()).await.map_err(bad)?;
    let mut news = relay.observer.subscribe();
    let smtp = *relay.smtp.first().ok_or_else(|| bad("the relay listens nowhere"))?;
    writeln!(out, "A signed mini-internet on loopback, and the relay in its production code.\n")?;
    writeln!(out, "  DNS       {}, signed from its own root down", lab.dns().upstream())?;
    writeln!(out, "  MX hosts  {} on 127.0.0.0/8, port {}, with STARTTLS", lab.hosts().count(), lab.port())?;
    writeln!(out, "  relay     {smtp}, metrics on http://{}/metrics", relay.admin)?;
    writeln!(out, "  retry     every second, given up after 3 seconds (4 days in production)\n")?;

    let ids = hand_in(smtp).await?;
    let ends = ends(&mut news, &ids).await?;
    let returned = CHAPTERS.iter().filter(|c| matches!(c.expected, Expected::Returned { .. })).count();
    let ndrs = lab.mx("office.test")?.wait_for_messages(returned, PATIENCE).await?;
    let mut good = 0;
    for (number, (chapter, end)) in CHAPTERS.iter().zip(&ends).enumerate() {
        writeln!(out, "{}. {SENDER} to {}\n   {}", number + 1, chapter.recipient, chapter.about)?;
        let as_expected = chapter.print(out, &lab, end, &ndrs)?;
        writeln!(out, "   {}\n", if as_expected { "as expected" } else { "NOT AS EXPECTED" })?;
        good += usize::from(as_expected);
    }
    if let Some(ndr) = ndrs.iter().find(|ndr| is_about(ndr, "bob@mismatch.test")) {
        print_ndr(out, ndr)?;
    }
    writeln!(out, "{good} of {} outcomes as expected.", CHAPTERS.len())?;
    if let Some(stay) = stay {
        let file = directory.path().join(CONFIG_FILE);
        writeln!(out, "\nThe lab stays until Ctrl-C. In another terminal:\n")?;
        for domain in ["dane.test", "mismatch.test", "forged.test"] {
            writeln!(out, "  relay check {domain} --config {}", file.display())?;
        }
        writeln!(out, "  curl http://{}/metrics", relay.admin)?;
        wait_for_the_page(smtp, directory.path()).await?;
        writeln!(out, "\nThe page for the help desk: http://{}/ as {USER} with the password {PASSWORD}", relay.admin)?;
        stay.await;
    }
    relay.stop();
    relay.ended().await.map_err(bad)?;
    Ok(good == CHAPTERS.len() && ndrs.len() == returned)
}

/// A message that is held, so that something waits for whoever looks at the page: nothing else outlives the story.
async fn wait_for_the_page(smtp: SocketAddr, directory: &Path) -> io::Result<()> {
    let mut client = SmtpClient::ready(smtp).await?.starttls("relay.office.test").await?;
    client.send(SENDER, &[LATER], format!("From: <{SENDER}>\r\nTo: <{LATER}>\r\n\r\nHello!\r\n").as_bytes()).await?;
    client.quit().await?;
    let reason = Some("so that there is something to look at");
    let filter = Filter { domain: LATER.split_once('@').map(|(_, domain)| domain.to_owned()), ..Filter::default() };
    let (client, mut held) = (ControlClient::of(&directory.join("spool")), 0);
    // While it is in delivery it is left alone.
    for _ in 0..LOOKS {
        if held > 0 {
            break;
        }
        tokio::time::sleep(BREATH).await;
        let each = |event| held += usize::from(matches!(event, OrderEvent::Acted { .. }));
        client.act(Act::Hold, &filter, reason, each).await.map_err(bad)?;
    }
    Ok(())
}

async fn internet() -> io::Result<Lab> {
    let later = Trouble::Reply(reply("451 4.7.1 greylisted, come back later").map_err(bad)?);
    Lab::builder()
        .domain("office.test", |d| d)
        .domain("dane.test", |d| d.host(|h| h.and_misfits(5).known(&["bob"])))
        .domain("mismatch.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0), Tlsa::Misfits(3, 1, 1, 1)])))
        .domain("plain.test", |d| d.plain())
        .domain("nullmx.test", |d| d.null_mx())
        .domain("forged.test", |d| {
            d.fault("mx.forged.test", RecordType::TLSA, AnswerFault::Signature(SignatureFault::Bogus))
        })
        .domain("later.test", |d| d.host(|h| h.trouble(TroubleAt::Rcpt, later)))
        .start()
        .await
}

/// Writes the configuration as an operator would, and reads it as the relay does.
async fn config(lab: &Lab, directory: &Path) -> io::Result<Config> {
    let (anchors, file) = (directory.join("root.key"), directory.join(CONFIG_FILE));
    tokio::fs::write(&anchors, lab.world().trust_anchor(AnchorForm::DnsKey)?).await?;
    let users = directory.join("admins");
    let line = with_user("", USER, &hash(PASSWORD).map_err(bad)?, &[], Some(UserRole::Operator)).map_err(bad)?;
    tokio::fs::write(&users, line).await?;
    let text = format!(
        r#"hostname = "relay.office.test"
[listen]
smtp = ["127.0.0.1:0"]
[spool]
path = "{spool}"
min_free_bytes = 0
min_free_inodes = 0
[dns]
upstreams = ["{upstream}"]
trust_anchors = "{anchors}"
[delivery]
port = {port}
allow_loopback = true
[retry]
first = "1s"
longest = "1s"
expire_after = "3s"
[admin]
listen = "127.0.0.1:0"
users = "{users}"
"#,
        users = users.display(),
        spool = directory.join("spool").display(),
        upstream = lab.dns().upstream(),
        anchors = anchors.display(),
        port = lab.port(),
    );
    tokio::fs::write(&file, text).await?;
    Config::load(&file).map_err(bad)
}

/// Hands all messages in over one TLS session and gives their queue ids.
async fn hand_in(smtp: SocketAddr) -> io::Result<Vec<QueueId>> {
    let mut client = SmtpClient::ready(smtp).await?.starttls("relay.office.test").await?;
    let mut ids = Vec::new();
    for chapter in &CHAPTERS {
        let handed = client.send(SENDER, &[chapter.recipient], content(chapter).as_bytes()).await?;
        let text = handed.last().text();
        let id = text.split_ascii_whitespace().last().and_then(|word| word.parse().ok());
        ids.push(id.ok_or_else(|| bad(format!("the relay did not take the message: {text}")))?);
    }
    client.quit().await?;
    Ok(ids)
}

fn content(chapter: &Chapter) -> String {
    format!(
        "From: Alice <{SENDER}>\r\nTo: <{to}>\r\nSubject: Hello {to}\r\nMessage-ID: <{to}>\r\n\r\nHello!\r\n.\r\n..\r\n",
        to = chapter.recipient
    )
}

/// The last news of each message.
async fn ends(news: &mut Receiver<RecipientNews>, ids: &[QueueId]) -> io::Result<Vec<DeliveryOutcome>> {
    let mut ends: Vec<Option<DeliveryOutcome>> = vec![None; ids.len()];
    while ends.iter().any(Option::is_none) {
        let one = timeout(PATIENCE, news.recv()).await.map_err(|_| bad("a message has no outcome"))?.map_err(bad)?;
        let last = match &one.outcome {
            DeliveryOutcome::Delivered { .. } => true,
            DeliveryOutcome::Failed { cause } => cause.class() == Class::Permanent,
        };
        let slot = ids.iter().position(|id| *id == one.id).and_then(|at| ends.get_mut(at));
        if let (true, Some(slot)) = (last, slot) {
            *slot = Some(one.outcome);
        }
    }
    Ok(ends.into_iter().flatten().collect())
}

impl Chapter {
    fn print(&self, out: &mut impl Write, lab: &Lab, end: &DeliveryOutcome, ndrs: &[Received]) -> io::Result<bool> {
        match end {
            DeliveryOutcome::Delivered { peer, tls, .. } => {
                writeln!(out, "   delivered to {} over {}", peer.host, how(tls))?;
                let intact = self.arrived_intact(lab)?;
                writeln!(out, "   content {} below our Received line", if intact { "identical" } else { "CHANGED" })?;
                Ok(intact && matches!(self.expected, Expected::Delivered(word) if word == tls.word()))
            }
            DeliveryOutcome::Failed { cause } => {
                let (root, status) = (cause.root(), cause.row().status.to_string());
                let what = format!("returned with {status} ({}): {}", root.row().word, root.sentence());
                write!(out, "{}", paragraph("", &what, 3))?;
                let told = ndrs.iter().filter(|ndr| is_about(ndr, self.recipient)).count();
                let delivered = !self.inbox(lab)?.is_empty();
                let handed_over = if delivered { "DELIVERED AS WELL" } else { "nothing was handed over" };
                writeln!(out, "   {SENDER} got {told} NDR; {handed_over}")?;
                Ok(told == 1 && !delivered && self.is_returned_with(&status, root.row().word))
            }
        }
    }

    fn is_returned_with(&self, got_status: &str, got_cause: &str) -> bool {
        matches!(self.expected, Expected::Returned { status, cause } if status == got_status && cause == got_cause)
    }

    /// What the recipient's server holds for the recipient.
    fn inbox(&self, lab: &Lab) -> io::Result<Vec<Received>> {
        let domain = self.recipient.rsplit('@').next().unwrap_or_default();
        // A domain without hosts has no inbox.
        let Ok(host) = lab.mx(domain) else { return Ok(Vec::new()) };
        Ok(host.messages().into_iter().filter(|m| m.rcpt_to.iter().any(|to| to == self.recipient)).collect())
    }

    fn arrived_intact(&self, lab: &Lab) -> io::Result<bool> {
        let sent = content(self).into_bytes();
        let inbox = self.inbox(lab)?;
        Ok(matches!(inbox.as_slice(), [one] if one.content.starts_with(b"Received: ") && one.content.ends_with(&sent)))
    }
}

/// How a connection was protected, in words.
pub(in crate::lab) fn how(tls: &TlsVerdict) -> String {
    match tls {
        TlsVerdict::Dane { version, matched, .. } => {
            format!("{version}, authenticated by TLSA {}…", matched.chars().take(22).collect::<String>())
        }
        TlsVerdict::WebPki { version, host } => format!("{version}, authenticated by a public certificate for {host}"),
        TlsVerdict::WebPkiAndDane { version, host, .. } => {
            format!("{version}, authenticated by a public certificate for {host} and by TLSA")
        }
        TlsVerdict::Unauthenticated { version } => format!("{version}, not authenticated"),
        TlsVerdict::ClearText => "clear text".to_owned(),
    }
}

/// Whether a report speaks of this recipient.
pub(in crate::lab) fn is_about(ndr: &Received, recipient: &str) -> bool {
    let wanted = format!("Final-Recipient: rfc822; {recipient}\r\n");
    ndr.mail_from.is_empty() && ndr.content.windows(wanted.len()).any(|w| w.eq_ignore_ascii_case(wanted.as_bytes()))
}

fn print_ndr(out: &mut impl Write, ndr: &Received) -> io::Result<()> {
    writeln!(out, "The NDR for bob@mismatch.test, as it reached Alice's mail server:\n")?;
    print_mail(out, ndr)
}

/// A report as its reader sees it.
pub(in crate::lab) fn print_mail(out: &mut impl Write, report: &Received) -> io::Result<()> {
    let message = MessageParser::default().parse(&report.content).ok_or_else(|| bad("the report is no message"))?;
    writeln!(out, "  | Subject: {}\n  |", message.subject().unwrap_or_default())?;
    let text = message.body_text(0).unwrap_or_default();
    for line in text.lines() {
        writeln!(out, "{}", format!("  | {line}").trim_end())?;
    }
    let parts: Vec<String> = message
        .parts
        .iter()
        .filter_map(|part| part.content_type())
        .map(|kind| format!("{}/{}", kind.c_type, kind.subtype().unwrap_or_default()))
        .collect();
    writeln!(out, "\n{}", paragraph("  (parts:", &(parts.join(", ") + ")"), 10))
}
