//! `relay setup`: asks or is told, looks, writes the configuration, and says what is left to do.

mod disk;
mod questions;

use super::exit::Exit;
use super::terminal::{ProgressLine, complain, say};
use super::values::{domain, mailbox, network};
use clap::Args;
use dane_relay::check::Checker;
use dane_relay::check::first_start::FirstLook;
use dane_relay::check::selfcheck;
use dane_relay::check::spf::{SpfResult, SpfSeen, suggestion};
use dane_relay::clock::Clock;
use dane_relay::command::setup::records::SpfToPublish;
use dane_relay::command::setup::{SetupAnswers, exchange, file, records};
use dane_relay::config::{Config, Upstream};
use dane_relay::service::start;
use dane_relay::smtp::address::{Domain, Mailbox};
use disk::{Existing, WrittenFile};
use ipnet::IpNet;
use questions::AnswerError;
use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// Stands for standard output.
const STDOUT: &str = "-";

/// The answers, and what is done with them.
#[derive(Args)]
pub(crate) struct SetupArguments {
    #[command(flatten)]
    given: GivenAnswers,
    /// Where the configuration is written; - prints it and nothing else.
    #[arg(long, value_name = "FILE", default_value = "/etc/relay/relay.toml")]
    output: PathBuf,
    /// Replace a file that is there; it is kept as FILE.old.
    #[arg(long)]
    force: bool,
    /// Look at nothing: neither the DNS nor port 25.
    #[arg(long)]
    offline: bool,
    /// Ask nothing, also on a terminal.
    #[arg(long)]
    yes: bool,
}

/// What may be said on the command line instead of being asked for.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GivenAnswers {
    /// The name of this relay that other servers see.
    #[arg(long, value_name = "NAME", value_parser = domain)]
    hostname: Option<Domain>,
    /// The address of an Exchange server, or the network of several. May be given several times.
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    exchange: Vec<IpNet>,
    /// A domain of your senders. May be given several times.
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    sender_domain: Vec<Domain>,
    /// Who is told of lost reports; without it, postmaster at the first sender domain.
    #[arg(long, value_name = "ADDRESS", value_parser = mailbox)]
    postmaster: Option<Mailbox>,
    /// Where Exchange hands mail in; without it 0.0.0.0:25. May be given several times.
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Certificate for STARTTLS towards Exchange, in PEM; without it the relay makes one.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of the certificate.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Where accepted mail lives.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/relay")]
    spool: PathBuf,
    /// A way to the DNS, as in `[dns]` upstreams; without it "system", "authoritative". May be given several
    /// times.
    #[arg(long, value_name = "UPSTREAM")]
    upstream: Vec<Upstream>,
    /// A file of trust anchors; without it the built-in ones.
    #[arg(long, value_name = "FILE")]
    trust_anchors: Option<PathBuf>,
    /// The address that mail leaves from as others see it, where a router changes it. May be given twice,
    /// for IPv4 and IPv6.
    #[arg(long, value_name = "ADDRESS")]
    egress: Vec<IpAddr>,
    /// A mail host of somebody else, to see whether port 25 is open. May be given several times.
    #[arg(long, value_name = "HOST", value_parser = domain)]
    control: Vec<Domain>,
    /// The recipient domain to begin with on Exchange.
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    pilot: Option<Domain>,
}

pub(crate) async fn setup(arguments: SetupArguments) -> ExitCode {
    let SetupArguments { given, output, force, offline, yes } = arguments;
    let to_stdout = output.as_os_str() == STDOUT;
    let existing = if force { Existing::Replace } else { Existing::Keep };
    if !to_stdout && let Err(error) = disk::may_write(&output, existing) {
        return complain(error.exit_code(), &error.to_string());
    }
    let asks = !yes && io::stdin().is_terminal();
    let answered = if asks { questions::on_terminal(given) } else { questions::complete(given) };
    let answers = match answered {
        Ok(answers) => answers,
        Err(AnswerError::Missing(what)) => return complain(Exit::Usage, &what),
        Err(AnswerError::Ended(error)) => return complain(Exit::Io, &format!("no answer: {error}")),
    };
    let text = file::text(&answers);
    let config = match Config::parse(&text, &output).map_err(|e| e.to_string()) {
        Ok(config) => config,
        Err(message) => return complain(Exit::Config, &message),
    };
    if let Err(error) = start::check(&config) {
        return complain(Exit::Config, &error.to_string());
    }
    if to_stdout {
        return say(&text);
    }
    let looked = match look(config, &answers.egress, offline.then_some(Offline)).await {
        Ok(looked) => looked,
        Err(code) => return code,
    };
    let written = match disk::write(&output, &text, existing) {
        Ok(written) => written,
        Err(error) => return complain(error.exit_code(), &error.to_string()),
    };
    say(&told(&answers, &looked, &written))
}

/// Nothing is looked at.
struct Offline;

/// What a first start meets; nothing where nobody is asked.
async fn look(config: Config, egress: &[IpAddr], offline: Option<Offline>) -> Result<FirstLook, ExitCode> {
    if offline.is_some() {
        return Ok(FirstLook { checks: Vec::new(), egress: egress.to_vec(), spf: Vec::new() });
    }
    let checker = Checker::new(config, Clock::system()).map_err(|error| complain(Exit::Config, &error.to_string()))?;
    let progress = ProgressLine::begin("looking at the DNS, at port 25 and at this host");
    let looked = Box::pin(checker.look_before_first_start(egress)).await;
    drop(progress);
    Ok(looked)
}

fn told(answers: &SetupAnswers, looked: &FirstLook, written: &WrittenFile) -> String {
    let mut text = String::new();
    if !looked.checks.is_empty() {
        text += &heading("What was found");
        text += &selfcheck::text(&looked.checks);
    }
    text += &heading("The configuration");
    text += &written.sentence();
    text += &heading("To publish in the DNS");
    text += &records::text(answers, &looked.egress, &to_publish(looked));
    text += &heading("On Exchange, in the Exchange Management Shell");
    text += &exchange::commands(answers);
    text += &heading("Now");
    let (pilot, domain) = (&answers.pilot, answers.sender_domains.first());
    let somebody = domain.map_or_else(String::new, |domain| format!(" --from you@{domain}"));
    text += &format!(
        "relay config check\nsystemctl restart relay\nrelay check {pilot}\nrelay send-test --to somebody@{pilot}{somebody}\n"
    );
    text
}

fn heading(words: &str) -> String {
    format!("\n== {words}\n")
}

/// What each sender domain should have; a record that cannot be judged is left as it is.
fn to_publish(looked: &FirstLook) -> Vec<SpfToPublish> {
    let record = |seen: &SpfSeen| match &seen.result {
        SpfResult::Pass | SpfResult::Unavailable(_) | SpfResult::Depends(_) => None,
        SpfResult::NoRecord | SpfResult::Invalid(_) => Some(suggestion(None, &looked.egress)),
        SpfResult::Fail | SpfResult::SoftFail | SpfResult::Neutral => {
            Some(suggestion(seen.record.as_deref(), &looked.egress))
        }
    };
    looked.spf.iter().map(|(domain, seen)| SpfToPublish { domain: domain.clone(), record: record(seen) }).collect()
}
