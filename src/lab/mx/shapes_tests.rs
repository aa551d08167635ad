//! The misdeeds of MX hosts of the lab are real: a client with a TLS library of its own meets
//! them (RFC 3207, RFC 8446, RFC 8689).

use super::client::{SmtpClient, anything};
use crate::lab::mx::behaviour::{SessionOrigin, StartTls, TlsFacts, Trouble, TroubleAt};
use crate::lab::tls::shape::{TlsShape, Versions};
use crate::lab::{Certificate, HostSpec, Lab, RunningMxHost};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{AlertDescription, Error};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const FROM: &str = "alice@client.test";
const TO: &str = "bob@a.test";
const HOST: &str = "mx.a.test";

async fn lab(change: impl FnOnce(HostSpec) -> HostSpec) -> Lab {
    Lab::builder().domain("a.test", |d| d.host(change)).start().await.unwrap()
}

fn mx(lab: &Lab) -> &RunningMxHost {
    lab.mx("a.test").unwrap()
}

async fn client(lab: &Lab) -> SmtpClient {
    SmtpClient::ready(mx(lab).address()).await.unwrap()
}

fn connector() -> TlsConnector {
    Arc::new(anything(default_provider()).unwrap()).into()
}

/// Sends a message through TLS and gives what the host says of the session.
async fn facts(lab: &Lab, connector: &TlsConnector) -> TlsFacts {
    let mut client = client(lab).await.starttls_by(connector, HOST).await.unwrap();
    assert!(client.send(FROM, &[TO], b"x\r\n").await.unwrap().accepted());
    mx(lab).messages().pop().unwrap().tls.unwrap()
}

async fn failure(lab: &Lab) -> io::Error {
    client(lab).await.starttls(HOST).await.err().unwrap()
}

/// The host comes to know that a handshake failed; the client may have known it before.
async fn handshake_fails(lab: &Lab) {
    let known = async {
        while mx(lab).handshakes_failed() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), known).await.unwrap();
}

#[tokio::test]
async fn rfc8446_6_2_a_server_without_a_common_version_or_cipher_says_so() {
    for (starttls, alert) in [
        (StartTls::tls10_only(), AlertDescription::ProtocolVersion),
        (StartTls::Alert(AlertDescription::HandshakeFailure), AlertDescription::HandshakeFailure),
    ] {
        let error = failure(&lab(|h| h.starttls(starttls)).await).await;
        let error = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        assert_eq!(error, Some(&Error::AlertReceived(alert)));
    }
}

#[tokio::test]
async fn rfc5246_a_host_may_know_tls_1_2_alone() {
    let lab = lab(|h| h.tls(TlsShape::only_tls12())).await;
    assert_eq!(facts(&lab, &connector()).await.version, "TLSv1_2");
}

#[tokio::test]
async fn rfc8446_4_4_2_4_a_client_without_certificate_is_turned_away() {
    for versions in [Versions::Only12, Versions::Only13] {
        let lab = lab(|h| h.tls(TlsShape::client_certificate(versions))).await;
        failure(&lab).await;
        handshake_fails(&lab).await;
    }
}

#[tokio::test]
async fn rfc6066_3_the_chain_may_depend_on_the_name_asked_for() {
    let lab = Lab::builder()
        .domain("a.test", |d| d.host(|h| h.certificate(Certificate::Issued).tls(TlsShape::by_sni())))
        .start()
        .await
        .unwrap();
    let trusting = crate::lab::sts::host_tests::trusting(&lab);
    assert!(client(&lab).await.starttls_by(&trusting, HOST).await.is_ok());
    // The default chain is nobody's: neither issued nor for the domain.
    assert!(client(&lab).await.starttls_by(&trusting, "a.test").await.is_err());
    handshake_fails(&lab).await;
}

#[tokio::test]
async fn rfc9325_3_4_sessions_outlive_a_change_of_certificate() {
    for versions in [Versions::Only12, Versions::Only13] {
        let lab = lab(|h| h.tls(TlsShape { versions, ..TlsShape::default() })).await;
        let connector = connector();
        assert_eq!(facts(&lab, &connector).await.origin, SessionOrigin::Fresh);
        lab.set_certificate(HOST, &Certificate::SelfSignedFor("other.test".into())).unwrap();
        assert_eq!(facts(&lab, &connector).await.origin, SessionOrigin::Resumed, "{versions:?}");
    }
}

#[tokio::test]
async fn a_large_client_hello_is_lost_and_a_small_one_is_not() {
    let lab = lab(|h| h).await;
    mx(&lab).behave(|b| b.starttls = StartTls::LosesLargeHello(Arc::clone(b.starttls.config().unwrap())));
    assert_eq!(facts(&lab, &connector()).await.version, "TLSv1_3");
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    let large: TlsConnector = Arc::new(anything(provider).unwrap()).into();
    let lost = timeout(Duration::from_millis(100), client(&lab).await.starttls_by(&large, HOST)).await;
    assert!(lost.is_err());
    mx(&lab).behave(|b| b.starttls = StartTls::Hang);
    assert!(timeout(Duration::from_millis(100), failure(&lab)).await.is_err());
}

#[tokio::test]
async fn rfc3207_6_replies_can_be_injected_before_the_handshake() {
    let lab = lab(|h| h.behind_220(b"250-REQUIRETLS\r\n250 SIZE 1\r\n")).await;
    let mut client = client(&lab).await;
    assert_eq!(client.command("STARTTLS").await.unwrap().code, 220);
    assert_eq!(client.reply().await.unwrap().lines, ["REQUIRETLS", "SIZE 1"]);
}

#[tokio::test]
async fn rfc3207_4_2_a_host_may_offer_other_things_inside_tls() {
    let lab = lab(|h| h.keyword_in_clear("CHUNKING").keyword_in_tls("REQUIRETLS")).await;
    let mut client = client(&lab).await;
    assert!(client.offered().starttls && client.offered().chunking);
    let mail = format!("MAIL FROM:<{FROM}> BODY=8BITMIME REQUIRETLS");
    assert_eq!(client.command(&mail).await.unwrap().code, 555);
    let mut client = client.starttls(HOST).await.unwrap();
    assert!(!client.offered().chunking);
    let handed = client.transact(&mail, &[format!("RCPT TO:<{TO}>")], b"x\r\n").await.unwrap();
    assert!(handed.accepted(), "{handed:?}");
    assert_eq!(mx(&lab).messages()[0].mail_params, "BODY=8BITMIME REQUIRETLS");
    let unknown = client.command(&format!("RCPT TO:<{TO}> NOTIFY=NEVER")).await.unwrap();
    assert_eq!(unknown.code, 503);
}

#[tokio::test]
async fn rfc5321_3_2_an_old_host_knows_helo_alone() {
    let lab = lab(|h| h.helo_only()).await;
    let mut client = SmtpClient::connect(mx(&lab).address()).await.unwrap();
    assert_eq!(client.ehlo("client.test").await.unwrap().code, 500);
    assert_eq!(client.command("HELO client.test").await.unwrap().code, 250);
    assert_eq!(client.command(&format!("MAIL FROM:<{FROM}> SIZE=1")).await.unwrap().code, 555);
    assert!(client.send(FROM, &[TO], b"x\r\n").await.unwrap().accepted());
}

#[tokio::test]
async fn rfc8446_6_1_a_reply_may_be_the_last_word_without_close_notify() {
    let lab = lab(|h| h.trouble(TroubleAt::EndOfData, Trouble::ReplyThenDrop)).await;
    let mut client = client(&lab).await.starttls(HOST).await.unwrap();
    assert!(client.send(FROM, &[TO], b"x\r\n").await.unwrap().accepted());
    // The TLS library tells an end that was announced from one that was not.
    let cut = client.reply().await.unwrap_err().to_string();
    assert!(cut.contains("close_notify"), "{cut}");
    assert_eq!(mx(&lab).messages().len(), 1);
    mx(&lab).trouble(TroubleAt::Connect, Trouble::ReplyThenDrop);
    let mut greeted = SmtpClient::connect(mx(&lab).address()).await.unwrap();
    assert_eq!(greeted.greeting().code, 220);
    assert!(greeted.ehlo("client.test").await.is_err());
}
