//! Reloads one after the other while mail comes in and goes out, and what the service manager hears of them.

use crate::process::Serving;
use crate::relay::{SENDER, configuration, lab, says, until, within};
use crate::reload::Configured;
use dane_relay::lab::TroubleAt;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::service::control::{AskError, ControlClient};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// `sd_notify(3)`: `Type=notify` and `systemctl reload` wait for these.
#[tokio::test]
async fn the_service_manager_hears_of_each_reload_that_it_begins_and_that_it_has_ended() {
    let (lab, folder) = (lab().start().await.unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, configuration(&lab, folder.path())).unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let relay = Serving::start_in(&[("NOTIFY_SOCKET", path.as_os_str())], &file).await;
    let heard = async || {
        let mut told = [0_u8; 4096];
        let length = within(socket.recv(&mut told), "news").await.unwrap();
        String::from_utf8(told[..length].to_vec()).unwrap()
    };
    assert!(heard().await.contains("READY=1\n"));
    for text in [configuration(&lab, folder.path()), "[listen\n".to_owned()] {
        std::fs::write(&file, text).unwrap();
        relay.hang_up();
        let begin = heard().await;
        assert!(begin.contains("RELOADING=1\n") && begin.contains("MONOTONIC_USEC="), "{begin}");
        let end = heard().await;
        assert!(end.contains("READY=1\n") && end.contains("STATUS=takes mail at "), "{end}");
    }
    relay.terminate();
    assert!(heard().await.contains("STOPPING=1\n"));
}

/// Clients that come again when they are told to, as Exchange and Postfix do.
async fn keep_sending(smtp: SocketAddr, client: usize, enough: Arc<AtomicBool>, sent: Arc<AtomicUsize>) {
    let mut number = 0;
    while !enough.load(Ordering::SeqCst) {
        let Ok(mut session) = SmtpClient::ready(smtp).await else { continue };
        loop {
            let content = format!("From: <{SENDER}>\r\nSubject: {client}-{number}\r\n\r\nbody\r\n");
            let to = if number % 5 == 0 { "bob@busy.test" } else { "bob@dane.test" };
            match session.send(SENDER, &[to], content.as_bytes()).await {
                Ok(handed) if handed.accepted() => {
                    sent.fetch_add(1, Ordering::SeqCst);
                    number += 1;
                }
                Ok(_) | Err(_) => break,
            }
            if enough.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// In one step: a relay that reads it at this moment finds the one or the other.
fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, file).unwrap();
}

#[tokio::test]
async fn fifty_reloads_under_load_lose_nothing_and_deliver_nothing_twice() {
    let lab = lab()
        .domain("dane.test", |d| d)
        .domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later"))));
    let world = Configured::new(lab).await;
    let good = std::fs::read_to_string(world.file()).unwrap();
    let (enough, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let client = |n| tokio::spawn(keep_sending(world.relay.smtp, n, Arc::clone(&enough), Arc::clone(&sent)));
    let clients: Vec<_> = (0..4).map(client).collect();
    let spool = world.folder.path().join("spool");
    for round in 0..50 {
        let at_least = sent.load(Ordering::SeqCst) + 3;
        until(|| async { (sent.load(Ordering::SeqCst) >= at_least).then_some(()) }, "mail").await;
        let other = format!("[listen]\nmax_recipients = {}\n", 10 + round);
        let dns = if round % 3 == 0 { format!("deadline = \"{}s\"\n", 20 + round) } else { String::new() };
        let text = good.replace("[listen]\n", &other).replace("[dns]\n", &format!("[dns]\n{dns}"));
        let text = text.replace("reuse_connections = false", &format!("reuse_connections = {}", round % 2 == 0));
        replace(
            &world.file(),
            match round % 10 {
                8 => "",
                9 => "[broken",
                _ => text.as_str(),
            },
        );
        if round % 2 == 0 {
            match ControlClient::of(&spool).reload().await {
                // A file that is being written is refused, and the one before stays.
                Ok(_) | Err(AskError::Refused(_)) => {}
                Err(error) => panic!("{error}"),
            }
        } else {
            world.relay.hang_up();
        }
    }
    replace(&world.file(), &good);
    enough.store(true, Ordering::SeqCst);
    for client in clients {
        within(client, "the clients to end").await.unwrap();
    }
    world.lab.mx("busy.test").unwrap().trouble(TroubleAt::Mail, None);
    let empty = || async { (world.metric("relay_queue_messages").await == 0.0).then_some(()) };
    until(empty, "an empty queue").await;
    let arrived = |domain: &str| world.lab.mx(domain).unwrap().messages();
    let all: Vec<_> = arrived("dane.test").into_iter().chain(arrived("busy.test")).collect();
    let subject = |content: &[u8]| {
        let text = String::from_utf8_lossy(content).into_owned();
        text.lines().find(|line| line.starts_with("Subject: ")).map(str::to_owned).unwrap()
    };
    let distinct: BTreeSet<String> = all.iter().map(|message| subject(&message.content)).collect();
    assert_eq!((all.len(), distinct.len()), (sent.load(Ordering::SeqCst), all.len()));
    let audit = world.run(&["audit"]).await;
    assert_eq!(audit.code, 0, "{}{}", audit.stdout, audit.stderr);
}

#[tokio::test]
async fn on_one_core_a_relay_without_mta_sts_has_time_for_mail() {
    let lab = lab().domain("good.test", |d| d.plain().host(|h| h));
    let (lab, folder) = (lab.start().await.unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("relay.toml");
    let text = configuration(&lab, folder.path()).replace("[mta_sts]\n", "[mta_sts]\nenabled = false\n");
    std::fs::write(&file, text).unwrap();
    let relay = Serving::start_in(&[("TOKIO_WORKER_THREADS", OsStr::new("1"))], &file).await;
    let world = Configured { lab, folder, relay };
    world.mail("bob@good.test").await;
    world.arrives("good.test", 1).await;
}
