//! Foreign clients through every kind of listener: openssl and swaks, and HAProxy between them and the relay.

use crate::certificate::{Ca, Certificate};
use crate::client::{Sink, Swaks};
use crate::daemon::{Daemon, both, free_address, run, run_ok, wait_for};
use crate::relay::{RELAY, Relay};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const CONTENT: &[u8] = b"From: a@sender.test\r\nSubject: hello\r\n\r\nhello\r\n";
const PATIENCE: Duration = Duration::from_secs(60);

/// A relay with every kind of listener, behind which all mail goes to a sink.
struct Front {
    relay: Relay,
    sink: Sink,
    starttls: SocketAddr,
    implicit: SocketAddr,
    off: SocketAddr,
    certified: SocketAddr,
    proxied: SocketAddr,
    ca: Ca,
    client: Certificate,
    dir: tempfile::TempDir,
}

impl Front {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sink = Sink::start(dir.path());
        let ca = Ca::new(dir.path(), "front");
        let (own, other) = (ca.issue("relay.test"), ca.issue("other.test"));
        let client = Certificate::self_signed(dir.path(), "gateway.test");
        let fingerprint = run_ok(
            Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(&client.chain),
        );
        let fingerprint = fingerprint.trim().rsplit('=').next().unwrap().to_owned();
        let users = dir.path().join("users");
        add_user(&users, "printer", "correct horse");
        let [starttls, implicit, off, certified, proxied] = [(); 5].map(|()| free_address());
        let sections = format!(
            "[dns]\nupstreams = [\"udp://127.0.0.1:1\"]\n[delivery]\nallow_loopback = true\n\
             [[destination]]\ndomains = [\"*\"]\nnext_hop = \"{sink}\"\n\
             [[listener]]\nname = \"starttls\"\naddresses = [\"{starttls}\"]\ntls = \"required\"\nauth = {users:?}\n\
             certificate = {own:?}\nprivate_key = {own_key:?}\n\
             certificates = [{{ certificate = {other:?}, private_key = {other_key:?} }}]\n\
             [[listener]]\nname = \"implicit\"\naddresses = [\"{implicit}\"]\ntls = \"implicit\"\nmin_tls = \"1.3\"\n\
             auth = {users:?}\ncertificate = {own:?}\nprivate_key = {own_key:?}\n\
             [[listener]]\nname = \"off\"\naddresses = [\"{off}\"]\ntls = \"off\"\nclients = [\"127.0.0.1\"]\n\
             [[listener]]\nname = \"certified\"\naddresses = [\"{certified}\"]\n\
             client_certificates = {{ ca = {client_ca:?}, fingerprints = [\"{fingerprint}\"] }}\n\
             [[listener]]\nname = \"proxied\"\naddresses = [\"{proxied}\"]\nclients = [\"127.0.7.7\"]\n\
             proxy_protocol_from = [\"127.0.0.1\"]\n",
            sink = sink.address,
            own = own.chain,
            own_key = own.key,
            other = other.chain,
            other_key = other.key,
            client_ca = ca.pem(),
        );
        let relay = Relay::start(dir.path(), &sections);
        Self { relay, sink, starttls, implicit, off, certified, proxied, ca, client, dir }
    }

    /// Hands a message in with swaks, and gives it as the sink got it.
    fn arrives(&self, server: SocketAddr, to: &str, options: &[&str]) -> String {
        let swaks = Swaks { server, from: "a@sender.test", to, options, content: CONTENT };
        swaks.hand_in(self.dir.path());
        let it = || self.sink.messages().into_iter().find(|message| message.contains(&format!("<{to}>")));
        wait_for("the message in the sink", PATIENCE, it)
    }

    /// What openssl says of the certificate that a client meets there.
    fn openssl(&self, server: SocketAddr, options: &[&str]) -> (bool, String) {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-connect", &server.to_string(), "-verify_return_error", "-CAfile"]);
        let output = run(openssl.arg(self.ca.pem()).args(["-brief"]).args(options));
        (output.status.success(), both(&output))
    }

    /// What swaks says when it is not content.
    fn refused(&self, server: SocketAddr, options: &[&str]) -> String {
        let mut swaks = Command::new("swaks");
        swaks.args(["--server", &server.ip().to_string(), "--port", &server.port().to_string()]);
        let output =
            run(swaks.args(["--helo", "client.test", "--from", "a@sender.test", "--to", "b@x.test"]).args(options));
        assert!(!output.status.success(), "{}", both(&output));
        both(&output)
    }
}

fn add_user(file: &Path, name: &str, password: &str) {
    let mut relay = Command::new(RELAY);
    let mut child = relay.args(["user", "add", name, "--file"]).arg(file).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn e08_openssl_and_swaks_verify_our_chain_and_name_at_every_listener_with_tls() {
    let front = Front::start();
    let verified = "Verification: OK";
    let host = ["-verify_hostname", "relay.test", "-servername", "relay.test"];
    let (ok, said) = front.openssl(front.starttls, &[&["-starttls", "smtp"], &host[..]].concat());
    assert!(ok && said.contains(verified), "{said}");
    let (ok, said) = front.openssl(front.starttls, &[&["-starttls", "smtp", "-tls1_2"], &host[..]].concat());
    assert!(ok && said.contains("TLSv1.2"), "{said}");
    let (ok, said) = front.openssl(front.implicit, &host);
    assert!(ok && said.contains(verified) && said.contains("TLSv1.3"), "{said}");
    let (ok, said) = front.openssl(front.implicit, &["-tls1_2"]);
    assert!(!ok, "min_tls = 1.3: {said}");
    let (ok, said) = front.openssl(front.starttls, &["-starttls", "smtp", "-tls1_1"]);
    assert!(!ok, "nothing below 1.2: {said}");
    // Another name: its certificate by SNI, else the usual one, which is not for it.
    let other = ["-starttls", "smtp", "-verify_hostname", "other.test", "-servername"];
    let (ok, said) = front.openssl(front.starttls, &[&other[..], &["other.test"]].concat());
    assert!(ok && said.contains(verified), "{said}");
    let (ok, said) = front.openssl(front.starttls, &[&other[..], &["relay.test"]].concat());
    assert!(!ok && said.contains("hostname mismatch"), "{said}");
    let login = ["--auth", "PLAIN", "--auth-user", "printer", "--auth-password", "correct horse"];
    let ca = front.ca.pem().display().to_string();
    let tls = ["--tls", "--tls-verify", "--tls-ca-path", &ca, "--tls-sni", "relay.test"];
    let message = front.arrives(front.starttls, "one@x.test", &[&tls[..], &login].concat());
    assert!(message.contains("with ESMTPSA id"), "{message}");
    let untrusted = Certificate::self_signed(front.dir.path(), "stranger.test").chain.display().to_string();
    let said =
        front.refused(front.starttls, &[&["--tls", "--tls-verify", "--tls-ca-path", &untrusted], &login[..]].concat());
    assert!(said.contains("TLS"), "{said}");
}

#[test]
fn e10_swaks_logs_in_by_plain_and_login_within_tls_alone() {
    let front = Front::start();
    let user = ["--auth-user", "printer", "--auth-password", "correct horse"];
    for (server, to, options) in [
        (front.starttls, "plain@x.test", ["--tls", "--auth", "PLAIN"]),
        (front.starttls, "login@x.test", ["--tls", "--auth", "LOGIN"]),
        (front.implicit, "plain-465@x.test", ["--tls-on-connect", "--auth", "PLAIN"]),
        (front.implicit, "login-465@x.test", ["--tls-on-connect", "--auth", "LOGIN"]),
    ] {
        let message = front.arrives(server, to, &[&options[..], &user].concat());
        assert!(message.contains("with ESMTPSA id"), "{message}");
    }
    let wrong = ["--tls", "--auth", "LOGIN", "--auth-user", "printer", "--auth-password", "wrong horse"];
    assert!(front.refused(front.starttls, &wrong).contains("535 5.7.8"));
    assert!(front.refused(front.starttls, &[]).contains("530 5.7.0"));
    assert!(front.refused(front.starttls, &["--tls"]).contains("530 5.7.0 authentication required"));
    let message = front.arrives(front.off, "clear@x.test", &[]);
    assert!(message.contains("with ESMTP id"), "{message}");
    assert!(front.refused(front.off, &["--tls"]).contains("STARTTLS"));
    let log = front.relay.log();
    assert!(log.contains("user=\"printer\"") && !log.contains("horse"), "{log}");
}

#[test]
fn a_gateway_comes_in_by_its_certificate_and_others_do_not() {
    let front = Front::start();
    let shown = |certificate: &Certificate| {
        let (chain, key) = (certificate.chain.display().to_string(), certificate.key.display().to_string());
        ["--tls".to_owned(), "--tls-cert".to_owned(), chain, "--tls-key".to_owned(), key]
    };
    let by_fingerprint = shown(&front.client);
    let by_authority = shown(&front.ca.issue("branch.test"));
    for (to, options) in [("one@x.test", by_fingerprint), ("two@x.test", by_authority)] {
        let message = front.arrives(front.certified, to, &options.each_ref().map(String::as_str));
        assert!(message.contains("with ESMTPS id"), "{message}");
    }
    let stranger = shown(&Certificate::self_signed(front.dir.path(), "stranger.test"));
    assert!(front.refused(front.certified, &stranger.each_ref().map(String::as_str)).contains("550 5.7.1"));
    assert!(front.refused(front.certified, &["--tls"]).contains("550 5.7.1"));
    assert!(front.refused(front.certified, &[]).contains("530 5.7.0 must issue a STARTTLS command first"));
}

#[test]
fn haproxy_with_the_proxy_protocol_in_both_versions_shows_us_the_real_client() {
    let front = Front::start();
    for (version, word) in [(1, "send-proxy"), (2, "send-proxy-v2")] {
        let listen = free_address();
        let file = front.dir.path().join(format!("haproxy-{version}.cfg"));
        let text = format!(
            "global\n  log stdout format raw local0\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  \
             timeout server 60s\nlisten smtp\n  bind {listen}\n  server relay {} {word}\n",
            front.proxied
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&file);
        let mut haproxy = Daemon::start("haproxy", &command, &front.dir.path().join("haproxy.log"));
        haproxy.wait_until_it_listens(listen);
        let to = format!("v{version}@x.test");
        let message = front.arrives(listen, &to, &["--local-interface", "127.0.7.7"]);
        assert!(message.contains("([127.0.7.7])"), "{message}");
        let denied = front.refused(listen, &["--local-interface", "127.0.7.8"]);
        assert!(denied.contains("relaying denied: 127.0.7.8"), "{denied}");
    }
}
