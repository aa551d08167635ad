//! OpenSMTPD as MX host, delivering everything into one Maildir. It has its folders compiled in, so it runs
//! with mounts of its own. No PIPELINING, no CHUNKING; and in Debian 12 its TLS breaks in every handshake
//! (OpenSMTPD issue 1239), which is what makes it worth meeting.

use crate::daemon::{Daemon, which};
use crate::postfix::{Mail, MxHost};
use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's `nobody`: owner of the mailbox.
const NOBODY: u32 = 65_534;

/// Puts its folders where it looks for them, for this process alone. `$1` is where it was unpacked, `$2` its
/// configuration.
const IN_ITS_OWN_MOUNTS: &str = "set -e
for folder in /var/spool /run /var/lib; do mount -t tmpfs -o mode=755 none $folder; done
mkdir -m 711 /var/spool/smtpd
mkdir -p /var/lib/opensmtpd/empty
mount --bind \"$1/libexec\" /usr/libexec
exec \"$1/sbin/smtpd\" -d -f \"$2\"";

/// A running OpenSMTPD.
pub(crate) struct OpenSmtpd {
    dir: PathBuf,
    daemon: Daemon,
}

impl OpenSmtpd {
    /// Starts it; needs root, as it takes on other users.
    pub(crate) fn start(dir: &Path, hosts: &[MxHost]) -> Self {
        let dir = dir.join("opensmtpd");
        std::fs::create_dir_all(dir.join("mail")).unwrap();
        chown(dir.join("mail"), Some(NOBODY), Some(NOBODY)).unwrap();
        let conf = dir.join("smtpd.conf");
        std::fs::write(&conf, configuration(&dir, hosts)).unwrap();
        let program = which("smtpd");
        let unpacked = program.parent().unwrap().parent().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", IN_ITS_OWN_MOUNTS, "sh"]);
        command.arg(unpacked).arg(&conf);
        let mut daemon = Daemon::start("opensmtpd", &command, &dir.join("out"));
        for host in hosts {
            daemon.wait_until_it_listens(host.address);
        }
        Self { dir, daemon }
    }

    /// Everything delivered so far, in no order.
    pub(crate) fn mailbox(&self) -> Vec<Mail> {
        Mail::all_in(&self.dir.join("mail"))
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.daemon.output()
    }
}

fn configuration(dir: &Path, hosts: &[MxHost]) -> String {
    let (dir, mut text) = (dir.display(), String::new());
    writeln!(text, "table everybody {{ \"@\" = \"nobody\" }}\naction all maildir \"{dir}/mail\" virtual <everybody>")
        .unwrap();
    for MxHost { name, domain, address, certificate } in hosts {
        let mut tls = String::new();
        if let Some(certificate) = certificate {
            // It insists that nobody else may read its key.
            std::fs::set_permissions(&certificate.key, std::fs::Permissions::from_mode(0o600)).unwrap();
            let (chain, key) = (certificate.chain.display(), certificate.key.display());
            writeln!(text, "pki \"{name}\" cert \"{chain}\"\npki \"{name}\" key \"{key}\"").unwrap();
            tls = format!(" tls pki \"{name}\"");
        }
        let (ip, port) = (address.ip(), address.port());
        writeln!(text, "listen on {ip} port {port}{tls}\nmatch from any for domain \"{domain}\" action all").unwrap();
    }
    text
}
