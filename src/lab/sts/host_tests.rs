//! The lab's policy hosts, asked by a client that trusts the lab's authority as a relay would
//! (RFC 8461 §3).

#![expect(clippy::disallowed_methods, reason = "these tests connect to loopback")]

use crate::lab::mx::client::SmtpClient;
use crate::lab::sts::host::PATH;
use crate::lab::{Certificate, Lab, LabBuilder, PolicyHostManner, Signing};
use hickory_proto::rr::{RData, RecordType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

fn sts(name: &str) -> LabBuilder {
    Lab::builder().domain(name, |d| d.mta_sts(|p| p.enforce()))
}

fn records(lab: &Lab, name: &str, rtype: RecordType) -> Vec<RData> {
    let answer = lab.world().answer(&crate::lab::dns::world::name(name).unwrap(), rtype).unwrap();
    answer.answers.into_iter().filter(|record| record.record_type() == rtype).map(|record| record.data).collect()
}

pub(in crate::lab) fn trusting(lab: &Lab) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(lab.roots_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into()
}

/// Asks the host that the DNS names, by TLS with this name, and gives all that came.
async fn ask(lab: &Lab, domain: &str, path: &str) -> io::Result<String> {
    let host = format!("mta-sts.{domain}");
    let address = records(lab, &host, RecordType::A)[0].ip_addr().unwrap();
    let stream = TcpStream::connect((address, lab.policy_port())).await?;
    let mut tls = trusting(lab).connect(ServerName::try_from(host.clone()).unwrap(), stream).await?;
    tls.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: test\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn rfc8461_3_a_domain_that_says_nothing_enforces() {
    let lab = sts("sts.test").start().await.unwrap();
    let txt = records(&lab, "_mta-sts.sts.test", RecordType::TXT);
    assert_eq!(txt[0].to_string(), "v=STSv1; id=1;");
    let answer = ask(&lab, "sts.test", PATH).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\nContent-Type: text/plain\r\n"), "{answer}");
    assert_eq!(body(&answer), "version: STSv1\r\nmode: enforce\r\nmx: mx.sts.test\r\nmax_age: 604800\r\n");
    let request = lab.policy_host("sts.test").unwrap().wait_for_requests(1, Duration::from_secs(5)).await.unwrap();
    assert_eq!(
        (request[0].sni.as_deref(), request[0].header("host")),
        (Some("mta-sts.sts.test"), Some("mta-sts.sts.test"))
    );
    assert_eq!((request[0].method.as_str(), request[0].path.as_str()), ("GET", PATH));
    assert!(ask(&lab, "sts.test", "/elsewhere").await.unwrap().starts_with("HTTP/1.1 404 "));
    assert!(lab.policy_host("other.test").is_err());
}

#[tokio::test]
async fn rfc8461_3_policy_and_txt_may_change_and_end() {
    let lab = sts("sts.test").domain("two.test", |d| d.mta_sts(|p| p.testing().mx(&["*.two.test"]).max_age(86_400)));
    let lab = lab.start().await.unwrap();
    let two = ask(&lab, "two.test", PATH).await.unwrap();
    assert_eq!(body(&two), "version: STSv1\r\nmode: testing\r\nmx: *.two.test\r\nmax_age: 86400\r\n");
    lab.set_mta_sts("sts.test", |p| p.none().id("2")).unwrap();
    assert_eq!(records(&lab, "_mta-sts.sts.test", RecordType::TXT)[0].to_string(), "v=STSv1; id=2;");
    let none = ask(&lab, "sts.test", PATH).await.unwrap();
    assert_eq!(body(&none), "version: STSv1\r\nmode: none\r\nmax_age: 604800\r\n");
    lab.set_mta_sts_txt("sts.test", &[]).unwrap();
    assert!(records(&lab, "_mta-sts.sts.test", RecordType::TXT).is_empty());
    let host = lab.policy_host("sts.test").unwrap();
    host.switch_off().await;
    let refused = ask(&lab, "sts.test", PATH).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    host.switch_on().await.unwrap();
    assert!(ask(&lab, "sts.test", PATH).await.is_ok());
    assert_eq!((host.requests().len(), host.connections()), (2, 2));
}

#[tokio::test]
async fn rfc8461_3_3_only_the_right_certificate_convinces() {
    let certificates = [
        ("issued", Certificate::Issued),
        ("wildcard", Certificate::IssuedFor("*.wildcard.test".into())),
        ("self", Certificate::SelfSigned),
        ("expired", Certificate::IssuedExpired),
        ("other", Certificate::IssuedFor("other.test".into())),
        ("cn", Certificate::IssuedCommonName),
    ];
    let with = |lab: LabBuilder, (name, certificate): &(&str, Certificate)| {
        lab.domain(&format!("{name}.test"), |d| d.mta_sts(|p| p.certificate(certificate.clone())))
    };
    let lab = certificates.iter().fold(Lab::builder(), with).start().await.unwrap();
    for (name, _) in &certificates {
        let convinced = ask(&lab, &format!("{name}.test"), PATH).await.is_ok();
        assert_eq!(convinced, matches!(*name, "issued" | "wildcard"), "{name}");
    }
    lab.set_policy_certificate("self.test", &Certificate::Issued).unwrap();
    assert!(ask(&lab, "self.test", PATH).await.is_ok());
}

#[tokio::test]
async fn policy_hosts_answer_as_they_are_told() {
    let lab = sts("sts.test").domain("down.test", |d| d.mta_sts(|p| p.down())).start().await.unwrap();
    let tell = |manner: PolicyHostManner| lab.policy_host("sts.test").unwrap().behave(|answer| answer.manner = manner);
    let whole = body(&ask(&lab, "sts.test", PATH).await.unwrap()).to_owned();
    tell(PolicyHostManner::Chunked);
    let chunked = ask(&lab, "sts.test", PATH).await.unwrap();
    assert_eq!(body(&chunked), format!("{:x}\r\n{whole}\r\n0\r\n\r\n", whole.len()));
    tell(PolicyHostManner::Drip(Duration::from_millis(1)));
    assert_eq!(body(&ask(&lab, "sts.test", PATH).await.unwrap()), whole);
    tell(PolicyHostManner::CutAfter(10));
    let cut = ask(&lab, "sts.test", PATH).await.unwrap();
    assert!(cut.contains(&format!("\r\nContent-Length: {}\r\n", whole.len())) && body(&cut) == &whole[..10], "{cut}");
    tell(PolicyHostManner::TruncatedAfter(10));
    assert_eq!(ask(&lab, "sts.test", PATH).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    tell(PolicyHostManner::NoHandshake);
    assert!(ask(&lab, "sts.test", PATH).await.is_err());
    for manner in [PolicyHostManner::Endless, PolicyHostManner::Hang, PolicyHostManner::HangInHandshake] {
        tell(manner);
        assert!(timeout(Duration::from_millis(100), ask(&lab, "sts.test", PATH)).await.is_err());
    }
    lab.set_mta_sts("sts.test", |p| {
        p.raw("nonsense").answer(|a| a.redirect(301, "https://x.test/").content_type("a/b"))
    })
    .unwrap();
    let moved = ask(&lab, "sts.test", PATH).await.unwrap();
    assert!(moved.starts_with("HTTP/1.1 301 ") && moved.contains("\r\nLocation: https://x.test/\r\n"), "{moved}");
    assert!(moved.contains("\r\nContent-Type: a/b\r\n") && body(&moved) == "nonsense", "{moved}");
    assert_eq!(ask(&lab, "down.test", PATH).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn rfc8461_4_2_issued_certificates_of_mx_hosts_convince_pkix() {
    let describe = |certificate| {
        move |d: crate::lab::DomainSpec| d.signing(Signing::Unsigned).host(|h| h.certificate(certificate))
    };
    let lab = Lab::builder()
        .domain("good.test", describe(Certificate::Issued))
        .domain("cn.test", describe(Certificate::IssuedCommonName))
        .domain("domain.test", describe(Certificate::IssuedFor("domain.test".into())))
        .start()
        .await
        .unwrap();
    for (domain, convinced) in [("good.test", true), ("cn.test", false), ("domain.test", false)] {
        let client = SmtpClient::ready(lab.mx(domain).unwrap().address()).await.unwrap();
        let done = client.starttls_by(&trusting(&lab), &format!("mx.{domain}")).await;
        assert_eq!(done.is_ok(), convinced, "{domain}");
    }
}
