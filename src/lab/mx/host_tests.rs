//! The lab's MX host and client against each other (RFC 5321, RFC 3207).

use super::client::{Pipelining, SmtpClient};
use crate::lab::mx::behaviour::{Behaviour, Mailboxes, StartTls, Trouble, TroubleAt, reply};
use crate::lab::mx::host::RunningMxHost;
use crate::lab::tls::ca::Identity;
use std::net::Ipv4Addr;
use std::time::Duration;

const FROM: &str = "alice@client.test";
const TO: &str = "bob@dane.test";

async fn host(behaviour: Behaviour) -> RunningMxHost {
    RunningMxHost::start("mx.dane.test", Ipv4Addr::LOCALHOST, 0, behaviour).await.unwrap()
}

fn with_tls(names: &[&str]) -> Behaviour {
    let config = Identity::self_signed(names).unwrap().server_config().unwrap();
    Behaviour { starttls: StartTls::Offered(config), ..Behaviour::default() }
}

#[tokio::test]
async fn rfc5321_4_5_2_content_arrives_byte_for_byte() {
    let host = host(Behaviour::default()).await;
    // A bare LF before a lone dot ends nothing, and a line may be longer than any buffer.
    let mut content = b"Subject: x\r\n\r\n.\r\n..two\r\nbare\n.\r\n".to_vec();
    content.extend(vec![b'x'; 4095]);
    content.extend_from_slice(b"\r\n.dot\r\n");
    for pipelining in [Pipelining::WhenOffered, Pipelining::Off] {
        let mut client = SmtpClient::ready(host.address()).await.unwrap();
        client.set_pipelining(pipelining);
        let handed = client.send(FROM, &[TO, "carol@dane.test"], &content).await.unwrap();
        assert!(handed.accepted(), "{handed:?}");
        assert_eq!(client.quit().await.unwrap().code, 221);
    }
    let messages = host.wait_for_messages(2, Duration::from_secs(5)).await.unwrap();
    for message in &messages {
        assert!(message.content == content, "{}", message.content.escape_ascii());
        assert_eq!(message.rcpt_to, [TO, "carol@dane.test"]);
        assert_eq!((message.mail_from.as_str(), message.helo.as_str()), (FROM, "client.test"));
        assert_eq!(message.tls, None);
    }
    assert_eq!(host.connections(), 2);
    assert!(host.wait_for_messages(3, Duration::from_millis(10)).await.is_err());
}

#[tokio::test]
async fn rfc3207_starttls_is_used_and_named() {
    let host = host(with_tls(&["mx.dane.test"])).await;
    let client = SmtpClient::ready(host.address()).await.unwrap();
    assert!(client.offered().starttls);
    let mut client = client.starttls("mx.dane.test").await.unwrap();
    assert!(!client.offered().starttls);
    assert!(client.send("", &[TO], b"x\r\n").await.unwrap().accepted());
    let tls = host.messages()[0].tls.clone().unwrap();
    assert_eq!((tls.version.as_str(), tls.sni.as_deref()), ("TLSv1_3", Some("mx.dane.test")));
    let mail: Vec<_> = host.seen().into_iter().filter(|seen| seen.line.starts_with("MAIL")).collect();
    assert!(mail.len() == 1 && mail[0].secured && mail[0].line == "MAIL FROM:<>");
}

#[tokio::test]
async fn rfc3207_4_2_commands_in_clear_behind_starttls_are_forgotten() {
    let host = host(with_tls(&["mx.dane.test"])).await;
    let mut client = SmtpClient::ready(host.address()).await.unwrap();
    client.raw(b"MAIL FROM:<eve@client.test>\r\n").await.unwrap();
    assert_eq!(client.reply().await.unwrap().code, 250);
    let mut client = client.starttls("mx.dane.test").await.unwrap();
    assert_eq!(client.command("RCPT TO:<bob@dane.test>").await.unwrap().code, 503);
}

#[tokio::test]
async fn tls_troubles_are_as_named() {
    for starttls in [StartTls::BrokenHandshake, StartTls::DropAfter] {
        let host = host(Behaviour { starttls, ..Behaviour::default() }).await;
        let client = SmtpClient::ready(host.address()).await.unwrap();
        assert!(client.offered().starttls);
        assert!(client.starttls("mx.dane.test").await.is_err());
    }
    let refused = StartTls::Refused(reply("454 4.7.0 not now").unwrap());
    let host = host(Behaviour { starttls: refused, ..Behaviour::default() }).await;
    let mut client = SmtpClient::ready(host.address()).await.unwrap();
    assert_eq!(client.command("STARTTLS").await.unwrap().to_string(), "454 4.7.0 not now");
    assert!(client.send(FROM, &[TO], b"x\r\n").await.unwrap().accepted());
}

#[tokio::test]
async fn rfc5321_3_3_unknown_users_are_refused_one_by_one() {
    let known = Mailboxes::Only(["bob".to_owned()].into());
    let host = host(Behaviour { known, ..Behaviour::default() }).await;
    let mut client = SmtpClient::ready(host.address()).await.unwrap();
    let handed = client.send(FROM, &["nobody@dane.test", "BOB@dane.test"], b"x\r\n").await.unwrap();
    assert_eq!(handed.rcpt[0].to_string(), "550 5.1.1 no such user here");
    assert!(handed.accepted());
    assert_eq!(host.messages()[0].rcpt_to, ["BOB@dane.test"]);
    let none = client.send(FROM, &["nobody@dane.test"], b"x\r\n").await.unwrap();
    assert!(!none.accepted() && none.data.unwrap().code == 503);
}

#[tokio::test]
async fn greylisting_lets_the_second_attempt_through() {
    let host = host(Behaviour { greylist: true, ..Behaviour::default() }).await;
    let mut client = SmtpClient::ready(host.address()).await.unwrap();
    let first = client.send(FROM, &[TO], b"x\r\n").await.unwrap();
    assert_eq!(first.rcpt[0].code, 451);
    client.command("RSET").await.unwrap();
    assert!(client.send(FROM, &[TO], b"x\r\n").await.unwrap().accepted());
}

#[tokio::test]
async fn refusals_come_at_their_phase_and_heal() {
    let host = host(Behaviour::default()).await;
    let mut client = SmtpClient::ready(host.address()).await.unwrap();
    client.set_pipelining(Pipelining::Off);
    for phase in [TroubleAt::Mail, TroubleAt::Rcpt, TroubleAt::Data, TroubleAt::EndOfData] {
        let refusal = reply("452 4.3.1 full").unwrap();
        host.trouble(phase, Trouble::Reply(refusal.clone()));
        let handed = client.send(FROM, &[TO], b"x\r\n").await.unwrap();
        let got = [Some(handed.mail.clone()), handed.rcpt.first().cloned(), handed.data.clone(), handed.end.clone()];
        assert_eq!(got.iter().flatten().filter(|r| **r == refusal).count(), 1, "{phase:?} {handed:?}");
        assert!(!handed.accepted());
        host.trouble(phase, None);
        client.command("RSET").await.unwrap();
    }
    assert!(host.messages().is_empty());
    assert!(client.send(FROM, &[TO], b"x\r\n").await.unwrap().accepted());
}

#[tokio::test]
async fn rfc5321_4_5_4_1_a_lost_reply_after_the_dot_leaves_the_fate_open() {
    for (trouble, kept) in [(Trouble::Drop, 0), (Trouble::KeepThenDrop, 1)] {
        let host = host(Behaviour::default()).await;
        host.trouble(TroubleAt::EndOfData, trouble);
        let mut client = SmtpClient::ready(host.address()).await.unwrap();
        assert!(client.send(FROM, &[TO], b"x\r\n").await.is_err());
        assert_eq!(host.messages().len(), kept);
    }
}

#[tokio::test]
async fn a_hanging_host_says_nothing() {
    let host = host(Behaviour::default()).await;
    host.trouble(TroubleAt::Connect, Trouble::Hang);
    let greeting = tokio::time::timeout(Duration::from_millis(100), SmtpClient::connect(host.address())).await;
    assert!(greeting.is_err());
    host.trouble(TroubleAt::Connect, Trouble::Reply(reply("554 5.7.1 go away").unwrap()));
    assert_eq!(SmtpClient::connect(host.address()).await.unwrap().greeting().code, 554);
}

#[tokio::test]
async fn rfc3030_2_chunks_make_one_message_where_they_are_offered() {
    let host = host(Behaviour::default()).await;
    let mut client = SmtpClient::ready(host.address()).await.unwrap();
    assert_eq!(client.command("BDAT 0 LAST").await.unwrap().code, 500);
    host.behave(|behaviour| behaviour.keywords.push("CHUNKING".into()));
    client.ehlo("client.test").await.unwrap();
    let early = client.command("BDAT 7\r\nearly").await.unwrap();
    assert_eq!((early.code, client.command("NOOP").await.unwrap().code), (503, 250));
    for command in [&format!("MAIL FROM:<{FROM}>"), &format!("RCPT TO:<{TO}>")] {
        assert_eq!(client.command(command).await.unwrap().code, 250);
    }
    // The chunks hold what DATA would end at or stuff.
    assert_eq!(client.command("BDAT 8\r\none\r\n.").await.unwrap().code, 250);
    assert_eq!(client.command("DATA").await.unwrap().code, 503);
    client.raw(b"BDAT 5 LAST\r\n..two").await.unwrap();
    assert_eq!(client.reply().await.unwrap().code, 250);
    assert_eq!(host.messages()[0].content, b"one\r\n.\r\n..two");
}

#[tokio::test]
async fn rfc6531_3_5_addresses_outside_ascii_need_the_parameter() {
    let host = host(Behaviour::default()).await;
    host.behave(|behaviour| behaviour.keywords.push("SMTPUTF8".into()));
    let mut client = SmtpClient::ready(host.address()).await.unwrap();
    assert_eq!(
        client.command("MAIL FROM:<jürgen@client.test>").await.unwrap().to_string(),
        "553 5.6.7 an address outside ASCII needs SMTPUTF8"
    );
    assert_eq!(client.command(&format!("MAIL FROM:<{FROM}>")).await.unwrap().code, 250);
    assert_eq!(client.command("RCPT TO:<jürgen@dane.test>").await.unwrap().code, 553);
    assert!(host.seen().iter().any(|seen| seen.line == "RCPT TO:<jürgen@dane.test>"));
    client.command("RSET").await.unwrap();
    let utf8 = "MAIL FROM:<jürgen@client.test> SMTPUTF8";
    assert!(client.transact(utf8, &["RCPT TO:<jürgen@dane.test>".to_owned()], b"x\r\n").await.unwrap().accepted());
    assert_eq!(host.messages()[0].rcpt_to, ["jürgen@dane.test"]);
}
