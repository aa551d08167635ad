//! Signatures of the author's domain (RFC 6376), checked as a receiver checks them: the whole message in hand,
//! by the record of the key. `tests/interop/dkim.rs` does the same with verifiers of others.

use crate::process::{run, run_with};
use crate::relay::{PATIENCE, SENDER, World, content, expect, lab, queue_id};
use crate::reload::Configured;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use dane_relay::config::{Config, DkimConfig};
use dane_relay::lab::Lab;
use dane_relay::lab::mx::behaviour::Received;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::smtp::dkim::{DkimKey, DkimKeyType, DkimRecord};
use data_encoding::BASE64;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::TXT;
use std::ffi::OsStr;
use std::path::Path;

/// A key in its file, and the text of its record.
struct Published {
    rule: String,
    selector: String,
    record: String,
}

fn make(folder: &Path, domain: &str, selector: &str, key_type: DkimKeyType) -> Published {
    let (key, file) = (DkimKey::generate(key_type).unwrap(), folder.join(format!("{selector}.pem")));
    std::fs::write(&file, key.to_pem().unwrap()).unwrap();
    let rule = format!("[[dkim.key]]\ndomain = {domain:?}\nselector = {selector:?}\nkey_file = {file:?}\n");
    Published { rule, selector: selector.to_owned(), record: DkimRecord::text_for(&key) }
}

fn settings(lines: &str, keys: &[&Published]) -> DkimConfig {
    let rules: String = keys.iter().map(|key| key.rule.as_str()).collect();
    Config::parse(&format!("[dkim]\n{lines}\n{rules}"), Path::new("dkim.toml")).unwrap().dkim
}

/// Runs of blanks as one.
fn one_blank(text: &[u8]) -> Vec<u8> {
    let mut relaxed: Vec<u8> = Vec::new();
    for &octet in text {
        match octet {
            b' ' | b'\t' if relaxed.last() == Some(&b' ') => {}
            b' ' | b'\t' => relaxed.push(b' '),
            other => relaxed.push(other),
        }
    }
    relaxed
}

/// RFC 6376 §3.4.4, of a whole body.
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let text: Vec<char> = body.iter().map(|&octet| char::from(octet)).collect();
    let text: String = text.into_iter().collect();
    let lines = text.split("\r\n").map(|line| {
        let octets: Vec<u8> = line.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        one_blank(&octets).trim_ascii_end().to_vec()
    });
    let mut lines: Vec<Vec<u8>> = lines.collect();
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()].concat()).collect()
}

/// RFC 6376 §3.4.2, of one field.
fn relaxed_header(field: &str) -> String {
    let (name, value) = field.split_once(':').unwrap();
    let value = value.replace("\r\n", "");
    let value = String::from_utf8(one_blank(value.as_bytes())).unwrap();
    format!("{}:{}", name.trim().to_ascii_lowercase(), value.trim())
}

/// The selectors of the signatures on a message, each of which verifies by the record of its key.
fn verified(message: &[u8], published: &[&Published]) -> Vec<String> {
    let end = message.windows(4).position(|octets| octets == b"\r\n\r\n").map_or(message.len(), |end| end + 2);
    let (header, body) = message.split_at(end);
    let body = body.strip_prefix(b"\r\n").unwrap_or(body);
    let header = String::from_utf8_lossy(header).into_owned();
    let mut fields: Vec<String> = Vec::new();
    for line in header.split_inclusive("\r\n") {
        match fields.last_mut() {
            Some(field) if line.starts_with([' ', '\t']) => field.push_str(line),
            Some(_) | None => fields.push(line.to_owned()),
        }
    }
    let signatures = fields.iter().filter(|field| field.starts_with("DKIM-Signature:"));
    signatures.map(|signature| verify_one(signature, &fields, body, published)).collect()
}

fn verify_one(signature: &str, fields: &[String], body: &[u8], published: &[&Published]) -> String {
    let flat: String = signature.split_once(':').unwrap().1.replace("\r\n", "");
    let tag = |name: &str| {
        let mut tags = flat.split(';').filter_map(|tag| tag.trim().split_once('='));
        let value = tags.find(|(tag, _)| *tag == name).unwrap_or_else(|| panic!("no {name}= in {flat}")).1;
        value.split_whitespace().collect::<String>()
    };
    assert!(!flat.contains(" l="), "{flat}");
    assert_eq!(tag("bh"), BASE64.encode(digest(&SHA256, &relaxed_body(body)).as_ref()), "the body is another one");
    let mut left: Vec<&String> = fields.iter().collect();
    let mut data = String::new();
    for name in tag("h").split(':') {
        let is_it =
            |field: &&String| field.split_once(':').is_some_and(|(own, _)| own.trim().eq_ignore_ascii_case(name));
        if let Some(at) = left.iter().rposition(is_it) {
            data.push_str(&relaxed_header(left.remove(at)));
            data.push_str("\r\n");
        }
    }
    let (bare, _) = signature.rsplit_once("b=").unwrap();
    data.push_str(&relaxed_header(&format!("{bare}b=")));
    let key = published.iter().find(|key| key.selector == tag("s")).unwrap();
    let public = DkimRecord::parse(&key.record).unwrap().public.unwrap();
    let (hash, signed) = (digest(&SHA256, data.as_bytes()), BASE64.decode(tag("b").as_bytes()).unwrap());
    let fits = match tag("a").as_str() {
        "ed25519-sha256" => UnparsedPublicKey::new(&ED25519, &public).verify(hash.as_ref(), &signed),
        _ => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public).verify(data.as_bytes(), &signed),
    };
    assert!(fits.is_ok(), "the signature {flat} does not verify over {data}");
    tag("s")
}

fn size_of(received: &Received) -> usize {
    let size = received.mail_params.split(' ').find_map(|param| param.strip_prefix("SIZE=")).unwrap();
    size.parse().unwrap()
}

#[tokio::test]
async fn rfc6376_5_mail_of_the_domain_goes_out_with_both_signatures_and_other_mail_with_none() {
    let keys = tempfile::tempdir().unwrap();
    let rsa = make(keys.path(), "office.test", "r1", DkimKeyType::Rsa);
    let ed = make(keys.path(), "office.test", "e1", DkimKeyType::Ed25519);
    let lab = lab().domain("one.test", |d| d).domain("two.test", |d| d);
    let world = World::with(lab, |_lab, config| config.dkim = settings("", &[&rsa, &ed])).await;
    let id = world.mail(&["bob@one.test", "carol@two.test"]).await;
    for domain in ["one.test", "two.test"] {
        let received = world.mx(domain).wait_for_messages(1, PATIENCE).await.unwrap().remove(0);
        assert_eq!(verified(&received.content, &[&rsa, &ed]), ["r1", "e1"]);
        assert_eq!(size_of(&received), received.content.len(), "RFC 1870 §6");
        assert!(received.content.ends_with(content("bob@one.test").as_bytes()));
    }
    world.delivered(id, "carol@two.test").await;
    let counted = world.metrics().await;
    assert_eq!(counted["relay_dkim_signatures_total{result=\"rsa\"}"], 1.0, "once for all servers");
    let strange = content("bob@one.test").replace(SENDER, "eve@strange.test");
    let id = world.send(SENDER, &["bob@one.test"], strange.as_bytes()).await;
    world.delivered(id, "bob@one.test").await;
    assert!(verified(&world.mx("one.test").messages()[1].content, &[]).is_empty());
    assert_eq!(world.metrics().await["relay_dkim_signatures_total{result=\"no-key\"}"], 1.0);
    world.stop().await;
}

/// Hands in 8-bit mail for `bob` at both domains, and gives what their servers got.
async fn sent_to_both(world: &World, body: &[u8]) -> [Received; 2] {
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let to = ["RCPT TO:<bob@new.test>".to_owned(), "RCPT TO:<bob@old.test>".to_owned()];
    let mail = format!("MAIL FROM:<{SENDER}> BODY=8BITMIME");
    let id = queue_id(&client.transact(&mail, &to, body).await.unwrap().last().text());
    world.delivered(id, "bob@new.test").await;
    world.delivered(id, "bob@old.test").await;
    ["new.test", "old.test"].map(|domain| {
        let received = world.mx(domain).messages().pop().unwrap();
        assert_eq!(size_of(&received), received.content.len(), "{domain}");
        received
    })
}

/// How many signatures a message has, and how many of them hold when those of `before` are not looked at.
fn signatures_beside(received: &Received, before: &str, key: &Published) -> (usize, usize) {
    let text = String::from_utf8_lossy(&received.content);
    let all = text.matches("DKIM-Signature:").count();
    (all, verified(text.replace(before, "").as_bytes(), &[key]).len())
}

#[tokio::test]
async fn rfc6376_5_3_what_is_converted_is_signed_as_it_goes_out_and_what_holds_is_not_signed_twice() {
    let keys = tempfile::tempdir().unwrap();
    let key = make(keys.path(), "office.test", "e1", DkimKeyType::Ed25519);
    let record = RData::TXT(TXT::new(vec![key.record.clone()]));
    let lab = Lab::builder().domain("office.test", |d| d.record("e1._domainkey.office.test", record));
    let lab = lab.domain("new.test", |d| d).domain("old.test", |d| d);
    let world = World::with(lab, |_lab, config| config.dkim = settings("", &[&key])).await;
    world.mx("old.test").behave(|b| b.keywords = vec!["SIZE".into()]);
    let body = format!("From: <{SENDER}>\r\nSubject: 8\r\n\r\nGr\u{fc}\u{df}e  \r\n\r\n.\r\n..\r\n\r\n\r\n");
    let [new, old] = sent_to_both(&world, body.as_bytes()).await;
    assert_eq!(signatures_beside(&new, "-none-", &key), (1, 1));
    assert_eq!(verified(&old.content, &[&key]).len(), 1);
    assert!(old.content.is_ascii() && new.content.ends_with(body.as_bytes()));
    // What the domain has signed itself is left alone, until a conversion breaks it.
    let signed = String::from_utf8(new.content).unwrap();
    let (own, rest) = signed.split_once("Received:").unwrap();
    let [new, old] = sent_to_both(&world, signed.as_bytes()).await;
    assert_eq!(signatures_beside(&new, "-none-", &key), (1, 1));
    assert_eq!(signatures_beside(&old, own, &key), (2, 1));
    // A signature that fails is none.
    let broken = format!("{own}Received:{rest}").replace("Subject: 8", "Subject: 9");
    let [new, old] = sent_to_both(&world, broken.as_bytes()).await;
    assert_eq!((signatures_beside(&new, own, &key), signatures_beside(&old, own, &key)), ((2, 1), (2, 1)));
    let counted = world.metrics().await;
    assert_eq!(counted["relay_dkim_signatures_total{result=\"signed-already\"}"], 1.0);
    world.stop().await;
}

#[tokio::test]
async fn rfc6376_3_4_every_shape_of_message_verifies_over_data_and_over_bdat() {
    let keys = tempfile::tempdir().unwrap();
    let key = make(keys.path(), "office.test", "e1", DkimKeyType::Ed25519);
    let lab = lab().domain("data.test", |d| d).domain("bdat.test", |d| d);
    let world = World::with(lab, |_lab, config| config.dkim = settings("", &[&key])).await;
    world.mx("bdat.test").behave(|b| b.keywords.push("CHUNKING".into()));
    let from = format!("From: <{SENDER}>\r\n");
    let long = format!("{from}X-Long: {}\r\nSubject:\r\n {}\r\n\r\nHi\r\n", "x".repeat(980), "word ".repeat(150));
    let large = format!("{from}\r\n{}", "A line of text, and a blank at its end \r\n".repeat(20_000));
    let shapes = [
        format!("{from}\r\n"),
        from.clone(),
        format!("{from}\r\n\r\n\r\n"),
        format!("{from}\r\n.\r\n..\r\n.x\r\n\r\n"),
        format!("{from}\r\nno line end"),
        format!("{from}Subject: a\r\n\tb\r\n  c \r\nTo: x@y.test,\r\n z@y.test\r\n\r\n \t \r\nHi \t there \r\n \r\n"),
        format!("X-From: <a@b.test>\r\nResent-From: <c@d.test>\r\n{from}From-Server: e@f.test\r\n\r\nHi\r\n"),
        format!("frOM : <{SENDER}>\r\nSubject :  two  blanks\r\nSubject: and again\r\n\r\nHi\r\n"),
        long,
        large,
    ];
    for (nth, shape) in shapes.iter().enumerate() {
        world.send(SENDER, &["bob@data.test", "bob@bdat.test"], shape.as_bytes()).await;
        for domain in ["data.test", "bdat.test"] {
            let received = world.mx(domain).wait_for_messages(nth + 1, PATIENCE).await.unwrap().pop().unwrap();
            assert_eq!(verified(&received.content, &[&key]), ["e1"], "{domain}: {}", &shape[..shape.len().min(200)]);
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn reports_of_the_relay_are_signed_by_a_key_of_its_domain_or_of_the_one_above() {
    let keys = tempfile::tempdir().unwrap();
    let mut key = make(keys.path(), "office.test", "e1", DkimKeyType::Ed25519);
    key.rule.push_str("subdomains = true\n");
    let world = World::with(lab(), |_lab, config| config.dkim = settings("", &[&key])).await;
    world.fails("nobody@gone.test").await;
    let report = world.reports(1).await.remove(0);
    assert!(report.mail_from.is_empty() && verified(&report.content, &[&key]) == ["e1"]);
    world.stop().await;
}

#[tokio::test]
async fn a_message_that_no_signature_fits_goes_back_or_goes_out_unsigned_as_the_operator_wants() {
    let keys = tempfile::tempdir().unwrap();
    let key = make(keys.path(), "office.test", "e1", DkimKeyType::Ed25519);
    let many = format!("{}{}", "To: x@y.test\r\n".repeat(600), content("bob@one.test"));
    for on_failure in ["defer", "send"] {
        let lines = format!("on_failure = {on_failure:?}");
        let lab = lab().domain("one.test", |d| d);
        let world = World::with(lab, |_lab, config| config.dkim = settings(&lines, &[&key])).await;
        let id = world.send(SENDER, &["bob@one.test"], many.as_bytes()).await;
        if on_failure == "defer" {
            expect(&world.failed(id, "bob@one.test").await, "dkim-unsignable", "5.6.0");
            assert!(world.mx("one.test").messages().is_empty());
            assert!(world.metrics().await["relay_dkim_signatures_total{result=\"failed-held\"}"] >= 1.0);
        } else {
            world.delivered(id, "bob@one.test").await;
            assert!(verified(&world.mx("one.test").messages()[0].content, &[]).is_empty());
            assert_eq!(world.metrics().await["relay_dkim_signatures_total{result=\"failed-sent\"}"], 1.0);
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn keys_of_dkim_are_others_for_the_next_message_and_a_broken_one_is_refused() {
    let world = Configured::new(lab().domain("dane.test", |d| d)).await;
    world.mail("bob@dane.test").await;
    assert!(!world.arrives("dane.test", 1).await.contains("DKIM-Signature:"));
    let file = world.folder.path().join("key.pem");
    let write = |key_type| std::fs::write(&file, DkimKey::generate(key_type).unwrap().to_pem().unwrap()).unwrap();
    write(DkimKeyType::Ed25519);
    let key = format!("domain = \"office.test\"\nselector = \"s1\"\nkey_file = {file:?}\n");
    world.write(|text| format!("{text}[dkim]\nsign_signed = true\n[[dkim.key]]\n{key}"));
    world.reload().await;
    world.mail("bob@dane.test").await;
    assert!(world.arrives("dane.test", 2).await.contains(" a=ed25519-sha256;"));
    std::fs::write(&file, "no key").unwrap();
    let refused = world.refused().await;
    assert!(
        refused.contains("[[dkim.key]] office.test s1: key_file: ") && refused.contains("relay.toml:"),
        "{refused}"
    );
    world.mail("bob@dane.test").await;
    assert!(world.arrives("dane.test", 3).await.contains(" a=ed25519-sha256;"), "the old key stays");
    let checked =
        run([OsStr::new("config"), OsStr::new("check"), OsStr::new("--config"), world.file().as_os_str()]).await;
    assert!(checked.code == 78 && checked.stderr.contains("no private key in PEM form"), "{}", checked.stderr);
    // The same file with another key: nothing but a reload is needed.
    write(DkimKeyType::Rsa);
    world.reload().await;
    world.mail("bob@dane.test").await;
    assert!(world.arrives("dane.test", 4).await.contains(" a=rsa-sha256;"));
}

#[tokio::test]
async fn a_key_is_made_published_compared_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, "").unwrap();
    let new = |more: &[&str]| {
        let all = [&["dkim", "new", "office.test", "--config", config.to_str().unwrap()], more].concat();
        run(all.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let made = new(&["--selector", "s1", "--json"]).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let file = folder.path().join("dkim/office.test.s1.pem");
    assert_eq!(made["key_file"], file.to_str().unwrap());
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let beside = Path::new("Cargo.toml").canonicalize().unwrap();
    let beside = new(&["--selector", "s1", "--file", beside.file_name().unwrap().to_str().unwrap()]).await;
    assert!(beside.code == 64 && beside.stderr.starts_with("relay: /"), "{}", beside.stderr);
    let again = new(&["--selector", "s1"]).await;
    assert!(again.code == 64 && again.stderr.contains("is there already"), "{}", again.stderr);
    let other = new(&["--selector", "s2", "--type", "ed25519"]).await;
    assert!(other.stdout.contains("s2._domainkey.office.test. IN TXT ( \"v=DKIM1; k=ed25519; p="), "{}", other.stdout);

    let record = made["record"].as_str().unwrap();
    let strings = dane_relay::smtp::dkim::zone_file_strings(record);
    let published = RData::TXT(TXT::new(strings));
    let lab = Lab::builder()
        .domain("office.test", |d| d.record("s1._domainkey.office.test", published))
        .domain("one.test", |d| d);
    let world = Configured::with(lab, |text| {
        let key = |selector: &str| {
            let file = folder.path().join(format!("dkim/office.test.{selector}.pem"));
            format!("[[dkim.key]]\ndomain = \"office.test\"\nselector = {selector:?}\nkey_file = {file:?}\n")
        };
        format!("{text}{}", key("s1"))
    })
    .await;
    std::fs::create_dir(world.folder.path().join("dkim")).unwrap();
    let aside = "dkim/office.test.s2.pem";
    std::fs::copy(folder.path().join(aside), world.folder.path().join(aside)).unwrap();
    let checked = world.run(&["dkim", "check", "office.test"]).await;
    assert_eq!(checked.code, 1, "{}", checked.stdout);
    for words in [
        "OK           s1._domainkey.office.test rsa, signs",
        "the key is published",
        "secure",
        "WARN         s2._domainkey.office.test ed25519, in no [[dkim.key]]",
        "nothing is published",
    ] {
        assert!(checked.stdout.contains(words), "{words}: {}", checked.stdout);
    }
    world.mail("bob@one.test").await;
    let text = world.arrives("one.test", 1).await;
    let key = Published { rule: String::new(), selector: "s1".into(), record: record.to_owned() };
    assert_eq!(verified(text.as_bytes(), &[&key]), ["s1"]);
    // The key that signs is another one than the one that is published.
    let file = folder.path().join("dkim/office.test.s1.pem");
    std::fs::write(&file, DkimKey::generate(DkimKeyType::Rsa).unwrap().to_pem().unwrap()).unwrap();
    let checked = world.run(&["dkim", "check", "office.test", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!((checked.code, report["keys"][0]["published"].as_str()), (2, Some("other")), "{report}");
    assert_eq!(world.run(&["dkim", "check", "one.test"]).await.code, 1, "no key is there");
}

#[tokio::test]
async fn a_key_that_the_service_manager_hands_over_is_read_and_one_that_it_does_not_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("relay.toml");
    let key = "[[dkim.key]]\ndomain = \"office.test\"\nselector = \"s1\"\ncredential = \"dkim-s1\"\n";
    std::fs::write(&config, format!("[dns]\nupstreams = [\"udp://127.0.0.1:1\"]\n{key}")).unwrap();
    let check = |variables: Vec<(&'static str, std::path::PathBuf)>| {
        let config = config.clone();
        async move {
            let variables: Vec<(&str, &OsStr)> = variables.iter().map(|(name, at)| (*name, at.as_os_str())).collect();
            let arguments = ["dkim", "check", "office.test", "--json", "--config", config.to_str().unwrap()];
            let checked = run_with(&variables, arguments).await;
            serde_json::from_str::<serde_json::Value>(&checked.stdout).unwrap()["keys"][0].clone()
        }
    };
    let none = check(Vec::new()).await;
    assert!(none["key_type"].is_null() && none["key_file"].is_null(), "{none}");
    let handed = || vec![("CREDENTIALS_DIRECTORY", folder.path().to_owned())];
    let file = folder.path().join("dkim-s1");
    let missing = check(handed()).await;
    assert!(missing["key_type"].is_null() && missing["key_file"] == file.to_str().unwrap(), "{missing}");
    std::fs::write(&file, DkimKey::generate(DkimKeyType::Ed25519).unwrap().to_pem().unwrap()).unwrap();
    assert_eq!(check(handed()).await["key_type"], "ed25519");
}

/// Each message that finds no place goes back into the spool and is claimed again.
#[tokio::test]
async fn a_message_that_waits_for_a_place_is_signed_once() {
    const MESSAGES: usize = 60;
    let keys = tempfile::tempdir().unwrap();
    let key = make(keys.path(), "office.test", "e1", DkimKeyType::Ed25519);
    let world = World::with(lab().domain("one.test", |d| d), |_lab, config| {
        config.dkim = settings("", &[&key]);
        (config.delivery.max_connections, config.delivery.max_per_next_hop) = (1, 1);
    })
    .await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    for _ in 0..MESSAGES {
        assert!(client.send(SENDER, &["bob@one.test"], content("bob@one.test").as_bytes()).await.unwrap().accepted());
    }
    world.mx("one.test").wait_for_messages(MESSAGES, PATIENCE).await.unwrap();
    assert_eq!(world.metrics().await["relay_dkim_signatures_total{result=\"ed25519\"}"], 60.0);
    world.stop().await;
}
