//! Postfix as smart host: logging in by SASL, which Dovecot decides about, TLS from the first octet, and a
//! client certificate in place of a password (RFC 4954, RFC 5802, RFC 8314).

use crate::certificate::Certificate;
use crate::client::Swaks;
use crate::daemon::{Daemon, free_port, read_lossy, which};
use crate::delivery::{ODD_MESSAGE, PATIENCE};
use crate::postfix::{LoginBy, MxHost, Postfix};
use crate::relay::Relay;
use crate::world::{Tlsa, World};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

const PASSWORD: &str = "correct horse";

/// Dovecot's authentication service alone, with one user.
struct Dovecot {
    socket: PathBuf,
    _daemon: Daemon,
}

impl Dovecot {
    fn start(dir: &Path, mechanism: &str) -> Self {
        let dir = dir.join("dovecot");
        std::fs::create_dir_all(&dir).unwrap();
        let (shown, socket) = (dir.display(), dir.join("auth"));
        std::fs::write(dir.join("users"), format!("relay:{{PLAIN}}{PASSWORD}\n")).unwrap();
        let configuration = format!(
            "base_dir = {shown}/run\nstate_dir = {shown}/run\nlog_path = {shown}/log\nprotocols =\nssl = no\n\
             auth_mechanisms = {mechanism}\npassdb {{\n driver = passwd-file\n args = {shown}/users\n}}\n\
             userdb {{\n driver = static\n args = uid=65534 gid=65534 home=/tmp\n}}\n\
             service auth {{\n unix_listener {shown}/auth {{\n  mode = 0666\n }}\n}}\n"
        );
        std::fs::write(dir.join("dovecot.conf"), configuration).unwrap();
        let mut command = Command::new(which("dovecot"));
        command.arg("-F").arg("-c").arg(dir.join("dovecot.conf"));
        let mut daemon = Daemon::start("dovecot", &command, &dir.join("out"));
        daemon.wait_until("its socket", || socket.exists().then_some(()));
        Self { socket, _daemon: daemon }
    }
}

/// A world in which `mx.smart.test` is a smart host beside the Postfix of the world.
struct SmartWorld {
    world: World,
    postfix: Postfix,
    ports: [u16; 2],
}

impl SmartWorld {
    fn start(login: impl FnOnce(&Path) -> Login) -> (Self, Option<Dovecot>) {
        let world = World::start(&[("smart.test", Tlsa::Absent)]);
        let ip = Ipv4Addr::new(127, 0, 1, 1);
        let ports = [free_port(&[ip]), free_port(&[ip])];
        let certificate = Certificate::below_a_ca(world.dir(), "mx.smart.test");
        let [address, wrapped] = ports.map(|port| SocketAddr::from((ip, port)));
        let (name, domain) = ("mx.smart.test".to_owned(), "far.test".to_owned());
        let host = MxHost { name, domain, address, certificate: Some(certificate) };
        let login = login(world.dir());
        let (by, dovecot) = match &login {
            Login::Password(dovecot) => (LoginBy::Dovecot(&dovecot.socket), true),
            Login::Certificate(ca) => (LoginBy::Certificate { ca }, false),
        };
        let postfix = Postfix::start_smart_host(world.dir(), &host, wrapped, &by);
        let kept = match login {
            Login::Password(dovecot_) if dovecot => Some(dovecot_),
            Login::Password(_) | Login::Certificate(_) => None,
        };
        (Self { world, postfix, ports }, kept)
    }

    /// A relay that sends everything to the smart host.
    fn relay(&self, port: u16, keys: &str) -> Relay {
        let dir = self.world.dir().display();
        self.world.start_relay(&format!(
            "reuse_connections = false\n[retry]\nfirst = \"1s\"\nlongest = \"2s\"\n[tls]\nroots = \"{dir}/ca.pem\"\n\
             [[destination]]\ndomains = [\"*\"]\nnext_hop = \"mx.smart.test:{port}\"\n{keys}\n"
        ))
    }

    fn send(&self, relay: &Relay, to: &str) {
        let message = Swaks { server: relay.smtp, from: "a@sender.test", to, options: &[], content: ODD_MESSAGE };
        message.hand_in(self.world.dir());
    }
}

enum Login {
    Password(Dovecot),
    Certificate(PathBuf),
}

fn with_password(dir: &Path, password: &str) -> String {
    let file = dir.join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    format!("login = {{ user = \"relay\", password_file = \"{}\" }}", file.display())
}

fn logs_in(mechanism: &str, mode: &str) {
    let (smart, _dovecot) = SmartWorld::start(|dir| Login::Password(Dovecot::start(dir, mechanism)));
    let [starttls, wrapped] = smart.ports;
    let port = if mode == "implicit" { wrapped } else { starttls };
    let keys = with_password(smart.world.dir(), PASSWORD) + &format!("\ntls_mode = \"{mode}\"");
    let relay = smart.relay(port, &keys);
    smart.send(&relay, "bob@far.test");
    let line = relay.wait_for_log(&["attempt", "mx.smart.test"], PATIENCE);
    assert!(line.contains("webpki") && line.contains("group"), "{line}\n{}", smart.postfix.log());
    smart.postfix.wait_for_mail_to("bob@far.test", PATIENCE);
    let log = smart.postfix.log();
    let method = format!("sasl_method={}, sasl_username=relay", mechanism.to_ascii_uppercase());
    assert!(log.contains(&method), "{method} is not in\n{log}");
    let (code, text) = relay.command(&["check", "far.test"]);
    // It warns of the certificate, which lasts for a week.
    assert!(code == Some(1) && text.contains("far.test is delivered over TLS"), "{text}");
}

#[test]
fn rfc5802_postfix_and_dovecot_take_the_login_by_scram() {
    logs_in("scram-sha-256", "starttls");
}

#[test]
fn rfc4616_postfix_and_dovecot_take_the_login_by_plain_with_tls_from_the_first_octet() {
    logs_in("plain", "implicit");
}

#[test]
fn postfix_and_dovecot_take_the_login_by_its_oldest_way() {
    logs_in("login", "starttls");
}

#[test]
fn rfc4954_6_a_wrong_password_waits_and_stands_in_no_log() {
    let (smart, _dovecot) = SmartWorld::start(|dir| Login::Password(Dovecot::start(dir, "plain")));
    let relay = smart.relay(smart.ports[0], &with_password(smart.world.dir(), "battery staple"));
    smart.send(&relay, "bob@far.test");
    relay.wait_for_log(&["deferred", "login-failed", "4.7.8", "bob@far.test"], PATIENCE);
    let (code, text) = relay.command(&["why", "bob@far.test"]);
    assert!(code == Some(0) && text.contains("login-failed"), "{text}");
    let log = relay.log();
    assert!(!log.contains("staple") && !text.contains("staple") && !log.contains("AHJlbGF5"), "{log}");
    assert!(smart.postfix.mailbox().is_empty());
}

#[test]
fn postfix_takes_a_client_certificate_in_place_of_a_login() {
    let (smart, _) = SmartWorld::start(|dir| {
        let own = dir.join("own");
        std::fs::create_dir_all(&own).unwrap();
        Certificate::below_a_ca(&own, "relay.test");
        Login::Certificate(own.join("ca.pem"))
    });
    let own = smart.world.dir().join("own");
    let keys = format!(
        "tls = \"encrypt\"\nclient_certificate = {{ chain = \"{own}/relay.test.pem\", key = \"{own}/relay.test.key\" }}",
        own = own.display()
    );
    let relay = smart.relay(smart.ports[0], &keys);
    smart.send(&relay, "bob@far.test");
    smart.postfix.wait_for_mail_to("bob@far.test", PATIENCE);
    assert!(read_lossy(&smart.world.dir().join("relay.log")).contains("unauthenticated"));
}
