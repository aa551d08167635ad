//! The command line: exit codes that scripts rely on, and one clear line for every mistake
//! (sysexits: 64 usage, 78 configuration).

use crate::process::{ProgramOutput, run};
use crate::relay::{configuration, configuration_file, lab};
use dane_relay::lab::{AnswerFault, Lab, LabBuilder, Tlsa};
use hickory_proto::rr::RecordType;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A lab with a domain for every exit code of a check.
fn exits() -> LabBuilder {
    let misfit = || [Tlsa::Misfits(3, 1, 1, 0)];
    lab()
        .domain("ok.test", |d| d.host(|h| h.and_misfits(2)))
        .domain("warning.test", |d| d.host(|h| h.tlsa(misfit())).add_host("mx2.warning.test", 20, |h| h))
        .domain("fault.test", |d| d.host(|h| h.tlsa(misfit())))
        .domain("unknown.test", |d| d.fault("mx.unknown.test", RecordType::TLSA, AnswerFault::ServFail))
}

/// A lab and a folder with a configuration for it.
struct Setup {
    lab: Lab,
    folder: TempDir,
    config: PathBuf,
}

impl Setup {
    async fn new() -> Self {
        let lab = exits().start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = configuration_file(&lab, folder.path());
        Self { lab, folder, config }
    }

    /// Replaces the configuration.
    fn write(&self, change: impl FnOnce(String) -> String) {
        std::fs::write(&self.config, change(configuration(&self.lab, self.folder.path()))).unwrap();
    }

    async fn check(&self, arguments: &[&str]) -> ProgramOutput {
        run([&["check", "--config", self.config.to_str().unwrap()], arguments].concat()).await
    }

    async fn serve(&self) -> ProgramOutput {
        run(["serve", "--config", self.config.to_str().unwrap()]).await
    }
}

/// The program refused with one line that holds all of `parts`.
fn complained(said: &ProgramOutput, code: i32, parts: &[&str]) {
    assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{said:?}");
    let lines: Vec<&str> = said.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{}", said.stderr);
    for part in parts {
        assert!(lines[0].contains(part), "no {part} in: {}", lines[0]);
    }
}

#[tokio::test]
async fn a_check_ends_with_the_code_of_its_verdict() {
    let setup = Setup::new().await;
    for (domain, code, word) in [
        ("ok.test", 0, "OK"),
        ("warning.test", 1, "WARN  recipient  proven  tlsa-invalid"),
        ("fault.test", 2, "FAULT"),
        ("unknown.test", 3, "INCONCLUSIVE"),
    ] {
        let said = setup.check(&[domain]).await;
        assert_eq!((said.code, said.stderr.as_str()), (code, ""), "{said:?}");
        assert!(
            said.stdout.starts_with(word) && said.stdout.lines().next().unwrap().contains(domain),
            "{}",
            said.stdout
        );
    }
}

#[tokio::test]
async fn a_check_takes_upstream_anchors_and_port_from_its_arguments() {
    let setup = Setup::new().await;
    let file = setup.folder.path().join("loopback.toml");
    std::fs::write(&file, "[delivery]\nallow_loopback = true\n").unwrap();
    let anchors = setup.folder.path().join("root.key");
    let (upstream, port) = (setup.lab.dns().upstream(), setup.lab.port().to_string());
    let given = |command: &'static str, file: Option<&Path>, port: &str| {
        let mut all = vec![command.to_owned(), "ok.test".to_owned()];
        for (name, value) in
            [("--upstream", upstream.as_str()), ("--port", port), ("--trust-anchors", anchors.to_str().unwrap())]
        {
            all.extend([name.to_owned(), value.to_owned()]);
        }
        all.extend(file.into_iter().flat_map(|file| ["--config".to_owned(), file.to_str().unwrap().to_owned()]));
        run(all)
    };
    assert_eq!(given("check", Some(&file), &port).await.code, 0);
    let alias = given("dane-check", Some(&file), &port).await;
    assert!(alias.code == 0 && alias.stdout.starts_with("OK  ok.test  ("), "{alias:?}");
    // Without leave from the configuration, loopback is no place for mail.
    let refused = given("check", None, &port).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stdout.contains("address-forbidden"), "{}", refused.stdout);
}

#[tokio::test]
async fn a_check_in_json_holds_what_the_text_says() {
    let setup = Setup::new().await;
    let (text, said) = (setup.check(&["warning.test", "-v"]).await, setup.check(&["warning.test", "--json"]).await);
    assert_eq!((text.code, said.code), (1, 1));
    let json: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        (&json["version"], &json["verdict"], &json["domain"]),
        (&2.into(), &"warning".into(), &"warning.test".into())
    );
    assert_eq!((&json["fault"]["cause"], &json["fault"]["status"]), (&"tlsa-invalid".into(), &"4.7.323".into()));
    assert_eq!((&json["mx_security"], &json["hosts_from"]), (&"secure".into(), &"mx".into()));
    let hosts = json["hosts"].as_array().unwrap();
    assert_eq!((&hosts[0]["name"], &hosts[1]["name"]), (&"mx.warning.test".into(), &"mx2.warning.test".into()));
    assert_eq!((&hosts[0]["tlsa"][0]["matched"], &hosts[1]["tlsa"][0]["matched"]), (&false.into(), &true.into()));
    assert_eq!((&hosts[1]["policy"], &hosts[1]["addresses"][0]["tls"]["tls"]), (&"dane".into(), &"dane".into()));
    let flat = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    for told in [&json["summary"], &json["fault"]["cause"], &json["fault"]["advice"], &hosts[1]["tlsa"][0]["record"]] {
        assert!(flat(&text.stdout).contains(&flat(told.as_str().unwrap())), "{told} is not in {}", text.stdout);
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_read_ends_with_64() {
    for (arguments, hint) in [
        (vec!["check", "no domain"], "write a domain such as example.org"),
        (vec!["check"], "DOMAIN"),
        (vec!["check", "ok.test", "--upstream", "1.2.3.4"], "udp://IP:PORT"),
        (vec!["chekc", "ok.test"], "check"),
        (vec![], "Usage"),
    ] {
        let said = run(&arguments).await;
        assert_eq!((said.code, said.stdout.as_str()), (64, ""), "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(hint), "{arguments:?}: {}", said.stderr);
    }
    let said = run(["check", "no domain"]).await;
    assert!(said.stderr.lines().next().unwrap().contains("no domain"), "{}", said.stderr);
    assert_eq!(run(["--help"]).await.code, 0);
    assert!(run(["--version"]).await.stdout.starts_with("relay "));
}

#[tokio::test]
async fn a_wrong_key_is_named_with_its_line_and_the_right_one() {
    let setup = Setup::new().await;
    setup.write(|text| text.replace("[retry]\nfirst", "[retry]\nfrist"));
    let config = setup.config.to_str().unwrap();
    let line =
        std::fs::read_to_string(&setup.config).unwrap().lines().position(|l| l.starts_with("frist")).unwrap() + 1;
    let place = format!("relay.toml:{line}:");
    let parts = [place.as_str(), "[retry] frist: there is no such key", "did you mean `first`?"];
    complained(&setup.serve().await, 78, &parts);
    complained(&setup.check(&["ok.test"]).await, 78, &parts);
    complained(&run(["config", "check", "--config", config]).await, 78, &parts);
    assert!(!setup.folder.path().join("spool").exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_ends_with_78() {
    for arguments in [&["serve"][..], &["check", "ok.test"], &["config", "check"]] {
        let said = run([arguments, &["--config", "/nowhere/relay.toml"]].concat()).await;
        complained(&said, 78, &["/nowhere/relay.toml: cannot be read"]);
    }
}

#[tokio::test]
async fn without_a_usable_trust_anchor_nothing_starts() {
    let setup = Setup::new().await;
    let anchors = setup.folder.path().join("root.key");
    let config = setup.config.to_str().unwrap();
    let checked = || run(["config", "check", "--config", config]);
    let all = || async { [setup.serve().await, setup.check(&["ok.test"]).await, checked().await] };
    for (content, part) in
        [("", "holds no usable key"), ("; only a comment\n", "holds no usable key"), ("nonsense\n", "DNSKEY")]
    {
        std::fs::write(&anchors, content).unwrap();
        for said in all().await {
            complained(&said, 78, &["[dns] trust_anchors", "root.key", part]);
        }
    }
    std::fs::remove_file(&anchors).unwrap();
    for said in all().await {
        complained(&said, 78, &["[dns] trust_anchors", "root.key", "cannot be read"]);
    }
    assert!(!setup.folder.path().join("spool").exists());
}

#[tokio::test]
async fn config_check_refuses_a_certificate_that_the_start_would_refuse() {
    let setup = Setup::new().await;
    let [one, other] = ["one", "other"].map(|name| {
        let made = rcgen::generate_simple_self_signed([format!("{name}.test")]).unwrap();
        let path = |end: &str| setup.folder.path().join(format!("{name}.{end}")).to_str().unwrap().to_owned();
        std::fs::write(path("pem"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        (path("pem"), path("key"))
    });
    let config = setup.config.to_str().unwrap();
    for (certificate, key, complaint) in [
        (&one.0, &one.1, None),
        (&one.0, &other.1, Some("the private key does not belong to this certificate")),
        (&"/nowhere.pem".to_owned(), &one.1, Some("/nowhere.pem: No such file")),
    ] {
        let lines = format!("[listen]\ncertificate = \"{certificate}\"\nprivate_key = \"{key}\"");
        setup.write(|text| text.replace("[listen]", &lines));
        let said = run(["config", "check", "--config", config]).await;
        match complaint {
            None => assert_eq!(said.code, 0, "{said:?}"),
            Some(part) => complained(&said, 78, &["[listen] certificate", part]),
        }
    }
}

#[tokio::test]
async fn config_show_prints_what_counts_and_can_be_used_again() {
    let setup = Setup::new().await;
    let config = setup.config.to_str().unwrap();
    let shown = run(["config", "show", "--config", config]).await;
    assert!(shown.code == 0 && shown.stdout.contains("max_recipients = 1000"), "{shown:?}");
    std::fs::write(&setup.config, &shown.stdout).unwrap();
    assert_eq!(run(["config", "show", "--config", config]).await.stdout, shown.stdout);
}

#[tokio::test]
async fn rfc4035_4_3_the_keys_of_another_root_vouch_for_nothing() {
    let setup = Setup::new().await;
    let said = setup.check(&["ok.test", "--trust-anchors", "builtin"]).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stdout.contains("no key of the root fits the trust anchors"), "{}", said.stdout);
    assert!(!said.stdout.contains("proven"), "nobody else vouches for it: {}", said.stdout);
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_left_behind() {
    let setup = Setup::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, section) in
        [("[listen] smtp", "smtp = [\"127.0.0.1:0\"]"), ("[admin] listen", "listen = \"127.0.0.1:0\"")]
    {
        setup.write(|text| text.replace(section, &section.replace("127.0.0.1:0", &address)));
        // The service manager starts it again: the port may become free.
        complained(&setup.serve().await, 71, &[key, &address, "ss -ltnp"]);
        assert!(!setup.folder.path().join("spool").exists());
    }
}

#[tokio::test]
async fn a_spool_in_use_is_left_to_its_owner() {
    let setup = Setup::new().await;
    let owner = crate::process::Serving::start(&setup.config).await;
    complained(&setup.serve().await, 71, &["[spool] path", "is used by another relay process"]);
    assert_eq!(crate::relay::get(owner.admin, "/readyz").await.0, 200);
}

#[tokio::test]
async fn the_example_configuration_is_one() {
    let setup = Setup::new().await;
    let example = run(["config", "example"]).await;
    assert_eq!(example.code, 0);
    std::fs::write(&setup.config, example.stdout).unwrap();
    let said = run(["config", "check", "--config", setup.config.to_str().unwrap()]).await;
    assert_eq!((said.code, said.stdout.ends_with("relay.toml: ok\n")), (0, true), "{said:?}");
}

#[tokio::test]
async fn a_check_is_kept_in_a_file_and_compared_with_it() {
    let setup = Setup::new().await;
    let file = setup.folder.path().join("seen.json");
    let file = file.to_str().unwrap();
    let saved = setup.check(&["ok.test", "--save", file]).await;
    assert_eq!((saved.code, saved.stderr.as_str()), (0, ""), "{saved:?}");
    let compared = setup.check(&["fault.test", "--compare", file]).await;
    assert!(compared.stdout.contains("about another domain: ok.test"), "{}", compared.stdout);
    let compared = setup.check(&["ok.test", "--compare", file]).await;
    assert!(compared.stdout.contains("Both find the domain in good order."), "{}", compared.stdout);
    let missing = setup.check(&["ok.test", "--compare", "/nonexistent"]).await;
    assert_eq!(missing.code, 74, "{missing:?}");
}

#[tokio::test]
async fn colours_come_only_when_they_are_wanted() {
    let setup = Setup::new().await;
    let plain = setup.check(&["fault.test"]).await.stdout;
    assert!(!plain.contains('\u{1b}'), "no terminal, no colours: {plain}");
    let bright = setup.check(&["fault.test", "--color", "always"]).await.stdout;
    assert!(bright.starts_with("\u{1b}[1;31mFAULT\u{1b}[0m  "), "{bright}");
}

#[tokio::test]
async fn this_host_is_looked_at_by_itself() {
    let setup = Setup::new().await;
    let said = setup.check(&["--self"]).await;
    assert_eq!(said.stderr, "", "{said:?}");
    for check in ["resolver", "validation", "trust-anchor", "clock", "reverse-dns", "port-25", "spool", "certificate"] {
        assert!(said.stdout.contains(check), "{check}\n{}", said.stdout);
    }
    assert!(said.stdout.contains("the root's keys validate"), "{}", said.stdout);
    assert!(said.stdout.contains("the root signs with known keys"), "{}", said.stdout);
    let json: Value = serde_json::from_str(&setup.check(&["--self", "--json"]).await.stdout).unwrap();
    assert!(json.as_array().unwrap().iter().all(|one| one["status"].is_string()));
}

#[tokio::test]
async fn an_empty_queue_has_nothing_to_check_and_a_canary_zone_is_printed() {
    let setup = Setup::new().await;
    let said = setup.check(&["--all-queued"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (0, "OK  no mail waits\n"), "{said:?}");
    let zone = run(["canary", "zonefile", "canary.example.org"]).await;
    assert_eq!(zone.code, 0);
    assert_eq!(zone.stdout.lines().filter(|line| line.contains(" TLSA 3 1 ")).count(), 1 + 4 + 5 + 8 + 16);
}
