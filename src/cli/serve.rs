//! `relay serve`.

use super::exit::Exit;
use super::log;
use super::terminal::{complain, usual_file};
use dane_relay::clock::Clock;
use dane_relay::config::ConfigSource;
use dane_relay::observe::log_level;
use dane_relay::observe::spans::SpanExport;
use dane_relay::service::notify;
use dane_relay::service::start::{self, Remedy, StartError};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// The first random octet of a process takes tens of milliseconds: the library measures how the machine trembles. That goes on
/// beside the rest of the start.
fn gather_entropy() {
    // Whoever needs one and finds none says so.
    std::thread::spawn(|| aws_lc_rs::rand::fill(&mut [0]));
}

pub(crate) async fn serve(path: Option<PathBuf>) -> ExitCode {
    gather_entropy();
    let source = path.or_else(usual_file).map_or(ConfigSource::Default, ConfigSource::File);
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(error) => return complain(Exit::Config, &error.to_string()),
    };
    if let Err(message) = log::begin() {
        return complain(Exit::Config, &message);
    }
    let spans = match SpanExport::begin(loaded.config.hostname.as_str()) {
        Ok(spans) => spans,
        Err(error) => return complain(Exit::Config, &error.to_string()),
    };
    let doubts = loaded.config.doubts(Clock::system().now());
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => return complain(Exit::Io, &format!("cannot start: {error}")),
    };
    let lines = loaded.lines.clone();
    if let Err(error) = told_by_signals() {
        return complain(Exit::Io, &format!("cannot start: {error}"));
    }
    let relay = match start::start_from(source, loaded, Clock::system()).await {
        Ok(relay) => relay,
        Err(error) => return complain(exit_code_of(&error), &lines.place(&error.to_string())),
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
    let ended = relay.ended().await;
    if let Some(spans) = spans {
        spans.end().await;
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(Exit::Io, &error.to_string()),
    }
}

/// SIGUSR1 goes to debug and back; SIGUSR2 does nothing. Without somebody who hears them, both would end the
/// process.
fn told_by_signals() -> io::Result<()> {
    let (mut one, mut two) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = one.recv() => log_level::toggle(&Clock::system()),
                Some(()) = two.recv() => tracing::info!("SIGUSR2 means nothing to the relay; SIGUSR1 changes the log"),
                else => return,
            }
        }
    });
    Ok(())
}

fn exit_code_of(error: &StartError) -> Exit {
    match error.remedy() {
        Remedy::Configuration => Exit::Config,
        Remedy::Time => Exit::System,
    }
}
