//! The canary zone in the eyes of the name servers that will serve it (RFC 1035 §5).

use crate::daemon::run_ok;
use std::path::Path;
use std::process::Command;

const ZONE: &str = "canary.example.org";

fn printed(arguments: &[&str]) -> String {
    let mut relay = Command::new(env!("CARGO_BIN_EXE_relay"));
    run_ok(relay.args(["canary", "zonefile", ZONE]).args(arguments))
}

/// BIND and NSD load it. Names of others are not looked up.
fn loads(file: &Path) {
    run_ok(Command::new("named-checkzone").args(["-i", "local", "-k", "fail", ZONE]).arg(file));
    run_ok(Command::new("nsd-checkzone").arg(ZONE).arg(file));
}

#[test]
fn rfc1035_5_2_with_its_name_servers_the_canary_zone_loads_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("canary.zone");
    std::fs::write(&file, printed(&["--ns", "ns1.example.net", "--ns", "ns2.example.net"])).unwrap();
    loads(&file);
}

#[test]
fn rfc1035_5_1_without_them_it_is_included_in_a_zone_that_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (part, file) = (folder.path().join("canary.part"), folder.path().join("example.zone"));
    let text = printed(&[]);
    assert!(text.contains("$INCLUDE") && !text.contains("IN SOA"), "{text}");
    std::fs::write(&part, text).unwrap();
    let own = "$TTL 3600\n@ IN SOA ns1.example.net. h.example.net. 1 3600 900 604800 300\n@ IN NS ns1.example.net.\n";
    std::fs::write(&file, format!("{own}$INCLUDE {}\n", part.display())).unwrap();
    loads(&file);
}
