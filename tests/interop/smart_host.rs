//! Postfix and Exim as smart hosts: logging in by SASL, which Dovecot decides about before Postfix, TLS from
//! the first octet, and a client certificate in place of a password (RFC 4954, RFC 5802, RFC 8314).

use crate::certificate::Certificate;
use crate::client::Swaks;
use crate::daemon::{Daemon, free_port, read_lossy, run_ok, wait_for, which};
use crate::delivery::{ODD_MESSAGE, PATIENCE};
use crate::exim::{Exim, EximClients};
use crate::postfix::{LoginBy, MxHost, Postfix};
use crate::relay::Relay;
use crate::world::{Tlsa, World};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const PASSWORD: &str = "correct horse";
/// What becomes of another one when it is prepared.
const ODD_PASSWORD: &str = "gew\u{fc}rz 4";

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
        let users = format!("relay:{{PLAIN}}{PASSWORD}\nJ\u{fc}rgen:{{PLAIN}}{ODD_PASSWORD}\n");
        std::fs::write(dir.join("users"), users).unwrap();
        let configuration = format!(
            "base_dir = {shown}/run\nstate_dir = {shown}/run\nlog_path = {shown}/log\nprotocols =\nssl = no\n\
             auth_mechanisms = {mechanism}\nauth_username_chars =\nauth_username_format = %u\npassdb {{\n driver = passwd-file\n args = {shown}/users\n}}\n\
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
        self.relay_in(&[], port, keys)
    }

    fn relay_in(&self, environment: &[(&str, &OsStr)], port: u16, keys: &str) -> Relay {
        let dir = self.world.dir().display();
        self.world.start_relay_in(environment, &format!(
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

/// RFC 5802 §5.1: name and password are prepared, here from `u` with a combining mark, a wide space and a
/// superscript digit; Dovecot knows the form that they come to.
#[test]
fn rfc4013_postfix_and_dovecot_take_a_name_and_a_password_outside_ascii_by_scram() {
    let (smart, _dovecot) = SmartWorld::start(|dir| Login::Password(Dovecot::start(dir, "scram-sha-256")));
    let keys =
        with_password(smart.world.dir(), "gewu\u{308}rz\u{3000}\u{2074}").replace("\"relay\"", "\"Ju\u{308}rgen\"");
    let relay = smart.relay(smart.ports[0], &keys);
    smart.send(&relay, "bob@far.test");
    smart.postfix.wait_for_mail_to("bob@far.test", PATIENCE);
    let log = smart.postfix.log();
    assert!(log.contains("sasl_method=SCRAM-SHA-256"), "{log}");
}

#[test]
fn rfc4954_exim_takes_the_login_by_plain_and_by_login() {
    let world = World::start(&[("smart.test", Tlsa::Absent)]);
    for mechanism in ["PLAIN", "LOGIN"] {
        let dir = world.dir().join(mechanism);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let ip = Ipv4Addr::new(127, 0, 1, 1);
        let address = SocketAddr::from((ip, free_port(&[ip])));
        let certificate = Some(Certificate::below_a_ca(&dir, "mx.smart.test"));
        let (name, domain) = ("mx.smart.test".to_owned(), "far.test".to_owned());
        let clients = EximClients::WithLogin(mechanism, "relay", PASSWORD);
        let exim = Exim::start_for(&dir, &[MxHost { name, domain, address, certificate }], &clients);
        let shown = dir.display();
        let relay = world.start_relay(&format!(
            "[tls]\nroots = \"{shown}/ca.pem\"\n[[destination]]\ndomains = [\"*\"]\n\
             next_hop = \"mx.smart.test:{}\"\n{}\n",
            address.port(),
            with_password(&dir, PASSWORD)
        ));
        let to = format!("{mechanism}@far.test");
        let message = Swaks { server: relay.smtp, from: "a@sender.test", to: &to, options: &[], content: ODD_MESSAGE };
        message.hand_in(&dir);
        relay.wait_for_log(&["delivered", &to], PATIENCE);
        wait_for("its delivery", PATIENCE, || exim.log().contains("Completed").then_some(()));
        let log = exim.log();
        assert!(log.contains(&format!("A={mechanism}:relay")), "{log}");
    }
}

/// systemd puts what `LoadCredential=` names into a folder, and says where that is.
#[test]
fn rfc4954_the_password_may_be_a_credential_of_the_service_manager() {
    let (smart, _dovecot) = SmartWorld::start(|dir| Login::Password(Dovecot::start(dir, "plain")));
    let folder = smart.world.dir().join("credentials");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("smarthost"), PASSWORD).unwrap();
    let keys = "login = { user = \"relay\", credential = \"smarthost\" }";
    let environment = [("CREDENTIALS_DIRECTORY", folder.as_os_str())];
    let relay = smart.relay_in(&environment, smart.ports[0], keys);
    smart.send(&relay, "bob@far.test");
    smart.postfix.wait_for_mail_to("bob@far.test", PATIENCE);
    assert!(!relay.log().contains(PASSWORD));
}

#[test]
fn a_renewed_client_certificate_is_shown_after_sighup_and_status_tells_its_end() {
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
    let shown = |to: &str| {
        smart.send(&relay, to);
        smart.postfix.wait_for_mail_to(to, PATIENCE).fields().concat()
    };
    assert!(shown("bob@far.test").contains("Client CN \"leaf\""));
    let script = "set -e
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=renewed -keyout relay.test.key -out new.csr
        openssl x509 -req -in new.csr -CA ca.pem -CAkey ca.key -days 30 -extfile leaf.ext -out new.pem
        cat new.pem ca.pem > relay.test.pem";
    run_ok(Command::new("sh").current_dir(&own).args(["-c", script]));
    relay.hang_up();
    relay.wait_for_log(&["configuration taken over"], PATIENCE);
    let received = shown("carol@far.test");
    assert!(received.contains("Client CN \"renewed\""), "{received}");
    let metric = "relay_client_certificate_expiry_timestamp_seconds{destination=\"*\"} ";
    let page = relay.metrics();
    let ends: f64 = page.lines().find_map(|line| line.strip_prefix(metric)).unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(ends - now > 20.0 * 86_400.0, "{ends}");
    let (_, status) = relay.command(&["status"]);
    assert!(status.contains("client cert.   *: until "), "{status}");
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
    // The log is ahead of the ledger.
    let why = || {
        let (code, text) = relay.command(&["why", "bob@far.test"]);
        (code == Some(0) && text.contains("login-failed")).then_some(text)
    };
    let text = wait_for("the failure in the history", PATIENCE, why);
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
