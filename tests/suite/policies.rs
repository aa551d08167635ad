//! `relay policy`: from the signed record in the DNS over the policy host to the store, and what
//! is said of it (RFC 8461).

use crate::process::{ProgramOutput, run};
use crate::relay::{configuration, lab};
use dane_relay::lab::{AnswerFault, Lab};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{RData, RecordType};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

const POLICY: &str = "version: STSv1\r\nmode: enforce\r\nmx: mx.good.test\r\nmx: *.good.test\r\nmax_age: 604800\r\n";

/// A lab with a policy host, and a folder with a configuration for it.
struct PolicyScene {
    _lab: Lab,
    folder: TempDir,
    config: PathBuf,
    body: Arc<Mutex<&'static str>>,
    _host: AbortOnDropHandle<()>,
}

fn txt(text: &str) -> RData {
    // As two strings: they are joined without a space.
    let (first, second) = text.split_at(text.len() / 2);
    RData::TXT(TXT::new(vec![first.to_owned(), second.to_owned()]))
}

fn here() -> RData {
    RData::A(A(Ipv4Addr::LOCALHOST))
}

impl PolicyScene {
    async fn new() -> Self {
        let lab = lab()
            .domain("good.test", |d| {
                d.record("_mta-sts.good.test", txt("v=STSv1; id=20261121;")).record("mta-sts.good.test", here())
            })
            .domain("hosted.test", |d| {
                d.alias("_mta-sts.hosted.test", "_mta-sts.good.test").alias("mta-sts.hosted.test", "mta-sts.good.test")
            })
            .domain("plain.test", |d| d)
            .domain("wrong.test", |d| d.record("_mta-sts.wrong.test", txt("v=STSv1; id=no-id;")))
            .domain("unnamed.test", |d| {
                d.record("_mta-sts.unnamed.test", txt("v=STSv1; id=1;")).record("mta-sts.unnamed.test", here())
            })
            .domain("silent.test", |d| d.fault("_mta-sts.silent.test", RecordType::TXT, AnswerFault::ServFail))
            .start()
            .await
            .unwrap();
        let identity = lab.authority().issue(&["mta-sts.good.test", "mta-sts.hosted.test"]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let body = Arc::new(Mutex::new(POLICY));
        let tls = TlsAcceptor::from(identity.server_config().unwrap());
        let host = tokio::spawn(serve(listener, tls, Arc::clone(&body)));
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("relay.toml");
        std::fs::create_dir(folder.path().join("spool")).unwrap();
        let [theirs, ours] = [lab.policy_port(), port].map(|port| format!("[mta_sts]\nport = {port}\n"));
        std::fs::write(&config, configuration(&lab, folder.path()).replace(&theirs, &ours)).unwrap();
        Self { _lab: lab, folder, config, body, _host: AbortOnDropHandle::new(host) }
    }

    async fn policy(&self, action: &str, domain: &str, more: &[&str]) -> ProgramOutput {
        run([&["policy", action, domain, "--config", self.config.to_str().unwrap()], more].concat()).await
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, body: Arc<Mutex<&'static str>>) {
    while let Ok((tcp, _from)) = listener.accept().await {
        // A client that does not like the certificate goes away.
        let Ok(mut stream) = tls.accept(tcp).await else { continue };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(octet) = stream.read_u8().await else { break };
            head.push(octet);
        }
        let body = *body.lock().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
        let _gone = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
        let _gone = stream.shutdown().await;
    }
}

fn said(said: &ProgramOutput, code: i32, parts: &[&str]) {
    assert_eq!((said.code, said.stderr.as_str()), (code, ""), "{said:?}");
    for part in parts {
        assert!(said.stdout.contains(part), "no {part} in:\n{}", said.stdout);
    }
    let wide: Vec<_> = said.stdout.lines().filter(|line| line.len() > 80).collect();
    assert!(wide.is_empty(), "{wide:?}");
}

#[tokio::test]
async fn rfc8461_3_a_policy_is_fetched_kept_and_shown() {
    let scene = PolicyScene::new().await;
    let before = scene.policy("show", "good.test", &[]).await;
    said(&before, 1, &["NONE  good.test\n", "nothing is kept", "announces the id 20261121\n"]);
    let mode =
        ["POLICY  good.test\n", "mode     enforce\n", "mx       mx.good.test *.good.test\n", "id       20261121\n"];
    said(&scene.policy("refresh", "good.test", &[]).await, 0, &mode);
    said(&scene.policy("show", "good.test", &[]).await, 0, &mode);
    let shown = scene.policy("show", "good.test", &["--json"]).await;
    let json: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((json["status"].as_str(), json["policy"]["text"].as_str()), (Some("policy"), Some(POLICY)));
    assert_eq!(json["policy"]["max_age_s"], 604_800);
    assert!(scene.folder.path().join("spool/mta-sts/good.test").exists());
    let list = async |more: &[&str]| {
        run([&["policy", "list", "--config", scene.config.to_str().unwrap()], more].concat()).await
    };
    // Its folder holds policies and nothing else; the ledger is not asked.
    let table = list(&["--sort", "until"]).await;
    assert!(table.code == 0 && table.stdout.starts_with("DOMAIN     MODE "), "{table:?}");
    assert!(table.stdout.contains("good.test  enforce  in force  20"), "{table:?}");
    let line: Value = serde_json::from_str(list(&["--json"]).await.stdout.trim()).unwrap();
    let expected = serde_json::json!(["good.test", "in force", "mx.good.test", 1]);
    assert_eq!(serde_json::json!([line["domain"], line["state"], line["mx"][0], line["version"]]), expected);
}

#[tokio::test]
async fn rfc8461_5_1_a_refresh_that_fails_is_named_and_the_kept_policy_shown() {
    let scene = PolicyScene::new().await;
    said(&scene.policy("refresh", "good.test", &[]).await, 0, &[]);
    *scene.body.lock().unwrap() = "version: STSv1\nmode: enforce\nmax_age: 1\n";
    let parts = ["FAULT  good.test\n", "sts-policy-invalid", "it names no mx", "mode     enforce\n"];
    said(&scene.policy("refresh", "good.test", &[]).await, 2, &parts);
    said(&scene.policy("show", "good.test", &[]).await, 0, &["refresh  failed at ", "sts-policy-invalid"]);
}

#[tokio::test]
async fn rfc8461_5_1_a_damaged_policy_is_shown_as_a_fault_and_a_refresh_repairs_it() {
    let scene = PolicyScene::new().await;
    said(&scene.policy("refresh", "good.test", &[]).await, 0, &[]);
    let file = scene.folder.path().join("spool/mta-sts/good.test");
    std::fs::write(&file, "").unwrap();
    let parts = ["FAULT  good.test\n", "cannot be looked into", "it is too short", "announces the id 20261121\n"];
    for _again in 0..2 {
        said(&scene.policy("show", "good.test", &[]).await, 2, &parts);
    }
    said(&scene.policy("refresh", "good.test", &[]).await, 0, &["POLICY  good.test\n"]);
    said(&scene.policy("show", "good.test", &[]).await, 0, &["POLICY  good.test\n"]);
}

#[tokio::test]
async fn a_domain_may_be_written_in_any_case_and_with_its_dot() {
    let scene = PolicyScene::new().await;
    said(&scene.policy("refresh", "GOOD.test.", &[]).await, 0, &["POLICY  good.test\n"]);
    said(&scene.policy("show", "good.test", &[]).await, 0, &["POLICY  good.test\n"]);
}

#[tokio::test]
async fn rfc8461_8_2_record_and_policy_host_may_be_a_providers() {
    let scene = PolicyScene::new().await;
    said(&scene.policy("refresh", "hosted.test", &[]).await, 0, &["POLICY  hosted.test\n", "20261121"]);
}

#[tokio::test]
async fn a_policy_that_cannot_be_kept_is_a_fault() {
    let scene = PolicyScene::new().await;
    std::fs::remove_dir(scene.folder.path().join("spool")).unwrap();
    let came = scene.policy("refresh", "good.test", &["--json"]).await;
    let json: Value = serde_json::from_str(&came.stdout).unwrap();
    assert_eq!((came.code, json["policy"]["mode"].as_str()), (2, Some("enforce")), "{came:?}");
    assert!(json["failure"]["sentence"].as_str().unwrap().contains("cannot be kept"), "{came:?}");
}

#[tokio::test]
async fn switched_off_no_policy_is_in_force() {
    let scene = PolicyScene::new().await;
    said(&scene.policy("refresh", "good.test", &[]).await, 0, &[]);
    let text = std::fs::read_to_string(&scene.config).unwrap().replace("[mta_sts]\n", "[mta_sts]\nenabled = false\n");
    std::fs::write(&scene.config, text).unwrap();
    for action in ["show", "refresh"] {
        said(&scene.policy(action, "good.test", &[]).await, 1, &["NONE  good.test\n", "switched off here"]);
    }
}

#[tokio::test]
async fn exit_codes_tell_none_fault_and_unknown_apart() {
    let scene = PolicyScene::new().await;
    for action in ["show", "refresh"] {
        said(&scene.policy(action, "plain.test", &[]).await, 1, &["NONE  plain.test\n", "nothing is kept"]);
        said(&scene.policy(action, "wrong.test", &[]).await, 2, &["FAULT  wrong.test\n", "1 to 32 letters"]);
        said(&scene.policy(action, "silent.test", &[]).await, 3, &["UNKNOWN  silent.test\n"]);
        assert_eq!(scene.policy(action, "no domain", &[]).await.code, 64);
    }
    said(&scene.policy("refresh", "unnamed.test", &[]).await, 2, &["sts-webpki-invalid", "not good"]);
    assert_eq!(run(["policy"]).await.code, 64);
    assert_eq!(run(["policy", "forget", "good.test"]).await.code, 64);
}
