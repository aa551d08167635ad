//! From the client to the host of the recipient: what the listener must keep, and what it adds
//! (RFC 5321 §3.6, §4.1.2, §4.4).

use crate::process::Serving;
use crate::relay::{SENDER, World, below_received, configuration_file, content, lab, metrics, queue_id, until};
use dane_relay::lab::mx::client::SmtpClient;
use rcgen::{CertificateParams, KeyPair};

#[tokio::test]
async fn rfc5321_4_1_2_local_parts_arrive_as_they_were_written() {
    let world = World::start(lab().domain("dane.test", |d| d)).await;
    let written =
        ["\"a b\"@dane.test", "\"a@b\"@dane.test", "\"\\\"\"@dane.test", "CamelCase+x'y@Dane.TEST", "a=b{c}@dane.test"];
    let id = world.send("\"Odd Sender\"@office.test", &written, content("bob@dane.test").as_bytes()).await;
    for to in written {
        world.delivered(id, to).await;
    }
    let received = world.mx("dane.test").messages();
    let mut arrived: Vec<&str> = received.iter().flat_map(|message| &message.rcpt_to).map(String::as_str).collect();
    arrived.sort_unstable();
    let mut expected = written;
    expected.sort_unstable();
    assert_eq!(arrived, expected);
    assert_eq!(received[0].mail_from, "\"Odd Sender\"@office.test");
}

#[tokio::test]
async fn rfc5321_app_c_a_source_route_is_accepted_and_not_obeyed() {
    let world = World::start(lab().domain("dane.test", |d| d).domain("hop.test", |d| d)).await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let mail = format!("MAIL FROM:<@hop.test:{SENDER}>");
    let rcpt = ["RCPT TO:<@hop.test,@other.test:bob@dane.test>".to_owned()];
    let handed = client.transact(&mail, &rcpt, content("bob@dane.test").as_bytes()).await.unwrap();
    assert!(handed.accepted(), "{}", handed.last());
    world.delivered(queue_id(&handed.last().text()), "bob@dane.test").await;
    assert_eq!(world.mx("dane.test").messages()[0].mail_from, SENDER);
    assert_eq!(world.mx("hop.test").connections(), 0);
}

#[tokio::test]
async fn rfc5321_4_4_one_received_line_comes_on_top_and_all_other_trace_fields_stay() {
    let world = World::start(lab().domain("dane.test", |d| d)).await;
    let sent = "Return-Path: <older@office.test>\r\nReceived: from b by c; Sat, 21 Nov 2026 11:44:28 +0000\r\n\
                Received: from a\r\n\tby b; Sat, 21 Nov 2026 11:44:27 +0000\r\nTLS-Required: No\r\n\
                X-MS-Exchange-Organization-SCL: -1\r\n\r\nbody\r\n";
    let id = world.send(SENDER, &["bob@dane.test"], sent.as_bytes()).await;
    world.delivered(id, "bob@dane.test").await;
    let received = world.mx("dane.test").messages();
    assert_eq!(String::from_utf8_lossy(below_received(&received[0])), sent);
    let text = String::from_utf8_lossy(&received[0].content).into_owned();
    assert_eq!(text.matches("Received: from ").count(), 3);
    assert!(text.contains(&format!("id {id}\r\n\tfor <bob@dane.test>;")), "{text}");
}

#[tokio::test]
async fn rfc5321_6_3_a_message_that_has_gone_round_is_refused_before_it_is_ours() {
    let world = World::start(lab().domain("dane.test", |d| d)).await;
    let with_hops = |hops: usize| format!("{}\r\nbody\r\n", "Received: from a by b; x\r\n".repeat(hops));
    let id = world.send(SENDER, &["bob@dane.test"], with_hops(99).as_bytes()).await;
    world.delivered(id, "bob@dane.test").await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let handed = client.send(SENDER, &["bob@dane.test"], with_hops(101).as_bytes()).await.unwrap();
    assert_eq!(handed.last().code, 554, "{}", handed.last());
    assert!(handed.last().to_string().starts_with("554 5.4.6 mail loop"), "{}", handed.last());
}

#[tokio::test]
async fn sighup_brings_a_renewed_certificate_into_use_and_dismisses_nobody() {
    let lab = lab().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Serving::start(&configuration_file(&lab, folder.path())).await;
    let mut client = SmtpClient::ready(relay.smtp).await.unwrap().starttls("relay.office.test").await.unwrap();
    let mut params = CertificateParams::new(vec!["relay.office.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = KeyPair::generate().unwrap();
    let renewed = key.serialize_pem() + &params.self_signed(&key).unwrap().pem();
    std::fs::write(folder.path().join("spool/tls/self-signed.pem"), renewed).unwrap();
    relay.hang_up();
    let expiry = async || metrics(relay.admin).await["relay_smtp_certificate_expiry_timestamp_seconds"];
    until(async || (expiry().await == 2_208_988_800.0).then_some(()), "the new certificate").await;
    assert_eq!(client.command("NOOP").await.unwrap().code, 250);
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
}
