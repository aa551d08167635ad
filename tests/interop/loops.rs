//! Mail whose MX records lead back to the relay (RFC 5321 §5.1, §6.3), through the real listener on a real
//! address, in a network of the test's own.

use crate::client::Swaks;
use crate::daemon::{Daemon, both, run, wait_for};
use crate::delivery::{ODD_MESSAGE, PATIENCE};
use crate::namespace::Namespace;
use crate::relay::RELAY;
use crate::world::open_temp_dir;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// The relay's own address; its network may hand mail in.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

const ZONE: &str = "$ORIGIN test.\n@ 300 IN SOA ns.test. hostmaster.test. 1 3600 900 604800 300\n\
    @ 300 IN NS ns\nns 300 IN A 192.0.2.1\n\
    loop 300 IN MX 10 mx.loop\nmx.loop 300 IN A 192.0.2.1\n\
    worse 300 IN MX 10 mx.loop\nworse 300 IN MX 20 mx.worse\nmx.worse 300 IN A 192.0.2.7\n\
    alone 300 IN A 192.0.2.1\n\
    inner 300 IN MX 10 mx.inner\nmx.inner 300 IN A 127.0.0.1\n\
    metadata 300 IN MX 10 mx.metadata\nmx.metadata 300 IN A 169.254.169.254\n";

/// NSD with the zone, in that network.
fn name_server(dir: &Path, host: &Namespace) -> Daemon {
    let shown = dir.display();
    std::fs::write(dir.join("test.zone"), ZONE).unwrap();
    let text = format!(
        "server:\n  ip-address: {OWN}\n  port: 53\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{shown}\"\n  \
         database: \"\"\n  zonelistfile: \"{shown}/list\"\n  xfrdfile: \"{shown}/xfrd\"\n  xfrdir: \"{shown}\"\n  \
         pidfile: \"{shown}/pid\"\n  server-count: 1\nremote-control:\n  control-enable: no\n\
         zone:\n  name: \"test\"\n  zonefile: \"test.zone\"\n"
    );
    std::fs::write(dir.join("nsd.conf"), text).unwrap();
    let conf = dir.join("nsd.conf");
    let mut nsd = host.start("nsd", &["-d", "-c", &conf.to_string_lossy()], &dir.join("nsd.log"));
    nsd.wait_until("answers", || host.is_answered(OWN, "test", &[]));
    nsd
}

#[test]
fn rfc5321_5_1_mail_that_leads_back_to_an_address_of_ours_is_a_loop_at_the_first_look() {
    let dir = open_temp_dir();
    let (host, other) = (Namespace::new(dir.path(), "host"), Namespace::new(dir.path(), "other"));
    host.join("host", &other, "other");
    host.add_address("host", OWN, 24);
    let _nsd = name_server(dir.path(), &host);
    let conf = dir.path().join("relay.toml");
    let text = format!(
        "hostname = \"relay.test\"\n[listen]\nsmtp = [\"{OWN}:25\"]\nclients = [\"192.0.2.0/24\", \"127.0.0.0/8\"]\n\
         [spool]\npath = \"{}/spool\"\n[admin]\nlisten = \"{OWN}:9925\"\n\
         [dns]\nprivate_zones = [{{ zone = \"test\", servers = [\"{OWN}\"] }}]\n",
        dir.path().display()
    );
    std::fs::write(&conf, text).unwrap();
    let conf = conf.to_string_lossy().into_owned();
    let mut relay = host.start(RELAY, &["serve", "--config", &conf], &dir.path().join("relay.log"));
    relay.wait_until("ready", || relay_log(dir.path()).contains("relay serves").then_some(()));
    let domains = [
        ("loop.test", "mail-loop"),
        ("worse.test", "mail-loop"),
        ("alone.test", "mail-loop"),
        ("inner.test", "address-forbidden"),
        ("metadata.test", "address-forbidden"),
    ];
    let server = SocketAddr::from((OWN, 25));
    for (domain, _) in domains {
        let to = format!("bob@{domain}");
        let message = Swaks { server, from: "a@loop.test", to: &to, options: &[], content: ODD_MESSAGE };
        message.hand_in_from(&host, dir.path());
    }
    for (domain, cause) in domains {
        let to = format!("bob@{domain}");
        let why = || {
            let said = both(&run(&mut host.within(RELAY, &["why", &to, "--config", &conf])));
            said.contains("failed for good").then_some(said)
        };
        let said = wait_for(&format!("the end of mail to {to}"), PATIENCE, why);
        assert!(said.contains(cause), "{said}");
    }
    let log = relay_log(dir.path());
    assert_eq!(log.matches(" accepted ").count(), domains.len(), "each was taken once: {log}");
}

fn relay_log(dir: &Path) -> String {
    crate::daemon::read_lossy(&dir.join("relay.log"))
}
