//! Debian's Exim as MX host, with a configuration, spool and log of its own: STARTTLS by GnuTLS,
//! CHUNKING, and everything delivered into one Maildir.

use crate::daemon::{Daemon, read_lossy, run_ok, tail, which};
use crate::postfix::{Mail, MxHost};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The part of the configuration that is the same for everybody. Each host name has its own
/// address; by that Exim chooses name, certificate and whether there is STARTTLS at all. With a
/// configuration of its own it cannot become root again, so it delivers as the user it runs as.
const SAME_FOR_ALL: &str = "\
auth_advertise_hosts = ${if def:tls_in_cipher {*}}
primary_hostname = exim.test
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
pid_file_path = DIR/exim.pid
smtp_active_hostname = ${lookup{$received_ip_address}lsearch{DIR/names}}
tls_advertise_hosts = ${if exists{DIR/tls/$received_ip_address.pem}{*}}
tls_certificate = DIR/tls/$received_ip_address.pem
tls_privatekey = DIR/tls/$received_ip_address.key
acl_smtp_rcpt = to_us
log_selector = +tls_cipher +received_recipients
keep_environment =
deliver_drop_privilege
begin acl
to_us:
  require condition = ${if or{{!bool{MUST_LOG_IN}}{def:authenticated_id}}}
  accept domains = +local_domains
  deny
begin routers
everything:
  driver = accept
  transport = folder
begin transports
folder:
  driver = appendfile
  maildir_format
  directory = DIR/mail
  user = Debian-exim
  envelope_to_add
  return_path_add
";

/// How clients log in, inside TLS alone.
const LOGINS: [(&str, &str); 2] = [
    (
        "PLAIN",
        "server_prompts = :\n server_condition = ${if and{{eq{$auth2}{USER}}{eq{$auth3}{SECRET}}}}\n server_set_id = $auth2",
    ),
    (
        "LOGIN",
        "server_prompts = Username:: : Password::\n server_condition = ${if and{{eq{$auth1}{USER}}{eq{$auth2}{SECRET}}}}\n \
         server_set_id = $auth1",
    ),
];

/// Who may hand mail in for the domains of an Exim.
pub(crate) enum EximClients<'a> {
    /// Everybody.
    Anybody,
    /// Whoever logs in by this mechanism, `PLAIN` or `LOGIN`, with this name and password.
    WithLogin(&'a str, &'a str, &'a str),
}

/// A running Exim.
pub(crate) struct Exim {
    dir: PathBuf,
    daemon: Daemon,
}

impl Exim {
    /// Starts it; needs root, as it takes on other users.
    pub(crate) fn start(dir: &Path, hosts: &[MxHost]) -> Self {
        Self::start_for(dir, hosts, &EximClients::Anybody)
    }

    /// Starts it as MX host or smart host.
    pub(crate) fn start_for(dir: &Path, hosts: &[MxHost], clients: &EximClients<'_>) -> Self {
        let dir = dir.join("exim");
        for folder in ["spool", "log", "mail", "tls"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        run_ok(Command::new("chown").current_dir(&dir).args(["Debian-exim", "spool", "log", "mail"]));
        for host in hosts {
            let Some(certificate) = &host.certificate else { continue };
            for (kind, file) in [("pem", &certificate.chain), ("key", &certificate.key)] {
                let copy = dir.join(format!("tls/{}.{kind}", host.address.ip()));
                std::fs::copy(file, &copy).unwrap();
                std::fs::set_permissions(copy, std::fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
        let program = which("exim4");
        let names = hosts.iter().map(|host| format!("{}: {}\n", host.address.ip(), host.name));
        std::fs::write(dir.join("names"), names.collect::<String>()).unwrap();
        std::fs::write(dir.join("exim.conf"), configuration(&dir, &program, hosts) + &rules_for(clients)).unwrap();
        let mut command = Command::new(&program);
        command.arg("-C").arg(dir.join("exim.conf")).args(["-bdf"]);
        let mut daemon = Daemon::start("exim", &command, &dir.join("exim.out"));
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
        read_lossy(&self.dir.join("log/mainlog"))
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        self.daemon.stop();
        if std::thread::panicking() {
            eprintln!("--- exim log:\n{}", tail(&self.log()));
        }
    }
}

fn configuration(dir: &Path, program: &Path, hosts: &[MxHost]) -> String {
    let mut text = format!("DIR = {}\nexim_path = {}\n", dir.display(), program.display());
    let domains: Vec<&str> = hosts.iter().map(|host| host.domain.as_str()).collect();
    let listen: Vec<String> =
        hosts.iter().map(|host| format!("[{}]:{}", host.address.ip(), host.address.port())).collect();
    writeln!(text, "domainlist local_domains = {}", domains.join(" : ")).unwrap();
    writeln!(text, "local_interfaces = <; {}", listen.join(" ; ")).unwrap();
    text
}

fn rules_for(clients: &EximClients<'_>) -> String {
    match clients {
        EximClients::Anybody => SAME_FOR_ALL.replace("MUST_LOG_IN", "false"),
        EximClients::WithLogin(mechanism, user, password) => {
            let (name, how) = LOGINS.iter().find(|(name, _)| name == mechanism).unwrap();
            let how = how.replace("USER", user).replace("SECRET", password);
            let login = format!("begin authenticators\n{name}:\n driver = plaintext\n public_name = {name}\n {how}\n");
            SAME_FOR_ALL.replace("MUST_LOG_IN", "true") + &login
        }
    }
}
