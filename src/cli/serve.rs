//! `relay serve`, and whether its configuration can be used.

use super::log;
use super::terminal::{EXIT_CONFIG, EXIT_IO, EXIT_SYSTEM, EXIT_USAGE, complain, load, say, usual_file};
use dane_relay::clock::Clock;
use dane_relay::config::ConfigSource;
use dane_relay::observe::spans::SpanExport;
use dane_relay::service::notify;
use dane_relay::service::start::{self, Remedy, StartError};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) async fn serve(path: Option<PathBuf>) -> ExitCode {
    let source = path.or_else(usual_file).map_or(ConfigSource::Default, ConfigSource::File);
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(error) => return complain(EXIT_CONFIG, &error.to_string()),
    };
    if let Err(message) = log::begin() {
        return complain(EXIT_CONFIG, &message);
    }
    let spans = match SpanExport::begin(loaded.config.hostname.as_str()) {
        Ok(spans) => spans,
        Err(error) => return complain(EXIT_CONFIG, &error.to_string()),
    };
    let doubts = loaded.config.doubts(Clock::system().now());
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => return complain(EXIT_IO, &format!("cannot start: {error}")),
    };
    let relay = match start::start_from(source, loaded, Clock::system()).await {
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
    let ended = relay.ended().await;
    if let Some(spans) = spans {
        spans.end().await;
    }
    match ended {
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

pub(crate) async fn check_config(path: Option<PathBuf>) -> ExitCode {
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
