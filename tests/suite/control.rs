//! The control socket: `/api/v1` for the user whom the system names, and for nobody who only holds a connection.

use crate::http::{HttpAnswer, http_here};
use crate::relay::{World, lab, says, until, within};
use dane_relay::command::suspend::{Resumption, SuspendedKind};
use dane_relay::envelope::QueueId;
use dane_relay::lab::TroubleAt;
use dane_relay::service::control::AskError;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// A relay in which nobody can log in, and messages that wait after an attempt.
async fn busy(messages: usize) -> (World, Vec<QueueId>) {
    let lab = lab().domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later"))));
    let world = World::with(lab, |_, config| {
        config.retry.first = std::time::Duration::from_secs(3_600);
        config.retry.longest = std::time::Duration::from_secs(3_600);
        config.retry.expire_after = std::time::Duration::from_secs(86_400);
    });
    let (world, mut ids) = (world.await, Vec::new());
    for number in 0..messages {
        let to = format!("user{number}@busy.test");
        let id = world.mail(&[&to]).await;
        world.deferred(id, &to, 1).await;
        ids.push(id);
    }
    (world, ids)
}

async fn here(world: &World, request: &str, fields: &[(&str, &str)], body: &Value) -> HttpAnswer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http_here(&world.spool_config().path, request, fields, &body).await
}

#[tokio::test]
async fn the_interface_is_there_for_the_user_whom_the_system_names_also_where_nobody_can_log_in() {
    let (world, ids) = busy(1).await;
    let uid = rustix::process::geteuid().as_raw();
    let me = here(&world, "GET /api/v1/me", &[], &Value::Null).await.json();
    let named = (&me["name"], &me["role"], &me["by"], &me["csrf_token"]);
    assert_eq!(named, (&json!(format!("user id {uid}")), &json!("operator"), &json!("socket"), &Value::Null));
    let page = here(&world, "GET /api/v1/queue", &[], &Value::Null).await.json();
    assert_eq!(page["messages"][0]["id"], json!(ids[0]), "{page}");
    // The word of a proxy counts for nothing here.
    let vouched = here(&world, "GET /api/v1/me", &[("X-Forwarded-User", "eve")], &Value::Null).await.json();
    assert_eq!(vouched["name"], me["name"]);
    let order = json!({ "act": "hold", "id": [ids[0]] });
    let held = || async {
        let sum = here(&world, "POST /api/v1/acts", &[], &order).await.json();
        (sum["acted"] == 1).then_some(())
    };
    until(held, "the end of the delivery").await;
    let why = here(&world, &format!("GET /api/v1/messages?subject={}", ids[0]), &[], &Value::Null).await.json();
    let last = why["stories"][0]["history"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["act"], &last["uid"], last.get("user")), (&json!("hold"), &json!(uid), None), "{last}");
    for (request, status) in [
        ("GET /", 404),
        ("GET /login", 404),
        ("GET /metrics", 404),
        ("GET /api/v1/nothing", 404),
        ("PUT /api/v1/queue", 405),
        ("POST /api/v1/acts", 400),
    ] {
        assert_eq!(here(&world, request, &[], &Value::Null).await.status, status, "{request}");
    }
}

#[tokio::test]
async fn an_order_about_many_is_told_message_by_message_and_then_as_a_sum() {
    let (world, ids) = busy(3).await;
    let order = json!({ "act": "hold", "all": true });
    let mut told: Vec<Value> = Vec::new();
    let held = || async {
        let said = here(&world, "POST /api/v1/acts", &[("Accept", "text/event-stream")], &order).await;
        assert_eq!(said.fields("content-type"), ["text/event-stream"], "{said:?}");
        let data = said.body.lines().filter_map(|line| line.strip_prefix("data: "));
        Some(data.map(|data| serde_json::from_str::<Value>(data).unwrap()).collect::<Vec<_>>())
    };
    while told.iter().filter(|event| event["answer"] == "acted").count() < ids.len() {
        let events = until(held, "an answer").await;
        assert_eq!(events.last().unwrap()["answer"], "done", "{events:?}");
        assert!(events.iter().rev().skip(1).all(|event| event["id"].is_string()), "{events:?}");
        told.extend(events);
    }
    assert!(told.iter().all(|event| event["version"] == 1), "{told:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_told_apart_from_what_is_not_there() {
    let (world, _) = busy(0).await;
    let client = world.control();
    let wrong = client.log_level("loud", None).await.unwrap_err();
    assert!(matches!(wrong, AskError::Refused(_)), "{wrong:?}");
    let resumption =
        Resumption { kind: SuspendedKind::User, name: "nobody & co".to_owned(), reason: "asked & told".to_owned() };
    let nobody = client.resume(&resumption).await.unwrap_err();
    assert!(matches!(nobody, AskError::NotThere(_)), "{nobody:?}");
    let unset = client.send_tls_reports(None).await.unwrap_err();
    assert!(matches!(&unset, AskError::Failed(why) if why.contains("[tls_reports]")), "{unset:?}");
}

#[tokio::test]
async fn who_asks_nothing_or_without_an_end_is_left_after_a_moment() {
    let (world, _) = busy(0).await;
    let socket = world.spool_config().path.join("control");
    let left = async |octets: &[u8]| {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        // The other end may have closed before all is written.
        let _written = stream.write_all(octets).await;
        let mut answer = Vec::new();
        let _reset = within(stream.read_to_end(&mut answer), "the end of the connection").await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    for octets in [&b""[..], b"GET /api/v1/status HTTP/1.1\r\nHost: relay\r\nX: "] {
        let answer = left(octets).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    let half = b"POST /api/v1/acts HTTP/1.1\r\nHost: relay\r\nContent-Length: 100\r\n\r\n{";
    assert!(left(half).await.starts_with("HTTP/1.1 408"));
    let endless = [&b"GET / HTTP/1.1\r\nHost: relay\r\nX: "[..], &vec![b'x'; 1 << 20]].concat();
    let answer = left(&endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let large =
        format!("POST /api/v1/acts HTTP/1.1\r\nHost: relay\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let answer = left(large.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(
        left(b"{\"request\":\"status\"}\n").await.starts_with("HTTP/1.1 400"),
        "an older command hears that it is none"
    );
}
