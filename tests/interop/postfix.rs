//! Debian's Postfix as MX host: an instance of its own beside whatever is in `/etc/postfix`, one
//! smtpd for each host name with STARTTLS, everything delivered into one Maildir.

use crate::certificate::Certificate;
use crate::daemon::{Daemon, read_lossy, run_ok, tail, wait_for};
use crate::zone::command;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Debian's `nobody`: owner of the mailbox.
const NOBODY: u32 = 65_534;

/// The services an MX host needs, after its smtpd lines.
const SERVICES: &str = "\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
virtual unix - n n - - virtual
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
showq unix n - n - - showq
pickup unix n - n 60 1 pickup
postlog unix-dgram n - n - 1 postlogd
";

/// One name and address that Postfix answers under.
pub(crate) struct MxHost {
    /// The host name, in the greeting and in its certificate.
    pub(crate) name: String,
    /// The recipient domain.
    pub(crate) domain: String,
    /// Where smtpd listens.
    pub(crate) address: SocketAddr,
    /// What it shows after STARTTLS; without one it offers no STARTTLS.
    pub(crate) certificate: Option<Certificate>,
}

/// A running Postfix.
pub(crate) struct Postfix {
    dir: PathBuf,
    master: Daemon,
}

impl Postfix {
    /// Starts it; needs root, as Postfix's master does.
    pub(crate) fn start(dir: &Path, hosts: &[MxHost]) -> Self {
        let dir = dir.join("postfix");
        for name in ["conf", "queue", "data", "mail"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        chown(dir.join("mail"), Some(NOBODY), Some(NOBODY)).unwrap();
        run_ok(Command::new("chown").arg("postfix").arg(dir.join("data")));
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(dir.join("conf/main.cf"), main_cf(&dir, hosts)).unwrap();
        std::fs::write(dir.join("conf/master.cf"), master_cf(hosts)).unwrap();

        // `postfix check` makes the queue's folders. Then the master itself, so that it is our
        // child: below `postfix start` it would outlive a test process that is killed.
        run_ok(command("postfix", &["-c"], &dir.join("conf")).arg("check"));
        let programs = run_ok(Command::new("postconf").args(["-h", "daemon_directory"]));
        let program = Path::new(programs.trim()).join("master");
        let start = command(&program.display().to_string(), &["-s", "-c"], &dir.join("conf"));
        let master = Daemon::start("postfix", &start, &dir.join("postfix.out"));
        let mut postfix = Self { dir, master };
        for host in hosts {
            postfix.master.wait_until_it_listens(host.address);
        }
        postfix
    }

    /// Everything delivered so far, in no order.
    pub(crate) fn mailbox(&self) -> Vec<Mail> {
        let Ok(folder) = std::fs::read_dir(self.dir.join("mail/all/new")) else { return Vec::new() };
        folder.map(|entry| Mail { bytes: std::fs::read(entry.unwrap().path()).unwrap() }).collect()
    }

    /// Waits for a message to a recipient and gives it.
    pub(crate) fn wait_for_mail_to(&self, recipient: &str, limit: Duration) -> Mail {
        let to_it = |mail: &Mail| mail.recipient() == recipient;
        wait_for(&format!("mail to {recipient}"), limit, || self.mailbox().into_iter().find(to_it))
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        read_lossy(&self.dir.join("mail.log"))
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.master.stop();
        if std::thread::panicking() {
            eprintln!("--- postfix log:\n{}", tail(&self.log()));
        }
    }
}

/// A message as it lies in the Maildir: lines end with LF, Postfix's own header lines on top.
pub(crate) struct Mail {
    bytes: Vec<u8>,
}

impl Mail {
    /// The whole message.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The recipient that Postfix delivered it for.
    pub(crate) fn recipient(&self) -> String {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix("Delivered-To: "));
        line.unwrap_or_default().to_owned()
    }

    /// Header fields from the top, folded lines together with what they continue.
    pub(crate) fn fields(&self) -> Vec<String> {
        let text = self.text();
        let header = text.split("\n\n").next().unwrap_or_default();
        header.lines().fold(Vec::new(), |mut fields: Vec<String>, line| {
            match fields.last_mut() {
                Some(last) if line.starts_with([' ', '\t']) => {
                    last.push('\n');
                    last.push_str(line);
                }
                _ => fields.push(line.to_owned()),
            }
            fields
        })
    }
}

fn main_cf(dir: &Path, hosts: &[MxHost]) -> String {
    let dir = dir.display();
    let domains: Vec<&str> = hosts.iter().map(|host| host.domain.as_str()).collect();
    format!(
        "compatibility_level = 3.6\nqueue_directory = {dir}/queue\ndata_directory = {dir}/data\n\
         maillog_file = {dir}/mail.log\nmaillog_file_prefixes = {dir}\ninet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\nmyhostname = {myhostname}\nmydestination =\nalias_maps =\nalias_database =\n\
         virtual_mailbox_domains = {domains}\nvirtual_mailbox_maps = static:all/\nvirtual_mailbox_base = {dir}/mail\n\
         virtual_uid_maps = static:{NOBODY}\nvirtual_gid_maps = static:{NOBODY}\nvirtual_mailbox_limit = 0\n\
         message_size_limit = 52428800\nlocal_header_rewrite_clients =\nsmtpd_relay_restrictions = reject_unauth_destination\n\
         smtpd_tls_loglevel = 1\nsmtpd_tls_received_header = yes\nsmtpd_peername_lookup = no\n\
         smtpd_client_connection_count_limit = 0\n",
        myhostname = hosts[0].name,
        domains = domains.join(" "),
    )
}

fn master_cf(hosts: &[MxHost]) -> String {
    let mut text = String::new();
    for host in hosts {
        writeln!(text, "{} inet n - n - - smtpd\n  -o myhostname={}", host.address, host.name).unwrap();
        if let Some(Certificate { chain, key }) = &host.certificate {
            let (chain, key) = (chain.display(), key.display());
            writeln!(
                text,
                "  -o smtpd_tls_security_level=may\n  -o smtpd_tls_cert_file={chain}\n  -o smtpd_tls_key_file={key}"
            )
            .unwrap();
        }
    }
    text + SERVICES
}
