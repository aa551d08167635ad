//! Smart hosts: logging in, TLS from the first octet, client certificates, where mail comes from, and
//! whose mail goes there (RFC 4954, RFC 8314).

use crate::relay::{SENDER, World, expect, lab};
use dane_relay::check::selfcheck;
use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::lab::{Certificate, Lab, LabBuilder, StartTls};
use dane_relay::outcome::{Cause, Side};
use dane_relay::pipeline::outbound::Outbound;
use data_encoding::BASE64;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

const USER: &str = "relay@smart.test";
const PASSWORD: &str = "correct horse";

/// When the host speaks TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsBegins {
    First,
    AfterCommand,
    Never,
}

/// One connection as the host saw it.
#[derive(Clone, Debug)]
struct Contact {
    from: IpAddr,
    ehlo: String,
    login: Option<String>,
    certificate: Option<Vec<u8>>,
    messages: usize,
}

/// A smart host that wants a login inside TLS; it stops when it is dropped.
struct SmartHost {
    address: SocketAddr,
    contacts: Arc<Mutex<Vec<Contact>>>,
    _task: AbortOnDropHandle<()>,
}

impl SmartHost {
    /// At the address of the lab's `mx.smart.test`, with its certificate, on a port of its own.
    async fn start(lab: &Lab, when: TlsBegins, verifier: Option<Arc<dyn ClientCertVerifier>>) -> Self {
        let host = lab.mx("smart.test").unwrap();
        let listener = TcpListener::bind((host.address().ip(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut shown = None;
        host.behave(|behaviour| {
            let StartTls::Offered(config) = &behaviour.starttls else { panic!("it offers TLS") };
            shown = Some(Arc::clone(&config.cert_resolver));
        });
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_cert_resolver(shown.unwrap())));
        let contacts = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&contacts);
        let serving = async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let number = {
                    let mut log = log.lock().unwrap();
                    let (ehlo, login, certificate) = (String::new(), None, None);
                    log.push(Contact { from: peer.ip(), ehlo, login, certificate, messages: 0 });
                    log.len() - 1
                };
                let session = Talk { contacts: Arc::clone(&log), number };
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let _ended = session.run(stream, acceptor, when).await;
                });
            }
        };
        Self { address, contacts, _task: AbortOnDropHandle::new(tokio::spawn(serving)) }
    }

    fn contacts(&self) -> Vec<Contact> {
        self.contacts.lock().unwrap().clone()
    }

    fn last(&self) -> Contact {
        self.contacts().pop().unwrap()
    }
}

struct Talk {
    contacts: Arc<Mutex<Vec<Contact>>>,
    number: usize,
}

impl Talk {
    fn note(&self, change: impl FnOnce(&mut Contact)) {
        change(&mut self.contacts.lock().unwrap()[self.number]);
    }

    async fn run(self, stream: tokio::net::TcpStream, acceptor: TlsAcceptor, when: TlsBegins) -> io::Result<()> {
        let mut stream = stream;
        if when != TlsBegins::First {
            stream.write_all(b"220 mx.smart.test\r\n").await?;
            let mut clear = BufReader::new(&mut stream);
            loop {
                let mut line = String::new();
                if clear.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                let reply = match line.trim_end() {
                    "STARTTLS" => "220 go ahead\r\n",
                    ehlo if ehlo.starts_with("EHLO") && when == TlsBegins::AfterCommand => {
                        "250-mx.smart.test\r\n250 STARTTLS\r\n"
                    }
                    ehlo if ehlo.starts_with("EHLO") => "250-mx.smart.test\r\n250 AUTH PLAIN\r\n",
                    "QUIT" => "221 bye\r\n",
                    _ => "530 5.7.0 log in first\r\n",
                };
                clear.get_mut().write_all(reply.as_bytes()).await?;
                if line.starts_with("STARTTLS") {
                    break;
                }
            }
        }
        let stream = acceptor.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
        self.note(|contact| contact.certificate = shown);
        self.inside(BufReader::new(stream), when).await
    }

    async fn inside<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut wire: BufReader<S>,
        when: TlsBegins,
    ) -> io::Result<()> {
        if when == TlsBegins::First {
            wire.get_mut().write_all(b"220 mx.smart.test\r\n").await?;
        }
        loop {
            let mut line = String::new();
            if wire.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let (verb, rest) = line.trim_end().split_once(' ').unwrap_or_else(|| (line.trim_end(), ""));
            let logged_in = self.contacts.lock().unwrap()[self.number].login.is_some();
            let reply = match verb {
                "EHLO" => {
                    self.note(|contact| rest.clone_into(&mut contact.ehlo));
                    "250-mx.smart.test\r\n250 AUTH PLAIN\r\n".to_owned()
                }
                "AUTH" => {
                    let given = rest.strip_prefix("PLAIN ").unwrap();
                    if BASE64.decode(given.as_bytes()).unwrap() == format!("\0{USER}\0{PASSWORD}").as_bytes() {
                        self.note(|contact| contact.login = Some(USER.to_owned()));
                        "235 2.7.0 welcome\r\n".to_owned()
                    } else {
                        format!("535 5.7.8 who is {given}?\r\n")
                    }
                }
                "MAIL" if !logged_in && self.wants_login() => "530 5.7.0 log in first\r\n".to_owned(),
                "DATA" => {
                    wire.get_mut().write_all(b"354 go on\r\n").await?;
                    while line != ".\r\n" {
                        line.clear();
                        wire.read_line(&mut line).await?;
                    }
                    self.note(|contact| contact.messages += 1);
                    "250 2.0.0 taken\r\n".to_owned()
                }
                "QUIT" => "221 bye\r\n".to_owned(),
                _ => "250 ok\r\n".to_owned(),
            };
            wire.get_mut().write_all(reply.as_bytes()).await?;
        }
    }

    /// A client certificate is as good as a login.
    fn wants_login(&self) -> bool {
        self.contacts.lock().unwrap()[self.number].certificate.is_none()
    }
}

fn with_smart_host(certificate: Certificate) -> LabBuilder {
    lab().domain("smart.test", move |d| d.plain().host(move |h| h.tlsa([]).certificate(certificate)))
}

/// A relay whose mail for everybody else goes to the smart host under these keys, with its configuration.
struct Beside {
    world: World,
    host: SmartHost,
    config: Config,
    _folder: TempDir,
}

impl Beside {
    /// `HOST` in the keys is where it is, `DIR` a folder with what `files` puts there.
    async fn start(when: TlsBegins, certificate: Certificate, keys: &str, password: &str) -> Self {
        Self::demanding(when, certificate, None, keys, |folder| {
            std::fs::write(folder.join("secret"), format!("{password}\n")).unwrap();
        })
        .await
    }

    async fn demanding(
        when: TlsBegins,
        certificate: Certificate,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
        keys: &str,
        files: impl FnOnce(&Path),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files(folder.path());
        let lab = with_smart_host(certificate).start().await.unwrap();
        let host = SmartHost::start(&lab, when, verifier).await;
        let keys = keys.replace("HOST", &format!("mx.smart.test:{}", host.address.port()));
        let keys = keys.replace("DIR", &folder.path().display().to_string());
        let text = format!("[[destination]]\ndomains = [\"*\"]\n{keys}\n");
        let mut shared = None;
        let world = World::beside(lab, |_, config| {
            config.destination = Config::parse(&text, Path::new("suite.toml")).unwrap().destination;
            config.delivery.reuse_connections = true;
            shared = Some(config.clone());
        });
        Self { world: world.await, host, config: shared.unwrap(), _folder: folder }
    }

    async fn check(&self) -> dane_relay::check::CheckReport {
        let checker = Checker::new(self.config.clone(), Clock::system()).unwrap();
        checker.check(&"far.example".parse().unwrap()).await
    }
}

const LOGIN: &str = "next_hop = \"HOST\"\nlogin = { user = \"relay@smart.test\", password_file = \"DIR/secret\" }";

#[tokio::test]
async fn rfc4954_a_login_is_made_once_for_each_connection_and_by_check_too() {
    let beside = Beside::start(TlsBegins::AfterCommand, Certificate::Issued, LOGIN, PASSWORD).await;
    for n in 0..3 {
        let delivered = beside.world.delivers(&format!("u{n}@far.example")).await;
        assert_eq!((delivered.host.as_str(), delivered.tls), ("mx.smart.test", "webpki"));
    }
    let contacts = beside.host.contacts();
    assert_eq!((contacts.len(), contacts[0].messages), (1, 3), "{contacts:?}");
    assert_eq!(contacts[0].login.as_deref(), Some(USER));
    let report = beside.check().await;
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert_eq!(beside.host.last().login.as_deref(), Some(USER));
}

#[tokio::test]
async fn rfc4954_6_a_refused_login_is_ours_waits_and_shows_no_secret() {
    let beside = Beside::start(TlsBegins::AfterCommand, Certificate::Issued, LOGIN, "battery staple").await;
    let cause = beside.world.defers("bob@far.example").await;
    expect(&cause, "login-failed", "4.7.8");
    assert_eq!(cause.row().side, Side::Here);
    let secret = BASE64.encode(format!("\0{USER}\0battery staple").as_bytes());
    let report = beside.check().await;
    let told =
        format!("{cause:?} {} {:?} {}", cause.sentence(), cause.evidence(), serde_json::to_string(&report).unwrap());
    assert!(told.contains("withheld") && !told.contains(&secret) && !told.contains("staple"), "{told}");
    assert_eq!(report.verdict, Verdict::Fault, "{}", report.text());
    assert_eq!(beside.host.contacts().iter().map(|contact| contact.messages).sum::<usize>(), 0);
}

#[tokio::test]
async fn no_password_goes_in_clear_or_to_a_server_that_is_not_proven() {
    for (when, certificate) in
        [(TlsBegins::Never, Certificate::Issued), (TlsBegins::AfterCommand, Certificate::SelfSigned)]
    {
        let beside = Beside::start(when, certificate, LOGIN, PASSWORD).await;
        let cause = beside.world.defers("bob@far.example").await;
        expect(&cause, "login-unprotected", "4.7.11");
        assert_eq!(cause.row().side, Side::Here, "{cause:?}");
        assert!(beside.host.contacts().iter().all(|contact| contact.login.is_none()));
    }
}

#[tokio::test]
async fn rfc8314_3_3_tls_comes_with_the_first_octet_where_the_operator_says_so() {
    let keys = format!("{LOGIN}\ntls_mode = \"implicit\"");
    let beside = Beside::start(TlsBegins::First, Certificate::Issued, &keys, PASSWORD).await;
    assert_eq!(beside.world.delivers("bob@far.example").await.tls, "webpki");
    assert_eq!(beside.world.delivers("eve@far.example").await.tls, "webpki");
    assert_eq!((beside.host.contacts().len(), beside.host.last().messages), (1, 2));
    assert_eq!(beside.check().await.verdict, Verdict::Ok);
    // The look at the own host begins as delivery does, and logs in nowhere.
    let out = Outbound::for_command(beside.config.clone(), Clock::system()).unwrap();
    let seen = selfcheck::look(&out).await;
    let hops = seen.iter().find(|one| one.check == "next-hops").unwrap();
    assert!(hops.status == Verdict::Ok && hops.detail.contains("answers with TLSv1.3"), "{hops:?}");
    assert_eq!(beside.host.last().login, None);
}

#[tokio::test]
async fn rfc4954_6_a_next_hop_that_wants_a_login_that_nobody_configured_returns_no_mail() {
    let keys = "next_hop = \"HOST\"\ntls = \"encrypt\"";
    let beside = Beside::start(TlsBegins::AfterCommand, Certificate::Issued, keys, PASSWORD).await;
    let cause = beside.world.defers("bob@far.example").await;
    expect(&cause, "login-failed", "4.7.8");
    assert!(cause.sentence().contains("only after a login: 530 5.7.0 log in first"), "{}", cause.sentence());
}

/// A certificate of its own authority with its key, in PEM, and who vouches for it.
fn client_identity(folder: &Path) -> (Vec<u8>, Arc<dyn ClientCertVerifier>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["relay.office.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("client.pem"), made.pem()).unwrap();
    std::fs::write(folder.join("client.key"), key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.der().clone()).unwrap();
    (
        made.der().to_vec(),
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build().unwrap(),
    )
}

#[tokio::test]
async fn a_destination_shows_its_client_certificate_where_one_is_demanded() {
    let folder = tempfile::tempdir().unwrap();
    let (der, verifier) = client_identity(folder.path());
    let dir = folder.path().display();
    let keys = format!(
        "next_hop = \"HOST\"\ntls = \"encrypt\"\nclient_certificate = {{ chain = \"{dir}/client.pem\", key = \"{dir}/client.key\" }}"
    );
    let beside = Beside::demanding(TlsBegins::AfterCommand, Certificate::Issued, Some(verifier), &keys, |_| {}).await;
    assert_eq!(beside.world.delivers("bob@far.example").await.tls, "unauthenticated");
    assert_eq!(beside.host.last().certificate, Some(der));
    let metrics = beside.world.metrics().await;
    let expiry = metrics.get("relay_client_certificate_expiry_timestamp_seconds{destination=\"*\"}");
    assert!(expiry.is_some_and(|at| *at > 1e9), "{expiry:?}");
}

#[tokio::test]
async fn rfc5321_4_1_4_mail_comes_from_the_address_and_under_the_name_that_the_operator_says() {
    let keys = format!("{LOGIN}\nsource = {{ ipv4 = \"127.0.0.9\", ehlo = \"out.office.test\" }}");
    let beside = Beside::start(TlsBegins::AfterCommand, Certificate::Issued, &keys, PASSWORD).await;
    beside.world.delivers("bob@far.example").await;
    let contact = beside.host.last();
    assert_eq!((contact.from, contact.ehlo.as_str()), (IpAddr::from([127, 0, 0, 9]), "out.office.test"));
}

#[tokio::test]
async fn an_address_that_this_host_does_not_have_is_our_fault_and_mail_waits() {
    let keys = format!("{LOGIN}\nsource = {{ ipv4 = \"192.0.2.77\" }}");
    let beside = Beside::start(TlsBegins::AfterCommand, Certificate::Issued, &keys, PASSWORD).await;
    let cause = beside.world.defers("bob@far.example").await;
    expect(&cause, "source-unavailable", "4.3.5");
    assert_eq!(cause.row().side, Side::Here);
    let doubts = dane_relay::service::start::doubts(&beside.config).await.unwrap();
    assert!(doubts.iter().any(|doubt| doubt.contains("192.0.2.77 is no address of this host")), "{doubts:?}");
}

#[tokio::test]
async fn a_host_without_an_address_of_the_family_that_is_allowed_is_not_tried() {
    let keys = format!("{LOGIN}\nfamily = \"ipv6\"");
    let beside = Beside::start(TlsBegins::AfterCommand, Certificate::Issued, &keys, PASSWORD).await;
    let cause = beside.world.defers("bob@far.example").await;
    expect(&cause, "no-address-of-family", "4.4.4");
    assert!(matches!(&cause, Cause::EgressFailed { host, .. } if host == "mx.smart.test"), "{cause:?}");
    assert!(beside.host.contacts().is_empty());
}

#[tokio::test]
async fn the_sender_decides_about_the_way_out_where_the_operator_says_so() {
    let keys = format!("senders = [\"@other.test\", \"carol@office.test\"]\n{LOGIN}");
    let beside = Beside::start(TlsBegins::AfterCommand, Certificate::Issued, &keys, PASSWORD).await;
    assert_eq!(
        beside.world.delivers("bob@office.test").await.host,
        "mx.office.test",
        "mail of {SENDER} goes its usual way"
    );
    let content = format!("From: <{SENDER}>\r\n\r\nx\r\n");
    for sender in ["dave@other.test", "Carol@office.test"] {
        let id = beside.world.send(sender, &["bob@office.test"], content.as_bytes()).await;
        assert_eq!(beside.world.delivered(id, "bob@office.test").await.host, "mx.smart.test", "{sender}");
    }
    let checker = Checker::new(beside.config.clone(), Clock::system()).unwrap();
    let sender = dane_relay::smtp::address::parse_reverse_path("<carol@office.test>").unwrap();
    let domain = "office.test".parse().unwrap();
    assert!(checker.check_from(Some(&sender), &domain).await.next_hop.starts_with("mx.smart.test:"));
    assert_eq!(checker.check(&domain).await.next_hop, "office.test");
}
