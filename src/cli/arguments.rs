//! The arguments of the `relay` command, and what they make of the configuration.

use super::audit::AuditOptions;
use super::cluster::{ClusterAction, SpoolAction};
use super::dkim::DkimAction;
use super::operator::QueueAction;
pub(crate) use super::overrides::{Output, Overrides};
use super::place::SpoolOptions;
use super::reports::ReportsAction;
use super::send_test::SendTestArguments;
use super::setup::SetupArguments;
use super::shown::{TableArguments, WhyView};
use super::suspend::{ResumeArguments, SuspendArguments};
use super::user::UserAction;
use super::values::{domain, sender};
use clap::{Args, Parser, Subcommand};
use dane_relay::check::Color;
use dane_relay::command::dns;
use dane_relay::command::what_if::Supposition;
use dane_relay::config::{Config, Upstream};
use dane_relay::smtp::address::{Domain, ReversePath};
use dane_relay::spool::incident::IncidentId;
use hickory_proto::rr::{Name, RecordType};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

/// Outbound SMTP relay that enforces DANE and accounts for every recipient.
#[derive(Parser)]
#[command(name = "relay", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

#[derive(Subcommand)]
pub(crate) enum CliCommand {
    /// Run the relay until SIGTERM or SIGINT.
    Serve {
        /// Configuration file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists;
        /// otherwise a listener on loopback and ./relay-spool.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Write the configuration of a relay in front of Exchange, and say what is left to do.
    Setup(Box<SetupArguments>),
    /// Send one message through the relay that runs, and tell what becomes of it.
    SendTest(SendTestArguments),
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
    #[command(alias = "dane-check")]
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
    /// Make and check the keys that mail is signed with (DKIM).
    Dkim {
        #[command(subcommand)]
        action: DkimAction,
    },
    /// See what is known of the MTA-STS policy of a domain, or fetch it.
    Policy {
        #[command(subcommand)]
        action: PolicyAction,
    },
    /// See what waits, and decide about it.
    Queue {
        #[command(subcommand)]
        action: QueueAction,
    },
    /// Tell what happened to a message, attempt by attempt.
    Why {
        /// A queue id, a Message-ID, or the address of a sender or recipient.
        #[arg(required_unless_present = "what_if")]
        subject: Option<String>,
        /// Name the past deliveries that would have waited under this level of TLS: tls=dane-only.
        #[arg(long, value_name = "tls=LEVEL", requires = "of_domain", conflicts_with = "subject")]
        what_if: Option<Supposition>,
        /// The domain that they went to.
        #[arg(long = "domain", id = "of_domain", value_name = "DOMAIN", value_parser = domain, requires = "what_if")]
        of_domain: Option<Domain>,
        #[command(flatten)]
        view: WhyView,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// Watch the queue: how much waits, for whom, and which hosts are backed off. Ends with q.
    Top {
        /// Seconds between two looks.
        #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
        every: u64,
        /// Configuration file, which names the spool; without it $RELAY_CONFIG, or
        /// /etc/relay/relay.toml where that exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show faults that many domains have in common: whose they are, since when, and what to do.
    Incidents {
        /// More about these alone.
        #[arg(value_name = "ID")]
        ids: Vec<IncidentId>,
        #[command(flatten)]
        table: TableArguments,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// See what will go wrong with the domains that mail goes to.
    Watch {
        #[command(subcommand)]
        action: WatchAction,
    },
    /// See how TLS went with the domains that mail goes to, and what they are told of it (RFC 8460).
    Reports {
        #[command(subcommand)]
        action: ReportsAction,
    },
    /// Prove that every accepted recipient is accounted for.
    ///
    /// With Exchange's message tracking log: prove that everything that Exchange handed over came in.
    Audit(AuditOptions),
    /// Say whether the relay runs, and how it is.
    Status {
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// Let the running relay take over its configuration file; what is under way goes on.
    Reload {
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// End the running relay, and let those that share its spool have its work at once.
    ///
    /// It takes no more mail, gives back what has not begun, and ends when deliveries under way have, after half a minute at
    /// the latest. With a spool of its own what waits is there at the next start.
    Drain {
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// Say more or less in the log of the running relay, without a restart.
    LogLevel {
        /// error, warn, info, debug, trace or off; a list of modules with a level each, such as
        /// info,dane_relay::deliver=debug; or default, which is what it was started with.
        level: String,
        /// For this long, such as 10m; without it until it is changed again.
        #[arg(long = "for", id = "lasts", value_name = "TIME", value_parser = humantime::parse_duration)]
        lasts: Option<Duration>,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// The database that keeps the mail, where one does.
    Spool {
        #[command(subcommand)]
        action: SpoolAction,
    },
    /// The relays that share one spool.
    Cluster {
        #[command(subcommand)]
        action: ClusterAction,
    },
    /// Let nothing further in from a sender or user, or to a destination; what is queued stays.
    Suspend(SuspendArguments),
    /// Let it in again.
    Resume(ResumeArguments),
    /// Who may log in at a listener with `auth`.
    User {
        #[command(subcommand)]
        action: UserAction,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Print the completions for a shell.
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

/// `relay watch …`
#[derive(Subcommand)]
pub(crate) enum WatchAction {
    /// The domains that are watched, those with findings first.
    List {
        #[command(flatten)]
        table: TableArguments,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// What was found of one, and a text for whoever runs it.
    Show {
        /// The domain.
        #[arg(value_parser = domain)]
        domain: Domain,
        #[command(flatten)]
        place: SpoolOptions,
    },
}

#[derive(Subcommand)]
pub(crate) enum CanaryAction {
    /// Print the records, to be included in the file of a signed zone of yours; with --ns a whole zone.
    Zonefile {
        /// The zone, such as canary.example.org.
        #[arg(value_parser = domain)]
        zone: Domain,
        /// A name server of the zone: then SOA and NS records are printed, too, and the zone loads as it is. May be
        /// given several times.
        #[arg(long, value_name = "NAME", value_parser = domain)]
        ns: Vec<Domain>,
    },
}

/// What to check, whom to compare with, and how it is shown.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct CheckArguments {
    /// The recipient domain.
    #[arg(value_parser = domain, required_unless_present_any = ["all_queued", "myself", "verify"])]
    pub(crate) domain: Option<Domain>,
    /// Check as for mail of this sender, an address or <>; otherwise only destinations for everybody count.
    #[arg(long, value_name = "ADDRESS", value_parser = sender)]
    pub(crate) from: Option<ReversePath>,
    /// Check every domain that mail waits for now: one line each.
    #[arg(long, conflicts_with = "domain")]
    pub(crate) all_queued: bool,
    /// Check this host itself: resolver, validation, clock, egress, port 25, spool, certificate.
    #[arg(long = "self", conflicts_with_all = ["domain", "all_queued"])]
    pub(crate) myself: bool,
    /// Wait for everything as long as delivery does: minutes for a mail server that is slow.
    #[arg(long)]
    pub(crate) patient: bool,
    /// Write the evidence to hand over: DNSSEC chains, certificates, what servers said, every probe with time
    /// and ports.
    #[arg(long, value_name = "FILE", requires = "domain")]
    pub(crate) bundle: Option<PathBuf>,
    /// Verify such a file, without the network: no octet changed, every chain of trust and every certificate
    /// holds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["domain", "all_queued", "myself", "from"])]
    pub(crate) verify: Option<PathBuf>,
    /// Show every record and every probe.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Colours: auto, always or never.
    #[arg(long, value_enum, default_value_t = When::Auto)]
    pub(crate) color: When,
    #[command(flatten)]
    pub(crate) compared: Compared,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) over: Overrides,
}

/// Whom and what to compare with.
#[derive(Args)]
pub(crate) struct Compared {
    /// Compare with this resolver: tls://IP#NAME, https://IP/PATH#NAME, udp://IP. May be given
    /// several times.
    #[arg(long, value_name = "UPSTREAM")]
    pub(crate) reference: Vec<Upstream>,
    /// A zone with names of known numbers of records; see `relay canary zonefile`.
    #[arg(long, value_name = "ZONE", value_parser = domain)]
    pub(crate) canary: Option<Domain>,
    /// A mail host of somebody else, to see whether port 25 is open and TLS untouched. May be
    /// given several times.
    #[arg(long, value_name = "HOST", value_parser = domain)]
    pub(crate) control: Vec<Domain>,
    /// Keep all that was seen in a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Compare with what was seen elsewhere and kept by --save.
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

impl When {
    /// `NO_COLOR` counts when nothing is said.
    pub(crate) fn color(self) -> Color {
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
pub(crate) enum PolicyAction {
    /// The policies that are kept, by domain; nobody is asked.
    List {
        #[command(flatten)]
        table: TableArguments,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// Show the policy that is kept, and the TXT record as it is now.
    Show(OfDomain),
    /// Fetch the policy now and keep it; a relay that runs goes by it at once.
    Refresh(OfDomain),
}

/// A domain, and how to find out about it.
#[derive(Args)]
pub(crate) struct OfDomain {
    /// The recipient domain.
    #[arg(value_parser = domain)]
    pub(crate) domain: Domain,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) over: Overrides,
}

#[derive(Subcommand)]
pub(crate) enum ConfigAction {
    /// Say whether a configuration file can be used.
    ///
    /// All that is wrong is told at once, each with its line. Looked at: every value, the files that it
    /// names and what is in them, whether the user of the service can read them (asked as root), the ports
    /// unless a relay runs on the spool, addresses to send from, next hops in the DNS. Not looked at: what
    /// is in the spool, whether resolvers validate, whether mail servers answer (`relay check`), firewalls.
    Check {
        /// The file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Print every key with the value that counts: of the file, or the default.
    Show {
        /// The file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Show what a reload would change: between what the running relay uses and the file.
    Diff {
        /// The file; without it $RELAY_CONFIG, or /etc/relay/relay.toml where that exists.
        file: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Print a configuration with every key, its meaning and its default.
    Example,
}

impl Compared {
    /// What is said here comes on top of the file's.
    pub(crate) fn on_top_of(&mut self, mut config: Config) -> Config {
        config.check.references.append(&mut self.reference);
        config.check.controls.append(&mut self.control);
        config.check.canary = self.canary.take().or(config.check.canary);
        config
    }
}
