//! The listener in the eyes of OpenSSL (RFC 8996, RFC 9325 §3.1, §4.2), and on a disk that has become read-only.

use crate::daemon::{Daemon, both, free_address, http_get, run, run_ok, wait_for};
use crate::relay::{RELAY, Relay};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// No mail goes out here, and no question leaves this machine.
const NO_DNS: &str = "[dns]\nupstreams = [\"udp://127.0.0.1:9\"]\nroot_hints = [\"127.0.0.1:9\"]\n\
                      system_servers = [\"127.0.0.1:9\"]\n[mta_sts]\nenabled = false\n";

/// Whether OpenSSL comes to a session with these options; and all it said.
fn handshake(listener: SocketAddr, options: &[&str]) -> (bool, String) {
    let mut client = Command::new("sh");
    let command = "echo QUIT | openssl s_client -connect \"$1\" -starttls smtp -brief $2";
    let output = both(&run(client.args(["-c", command, "sh", &listener.to_string(), &options.join(" ")])));
    (output.contains("CONNECTION ESTABLISHED"), output)
}

#[test]
fn l02_rfc8996_the_listener_speaks_tls_1_2_and_1_3_and_nothing_older() {
    let dir = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(dir.path(), NO_DNS);
    for (options, version) in [(["-tls1_2"], "TLSv1.2"), (["-tls1_3"], "TLSv1.3")] {
        let (came, said) = handshake(relay.smtp, &options);
        assert!(came && said.contains(version), "{options:?}: {said}");
    }
    // The client is willing: only the listener can be what refuses.
    for old in ["-tls1", "-tls1_1"] {
        let (came, said) = handshake(relay.smtp, &[old, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(!came && said.contains(" alert "), "{old}: {said}");
    }
    assert_eq!(relay.stop(), Some(0));
}

#[test]
fn l02_rfc9325_4_2_the_listener_takes_no_cipher_suite_that_is_weak_or_without_forward_secrecy() {
    let dir = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(dir.path(), NO_DNS);
    let strong = "ECDHE-ECDSA-AES128-GCM-SHA256";
    let (came, said) = handshake(relay.smtp, &["-tls1_2", "-cipher", strong]);
    assert!(came && said.contains(strong), "{said}");
    for weak in ["eNULL", "aNULL", "kRSA", "CAMELLIA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"] {
        let (came, said) = handshake(relay.smtp, &["-tls1_2", "-cipher", &format!("{weak}:@SECLEVEL=0")]);
        assert!(!came && said.contains("alert handshake failure"), "{weak}: {said}");
    }
    assert_eq!(relay.stop(), Some(0));
}

/// A relay in a mount namespace of its own.
struct OnADisk {
    daemon: Daemon,
    smtp: SocketAddr,
    admin: SocketAddr,
}

impl OnADisk {
    fn start(dir: &Path) -> Self {
        let (smtp, admin) = (free_address(), free_address());
        let (config, spool) = (dir.join("relay.toml"), dir.join("spool"));
        let text = format!(
            "hostname = \"relay.test\"\n[listen]\nsmtp = [\"{smtp}\"]\n[admin]\nlisten = \"{admin}\"\n[spool]\npath = {spool:?}\n{NO_DNS}"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", RELAY, "serve", "--config"]).arg(&config);
        let mut daemon = Daemon::start("relay in a mount namespace (which needs root)", &command, &dir.join("log"));
        daemon.wait_until("being ready", || matches!(http_get(admin, "/readyz"), Ok((200, _))).then_some(()));
        Self { daemon, smtp, admin }
    }

    fn within(&self, arguments: &[&str]) {
        let target = self.daemon.process().to_string();
        run_ok(Command::new("nsenter").args(["--mount", "--target", &target]).args(arguments));
    }

    fn until_ready_is(&self, status: u16) -> String {
        wait_for("readyz to change", PATIENCE, || {
            http_get(self.admin, "/readyz").ok().filter(|(now, _)| *now == status).map(|(_, text)| text)
        })
    }

    /// The reply to MAIL.
    fn mail(&self) -> String {
        let mut stream = TcpStream::connect(self.smtp).unwrap();
        stream.write_all(b"EHLO client.test\r\n").unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        lines.find(|line| line.starts_with("250 ")).unwrap();
        stream.write_all(b"MAIL FROM:<a@client.test>\r\n").unwrap();
        lines.next().unwrap()
    }
}

#[test]
fn rfc5321_4_2_5_on_a_disk_that_has_become_read_only_the_relay_is_not_ready_and_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let relay = OnADisk::start(dir.path());
    assert!(relay.mail().starts_with("250"));
    let spool = dir.path().join("spool").display().to_string();
    relay.within(&["mount", "--bind", &spool, &spool]);
    relay.within(&["mount", "-o", "remount,bind,ro", &spool]);
    let text = relay.until_ready_is(503);
    assert!(text.contains("not ready: writing to the spool: Read-only file system"), "{text}");
    assert!(relay.mail().starts_with("451 4.3.0"), "{}", relay.mail());
    relay.within(&["umount", &spool]);
    assert_eq!(relay.until_ready_is(200).lines().next(), Some("ready"));
    assert!(relay.mail().starts_with("250"));
}
