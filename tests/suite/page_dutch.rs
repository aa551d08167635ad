//! The page in Dutch says nothing in English, but for what is handed over to others as it is and says so.

use crate::page::{Browser, PageScene};
use crate::relay::until;
use dane_relay::clock::Timestamp;
use dane_relay::config::users::UserRole;
use dane_relay::outcome::{Certainty, Side};
use dane_relay::spool::incident::Incident;
use serde_json::json;

/// What English sentences of each kind begin with, or have in them: causes, advice, checks and their steps, the DNS,
/// the watch, the queue.
const ENGLISH: [&str; 40] = [
    "The mail server",
    "The domain ",
    "The DNS ",
    "The signed",
    "The certificate",
    "The recipient",
    "No connection",
    "No encrypted",
    "We tried",
    "It may be",
    "Check the",
    "Check that",
    "If other",
    "Ask the",
    "no DANE",
    "no MTA-STS",
    "not signed",
    "asking ",
    "connecting to",
    "judging",
    "from MX",
    "MX records",
    " TLSA record",
    "may not be used",
    "it answered",
    "mail is delivered",
    "mail to it",
    "would be",
    "message waits",
    " messages",
    "1 message<",
    "addresses good",
    "authenticated by",
    "nothing is lost",
    "inconclusive",
    "proven",
    "likely",
    "Nothing was found",
    "counting",
    "DNS by ",
];

/// A page without the parts that say of themselves that they are English.
fn dutch_part(page: &str) -> String {
    let mut left = page.to_owned();
    while let Some(at) = left.find(" lang=\"en\"") {
        let begin = left[..at].rfind('<').unwrap();
        let name: String = left[begin + 1..].chars().take_while(char::is_ascii_alphanumeric).collect();
        let close = format!("</{name}>");
        let end = at + left[at..].find(&close).unwrap() + close.len();
        left.replace_range(begin..end, "");
    }
    left
}

async fn speaks_dutch(browser: &Browser, path: &str) -> String {
    let page = browser.get_in("nl", path).await.body;
    let part = dutch_part(&page);
    assert!(part.contains("<html lang=\"nl\">"), "{path}: {page}");
    for english in ENGLISH {
        assert!(!part.contains(english), "{path} says {english:?}: {part}");
    }
    page
}

fn incident() -> Incident {
    let since = Timestamp(1_795_261_468_000);
    let told = json!({
        "id": "I1795261468000", "kind": "dns-unavailable", "cause": "local-dns-count-filter",
        "side": Side::Path, "certainty": Certainty::Proven, "since": since, "until": null, "ended": null,
        "opened_by": "domains", "domains": ["a.test"], "domain_count": 3, "messages": 4,
        "sentence": "The DNS answers with more than 4 TLSA records vanish.",
        "evidence": ["The recipient's own servers are cut off in the same way."], "what_to_do": ["Ask the firewall team."],
    });
    serde_json::from_value(told).unwrap()
}

#[tokio::test]
async fn no_page_in_dutch_says_anything_in_english() {
    let scene = PageScene::new().await;
    let desk = scene.browser(UserRole::HelpDesk).await;
    scene.until_tried(&desk).await;
    let state = rusqlite::Connection::open(scene.world.spool_config().path.join("state.sqlite")).unwrap();
    let kept = serde_json::to_string(&incident()).unwrap();
    state.execute("INSERT INTO incidents (id, incident) VALUES (1795261468000, ?1)", [kept]).unwrap();
    for path in ["/", "/queue", "/reports", "/report?domain=busy.test&day=2026-11-21", "/exceptions"] {
        speaks_dutch(&desk, path).await;
    }
    let incidents = speaks_dutch(&desk, "/incidents").await;
    for words in ["het netwerk onderweg, bewezen", "verdwijnen op weg naar deze relay", "beheerders van de firewall"] {
        assert!(incidents.contains(words), "no {words} in {incidents}");
    }
    assert!(incidents.contains("Ask the firewall team."), "it is handed over as it is: {incidents}");
    speaks_dutch(&desk, &format!("/find?q={}", scene.id)).await;
    for domain in ["good.test", "plain.test", "down.test", "busy.test", "nowhere.test"] {
        let path = format!("/domain?name={domain}");
        let known = async || (!desk.get(&path).await.body.contains("data-reload")).then_some(());
        until(known, "an answer of the DNS").await;
        speaks_dutch(&desk, &path).await;
    }
    assert!(speaks_dutch(&desk, "/domain?name=plain.test").await.contains("Geen DANE: "));
    assert!(speaks_dutch(&desk, "/domain?name=nowhere.test").await.contains("Het domein nowhere.test bestaat niet."));
}

#[tokio::test]
async fn a_check_is_told_in_dutch_step_by_step_and_with_the_text_of_the_command_beside_it() {
    let scene = PageScene::new().await;
    let desk = scene.browser(UserRole::HelpDesk).await;
    for (domain, verdict, command) in [
        ("good.test", "IN ORDE  good.test", "OK  good.test"),
        ("plain.test", "IN ORDE  plain.test", "OK  plain.test"),
        ("nowhere.test", "FOUT  de afzender  bewezen  domain-not-found", "FAULT  sender  proven  domain-not-found"),
        ("down.test", "FOUT  het netwerk onderweg", "FAULT  path"),
    ] {
        let form = format!("domain={domain}&csrf={}", desk.csrf_of(&format!("/domain?name={domain}")).await);
        let begun = desk.post("/check", &form).await;
        let path = begun.fields("location")[0].to_owned();
        let done = async || {
            let page = speaks_dutch(&desk, &path).await;
            (!page.contains("data-events")).then_some(page)
        };
        let page = until(done, "the end of the check").await;
        assert!(page.contains(verdict) && page.contains(command), "no {verdict} in {page}");
    }
}
