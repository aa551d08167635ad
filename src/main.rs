//! Arguments, exit codes and wiring of the `relay` command.

mod cli;

use clap::{CommandFactory as _, FromArgMatches as _};
use cli::arguments::{CanaryAction, Cli, CliCommand, ConfigAction, PolicyAction, WatchAction};
use cli::exit::Exit;
use cli::lookup::DnsOutput;
use cli::terminal::{complain, say, usual_file};
use cli::{
    audit, check, cluster, configuration, dkim, drain, guided, lookup, manual, operator, reload, reports, send_test,
    serve, setup, suspend, top, trouble, user,
};
use dane_relay::check::canary;
use dane_relay::clock::Clock;
use dane_relay::command::dns::DnsDetail;
use dane_relay::command::policy;
use dane_relay::config;
#[cfg(feature = "lab")]
use dane_relay::lab;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Every message is hundreds of small pieces of memory that live for milliseconds, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What still runs when a command has ended may take so long to end, too.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let parsed = guided::annotated(Cli::command()).try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let _broken_pipe = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // The library's own setting still counts.
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        runtime.worker_threads(workers());
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Io, &format!("cannot start: {error}")),
    };
    let code = runtime.block_on(run(cli.command));
    // A thread that waits for a disk that never answers ends with the process.
    runtime.shutdown_timeout(LAST_PATIENCE);
    code
}

/// How many threads speak to clients and servers: one core is left to those that write log and state. On two cores a second
/// one cost more in waking each other than it did.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

async fn run(command: CliCommand) -> ExitCode {
    match command {
        CliCommand::Serve { config } => serve::serve(config).await,
        CliCommand::Setup(arguments) => Box::pin(setup::setup(*arguments)).await,
        CliCommand::SendTest(arguments) => Box::pin(send_test::send_test(arguments)).await,
        #[cfg(feature = "lab")]
        CliCommand::Lab { story: true, .. } => told(lab::story::ips::tell(&mut std::io::stdout()).await),
        #[cfg(feature = "lab")]
        CliCommand::Lab { story: false, stay } => {
            told(lab::story::demonstration::tell(&mut std::io::stdout(), stay.then(interrupted)).await)
        }
        CliCommand::Check(arguments) => check::check(arguments).await,
        CliCommand::Canary { action: CanaryAction::Zonefile { zone, ns } } => say(&canary::zone_file(&zone, &ns)),
        CliCommand::Dns { name, record_type, verbose, output, over } => {
            let detail = if verbose { DnsDetail::Chain } else { DnsDetail::Answer };
            lookup::dns(&name, record_type, &DnsOutput { detail, output }, over).await
        }
        CliCommand::Dkim { action } => Box::pin(dkim::dkim(action)).await,
        CliCommand::Policy { action } => policy_of(action).await,
        CliCommand::Queue { action } => operator::queue(action).await,
        CliCommand::Why { what_if: Some(supposition), of_domain: Some(domain), place, .. } => {
            trouble::what_if(supposition, &domain, &place).await
        }
        CliCommand::Why { subject, view, place, .. } => {
            operator::why(&subject.unwrap_or_default(), &view, &place).await
        }
        CliCommand::Top { every, config } => top::top(Duration::from_secs(every), config).await,
        CliCommand::Reports { action } => reports::reports(action).await,
        CliCommand::Watch { action: WatchAction::List { table, place } } => trouble::watch_list(&table, &place),
        CliCommand::Watch { action: WatchAction::Show { domain, place } } => trouble::watch_show(&domain, &place),
        CliCommand::Incidents { ids, table, place } => trouble::incidents(&ids, &table, &place).await,
        CliCommand::Audit(options) => audit::audit(options).await,
        CliCommand::Status { place } => operator::status(&place).await,
        CliCommand::Config { action: ConfigAction::Check { config, output } } => {
            configuration::check(config.or_else(usual_file), output.form()).await
        }
        CliCommand::Config { action: ConfigAction::Show { config, output } } => {
            configuration::show(config.or_else(usual_file).as_deref(), output.form())
        }
        CliCommand::Spool { action } => cluster::spool(action).await,
        CliCommand::Cluster { action } => cluster::status(action).await,
        CliCommand::Suspend(arguments) => suspend::suspend(arguments).await,
        CliCommand::Resume(arguments) => suspend::resume(arguments).await,
        CliCommand::User { action } => user::user(action),
        CliCommand::Reload { place } => reload::reload(&place).await,
        CliCommand::Drain { place } => drain::drain(&place).await,
        CliCommand::LogLevel { level, lasts, place } => reload::log_level(&level, lasts, &place).await,
        CliCommand::Config { action: ConfigAction::Diff { file, output } } => reload::diff(file, output.form()).await,
        CliCommand::Config { action: ConfigAction::Example } => say(config::REFERENCE),
        CliCommand::Completions { shell } => say(&manual::completions(guided::annotated(Cli::command()), shell)),
        CliCommand::Manual { directory } => write_manual(&directory),
    }
}

async fn policy_of(action: PolicyAction) -> ExitCode {
    match action {
        PolicyAction::List { table, place } => lookup::policies(&table, &place),
        PolicyAction::Show(of) => {
            let config = of.over.config();
            lookup::policy(async |config| policy::show(config, Clock::system(), &of.domain).await, config, of.output)
                .await
        }
        PolicyAction::Refresh(of) => {
            let config = of.over.config();
            lookup::policy(async |config| policy::refresh(config, Clock::system(), &of.domain).await, config, of.output)
                .await
        }
    }
}

fn write_manual(directory: &Path) -> ExitCode {
    match manual::write_pages(guided::annotated(Cli::command()), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(Exit::Io, &format!("{}: {error}", directory.display())),
    }
}

#[cfg(feature = "lab")]
fn told(story: std::io::Result<bool>) -> ExitCode {
    match story {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => complain(Exit::Nothing, "an outcome was not the expected one"),
        Err(error) => complain(Exit::Io, &error.to_string()),
    }
}

#[cfg(feature = "lab")]
async fn interrupted() {
    // Where signals cannot be had there is nothing to wait for.
    let _signal_or_none = tokio::signal::ctrl_c().await;
}
