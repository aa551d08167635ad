//! Real TLS connections to `openssl s_server`: by `openssl s_client` with its DANE options, and
//! by us with the functions that a delivery uses (RFC 7672 §3.1, RFC 8446 §4.4.3).

use super::chains::HOST;
use super::{made_by_openssl, tlsa};
use crate::daemon::{Daemon, both, free_address, run};
use crate::world::open_temp_dir;
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::policy::dane;
use dane_relay::policy::x509::signature::{offered_schemes, verify_handshake};
use dane_relay::resolve::TlsaRecord;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How long one of our handshakes may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server: certificate, key, what it sends above it, and the version of TLS it insists on.
type Server = (&'static str, &'static str, &'static str, &'static str);
/// The certificate a record is for, and the record's numbers.
type Record = (&'static str, u8, u8, u8);

/// Connections, with what must come of them at OpenSSL and with us.
#[test]
fn rfc7672_3_1_handshakes_end_alike_on_the_command_line() {
    let dir = open_temp_dir();
    let _chains = made_by_openssl::chains(dir.path());
    let cases: &[(Server, Record, bool)] = &[
        (("leaf", "leaf", "root", "-tls1_3"), ("leaf", 3, 1, 1), true),
        (("leaf", "leaf", "root", "-tls1_2"), ("leaf", 3, 0, 2), true),
        (("leaf", "leaf", "root", "-tls1_3"), ("middle-by-root", 3, 1, 1), false),
        (("leaf", "leaf", "root", "-tls1_2"), ("root", 2, 0, 1), true),
        (("leaf", "leaf", "", "-tls1_3"), ("root", 2, 0, 0), true),
        (("leaf", "leaf", "", "-tls1_3"), ("root", 2, 1, 0), true),
        (("leaf", "leaf", "", "-tls1_3"), ("root", 2, 1, 1), false),
        (("sha1-leaf", "leaf", "root", "-tls1_3"), ("root", 2, 0, 1), false),
        (("sha1-leaf", "leaf", "root", "-tls1_3"), ("sha1-leaf", 3, 0, 1), true),
        (("old-alone", "leaf", "", "-tls1_3"), ("old-alone", 3, 0, 1), true),
        (("old-alone", "leaf", "", "-tls1_3"), ("leaf", 3, 1, 2), true),
        (("old-leaf", "leaf", "root", "-tls1_2"), ("root", 2, 1, 1), true),
        (("rsa512-leaf", "rsa512", "root", "-tls1_2"), ("rsa512-leaf", 3, 1, 1), true),
        (("rsa1024-leaf", "rsa1024", "root", "-tls1_2"), ("rsa1024-leaf", 3, 1, 1), true),
        (("rsa1024-leaf", "rsa1024", "root", "-tls1_3"), ("rsa1024-leaf", 3, 0, 1), true),
        (("rsa4096-leaf", "rsa4096", "root", "-tls1_3"), ("rsa4096-leaf", 3, 0, 1), true),
        (("pss-leaf", "pss", "root", "-tls1_3"), ("pss-leaf", 3, 1, 1), true),
        (("pss-leaf", "pss", "root", "-tls1_3"), ("root", 2, 1, 1), true),
        (("P-521-root", "P-521", "", "-tls1_3"), ("P-521-root", 3, 1, 1), true),
        (("ED25519-root", "ED25519", "", "-tls1_3"), ("ED25519-root", 3, 1, 1), true),
    ];
    let mut wrong = String::new();
    for (i, (server, (fitting, usage, selector, matching), right)) in cases.iter().enumerate() {
        let der = std::fs::read(dir.path().join(format!("{fitting}.der"))).unwrap();
        let record = tlsa(*usage, *selector, *matching, &der);
        let (_running, address) = start(dir.path(), server, i);
        let openssl = openssl_connects(address, &record);
        let ours = we_connect(address, record.clone());
        if openssl.is_ok() != *right || ours.is_ok() != *right {
            let what = format!("{server:?}, {usage} {selector} {matching} for {fitting}");
            wrong += &format!("{what}: {right} is right\n OpenSSL: {openssl:?}\n we: {ours:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn start(dir: &Path, (certificate, key, above, version): &Server, number: usize) -> (Daemon, SocketAddr) {
    let address = free_address();
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let mut server = Command::new("openssl");
    // Level 0, or it would refuse its own short keys. -www: it does not wait for a keyboard.
    server.args(["s_server", "-www", "-cipher", "DEFAULT:@SECLEVEL=0", "-accept", &address.to_string(), version]);
    server.args(["-cert", &file(&format!("{certificate}.pem")), "-key", &file(&format!("{key}.key"))]);
    if !above.is_empty() {
        server.args(["-cert_chain", &file(&format!("{above}.pem"))]);
    }
    let mut running = Daemon::start("s_server", &server, &dir.join(format!("s_server-{number}.log")));
    running.wait_until_it_listens(address);
    (running, address)
}

/// The command a person would use. At level 1, as Postfix does DANE, but for keys that are shorter.
fn openssl_connects(address: SocketAddr, record: &TlsaRecord) -> Result<(), String> {
    let hex: String = record.data.iter().map(|octet| format!("{octet:02x}")).collect();
    let data = format!("{} {} {} {hex}", record.usage, record.selector, record.matching);
    let level = if record.usage == 3 { "DEFAULT:@SECLEVEL=0" } else { "DEFAULT:@SECLEVEL=1" };
    let mut client = Command::new("openssl");
    client.args(["s_client", "-brief", "-verify_return_error", "-connect", &address.to_string(), "-cipher", level]);
    client.args(["-dane_tlsa_domain", HOST, "-dane_tlsa_rrdata", &data, "-dane_ee_no_namechecks"]);
    let output = run(&mut client);
    let said = both(&output);
    let is_good = output.status.success() && said.contains("Verification: OK");
    is_good.then_some(()).ok_or(said)
}

fn we_connect(address: SocketAddr, record: TlsaRecord) -> Result<(), String> {
    let check = Arc::new(Check { record, now: Clock::system().now() });
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(check)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from(HOST).unwrap()).unwrap();
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What a delivery checks, with one record.
#[derive(Debug)]
struct Check {
    record: TlsaRecord,
    now: Timestamp,
}

impl Check {
    fn signature(
        message: &[u8],
        leaf: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let checked = verify_handshake(message, leaf, dss.scheme, dss.signature());
        checked.map(|()| HandshakeSignatureValid::assertion()).map_err(Error::General)
    }
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<&[u8]> = std::iter::once(leaf).chain(above).map(AsRef::as_ref).collect();
        dane::verify(&chain, std::slice::from_ref(&self.record), &[HOST.parse().unwrap()], self.now)
            .map(|_| ServerCertVerified::assertion())
            .map_err(|failure| Error::General(failure.to_string()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signature(message, leaf, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signature(message, leaf, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        offered_schemes()
    }
}
