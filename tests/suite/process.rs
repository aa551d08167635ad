//! The program itself as a child: run to its end, or served and asked to stop.
//!
//! It chooses its ports and says on stderr which. It ends when it is dropped, also when the test
//! panics. Waiting for it never stops the lab, which runs on the same thread as the test.

use crate::relay::{until, within};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct ProgramOutput {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end.
pub(crate) async fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> ProgramOutput {
    run_with(&[], arguments).await
}

/// Runs the program to its end, in this environment.
pub(crate) async fn run_with<A: AsRef<OsStr>>(
    variables: &[(&str, &OsStr)],
    arguments: impl IntoIterator<Item = A>,
) -> ProgramOutput {
    let mut command = program();
    command.args(arguments).envs(variables.iter().copied());
    let ended = tokio::task::spawn_blocking(move || command.output());
    let Output { status, stdout, stderr } = within(ended, "the end of the program").await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    ProgramOutput { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs the program to its end, with that on its standard input.
pub(crate) async fn run_saying<A: AsRef<OsStr>>(text: &str, arguments: impl IntoIterator<Item = A>) -> ProgramOutput {
    let mut command = program();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever does not read it has ended already.
    let _broken_pipe = child.stdin.take().unwrap().write_all(text.as_bytes());
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
    let Output { status, stdout, stderr } = within(ended, "the end of the program").await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    ProgramOutput { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    // A configuration of the machine is no part of a test: without one of its own it has the defaults.
    command.stdin(Stdio::null()).env_remove("RUST_LOG").env_remove("RELAY_LOG").env("RELAY_CONFIG", "/dev/null");
    command
}

/// What becomes of the log of a relay that serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    Read,
    Closed,
}

/// A relay that serves, as a process.
pub(crate) struct Serving {
    child: Child,
    pub(crate) smtp: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Serving {
    /// Starts it and waits until it serves.
    pub(crate) async fn start(config: &Path) -> Self {
        Self::start_with(&[], config, Log::Read).await
    }

    /// The same; whoever reads its log is gone as soon as it serves.
    pub(crate) async fn start_unheard(config: &Path) -> Self {
        Self::start_with(&[], config, Log::Closed).await
    }

    /// Starts it in this environment.
    pub(crate) async fn start_in(variables: &[(&str, &OsStr)], config: &Path) -> Self {
        Self::start_with(variables, config, Log::Read).await
    }

    async fn start_with(variables: &[(&str, &OsStr)], config: &Path, after_start: Log) -> Self {
        let mut command = program();
        command.envs(variables.iter().copied());
        let mut child = command.args(["serve", "--config"]).arg(config).stderr(Stdio::piped()).spawn().unwrap();
        let log = child.stderr.take().unwrap();
        let (sender, mut addresses) = watch::channel(None);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&kept);
        std::thread::spawn(move || {
            // Reading goes on to the end: a full pipe would stop the relay.
            let mut lines = BufReader::new(log).lines().map_while(Result::ok);
            while let Some(line) = lines.next() {
                told.lock().unwrap().push(line.clone());
                let Some(found) = served(&line) else { continue };
                if after_start == Log::Closed {
                    drop(lines);
                    sender.send_replace(Some(found));
                    return;
                }
                sender.send_replace(Some(found));
            }
        });
        let told = within(addresses.wait_for(Option::is_some), "the relay to serve").await;
        let (smtp, admin) = told
            .map(|found| found.unwrap())
            .unwrap_or_else(|_| panic!("the relay ended at once: {:?}", kept.lock().unwrap().last()));
        Self { child, smtp, admin, log: kept }
    }

    /// The lines of its log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal("HUP");
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end for as long as a stop may take.
    pub(crate) async fn ends_within(&mut self, patience: Duration) -> i32 {
        let child = &mut self.child;
        let ending = async {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status.code().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(patience, ending).await.unwrap()
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> i32 {
        let child = &mut self.child;
        until(|| std::future::ready(child.try_wait().unwrap()), "the end of the relay").await.code().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Gone already unless the test panicked.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `… relay serves smtp=[127.0.0.1:4711] admin=127.0.0.1:4712`, or the same in JSON.
fn served(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    if let Ok(said) = serde_json::from_str::<serde_json::Value>(line) {
        let (smtp, admin) = (said["smtp"].as_str()?, said["admin"].as_str()?);
        return Some((smtp.trim_matches(['[', ']']).parse().ok()?, admin.parse().ok()?));
    }
    let (smtp, admin) = line.split_once("relay serves smtp=[")?.1.split_once("] admin=")?;
    // That of `[listen]` is the first.
    Some((smtp.split(", ").next()?.parse().ok()?, admin.trim().parse().ok()?))
}
