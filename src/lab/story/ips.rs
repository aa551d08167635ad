//! `relay lab --story`: the fault that this relay was written for, replayed (RFC 7672 §2.1.2).
//!
//! An IPS drops every DNS answer with more than four TLSA records. Mail to a domain with six of
//! them waits, its sender is told, `relay check` finds the box, and one line of configuration gets
//! the mail out by DANE while the box is still there. Every line is printed from what was measured,
//! and every step says whether it came out as it should.

use super::situation::Situation;
use super::stage::{DOMAIN, HOST, NEIGHBOUR, OFFICE, Stage};
use crate::check::Checker;
use crate::check::analyse::Certainty;
use crate::clock::Clock;
use crate::config::Config;
use crate::lab::bad;
use crate::lab::dns::world;
use crate::lab::mx::behaviour::Received;
use crate::lab::mx::client::SmtpClient;
use crate::lab::story::demonstration::{how, is_about, print_mail};
use crate::observe::RecipientNews;
use crate::outcome::{Class, DeliveryOutcome, Side};
use crate::service::start::{self, Relay};
use crate::text::paragraph;
use hickory_proto::rr::RecordType;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;
use tokio::time::{sleep, timeout};

/// Longer than the whole story takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// When the sender is told, here.
const TOLD_AFTER: &str = "2s";
/// What the machine-readable part of a notice says while a message waits (RFC 3464 §2.3.3).
const HELD_BACK: &[u8] = b"Action: delayed\r\n";
/// Who writes.
const SENDER: &str = "alice@office.test";

/// Tells the story; `true` when every step came out as told.
///
/// # Errors
/// When the lab or the relay cannot start, or `out` cannot be written.
pub async fn tell(out: &mut impl Write) -> io::Result<bool> {
    let setting = StorySetting::new().await?;
    setting.introduce(out)?;
    let mut steps = StepResults::default();
    let relay = setting.start_relay(&[setting.stage.lab.dns().upstream()]).await?;
    let mut news = relay.observer.subscribe();
    let smtp = *relay.smtp.first().ok_or_else(|| bad("the relay listens nowhere"))?;
    let mut client = SmtpClient::ready(smtp).await?;
    for domain in [NEIGHBOUR, DOMAIN] {
        let to = format!("bob@{domain}");
        let handed = client.send(SENDER, &[&to], content(&to).as_bytes()).await?;
        if !handed.accepted() {
            return Err(bad(format!("the relay did not take the message: {}", handed.last())));
        }
    }
    client.quit().await?;
    let came_out = setting.mail_waits(out, &mut news).await?;
    steps.end(out, came_out)?;
    let came_out = setting.sender_is_told(out).await?;
    steps.end(out, came_out)?;
    let came_out = setting.check_finds_the_box(out).await?;
    steps.end(out, came_out)?;
    relay.stop();
    relay.ended().await.map_err(bad)?;
    let came_out = setting.bridge(out).await?;
    steps.end(out, came_out)?;
    writeln!(out, "{} of {} steps came out as they should.", steps.good, steps.told)?;
    Ok(steps.good == steps.told)
}

/// How the steps came out.
#[derive(Default)]
struct StepResults {
    told: usize,
    good: usize,
}

/// Whether a step came out as it should.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CameOut {
    AsItShould,
    Otherwise,
}

impl From<bool> for CameOut {
    fn from(good: bool) -> Self {
        if good { Self::AsItShould } else { Self::Otherwise }
    }
}

impl StepResults {
    fn end(&mut self, out: &mut impl Write, came_out: CameOut) -> io::Result<()> {
        self.told += 1;
        self.good += usize::from(came_out == CameOut::AsItShould);
        writeln!(out, "   {}\n", if came_out == CameOut::AsItShould { "as it should" } else { "NOT AS IT SHOULD" })
    }
}

/// The surroundings, and a folder for the relay.
struct StorySetting {
    stage: Stage,
    folder: TempDir,
}

impl StorySetting {
    async fn new() -> io::Result<Self> {
        Ok(Self { stage: Stage::set(Situation::CountFilter).await?, folder: tempfile::tempdir()? })
    }

    fn introduce(&self, out: &mut impl Write) -> io::Result<()> {
        let lab = &self.stage.lab;
        let world = lab.world();
        let records = |host: &str| -> io::Result<usize> {
            let answer = world.answer(&world::name(&lab.tlsa_owner(host))?, RecordType::TLSA)?;
            Ok(answer.answers.iter().filter(|record| record.record_type() == RecordType::TLSA).count())
        };
        let (one, six) = (records(&format!("mx.{NEIGHBOUR}"))?, records(HOST)?);
        write!(
            out,
            "The story of an IPS that drops DNS answers, replayed in a signed mini-internet\n\
             on loopback. What is printed was measured.\n\n"
        )?;
        let rows = [
            ("resolver", format!("{}, asked over UDP and over TCP; it validates", lab.dns().upstream())),
            ("IPS", "on every path in clear: drops answers with more than 4 TLSA records".to_owned()),
            (NEIGHBOUR, format!("signed, mail host with DANE, {one} TLSA record")),
            (DOMAIN, format!("signed, mail host with DANE, {six} TLSA records: key roll-overs add up")),
            ("retry", format!("every second; senders are told after {TOLD_AFTER} (1 hour in production)")),
        ];
        for (label, text) in rows {
            write!(out, "{}", paragraph(&format!("  {label}"), &text, 18))?;
        }
        writeln!(out)
    }

    /// The relay as the operator configures it.
    async fn start_relay(&self, upstreams: &[String]) -> io::Result<Relay> {
        start::start(self.config(upstreams).await?, Clock::system()).await.map_err(bad)
    }

    async fn config(&self, upstreams: &[String]) -> io::Result<Config> {
        let file = self.config_file();
        let base = self.stage.configuration(self.folder.path(), upstreams).await?;
        let check = self.stage.check_configuration();
        tokio::fs::write(&file, format!("{base}{check}[notify]\npolicy_failure_after = \"{TOLD_AFTER}\"\n")).await?;
        Config::load(&file).map_err(bad)
    }

    fn config_file(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    async fn mail_waits(&self, out: &mut impl Write, news: &mut Receiver<RecipientNews>) -> io::Result<CameOut> {
        writeln!(out, "1. {SENDER} writes to bob@{NEIGHBOUR} and to bob@{DOMAIN}")?;
        let (mut neighbour, mut partner) = (None, None);
        while let (None, _) | (_, None) = (&neighbour, &partner) {
            let one =
                timeout(PATIENCE, news.recv()).await.map_err(|_| bad("a message has no outcome"))?.map_err(bad)?;
            match one.recipient.as_str().rsplit('@').next() {
                Some(NEIGHBOUR) => neighbour = Some(one.outcome),
                Some(DOMAIN) => partner = Some(one.outcome),
                Some(_) | None => {}
            }
        }
        let mut good = true;
        for (domain, outcome) in [(NEIGHBOUR, &neighbour), (DOMAIN, &partner)] {
            let (text, word) = said(outcome.as_ref());
            write!(out, "{}", paragraph("", &format!("bob@{domain}: {text}"), 3))?;
            good &= word == if domain == NEIGHBOUR { "dane" } else { "dns-unavailable" };
        }
        let host = self.stage.lab.mx(HOST)?;
        writeln!(out, "   {HOST} has had {} connections, {} messages", host.connections(), host.messages().len())?;
        Ok((good && host.connections() == 0).into())
    }

    async fn sender_is_told(&self, out: &mut impl Write) -> io::Result<CameOut> {
        writeln!(out, "2. After {TOLD_AFTER} {SENDER} is told, and the message goes on waiting\n")?;
        let told = self.stage.lab.mx(OFFICE)?.wait_for_messages(1, PATIENCE).await?;
        let notice = told.first().ok_or_else(|| bad("no notice came"))?;
        print_mail(out, notice)?;
        let held_back = notice.content.windows(HELD_BACK.len()).any(|text| text == HELD_BACK);
        Ok((held_back && is_about(notice, &format!("bob@{DOMAIN}"))).into())
    }

    async fn check_finds_the_box(&self, out: &mut impl Write) -> io::Result<CameOut> {
        writeln!(out, "3. The administrator types: relay check {DOMAIN}\n")?;
        let config = self.config(&[self.stage.lab.dns().upstream()]).await?;
        let checker = Checker::new(config, Clock::system()).map_err(bad)?;
        let report = checker.check(&DOMAIN.parse().map_err(bad)?).await;
        writeln!(out, "{}", report.text())?;
        let found = &report.diagnosis;
        let proven = (found.word.as_str(), found.side, found.certainty)
            == ("local-dns-count-filter", Some(Side::Path), Certainty::Proven);
        let queue = report.evidence.queue.map(|queue| queue.messages);
        Ok((proven && queue == Some(1) && self.stage.lab.mx(HOST)?.connections() == 0).into())
    }

    async fn bridge(&self, out: &mut impl Write) -> io::Result<CameOut> {
        let (clear, encrypted) = (self.stage.lab.dns().upstream(), self.stage.encrypted_upstream());
        writeln!(out, "4. The bridge, until the IPS is fixed: one line in relay.toml, and a restart\n")?;
        writeln!(out, "   [dns]\n   upstreams = [\"{clear}\",\n                \"{encrypted}\"]\n")?;
        let before = self.stage.lab.dns().dropped();
        let relay = self.start_relay(&[clear.clone(), encrypted]).await?;
        let messages = self.stage.lab.mx(HOST)?.wait_for_messages(1, PATIENCE).await?;
        let left = emptied(&relay).await;
        let metrics = relay.observer.render(&relay.spool.stats(), Clock::system().now());
        relay.stop();
        relay.ended().await.map_err(bad)?;
        let intact = matches!(messages.as_slice(), [one] if one.tls.is_some() && arrived(one));
        let dropped = self.stage.lab.dns().dropped() - before;
        let by_dane = sample(&metrics, &["relay_recipients_delivered_total", "dane"]);
        let broken = sample(&metrics, &["relay_dns_path_healthy", "transport=\"udp\"", &clear]);
        let what = if intact { "what Alice wrote, once and whole" } else { "NOT WHAT ALICE WROTE" };
        writeln!(out, "   {HOST} got {} message over TLS: {what}", messages.len())?;
        writeln!(out, "   {left} messages wait; the IPS is still there and dropped {dropped} more answers")?;
        writeln!(out, "   the metrics say how it went out, and name the path that is broken:\n")?;
        writeln!(out, "   {by_dane}\n   {broken}\n")?;
        let named = by_dane.ends_with(" 1") && broken.ends_with(" 0");
        Ok((intact && left == 0 && dropped > 0 && named).into())
    }
}

/// What became of a message at its last attempt, in words and in a word.
fn said(outcome: Option<&DeliveryOutcome>) -> (String, &'static str) {
    match outcome {
        None => ("nothing is known".to_owned(), ""),
        Some(DeliveryOutcome::Delivered { peer, tls, .. }) => {
            (format!("delivered to {} over {}", peer.host, how(tls)), tls.word())
        }
        Some(DeliveryOutcome::Failed { cause }) => {
            let row = cause.row();
            let verb = match row.class {
                Class::Transient => "waits",
                Class::Permanent => "FAILED",
            };
            (format!("{verb} with {} ({}): {}", row.status, row.word, cause.sentence()), row.word)
        }
    }
}

fn content(to: &str) -> String {
    format!("From: Alice <{SENDER}>\r\nTo: <{to}>\r\nSubject: The offer\r\nMessage-ID: <{to}>\r\n\r\nHere it is.\r\n")
}

fn arrived(message: &Received) -> bool {
    let sent = content(&format!("bob@{DOMAIN}"));
    message.content.starts_with(b"Received: ") && message.content.ends_with(sent.as_bytes())
}

/// Waits until nothing waits any more; gives the number that is left when patience ends.
async fn emptied(relay: &Relay) -> u64 {
    let waiting = || relay.spool.stats().queued_messages;
    let empty = async {
        while waiting() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _or_not = timeout(PATIENCE, empty).await;
    waiting()
}

/// The first line of the metrics that has all these words.
fn sample(metrics: &str, words: &[&str]) -> String {
    let mut lines = metrics.lines().filter(|line| !line.starts_with('#'));
    lines.find(|line| words.iter().all(|word| line.contains(word))).unwrap_or("NO SUCH METRIC").to_owned()
}
