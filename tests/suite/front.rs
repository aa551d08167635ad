//! The front door: several listeners, each with its own policy; users, certificates and balancers; floods.

use crate::process::{Serving, run_saying};
use crate::relay::{PATIENCE, World, content, lab, metrics, queue_id, until};
use crate::reload::{Configured, free_port};
use dane_relay::config::users::hash;
use dane_relay::config::{Config, ListenerConfig};
use dane_relay::lab::mx::client::SmtpClient;
use data_encoding::BASE64;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// How many idle clients a flood has; `FRONT_IDLE` asks for more.
const IDLE: usize = 300;
/// How many of a flood drip, an octet at a time; `FRONT_SLOW` asks for more.
const SLOW: usize = 30;
const PASSWORD: &str = "correct horse";

fn listeners(text: &str) -> Vec<ListenerConfig> {
    Config::parse(text, Path::new("front.toml")).unwrap().listener
}

/// A listener on a loopback address of its own.
fn one(name: &str, ip: &str, lines: &str) -> ListenerConfig {
    listeners(&format!("[[listener]]\nname = {name:?}\naddresses = [\"{ip}:0\"]\n{lines}\n")).remove(0)
}

/// A relay with these listeners behind that of `[listen]`.
async fn front(more: Vec<ListenerConfig>) -> World {
    World::with(lab(), |_lab, config| config.listener = more).await
}

/// A file with one user.
fn users(folder: &Path) -> PathBuf {
    let file = folder.join("users");
    std::fs::write(&file, format!("alice {} alice@office.test\n", hash(PASSWORD).unwrap())).unwrap();
    file
}

fn plain(name: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", BASE64.encode(format!("\0{name}\0{password}").as_bytes()))
}

async fn secured(address: SocketAddr) -> SmtpClient {
    SmtpClient::ready(address).await.unwrap().starttls("relay.office.test").await.unwrap()
}

async fn says(client: &mut SmtpClient, line: &str) -> String {
    client.command(line).await.unwrap().to_string()
}

#[tokio::test]
async fn rfc4954_4_a_user_of_the_file_hands_mail_in_within_tls_and_the_message_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = users(folder.path());
    let door = one("submission", "127.0.0.2", &format!("auth = {file:?}\ntls = \"required\"\nsenders_of_user = true"));
    let world = front(vec![door]).await;
    let address = world.relay.smtp[1];
    let mut clear = SmtpClient::ready(address).await.unwrap();
    assert_eq!(
        says(&mut clear, "MAIL FROM:<alice@office.test>").await,
        "530 5.7.0 must issue a STARTTLS command first"
    );
    assert!(says(&mut clear, &plain("alice", PASSWORD)).await.starts_with("530 5.7.0"));
    let mut client = secured(address).await;
    assert!(says(&mut client, "MAIL FROM:<alice@office.test>").await.starts_with("530 5.7.0 authentication required"));
    assert!(says(&mut client, &plain("alice", "wrong")).await.starts_with("535 5.7.8"));
    assert!(says(&mut client, &plain("mallory", PASSWORD)).await.starts_with("535 5.7.8"));
    assert!(says(&mut client, &plain("Alice", PASSWORD)).await.starts_with("235 2.7.0"));
    assert!(says(&mut client, "MAIL FROM:<bob@office.test>").await.starts_with("550 5.7.1"));
    let to = "reader@office.test";
    let handed = client.send("alice@office.test", &[to], content(to).as_bytes()).await.unwrap();
    assert!(handed.accepted(), "{handed:?}");
    let arrived = world.mx("office.test").wait_for_messages(1, PATIENCE).await.unwrap();
    let arrived = String::from_utf8_lossy(&arrived[0].content).into_owned();
    assert!(arrived.contains("with ESMTPSA id"), "{arrived}");
    let counted = metrics(world.relay.admin).await;
    assert_eq!(counted["relay_smtp_logins_total{result=\"right\"}"], 1.0);
    assert_eq!(counted["relay_smtp_logins_total{result=\"wrong\"}"], 2.0);
}

#[tokio::test]
async fn guessing_is_locked_out_by_address_and_the_user_comes_in_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let door = one("submission", "127.0.0.2", &format!("auth = {:?}", users(folder.path())));
    let world = front(vec![door]).await;
    let address = world.relay.smtp[1];
    let guesses = (0..30).map(|n| async move {
        let mut client = secured(address).await;
        says(&mut client, &plain("alice", &format!("guess {n}"))).await
    });
    let answers = futures_util::future::join_all(guesses).await;
    let (looked_at, others): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.starts_with("535 5.7.8"));
    assert_eq!(looked_at.len(), 10, "{answers:?}");
    assert!(others.iter().all(|answer| answer.starts_with("454 4.7.0")), "{others:?}");
    let mut locked_out = secured(address).await;
    assert!(says(&mut locked_out, &plain("alice", PASSWORD)).await.starts_with("454 4.7.0"), "not even the right one");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.77:0".parse().unwrap()).unwrap();
    let elsewhere = SmtpClient::over(socket.connect(address).await.unwrap()).await.unwrap();
    let mut elsewhere = elsewhere;
    elsewhere.ehlo("client.test").await.unwrap();
    let mut elsewhere = elsewhere.starttls("relay.office.test").await.unwrap();
    assert!(says(&mut elsewhere, &plain("alice", PASSWORD)).await.starts_with("235 2.7.0"));
}

#[tokio::test]
async fn a_balancer_says_for_whom_it_connects_and_nobody_else_is_believed() {
    let door = "clients = [\"192.0.2.0/24\"]\nproxy_protocol_from = [\"127.0.0.1\"]";
    let world =
        front(vec![one("balanced", "127.0.0.2", door), one("open", "127.0.0.3", "clients = [\"127.0.0.1\"]")]).await;
    let by = async |address: SocketAddr, header: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(header).await.unwrap();
        stream
    };
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let second = [&signature[..], &[0x21, 0x11, 0, 12, 192, 0, 2, 7, 127, 0, 0, 1, 1, 1, 0, 25]].concat();
    let mail = "MAIL FROM:<sender@office.test>";
    for (header, answer) in [
        (&b"PROXY TCP4 192.0.2.7 127.0.0.2 4660 25\r\n"[..], "250 2.1.0"),
        (&second[..], "250 2.1.0"),
        (&b"PROXY TCP4 198.51.100.7 127.0.0.2 4660 25\r\n"[..], "550 5.7.1 relaying denied: 198.51.100.7"),
        (&b"PROXY UNKNOWN\r\n"[..], "550 5.7.1 relaying denied: 127.0.0.1"),
    ] {
        let mut client = SmtpClient::over(by(world.relay.smtp[1], header).await).await.unwrap();
        client.ehlo("client.test").await.unwrap();
        let said = says(&mut client, mail).await;
        assert!(said.starts_with(answer), "{}: {said}", header.escape_ascii());
    }
    // Without a header: closed, and not a word is said.
    let mut stream = by(world.relay.smtp[1], b"EHLO client.test\r\n").await;
    let mut said = Vec::new();
    let _reset_or_closed = stream.read_to_end(&mut said).await;
    assert_eq!(said, b"");
    assert_eq!(metrics(world.relay.admin).await["relay_smtp_proxy_failures_total"], 1.0);
    // Elsewhere it is a bad command, and the client is who it is.
    let stream = by(world.relay.smtp[2], b"PROXY TCP4 192.0.2.7 127.0.0.2 4660 25\r\n").await;
    let mut client = SmtpClient::over(stream).await.unwrap();
    assert!(client.reply().await.unwrap().to_string().starts_with("500 5.5.2"));
    client.ehlo("client.test").await.unwrap();
    assert!(says(&mut client, mail).await.starts_with("250 2.1.0"));
    assert!(says(&mut client, "XCLIENT ADDR=192.0.2.7").await.starts_with("502 5.5.1"));
}

/// A client that comes from another address of this host.
async fn from(ip: &str, address: SocketAddr) -> SmtpClient {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
    SmtpClient::over(socket.connect(address).await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn twenty_connections_of_twenty_messages_as_exchange_makes_them_meet_no_limit() {
    let world = World::start(lab()).await;
    let connections = (0..20).map(|n| {
        let smtp = world.smtp();
        async move {
            let mut client = SmtpClient::ready(smtp).await.unwrap().starttls("relay.office.test").await.unwrap();
            for m in 0..20 {
                let to = format!("reader{n}.{m}@office.test");
                let handed = client.send("sender@office.test", &[&to], content(&to).as_bytes()).await.unwrap();
                assert!(handed.accepted(), "{handed:?}");
            }
            assert_eq!(client.quit().await.unwrap().code, 221);
        }
    });
    futures_util::future::join_all(connections).await;
    let counted = world.metrics().await;
    let all = |name: &str| counted.iter().filter(|(one, _)| one.starts_with(name)).map(|(_, n)| n).sum::<f64>();
    assert_eq!(all("relay_messages_accepted_total"), 400.0);
    assert_eq!(all("relay_smtp_sessions_refused_total") + all("relay_smtp_refusals_total"), 0.0);
    assert_eq!(counted["relay_smtp_sessions_closed_total{reason=\"quit\"}"], all("relay_smtp_sessions_closed_total"));
}

#[tokio::test]
async fn rfc5321_7_8_a_client_that_connects_without_end_is_told_421_and_no_other_one_is() {
    let world = World::with(lab(), |_lab, config| config.listen.max_new_connections = 3).await;
    for _ in 0..3 {
        assert_eq!(SmtpClient::connect(world.smtp()).await.unwrap().greeting().code, 220);
    }
    let refused = SmtpClient::connect(world.smtp()).await.unwrap();
    assert_eq!(
        refused.greeting().to_string(),
        "421 4.7.0 too many connections from your address, try again in a minute"
    );
    assert_eq!(from("127.0.0.77", world.smtp()).await.greeting().code, 220);
    assert_eq!(world.metrics().await["relay_smtp_sessions_refused_total{reason=\"new-connections\"}"], 1.0);
}

#[tokio::test]
async fn rfc5321_7_8_a_session_without_end_is_closed_between_two_messages_and_never_in_one() {
    let world = World::with(lab(), |_lab, config| config.listen.max_commands = 5).await;
    let to = ["a@office.test", "b@office.test", "c@office.test", "d@office.test"];
    // EHLO and six commands of one message.
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let handed = client.send("sender@office.test", &to, content("all").as_bytes()).await.unwrap();
    assert!(handed.accepted(), "{handed:?}");
    assert_eq!(says(&mut client, "NOOP").await, "421 4.7.0 too many commands in one session, connect again");
    let mut polite = SmtpClient::ready(world.smtp()).await.unwrap();
    assert!(polite.send("sender@office.test", &to, content("all").as_bytes()).await.unwrap().accepted());
    assert_eq!(polite.quit().await.unwrap().code, 221, "whoever goes by itself");
    let closed = async || world.metrics().await["relay_smtp_sessions_closed_total{reason=\"commands\"}"];
    until(async || (closed().await == 1.0).then_some(()), "the end of the session").await;
}

#[tokio::test]
async fn a_limit_that_is_reached_is_told_to_the_postmaster_in_one_mail_with_who_and_what() {
    let world = World::with(lab(), |_lab, config| {
        let text =
            "postmaster = \"it@office.test\"\n[[limit]]\nname = \"accounts\"\nper = \"sender\"\nmessages = [\"2/d\"]";
        let limited = Config::parse(text, Path::new("front.toml")).unwrap();
        (config.postmaster, config.limit) = (limited.postmaster, limited.limit);
    })
    .await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let to = "reader@office.test";
    for _ in 0..2 {
        assert!(client.send("printer@office.test", &[to], content(to).as_bytes()).await.unwrap().accepted());
    }
    for _ in 0..3 {
        assert!(says(&mut client, "MAIL FROM:<printer@office.test>").await.starts_with("451 4.7.1"));
    }
    assert!(client.send("other@office.test", &[to], content(to).as_bytes()).await.unwrap().accepted());
    let arrived = world.mx("office.test").wait_for_messages(4, PATIENCE).await.unwrap();
    let told = arrived.iter().filter(|message| message.rcpt_to == ["it@office.test"]);
    let told: Vec<String> = told.map(|message| String::from_utf8_lossy(&message.content).into_owned()).collect();
    assert_eq!(told.len(), 1, "{arrived:?}");
    for words in ["accounts", "printer@office.test", "messages 2/d"] {
        assert!(told[0].contains(words), "{words}: {}", told[0]);
    }
    assert!(!told[0].contains("other@office.test"), "{}", told[0]);
}

#[tokio::test]
async fn the_story_of_a_message_names_the_user_that_handed_it_in() {
    let address = free_port("127.0.0.2").await;
    let folder = tempfile::tempdir().unwrap();
    let auth = users(folder.path());
    let door = format!("[[listener]]\nname = \"submission\"\naddresses = [\"{address}\"]\nauth = {auth:?}\n");
    let world = Configured::with(lab(), |text| text + &door).await;
    let mut client = secured(address).await;
    assert!(says(&mut client, &plain("alice", PASSWORD)).await.starts_with("235"));
    let to = "reader@office.test";
    let handed = client.send("alice@office.test", &[to], content(to).as_bytes()).await.unwrap();
    let id = queue_id(&handed.end.unwrap().to_string()).to_string();
    for words in [&["why", &id][..], &["queue", "show", &id]] {
        let told = world.run(words).await;
        let flat = told.stdout.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains("ESMTPSA by the user alice"), "{words:?}: {told:?}");
    }
}

fn asked(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

#[tokio::test]
async fn a_flood_of_idle_and_slow_clients_at_one_listener_leaves_room_at_another() {
    let (idle, slow) = (asked("FRONT_IDLE", IDLE), asked("FRONT_SLOW", SLOW));
    let flooded = one("flooded", "127.0.0.2", "clients = [\"127.0.0.0/8\"]");
    let world = World::with(lab(), |_lab, config| {
        config.listener = vec![flooded];
        // Fewer than those who come, so that they meet the end of their places.
        config.listen.max_sessions = idle.div_ceil(2);
    })
    .await;
    let (flooded, free) = (world.relay.smtp[1], world.relay.smtp[0]);
    let mut streams = Vec::new();
    for _ in 0..idle + slow {
        let mut stream = TcpStream::connect(flooded).await.unwrap();
        let mut code = [0; 3];
        stream.read_exact(&mut code).await.unwrap();
        streams.push((stream, code));
    }
    let served = streams.iter().filter(|(_, code)| code == b"220").count();
    let places = idle.div_ceil(2);
    assert_eq!(served, places - places / 4, "three quarters of all");
    let dripping = tokio::spawn(async move {
        for octet in
            b"EHLO a.name.that.takes.its.time.to.be.said.octet.by.octet.and.never.ends.for.the.time.of.the.test"
        {
            for (stream, _) in streams.iter_mut().take(slow) {
                let _closed_or_not = stream.write_all(&[*octet]).await;
            }
            tokio::task::yield_now().await;
        }
        streams
    });
    let to = "reader@office.test";
    for _ in 0..20 {
        let mut client = SmtpClient::ready(free).await.unwrap();
        let handed = client.send("sender@office.test", &[to], content(to).as_bytes()).await.unwrap();
        assert!(handed.accepted(), "{handed:?}");
    }
    world.mx("office.test").wait_for_messages(20, PATIENCE).await.unwrap();
    drop(dripping.await.unwrap());
}

#[tokio::test]
async fn what_the_operator_suspends_comes_no_further_also_over_a_restart_until_it_is_resumed() {
    let world = Configured::new(lab()).await;
    let order = async |world: &Configured, words: &[&str]| world.run(words).await;
    let try_it = async |world: &Configured, from: &str, to: &str| {
        let mut client = SmtpClient::ready(world.relay.smtp).await.unwrap();
        let mail = says(&mut client, &format!("MAIL FROM:<{from}>")).await;
        if mail.starts_with("250") { says(&mut client, &format!("RCPT TO:<{to}>")).await } else { mail }
    };
    let (eve, bob, to) = ("eve@office.test", "bob@office.test", "reader@office.test");
    let told = order(&world, &["suspend", "sender", eve, "--reason", "taken over", "--for", "7d"]).await;
    assert!(told.code == 0 && told.stdout.starts_with("sender eve@office.test, until "), "{told:?}");
    assert_eq!(order(&world, &["suspend", "destination", "*.partner.test"]).await.code, 0);
    assert_eq!(order(&world, &["suspend", "sender", "eve"]).await.code, 64);
    let Configured { lab, folder, relay } = world;
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    let relay = Serving::start(&folder.path().join("relay.toml")).await;
    let world = Configured { lab, folder, relay };
    assert!(try_it(&world, eve, to).await.starts_with("451 4.7.1 suspended"));
    assert!(try_it(&world, bob, "x@mail.partner.test").await.starts_with("451 4.7.1 suspended"));
    assert!(try_it(&world, bob, to).await.starts_with("250"));
    let told = order(&world, &["resume", "sender", eve, "--reason", "has another password"]).await;
    assert!(told.code == 0 && told.stdout.starts_with("destination *.partner.test"), "{told:?}");
    assert!(try_it(&world, eve, to).await.starts_with("250"));
    assert_eq!(order(&world, &["resume", "sender", eve]).await.code, 1, "it is not suspended any more");
    let told = order(&world, &["suspend"]).await.stdout;
    let (resumed, begun) = ("sender eve@office.test let in again, by ", "sender eve@office.test suspended, by ");
    assert!(told.contains(resumed) && told.contains(": has another password\n") && told.contains(begun), "{told}");
    let told: serde_json::Value = serde_json::from_str(&order(&world, &["suspend", "--json"]).await.stdout).unwrap();
    assert_eq!(
        (&told["records"][0]["change"], &told["records"][0]["reason"]),
        (&"resumed".into(), &"has another password".into())
    );
}

#[tokio::test]
async fn strangers_who_have_yet_to_log_in_leave_half_of_a_listener_to_those_who_may() {
    let folder = tempfile::tempdir().unwrap();
    let lines = format!("auth = {:?}\nclients = [\"127.0.0.9\"]\nmax_sessions = 6", users(folder.path()));
    let world = front(vec![one("both", "127.0.0.2", &lines)]).await;
    let address = world.relay.smtp[1];
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(secured(address).await);
    }
    let fourth = SmtpClient::connect(address).await.unwrap();
    assert_eq!(fourth.greeting().code, 421);
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let known = SmtpClient::over(socket.connect(address).await.unwrap()).await.unwrap();
    assert_eq!(known.greeting().code, 220);
    // Who has logged in is no stranger, and the next one finds a place.
    assert!(says(&mut strangers[0], &plain("alice", PASSWORD)).await.starts_with("235"));
    assert_eq!(SmtpClient::connect(address).await.unwrap().greeting().code, 220);
}

#[tokio::test]
async fn the_command_keeps_the_file_of_users_and_the_password_is_never_an_argument() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let at = file.to_str().unwrap();
    let add = async |name: &str, more: &[&str], password: &str| {
        run_saying(password, [&["user", "add", name, "--file", at], more].concat()).await
    };
    let added = add("alice", &["--sender", "@office.test"], "correct horse\n").await;
    assert_eq!(added.code, 0, "{added:?}");
    assert_eq!(add("bob@office.test", &[], "battery staple").await.code, 0);
    let short = add("carol", &[], "short\n").await;
    assert!(short.code == 64 && short.stderr.contains("at least 8"), "{short:?}");
    let list = async || run_saying("", ["user", "list", "--file", at]).await.stdout;
    assert_eq!(list().await, "alice @office.test\nbob@office.test bob@office.test\n");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("$argon2id$") && !text.contains("horse"), "{text}");
    assert_eq!(run_saying("", ["user", "remove", "ALICE", "--file", at]).await.code, 0);
    assert_eq!(list().await, "bob@office.test bob@office.test\n");
    let nobody = run_saying("", ["user", "remove", "alice", "--file", at]).await;
    assert!(nobody.code == 64 && nobody.stderr.contains("there is no user alice"), "{nobody:?}");
    let hashed = run_saying("correct horse\n", ["user", "hash"]).await.stdout;
    assert!(hashed.starts_with("$argon2id$v=19$"), "{hashed}");
}
