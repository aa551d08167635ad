//! Debian's Postfix in instances of their own, beside whatever is in `/etc/postfix`: as MX host,
//! with one smtpd for each host name, STARTTLS, and everything delivered into one Maildir; and as
//! the mail system in front of a relay.

use crate::certificate::Certificate;
use crate::daemon::{Daemon, free_address, read_lossy, run_ok, tail, wait_for};
use crate::zone::command;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Debian's `nobody`: owner of the mailbox.
const NOBODY: u32 = 65_534;

/// The services every instance needs, after its smtpd lines.
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

/// How clients of a smart host log in.
pub(crate) enum LoginBy<'a> {
    /// With a name and a password that Dovecot knows.
    Dovecot(&'a Path),
    /// With a certificate below this authority.
    Certificate { ca: &'a Path },
}

/// A running Postfix.
pub(crate) struct Postfix {
    dir: PathBuf,
    master: Daemon,
}

impl Postfix {
    /// Starts it as MX host; needs root, as Postfix's master does.
    pub(crate) fn start(dir: &Path, hosts: &[MxHost]) -> Self {
        let dir = dir.join("postfix");
        std::fs::create_dir_all(dir.join("mail")).unwrap();
        chown(dir.join("mail"), Some(NOBODY), Some(NOBODY)).unwrap();
        let addresses: Vec<SocketAddr> = hosts.iter().map(|host| host.address).collect();
        Self::launch(&dir, &mx_main_cf(&dir, hosts), &smtpd_services(hosts), &addresses)
    }

    /// Starts it as the mail system in front of a relay: it takes all mail and hands it on, and
    /// what the relay did not acknowledge it tries again every other second.
    pub(crate) fn start_in_front_of(dir: &Path, relay: SocketAddr) -> (Self, SocketAddr) {
        let dir = dir.join("postfix-client");
        std::fs::create_dir_all(&dir).unwrap();
        let address = free_address();
        let main_cf = format!(
            "myhostname = client.test\nmynetworks = 127.0.0.0/8\ndisable_dns_lookups = yes\n\
             relayhost = [{}]:{}\nminimal_backoff_time = 1s\nmaximal_backoff_time = 2s\nqueue_run_delay = 1s\n\
             smtp_destination_concurrency_failed_cohort_limit = 0\ntransport_retry_time = 1s\n",
            relay.ip(),
            relay.port()
        );
        let services = format!("{address} inet n - n - - smtpd\n");
        (Self::launch(&dir, &main_cf, &services, &[address]), address)
    }

    /// Starts it as smart host: it takes mail for `domain` from whoever has logged in, which Dovecot decides
    /// about at that socket, or shows a certificate below `client_ca`. The first address speaks STARTTLS, the
    /// second TLS from the first octet.
    pub(crate) fn start_smart_host(dir: &Path, host: &MxHost, wrapped: SocketAddr, login: &LoginBy<'_>) -> Self {
        let dir = dir.join("postfix-smart-host");
        std::fs::create_dir_all(dir.join("mail")).unwrap();
        chown(dir.join("mail"), Some(NOBODY), Some(NOBODY)).unwrap();
        let main_cf = mx_main_cf(&dir, std::slice::from_ref(host)).replace(
            "smtpd_relay_restrictions = reject_unauth_destination",
            "smtpd_relay_restrictions = permit_sasl_authenticated permit_tls_all_clientcerts reject",
        ) + &match login {
            LoginBy::Dovecot(socket) => format!(
                "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\nsmtpd_tls_auth_only = yes\n",
                socket.display()
            ),
            LoginBy::Certificate { ca } => {
                format!("smtpd_tls_ask_ccert = yes\nsmtpd_tls_CAfile = {}\n", ca.display())
            }
        };
        let first = smtpd_services(std::slice::from_ref(host));
        let second =
            first.replacen(&host.address.to_string(), &wrapped.to_string(), 1) + "  -o smtpd_tls_wrappermode=yes\n";
        Self::launch(&dir, &main_cf, &(first + &second), &[host.address, wrapped])
    }

    fn launch(dir: &Path, main_cf: &str, services: &str, addresses: &[SocketAddr]) -> Self {
        for name in ["conf", "queue", "data"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        run_ok(Command::new("chown").arg("postfix").arg(dir.join("data")));
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(dir.join("conf/main.cf"), common_main_cf(dir) + main_cf).unwrap();
        std::fs::write(dir.join("conf/master.cf"), services.to_owned() + SERVICES).unwrap();

        // `postfix check` makes the queue's folders. Then the master itself, so that it is our
        // child: below `postfix start` it would outlive a test process that is killed.
        run_ok(command("postfix", &["-c"], &dir.join("conf")).arg("check"));
        let programs = run_ok(command("postconf", &["-h", "-c"], &dir.join("conf")).arg("daemon_directory"));
        let program = Path::new(programs.trim()).join("master");
        let start = command(&program.display().to_string(), &["-s", "-c"], &dir.join("conf"));
        let master = Daemon::start("postfix", &start, &dir.join("postfix.out"));
        let mut postfix = Self { dir: dir.to_owned(), master };
        for address in addresses {
            postfix.master.wait_until_it_listens(*address);
        }
        postfix
    }

    /// Everything delivered so far, in no order.
    pub(crate) fn mailbox(&self) -> Vec<Mail> {
        Mail::all_in(&self.dir.join("mail/all"))
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

/// A message as it lies in a Maildir: lines end with LF, the mail system's own header lines on top.
pub(crate) struct Mail {
    bytes: Vec<u8>,
}

impl Mail {
    /// Everything delivered to a Maildir so far, in no order.
    pub(crate) fn all_in(maildir: &Path) -> Vec<Self> {
        let Ok(folder) = std::fs::read_dir(maildir.join("new")) else { return Vec::new() };
        folder.map(|entry| Self { bytes: std::fs::read(entry.unwrap().path()).unwrap() }).collect()
    }

    /// The whole message.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The recipient that it was delivered for, as Postfix and as Exim write it.
    pub(crate) fn recipient(&self) -> String {
        let text = self.text();
        let of = |line| ["Delivered-To: ", "Envelope-to: "].iter().find_map(|field| str::strip_prefix(line, *field));
        let line = text.lines().find_map(of);
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

/// What every instance needs to stay apart from the machine's own.
fn common_main_cf(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "compatibility_level = 3.6\nqueue_directory = {dir}/queue\ndata_directory = {dir}/data\n\
         maillog_file = {dir}/mail.log\nmaillog_file_prefixes = {dir}\ninet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\nmydestination =\nalias_maps =\nalias_database =\nsmtpd_peername_lookup = no\n\
         message_size_limit = 52428800\nlocal_header_rewrite_clients =\nsmtpd_client_connection_count_limit = 0\n"
    )
}

fn mx_main_cf(dir: &Path, hosts: &[MxHost]) -> String {
    let dir = dir.display();
    let domains: Vec<&str> = hosts.iter().map(|host| host.domain.as_str()).collect();
    format!(
        "myhostname = {myhostname}\nsmtpd_relay_restrictions = reject_unauth_destination\n\
         virtual_mailbox_domains = {domains}\nvirtual_mailbox_maps = static:all/\nvirtual_mailbox_base = {dir}/mail\n\
         virtual_uid_maps = static:{NOBODY}\nvirtual_gid_maps = static:{NOBODY}\nvirtual_mailbox_limit = 0\n\
         smtpd_tls_loglevel = 1\nsmtpd_tls_received_header = yes\n",
        myhostname = hosts[0].name,
        domains = domains.join(" "),
    )
}

/// The lines of master.cf for each host's smtpd.
fn smtpd_services(hosts: &[MxHost]) -> String {
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
    text
}
