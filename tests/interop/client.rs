//! Mail programs that hand mail in: swaks, smtp-source. And one that takes it: smtp-sink.

use crate::daemon::{Daemon, both, free_address, run, run_ok};
use crate::namespace::Namespace;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `swaks` is asked to do.
pub(crate) struct Swaks<'a> {
    /// The server.
    pub(crate) server: SocketAddr,
    /// Reverse-path.
    pub(crate) from: &'a str,
    /// Forward-path, or several with commas between them.
    pub(crate) to: &'a str,
    /// Further arguments.
    pub(crate) options: &'a [&'a str],
    /// The content, octet for octet, with CRLF line ends.
    pub(crate) content: &'a [u8],
}

impl Swaks<'_> {
    /// Hands the message in; the dialogue when swaks is content, else a panic with it.
    pub(crate) fn hand_in(&self, dir: &Path) -> String {
        self.hand_in_by(Command::new("swaks"), dir)
    }

    /// The same from within another network.
    pub(crate) fn hand_in_from(&self, host: &Namespace, dir: &Path) -> String {
        self.hand_in_by(host.within("swaks", &[]), dir)
    }

    fn hand_in_by(&self, mut swaks: Command, dir: &Path) -> String {
        let first = self.to.split(',').next().unwrap();
        let data = dir.join(format!("swaks-{first}.eml"));
        std::fs::write(&data, stuffed(self.content)).unwrap();
        swaks.args(["--server", &self.server.ip().to_string(), "--port", &self.server.port().to_string()]);
        swaks.args(["--helo", "client.test", "--from", self.from, "--to", self.to]).args(self.options);
        swaks.arg("--no-data-fixup").arg("--data").arg(format!("@{}", data.display()));
        let output = run(&mut swaks);
        assert!(output.status.success(), "{swaks:?}: {}\n{}", output.status, both(&output));
        both(&output)
    }
}

/// Content as it goes over the wire: dots stuffed, the final dot there. swaks sends the data as
/// it is and adds the last CRLF itself.
fn stuffed(content: &[u8]) -> Vec<u8> {
    assert!(content.ends_with(b"\r\n"), "content ends with CRLF");
    let mut wire = Vec::new();
    for line in content.split_inclusive(|&b| b == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.push(b'.');
    wire
}

/// Hands in `messages` messages of `octets` octets over `sessions` sessions with smtp-source.
pub(crate) fn smtp_source(server: SocketAddr, sessions: usize, messages: usize, octets: usize, to: &str) {
    let mut source = Command::new("smtp-source");
    source.args(["-4", "-d", "-M", "client.test", "-f", "load@sender.test", "-t", to]);
    source.args(["-s", &sessions.to_string(), "-m", &messages.to_string(), "-l", &octets.to_string()]);
    run_ok(source.arg(server.to_string()));
}

/// smtp-sink: an MX host that takes everything and keeps each message in a file.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    _daemon: Daemon,
}

impl Sink {
    /// Starts it.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// The same, with further arguments.
    pub(crate) fn start_with(dir: &Path, options: &[&str]) -> Self {
        let address = free_address();
        let folder = dir.join("sink");
        std::fs::create_dir(&folder).unwrap();
        // smtp-sink insists on leaving root behind, so the folder is open to everybody.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = Command::new("smtp-sink");
        command.args(options).args(["-4", "-u", "nobody", "-R", "/", "-d"]).arg(folder.join("m."));
        command.args([&address.to_string(), "256"]);
        let mut daemon = Daemon::start("smtp-sink", &command, &dir.join("smtp-sink.log"));
        daemon.wait_until_it_listens(address);
        Self { address, folder, _daemon: daemon }
    }

    /// The complete messages received so far. The dump of a transaction ends with an empty line.
    pub(crate) fn messages(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.folder).unwrap();
        let texts =
            files.map(|file| String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap()).into_owned());
        texts.filter(|text| text.ends_with("\n\n")).collect()
    }
}
