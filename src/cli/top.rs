//! `relay top`: the queue on one screen, looked at again and again.
//!
//! Read from the ledger and, where a relay runs, from its control socket. Plain escape sequences on the other
//! screen of the terminal, which is as before when this ends: by `q`, Ctrl-C or SIGTERM.

use super::exit::Exit;
use super::place::{SpoolOptions, ask_quietly, with_ledger};
use super::terminal::{TerminalSize, complain, size};
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::command::queue::Filter;
use dane_relay::command::queue::summary::{QueueSummary, summary};
use dane_relay::command::status::Running;
use dane_relay::spool::ledger::Ledger;
use dane_relay::text::harmless;
use dane_relay::text::table::{Width, cut, octets, span};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// The size of a terminal that does not say its own.
const USUAL: TerminalSize = TerminalSize { columns: 80, lines: 24 };

pub(crate) async fn top(every: Duration, config: Option<PathBuf>) -> ExitCode {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return complain(Exit::Usage, "top needs a terminal; without one ask `relay queue summary`");
    }
    let place = SpoolOptions::text_of(config);
    let answer = with_ledger(&place, async |ledger| {
        let screen = match Screen::begin() {
            Ok(screen) => screen,
            Err(error) => return Ok(complain(Exit::Io, &format!("the terminal: {error}"))),
        };
        let watched = watch(ledger, every, &place).await;
        drop(screen);
        watched.map(|()| Exit::Done.into())
    });
    answer.await
}

async fn watch(
    ledger: &dyn Ledger,
    every: Duration,
    place: &SpoolOptions,
) -> Result<(), dane_relay::spool::ledger::LedgerError> {
    let (mut keys, mut ends) = (keys(), Box::pin(asked_to_end()));
    let mut ticks = tokio::time::interval(every);
    loop {
        tokio::select! {
            _tick = ticks.tick() => {
                let now = Clock::system().now();
                let sum = summary(ledger, &Filter::default(), now).await?;
                let running = ask_quietly(place).await;
                draw(&shown(sum, running.as_ref(), size().unwrap_or(USUAL), now));
            }
            key = keys.recv() => match key {
                Some(b'q' | b'Q') | None => return Ok(()),
                Some(_) => ticks.reset_immediately(),
            },
            () = &mut ends => return Ok(()),
        }
    }
}

/// SIGINT or SIGTERM; never where they cannot be had.
async fn asked_to_end() {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _signal = interrupt.recv() => {}
                _signal = terminate.recv() => {}
            }
        }
        (Err(_), _) | (_, Err(_)) => std::future::pending().await,
    }
}

/// What is typed. The thread ends with the process: nothing wakes it up.
fn keys() -> mpsc::Receiver<u8> {
    let (sender, keys) = mpsc::channel(8);
    std::thread::spawn(move || {
        for key in io::stdin().lock().bytes().map_while(Result::ok) {
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

/// The other screen of the terminal, with its cursor hidden and keys that come at once; all as before when it
/// is dropped.
struct Screen(Termios);

impl Screen {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Self(before);
        write_out("\x1b[?1049h\x1b[?25l");
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write_out("\x1b[?25h\x1b[?1049l");
        // Nobody could be told.
        let _as_before = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn draw(lines: &[String]) {
    let mut picture = String::from("\x1b[H");
    for line in lines {
        picture += &format!("{}\x1b[K\r\n", harmless(line));
    }
    // The last line has no end, or the screen would roll.
    write_out(&(picture.trim_end_matches("\r\n").to_owned() + "\x1b[J"));
}

fn write_out(text: &str) {
    let _terminal_gone = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
}

/// The screen: at most as many lines as it has, none wider than it is.
fn shown(mut sum: QueueSummary, running: Option<&Running>, size: TerminalSize, now: Timestamp) -> Vec<String> {
    let width = Width::Columns(size.columns);
    let mut lines = vec![headline(running, now), sum.headline().trim_end().to_owned()];
    let ages: Vec<String> = sum
        .ages
        .iter()
        .map(|bucket| {
            let age = bucket.under_s.map_or_else(|| "older".to_owned(), |under| format!("<{}", span(under)));
            format!("{age} {}", bucket.messages)
        })
        .collect();
    lines.push(format!("age: {}", ages.join("   ")));
    sum.hosts = running.map(|running| running.hosts.clone());
    let hosts = sum.host_table(width);
    // Headers, empty lines, and the line of the keys.
    let rows = size.lines.saturating_sub(lines.len() + 5);
    let for_hosts = hosts.lines().count().min(rows / 2 + 1);
    let for_domains = (rows + 1).saturating_sub(for_hosts);
    if sum.messages > 0 {
        lines.push(String::new());
        lines.extend(sum.domain_table(width, for_domains).lines().map(str::to_owned));
    }
    if for_hosts > 0 {
        lines.push(String::new());
        lines.extend(hosts.lines().take(for_hosts).map(str::to_owned));
    }
    lines.truncate(size.lines.saturating_sub(2));
    lines.push(String::new());
    lines.push(format!("{}   q ends, any other key looks again", now.to_second()));
    lines.iter().map(|line| cut(line, size.columns)).collect()
}

fn headline(running: Option<&Running>, now: Timestamp) -> String {
    let Some(running) = running else { return "no relay runs; this is what its spool holds".to_owned() };
    let state = match &running.refuses {
        Some(why) => format!("TAKES NO MAIL: {why}"),
        None => "takes mail".to_owned(),
    };
    format!(
        "relay {}, up {}, {state}; spool {}; {} of {} attempts, {} next hops backed off",
        running.version,
        span(now.since(running.since).as_secs()),
        octets(running.spool_bytes),
        running.hosts.answering.used + running.hosts.new.used,
        running.hosts.answering.most + running.hosts.new.most,
        running.next_hops_backing_off,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use dane_relay::command::queue::summary::{AgeBucket, CauseCount, DomainSummary};
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    fn many() -> QueueSummary {
        let domain = |n: u64| DomainSummary {
            domain: format!("a-rather-long-name-{n}.of-a-partner.example"),
            messages: 3,
            recipients: 100 - n,
            held: 0,
            oldest_s: 5_000,
            causes: vec![CauseCount { cause: "certificate-host-mismatch", recipients: 100 - n }],
        };
        QueueSummary {
            messages: 180,
            recipients: 300,
            ages: vec![AgeBucket { under_s: None, messages: 180, recipients: 300 }],
            domains: (0..60).map(domain).collect(),
            ..QueueSummary::default()
        }
    }

    fn running() -> Running {
        let host = |n: usize| {
            json!({
                "host": format!("mx{n}.of-a-partner.example [192.0.2.{n}]:25"),
                "connections": { "used": 0, "most": 1 },
                "waiting": 3,
                "why": "backing off (The server refused the connection.)",
                "until": NOW.0,
            })
        };
        let hosts: Vec<_> = (1..20).map(host).collect();
        let told = json!({
            "relay_version": "0.1.0",
            "pid": 1,
            "since": NOW.0 - 90_000,
            "smtp": [],
            "admin": "127.0.0.1:1",
            "refuses": null,
            "full_disk": null,
            "queued_messages": 1,
            "oldest": null,
            "spool_bytes": 5_000,
            "damaged_records": 0,
            "next_hops_backing_off": 2,
            "hosts": { "hosts": hosts, "further": 9 },
        });
        serde_json::from_value(told).unwrap()
    }

    #[test]
    fn a_screen_is_never_larger_than_the_terminal_and_ends_with_its_keys() {
        for (columns, lines) in [(80, 24), (160, 50), (40, 10), (20, 4)] {
            for (sum, running) in [(many(), Some(running())), (QueueSummary::default(), None), (many(), None)] {
                let screen = shown(sum, running.as_ref(), TerminalSize { columns, lines }, NOW);
                assert!(screen.len() <= lines, "{} lines of {lines}: {screen:#?}", screen.len());
                assert!(screen.iter().all(|line| line.chars().count() <= columns), "{screen:#?}");
                assert!(screen.last().unwrap().starts_with("2026-11-21"), "{screen:#?}");
            }
        }
        let screen = shown(many(), Some(&running()), TerminalSize { columns: 80, lines: 24 }, NOW).join("\n");
        for part in
            ["relay 0.1.0, up 1m 30s, takes mail", "180 messages wait", "a-rather-long-name-0", "mx1.of", "UNTIL"]
        {
            assert!(screen.contains(part), "no {part} in\n{screen}");
        }
    }
}
