//! An Exchange server in front of the relay, as its connector behaves: the TLS of its Windows, its
//! chunks and parameters, addresses outside ASCII, and connections that break off
//! (RFC 3030, RFC 3207, RFC 3461, RFC 5321 §4.5.4.1, RFC 6531).

use crate::any_certificate::AnyCertificate;
use crate::relay::{PATIENCE, SENDER, World, below_received, content, lab, queue_id, within};
use crate::report::Report;
use dane_relay::lab::DomainSpec;
use dane_relay::lab::mx::client::SmtpClient;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What Windows Server 2012 R2 has in common with the relay: TLS 1.2, and of the suites with
/// forward secrecy and GCM those for ECDSA alone. With opportunistic TLS Exchange checks no name.
fn schannel() -> TlsConnector {
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::SECP384R1, kx_group::SECP256R1],
        ..default_provider()
    };
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn rfc3030_2_chunks_over_the_tls_of_an_older_windows_arrive_with_what_was_asked() {
    let world = World::start(lab().domain("dane.test", |d| d.host(|h| h.keyword("DSN")))).await;
    let client = SmtpClient::ready(world.smtp()).await.unwrap();
    let mut client = client.starttls_by(&schannel(), "relay.office.test").await.unwrap();
    client.ehlo("EX_01").await.unwrap();
    let rich = b"Subject: winmail\r\nContent-Type: application/ms-tnef\r\n\r\n\x78\x9f\x3e\x22\r\n.\r\n\0\xff\r\n";
    for turn in 1..=3_usize {
        let envelope = format!(
            "MAIL FROM:<{SENDER}> SIZE={} BODY=8BITMIME RET=HDRS ENVID=6f9619ff-{turn}\r\n\
             RCPT TO:<bob@dane.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob@dane.test\r\nBDAT {} LAST\r\n",
            rich.len(),
            rich.len()
        );
        client.raw(&[envelope.as_bytes(), rich].concat()).await.unwrap();
        let replies = [client.reply().await.unwrap(), client.reply().await.unwrap(), client.reply().await.unwrap()];
        assert_eq!(replies.each_ref().map(|reply| reply.code), [250; 3], "{replies:?}");
        world.delivered(queue_id(&replies[2].text()), "bob@dane.test").await;
        let received = world.mx("dane.test").wait_for_messages(turn, PATIENCE).await.unwrap().remove(turn - 1);
        assert!(received.content.ends_with(&[b"+0000\r\n", &rich[..]].concat()), "it was changed");
        assert!(
            received.content.starts_with(b"Received: from EX_01 ([127.0.0.1])\r\n\tby relay.office.test with ESMTPS ")
        );
        assert!(received.mail_params.contains(&format!("BODY=8BITMIME RET=HDRS ENVID=6f9619ff-{turn}")));
        assert_eq!(received.rcpt_params, ["NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob@dane.test"]);
    }
}

#[tokio::test]
async fn content_goes_on_as_it_came_nul_and_octets_above_127_too() {
    let world = World::start(lab().domain("dane.test", |d| d)).await;
    let content = b"Subject: octets\r\n\r\n\0a\0\xff\x80 \t\x1b[2J\r\n\0\r\n.\0\r\n\r\n";
    world.send(SENDER, &["bob@dane.test"], content).await;
    let received = world.mx("dane.test").wait_for_messages(1, PATIENCE).await.unwrap().pop().unwrap();
    assert!(received.content.ends_with(&[b"+0000\r\n", &content[..]].concat()), "only our field is before it");
    world.stop().await;
}

#[tokio::test]
async fn rfc5321_4_5_4_1_what_breaks_off_behind_the_dot_is_whole_and_comes_once_for_each_time() {
    let world = World::start(lab().domain("dane.test", |d| d)).await;
    let sent = content("bob@dane.test");
    let session = format!(
        "EHLO client.test\r\nMAIL FROM:<{SENDER}> SIZE={}\r\nRCPT TO:<bob@dane.test>\r\nDATA\r\n{sent}.\r\n",
        sent.len()
    );
    for turn in 1..=2 {
        // The link is gone in one direction: Exchange hears no 250 and sends the message again.
        let mut link = TcpStream::connect(world.smtp()).await.unwrap();
        link.write_all(session.as_bytes()).await.unwrap();
        link.shutdown().await.unwrap();
        let mut heard = String::new();
        within(link.read_to_string(&mut heard), "the end of the session").await.unwrap();
        assert!(heard.contains("\r\n250 2.0.0 Ok: queued as "), "{heard}");
        let received = world.mx("dane.test").wait_for_messages(turn, PATIENCE).await.unwrap();
        assert_eq!(String::from_utf8_lossy(below_received(&received[turn - 1])), sent);
    }
    assert_eq!(world.mx("dane.test").messages().len(), 2);
}

/// An address and a domain outside ASCII, from an author within it.
const ABROAD: &str = "jürgen@bücher.test";

async fn send_abroad(world: &World) -> SmtpClient {
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let mail = format!("MAIL FROM:<{SENDER}> SMTPUTF8");
    let handed = client.transact(&mail, &[format!("RCPT TO:<{ABROAD}>")], b"Subject: Hello\r\n\r\n").await;
    let handed = handed.unwrap();
    assert!(handed.accepted(), "{}", handed.last());
    client
}

#[tokio::test]
async fn rfc6531_3_2_a_domain_in_u_labels_is_proven_under_its_a_labels_and_written_as_it_came() {
    let utf8 = |d: DomainSpec| d.host(|h| h.keyword("SMTPUTF8"));
    let world = World::start(lab().domain("xn--bcher-kva.test", utf8)).await;
    let _client = send_abroad(&world).await;
    let mx = world.mx("xn--bcher-kva.test");
    let received = mx.wait_for_messages(1, PATIENCE).await.unwrap().remove(0);
    assert_eq!((&received.rcpt_to[..], received.mail_from.as_str()), (&[ABROAD.to_owned()][..], SENDER));
    assert!(received.mail_params.split(' ').any(|parameter| parameter == "SMTPUTF8"), "{}", received.mail_params);
    let sni = received.tls.as_ref().unwrap().sni.clone().unwrap();
    assert!(sni.is_ascii() && sni.ends_with("xn--bcher-kva.test"), "{sni}");
    assert!(String::from_utf8_lossy(&received.content).contains("with UTF8SMTP id "));
    let protected = world.metrics().await;
    let by_dane: f64 = protected.iter().filter(|(name, _)| name.contains("dane")).map(|(_, count)| count).sum();
    assert!(by_dane >= 1.0, "{protected:?}");
}

#[tokio::test]
async fn rfc6531_3_5_mail_for_a_host_without_smtputf8_comes_back_and_says_so() {
    let world = World::start(lab().domain("xn--bcher-kva.test", |d| d)).await;
    let _client = send_abroad(&world).await;
    let report = Report::read(&world.reports(1).await[0]);
    assert_eq!(report.recipients(), [["utf-8; j\\x{FC}rgen@b\\x{FC}cher.test", "failed", "5.6.7"]]);
    assert!(report.text.contains("SMTPUTF8"), "{}", report.text);
    assert!(world.mx("xn--bcher-kva.test").messages().is_empty());
}
