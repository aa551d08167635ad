//! Keys, certificates, versions and ciphers of all kinds at the other end of STARTTLS, by OpenSSL:
//! what the relay can speak with, and that what it cannot ends in clear text where nobody minds
//! and waits where TLSA records stand (RFC 7435 §3, RFC 7672 §2.2, RFC 9325 §3.1).

mod peers;
mod posttls_finger;
mod s_server;

use crate::certificate::tlsa_that_fit_nothing;
use crate::client::Swaks;
use crate::daemon::{free_port, read_lossy, run_ok};
use crate::delivery::{ODD_MESSAGE, PATIENCE};
use crate::relay::Relay;
use crate::resolver::Resolver;
use crate::world::open_temp_dir;
use crate::zone::{Authority, ZoneText};
use dane_relay::check::{CheckReport, Checker};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::pipeline::outbound::Outbound;
use peers::End::{self, BreaksLater, CannotSpeak, Speaks};
use peers::{P256, PEERS, Peer, TLS13, both};
use s_server::{SServer, Session, leaf};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use tempfile::TempDir;

/// The TLSA records of a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Records {
    None,
    Fit,
    DoNotFit,
}

/// Those of [`Peer::domains`].
const RECORDS: [Records; 4] = [Records::None, Records::Fit, Records::Fit, Records::DoNotFit];

/// All peers, and a DNS that knows them.
struct Fair {
    servers: Vec<SServer>,
    resolver: Resolver,
    authority: Authority,
    mx_port: u16,
    dir: TempDir,
}

impl Fair {
    fn start() -> Self {
        Self::start_with(&PEERS)
    }

    fn start_with(peers: &[Peer]) -> Self {
        let dir = open_temp_dir();
        let addresses: Vec<Ipv4Addr> = (1..).map(|n| Ipv4Addr::new(127, 0, 4, n)).take(peers.len()).collect();
        let mx_port = free_port(&addresses);
        run_ok(Command::new("openssl").current_dir(dir.path()).args(["genrsa", "-out", "rsa2048.key", "2048"]));
        let mut zone = ZoneText::default();
        let mut servers = Vec::new();
        for (peer, ip) in peers.iter().zip(addresses) {
            let folder = dir.path().join(peer.name);
            std::fs::create_dir(&folder).unwrap();
            let [of_key, of_certificate] = leaf(&folder, peer.script);
            for domain in &peer.domains() {
                zone.mx(domain, &format!("mx.{domain}"), ip);
            }
            let [_, key, certificate, other] = peer.domains();
            zone.tlsa(&format!("mx.{key}"), mx_port, &[format!("3 1 1 {of_key}")]);
            zone.tlsa(&format!("mx.{certificate}"), mx_port, &[format!("3 0 1 {of_certificate}")]);
            zone.tlsa(&format!("mx.{other}"), mx_port, &tlsa_that_fit_nothing(1));
            servers.push(SServer::start(&folder, SocketAddr::from((ip, mx_port)), peer.arguments));
        }
        let authority = Authority::start(dir.path(), &zone);
        let resolver = Resolver::start(dir.path(), &authority);
        Self { servers, resolver, authority, mx_port, dir }
    }

    /// A relay here, with its configuration.
    fn start_relay(&self) -> (Relay, Config) {
        let (server, anchor) = (self.resolver.address, self.authority.anchor.display());
        let text = format!(
            "[dns]\nupstreams = [\"udp://{server}\"]\ntrust_anchors = \"{anchor}\"\n[mta_sts]\nenabled = false\n\
             [delivery]\nport = {}\nallow_loopback = true\n",
            self.mx_port
        );
        let relay = Relay::start(self.dir.path(), &text);
        (relay, Config::load(&self.dir.path().join("relay.toml")).unwrap())
    }
}

/// What `relay check` says a message would meet, in the words of [`expected`].
fn foretold(report: &CheckReport) -> String {
    if let Some(fault) = &report.fault {
        return format!("{} {}", fault.cause, fault.status);
    }
    let tls = report.hosts.iter().flat_map(|host| &host.addresses).find_map(|address| address.tls.as_ref());
    tls.map_or("nothing", |tls| tls.word()).to_owned()
}

/// The words of the log for the end in a domain.
fn expected(end: End, records: Records) -> &'static str {
    match (end, records) {
        (Speaks(_), Records::None) => "unauthenticated",
        (CannotSpeak | BreaksLater, Records::None) => "clear-text",
        (Speaks(_), Records::Fit) => "dane",
        (Speaks(_) | BreaksLater, Records::DoNotFit) => "tlsa-invalid 4.7.323",
        (CannotSpeak, Records::Fit | Records::DoNotFit) | (BreaksLater, Records::Fit) => "tls-handshake-failed 4.7.321",
    }
}

/// The recipients that a server was told of in one way.
fn recipients_in(server: &SServer, commands: impl FnMut(Session) -> Vec<String>) -> Vec<String> {
    let commands = server.sessions().into_iter().flat_map(commands);
    commands.filter(|command| command.starts_with("RCPT")).collect()
}

#[test]
fn rfc7672_2_2_every_kind_of_tls_is_used_or_waited_for_as_the_records_demand() {
    let fair = Fair::start();
    let (mut relay, config) = fair.start_relay();
    let rows = PEERS.iter().flat_map(|peer| peer.domains().into_iter().zip(RECORDS.map(|r| expected(peer.end, r))));
    let rows: Vec<(String, &str)> = rows.collect();
    // The view of delivery alone: so many faults are not to be diagnosed one by one.
    let checker = Checker::over(Outbound::for_command(config, Clock::system()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wrong = String::new();
    for (domain, expected) in &rows {
        // Each may have taken as long as a handshake may take.
        if wrong.lines().count() == 3 {
            break;
        }
        let foretold = foretold(&runtime.block_on(checker.check(&domain.parse().unwrap())));
        if foretold != *expected {
            wrong += &format!("{domain}: {expected} expected, {foretold} foretold\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");

    let to = rows.iter().map(|(domain, _)| format!("b@{domain}")).collect::<Vec<_>>().join(",");
    let (from, server) = ("a@sender.test", relay.smtp);
    Swaks { server, from, to: &to, options: &[], content: ODD_MESSAGE }.hand_in(fair.dir.path());
    for (domain, expected) in &rows {
        let to = format!("to=b@{domain} ");
        match expected.split_once(' ') {
            Some((cause, status)) => relay.wait_for_log(&["deferred", &to, cause, status], PATIENCE),
            None => relay.wait_for_log(&["delivered", &to, expected], PATIENCE),
        };
    }
    // It would keep connections open for messages to come.
    relay.stop();
    for (peer, server) in PEERS.iter().zip(&fair.servers) {
        saw_what_it_should(peer, server);
    }
}

/// The other side of it: who was told of what, and in which version.
fn saw_what_it_should(peer: &Peer, server: &SServer) {
    let Peer { name, end, .. } = peer;
    let told = |domain: &String| format!("RCPT TO:<b@{domain}>");
    let [plain, key, certificate, _] = &peer.domains();
    let mut in_tls = recipients_in(server, |session| session.in_tls);
    in_tls.sort_unstable();
    let in_clear = recipients_in(server, |session| session.in_clear);
    match end {
        Speaks(version) => {
            assert_eq!((in_clear, in_tls), (vec![], [certificate, key, plain].map(told).to_vec()), "{name}");
            for session in server.sessions().iter().filter(|session| !session.in_tls.is_empty()) {
                assert_eq!(session.version(), Some(*version), "{name}: {session:?}");
            }
        }
        CannotSpeak | BreaksLater => assert_eq!((in_clear, in_tls), (vec![told(plain)], vec![]), "{name}"),
    }
}

/// RFC 9325 §3.4: a session that was resumed would not show the certificate again.
#[test]
fn rfc9325_3_4_tickets_are_taken_and_never_used() {
    let peer = |name| both(name, P256, &["-num_tickets", "4", "-trace", "-msgfile", "trace"], TLS13);
    let fair = Fair::start_with(&[peer("proven"), peer("opportunistic")]);
    let (relay, _) = fair.start_relay();
    for (count, person) in ["ann", "bob"].into_iter().enumerate() {
        for (domain, tls) in [("proven.key.test", "dane"), ("opportunistic.plain.test", "unauthenticated")] {
            let to = format!("{person}@{domain}");
            let (from, server) = ("a@sender.test", relay.smtp);
            Swaks { server, from, to: &to, options: &[], content: ODD_MESSAGE }.hand_in(fair.dir.path());
            relay.wait_for_log(&["delivered", &format!("to={to} "), tls], PATIENCE);
        }
        for (server, name) in fair.servers.iter().zip(["proven", "opportunistic"]) {
            // The next message finds no connection that is still open.
            assert_eq!(server.sessions().len(), count + 1, "a session for each message");
            let trace = read_lossy(&fair.dir.path().join(name).join("trace"));
            assert!(trace.contains("NewSessionTicket"), "{trace}");
            assert!(!trace.contains("extension_type=psk("), "{trace}");
        }
    }
}
