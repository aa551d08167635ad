//! What one node has found out, the others need not find out again.

use super::ClusterScene;
use crate::process::Serving;
use crate::relay::{SENDER, content, hand_in, lab, metrics, says, until};
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{Certificate, DomainSpec, TroubleAt};
use serde_json::Value;

impl ClusterScene {
    /// The domains whose policies a node keeps.
    async fn policies(&self, node: &str) -> Vec<String> {
        let said = self.run(node, &["policy", "list", "--json"]).await;
        let domain = |line: &str| {
            let policy: Value = serde_json::from_str(line).unwrap();
            policy["domain"].as_str().unwrap().to_owned()
        };
        said.stdout.lines().map(domain).collect()
    }

    async fn knows_policy(&self, node: &str, domain: &str) {
        let knows = || async { self.policies(node).await.iter().any(|one| one == domain).then_some(()) };
        until(knows, &format!("{node} to hear of the policy")).await;
    }
}

/// What the node answers to a message: the reply to MAIL where that refuses.
async fn answer(node: &Serving) -> String {
    let mut client = SmtpClient::ready(node.smtp).await.unwrap();
    let reply = client.command(&format!("MAIL FROM:<{SENDER}>")).await.unwrap().to_string();
    client.command("QUIT").await.unwrap();
    reply
}

#[tokio::test]
async fn rfc8461_5_1_a_policy_that_one_node_has_fetched_holds_at_all() {
    let strict =
        |d: DomainSpec| d.plain().host(|h| h.certificate(Certificate::Issued)).mta_sts(|p| p.mx(&["old.strict.test"]));
    let scene = ClusterScene::with(lab().domain("strict.test", strict)).await;
    let policy_host = || scene.lab.policy_host("strict.test").unwrap();
    let one = scene.serve("one").await;
    let id = hand_in(one.smtp, SENDER, &["bob@strict.test"], content("1").as_bytes()).await.to_string();
    scene.knows_policy("one", "strict.test").await;
    let told = || async {
        let count = scene.server.answer("relay", "SELECT count(*) FROM findings WHERE topic = 'mta-sts'");
        (count == "1").then_some(())
    };
    until(told, "the node to tell of the policy").await;
    // From now on nobody can fetch it.
    policy_host().behave(|answer| answer.status = 500);
    let fetched = policy_host().requests().len();
    // One that starts knows it before it takes up any mail.
    let two = scene.serve("two").await;
    scene.knows_policy("two", "strict.test").await;
    one.signal("KILL");
    let tries = || async {
        let story = scene.run("two", &["why", &id, "--json"]).await.stdout;
        let story: Value = serde_json::from_str(&story).ok()?;
        let node = scene.server.answer(
            "relay",
            "SELECT count(*) FROM messages WHERE planned_by = \
            (SELECT slot FROM nodes WHERE name = 'two')",
        );
        (node == "1").then_some(story.to_string())
    };
    let story = until(tries, "the other node to try it").await;
    assert!(story.contains("sts-mx-not-listed"), "{story}");
    assert!(
        scene.lab.mx("strict.test").unwrap().messages().is_empty(),
        "without the policy it would go out: {:#?}",
        two.log()
    );
    assert_eq!(policy_host().requests().len(), fetched);
    // One that comes later knows it, too, also where it was fetched before there were others to tell.
    let three = scene.serve("three").await;
    scene.knows_policy("three", "strict.test").await;
    drop((two, three));
}

#[tokio::test]
async fn a_host_that_turns_one_node_away_is_left_alone_by_the_others() {
    let lab = lab().domain("good.test", |d| d).domain("full.test", |d| d);
    let scene = ClusterScene { retry: ["20s", "40s"], ..ClusterScene::with(lab).await };
    std::fs::remove_dir_all(scene.folder.path().join("one")).unwrap();
    let full = || scene.lab.mx("full.test").unwrap();
    full().trouble(TroubleAt::Connect, says("421 4.3.2 too many connections"));
    let (one, two) = (scene.serve("one").await, scene.serve("two").await);
    hand_in(one.smtp, SENDER, &["bob@full.test"], content("1").as_bytes()).await;
    for node in [&one, &two] {
        let knows = || async { (metrics(node.admin).await["relay_hosts_backing_off"] == 1.0).then_some(()) };
        until(knows, "the node to back off").await;
    }
    let tried = full().connections();
    let id = hand_in(two.smtp, SENDER, &["carol@full.test"], content("2").as_bytes()).await.to_string();
    let waits = || async {
        let story = scene.run("two", &["why", &id, "--json"]).await.stdout;
        story.contains("too many connections").then_some(())
    };
    until(waits, "the message to wait for the same reason").await;
    assert_eq!(full().connections(), tried, "nobody tries what is known");
}

#[tokio::test]
async fn what_is_handed_in_at_two_nodes_is_one_limit_and_outlives_a_node() {
    let sections = "[[limit]]\nname = \"accounts\"\nper = \"sender\"\nmessages = [\"8/d\"]\n";
    let scene = ClusterScene { sections, ..ClusterScene::new().await };
    std::fs::remove_dir_all(scene.folder.path().join("one")).unwrap();
    let (one, two) = (scene.serve("one").await, scene.serve("two").await);
    scene.mail(&one, 4).await;
    scene.mail(&two, 3).await;
    let told = || async {
        let counts = "SELECT count(*) FROM findings WHERE topic = 'limits'";
        (scene.server.answer("relay", counts) == "2").then_some(())
    };
    until(told, "both to tell what they have counted").await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert!(answer(&one).await.starts_with("250"), "seven of eight");
    scene.mail(&one, 1).await;
    for node in [&one, &two] {
        let refuses = || async { answer(node).await.starts_with("451 4.7.1").then_some(()) };
        until(refuses, "the limit of both").await;
    }
    one.signal("KILL");
    let one = scene.serve("one").await;
    let refuses = || async { answer(&one).await.starts_with("451 4.7.1").then_some(()) };
    until(refuses, "the one that comes back to hear of it").await;
    drop((one, two));
}
