//! `[[listener]]`: further ways in, each with a policy of its own. `[listen]` is the simple form of one, and
//! gives what all share.

use super::findings::ConfigFindings;
use super::{Config, DomainPattern, Listen, NextHopAddress, network};
use crate::smtp::address::Domain;
use data_encoding::HEXLOWER;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One way in: where it is, who may use it, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// What messages and the log call it.
    pub name: String,
    /// Addresses to listen on.
    #[serde(deserialize_with = "network::sockets")]
    pub addresses: Vec<SocketAddr>,
    /// How TLS comes in.
    #[serde(default)]
    pub tls: ClientTls,
    /// The oldest version of TLS that is spoken here.
    #[serde(default)]
    pub min_tls: MinTls,
    /// Certificate chain in PEM; without one that of `[listen]`.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM.
    #[serde(default)]
    pub private_key: Option<PathBuf>,
    /// Further certificates, for clients that ask for a name in them (RFC 6066 §3).
    #[serde(default)]
    pub certificates: Vec<KeyPairFiles>,
    /// Networks that may hand mail in as they are.
    #[serde(default, deserialize_with = "network::networks")]
    pub clients: Vec<IpNet>,
    /// The file of users who may after AUTH (RFC 4954), `relay user add`.
    #[serde(default)]
    pub auth: Option<PathBuf>,
    /// Whose certificates open the way.
    #[serde(default)]
    pub client_certificates: Option<ClientCertificates>,
    /// The domains of senders, exactly; those of `[listen]` where the key is not there.
    #[serde(default)]
    pub sender_domains: Option<Vec<Domain>>,
    /// Whether a user's mail must come from an address that is the user's own.
    #[serde(default)]
    pub senders_of_user: bool,
    /// Whom mail may go to; everybody where none is named.
    #[serde(default)]
    pub recipients: Vec<DomainPattern>,
    /// The next hops that mail may go to, as destinations name them; all ways where none is named.
    #[serde(default)]
    pub next_hops: Vec<NextHopAddress>,
    /// The largest message, in octets; that of `[listen]` where the key is not there.
    #[serde(default)]
    pub max_message_bytes: Option<u64>,
    /// Whether DSN is offered (RFC 3461).
    #[serde(default = "yes")]
    pub dsn: bool,
    /// Whether REQUIRETLS is offered within TLS (RFC 8689).
    #[serde(default = "yes")]
    pub requiretls: bool,
    /// The balancers that say with the PROXY protocol for whom they connect. From these addresses nobody
    /// comes in without.
    #[serde(default, deserialize_with = "network::networks")]
    pub proxy_protocol_from: Vec<IpNet>,
    /// The most sessions here at once, among those of `[listen]`.
    #[serde(default)]
    pub max_sessions: Option<usize>,
}

const fn yes() -> bool {
    true
}

/// How TLS comes into the sessions of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientTls {
    /// STARTTLS is offered.
    #[default]
    Starttls,
    /// No mail without STARTTLS (RFC 3207 §4).
    Required,
    /// TLS from the first octet, as on port 465 (RFC 8314 §3.3).
    Implicit,
    /// None.
    Off,
}

/// The oldest version of TLS (RFC 9325 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum MinTls {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPairFiles {
    /// The chain in PEM.
    pub certificate: PathBuf,
    /// The private key in PEM.
    pub private_key: PathBuf,
}

/// Whose certificates make a client one that may hand mail in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientCertificates {
    /// A file with the authorities, in PEM, that vouch for such clients.
    pub ca: Option<PathBuf>,
    /// SHA-256 of certificates, whoever issued them.
    pub fingerprints: Vec<Fingerprint>,
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Fingerprint(pub [u8; 32]);

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = text.replace(':', "").to_ascii_lowercase();
        let octets = HEXLOWER.decode(plain.as_bytes()).ok().and_then(|octets| octets.try_into().ok());
        octets.map(Self).ok_or_else(|| {
            format!(
                "\"{text}\" is no SHA-256 fingerprint: write the 64 digits of \
                 `openssl x509 -noout -fingerprint -sha256 -in FILE`"
            )
        })
    }
}

impl ListenerConfig {
    /// Whether sessions under both are alike, wherever they come in.
    #[must_use]
    pub fn is_alike_for_sessions(&self, other: &Self) -> bool {
        self == &Self { addresses: self.addresses.clone(), ..other.clone() }
    }

    /// Whether no client may hand mail in here, whatever it shows.
    #[must_use]
    pub fn admits_nobody(&self) -> bool {
        self.clients.is_empty() && self.auth.is_none() && self.client_certificates.is_none()
    }

    /// The one that `[listen]` is.
    #[must_use]
    pub(crate) fn of(listen: &Listen) -> Self {
        Self {
            name: String::new(),
            addresses: listen.smtp.clone(),
            tls: ClientTls::Starttls,
            min_tls: MinTls::V1_2,
            certificate: listen.certificate.clone(),
            private_key: listen.private_key.clone(),
            certificates: Vec::new(),
            clients: listen.clients.clone(),
            auth: None,
            client_certificates: None,
            sender_domains: Some(listen.sender_domains.clone()),
            senders_of_user: false,
            recipients: Vec::new(),
            next_hops: Vec::new(),
            max_message_bytes: Some(listen.max_message_bytes),
            dsn: true,
            requiretls: true,
            proxy_protocol_from: Vec::new(),
            max_sessions: None,
        }
    }

    /// With the values of `[listen]` for what it leaves out.
    fn with_shared(&self, listen: &Listen) -> Self {
        let mut whole = self.clone();
        if whole.certificate.is_none() {
            whole.certificate.clone_from(&listen.certificate);
            whole.private_key.clone_from(&listen.private_key);
        }
        whole.sender_domains = whole.sender_domains.or_else(|| Some(listen.sender_domains.clone()));
        whole.max_message_bytes = whole.max_message_bytes.or(Some(listen.max_message_bytes));
        whole
    }

    /// The keys that contradict each other, the first of which is the one to change, and what to change.
    fn contradictions(&self) -> Vec<(&'static [&'static str], &'static str)> {
        let by_certificate = self.client_certificates.as_ref();
        let no_name = self.name.is_empty() || self.name.contains(char::is_control);
        let half_a_pair = self.certificate.is_some() != self.private_key.is_some();
        let no_proof = self.auth.is_none() && by_certificate.is_none();
        let all: [(bool, &[&str], &str); 7] = [
            (no_name, &["name"], "give each a name, such as \"submission\""),
            (self.addresses.is_empty(), &["addresses"], "must name at least one"),
            (
                half_a_pair,
                &["certificate", "private_key"],
                "certificate and private_key go together: give both or neither",
            ),
            (
                by_certificate.is_some_and(|of| of.ca.is_none() && of.fingerprints.is_empty()),
                &["client_certificates"],
                "needs a ca or fingerprints",
            ),
            (
                self.tls == ClientTls::Off && !no_proof,
                &["tls", "auth", "client_certificates"],
                "auth and client_certificates need TLS: take tls = \"off\" away",
            ),
            (
                self.admits_nobody(),
                &["", "clients", "auth", "client_certificates"],
                "nobody may hand mail in: give clients, auth or client_certificates",
            ),
            (
                self.senders_of_user && self.auth.is_none(),
                &["senders_of_user", "auth"],
                "needs auth: without users no sender is one's own",
            ),
        ];
        all.into_iter().filter(|(is_so, ..)| *is_so).map(|(_, keys, message)| (keys, message)).collect()
    }
}

impl Config {
    /// All ways in, with every value that counts; that of `[listen]` first, also where it has no address.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerConfig> {
        let further = self.listener.iter().map(|listener| listener.with_shared(&self.listen));
        std::iter::once(ListenerConfig::of(&self.listen)).chain(further).collect()
    }

    /// All addresses where clients hand mail in.
    #[must_use]
    pub fn smtp_addresses(&self) -> Vec<SocketAddr> {
        let further = self.listener.iter().flat_map(|listener| &listener.addresses);
        self.listen.smtp.iter().chain(further).copied().collect()
    }
}

/// Whether the listeners go together.
pub(super) fn check(listeners: &[ListenerConfig], findings: &mut ConfigFindings<'_>) {
    let mut names = BTreeSet::new();
    for (nth, listener) in listeners.iter().enumerate() {
        for (keys, message) in listener.contradictions() {
            let path =
                |key: &&str| if key.is_empty() { format!("listener.{nth}") } else { format!("listener.{nth}.{key}") };
            let paths: Vec<String> = keys.iter().map(path).collect();
            findings.refuse(&paths.iter().map(String::as_str).collect::<Vec<_>>(), message);
        }
        if !names.insert(listener.name.as_str()) {
            findings.refuse(&[&format!("listener.{nth}.name")], "two have this name; give each its own");
        }
    }
}

/// Networks that let everybody in, each in a line.
#[must_use]
pub(super) fn open_to_everybody(config: &Config) -> Vec<String> {
    let listeners = config.listeners();
    let networks =
        listeners.iter().flat_map(|listener| listener.clients.iter().map(move |network| (listener, network)));
    let open = networks.filter(|(_, network)| network.prefix_len() == 0);
    open.map(|(listener, network)| {
        let key =
            if listener.name.is_empty() { "[listen]".to_owned() } else { format!("[[listener]] {}:", listener.name) };
        format!("{key} clients: {network} lets everybody hand mail in: an open relay, if the port can be reached")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("relay.toml")).map_err(|error| error.to_string())
    }

    fn with(lines: &str) -> Result<Config, String> {
        parse(&format!("[[listener]]\nname = \"in\"\naddresses = [\"127.0.0.1:587\"]\n{lines}"))
    }

    #[test]
    fn listen_is_the_simple_form_of_one_and_gives_what_others_leave_out() {
        let text = "[listen]\nmax_message_bytes = 7000\nsender_domains = [\"a.example\"]\n\
                    certificate = \"a.pem\"\nprivate_key = \"a.key\"\n\
                    [[listener]]\nname = \"one\"\naddresses = [\"127.0.0.1:465\"]\ntls = \"implicit\"\nauth = \"users\"\n\
                    [[listener]]\nname = \"two\"\naddresses = [\"127.0.0.1:587\"]\nclients = [\"10.0.0.0/8\"]\n\
                    sender_domains = []\nmax_message_bytes = 9000\n";
        let all = parse(text).unwrap().listeners();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].clients.len(), 2);
        assert_eq!((all[1].tls, all[1].max_message_bytes), (ClientTls::Implicit, Some(7000)));
        assert!(all[1].clients.is_empty(), "who may is never taken from elsewhere");
        assert_eq!((all[1].certificate.as_deref(), all[2].max_message_bytes), (Some(Path::new("a.pem")), Some(9000)));
        assert_eq!(
            (all[1].sender_domains.as_ref().unwrap().len(), all[2].sender_domains.as_deref()),
            (1, Some(&[][..]))
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_what_to_change() {
        for (lines, words) in [
            ("", "nobody may hand mail in: give clients, auth or client_certificates"),
            ("auth = \"users\"\ntls = \"off\"", "take tls = \"off\" away"),
            ("client_certificates = {}", "needs a ca or fingerprints"),
            ("client_certificates = { fingerprints = [\"00:11\"] }", "no SHA-256 fingerprint"),
            ("clients = [\"::1\"]\nsenders_of_user = true", "needs auth"),
            ("clients = [\"::1\"]\nmax_sessions = 0", "from 1 to 100000"),
            ("clients = [\"::1\"]\ncertificate = \"x\"", "both or neither"),
            ("clients = [\"::1\"]\ntls = \"smtps\"", "smtps"),
            ("clients = [\"::1\"]\nmin_tls = \"1.1\"", "1.1"),
            (
                "clients = [\"::1\"]\n[[listener]]\nname = \"in\"\naddresses = [\"[::1]:1\"]\nauth = \"u\"",
                "two have this name",
            ),
            ("clients = [\"::1\"]\n[listen]\nsmtp = [\"127.0.0.1:587\"]", "are one port, which opens once"),
        ] {
            let error = with(lines).unwrap_err();
            assert!(error.contains(words), "{lines}: {error}");
        }
        assert!(with("clients = [\"::1\"]\n[listen]\nsmtp = []").is_ok());
        assert!(parse("[listen]\nsmtp = []").unwrap_err().contains("at least 1"));
        let fingerprint = "AB:".repeat(31) + "ab";
        let config = with(&format!("client_certificates = {{ fingerprints = [\"{fingerprint}\"] }}")).unwrap();
        assert_eq!(config.listener[0].client_certificates.as_ref().unwrap().fingerprints, [Fingerprint([0xab; 32])]);
    }
}
