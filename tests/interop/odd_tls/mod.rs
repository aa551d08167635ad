//! Keys, certificates, versions and ciphers of all kinds at the other end of STARTTLS, by OpenSSL:
//! what the relay can speak with, and that what it cannot ends in clear text where nobody minds
//! and waits where TLSA records stand (RFC 7435 §3, RFC 7672 §2.2, RFC 9325 §3.1).

mod posttls_finger;
mod s_server;

use crate::certificate::tlsa_that_fit_nothing;
use crate::client::Swaks;
use crate::daemon::{free_port, read_lossy, wait_for};
use crate::delivery::{ODD_MESSAGE, PATIENCE};
use crate::relay::Relay;
use crate::resolver::Resolver;
use crate::world::open_temp_dir;
use crate::zone::{Authority, ZoneText};
use End::{CannotSpeak, RefusesUs, Speaks};
use dane_relay::check::{CheckReport, Checker};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use s_server::{SServer, Session, leaf};
use std::net::{Ipv4Addr, SocketAddr};
use tempfile::TempDir;

/// What comes of TLS with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There is a session, of this version.
    Speaks(&'static str),
    /// There is none.
    CannotSpeak,
    /// The peer shows its certificate, and then ends it because we have none.
    RefusesUs,
}

/// A mail server.
struct Peer {
    name: &'static str,
    /// Makes `leaf.pem` and `leaf.key`.
    script: &'static str,
    /// The arguments of `s_server`.
    arguments: &'static [&'static str],
    end: End,
    /// The same by Postfix's client.
    end_of_postfix: End,
}

const TLS12: End = Speaks("TLSv1.2");
const TLS13: End = Speaks("TLSv1.3");
/// OpenSSL offers nothing weak otherwise.
const WEAK_TOO: [&str; 2] = ["-cipher", "ALL:@SECLEVEL=0"];

/// A self-signed certificate with a key of this kind.
macro_rules! own {
    ($key:literal) => {
        concat!("openssl req -x509 -nodes -days 7 -subj /CN=mx -keyout leaf.key -out leaf.pem -newkey ", $key)
    };
}

const P256: &str = own!("ec -pkeyopt ec_paramgen_curve:P-256");
const RSA: &str = own!("rsa:2048");

const fn both(name: &'static str, script: &'static str, arguments: &'static [&'static str], end: End) -> Peer {
    Peer { name, script, arguments, end, end_of_postfix: end }
}

/// What OpenSSL does in a client and the library of the relay does not.
const fn postfix_alone(
    name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
    end_of_postfix: End,
) -> Peer {
    Peer { name, script, arguments, end: CannotSpeak, end_of_postfix }
}

const fn refuses_us(name: &'static str, arguments: &'static [&'static str]) -> Peer {
    Peer { name, script: P256, arguments, end: RefusesUs, end_of_postfix: CannotSpeak }
}

/// Every kind of peer.
const PEERS: [Peer; 31] = [
    both("rsa1024", own!("rsa:1024"), &WEAK_TOO, TLS13),
    both("rsa1024-tls12", own!("rsa:1024"), &["-cipher", "ALL:@SECLEVEL=0", "-tls1_2"], TLS12),
    both("rsa2048", RSA, &[], TLS13),
    both("rsa3072-tls12", own!("rsa:3072"), &["-tls1_2"], TLS12),
    postfix_alone("rsassa-pss", own!("rsa-pss -pkeyopt rsa_keygen_bits:2048"), &[], TLS13),
    both("p256", P256, &[], TLS13),
    both("p384", own!("ec -pkeyopt ec_paramgen_curve:P-384"), &[], TLS13),
    both("p521", own!("ec -pkeyopt ec_paramgen_curve:P-521"), &[], TLS13),
    // Before TLS 1.3 a client has to offer the curve of the key for the exchange of keys too.
    postfix_alone("p521-tls12", own!("ec -pkeyopt ec_paramgen_curve:P-521"), &["-tls1_2"], TLS12),
    both("ed25519", own!("ed25519"), &[], TLS13),
    both("ed25519-tls12", own!("ed25519"), &["-tls1_2"], TLS12),
    postfix_alone("ed448", own!("ed448"), &[], TLS13),
    both(
        "version1",
        "openssl req -newkey rsa:2048 -nodes -subj /CN=mx -keyout leaf.key -out leaf.csr
        openssl x509 -req -in leaf.csr -signkey leaf.key -days 7 -out leaf.pem",
        &[],
        TLS13,
    ),
    both("expired", concat!("faketime '30 days ago' ", own!("rsa:2048")), &[], TLS13),
    both("not-yet", concat!("faketime '+30 days' ", own!("rsa:2048")), &[], TLS13),
    both("sha1", concat!(own!("rsa:2048"), " -sha1"), &WEAK_TOO, TLS13),
    both("md5", concat!(own!("rsa:2048"), " -md5"), &WEAK_TOO, TLS13),
    both(
        "many-names",
        concat!(
            "names=$(seq -f 'DNS:host-%g.many-names.test' -s , 700)
        ",
            own!("rsa:2048"),
            " -addext subjectAltName=$names"
        ),
        &[],
        TLS13,
    ),
    both("tls12-only", P256, &["-tls1_2"], TLS12),
    both("tls13-only", P256, &["-tls1_3"], TLS13),
    both("tls11-only", RSA, &["-cipher", "ALL:@SECLEVEL=0", "-tls1_1"], CannotSpeak),
    both("tls10-only", RSA, &["-cipher", "ALL:@SECLEVEL=0", "-tls1"], CannotSpeak),
    postfix_alone("static-rsa", RSA, &["-tls1_2", "-cipher", "AES256-GCM-SHA384"], TLS12),
    postfix_alone("dhe", RSA, &["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"], TLS12),
    postfix_alone("cbc", RSA, &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"], TLS12),
    both("chacha", RSA, &["-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"], TLS12),
    // The client guesses another group first: one more round trip.
    both("group-p384", P256, &["-groups", "P-384"], TLS13),
    postfix_alone("group-p521", P256, &["-groups", "P-521"], TLS13),
    both("asks-for-a-certificate", P256, &["-verify", "1"], TLS13),
    refuses_us("demands-a-certificate", &["-Verify", "1"]),
    refuses_us("demands-a-certificate-tls12", &["-Verify", "1", "-tls1_2"]),
];

/// The TLSA records of a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Records {
    None,
    Fit,
    DoNotFit,
}

/// Those of [`Peer::domains`].
const RECORDS: [Records; 4] = [Records::None, Records::Fit, Records::Fit, Records::DoNotFit];

impl Peer {
    /// Its domains: without TLSA records, with `3 1 1`, with `3 0 1`, with one that does not fit.
    fn domains(&self) -> [String; 4] {
        ["plain", "key", "certificate", "other"].map(|kind| format!("{}.{kind}.test", self.name))
    }
}

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

    /// Whether a session is over in which this recipient was named.
    fn ended_with(&self, recipient: &str) -> Option<()> {
        let is_named = |session: &Session| session.in_tls.iter().any(|command| command.contains(recipient));
        self.servers.iter().flat_map(SServer::sessions).any(|session| is_named(&session)).then_some(())
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
        (CannotSpeak | RefusesUs, Records::None) => "clear-text",
        (Speaks(_), Records::Fit) => "dane",
        (Speaks(_) | RefusesUs, Records::DoNotFit) => "tlsa-invalid 4.7.323",
        (CannotSpeak, Records::Fit | Records::DoNotFit) | (RefusesUs, Records::Fit) => "tls-handshake-failed 4.7.321",
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
    let (relay, config) = fair.start_relay();
    let rows = PEERS.iter().flat_map(|peer| peer.domains().into_iter().zip(RECORDS.map(|r| expected(peer.end, r))));
    let rows: Vec<(String, &str)> = rows.collect();
    let checker = Checker::new(config, Clock::system()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wrong = String::new();
    for (domain, expected) in &rows {
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
        CannotSpeak | RefusesUs => assert_eq!((in_clear, in_tls), (vec![told(plain)], vec![]), "{name}"),
    }
}

/// RFC 9325 §3.4: a session that was resumed would not show the certificate again.
#[test]
fn rfc9325_3_4_tickets_are_taken_and_never_used() {
    let fair = Fair::start_with(&[both("tickets", P256, &["-num_tickets", "4", "-trace", "-msgfile", "trace"], TLS13)]);
    let (relay, _) = fair.start_relay();
    for (domain, tls) in [("tickets.key.test", "dane"), ("tickets.plain.test", "unauthenticated")] {
        for person in ["ann", "bob"] {
            let to = format!("{person}@{domain}");
            let (from, server) = ("a@sender.test", relay.smtp);
            Swaks { server, from, to: &to, options: &[], content: ODD_MESSAGE }.hand_in(fair.dir.path());
            relay.wait_for_log(&["delivered", &format!("to={to} "), tls], PATIENCE);
        }
        wait_for("the end of the second session", PATIENCE, || fair.ended_with(&format!("bob@{domain}")));
        let trace = read_lossy(&fair.dir.path().join("tickets/trace"));
        assert!(trace.contains("NewSessionTicket"), "{trace}");
        assert!(!trace.contains("extension_type=psk("), "{trace}");
    }
}
