//! The page in a real browser, Debian's Chromium: every page in light and dark, wide and narrow, looked at by axe-core;
//! the login by keyboard, and a check that is watched live.
//!
//! `tests/run` installs what it needs: `chromium`, `chromium-driver`, and axe-core from npm, whose file `AXE_CORE` names.

use crate::page::PageScene;
use crate::relay::until;
use dane_relay::config::users::UserRole;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A driver that ends with its test.
struct Driver {
    child: Child,
    address: String,
}

impl Driver {
    fn start() -> Self {
        let mut command = Command::new("chromedriver");
        let mut child = command.arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            line.split_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        let address = format!("http://127.0.0.1:{}", port.unwrap());
        // Whoever reads no further would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// A browser that prefers these colours: 0 is dark, 1 is light.
    async fn browser(&self, scheme: u8) -> Client {
        self.with_settings(&format!("preferredColorScheme={scheme}")).await
    }

    /// A browser in which no script runs.
    async fn without_script(&self) -> Client {
        self.with_settings("scriptEnabled=false").await
    }

    async fn with_settings(&self, settings: &str) -> Client {
        let settings = format!("--blink-settings={settings}");
        let arguments = json!(["--headless", "--no-sandbox", "--disable-gpu", "--lang=en", settings]);
        let Value::Object(wanted) = json!({ "goog:chromeOptions": { "args": arguments } }) else { unreachable!() };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted).connect(&self.address).await.unwrap()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What axe-core finds against a page, in lines.
async fn violations(client: &Client, axe: &str) -> Vec<String> {
    client.execute(&format!("{axe}; window.axe = axe;"), Vec::new()).await.unwrap();
    let run = "const done = arguments[arguments.length - 1]; \
               axe.run().then(found => done(found.violations), error => done([{ id: String(error), nodes: [] }]));";
    let found = client.execute_async(run, Vec::new()).await.unwrap();
    let line = |one: &Value| format!("{}: {}", one["id"], one["nodes"]);
    found.as_array().unwrap().iter().map(line).collect()
}

/// What is wrong with a page: for those who cannot see it, and for those whose window is narrow.
async fn faults(client: &Client, axe: &str) -> Vec<String> {
    let wide = (!fits(client).await).then(|| "wider than the window".to_owned());
    violations(client, axe).await.into_iter().chain(wide).collect()
}

/// Whether the page can be read without scrolling to the side.
async fn fits(client: &Client) -> bool {
    let wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth;";
    client.execute(wide, Vec::new()).await.unwrap() == json!(true)
}

async fn log_in(client: &Client, scene: &PageScene) {
    client.goto(&format!("http://{}/queue", scene.admin())).await.unwrap();
    // By keyboard alone: the name has the focus.
    let name = client.active_element().await.unwrap();
    let typed = format!("operator{}correct horse{}", char::from(Key::Tab), char::from(Key::Enter));
    name.send_keys(&typed).await.unwrap();
    client.wait().at_most(Duration::from_secs(30)).for_element(Locator::Css("nav")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_in_light_and_dark_and_on_a_telephone() {
    let axe = std::fs::read_to_string(std::env::var_os("AXE_CORE").unwrap()).unwrap();
    let (scene, driver) = (PageScene::new().await, Driver::start());
    scene.until_tried(&scene.browser(UserRole::Look).await).await;
    let mut found = Vec::new();
    for scheme in [0, 1] {
        let client = driver.browser(scheme).await;
        client.goto(&format!("http://{}/login", scene.admin())).await.unwrap();
        assert_eq!(violations(&client, &axe).await, [""; 0], "/login");
        log_in(&client, &scene).await;
        let story = format!("/find?q={}", scene.id);
        let pages = [
            "/",
            &story,
            "/domain?name=busy.test",
            "/queue",
            "/queue?cause=nonsense",
            "/incidents",
            "/reports",
            "/exceptions",
        ];
        for path in pages {
            client.goto(&format!("http://{}{path}", scene.admin())).await.unwrap();
            for width in [1200, 360] {
                client.set_window_size(width, 900).await.unwrap();
                let place = format!("{path} at {width}, scheme {scheme}");
                found.extend(faults(&client, &axe).await.into_iter().map(|line| format!("{place}: {line}")));
            }
        }
        let ground = "return getComputedStyle(document.body).backgroundColor;";
        let ground = client.execute(ground, Vec::new()).await.unwrap();
        assert_eq!(ground == json!("rgb(13, 17, 23)"), scheme == 0, "{ground}");
        client.close().await.unwrap();
    }
    assert_eq!(found, [""; 0]);
}

/// What a check says at its end. The page may be replaced by the next one while somebody looks.
async fn said(client: &Client) -> String {
    let look = || async { client.find(Locator::Css("#said")).await.ok()?.text().await.ok() };
    until(look, "the end of the check").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_watched_live_and_the_answer_for_a_caller_can_be_copied() {
    let (scene, driver) = (PageScene::new().await, Driver::start());
    scene.until_tried(&scene.browser(UserRole::Look).await).await;
    let client = driver.browser(1).await;
    log_in(&client, &scene).await;
    client.goto(&format!("http://{}/domain?name=good.test", scene.admin())).await.unwrap();
    client.find(Locator::Css("form[action='/check'] button")).await.unwrap().click().await.unwrap();
    let text = said(&client).await;
    assert!(text.starts_with("OK  good.test"), "{text}");
    client.goto(&format!("http://{}/find?q={}", scene.admin(), scene.id)).await.unwrap();
    let copy = client.find(Locator::Css("button.copy")).await.unwrap();
    assert!(copy.is_displayed().await.unwrap(), "with a script there is the button");
    // What the server answered is text, and nothing else.
    assert!(client.source().await.unwrap().contains("&lt;script&gt;alert(1)"));
    assert!(client.get_alert_text().await.is_err(), "nothing of it ran");
    client.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_script_everything_can_be_read_and_a_check_shows_its_end_by_itself() {
    let (scene, driver) = (PageScene::new().await, Driver::start());
    scene.until_tried(&scene.browser(UserRole::Look).await).await;
    let client = driver.without_script().await;
    log_in(&client, &scene).await;
    let story = format!("/find?q={}", scene.id);
    for (path, words) in [
        ("/", "Mail flows"),
        (story.as_str(), "mx.busy.test"),
        ("/domain?name=busy.test", "Mail servers"),
        ("/queue", "rejected-for-now"),
        ("/incidents", "No incident is known"),
        ("/reports", "Reports on TLS"),
        ("/exceptions", "Nobody is suspended"),
    ] {
        client.goto(&format!("http://{}{path}", scene.admin())).await.unwrap();
        let text = client.find(Locator::Css("main")).await.unwrap().text().await.unwrap();
        assert!(text.contains(words), "no {words} at {path}: {text}");
        assert!(client.find(Locator::Css("button.copy:not([hidden])")).await.is_err(), "it would do nothing: {path}");
    }
    client.goto(&format!("http://{}/domain?name=good.test", scene.admin())).await.unwrap();
    client.find(Locator::Css("form[action='/check'] button")).await.unwrap().click().await.unwrap();
    assert!(said(&client).await.starts_with("OK  good.test"), "the page came again by itself");
    client.close().await.unwrap();
}
