//! Signatures as others verify them (RFC 6376): dkimpy and OpenDKIM, on what Postfix took in chunks and
//! smtp-sink by DATA, with and without 8BITMIME; the records are those that `relay dkim new` prints.

use crate::client::Sink;
use crate::daemon::{run_ok, wait_for};
use crate::delivery::PATIENCE;
use crate::relay::RELAY;
use crate::world::{Tlsa, World};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Hands a file in, with BODY=8BITMIME, to all recipients at once.
const HAND_IN: &str = r#"
import smtplib, sys
with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as client:
    client.sendmail("a@sender.test", sys.argv[4:], open(sys.argv[3], "rb").read(), mail_options=["BODY=8BITMIME"])
"#;

/// The selectors of the signatures that dkimpy verifies; one that does not verify is an error.
const BY_DKIMPY: &str = r#"
import dkim, sys
records = dict(line.rstrip("\n").split(" ", 1) for line in open(sys.argv[1]))
message = dkim.DKIM(open(sys.argv[2], "rb").read())
def text(name, timeout=5):
    return records.get(name.decode().rstrip("."), "").encode()
count = sum(1 for name, value in message.headers if name.lower() == b"dkim-signature")
for nth in range(count):
    assert message.verify(idx=nth, dnsfunc=text), (nth, message.headers)
    print(message.signature_fields[b"s"].decode())
"#;

/// What the relay is asked to sign with, and what is published for it.
struct Keys {
    sections: String,
    /// A line for each record: its name and its text.
    records: PathBuf,
}

/// An RSA and an Ed25519 key.
fn keys(dir: &Path) -> Keys {
    let (mut sections, mut lines) = (String::new(), String::new());
    for (selector, key_type) in [("r1", "rsa"), ("e1", "ed25519")] {
        let file = dir.join(format!("{selector}.pem"));
        let mut new = Command::new(RELAY);
        new.args(["dkim", "new", "sender.test", "--selector", selector, "--type", key_type, "--json"]);
        let made: serde_json::Value = serde_json::from_str(&run_ok(new.arg("--file").arg(&file))).unwrap();
        lines += &format!("{} {}\n", made["record_name"].as_str().unwrap(), made["record"].as_str().unwrap());
        sections +=
            &format!("[[dkim.key]]\ndomain = \"sender.test\"\nselector = \"{selector}\"\nkey_file = {file:?}\n");
    }
    let records = dir.join("records");
    std::fs::write(&records, lines).unwrap();
    Keys { sections, records }
}

fn by_dkimpy(keys: &Keys, message: &Path) -> Vec<String> {
    let said = run_ok(Command::new("/usr/bin/python3").args(["-c", BY_DKIMPY]).arg(&keys.records).arg(message));
    said.lines().map(str::to_owned).collect()
}

fn by_opendkim(keys: &Keys, dir: &Path, message: &Path) -> Vec<String> {
    let config = dir.join("opendkim.conf");
    let text = format!("Mode v\nSyslog no\nTestDNSData file:{}\n", keys.records.display());
    std::fs::write(&config, text).unwrap();
    let said = run_ok(Command::new("opendkim").arg("-x").arg(&config).arg("-t").arg(message).arg("-vv"));
    let results = said.lines().filter(|line| line.contains("header.d=sender.test"));
    let passed = results.map(|line| {
        assert!(line.contains("dkim=pass"), "{}: {said}", message.display());
        line.split("header.s=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned()
    });
    passed.collect()
}

fn hand_in(relay: SocketAddr, message: &Path, to: &[&str]) {
    let mut client = Command::new("/usr/bin/python3");
    client.args(["-c", HAND_IN, &relay.ip().to_string(), &relay.port().to_string()]).arg(message);
    run_ok(client.args(to));
}

/// Messages of every shape, each with `{n}` in its Message-ID.
fn shapes() -> Vec<String> {
    let from = "From: \"A. Sender\" <a@sender.test>\r\nDate: Mon, 30 Nov 2026 10:00:00 +0100\r\nMessage-ID: <{n}@sender.test>\r\n";
    vec![
        format!("{from}\r\n"),
        format!("{from}\r\n\r\n\r\n"),
        format!(
            "{from}To: b@one.test,\r\n\tc@two.test\r\nSubject: folded\r\n   over  three \r\n\tlines\r\n\r\nHi \t there \r\n \r\n"
        ),
        format!("{from}Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n\r\n \r\n\r\n"),
        format!("{from}Subject: \r\n {}\r\nX-Long: {}\r\n\r\nHi\r\n", "word ".repeat(180), "x".repeat(980)),
        format!(
            "X-From: <x@other.test>\r\nResent-From: <y@other.test>\r\n{from}From-Server: z@other.test\r\nReply-To: x@y.test\r\n\r\nHi\r\n"
        ),
        format!("{from}Subject: one\r\nSubject:  two\r\nTo: b@one.test\r\nTo: c@two.test\r\n\r\nHi\r\n"),
        format!(
            "{from}Subject: 8 bits\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}\u{df}e \r\n\r\n=3D {}\r\n\r\n\r\n",
            "\u{e9}".repeat(200)
        ),
        format!(
            "{from}Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\u{fc}\r\n--b\r\nContent-Type: application/x-own\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\u{e4} \r\n--b--\r\n\r\n"
        ),
        format!("{from}Subject: large\r\n\r\n{}", "A line with \u{fc} and a blank at its end \r\n".repeat(9_000)),
    ]
}

#[test]
fn rfc6376_dkimpy_and_opendkim_verify_every_shape_of_message_by_every_way_out() {
    let world = World::start(&[("bdat.test", Tlsa::OneFitsOf(1))]);
    let keys = keys(world.dir());
    let (new, old) = (world.dir().join("new"), world.dir().join("old"));
    for folder in [&new, &old] {
        std::fs::create_dir(folder).unwrap();
    }
    let sinks = [("new.test", Sink::start(&new)), ("old.test", Sink::start_with(&old, &["-8"]))];
    let hop = |(domain, sink): &(&str, Sink)| {
        format!("[[destination]]\ndomains = [\"{domain}\"]\nnext_hop = \"{}\"\n", sink.address)
    };
    let relay = world.start_relay(&format!("{}{}", keys.sections, sinks.iter().map(hop).collect::<String>()));
    for (n, shape) in shapes().iter().enumerate() {
        let file = world.dir().join("message.eml");
        std::fs::write(&file, shape.replace("{n}", &n.to_string())).unwrap();
        hand_in(relay.smtp, &file, &["b@bdat.test", "b@new.test", "b@old.test"]);
        let id = format!("<{n}@sender.test>");
        let is_it = |text: &String| text.contains(&id);
        let at_postfix = || world.postfix.mailbox().iter().map(|mail| mail.text()).find(is_it);
        let at = |sink: &Sink| sink.messages().into_iter().find(is_it);
        let arrived = [
            ("Postfix", wait_for("mail at Postfix", PATIENCE, at_postfix)),
            ("smtp-sink", wait_for("mail at smtp-sink", PATIENCE, || at(&sinks[0].1))),
            ("smtp-sink without 8BITMIME", wait_for("converted mail", PATIENCE, || at(&sinks[1].1))),
        ];
        for (server, text) in arrived {
            let is_converted = text.contains("X-MIME-Autoconverted: from 8bit to 7bit");
            assert_eq!(is_converted, server.contains("without") && !shape.is_ascii(), "{server}: {text}");
            let message = world.dir().join("arrived.eml");
            std::fs::write(&message, text.replace('\n', "\r\n")).unwrap();
            assert_eq!(by_dkimpy(&keys, &message), ["r1", "e1"], "dkimpy, shape {n} at {server}");
            assert_eq!(by_opendkim(&keys, world.dir(), &message), ["r1", "e1"], "OpenDKIM, shape {n} at {server}");
        }
    }
    // Postfix says how the content came when the connection ends.
    wait_for("chunks at Postfix", PATIENCE, || world.postfix.log().contains(" bdat=").then_some(()));
}
