//! Another configuration while mail goes on: each kind of key comes into force for what begins after it, what
//! is under way ends as it began, and a file that cannot be used changes nothing.

use crate::process::{ProgramOutput, Serving, run};
use crate::relay::{PATIENCE, SENDER, configuration, content, get, hand_in, heard, lab, metrics, says, until};
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{Lab, LabBuilder, StartTls, TroubleAt};
use rcgen::{CertificateParams, KeyPair};
use std::net::SocketAddr;
use std::path::PathBuf;
use tempfile::TempDir;

/// A relay that serves beside a lab, and its file.
pub(crate) struct Configured {
    pub(crate) lab: Lab,
    pub(crate) folder: TempDir,
    pub(crate) relay: Serving,
}

impl Configured {
    pub(crate) async fn new(lab: LabBuilder) -> Self {
        Self::with(lab, |text| text).await
    }

    pub(crate) async fn with(lab: LabBuilder, change: impl FnOnce(String) -> String) -> Self {
        let (lab, folder) = (lab.start().await.unwrap(), tempfile::tempdir().unwrap());
        let file = folder.path().join("relay.toml");
        std::fs::write(&file, change(configuration(&lab, folder.path()))).unwrap();
        let relay = Serving::start(&file).await;
        Self { lab, folder, relay }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    /// Changes the text of the file.
    pub(crate) fn write(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.file()).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text);
        std::fs::write(self.file(), changed).unwrap();
    }

    /// Puts lines behind the head of a section.
    pub(crate) fn add(&self, section: &str, lines: &str) {
        self.write(|text| {
            let head = format!("[{section}]\n");
            if text.contains(&head) {
                text.replace(&head, &format!("{head}{lines}\n"))
            } else {
                format!("{text}{head}{lines}\n")
            }
        });
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> ProgramOutput {
        let file = self.file();
        let file = file.to_str().unwrap();
        let with = if arguments.first() == Some(&"config") { vec![file] } else { vec!["--config", file] };
        run([arguments, &with].concat()).await
    }

    /// `relay reload`, which takes the file over.
    pub(crate) async fn reload(&self) -> String {
        let ProgramOutput { code, stdout, stderr } = self.run(&["reload"]).await;
        assert_eq!(code, 0, "{stderr}");
        stdout
    }

    /// `relay reload`, which is refused; gives the reason.
    pub(crate) async fn refused(&self) -> String {
        let ProgramOutput { code, stderr, .. } = self.run(&["reload"]).await;
        assert_eq!(code, 78, "{stderr}");
        assert!(stderr.contains("refused; the configuration before stays in force"), "{stderr}");
        stderr
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        metrics(self.relay.admin).await[name]
    }

    pub(crate) async fn mail(&self, to: &str) {
        hand_in(self.relay.smtp, SENDER, &[to], content(to).as_bytes()).await;
    }

    pub(crate) async fn arrives(&self, domain: &str, count: usize) -> String {
        let messages = self.lab.mx(domain).unwrap().wait_for_messages(count, PATIENCE).await.unwrap();
        String::from_utf8(messages.last().unwrap().content.clone()).unwrap()
    }

    async fn deferrals(&self, cause: &str) -> f64 {
        let named = format!("relay_recipient_deferrals_total{{cause=\"{cause}\"");
        metrics(self.relay.admin).await.iter().filter(|(name, _)| name.starts_with(&named)).map(|(_, n)| n).sum()
    }
}

/// A port that nobody has at the moment.
pub(crate) async fn free_port(ip: &str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(format!("{ip}:0")).await.unwrap();
    listener.local_addr().unwrap()
}

async fn reply_to(client: &mut SmtpClient, command: &str) -> String {
    client.command(command).await.unwrap().to_string()
}

/// A certificate for the listener that ends with this year.
pub(crate) fn certificate(year: i32) -> String {
    let mut params = CertificateParams::new(vec!["relay.office.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    key.serialize_pem() + &params.self_signed(&key).unwrap().pem()
}

#[tokio::test]
async fn clients_and_limits_hold_for_sessions_from_then_on_and_a_message_on_its_way_in_ends_as_it_began() {
    let world = Configured::new(lab().domain("dane.test", |d| d)).await;
    let mut idle = SmtpClient::ready(world.relay.smtp).await.unwrap();
    let mut busy = SmtpClient::ready(world.relay.smtp).await.unwrap();
    let begin = format!("MAIL FROM:<{SENDER}>\r\nRCPT TO:<bob@dane.test>\r\nDATA\r\nSubject: under way\r\n\r\n");
    busy.raw(begin.as_bytes()).await.unwrap();
    for code in [250, 250, 354] {
        assert_eq!(busy.reply().await.unwrap().code, code);
    }
    world.add("listen", "clients = [\"192.0.2.0/24\"]");
    let told = world.reload().await;
    assert!(told.contains("[listen] clients: [\"127.0.0.0/8\", \"::1/128\"] -> [\"192.0.2.0/24\"]"), "{told}");
    assert_eq!(idle.reply().await.unwrap().to_string(), "421 4.3.2 the relay has a new configuration, connect again");
    busy.raw(b"the end\r\n.\r\n").await.unwrap();
    assert_eq!(busy.reply().await.unwrap().code, 250);
    assert_eq!(busy.reply().await.unwrap().code, 421, "and then it has to come again");
    world.arrives("dane.test", 1).await;
    let mut stranger = SmtpClient::ready(world.relay.smtp).await.unwrap();
    assert!(reply_to(&mut stranger, &format!("MAIL FROM:<{SENDER}>")).await.starts_with("550 5.7.1"));
    world.write(|text| text.replace("clients = [\"192.0.2.0/24\"]", "max_message_bytes = 70000\nmax_recipients = 1"));
    world.reload().await;
    let mut client = SmtpClient::ready(world.relay.smtp).await.unwrap();
    assert!(reply_to(&mut client, &format!("MAIL FROM:<{SENDER}> SIZE=70001")).await.starts_with("552"));
    assert!(reply_to(&mut client, &format!("MAIL FROM:<{SENDER}>")).await.starts_with("250"));
    assert!(reply_to(&mut client, "RCPT TO:<bob@dane.test>").await.starts_with("250"));
    assert!(reply_to(&mut client, "RCPT TO:<eve@dane.test>").await.starts_with("452 4.5.3"));
}

#[tokio::test]
async fn a_reload_that_says_nothing_about_sessions_dismisses_nobody() {
    let world = Configured::new(lab().domain("dane.test", |d| d)).await;
    let mut client = SmtpClient::ready(world.relay.smtp).await.unwrap();
    world.add("delivery", "max_concurrent = 7");
    assert!(world.reload().await.contains("1 key changed:\n[delivery] max_concurrent: 500 -> 7"));
    assert!(client.send(SENDER, &["bob@dane.test"], b"Subject: x\r\n\r\n").await.unwrap().accepted());
    let told = world.reload().await;
    assert!(told.starts_with("Taken over; no key has another value."), "{told}");
    assert_eq!(client.command("NOOP").await.unwrap().code, 250);
    world.arrives("dane.test", 1).await;
}

#[tokio::test]
async fn hostname_and_postmaster_are_those_of_the_next_session_and_the_next_delivery() {
    let world = Configured::new(lab().domain("dane.test", |d| d)).await;
    let mut before = SmtpClient::ready(world.relay.smtp).await.unwrap();
    assert!(reply_to(&mut before, &format!("MAIL FROM:<{SENDER}>")).await.starts_with("250"));
    assert!(!reply_to(&mut before, "RCPT TO:<postmaster>").await.starts_with("250"));
    world.write(|text| {
        text.replace("relay.office.test", "other.office.test").replacen('\n', "\npostmaster = \"it@office.test\"\n", 1)
    });
    world.reload().await;
    let mut after = SmtpClient::ready(world.relay.smtp).await.unwrap();
    assert!(after.greeting().text().contains("other.office.test"), "{}", after.greeting());
    assert!(reply_to(&mut after, &format!("MAIL FROM:<{SENDER}>")).await.starts_with("250"));
    assert!(reply_to(&mut after, "RCPT TO:<postmaster>").await.starts_with("250"));
    world.mail("bob@dane.test").await;
    world.arrives("dane.test", 1).await;
    assert_eq!(heard(world.lab.mx("dane.test").unwrap(), "EHLO OTHER.OFFICE.TEST"), 2, "in clear and in TLS");
}

#[tokio::test]
async fn ports_are_opened_and_closed_and_one_that_cannot_be_had_is_a_reason_to_leave_all_as_it_is() {
    let world = Configured::new(lab().domain("dane.test", |d| d)).await;
    let (first, second) = (world.relay.smtp, free_port("127.0.0.3").await);
    world.write(|text| text.replace("smtp = [\"127.0.0.1:0\"]", &format!("smtp = [\"127.0.0.1:0\", \"{second}\"]")));
    world.reload().await;
    let mut kept = SmtpClient::ready(first).await.unwrap();
    hand_in(second, SENDER, &["bob@dane.test"], content("bob@dane.test").as_bytes()).await;
    let taken = tokio::net::TcpListener::bind("127.0.0.4:0").await.unwrap();
    let in_use = taken.local_addr().unwrap();
    world.write(|text| text.replace("smtp = [\"127.0.0.1:0\"", &format!("smtp = [\"{in_use}\"")));
    let why = world.refused().await;
    assert!(
        why.contains(&format!("[listen] smtp: cannot listen on {in_use}: ")) && why.contains("`ss -ltnp`"),
        "{why}"
    );
    drop(SmtpClient::ready(first).await.unwrap());
    let everywhere = SocketAddr::from(([0, 0, 0, 0], second.port()));
    world.write(|text| {
        text.replace(&format!("smtp = [\"{in_use}\", \"{second}\"]"), &format!("smtp = [\"{everywhere}\"]"))
    });
    let why = world.refused().await;
    assert!(why.contains(&format!("{everywhere} overlaps with {second}, where the relay listens now")), "{why}");
    world.write(|text| text.replace(&format!("smtp = [\"{everywhere}\"]"), &format!("smtp = [\"{second}\"]")));
    world.reload().await;
    until(|| async { SmtpClient::connect(first).await.is_err().then_some(()) }, "the port to be closed").await;
    assert_eq!(kept.command("NOOP").await.unwrap().code, 250, "sessions that came by it go on");
    hand_in(second, SENDER, &["bob@dane.test"], content("bob@dane.test").as_bytes()).await;
    let status = world.run(&["status"]).await.stdout;
    assert!(status.contains(&second.to_string()) && !status.contains(&first.to_string()), "{status}");
    world.arrives("dane.test", 2).await;
}

#[tokio::test]
async fn the_admin_port_moves() {
    let world = Configured::new(lab()).await;
    let (before, after) = (world.relay.admin, free_port("127.0.0.1").await);
    world.write(|text| text.replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{after}\"")));
    world.reload().await;
    assert_eq!(get(after, "/readyz").await, (200, "ready\n".to_owned()));
    let is_gone = || async { tokio::net::TcpStream::connect(before).await.is_err().then_some(()) };
    until(is_gone, "the port to be closed").await;
    assert_eq!(metrics(after).await["relay_config_reload_failed"], 0.0);
}

#[tokio::test]
async fn listeners_come_change_and_go_with_a_reload() {
    let world = Configured::new(lab()).await;
    let mut old = SmtpClient::ready(world.relay.smtp).await.unwrap();
    let address = free_port("127.0.0.2").await;
    let listener = |lines: &str| format!("[[listener]]\nname = \"in\"\naddresses = [\"{address}\"]\n{lines}\n");
    let nobody = "clients = [\"192.0.2.1\"]";
    world.write(|text| text + &listener(nobody));
    let told = world.reload().await;
    assert!(told.contains("[[listener]] in: clients: not set -> [\"192.0.2.1\"]"), "{told}");
    assert!(reply_to(&mut old, "NOOP").await.starts_with("421 4.3.2"), "other rules hold for its next message");
    let mut client = SmtpClient::ready(address).await.unwrap();
    assert!(reply_to(&mut client, "MAIL FROM:<>").await.starts_with("550 5.7.1"));
    let users = world.folder.path().join("users");
    std::fs::write(&users, "").unwrap();
    world.write(|text| {
        text.replace(nobody, &format!("clients = [\"127.0.0.1\"]\nauth = {users:?}\ntls = \"required\"\ndsn = false"))
    });
    world.reload().await;
    let mut client = SmtpClient::ready(address).await.unwrap();
    assert!(reply_to(&mut client, "MAIL FROM:<>").await.starts_with("530 5.7.0"));
    let mut client = client.starttls("relay.office.test").await.unwrap();
    assert!(reply_to(&mut client, "MAIL FROM:<> RET=HDRS").await.starts_with("555"), "DSN is not offered");
    assert!(reply_to(&mut client, "MAIL FROM:<>").await.starts_with("250"));
    world.write(|text| text.replace("auth = ", "auth = \"/nowhere\" #"));
    let why = world.refused().await;
    assert!(why.contains("[[listener]] in: auth: /nowhere: No such file"), "{why}");
    world.write(|text| text.split("[[listener]]").next().unwrap().to_owned());
    world.reload().await;
    assert!(SmtpClient::connect(address).await.is_err(), "its port is closed");
}

#[tokio::test]
async fn limits_of_what_is_handed_in_are_those_of_now() {
    let world = Configured::new(lab()).await;
    let limit = "[[limit]]\nname = \"house\"\nper = \"network\"\nmessages = [\"1/d\"]\n";
    world.mail("first@office.test").await;
    world.write(|text| text + limit);
    world.reload().await;
    world.mail("second@office.test").await;
    let mut client = SmtpClient::ready(world.relay.smtp).await.unwrap();
    assert!(reply_to(&mut client, "MAIL FROM:<alice@office.test>").await.starts_with("451 4.7.1"));
    assert_eq!(world.metric("relay_limits_met_total{level=\"reached\",limit=\"house\"}").await, 1.0);
    world.write(|text| text.replace(limit, ""));
    world.reload().await;
    world.mail("third@office.test").await;
}

#[tokio::test]
async fn archives_are_those_of_the_next_message() {
    let world = Configured::new(lab().domain("archive.test", |d| d)).await;
    let archive = "[[archive]]\nto = \"journal@archive.test\"\nsenders = [\"@office.test\"]\n\
                   recipients = [\"office.test\"]\nform = \"journal\"\n";
    world.mail("first@office.test").await;
    world.write(|text| text + archive);
    world.reload().await;
    world.mail("second@office.test").await;
    let copy = world.arrives("archive.test", 1).await;
    assert!(copy.contains("X-MS-Journal-Report:") && copy.contains("second@office.test"), "{copy}");
    world.write(|text| text.replace("\"journal\"", "\"original\""));
    world.reload().await;
    world.mail("third@office.test").await;
    assert!(world.arrives("archive.test", 2).await.contains("A copy of a message"));
    world.write(|text| text.replace(&archive.replace("\"journal\"", "\"original\""), ""));
    world.reload().await;
    world.mail("fourth@office.test").await;
    assert_eq!(world.metric("relay_archive_copies_total").await, 2.0);
}

#[tokio::test]
async fn another_certificate_is_shown_from_the_next_handshake_on() {
    let world = Configured::new(lab()).await;
    let file = world.folder.path().join("own.pem");
    std::fs::write(&file, certificate(2040)).unwrap();
    world.add("listen", &format!("certificate = {file:?}\nprivate_key = {file:?}"));
    world.reload().await;
    let expiry = async || world.metric("relay_smtp_certificate_expiry_timestamp_seconds").await;
    until(async || (expiry().await == 2_208_988_800.0).then_some(()), "the new certificate").await;
    let mut kept = SmtpClient::ready(world.relay.smtp).await.unwrap().starttls("relay.office.test").await.unwrap();
    // The same file, renewed: a reload reads it and dismisses nobody.
    std::fs::write(&file, certificate(2041)).unwrap();
    world.reload().await;
    until(async || (expiry().await == 2_240_611_200.0).then_some(()), "the renewed certificate").await;
    assert_eq!(kept.command("NOOP").await.unwrap().code, 250);
    std::fs::write(&file, "nothing").unwrap();
    let why = world.refused().await;
    assert!(why.contains("own.pem: no certificate in PEM form"), "{why}");
    assert_eq!(expiry().await, 2_240_611_200.0);
}

#[tokio::test]
async fn rules_for_destinations_hold_for_the_next_attempt_of_what_waits() {
    let world = Configured::new(lab().domain("plain.test", |d| d.plain())).await;
    let demand = "[[destination]]\ndomains = [\"plain.test\"]\ntls = \"dane-only\"\n";
    world.write(|text| text + demand);
    assert!(world.reload().await.contains("[[destination]] plain.test: tls: not set -> \"dane-only\""));
    world.mail("bob@plain.test").await;
    until(async || (world.deferrals("dane-required").await > 0.0).then_some(()), "an attempt").await;
    assert_eq!(world.lab.mx("plain.test").unwrap().messages().len(), 0);
    let elsewhere = "[[destination]]\ndomains = [\"plain.test\"]\nnext_hop = \"mx.office.test\"\n";
    world.write(|text| text.replace(demand, elsewhere));
    world.reload().await;
    world.arrives("office.test", 1).await;
}

#[tokio::test]
async fn the_ways_to_the_dns_are_others_for_the_next_look_up_and_nothing_is_left_of_those_before() {
    let dead = |text: String| {
        text.replace("upstreams = [\"", "upstreams = [\"udp://127.0.0.9:9\"] #")
            .replace("timeout = \"5s\"", "timeout = \"200ms\"\ndeadline = \"1s\"")
    };
    let world = Configured::with(lab().domain("dane.test", |d| d), dead).await;
    world.mail("bob@dane.test").await;
    until(async || (world.deferrals("dns-unavailable").await > 0.0).then_some(()), "an attempt").await;
    world.write(|text| {
        text.replace("upstreams = [\"udp://127.0.0.9:9\"] #", "upstreams = [\"")
            .replace("timeout = \"200ms\"\ndeadline = \"1s\"", "timeout = \"5s\"")
    });
    world.reload().await;
    world.arrives("dane.test", 1).await;
    let upstream = world.lab.dns().upstream();
    let healthy = || async {
        let metrics = metrics(world.relay.admin).await;
        let paths: Vec<String> =
            metrics.into_keys().filter(|name| name.starts_with("relay_dns_path_healthy")).collect();
        (!paths.is_empty() && paths.iter().all(|path| path.contains(&upstream))).then_some(())
    };
    until(healthy, "the paths of now alone").await;
    let before = std::fs::read_to_string(world.file()).unwrap();
    world.write(|text| text.replace("trust_anchors = \"", "trust_anchors = \"/nowhere"));
    assert!(world.refused().await.contains("[dns] trust_anchors: /nowhere"));
    std::fs::write(world.file(), before).unwrap();
    world.reload().await;
}

#[tokio::test]
async fn what_delivery_may_do_is_what_the_configuration_says_now() {
    let world = Configured::new(lab().domain("dane.test", |d| d)).await;
    world.write(|text| text.replace("allow_loopback = true", "allow_loopback = false"));
    world.reload().await;
    world.mail("bob@dane.test").await;
    let refused = async || {
        let metrics = metrics(world.relay.admin).await;
        let is_one = |(name, by): (&String, &f64)| {
            let causes = ["cause=\"mail-loop\"", "cause=\"address-forbidden\""];
            causes.iter().any(|cause| name.contains(cause)) && *by > 0.0
        };
        metrics.iter().any(is_one).then_some(())
    };
    until(refused, "an attempt").await;
    assert_eq!(world.lab.mx("dane.test").unwrap().connections(), 0);
    world.write(|text| text.replace("allow_loopback = false", "allow_loopback = true"));
    world.reload().await;
    world.mail("eve@dane.test").await;
    world.arrives("dane.test", 1).await;
}

#[tokio::test]
async fn policies_of_tls_are_what_the_configuration_says_now() {
    let lab = lab().domain("broken.test", |d| d.plain().host(|h| h.starttls(StartTls::BrokenHandshake)));
    let world = Configured::with(lab, |text| text.replace("[tls]\n", "[tls]\nclear_text_fallback = false\n")).await;
    world.mail("bob@broken.test").await;
    let waits = async || {
        let metrics = metrics(world.relay.admin).await;
        let all = metrics.iter().filter(|(name, _)| name.starts_with("relay_recipient_deferrals_total"));
        (all.map(|(_, by)| by).sum::<f64>() > 0.0).then_some(())
    };
    until(waits, "an attempt").await;
    assert_eq!(world.lab.mx("broken.test").unwrap().messages().len(), 0);
    world.write(|text| text.replace("clear_text_fallback = false", "clear_text_fallback = true"));
    world.reload().await;
    world.arrives("broken.test", 1).await;
}

#[tokio::test]
async fn mta_sts_is_asked_from_the_next_message_on() {
    let lab = lab().domain("sts.test", |d| {
        d.plain().host(|h| h.certificate(dane_relay::lab::Certificate::Issued)).mta_sts(|policy| policy)
    });
    let world = Configured::with(lab, |text| text.replace("[mta_sts]\n", "[mta_sts]\nenabled = false\n")).await;
    let by = |tls: &str| format!("relay_recipients_delivered_total{{tls=\"{tls}\"}}");
    world.mail("bob@sts.test").await;
    world.arrives("sts.test", 1).await;
    until(async || metrics(world.relay.admin).await.get(&by("unauthenticated")).copied(), "no policy").await;
    world.write(|text| text.replace("enabled = false", "enabled = true"));
    world.reload().await;
    world.mail("eve@sts.test").await;
    world.arrives("sts.test", 2).await;
    until(async || metrics(world.relay.admin).await.get(&by("webpki")).copied(), "the policy").await;
}

#[tokio::test]
async fn what_senders_are_told_and_when_is_what_the_configuration_says_now() {
    let lab = lab()
        .domain("null.test", |d| d.null_mx())
        .domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later"))));
    let world = Configured::new(lab).await;
    world.mail("bob@null.test").await;
    let english = world.arrives("office.test", 1).await;
    let dutch = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/templates/nl");
    world.add("notify", &format!("templates = {dutch:?}"));
    world.reload().await;
    world.mail("bob@null.test").await;
    let report = world.arrives("office.test", 2).await;
    let subject = |text: &str| text.lines().find(|line| line.starts_with("Subject: ")).map(str::to_owned).unwrap();
    assert_ne!(subject(&report), subject(&english));
    world.mail("bob@busy.test").await;
    until(async || (heard(world.lab.mx("busy.test").unwrap(), "MAIL") > 1).then_some(()), "an attempt").await;
    world.add("notify", "delay_after = \"1ms\"");
    world.reload().await;
    assert!(world.arrives("office.test", 3).await.contains("bob@busy.test"), "a message that waits already");
    world.write(|text| text.replace(&format!("templates = {dutch:?}\n"), ""));
    world
        .add("notify", "html = false\nlanguages = [\"en\"]\nsender_languages = { \"office.test\" = [\"fr\", \"de\"] }");
    world.reload().await;
    world.mail("bob@null.test").await;
    let report = world.arrives("office.test", 4).await;
    assert_eq!(subject(&report), "Subject: Non remis : Hello");
    assert!(report.contains("\r\nDeutsch\r\n-------\r\n") && !report.contains("text/html"), "{report}");
    world.add("notify", "templates = \"/nowhere\" #");
    assert!(world.run(&["reload"]).await.code == 78);
}

#[tokio::test]
async fn the_schedule_of_retries_is_that_of_now() {
    let lab = lab().domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later"))));
    let world = Configured::new(lab).await;
    world.mail("bob@busy.test").await;
    until(async || (heard(world.lab.mx("busy.test").unwrap(), "MAIL") > 1).then_some(()), "an attempt").await;
    world.write(|text| text.replace("expire_after = \"60s\"", "expire_after = \"1s\""));
    world.reload().await;
    assert!(world.arrives("office.test", 1).await.contains("bob@busy.test"), "it is returned");
}

#[tokio::test]
async fn floors_of_the_spool_are_those_of_now_and_its_place_waits_for_a_restart() {
    let world = Configured::new(lab()).await;
    world.write(|text| text.replace("min_free_bytes = 0", &format!("min_free_bytes = {}", 1_000_000_000_000_000_u64)));
    world.reload().await;
    let full = || async { (get(world.relay.admin, "/readyz").await.0 == 503).then_some(()) };
    until(full, "the relay to refuse mail").await;
    let elsewhere = world.folder.path().join("elsewhere");
    let here = world.folder.path().join("spool");
    world.write(|text| text.replace(&format!("min_free_bytes = {}", 1_000_000_000_000_000_u64), "min_free_bytes = 0"));
    world.reload().await;
    let moved = world.folder.path().join("moved.toml");
    let text = std::fs::read_to_string(world.file()).unwrap();
    std::fs::write(&moved, text.replace(&format!("path = {here:?}"), &format!("path = {elsewhere:?}"))).unwrap();
    // The running relay is asked at the spool of the usual file, when none runs on the one that is named.
    let usual = world.file();
    let variables = [("RELAY_CONFIG", usual.as_os_str())];
    let diff = crate::process::run_with(&variables, ["config", "diff", moved.to_str().unwrap()]).await;
    let ProgramOutput { code, stdout, stderr } = diff;
    assert_eq!(code, 1, "{stderr}");
    let line = format!("[spool] path: {here:?} -> {elsewhere:?} (needs a restart: the mail that waits is there)\n");
    assert_eq!(stdout, line);
    std::fs::rename(&moved, world.file()).unwrap();
    world.relay.hang_up();
    let waiting = async || (world.metric("relay_config_keys_waiting_for_restart").await == 1.0).then_some(());
    until(waiting, "the reload").await;
    assert!(!elsewhere.exists());
    assert_eq!(get(world.relay.admin, "/readyz").await.0, 200);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_refused_in_words_and_the_one_before_stays_in_force() {
    let world = Configured::new(lab().domain("dane.test", |d| d)).await;
    let good = std::fs::read_to_string(world.file()).unwrap();
    let diff = world.run(&["config", "diff"]).await;
    assert_eq!((diff.code, diff.stdout.as_str()), (0, "No difference.\n"), "{}", diff.stderr);
    let loaded = world.metric("relay_config_loaded_timestamp_seconds").await;
    for (broken, words) in [
        (good.replace("[listen]", "[listem]"), "relay.toml:2: [listem]: there is no such key"),
        (good.replace("hostname = \"", "hostname = "), "relay.toml:1: "),
        (good.replace("[delivery]", "[delivery]\nmax_concurrent = 0"), "[delivery] max_concurrent: 0: write a number"),
        (good.replace("[listen]", "[notify]\ntemplates = \"/nowhere\"\n[listen]"), "/nowhere/reports.toml"),
        (good.replace("roots = \"", "roots = \"/nowhere"), "[tls] roots: /nowhere"),
        (
            good.clone()
                + "[[destination]]\ndomains = [\"x.test\"]\nclient_certificate = { chain = \"/a\", key = \"/b\" }\n",
            "[[destination]] client_certificate.chain: /a: cannot be read",
        ),
    ] {
        std::fs::write(world.file(), &broken).unwrap();
        let why = world.refused().await;
        assert!(why.contains(words), "{words}: {why}");
        assert_eq!(world.metric("relay_config_reload_failed").await, 1.0);
    }
    let status = world.run(&["status"]).await;
    assert_eq!(status.code, 0, "{}", status.stderr);
    assert!(status.stdout.contains("refused at ") && status.stdout.contains("/a"), "{}", status.stdout);
    assert!(world.metric("relay_config_loaded_timestamp_seconds").await <= loaded + 0.5);
    world.mail("bob@dane.test").await;
    world.arrives("dane.test", 1).await;
    std::fs::write(world.file(), good).unwrap();
    world.reload().await;
    assert_eq!(world.metric("relay_config_reload_failed").await, 0.0);
    assert!(!world.run(&["status"]).await.stdout.contains("refused"));
}

#[tokio::test]
async fn without_a_relay_there_is_nothing_to_reload_and_a_broken_file_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, format!("[spool]\npath = {:?}\n", folder.path().join("spool"))).unwrap();
    let said = run(["reload", "--config", file.to_str().unwrap()]).await;
    assert_eq!(said.code, 69, "{}", said.stderr);
    assert!(said.stderr.contains("no relay runs on the spool"), "{}", said.stderr);
    let said = run(["config", "diff", file.to_str().unwrap()]).await;
    assert_eq!(said.code, 69, "{}", said.stderr);
    std::fs::write(&file, "[listen\n").unwrap();
    let said = run(["reload", "--config", file.to_str().unwrap()]).await;
    assert_eq!(said.code, 78, "{}", said.stderr);
    let said = run(["config", "diff", file.to_str().unwrap()]).await;
    assert_eq!(said.code, 78, "{}", said.stderr);
}

#[tokio::test]
async fn limits_for_receiving_hosts_are_those_of_now() {
    let lab = lab().domain("dane.test", |d| d);
    let slow = |text: String| text + "[[host]]\nhosts = [\"*.dane.test\"]\nrate = \"1/d\"\n";
    let world = Configured::with(lab, slow).await;
    world.mail("first@dane.test").await;
    world.arrives("dane.test", 1).await;
    world.mail("second@dane.test").await;
    let waits = async || {
        let status = world.run(&["status"]).await.stdout;
        status.contains("at its rate").then_some(())
    };
    until(waits, "the message to wait").await;
    assert_eq!(world.lab.mx("dane.test").unwrap().messages().len(), 1);
    world.write(|text| text.replace("rate = \"1/d\"", "rate = \"1000/s\""));
    world.reload().await;
    world.arrives("dane.test", 2).await;
}

#[tokio::test]
async fn other_domains_are_watched_as_the_configuration_says_now() {
    let unwatched = |text: String| text + "[watch]\ndomains = 0\n";
    let world = Configured::with(lab().domain("dane.test", |d| d), unwatched).await;
    world.mail("bob@dane.test").await;
    world.arrives("dane.test", 1).await;
    assert_eq!(world.metric("relay_watch_domains").await, 0.0);
    world.write(|text| text.replace("domains = 0", "domains = 1000\nevery = \"1h\""));
    world.reload().await;
    until(async || (world.metric("relay_watch_domains").await > 0.0).then_some(()), "a domain to be watched").await;
}

#[tokio::test]
async fn as_many_domains_are_an_incident_as_the_configuration_says_now() {
    let lab = (0..4).fold(lab().domain("good.test", |d| d), |lab, nth| {
        lab.domain(&format!("down{nth}.test"), |d| d.host(|h| h.down()))
    });
    let world = Configured::with(lab, |text| text + "[incidents]\ndomains = 1000\n").await;
    world.mail("bob@good.test").await;
    world.arrives("good.test", 1).await;
    for nth in 0..4 {
        world.mail(&format!("bob@down{nth}.test")).await;
    }
    let open = async || {
        let named = |name: &&String| name.starts_with("relay_incidents_open");
        metrics(world.relay.admin).await.keys().any(|name| named(&name)).then_some(())
    };
    until(async || (world.deferrals("connect-failed").await >= 8.0).then_some(()), "mail to fail").await;
    assert_eq!(open().await, None);
    world.write(|text| text.replace("domains = 1000", "domains = 3"));
    world.reload().await;
    until(open, "an incident").await;
}
