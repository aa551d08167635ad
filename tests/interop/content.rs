//! How content goes to real servers: in chunks where they offer them (RFC 3030), by DATA where they do not, and
//! the same octets always.

use crate::certificate::Certificate;
use crate::client::Swaks;
use crate::daemon::{free_port, wait_for};
use crate::delivery::{ODD_MESSAGE, PATIENCE, with_lf};
use crate::exim::Exim;
use crate::opensmtpd::OpenSmtpd;
use crate::postfix::{Mail, MxHost};
use crate::relay::Relay;
use crate::world::{Tlsa, World};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Octets of content: some chunks of ours, and none of them whole.
const LARGE: usize = 300_000;

fn host(domain: &str, last: u8, certificate: Option<Certificate>) -> MxHost {
    let ip = Ipv4Addr::new(127, 0, 1, last);
    let address = SocketAddr::from((ip, free_port(&[ip])));
    MxHost { name: format!("mx.{domain}"), domain: domain.to_owned(), address, certificate }
}

/// A message whose every line is another one, with dots in front, and octets above 127.
fn large_message() -> Vec<u8> {
    let mut content = ODD_MESSAGE.to_vec();
    for n in 0.. {
        if content.len() > LARGE {
            break;
        }
        content.extend_from_slice(format!(".{n} gr\u{fc}\u{df}e {:>60}\r\n", n * n).as_bytes());
    }
    content
}

fn with_next_hop(host: &MxHost) -> String {
    format!("[[destination]]\ndomains = [\"{}\"]\nnext_hop = \"{}\"\n", host.domain, host.address)
}

fn arrives(relay: &Relay, dir: &Path, to: &str, mailbox: impl Fn() -> Vec<Mail>) {
    let content = large_message();
    Swaks { server: relay.smtp, from: "a@sender.test", to, options: &[], content: &content }.hand_in(dir);
    let line = relay.wait_for_log(&["delivered", to], PATIENCE);
    let mail = wait_for(&format!("mail to {to} ({line})"), PATIENCE, || mailbox().pop());
    assert!(mail.bytes().ends_with(&with_lf(&content)), "changed on the way: {}", &mail.text()[..2000]);
}

#[test]
fn rfc3030_2_postfix_and_exim_get_chunks_and_the_same_octets() {
    let world = World::start(&[("postfix.test", Tlsa::OneFitsOf(1))]);
    let own = Certificate::self_signed(world.dir(), "mx.exim.test");
    let at_exim = [host("exim.test", 77, Some(own))];
    let exim = Exim::start(world.dir(), &at_exim);
    let relay = world.start_relay(&with_next_hop(&at_exim[0]));
    arrives(&relay, world.dir(), "bob@postfix.test", || world.postfix.mailbox());
    wait_for("the end of the connection", PATIENCE, || world.postfix.log().contains(" mail=1").then_some(()));
    let log = world.postfix.log();
    assert!(log.contains(" bdat=") && !log.contains(" data="), "{log}");
    arrives(&relay, world.dir(), "bob@exim.test", || exim.mailbox());
    let log = exim.log();
    assert!(log.lines().any(|line| line.contains("<= a@sender.test") && line.contains(" K ")), "no chunks: {log}");
}

#[test]
fn opensmtpd_gets_the_same_octets_by_data_with_its_broken_tls_and_without_tls() {
    let world = World::start(&[("postfix.test", Tlsa::Absent)]);
    let own = Certificate::self_signed(world.dir(), "mx.tls.test");
    let hosts = [host("tls.test", 78, Some(own)), host("plain.test", 79, None)];
    let opensmtpd = OpenSmtpd::start(world.dir(), &hosts);
    let relay = world.start_relay(&hosts.iter().map(with_next_hop).collect::<String>());
    for host in &hosts {
        let to = format!("bob@{}", host.domain);
        let of_it = |mail: &Mail| mail.text().contains(&format!("for <{to}>"));
        arrives(&relay, world.dir(), &to, || opensmtpd.mailbox().into_iter().filter(of_it).collect());
    }
    let log = opensmtpd.log();
    assert_eq!(log.matches("result=Ok").count(), 2, "{log}");
}
