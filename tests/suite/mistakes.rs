//! What people write wrongly in a configuration, and what they are told: the line, the key, what to write.

use crate::process::{ProgramOutput, Serving, run, run_with};
use crate::relay::{PATIENCE, SENDER, configuration, content, hand_in, lab};
use std::ffi::OsStr;
use std::path::Path;
use toml::{Table, Value};

/// The text of a file, and for each line that is told: how it begins behind the name of the file, and words
/// of it.
const MISTAKES: &[(&str, &[(&str, &str)])] = &[
    // The name.
    ("hostname = \"relay\"", &[("1: hostname: ", "has no dot")]),
    ("hostname = \"localhost\"", &[("1: hostname: ", "write it in full")]),
    ("hostname = \"192.0.2.1\"", &[("1: hostname: ", "is an address: write a name")]),
    ("hostname = \"bad host\"", &[("1: hostname: ", "write a domain name such as relay.example.org")]),
    ("hostname = relay.example.org", &[("1: ", "this is no TOML"), (" ", "the values are looked at when")]),
    ("hostname = “relay.example.org”", &[("1: ", "typographic quotation marks"), (" ", "the values")]),
    ("postmaster = \"bob\"", &[("1: postmaster: ", "write an address such as")]),
    ("[listen]\nhostname = \"a.example\"", &[("2: [listen] hostname: ", "at the top of the file")]),
    // Keys.
    ("[listen]\nsmpt = []", &[("2: [listen] smpt: ", "did you mean `smtp`?")]),
    ("[listn]\nsmtp = []", &[("1: [listn]: ", "did you mean `listen`?")]),
    ("[dns]\nclients = [\"10.0.0.0/8\"]", &[("2: [dns] clients: ", "it belongs below [listen]")]),
    ("[tls]\nnext_hop = \"a.example\"", &[("2: [tls] next_hop: ", "it belongs below [[destination]]")]),
    ("[destination]\ndomains = [\"a.example\"]", &[("1: [destination]: ", "two brackets, as [[destination]]")]),
    ("[listen]\nsmtp = []\nsmtp = []", &[("3: ", "this is no TOML"), (" ", "the values")]),
    // Addresses and ports.
    ("[listen]\nsmtp = \"0.0.0.0:25\"", &[("2: [listen] smtp: ", "a list in brackets")]),
    ("[listen]\nsmtp = []", &[("2: [listen] smtp: ", "at least 1")]),
    ("[listen]\nsmtp = [\"0.0.0.0\"]", &[("2: [listen] smtp: ", "write \"IP:PORT\"")]),
    ("[listen]\nsmtp = [\"localhost:25\"]", &[("2: [listen] smtp: ", "write \"IP:PORT\"")]),
    ("[listen]\nsmtp = [\"0.0.0.0:25\", \"127.0.0.1:25\"]", &[("2: [listen] smtp: ", "are one port")]),
    (
        "[listen]\nsmtp = [\"127.0.0.1:2525\"]\n[admin]\nlisten = \"127.0.0.1:2525\"",
        &[("4: [admin] listen: ", "give another port")],
    ),
    ("[admin]\nlisten = \"9925\"", &[("2: [admin] listen: ", "\"9925\" is no address to listen on")]),
    (
        "[listen]\nclients = [\n  \"exchange.example.org\",\n  \"192.0.2.0/33\",\n]",
        &[("3: [listen] clients: ", "is no address and no network"), ("4: [listen] clients: ", "is no address")],
    ),
    ("[delivery]\nport = 0", &[("2: [delivery] port: ", "from 1 to 65535")]),
    ("[mta_sts]\nport = 70000", &[("2: [mta_sts] port: ", "from 1 to 65535")]),
    // Numbers and times.
    ("[listen]\nmax_message_bytes = 0", &[("2: [listen] max_message_bytes: 0: ", "from 1024 to 1073741824 (octets)")]),
    ("[listen]\nmax_message_bytes = \"50MB\"", &[("2: [listen] max_message_bytes: ", "write a number from 1024")]),
    ("[listen]\nidle_timeout = \"0s\"", &[("2: [listen] idle_timeout: ", "from 1s to 1d")]),
    ("[listen]\nidle_timeout = 300", &[("2: [listen] idle_timeout: ", "a unit is missing, as in \"300s\"")]),
    ("[listen]\nidle_timeout = \"5M\"", &[("2: [listen] idle_timeout: ", "M means months; \"5m\" is minutes")]),
    ("[delivery]\nreply_timeout = \"500000000000y\"", &[("2: [delivery] reply_timeout: ", "from 1s to 1h")]),
    ("[delivery]\nmax_concurrent = 2305843009213693952", &[("2: [delivery] max_concurrent: ", "from 1 to 100000")]),
    ("[delivery]\nmax_per_next_hop = 2305843009213693952", &[("2: [delivery] max_per_next_hop: ", "to 100000")]),
    ("[delivery]\nmax_connections = -1", &[("2: [delivery] max_connections: -1: ", "write a number from 1")]),
    ("[delivery]\nmax_connections = 99999999999999999999", &[("2: [delivery] max_connections: ", "to 100000")]),
    ("[delivery]\nrate = \"0/s\"", &[("2: [delivery] rate: ", "write \"100/m\"")]),
    ("[delivery]\nrate = \"4294967295/s\"", &[("2: [delivery] rate: ", "from 1 to 1000000")]),
    ("[retry]\nfirst = \"2h\"", &[("2: [retry] first: ", "not above longest")]),
    ("[retry]\nexpire_after = \"1m\"", &[("2: [retry] expire_after: ", "is below first")]),
    ("[retry]\nexpire_after = \"4 parsecs\"", &[("2: [retry] expire_after: ", "this is no time; write a time from")]),
    ("[watch]\nevery = \"1m\"", &[("2: [watch] every: ", "from 1h to 30d")]),
    ("[notify]\nreturn_full_below = 10485761", &[("2: [notify] return_full_below: ", "to 10485760 (octets)")]),
    ("[tls]\nclear_text_fallback = \"no\"", &[("2: [tls] clear_text_fallback: ", "true or false")]),
    // The DNS.
    ("[dns]\nupstreams = [\"1.1.1.1\", \"system\"]", &[("2: [dns] upstreams: ", "udp://IP:PORT")]),
    ("[dns]\nupstreams = []", &[("2: [dns] upstreams: ", "at least 1")]),
    ("[dns]\nupstreams = [\"tls://192.0.2.1\"]", &[("2: [dns] upstreams: ", "add #NAME")]),
    ("[dns]\nmode = \"trust-ad\"\nupstreams = [\"udp://192.0.2.1\"]", &[("2: [dns] mode: ", "on loopback")]),
    ("[dns]\nmode = \"validated\"", &[("2: [dns] mode: ", "did you mean `validate`?")]),
    ("[dns]\ntimeout = \"31s\"", &[("2: [dns] timeout: ", "not above deadline")]),
    ("[dns]\nprivate_zones = [\"a.example\", \"A.example\"]", &[("2: [dns] private_zones: ", "twice")]),
    // Destinations.
    ("[[destination]]\ntls = \"encrypt\"", &[("1: [[destination]]: ", "`domains` is missing")]),
    ("[[destination]]\ndomains = [\"a.example\"]", &[("1: [[destination]]", "changes nothing")]),
    (
        "[[destination]]\ndomains = [\"a.example\"]\ntls = \"encrypt\"\n\
         [[destination]]\ndomains = [\"b.example\", \"A.example\"]\ntls = \"dane-only\"",
        &[("5: [[destination]] domains: ", "a.example: named twice for mail; only one can hold")],
    ),
    (
        "[[destination]]\ndomains = [\"*example.org\"]\ntls = \"encrypt\"",
        &[("2: [[destination]] domains: ", "write \"*.example.org\" for all below it")],
    ),
    (
        "[[destination]]\ndomains = [\"@example.org\"]\ntls = \"encrypt\"",
        &[("2: [[destination]] domains: ", "write the domain alone, \"example.org\"")],
    ),
    (
        "[[destination]]\ndomains = [\"a.example\"]\nnext_hop = \"smtp://mx.example:25\"",
        &[("3: [[destination]] next_hop: ", "leave smtp:// out and write \"mx.example:25\"")],
    ),
    (
        "[[destination]]\ndomains = [\"a.example\"]\nnext_hop = \"192.0.2.10:\"",
        &[("3: [[destination]] next_hop: ", "the port is missing; write \"192.0.2.10:25\"")],
    ),
    (
        "[[destination]]\ndomains = [\"a.example\"]\nnext_hop = \"192.0.2.10:0\"",
        &[("3: [[destination]] next_hop: ", "there is no port 0")],
    ),
    (
        "[listen]\nsmtp = [\"0.0.0.0:2525\"]\n[[destination]]\ndomains = [\"a.example\"]\nnext_hop = \"127.0.0.1:2525\"",
        &[("5: [[destination]] next_hop: ", "is this relay itself")],
    ),
    (
        "[[destination]]\ndomains = [\"a.example\"]\nnext_hop = \"192.0.2.10\"\ntls = \"dane-only\"",
        &[("4: [[destination]] tls: ", "an address has neither TLSA records nor a policy")],
    ),
    (
        "[[destination]]\ndomains = [\"[192.0.2.1]\"]\ntls = \"mta-sts\"",
        &[("3: [[destination]] tls: ", "cannot hold for [192.0.2.1]")],
    ),
    (
        "[[destination]]\ndomains = [\"a.example\"]\ntls = \"dane-onyl\"",
        &[("3: [[destination]] tls: ", "did you mean `dane-only`?")],
    ),
    ("[[destination]]\ndomains = [\"a.example\"]\ntls = \"off\"", &[("3: [[destination]] tls: ", "needs a reason")]),
    (
        "[[destination]]\ndomains = [\"a.example\"]\ntls = \"off\"\nreason = \"x\"\nuntil = 9999-12-31",
        &[("5: [[destination]] until: ", "more than a year away")],
    ),
    (
        "[[destination]]\ndomains = [\"a.example\"]\ntls = \"off\"\nreason = \"x\"\nuntil = \"2027-01-31\"",
        &[("5: [[destination]] until: ", "a day without quotes")],
    ),
    (
        "[[destination]]\ndomains = [\"a.example\"]\nnext_hop = \"a.example\"\nmax_connections = 0",
        &[("4: [[destination]] max_connections: ", "from 1 to 100000")],
    ),
    (
        "[[destination]]\ndomains = [\"a.example\"]\nlogin = { user = \"u\", password = \"x\" }",
        &[("3: [[destination]] login.password: ", "there is no such key")],
    ),
    ("[[host]]\nhosts = [\"a.example\"]", &[("1: [[host]]: ", "changes nothing")]),
    // Files.
    ("[spool]\npath = \"C:\\\\relay\"", &[("2: [spool] path: ", "is no path of this system")]),
    ("[spool]\npath = \"C:\\relay\"", &[("2: [spool] path: ", "is no path of this system")]),
    ("[spool]\npath = \"C:\\spool\"", &[("2: ", "a backslash begins an escape"), (" ", "the values")]),
    ("[spool]\npath = \"/etc/passwd\"", &[("2: [spool] path: ", "/etc/passwd is no folder")]),
    ("[notify]\nlanguages = [\"nl\", \"nl\"]", &[("2: [notify] languages: ", "stands there twice")]),
    ("[notify]\nlanguages = [\"pl\"]", &[("2: [notify] languages: ", "`en`, `nl`, `de`, `fr`")]),
    (
        "[notify]\nsender_languages = { \"a.example\" = [] }",
        &[("2: [notify] sender_languages: ", "a.example: name at least one language")],
    ),
    ("[notify]\ntemplates = \"/nowhere\"", &[("2: [notify] templates: ", "/nowhere/reports.toml: cannot be read: ")]),
    ("[listen]\ncertificate = \"a.pem\"", &[("2: [listen] certificate: ", "private_key is missing")]),
    (
        "[listen]\ncertificate = \"/nowhere.pem\"\nprivate_key = \"/nowhere.key\"",
        &[("2: [listen] certificate: /nowhere.pem", "cannot be read"), ("3: [listen] private_key: /nowhere.key", "")],
    ),
    (
        "[listen]\ncertificate = \"/dev/zero\"\nprivate_key = \"/etc\"",
        &[("2: [listen] certificate: ", "a pipe, a socket or a device"), ("3: [listen] private_key: ", "is a folder")],
    ),
    (
        "[[destination]]\ndomains = [\"a.example\"]\nnext_hop = \"b.example\"\n\
         login = { user = \"u\", password_file = \"/nowhere\" }",
        &[("4: [[destination]] login.password_file: ", "/nowhere: cannot be read")],
    ),
    ("[tls]\nroots = \"/nowhere\"", &[("2: [tls] roots: ", "/nowhere: cannot be read")]),
    ("[dns]\ntrust_anchors = \"/nowhere\"", &[("2: [dns] trust_anchors: ", "/nowhere: cannot be read")]),
    // Several at once, whatever the ends of lines are.
    (
        "hostname = \"relay\"\r\n[listen]\r\nsmpt = []\r\nmax_sessions = 0\r\n[retry]\r\nfirst = \"x\"\r\n",
        &[
            ("1: hostname: ", "has no dot"),
            ("3: [listen] smpt: ", "did you mean"),
            ("4: [listen] max_sessions: ", "from 1"),
            ("6: [retry] first: ", "this is no time"),
        ],
    ),
];

/// A folder with a file, and what the check says of it.
struct Checked {
    folder: tempfile::TempDir,
}

impl Checked {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("relay.toml")
    }

    async fn octets(&self, octets: &[u8]) -> ProgramOutput {
        std::fs::write(self.file(), octets).unwrap();
        run([OsStr::new("config"), OsStr::new("check"), OsStr::new("--config"), self.file().as_os_str()]).await
    }
}

fn lines(said: &ProgramOutput) -> Vec<String> {
    assert_eq!((said.code, said.stdout.as_str()), (78, ""), "{said:?}");
    let behind_the_file = |line: &str| line.split_once("relay.toml:").map(|(_, rest)| rest.to_owned());
    said.stderr.lines().map(|line| behind_the_file(line).unwrap_or_else(|| line.to_owned())).collect()
}

#[tokio::test]
async fn every_mistake_is_told_with_its_line_its_key_and_what_to_write() {
    assert!(MISTAKES.len() >= 60);
    let checked = Checked::new();
    for (text, expected) in MISTAKES {
        let told = lines(&checked.octets(text.as_bytes()).await);
        assert_eq!(told.len(), expected.len(), "{text}\n{told:#?}");
        for (line, (begin, words)) in told.iter().zip(*expected) {
            assert!(line.starts_with(begin) && line.contains(words), "{text}\n{begin} … {words}\nis not\n{line}");
        }
    }
}

#[tokio::test]
async fn a_file_of_another_encoding_is_named_and_marks_and_ends_of_lines_of_windows_are_taken() {
    let checked = Checked::new();
    let good = "hostname = \"relay.example.org\"\r\npostmaster = \"p@example.org\"\r\n";
    let said = checked.octets(format!("\u{feff}{good}").as_bytes()).await;
    assert_eq!(said.code, 0, "{said:?}");
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(good.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let latin1 = [good.as_bytes(), b"# caf\xe9\n"].concat();
    for (octets, words) in [(utf16, "UTF-16"), (latin1, "line 3 holds an octet that is not UTF-8")] {
        let told = lines(&checked.octets(&octets).await);
        assert!(told.len() == 1 && told[0].contains(words) && told[0].contains("as UTF-8"), "{told:?}");
    }
}

#[tokio::test]
async fn a_pipe_is_waited_for_neither_as_the_file_nor_as_what_it_names() {
    let checked = Checked::new();
    let pipe = checked.folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let itself = [OsStr::new("config"), OsStr::new("check"), OsStr::new("--config"), pipe.as_os_str()];
    let said = run(itself).await;
    assert!(said.code == 78 && said.stderr.contains("is a pipe"), "{said:?}");
    let texts = checked.folder.path().join("texts");
    std::fs::create_dir(&texts).unwrap();
    std::fs::rename(&pipe, texts.join("reports.toml")).unwrap();
    let told = lines(&checked.octets(format!("[notify]\ntemplates = {texts:?}\n").as_bytes()).await);
    assert!(told.len() == 1 && told[0].starts_with("2: [notify] templates: "), "{told:?}");
    let said = run(["serve", "--config", checked.file().to_str().unwrap()]).await;
    assert!(said.code == 78 && said.stderr.contains("is a pipe"), "{said:?}");
}

#[tokio::test]
async fn a_file_with_something_else_in_it_is_told_with_the_line_that_names_it() {
    let checked = Checked::new();
    let odd = checked.folder.path().join("odd");
    std::fs::write(&odd, "\nnot what it should be\n").unwrap();
    let odd = odd.to_str().unwrap();
    let other = "[[destination]]\ndomains = [\"a.example\"]\ntls = \"encrypt\"\n";
    let second = format!("{other}[[destination]]\ndomains = [\"b.example\"]\n");
    let login = "next_hop = \"mx.b.example:587\"\nlogin.user = \"u\"\nlogin.password_file";
    let listener = "[[listener]]\nname = \"in\"\naddresses = [\"127.0.0.1:0\"]\nclients = [\"::1\"]\n";
    for (text, line) in [
        (format!("[listen]\ncertificate = {odd:?}\nprivate_key = {odd:?}"), "2: "),
        (format!("[dns]\ntrust_anchors = {odd:?}"), "2: "),
        (format!("[tls]\nroots = {odd:?}"), "2: "),
        (format!("{second}client_certificate = {{ chain = {odd:?}, key = {odd:?} }}"), "6: "),
        (format!("{second}{login} = {odd:?}"), "7: "),
        (format!("{listener}auth = {odd:?}\ncertificate = {odd:?}\nprivate_key = {odd:?}"), "6: "),
    ] {
        let told = lines(&checked.octets(text.as_bytes()).await);
        assert!(told.len() == 1 && told[0].starts_with(line) && told[0].contains(odd), "{text}\n{told:#?}");
    }
}

#[tokio::test]
async fn root_is_told_what_the_user_of_the_service_cannot_read() {
    let checked = Checked::new();
    let spool = checked.folder.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let text = format!("postmaster = \"p@example.org\"\n[spool]\npath = {spool:?}\n");
    let said = checked.octets(text.as_bytes()).await;
    assert!(said.code == 0 && !said.stderr.contains("cannot be read by"), "{said:?}");
    std::fs::set_permissions(checked.file(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // Others own what they make themselves.
    if std::os::unix::fs::chown(&spool, Some(54_321), Some(54_321)).is_ok() {
        let said = checked.octets(text.as_bytes()).await;
        assert!(said.code == 0 && said.stderr.contains("relay.toml cannot be read by user 54321"), "{said:?}");
    }
}

#[tokio::test]
async fn a_variable_of_the_log_that_says_nothing_ends_with_78() {
    for (name, value, words) in [("RELAY_LOG", "xml", "write text or json"), ("RUST_LOG", "loud", "is no level")] {
        let said = run_with(&[(name, OsStr::new(value))], ["serve"]).await;
        assert!(said.code == 78 && said.stderr.contains(name) && said.stderr.contains(words), "{said:?}");
    }
}

/// Every key of `relay config show` whose value is a number or a time.
fn borders_of(shown: &Table) -> Vec<(String, String, bool)> {
    let is_time = |text: &str| humantime::parse_duration(text).is_ok();
    let tables = shown.iter().filter_map(|(name, value)| Some((name, value.as_table()?)));
    let keys = tables.flat_map(|(name, table)| table.iter().map(move |(key, value)| (name, key, value)));
    let bordered = keys.filter_map(|(name, key, value)| match value {
        Value::Integer(_) => Some((name.clone(), key.clone(), false)),
        Value::String(text) if is_time(text) => Some((name.clone(), key.clone(), true)),
        Value::String(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => None,
    });
    bordered.collect()
}

#[tokio::test]
async fn at_every_border_a_value_is_refused_with_its_range_or_the_relay_works() {
    let lab = lab().domain("dane.test", |d| d).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    let good: Table = configuration(&lab, folder.path()).parse().unwrap();
    std::fs::write(&file, good.to_string()).unwrap();
    let with_file = |command: &'static [&'static str]| {
        run(command.iter().map(|word| (*word).to_owned()).chain([file.to_str().unwrap().to_owned()]))
    };
    let shown = with_file(&["config", "show", "--config"]).await;
    let keys = borders_of(&shown.stdout.parse().unwrap());
    assert!(keys.len() >= 28, "{keys:?}");
    let mut delivered = 0;
    for (table, key, is_time) in keys {
        let time = |text: &str| Value::String(text.to_owned());
        let values = match is_time {
            true => [time("0s"), time("1ms"), time("500000000000y"), Value::Integer(1)],
            false => [Value::Integer(0), Value::Integer(1), Value::Integer(i64::MAX), time("500000000000y")],
        };
        for value in values {
            let mut text = good.clone();
            let inside = text.entry(table.clone()).or_insert(Value::Table(Table::new())).as_table_mut().unwrap();
            inside.insert(key.clone(), value.clone());
            std::fs::write(&file, text.to_string()).unwrap();
            let said = with_file(&["config", "check", "--config"]).await;
            assert!(!said.stderr.contains("panicked"), "{said:?}");
            if said.code == 78 {
                let names = format!("[{table}] {key}: ");
                assert!(said.stderr.contains(&names) && said.stderr.contains("from "), "{value}: {said:?}");
                continue;
            }
            assert_eq!(said.code, 0, "[{table}] {key} = {value}: {said:?}");
            // The lab has one port for mail and one for policies.
            if key == "port" {
                continue;
            }
            delivered += 1;
            let relay = Serving::start(Path::new(&file)).await;
            hand_in(relay.smtp, SENDER, &["bob@dane.test"], content("bob@dane.test").as_bytes()).await;
            let host = lab.mx("dane.test").unwrap();
            assert!(host.wait_for_messages(delivered, PATIENCE).await.is_ok(), "[{table}] {key} = {value}");
            relay.terminate();
            assert_eq!(relay.ended().await, 0, "[{table}] {key} = {value}");
        }
    }
    assert!(delivered >= 10, "{delivered}");
}
