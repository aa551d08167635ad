//! The same peers by `posttls-finger`: Postfix's own client with its own look-ups (RFC 7672 §2.2).
//!
//! It asks whom `/etc/resolv.conf` names, on port 53. So it runs in a mount namespace where that
//! is a file of ours, and Unbound listens on port 53 of an address that is this test's alone.

use super::peers::End::{self, CannotSpeak, Speaks};
use super::peers::PEERS;
use super::{Fair, RECORDS, Records};
use crate::daemon::{both, run};
use crate::resolver::Resolver;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

/// Runs its arguments where `$0` is `/etc/resolv.conf`.
const WITH_RESOLV_CONF: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";

/// What Postfix would do under `dane-only`, and all that it said.
fn end_by_postfix(resolv_conf: &Path, domain: &str, port: u16) -> (End, String) {
    let mut finger = Command::new("unshare");
    finger.args(["--mount", "sh", "-c", WITH_RESOLV_CONF]).arg(resolv_conf);
    finger.args(["posttls-finger", "-c", "-l", "dane-only", "-L", "summary", "-a", "ipv4"]);
    let said = both(&run(finger.arg(format!("[mx.{domain}]:{port}"))));
    let session = said.split_once("Verified TLS connection established to ");
    let version = session.and_then(|(_, session)| session.split_once(": ")?.1.split(' ').next());
    let version = ["TLSv1.2", "TLSv1.3"].into_iter().find(|known| version == Some(known));
    // In TLS 1.3 the session stands before the server can miss the certificate of the client.
    let version = version.filter(|_| !said.contains("alert certificate required"));
    (version.map_or(CannotSpeak, Speaks), said)
}

#[test]
fn rfc7672_2_2_postfix_comes_to_the_same_end_or_the_table_says_where_not() {
    let fair = Fair::start();
    // Two octets of the port make the address.
    let [high, low] = fair.mx_port.to_be_bytes();
    let address = Ipv4Addr::new(127, 5, high, low);
    let folder = fair.dir.path().join("port-53");
    std::fs::create_dir(&folder).unwrap();
    let _resolver = Resolver::start_at(&folder, &fair.authority, SocketAddr::from((address, 53)));
    let resolv_conf = folder.join("resolv.conf");
    std::fs::write(&resolv_conf, format!("nameserver {address}\noptions edns0 trust-ad\n")).unwrap();

    let mut wrong = String::new();
    for peer in &PEERS {
        for (domain, records) in peer.domains().iter().zip(RECORDS).filter(|(_, records)| *records != Records::None) {
            let (end, said) = end_by_postfix(&resolv_conf, domain, fair.mx_port);
            let expected = if records == Records::Fit { peer.end_of_postfix } else { CannotSpeak };
            if end != expected {
                wrong += &format!("{domain}: {expected:?} expected, {end:?} seen:\n{said}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
