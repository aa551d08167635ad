//! Debian's nginx as the policy host of many domains (RFC 8461 §3.3): each on an address of its
//! own, so that each has its own TLS versions too.

use crate::certificate::Certificate;
use crate::daemon::{Daemon, read_lossy, tail};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a policy host answers.
pub(crate) struct Site {
    /// The domain whose policy it has.
    pub(crate) domain: String,
    /// Where it listens.
    pub(crate) ip: Ipv4Addr,
    /// What it shows.
    pub(crate) certificate: Certificate,
    /// The policy, where it has one.
    pub(crate) policy: Option<String>,
    /// Further words after `listen … ssl`.
    pub(crate) listen: &'static str,
    /// Further directives of the server.
    pub(crate) server: String,
    /// Further directives of the place where the policy is.
    pub(crate) place: String,
}

/// A running nginx.
pub(crate) struct Nginx {
    dir: PathBuf,
    daemon: Daemon,
}

impl Nginx {
    /// Starts it with all sites on this port.
    pub(crate) fn start(dir: &Path, port: u16, sites: &[Site]) -> Self {
        let dir = dir.join("nginx");
        std::fs::create_dir_all(&dir).unwrap();
        let servers: String = sites.iter().map(|site| server(&dir, port, site)).collect();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {}/{name};\n", dir.display())).concat();
        let text = format!(
            "daemon off;\nuser nobody nogroup;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
             events {{ }}\nhttp {{\n{temporary}log_format said '$host $status $server_protocol $ssl_protocol \
             sni=$ssl_server_name encoding=$http_accept_encoding cache=$http_cache_control';\n\
             access_log {dir}/access.log said;\n{servers}}}\n",
            dir = dir.display(),
        );
        std::fs::write(dir.join("nginx.conf"), text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
        let mut daemon = Daemon::start("nginx", &command, &dir.join("nginx.out"));
        for site in sites {
            daemon.wait_until_it_listens(SocketAddr::from((site.ip, port)));
        }
        Self { dir, daemon }
    }

    /// Stops it; nobody answers at its addresses any more.
    pub(crate) fn stop(&mut self) {
        self.daemon.stop();
    }

    /// One line for each request so far.
    pub(crate) fn requests(&self) -> String {
        read_lossy(&self.dir.join("access.log"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.daemon.stop();
        if std::thread::panicking() {
            let errors = read_lossy(&self.dir.join("error.log"));
            eprintln!("--- nginx:\n{}\n{}", tail(&errors), tail(&self.requests()));
        }
    }
}

fn server(dir: &Path, port: u16, site: &Site) -> String {
    let Site { domain, ip, certificate, policy, listen, server, place } = site;
    let mut text = String::new();
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    writeln!(text, "server {{\nlisten {ip}:{port} ssl {listen};\nserver_name mta-sts.{domain};").unwrap();
    writeln!(text, "ssl_certificate {chain};\nssl_certificate_key {key};\n{server}").unwrap();
    let file = dir.join(format!("{domain}.txt"));
    if let Some(policy) = policy {
        std::fs::write(&file, policy).unwrap();
    }
    writeln!(text, "types {{ }}\nlocation = /.well-known/mta-sts.txt {{\nalias {};", file.display()).unwrap();
    writeln!(text, "{place}\n}}\n}}").unwrap();
    text
}
