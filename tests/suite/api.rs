//! `/api/v1` of the admin port: it is as its description says, gives everybody what the role allows and no more, and
//! records who did what.

use crate::http::{HttpAnswer, http, http_here};
use crate::relay::{SENDER, World, lab, says, until};
use dane_relay::clock::Timestamp;
use dane_relay::command::queue::page::MOST_OF_PAGE;
use dane_relay::config::Config;
use dane_relay::config::users::{NewToken, UserRole, new_token, with_user};
use dane_relay::envelope::QueueId;
use dane_relay::lab::{LabBuilder, Tlsa, TroubleAt};
use serde_json::{Value, json};

/// A relay with a user of each role, who each have a token.
pub(crate) struct ApiScene {
    pub(crate) world: World,
    tokens: Vec<(UserRole, String)>,
    _folder: tempfile::TempDir,
}

impl ApiScene {
    async fn new(lab: LabBuilder) -> Self {
        Self::with(lab, |_| {}).await
    }

    async fn with(lab: LabBuilder, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut text, mut tokens) = (String::new(), Vec::new());
        for role in UserRole::ALL {
            let NewToken { token, hash } = new_token().unwrap();
            text = with_user(&text, &format!("{}-program", role.word()), &hash, &[], Some(role)).unwrap();
            tokens.push((role, token));
        }
        let file = folder.path().join("admins");
        std::fs::write(&file, text).unwrap();
        let world = World::with(lab, |_, config| {
            config.admin.users = Some(file);
            config.tls_reports.enabled = true;
            config.tls_reports.organization = Some("Office Ltd".to_owned());
            config.tls_reports.contact = Some("tls@office.test".parse().unwrap());
            config.retry.first = std::time::Duration::from_secs(3_600);
            config.retry.longest = std::time::Duration::from_secs(3_600);
            config.retry.expire_after = std::time::Duration::from_secs(86_400);
            change(config);
        });
        Self { world: world.await, tokens, _folder: folder }
    }

    /// One message waits after an attempt.
    async fn busy() -> (Self, QueueId) {
        let lab = lab().domain("good.test", |d| d);
        let lab = lab.domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later"))));
        let scene = Self::new(lab).await;
        let id = scene.world.mail(&["bob@busy.test"]).await;
        scene.until_tried(id).await;
        (scene, id)
    }

    /// The order, once the message is not in delivery any more.
    async fn done(&self, order: &Value) -> Value {
        let done = || async {
            let sum = self.ask(UserRole::Operator, "POST acts", order).await.json();
            (sum["acted"] == 1).then_some(sum)
        };
        until(done, "the end of the delivery").await
    }

    async fn until_tried(&self, id: QueueId) {
        let tried = || async {
            let why = self.get(UserRole::Look, &format!("messages?subject={id}")).await.json();
            (why["stories"][0]["message"]["recipients"][0]["tries"] == 1).then_some(())
        };
        until(tried, "the first attempt").await;
    }

    fn token(&self, role: UserRole) -> String {
        let token = self.tokens.iter().find(|(known, _)| *known == role).unwrap();
        format!("Bearer {}", token.1)
    }

    /// A request below `/api/v1/` by whoever has that role.
    async fn ask(&self, role: UserRole, request: &str, body: &Value) -> HttpAnswer {
        let (method, path) = request.split_once(' ').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let authorization = self.token(role);
        let fields = [("Authorization", authorization.as_str())];
        http(self.world.relay.admin, &format!("{method} /api/v1/{path}"), &fields, &body).await
    }

    /// The same over the control socket, by the user of this process.
    async fn ask_here(&self, request: &str, body: &Value) -> HttpAnswer {
        let (method, path) = request.split_once(' ').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        http_here(&self.world.spool_config().path, &format!("{method} /api/v1/{path}"), &[], &body).await
    }

    async fn get(&self, role: UserRole, path: &str) -> HttpAnswer {
        self.ask(role, &format!("GET {path}"), &Value::Null).await
    }
}

/// What of a value is not as its schema says.
fn faults(schema: &Value, value: &Value, at: &str, all: &Value) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return faults(&all["components"]["schemas"][name], value, at, all);
    }
    let mut found = Vec::new();
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let is = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{at}: the schema has the type {other}"),
    };
    if !types.iter().any(is) {
        found.push(format!("{at}: {value} is not {types:?}"));
    }
    if let (Some(words), true) = (schema["enum"].as_array(), value.is_string())
        && !words.contains(value)
    {
        found.push(format!("{at}: {value} is none of {words:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()) {
        if value.is_object() && value.get(name).is_none() {
            found.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(member) = value.get(name) {
            found.extend(faults(of, member, &format!("{at}.{name}"), all));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        found.extend(faults(&schema["items"], item, &format!("{at}[]"), all));
    }
    found
}

/// What a request of the description wants besides its path.
fn example(method: &str, path: &str, id: QueueId) -> (String, Value) {
    let path = path.trim_start_matches('/').replace("{domain}", "busy.test");
    match (method, path.as_str()) {
        ("get", "messages") => (format!("messages?subject={SENDER}"), Value::Null),
        ("get", "messages/{id}/content") => (format!("messages/{id}/content"), Value::Null),
        ("post", "suspensions") => {
            (path, json!({ "kind": "user", "name": "eve", "reason": "taken over", "for": "4h" }))
        }
        ("delete", "suspensions") => ("suspensions?kind=user&name=eve&reason=repaired".to_owned(), Value::Null),
        ("post", "acts") => (path, json!({ "act": "hold", "id": [id], "reason": "the customer asked" })),
        ("post", "checks") => (path, json!({ "domain": "good.test" })),
        ("post", "tls-reports") => (path, json!({ "domain": "good.test" })),
        _ => (path, Value::Null),
    }
}

#[tokio::test]
async fn every_way_of_the_description_answers_as_it_says() {
    let (scene, id) = ApiScene::busy().await;
    let finding = json!({ "kind": "certificate-ends", "detail": "it ends tomorrow" });
    let found =
        json!([{ "domain": "busy.test", "at": 1, "verdict": "OK", "contact": "a@busy.test", "findings": [finding] }]);
    std::fs::write(scene.world.spool_config().path.join("watch.json"), found.to_string()).unwrap();
    let counted = || async {
        let said = scene.get(UserRole::HelpDesk, "tls-reports").await.json();
        said["reports"][0]["day"].as_str().map(str::to_owned)
    };
    let day = until(counted, "a count of the attempt").await;
    let description = scene.get(UserRole::Look, "openapi.json").await.json();
    let mut check: Option<String> = None;
    let mut ways = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        // What ends something comes last.
        for method in ["post", "get", "delete"].into_iter().filter(|method| methods.get(method).is_some()) {
            ways.push((method, path.as_str(), &methods[method]));
        }
    }
    ways.sort_by_key(|(method, path, _)| (*method == "delete", path.ends_with("events"), *method != "post"));
    // Those two concern the process, which is that of the test: `commands.rs`.
    ways.retain(|(_, path, _)| !["/drain", "/log-level"].contains(path));
    for (method, path, operation) in ways {
        let (mut target, body) = example(method, path, id);
        target = target.replace("{day}", &day);
        if let Some(check) = &check {
            target = target.replace("{id}", check);
        }
        let request = format!("{} {target}", method.to_uppercase());
        let said = if operation["x-control-socket-only"] == true {
            let elsewhere = scene.ask(UserRole::Operator, &request, &body).await;
            assert_eq!(elsewhere.status, 403, "{request}: {elsewhere:?}");
            scene.ask_here(&request, &body).await
        } else {
            scene.ask(UserRole::Operator, &request, &body).await
        };
        let answer =
            operation["responses"].as_object().unwrap().iter().find(|(code, _)| **code == said.status.to_string());
        let (_, answer) = answer.unwrap_or_else(|| panic!("{request}: {said:?}"));
        let kind = said.fields("content-type")[0];
        let content = &answer["content"][kind];
        assert!(content.is_object(), "{request}: {kind}");
        let Some(schema) = content.get("schema") else { continue };
        let answers = match kind {
            "text/event-stream" => said.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect(),
            _ => vec![said.body.as_str()],
        };
        assert!(!answers.is_empty(), "{request}");
        for answer in answers {
            let value: Value = serde_json::from_str(answer).unwrap();
            assert_eq!(faults(schema, &value, &request, &description), Vec::<String>::new());
            if (method, path) == ("post", "/checks") {
                check = value["id"].as_str().map(str::to_owned);
            }
        }
    }
    assert_eq!(faults(&description["components"]["schemas"]["Me"], &json!({ "name": 1 }), "", &description).len(), 5);
}

#[tokio::test]
async fn without_a_login_nothing_but_health_and_metrics_is_answered() {
    let (scene, id) = ApiScene::busy().await;
    let admin = scene.world.relay.admin;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(http(admin, &format!("GET {path}"), &[], "").await.status, 200, "{path}");
    }
    let one = format!("/api/v1/messages/{id}/content");
    for path in ["/api/v1/status", "/api/v1/queue", "/api/v1/openapi.json", "/api/v1/nothing", &one] {
        for fields in [
            &[][..],
            &[("Authorization", "Bearer relay_nonsense")],
            &[("Authorization", "Basic YTpi")],
            &[("Cookie", "relay-session=; relay-session=x")],
            &[("X-Forwarded-User", "operator-program")],
        ] {
            let said = http(admin, &format!("GET {path}"), fields, "").await;
            assert_eq!((said.status, said.fields("www-authenticate")), (401, vec!["Bearer"]), "{path} {fields:?}");
        }
    }
    let said = http(admin, "POST /api/v1/acts", &[], r#"{"act":"delete","all":true,"reason":"x"}"#).await;
    assert_eq!(said.status, 401);
}

#[tokio::test]
async fn each_role_may_what_it_is_for_and_no_more() {
    use UserRole::{HelpDesk, Look, Operator};
    let (scene, id) = ApiScene::busy().await;
    let act = |act: &str| json!({ "act": act, "id": [id], "reason": "a test" });
    let user = json!({ "kind": "user", "name": "eve", "reason": "a test" });
    scene.done(&act("hold")).await;
    // Held first: what is in delivery is left alone.
    let orders = [
        ("POST acts", act("hold"), Operator),
        ("GET messages/{id}/content", Value::Null, Operator),
        ("POST acts", act("retry"), HelpDesk),
        ("POST checks", json!({ "domain": "good.test" }), HelpDesk),
        ("POST suspensions", user, Operator),
        ("DELETE suspensions?kind=user&name=eve&reason=repaired", Value::Null, Operator),
        ("POST acts", act("delete"), Operator),
        ("POST acts", act("release"), Operator),
    ];
    for (request, body, needed) in orders {
        let request = request.replace("{id}", &id.to_string());
        for role in [Look, HelpDesk, Operator].into_iter().filter(|role| *role <= needed) {
            let said = scene.ask(role, &request, &body).await;
            let allowed = role >= needed;
            assert_eq!(said.status / 100 == 2, allowed, "{role:?} {request} {body}: {said:?}");
            assert!(
                allowed || said.status == 403 && said.body.contains("needs the role"),
                "{role:?} {request}: {said:?}"
            );
        }
    }
    assert_eq!(scene.get(Look, "queue").await.json()["messages"], json!([]), "the last of them was heard");
}

#[tokio::test]
async fn who_did_what_and_why_stands_in_the_story_of_the_message() {
    let (scene, id) = ApiScene::busy().await;
    let order = json!({ "act": "hold", "domain": "busy.test", "reason": "the customer asked\u{202e}<script>" });
    let held = scene.done(&order).await;
    assert_eq!((&held["acted"], &held["messages"][0]["result"]), (&json!(1), &json!("done")), "{held}");
    let content = scene.get(UserRole::Operator, &format!("messages/{id}/content")).await;
    assert!(content.body.ends_with(&crate::relay::content("bob@busy.test")), "{content:?}");
    assert_eq!(content.fields("content-disposition"), ["attachment; filename=\"message.eml\""]);
    let again = scene.ask(UserRole::HelpDesk, "POST acts", &json!({ "act": "retry", "id": [id] })).await.json();
    assert_eq!(again["messages"][0]["result"], "held", "{again}");
    let why = scene.get(UserRole::Look, &format!("messages?subject={id}")).await.json();
    let history = why["stories"][0]["history"].as_array().unwrap();
    let acts: Vec<_> = history.iter().filter(|event| event["event"] == "operator").collect();
    let told: Vec<_> = acts.iter().map(|event| (&event["act"], &event["user"], &event["reason"])).collect();
    let (user, reason) = (json!("operator-program"), json!("the customer asked\u{202e}<script>"));
    assert_eq!(told, [(&json!("hold"), &user, &reason), (&json!("read"), &user, &Value::Null)]);
}

#[tokio::test]
async fn pages_follow_each_other_in_both_orders_and_nothing_is_left_out() {
    let (scene, first) = ApiScene::busy().await;
    let mut ids = vec![first.to_string()];
    for number in 0..6 {
        let to = format!("user{number}@busy.test");
        ids.push(scene.world.mail(&[&to]).await.to_string());
    }
    for sort in ["oldest", "newest"] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = scene.get(UserRole::Look, &format!("queue?sort={sort}&limit=3{after}")).await.json();
            seen.extend(page["messages"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        if sort == "newest" {
            seen.reverse();
        }
        assert_eq!(seen, ids, "{sort}");
    }
    for (limit, status) in [(MOST_OF_PAGE, 200), (MOST_OF_PAGE + 1, 400)] {
        assert_eq!(scene.get(UserRole::Look, &format!("queue?limit={limit}")).await.status, status, "{limit}");
    }
    let page = scene.get(UserRole::Look, "queue?domain=good.test").await.json();
    assert_eq!((&page["messages"], &page["next"]), (&json!([]), &Value::Null));
    let summary = scene.get(UserRole::Look, "queue/summary").await.json();
    assert_eq!((&summary["messages"], &summary["domains"][0]["domain"]), (&json!(7), &json!("busy.test")), "{summary}");
}

#[tokio::test]
async fn a_check_can_be_ended_and_one_that_is_done_says_what_the_command_says() {
    let lab = lab().domain("good.test", |d| d);
    let scene = ApiScene::new(lab).await;
    let begun = scene.ask(UserRole::HelpDesk, "POST checks", &json!({ "domain": "good.test" })).await.json();
    let id = begun["id"].as_str().unwrap();
    let events = scene.get(UserRole::Look, &format!("checks/{id}/events")).await;
    let last = events.body.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!((&last["state"], &last["verdict"]), (&json!("done"), &json!("ok")), "{last}");
    assert!(last["text"].as_str().unwrap().starts_with("OK  good.test"), "{last}");
    let stages: Vec<&str> = last["steps"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["dns", "mx", "tlsa", "policy", "connect", "tls", "verdict"], "{last}");
    let tls = last["steps"][5]["text"].as_str().unwrap();
    assert!(tls.contains("TLSv1.3, dane by 3 1 1 "), "{tls}");
    let begun = scene.ask(UserRole::HelpDesk, "POST checks", &json!({ "domain": "good.test" })).await.json();
    let request = format!("DELETE checks/{}", begun["id"].as_str().unwrap());
    let ended = scene.ask(UserRole::HelpDesk, &request, &Value::Null).await.json();
    assert!(["cancelled", "done"].contains(&ended["state"].as_str().unwrap()), "{ended}");
    assert_eq!(scene.get(UserRole::Look, "checks/nonsense").await.status, 404);
}

#[tokio::test]
async fn a_domain_is_known_by_its_records_and_last_deliveries_without_a_check() {
    let records = [Tlsa::Misfits(3, 1, 1, 0), Tlsa::Fits(3, 1, 1), Tlsa::Misfits(1, 1, 1, 0)];
    let lab = lab().domain("good.test", |d| d.host(|h| h.tlsa(records))).domain("plain.test", |d| d.plain());
    let scene = ApiScene::with(lab, |config| {
        config.watch.domains = 720;
        config.watch.every = std::time::Duration::from_secs(3_600);
    });
    let scene = scene.await;
    let before = scene.get(UserRole::Look, "domains/good.test").await.json();
    assert_eq!((&before["deliveries"], &before["dns"]["mx_security"]), (&json!([]), &json!("secure")), "{before}");
    let tlsa = |known: &Value| {
        let marks = known["dns"]["hosts"][0]["tlsa"].as_array().unwrap().iter();
        let mut marks: Vec<_> = marks
            .map(|r| (r["record"].as_str().unwrap()[..5].to_owned(), r["usable"] == true, r["matched"] == true))
            .collect();
        marks.sort();
        marks
    };
    let mark = |record: &str, usable, matched| (record.to_owned(), usable, matched);
    assert_eq!(tlsa(&before), [mark("1 1 1", false, false), mark("3 1 1", true, false), mark("3 1 1", true, false)]);
    let id = scene.world.mail(&["bob@good.test"]).await;
    scene.world.delivered(id, "bob@good.test").await;
    let recorded = || async {
        let known = scene.get(UserRole::HelpDesk, "domains/GOOD.test").await.json();
        known["deliveries"][0].is_object().then_some(known)
    };
    let after = until(recorded, "the delivery in the ledger").await;
    assert_eq!(tlsa(&after), [mark("1 1 1", false, false), mark("3 1 1", true, false), mark("3 1 1", true, true)]);
    let delivery = &after["deliveries"][0];
    assert_eq!((&delivery["id"], &delivery["recipient"]), (&json!(id), &json!("bob@good.test")), "{after}");
    let plain = scene.get(UserRole::Look, "domains/plain.test").await.json();
    assert_eq!((&plain["dns"]["mx_security"], &plain["deliveries"]), (&json!("insecure"), &json!([])), "{plain}");
    assert!(plain["dns"]["hosts"][0]["no_dane"].is_string(), "{plain}");
    let nowhere = scene.get(UserRole::Look, "domains/nowhere.test").await.json();
    assert!(nowhere["dns"]["fault"]["sentence"].is_string(), "{nowhere}");
    // What the watch of this relay finds of it.
    let watched = || async {
        let said = scene.get(UserRole::Look, "posture/good.test").await;
        (said.status == 200).then(|| said.json())
    };
    let posture = until(watched, "a look of the watch").await;
    assert_eq!((&posture["verdict"], &posture["contact"]), (&json!("OK"), &json!("postmaster@good.test")), "{posture}");
    let known = scene.get(UserRole::Operator, "domains/good.test").await.json();
    assert_eq!(known["posture"]["verdict"], "OK", "{known}");
    assert_eq!(scene.get(UserRole::Operator, "posture/plain.test").await.status, 404, "no mail went there");
}

#[tokio::test]
async fn the_queue_is_sorted_by_domain_next_attempt_size_and_attempts_page_by_page() {
    let later = |lab: LabBuilder, name: &str| {
        lab.domain(name, |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later"))))
    };
    let scene = ApiScene::new(["b.test", "a.test", "c.test"].into_iter().fold(lab(), later)).await;
    let mut ids = Vec::new();
    for (name, octets) in [("b.test", 10), ("a.test", 3_000), ("c.test", 500)] {
        let to = format!("bob@{name}");
        let content = format!("{}{}\r\n", crate::relay::content(&to), "x".repeat(octets));
        let id = crate::relay::hand_in(scene.world.smtp(), SENDER, &[to.as_str()], content.as_bytes()).await;
        scene.until_tried(id).await;
        ids.push(id);
    }
    let [b, a, c] = [ids[0], ids[1], ids[2]];
    scene.done(&json!({ "act": "retry", "id": [c] })).await;
    let twice = || async {
        let why = scene.get(UserRole::Look, &format!("messages?subject={c}")).await.json();
        (why["stories"][0]["message"]["recipients"][0]["tries"] == 2).then_some(())
    };
    until(twice, "the second attempt").await;
    for (sort, expected) in [("domain", [a, b, c]), ("size", [a, c, b]), ("attempts", [c, b, a]), ("next", [a, b, c])] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = scene.get(UserRole::Look, &format!("queue?sort={sort}&limit=2{after}")).await.json();
            seen.extend(page["messages"].as_array().unwrap().iter().cloned());
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        let ids: Vec<Value> = seen.iter().map(|one| one["id"].clone()).collect();
        match sort {
            // The schedule has chance in it.
            "next" => {
                let due = seen.iter().map(|one| Timestamp::from_rfc3339(one["due"].as_str().unwrap()).unwrap());
                assert!(ids.len() == 3 && due.is_sorted(), "{seen:?}");
            }
            _ => assert_eq!(ids, expected.map(|id| json!(id)), "{sort}"),
        }
    }
}
