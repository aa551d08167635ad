//! The page for the help desk: who gets in and how, what forged forms and strangers' words come to, and that every page
//! says in two languages what the commands say.

use crate::http::{HttpAnswer, http, said, said_in_tls};
use crate::relay::{SENDER, World, hand_in, lab, says, until};
use crate::reload::{Configured, certificate};
use dane_relay::config::users::{NO_PASSWORD, UserRole, hash, with_user};
use dane_relay::envelope::QueueId;
use dane_relay::lab::TroubleAt;
use std::net::SocketAddr;

const PASSWORD: &str = "correct horse";
/// What a page would have to say if it took anything for markup.
const MARKUP: &str = "<script>alert(1)</script>";

/// A relay with a user of each role, and a message that waits.
pub(crate) struct PageScene {
    pub(crate) world: World,
    pub(crate) id: QueueId,
    users: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

/// Somebody with a browser.
pub(crate) struct Browser {
    admin: SocketAddr,
    cookie: String,
}

impl PageScene {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut dane_relay::config::Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("admins");
        let hash = hash(PASSWORD).unwrap();
        let with = |text: &str, name: &str, hash: &str, role| with_user(text, name, hash, &[], role).unwrap();
        let text =
            UserRole::ALL.into_iter().fold(String::new(), |text, role| with(&text, role.word(), &hash, Some(role)));
        let text = with(&with(&text, "mailer", &hash, None), "vouched", NO_PASSWORD, Some(UserRole::HelpDesk));
        std::fs::write(&users, text).unwrap();
        // What the server answers is a stranger's word.
        let hostile = says(&format!("451 4.3.0 {MARKUP} later"));
        let lab = lab().domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, hostile)));
        let lab = lab.domain("good.test", |d| d).domain("plain.test", |d| d.plain());
        let lab = lab.domain("down.test", |d| d.host(|h| h.down()));
        let world = World::with(lab, |_, config| {
            config.admin.users = Some(users.clone());
            config.tls_reports.organization = Some("Office Ltd".to_owned());
            config.tls_reports.contact = Some("tls@office.test".parse().unwrap());
            config.retry.first = std::time::Duration::from_secs(3_600);
            config.retry.longest = std::time::Duration::from_secs(3_600);
            config.retry.expire_after = std::time::Duration::from_secs(86_400);
            change(config);
        });
        let world = world.await;
        let id = world.mail(&["bob@busy.test"]).await;
        Self { world, id, users, _folder: folder }
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.world.relay.admin
    }

    async fn login(&self, name: &str, password: &str, fields: &[(&str, &str)]) -> HttpAnswer {
        let form = format!("name={name}&password={}", password.replace(' ', "+"));
        http(self.admin(), "POST /login", fields, &form).await
    }

    /// Logged in with that role.
    pub(crate) async fn browser(&self, role: UserRole) -> Browser {
        let said = self.login(role.word(), PASSWORD, &[]).await;
        assert_eq!((said.status, said.fields("location")), (303, vec!["/"]), "{said:?}");
        Browser { admin: self.admin(), cookie: cookie_of(&said) }
    }

    /// Waits until the message was tried.
    pub(crate) async fn until_tried(&self, browser: &Browser) {
        let id = self.id;
        let tried =
            async || browser.get(&format!("/find?q={id}")).await.body.contains("rejected-for-now").then_some(());
        until(tried, "the first attempt").await;
    }
}

fn cookie_of(said: &HttpAnswer) -> String {
    let set = said.fields("set-cookie");
    assert_eq!(set.len(), 1, "{said:?}");
    set[0].split(';').next().unwrap().to_owned()
}

impl Browser {
    pub(crate) async fn get(&self, path: &str) -> HttpAnswer {
        self.get_in("en", path).await
    }

    pub(crate) async fn get_in(&self, language: &str, path: &str) -> HttpAnswer {
        let fields = [("Cookie", self.cookie.as_str()), ("Accept-Language", language)];
        http(self.admin, &format!("GET {path}"), &fields, "").await
    }

    pub(crate) async fn post(&self, path: &str, form: &str) -> HttpAnswer {
        http(self.admin, &format!("POST {path}"), &[("Cookie", self.cookie.as_str())], form).await
    }

    /// What the forms bring along.
    async fn csrf(&self) -> String {
        self.csrf_of("/exceptions").await
    }

    pub(crate) async fn csrf_of(&self, path: &str) -> String {
        let page = self.get(path).await.body;
        let token = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        token.unwrap_or_else(|| panic!("{page}")).to_owned()
    }
}

const PAGES: [&str; 7] = ["/", "/find", "/domain", "/queue", "/incidents", "/reports", "/exceptions"];

#[tokio::test]
async fn every_page_is_there_in_both_languages_and_loads_nothing_from_elsewhere() {
    let scene = PageScene::new().await;
    let browser = scene.browser(UserRole::Operator).await;
    scene.until_tried(&browser).await;
    let id = scene.id;
    let more = [
        format!("/find?q={id}"),
        "/find?q=bob@busy.test".into(),
        "/domain?name=busy.test".into(),
        "/queue?domain=busy.test".into(),
    ];
    for path in PAGES.into_iter().map(str::to_owned).chain(more) {
        for (language, words) in [("en", "Log out"), ("nl-NL,nl;q=0.9", "Uitloggen")] {
            let page = browser.get_in(language, &path).await;
            assert_eq!((page.status, page.body.contains(words)), (200, true), "{path}: {page:?}");
            assert!(page.body.contains("aria-current=\"page\"") && page.body.contains("<h1"), "{path}: {}", page.body);
            for (name, part) in [
                ("content-security-policy", "frame-ancestors 'none'"),
                ("x-frame-options", "DENY"),
                ("x-content-type-options", "nosniff"),
                ("cache-control", "no-store"),
            ] {
                assert!(page.fields(name).iter().any(|value| value.contains(part)), "{path} {name}: {}", page.head);
            }
            assert!(!page.body.contains("//") || !page.body.contains("src=\"http"), "{path}");
            assert!(!page.body.contains(" style=") && !page.body.contains("onclick"), "{path}");
        }
    }
    for file in ["/style.css", "/page.js", "/icon.svg"] {
        assert_eq!(http(scene.admin(), &format!("GET {file}"), &[], "").await.status, 200, "{file}");
    }
    assert_eq!(browser.get("/report?domain=good.test&day=2026-11-21").await.status, 200);
    assert_eq!(browser.get("/report?domain=a%20b&day=x").await.status, 400);
    let dutch = browser.get_in("nl", &format!("/find?q={id}")).await.body;
    for words in [
        "in de wachtrij, volgende poging",
        "aangenomen",
        "geprobeerd bij",
        "De mailserver mx.busy.test",
        "zei: 451 4.3.0",
    ] {
        assert!(dutch.contains(words), "no {words} in {dutch}");
    }
    assert!(!dutch.contains("accepted") && !dutch.contains("tried "), "{dutch}");
    let now = browser.get("/").await.body;
    assert!(now.contains("Mail flows; 1 domain waits") || now.contains("being counted"), "{now}");
    assert_eq!(browser.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn nobody_gets_in_without_the_password_and_whoever_is_not_logged_in_is_led_to_the_form() {
    let scene = PageScene::new().await;
    for path in PAGES {
        let said = http(scene.admin(), &format!("GET {path}"), &[("Cookie", "relay-session=x")], "").await;
        assert_eq!((said.status, said.fields("location"), said.body.as_str()), (303, vec!["/login"], ""), "{path}");
        let said = http(scene.admin(), &format!("POST {path}"), &[], "").await;
        assert_eq!(said.status, 401, "{path}");
    }
    for (name, password) in
        [("operator", "wrong"), ("nobody", PASSWORD), ("vouched", "!"), ("vouched", ""), ("mailer", PASSWORD)]
    {
        let said = scene.login(name, password, &[]).await;
        assert_eq!((said.status, said.fields("set-cookie").len()), (403, 0), "{name}: {said:?}");
    }
    let said = scene.login("operator", PASSWORD, &[("Sec-Fetch-Site", "cross-site")]).await;
    assert_eq!((said.status, said.fields("set-cookie").len()), (403, 0), "a login from another site: {said:?}");
}

#[tokio::test]
async fn who_guesses_is_locked_out() {
    let scene = PageScene::new().await;
    let mut refused = 0;
    for _ in 0..12 {
        refused += usize::from(scene.login("operator", "wrong", &[]).await.status == 429);
    }
    assert!(refused > 0, "nobody is locked out");
    let said = scene.login("operator", PASSWORD, &[]).await;
    assert_eq!((said.status, said.body.contains("Try again in a quarter of an hour")), (429, true), "{said:?}");
}

#[tokio::test]
async fn those_who_ask_through_a_proxy_are_counted_by_their_own_addresses() {
    let scene = PageScene::with(|config| config.admin.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let from = async |name: &str, password: &str, forwarded: &str| {
        scene.login(name, password, &[("X-Forwarded-For", forwarded)]).await.status
    };
    // Each guess claims to come from somewhere else, and is of another name.
    for guess in 0..10 {
        let forwarded = format!("203.0.113.{guess}, 198.51.100.7");
        assert_eq!(from(&format!("guess-{guess}"), "wrong", &forwarded).await, 403, "guess {guess}");
    }
    for forwarded in ["198.51.100.7", "203.0.113.99, 198.51.100.7", "198.51.100.8, 198.51.100.7"] {
        assert_eq!(from("operator", PASSWORD, forwarded).await, 429, "{forwarded}");
    }
    assert_eq!(from("operator", PASSWORD, "198.51.100.8").await, 303, "somebody else behind the same proxy");
}

#[tokio::test]
async fn whoever_is_no_proxy_is_counted_by_the_address_that_asks() {
    let scene = PageScene::with(|config| config.admin.trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()]).await;
    for guess in 0..10 {
        let forwarded = format!("203.0.113.{guess}");
        scene.login(&format!("guess-{guess}"), "wrong", &[("X-Forwarded-For", &forwarded)]).await;
    }
    let said = scene.login("operator", PASSWORD, &[("X-Forwarded-For", "203.0.113.99")]).await;
    assert_eq!(said.status, 429, "{said:?}");
}

#[tokio::test]
async fn a_session_has_a_name_of_its_own_and_ends_with_the_logout_and_with_the_user() {
    let scene = PageScene::new().await;
    let chosen = scene.login("operator", PASSWORD, &[("Cookie", "relay-session=chosen-by-somebody")]).await;
    let first = cookie_of(&chosen);
    assert_ne!(first, "relay-session=chosen-by-somebody", "session fixation");
    let set = chosen.fields("set-cookie")[0].to_owned();
    assert!(set.contains("; HttpOnly") && set.contains("; SameSite=Strict"), "{set}");
    let again = scene.login("operator", PASSWORD, &[("Cookie", &first)]).await;
    let before = Browser { admin: scene.admin(), cookie: first };
    assert_eq!(before.get("/").await.status, 303, "the session before has ended");
    let browser = Browser { admin: scene.admin(), cookie: cookie_of(&again) };
    assert_eq!(browser.get("/").await.status, 200);
    let csrf = browser.csrf().await;
    let out = browser.post("/logout", &format!("csrf={csrf}")).await;
    assert_eq!((out.status, out.fields("location")), (303, vec!["/login"]));
    assert_eq!(browser.get("/").await.status, 303, "logged out on this side, too");
    let browser = scene.browser(UserRole::Operator).await;
    std::fs::write(&scene.users, "somebody ! role=look\n").unwrap();
    assert_eq!(browser.get("/").await.status, 303, "the user is gone, and so is the session");
}

#[tokio::test]
async fn a_form_from_another_site_or_without_its_token_changes_nothing() {
    let scene = PageScene::new().await;
    let (browser, other) = (scene.browser(UserRole::Operator).await, scene.browser(UserRole::Operator).await);
    scene.until_tried(&browser).await;
    let (csrf, foreign) = (browser.csrf().await, other.csrf().await);
    assert_ne!(csrf, foreign, "each session has its own");
    let order = format!("act=delete&reason=x&id={}", scene.id);
    for form in [order.clone(), format!("{order}&csrf="), format!("{order}&csrf={foreign}")] {
        assert_eq!(browser.post("/queue/act", &form).await.status, 403, "{form}");
    }
    let whole = format!("{order}&csrf={csrf}");
    for (name, value) in [("Sec-Fetch-Site", "cross-site"), ("Origin", "http://evil.example"), ("Origin", "null")] {
        let fields = [("Cookie", browser.cookie.as_str()), (name, value)];
        let said = http(scene.admin(), "POST /queue/act", &fields, &whole).await;
        assert_eq!(said.status, 403, "{name}: {value}");
    }
    let api = format!("{{\"act\":\"delete\",\"id\":[\"{}\"],\"reason\":\"x\"}}", scene.id);
    let fields = [("Cookie", browser.cookie.as_str()), ("Content-Type", "text/plain")];
    assert_eq!(http(scene.admin(), "POST /api/v1/acts", &fields, &api).await.status, 403, "the interface as well");
    assert!(browser.get("/queue").await.body.contains(&scene.id.to_string()), "it is still there");
    let fields = [("Cookie", browser.cookie.as_str()), ("X-CSRF-Token", csrf.as_str())];
    assert_eq!(http(scene.admin(), "POST /api/v1/acts", &fields, &api).await.status, 200);
}

#[tokio::test]
async fn an_act_is_recorded_with_the_user_and_can_be_undone_and_each_role_sees_what_it_may_do() {
    let scene = PageScene::new().await;
    let look = scene.browser(UserRole::Look).await;
    scene.until_tried(&look).await;
    let page = look.get("/queue").await.body;
    assert!(page.contains(&scene.id.to_string()) && !page.contains("<select id=\"act\""), "{page}");
    let desk = scene.browser(UserRole::HelpDesk).await;
    let page = desk.get("/queue").await.body;
    assert!(page.contains("value=\"retry\"") && !page.contains("value=\"delete\""), "{page}");
    let order = |act: &str, csrf: &str| format!("act={act}&reason=the+customer+asked&id={}&csrf={csrf}", scene.id);
    let said = desk.post("/queue/act", &order("delete", &desk.csrf().await)).await;
    assert_eq!((said.status, said.body.contains("needs the role operator")), (403, true), "{said:?}");
    let (anna, bert) = (scene.browser(UserRole::Operator).await, scene.browser(UserRole::Operator).await);
    let held = anna.post("/queue/act", &order("hold", &anna.csrf().await)).await;
    assert!(held.body.contains("Hold: 1 message") && held.body.contains("value=\"release\""), "{}", held.body);
    let twice = bert.post("/queue/act", &order("hold", &bert.csrf().await)).await;
    assert!(twice.body.contains("Hold: 0 messages"), "the other one was quicker: {}", twice.body);
    let released = anna.post("/queue/act", &order("release", &anna.csrf().await)).await;
    assert!(released.body.contains("Release: 1 message"), "{}", released.body);
    let without = anna.post("/queue/act", &format!("act=hold&id={}&csrf={}", scene.id, anna.csrf().await)).await;
    assert!(without.body.contains("say why"), "{}", without.body);
    let story = look.get(&format!("/find?q={}", scene.id)).await.body;
    assert!(story.contains("by the operator (the user operator: the customer asked): bob@busy.test held"), "{story}");
}

/// A message whose recipient, subject and Message-ID are markup, with a character that turns the direction of text.
async fn hostile_message(scene: &PageScene) -> QueueId {
    let to = format!("\"{MARKUP}\"@busy.test");
    let head = format!("From: <{SENDER}>\r\nTo: <bob@busy.test>\r\nSubject: {MARKUP}\u{202e}\r\n");
    let content = format!("{head}Message-ID: <{MARKUP}\u{202e}@busy.test>\r\n\r\nHello!\r\n");
    hand_in(scene.world.smtp(), SENDER, &[to.as_str()], content.as_bytes()).await
}

#[tokio::test]
async fn words_of_strangers_are_shown_and_not_obeyed() {
    let scene = PageScene::new().await;
    let browser = scene.browser(UserRole::Operator).await;
    scene.until_tried(&browser).await;
    let encoded = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%AE%22%27%00%0D%0ASet-Cookie:%20a=b";
    let csrf = browser.csrf().await;
    let suspended = browser.post("/suspend", &format!("csrf={csrf}&kind=user&name={MARKUP}&reason={encoded}")).await;
    assert_eq!(suspended.status, 303, "{suspended:?}");
    let without = browser.post("/resume", &format!("csrf={csrf}&kind=user&name={MARKUP}&reason=")).await;
    assert!(without.body.contains("say why"), "{without:?}");
    let resumed = browser.post("/resume", &format!("csrf={csrf}&kind=user&name={MARKUP}&reason={MARKUP}")).await;
    assert_eq!(resumed.status, 303, "{resumed:?}");
    let page = browser.get("/exceptions").await.body;
    assert!(page.contains("let in again, by operator"), "who let in again is recorded: {page}");
    let id = scene.id;
    let paths = [
        format!("/find?q={id}"),
        format!("/find?q={encoded}"),
        format!("/domain?name={encoded}"),
        format!("/queue?domain={encoded}"),
        format!("/queue?sender={encoded}&cause={encoded}&older={encoded}&sort={encoded}&after={encoded}"),
        format!("/check?id={encoded}"),
        "/exceptions".to_owned(),
        "/queue".to_owned(),
        "/".to_owned(),
    ];
    for path in paths {
        let page = browser.get(&path).await;
        assert!(!page.body.contains("<script>"), "{path}: {}", page.body);
        assert!(!page.body.contains('\u{202e}') && !page.body.contains('\0'), "{path}: {}", page.body);
        assert!(page.fields("set-cookie").is_empty(), "{path}: {}", page.head);
    }
    let story = browser.get(&format!("/find?q={id}")).await.body;
    assert!(story.contains("&#60;script&#62;alert(1)"), "the reply is told: {story}");
    let hostile = hostile_message(&scene).await;
    // Its row follows the 250.
    while browser.get(&format!("/find?q={hostile}")).await.body.contains("Nothing is known of that") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for path in [
        "/queue".to_owned(),
        format!("/find?q={hostile}"),
        "/find?q=%22%3Cscript%3Ealert(1)%3C%2Fscript%3E%22@busy.test".to_owned(),
    ] {
        let page = browser.get(&path).await.body;
        assert!(page.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "the address is shown at {path}: {page}");
        assert!(!page.contains("<script>alert") && !page.contains('\u{202e}'), "{path}: {page}");
    }
    // A request that would add a header field of its own.
    let octets = format!(
        "GET /queue HTTP/1.1\r\nHost: x\r\nCookie: {}\r\nX: a\rSet-Cookie: b\r\nConnection: close\r\n\r\n",
        browser.cookie
    );
    assert_eq!(said(scene.admin(), octets.as_bytes(), "a bare CR").await.status, 400);
}

#[tokio::test]
async fn a_proxy_vouches_from_its_own_address_alone() {
    let from = |network: &str| {
        let network = vec![network.parse().unwrap()];
        PageScene::with(move |config| {
            config.admin.trusted_proxies = network;
            config.admin.user_header = Some("X-Forwarded-User".to_owned());
        })
    };
    let scene = from("127.0.0.0/8").await;
    let ask = async |scene: &PageScene, fields: &[(&str, &str)]| http(scene.admin(), "GET /", fields, "").await.status;
    assert_eq!(ask(&scene, &[("X-Forwarded-User", "vouched")]).await, 200);
    assert_eq!(ask(&scene, &[("X-Forwarded-User", "nobody")]).await, 303);
    assert_eq!(ask(&scene, &[("X-Forwarded-User", "mailer")]).await, 303, "no role");
    assert_eq!(ask(&scene, &[("X-Forwarded-User", "vouched"), ("X-Forwarded-User", "operator")]).await, 303);
    let check = http(scene.admin(), "POST /check", &[("X-Forwarded-User", "vouched")], "domain=good.test").await;
    assert_eq!(check.status, 403, "another site could have a browser send it: {check:?}");
    let scene = from("192.0.2.0/24").await;
    assert_eq!(ask(&scene, &[("X-Forwarded-User", "vouched")]).await, 303);
}

#[tokio::test]
async fn users_certificate_and_proxies_of_the_admin_port_are_those_of_now() {
    let world = Configured::new(lab()).await;
    let (admin, folder) = (world.relay.admin, world.folder.path());
    let vouched = ("X-Forwarded-User", "vouched");
    let status = async |fields: &[(&str, &str)]| http(admin, "GET /", fields, "").await.status;
    assert_eq!(status(&[vouched]).await, 404, "without users there is nothing");
    let (users, pem) = (folder.join("admins"), folder.join("admin.pem"));
    std::fs::write(&users, "vouched ! role=look\n").unwrap();
    world.add(
        "admin",
        &format!("users = {users:?}\ntrusted_proxies = [\"127.0.0.1\"]\nuser_header = \"X-Forwarded-User\""),
    );
    world.reload().await;
    assert_eq!((status(&[vouched]).await, status(&[]).await), (200, 303));
    world.write(|text| text.replace("\"127.0.0.1\"]\nuser_header", "\"192.0.2.1\"]\nuser_header"));
    world.reload().await;
    assert_eq!(status(&[vouched]).await, 303, "another proxy");
    let first = certificate(2040);
    std::fs::write(&pem, &first).unwrap();
    world.add("admin", &format!("certificate = {pem:?}\nprivate_key = {pem:?}"));
    world.reload().await;
    let ask = "GET /readyz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";
    assert_eq!(said_in_tls(admin, &first, ask.as_bytes()).await.unwrap().body, "ready\n");
    let second = certificate(2041);
    std::fs::write(&pem, &second).unwrap();
    world.reload().await;
    assert!(said_in_tls(admin, &first, ask.as_bytes()).await.is_err(), "another certificate");
    let login = "GET /login HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";
    assert_eq!(said_in_tls(admin, &second, login.as_bytes()).await.unwrap().status, 200);
    std::fs::write(&users, "vouched secret\n").unwrap();
    let why = world.refused().await;
    assert!(why.contains("[admin] users") && why.contains("argon2id"), "{why}");
}

#[tokio::test]
async fn a_check_is_begun_and_watched_and_ends_in_the_words_of_the_command() {
    let scene = PageScene::new().await;
    let (look, desk) = (scene.browser(UserRole::Look).await, scene.browser(UserRole::HelpDesk).await);
    assert!(!look.get("/domain?name=good.test").await.body.contains("action=\"/check\""));
    let form = format!("domain=good.test&csrf={}", desk.csrf_of("/domain?name=good.test").await);
    let begun = desk.post("/check", &form).await;
    let path = begun.fields("location")[0].to_owned();
    let done = async || {
        let page = desk.get(&path).await.body;
        page.contains("OK  good.test").then_some(page)
    };
    let page = until(done, "the end of the check").await;
    assert!(!page.contains("data-events"), "{page}");
}

#[tokio::test]
async fn a_domain_shows_its_servers_their_records_and_the_last_deliveries() {
    let scene = PageScene::new().await;
    let look = scene.browser(UserRole::Look).await;
    let id = scene.world.mail(&["bob@good.test"]).await;
    scene.world.delivered(id, "bob@good.test").await;
    let shown = async || {
        let page = look.get("/domain?name=good.test").await.body;
        // What has not come in time is on the next page.
        (!page.contains("data-reload") && page.contains("matched lately")).then_some(page)
    };
    let page = until(shown, "an answer of the DNS, and the delivery in the ledger").await;
    for words in ["mx.good.test", "DNSSEC: secure", "matched lately", "<code>3 1 1 ", &id.to_string(), "dane, TLSv1.3"]
    {
        assert!(page.contains(words), "no {words} in {page}");
    }
    let dutch = look.get_in("nl", "/domain?name=good.test").await.body;
    assert!(dutch.contains("Laatste afleveringen") && dutch.contains("paste onlangs"), "{dutch}");
    let nowhere = async || {
        let page = look.get("/domain?name=nowhere.test").await.body;
        (!page.contains("data-reload")).then_some(page)
    };
    let nowhere = until(nowhere, "an answer of the DNS").await;
    assert!(nowhere.contains("class=\"fault\"") && nowhere.contains("5000"), "{nowhere}");
}

#[tokio::test]
async fn a_cookie_is_secure_where_a_proxy_of_ours_says_that_the_browser_speaks_tls() {
    let from = |network: &str| {
        let network = vec![network.parse().unwrap()];
        PageScene::with(move |config| config.admin.trusted_proxies = network)
    };
    let https = [("X-Forwarded-Proto", "https")];
    let scene = from("127.0.0.0/8").await;
    let set = scene.login("operator", PASSWORD, &https).await.fields("set-cookie")[0].to_owned();
    assert!(set.starts_with("__Host-relay=") && set.contains("; Secure") && set.contains("; HttpOnly"), "{set}");
    let cookie = set.split(';').next().unwrap();
    let ask = async |fields: &[(&str, &str)]| http(scene.admin(), "GET /", fields, "").await.status;
    assert_eq!(ask(&[("Cookie", cookie), https[0]]).await, 200);
    assert_eq!(ask(&[("Cookie", cookie)]).await, 303, "it is not for a browser in clear");
    let scene = from("192.0.2.0/24").await;
    let set = scene.login("operator", PASSWORD, &https).await.fields("set-cookie")[0].to_owned();
    assert!(
        set.starts_with("relay-session=") && !set.contains("Secure"),
        "from elsewhere it counts for nothing: {set}"
    );
}
