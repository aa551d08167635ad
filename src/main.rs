//! Arguments, exit codes and wiring of the `relay` command.

mod cli;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use cli::terminal::{EXIT_CONFIG, EXIT_IO, EXIT_SYSTEM, EXIT_USAGE, complain, load, say, usual_file};
use dane_relay::check::compare::compare;
use dane_relay::check::{self, CheckReport, Checker, Color, Verdict, canary, selfcheck};
use dane_relay::clock::Clock;
use dane_relay::command::dns::{self, Detail};
use dane_relay::command::policy::{self, PolicyReport, PolicySetupError};
use dane_relay::config::{self, Config, RootsSource, TrustAnchorSource, Upstream};
#[cfg(feature = "lab")]
use dane_relay::lab;
use dane_relay::service::notify;
use dane_relay::service::start::{self, Remedy, StartError};
use dane_relay::smtp::address::Domain;
use dane_relay::spool::audit::Depth;
use hickory_proto::rr::{Name, RecordType};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Outbound SMTP relay that enforces DANE and accounts for every recipient.
#[derive(Parser)]
#[command(name = "relay", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay until SIGTERM or SIGINT.
    Serve {
        /// Configuration file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists;
        /// otherwise a listener on loopback and ./relay-spool.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show a signed mini-internet on loopback and mail going through it.
    #[cfg(feature = "lab")]
    Lab {
        /// Tell another story: an IPS that drops DNS answers, found by `relay check`.
        #[arg(long)]
        story: bool,
        /// Keep the lab running after the story, to try `relay check` on it; Ctrl-C ends it.
        #[arg(long, conflicts_with = "story")]
        stay: bool,
    },
    /// Find out what mail to a domain would meet now, and whose fault it is, without sending any.
    #[command(
        alias = "dane-check",
        after_help = "Exit codes: 0 ok, 1 warning, 2 fault, 3 could not find out, 64 usage, 78 configuration."
    )]
    Check(CheckArguments),
    /// Print what to publish so that `relay check` can tell a filter from a fault.
    Canary {
        #[command(subcommand)]
        action: CanaryAction,
    },
    /// Ask the DNS one question and say whether the answer proves itself.
    Dns {
        /// The name, such as _25._tcp.mx.example.org.
        #[arg(value_parser = dns::parse_name)]
        name: Name,
        /// The record type, such as MX, TLSA or TYPE65280.
        #[arg(value_name = "TYPE", value_parser = dns::parse_type)]
        record_type: RecordType,
        /// Show the chain of trust, zone by zone.
        #[arg(short, long)]
        verbose: bool,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        over: Overrides,
    },
    /// See what is known of the MTA-STS policy of a domain, or fetch it.
    Policy {
        #[command(subcommand)]
        action: PolicyAction,
    },
    /// See what waits, and decide about it.
    #[command(after_help = cli::operator::EXIT_CODES)]
    Queue {
        #[command(subcommand)]
        action: cli::operator::QueueAction,
    },
    /// Tell what happened to a message, attempt by attempt.
    #[command(after_help = cli::operator::EXIT_CODES)]
    Why {
        /// A queue id, a Message-ID, or the address of a sender or recipient.
        subject: String,
        #[command(flatten)]
        place: cli::operator::SpoolOptions,
    },
    /// Prove that every accepted recipient is accounted for.
    #[command(after_help = cli::operator::EXIT_CODES)]
    Audit {
        /// Look at the state database alone; without this, all that waits is read and verified, too.
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        place: cli::operator::SpoolOptions,
    },
    /// Say whether the relay runs, and how it is.
    #[command(after_help = cli::operator::EXIT_CODES)]
    Status {
        #[command(flatten)]
        place: cli::operator::SpoolOptions,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Print the completions for a shell.
    #[command(after_help = "For bash: relay completions bash > /etc/bash_completion.d/relay")]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, for a package.
    #[command(hide = true)]
    Manual {
        /// The directory; it is made if it is not there.
        directory: PathBuf,
    },
}

#[derive(Subcommand)]
enum CanaryAction {
    /// Print the zone file, for a signed zone of yours.
    Zonefile {
        /// The zone, such as canary.example.org.
        #[arg(value_parser = domain)]
        zone: Domain,
    },
}

/// What to check, whom to compare with, and how it is shown.
#[derive(Args)]
struct CheckArguments {
    /// The recipient domain.
    #[arg(value_parser = domain, required_unless_present_any = ["all_queued", "myself"])]
    domain: Option<Domain>,
    /// Check every domain that mail waits for now: one line each.
    #[arg(long, conflicts_with = "domain")]
    all_queued: bool,
    /// Check this host itself: resolver, validation, clock, egress, port 25, spool, certificate.
    #[arg(long = "self", conflicts_with_all = ["domain", "all_queued"])]
    myself: bool,
    /// Show every record and every probe.
    #[arg(short, long)]
    verbose: bool,
    /// Colours: auto, always or never.
    #[arg(long, value_enum, default_value_t = When::Auto)]
    color: When,
    #[command(flatten)]
    compared: Compared,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    over: Overrides,
}

/// Whom and what to compare with.
#[derive(Args)]
struct Compared {
    /// Compare with this resolver: tls://IP#NAME, https://IP/PATH#NAME, udp://IP. May be given
    /// several times.
    #[arg(long, value_name = "UPSTREAM")]
    reference: Vec<Upstream>,
    /// A zone with names of known numbers of records; see `relay canary zonefile`.
    #[arg(long, value_name = "ZONE", value_parser = domain)]
    canary: Option<Domain>,
    /// A mail host of somebody else, to see whether port 25 is open and TLS untouched. May be
    /// given several times.
    #[arg(long, value_name = "HOST", value_parser = domain)]
    control: Vec<Domain>,
    /// Keep all that was seen in a file.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with what was seen elsewhere and kept by --save.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

impl When {
    /// `NO_COLOR` counts when nothing is said.
    fn color(self) -> Color {
        let wanted = match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
            }
        };
        if wanted { Color::Shown } else { Color::Plain }
    }
}

#[derive(Subcommand)]
enum PolicyAction {
    /// Show the policy that is kept, and the TXT record as it is now.
    Show(OfDomain),
    /// Fetch the policy now and keep it; a relay that runs goes by it at once.
    Refresh(OfDomain),
}

/// A domain, and how to find out about it.
#[derive(Args)]
struct OfDomain {
    /// The recipient domain.
    #[arg(value_parser = domain)]
    domain: Domain,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    over: Overrides,
}

#[derive(Subcommand)]
enum ConfigAction {
    /// Say whether a configuration file can be used.
    Check {
        /// The file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print every key with the value that counts: of the file, or the default.
    Show {
        /// The file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print a configuration with every key, its meaning and its default.
    Example,
}

/// How a result is printed.
#[derive(Args)]
struct Output {
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// What overrides the configuration file, or stands in for it.
#[derive(Args)]
struct Overrides {
    /// Configuration file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask this way: system, udp://IP:PORT, tcp://IP:PORT, tls://IP:PORT#NAME,
    /// https://IP:PORT/PATH#NAME, authoritative. May be given several times.
    #[arg(long, value_name = "UPSTREAM")]
    upstream: Vec<Upstream>,
    /// Trust anchors: builtin, or a file with DNSKEY or DS lines.
    #[arg(long, value_name = "FILE")]
    trust_anchors: Option<String>,
    /// Certificate authorities: system, or a PEM file.
    #[arg(long, value_name = "FILE")]
    roots: Option<String>,
    /// Port of the mail servers.
    #[arg(long)]
    port: Option<u16>,
}

impl Overrides {
    fn config(self) -> Result<Config, String> {
        let mut config = load(self.config.as_deref())?;
        if !self.upstream.is_empty() {
            config.dns.upstreams = self.upstream;
        }
        if let Some(anchors) = self.trust_anchors {
            config.dns.trust_anchors = TrustAnchorSource::from(anchors);
        }
        if let Some(roots) = self.roots {
            config.tls.roots = RootsSource::from(roots);
        }
        if let Some(port) = self.port {
            config.delivery.port = port;
        }
        config.check()?;
        Ok(config)
    }
}

fn domain(text: &str) -> Result<Domain, String> {
    text.parse().map_err(|e| format!("{e}; write a domain such as example.org"))
}

async fn check_config(path: Option<PathBuf>) -> ExitCode {
    let Some(path) = path else { return complain(EXIT_USAGE, "which file? Give --config FILE") };
    let checked = load(Some(&path)).and_then(|config| {
        start::check(&config).map_err(|e| e.to_string())?;
        Ok(config)
    });
    let checked = match checked {
        Ok(config) => start::doubts(&config).await.map(|more| (config, more)).map_err(|e| e.to_string()),
        Err(message) => Err(message),
    };
    match checked {
        Ok((config, more)) => {
            for doubt in config.doubts(Clock::system().now()).iter().chain(&more) {
                complain(EXIT_CONFIG, &format!("warning: {doubt}"));
            }
            say(&format!("{}: ok\n", path.display()))
        }
        Err(message) => complain(EXIT_CONFIG, &message),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _broken_pipe = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(EXIT_IO, &format!("cannot start: {error}")),
    };
    runtime.block_on(run(cli.command))
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve { config } => serve(config).await,
        #[cfg(feature = "lab")]
        Command::Lab { story: true, .. } => told(lab::story::ips::tell(&mut std::io::stdout()).await),
        #[cfg(feature = "lab")]
        Command::Lab { story: false, stay } => {
            told(lab::story::demonstration::tell(&mut std::io::stdout(), stay.then(interrupted)).await)
        }
        Command::Check(arguments) => check(arguments).await,
        Command::Canary { action: CanaryAction::Zonefile { zone } } => say(&canary::zone_file(&zone)),
        Command::Dns { name, record_type, verbose, output, over } => {
            let detail = if verbose { Detail::Chain } else { Detail::Answer };
            dns(&(name, record_type), &Shown { detail, output }, over).await
        }
        Command::Policy { action: PolicyAction::Show(of) } => {
            let config = of.over.config();
            policy(async |config| policy::show(config, Clock::system(), &of.domain).await, config, of.output).await
        }
        Command::Policy { action: PolicyAction::Refresh(of) } => {
            let config = of.over.config();
            policy(async |config| policy::refresh(config, Clock::system(), &of.domain).await, config, of.output).await
        }
        Command::Queue { action } => cli::operator::queue(action).await,
        Command::Why { subject, place } => cli::operator::why(&subject, &place).await,
        Command::Audit { quick: true, place } => cli::operator::audit(Depth::Rows, &place).await,
        Command::Audit { quick: false, place } => cli::operator::audit(Depth::Everything, &place).await,
        Command::Status { place } => cli::operator::status(&place).await,
        Command::Config { action: ConfigAction::Check { config } } => check_config(config.or_else(usual_file)).await,
        Command::Config { action: ConfigAction::Show { config } } => {
            match config::shown(config.or_else(usual_file).as_deref()) {
                Ok(text) => say(&text),
                Err(error) => complain(EXIT_CONFIG, &error.to_string()),
            }
        }
        Command::Config { action: ConfigAction::Example } => say(config::REFERENCE),
        Command::Completions { shell } => say(&cli::manual::completions(Cli::command(), shell)),
        Command::Manual { directory } => match cli::manual::write_pages(Cli::command(), &directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(EXIT_IO, &format!("{}: {error}", directory.display())),
        },
    }
}

async fn serve(path: Option<PathBuf>) -> ExitCode {
    let config = match load(path.as_deref()) {
        Ok(config) => config,
        Err(message) => return complain(EXIT_CONFIG, &message),
    };
    if let Err(message) = cli::log::begin() {
        return complain(EXIT_CONFIG, &message);
    }
    let doubts = config.doubts(Clock::system().now());
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => return complain(EXIT_IO, &format!("cannot start: {error}")),
    };
    let relay = match start::start(config, Clock::system()).await {
        Ok(relay) => relay,
        Err(error) => return complain(exit_code_of(&error), &error.to_string()),
    };
    tracing::info!(smtp = ?relay.smtp, admin = %relay.admin, "relay serves");
    notify::ready(&format!("takes mail at {:?}, metrics at {}", relay.smtp, relay.admin));
    for doubt in doubts {
        tracing::warn!("{doubt}");
    }
    let stop = relay.stopper();
    tokio::spawn(notify::keep_alive(stop.clone()));
    tokio::spawn(async move {
        tokio::select! {
            _signal = terminate.recv() => {}
            _signal = interrupt.recv() => {}
        }
        tracing::info!("relay stops");
        notify::stopping();
        stop.cancel();
    });
    match relay.ended().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(EXIT_IO, &error.to_string()),
    }
}

fn exit_code_of(error: &StartError) -> u8 {
    match error.remedy() {
        Remedy::Configuration => EXIT_CONFIG,
        Remedy::Time => EXIT_SYSTEM,
    }
}

async fn check(arguments: CheckArguments) -> ExitCode {
    let CheckArguments { domain, myself, verbose, color, mut compared, output, over, .. } = arguments;
    let config = over.config().map(|config| compared.on_top_of(config));
    let checker = match config.and_then(|c| Checker::new(c, Clock::system()).map_err(|e| e.to_string())) {
        Ok(checker) => checker,
        Err(message) => return complain(EXIT_CONFIG, &message),
    };
    if myself {
        return check_self(&checker, &output).await;
    }
    let Some(domain) = domain else { return check_queued(&checker, &output, color.color()).await };
    let progress = Progress::begin(&format!("asking the DNS and the mail servers about {domain}"));
    let report = checker.check(&domain).await;
    drop(progress);
    let detail = if verbose { check::Detail::Everything } else { check::Detail::Verdict };
    let json = || serde_json::to_string_pretty(&report).map(|json| json + "\n");
    match if output.json { json() } else { Ok(report.shown(detail, color.color())) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
    };
    match kept(&report, &compared).await {
        Ok(text) if !output.json => say(&text),
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => return complain(EXIT_IO, &message),
    };
    ExitCode::from(report.verdict.exit_code())
}

/// Writes what was seen, and compares it with what was seen elsewhere.
async fn kept(report: &CheckReport, compared: &Compared) -> Result<String, String> {
    let failed = |path: &std::path::Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    if let Some(path) = &compared.save {
        let json = serde_json::to_string_pretty(&report.evidence).map_err(|e| failed(path, &e))?;
        tokio::fs::write(path, json + "\n").await.map_err(|e| failed(path, &e))?;
    }
    let Some(path) = &compared.compare else { return Ok(String::new()) };
    let text = tokio::fs::read_to_string(path).await.map_err(|e| failed(path, &e))?;
    let theirs = serde_json::from_str(&text).map_err(|e| failed(path, &format!("no file of --save: {e}")))?;
    Ok(compare(&report.evidence, &theirs))
}

async fn check_self(checker: &Checker, output: &Output) -> ExitCode {
    let progress = Progress::begin("looking at this host");
    let seen = checker.look_at_self().await;
    drop(progress);
    let json = || serde_json::to_string_pretty(&seen).map(|json| json + "\n");
    match if output.json { json() } else { Ok(selfcheck::text(&seen)) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
    };
    ExitCode::from(selfcheck::worst(&seen).exit_code())
}

async fn check_queued(checker: &Checker, output: &Output, color: Color) -> ExitCode {
    let domains = checker.queued().await;
    let progress = Progress::begin(&format!("checking {} domains", domains.len()));
    let reports = checker.check_all(&domains).await;
    drop(progress);
    let json = || serde_json::to_string_pretty(&reports).map(|json| json + "\n");
    let lines = || reports.iter().map(|report| report.headline(color) + "\n").collect::<String>();
    let text = if reports.is_empty() { "OK  no mail waits\n".to_owned() } else { lines() };
    match if output.json { json() } else { Ok(text) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
    };
    let worst = reports.iter().map(|report| report.verdict).max_by_key(|verdict| verdict.weight());
    ExitCode::from(worst.map_or(0, Verdict::exit_code))
}

impl Compared {
    /// What is said here comes on top of the file's.
    fn on_top_of(&mut self, mut config: Config) -> Config {
        config.check.references.append(&mut self.reference);
        config.check.controls.append(&mut self.control);
        config.check.canary = self.canary.take().or(config.check.canary);
        config
    }
}

/// A line on the terminal while something takes time; gone when it is dropped.
struct Progress(bool);

impl Progress {
    fn begin(what: &str) -> Self {
        let mut terminal = std::io::stderr();
        let shown = terminal.is_terminal();
        if shown {
            let _nowhere_to_say_it = write!(terminal, "relay: {what} …");
        }
        Self(shown)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.0 {
            let _nowhere_to_say_it = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// How the answer of a look-up is printed.
struct Shown {
    detail: Detail,
    output: Output,
}

async fn dns((name, record_type): &(Name, RecordType), shown: &Shown, over: Overrides) -> ExitCode {
    let config = match over.config() {
        Ok(config) => config,
        Err(message) => return complain(EXIT_CONFIG, &message),
    };
    let report = match dns::look_up(&config, Clock::system(), name, *record_type).await {
        Ok(report) => report,
        Err(error) => return complain(EXIT_CONFIG, &error.to_string()),
    };
    let json = || serde_json::to_string_pretty(&report).map(|json| json + "\n");
    match if shown.output.json { json() } else { Ok(report.text(shown.detail)) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
    };
    ExitCode::from(report.status.exit_code())
}

async fn policy(
    ask: impl AsyncFnOnce(&Config) -> Result<PolicyReport, PolicySetupError>,
    config: Result<Config, String>,
    output: Output,
) -> ExitCode {
    let config = match config {
        Ok(config) => config,
        Err(message) => return complain(EXIT_CONFIG, &message),
    };
    let report = match ask(&config).await {
        Ok(report) => report,
        Err(error) => return complain(EXIT_CONFIG, &error.to_string()),
    };
    let json = || serde_json::to_string_pretty(&report).map(|json| json + "\n");
    match if output.json { json() } else { Ok(report.text()) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
    };
    ExitCode::from(report.status.exit_code())
}

#[cfg(feature = "lab")]
fn told(story: std::io::Result<bool>) -> ExitCode {
    match story {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => complain(1, "an outcome was not the expected one"),
        Err(error) => complain(EXIT_IO, &error.to_string()),
    }
}

#[cfg(feature = "lab")]
async fn interrupted() {
    // Where signals cannot be had there is nothing to wait for.
    let _signal_or_none = tokio::signal::ctrl_c().await;
}
