//! The relay itself, as an operator runs it: the binary, a configuration file, SIGTERM.

use crate::daemon::{Daemon, both, free_address, http_get, run, run_ok, wait_for};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The binary under test.
pub(crate) const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// A running relay.
pub(crate) struct Relay {
    /// Where mail is handed in.
    pub(crate) smtp: SocketAddr,
    /// `/metrics` and `/readyz`.
    pub(crate) admin: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    daemon: Daemon,
}

impl Relay {
    /// Starts it with our listeners and spool, and the sections given; waits until it is ready.
    pub(crate) fn start(dir: &Path, sections: &str) -> Self {
        Self::start_in(&[], dir, sections)
    }

    /// The same, in this environment.
    pub(crate) fn start_in(environment: &[(&str, &OsStr)], dir: &Path, sections: &str) -> Self {
        let (smtp, admin) = (free_address(), free_address());
        let config = dir.join("relay.toml");
        let spool = dir.join("spool");
        let text = format!(
            "hostname = \"relay.test\"\n[listen]\nsmtp = [\"{smtp}\"]\n[admin]\nlisten = \"{admin}\"\n\
             [spool]\npath = \"{}\"\n{sections}",
            spool.display()
        );
        std::fs::write(&config, text).unwrap();
        let log = dir.join("relay.log");
        let daemon = serve(environment, &config, &log, admin);
        Self { smtp, admin, config, log, daemon }
    }

    /// Kills it as a crash would (SIGKILL) and starts it again on the same spool and ports.
    pub(crate) fn crash_and_restart(&mut self) {
        self.daemon.kill();
        self.daemon = serve(&[], &self.config, &self.log, self.admin);
    }

    /// Runs another command of the relay with the same configuration: exit code and output.
    pub(crate) fn command(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = run(Command::new(RELAY).args(args).arg("--config").arg(&self.config));
        (output.status.code(), both(&output))
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.daemon.output()
    }

    /// Waits for a log line that holds all of these words, and gives it.
    pub(crate) fn wait_for_log(&self, words: &[&str], limit: Duration) -> String {
        let fits = |line: &&str| words.iter().all(|word| line.contains(word));
        let what = format!("a log line with {words:?}");
        wait_for(&what, limit, || self.log().lines().find(fits).map(str::to_owned))
    }

    /// The metrics page.
    pub(crate) fn metrics(&self) -> String {
        let (status, body) = http_get(self.admin, "/metrics").unwrap();
        assert_eq!(status, 200, "{body}");
        body
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        run_ok(Command::new("sh").args(["-c", &format!("kill -s HUP {}", self.daemon.process())]));
    }

    /// Stops it as systemd does; the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.daemon.stop().and_then(|status| status.code())
    }
}

/// `relay serve`, ready.
fn serve(environment: &[(&str, &OsStr)], config: &Path, log: &Path, admin: SocketAddr) -> Daemon {
    let mut command = Command::new(RELAY);
    command.arg("serve").arg("--config").arg(config).envs(environment.iter().copied());
    let mut daemon = Daemon::start("relay", &command, log);
    daemon.wait_until("being ready", || matches!(http_get(admin, "/readyz"), Ok((200, _))).then_some(()));
    daemon
}
