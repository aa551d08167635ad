//! A disk without room, as the kernel makes it: the spool is on a small file system of its own, which the test fills
//! to the last block or inode.
//!
//! Each test runs itself once more in a mount namespace of its own. Where the system allows none, it says so and
//! proves nothing.

use crate::process::{Serving, run};
use crate::relay::{PATIENCE, SENDER, configuration, content, get, hand_in, lab, metrics, says, until};
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{Lab, LabBuilder, TroubleAt};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Set for the run inside.
const INSIDE: &str = "RELAY_TEST_OWN_MOUNTS";
/// Longer than a stop takes that waits for everything it waits for.
const STOP_PATIENCE: Duration = Duration::from_secs(85);

/// Runs the test of this name once more, where it may mount.
#[expect(clippy::print_stderr, reason = "a test that shows nothing says so")]
pub(crate) fn with_own_mounts(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
    }
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let may_mount = |way: &&&[&str]| {
        let mut tried = Command::new("unshare");
        tried.args(**way).args(["mount", "-t", "tmpfs", "none", "/mnt"]);
        tried.output().is_ok_and(|out| out.status.success())
    };
    let Some(way) = ways.iter().find(may_mount) else {
        eprintln!("SKIPPED {name}: nobody may mount a file system here, so nothing is shown");
        return;
    };
    let mut inside = Command::new("unshare");
    inside.args(*way).arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let ended = inside.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

/// A relay whose spool is alone on a small disk.
struct SmallDisk {
    lab: Lab,
    folder: TempDir,
    relay: Option<Serving>,
}

impl SmallDisk {
    /// With so many octets as the floor.
    async fn new(lab: LabBuilder, floor: u64) -> Self {
        let (lab, folder) = (lab.start().await.unwrap(), tempfile::tempdir().unwrap());
        let spool = folder.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        let size = ["-t", "tmpfs", "-o", "size=24m,nr_inodes=200,mode=700", "none"];
        assert!(Command::new("mount").args(size).arg(&spool).status().unwrap().success());
        let text = configuration(&lab, folder.path());
        let text = text.replace("min_free_bytes = 0", &format!("min_free_bytes = {floor}"));
        std::fs::write(folder.path().join("relay.toml"), text).unwrap();
        let relay = Some(Serving::start(&folder.path().join("relay.toml")).await);
        Self { lab, folder, relay }
    }

    fn relay(&self) -> &Serving {
        self.relay.as_ref().unwrap()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("spool/filler")
    }

    /// Takes all blocks that are left.
    fn fill(&self) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.filler()).unwrap();
        for piece in [1 << 20, 4096] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    /// Takes all inodes that are left.
    fn fill_inodes(&self) -> Vec<PathBuf> {
        let names = (0..).map(|number| self.folder.path().join(format!("spool/filler-{number}")));
        names.take_while(|name| std::fs::File::create(name).is_ok()).collect()
    }

    async fn readiness(&self, status: u16) -> String {
        let asked = || async {
            let (told, text) = get(self.relay().admin, "/readyz").await;
            (told == status).then_some(text)
        };
        until(asked, "the readiness to change").await
    }

    async fn logged(&self, words: &str) {
        let said = || std::future::ready(self.relay().log().iter().any(|line| line.contains(words)).then_some(()));
        until(said, words).await;
    }

    async fn full(&self, reason: &str) -> f64 {
        metrics(self.relay().admin).await[&format!("relay_spool_disk_full{{reason=\"{reason}\"}}")]
    }

    /// What a client is told that wants to hand in a message.
    async fn answer(&self) -> String {
        let mut client = SmtpClient::ready(self.relay().smtp).await.unwrap();
        client.command(&format!("MAIL FROM:<{SENDER}>")).await.unwrap().to_string()
    }

    async fn arrives(&self, domain: &str, count: usize) -> String {
        let came = self.lab.mx(domain).unwrap().wait_for_messages(count, PATIENCE).await;
        let messages = came.unwrap_or_else(|error| panic!("{error}: {:#?}", self.relay().log()));
        String::from_utf8(messages.last().unwrap().content.clone()).unwrap()
    }

    async fn mail(&self, to: &str) {
        hand_in(self.relay().smtp, SENDER, &[to], content(to).as_bytes()).await;
    }

    async fn until_queued(&self, count: f64) {
        let there = || async { (metrics(self.relay().admin).await["relay_queue_messages"] == count).then_some(()) };
        until(there, "the queue to settle").await;
    }

    async fn start(&mut self) {
        self.relay = Some(Serving::start(&self.config()).await);
    }

    /// SIGTERM, and what it said to the end.
    async fn stop(&mut self) {
        let relay = self.relay.take().unwrap();
        relay.terminate();
        assert_eq!(relay.ended().await, 0);
    }
}

/// How often a recipient was put off.
async fn deferrals(admin: SocketAddr) -> f64 {
    let all = metrics(admin).await;
    all.iter().filter(|(name, _)| name.starts_with("relay_recipient_deferrals_total")).map(|(_, count)| count).sum()
}

/// A FIFO where a file should be: whoever opens it waits for ever, as for a disk that hangs.
fn hangs(path: &Path) {
    std::fs::remove_file(path).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn rfc5321_4_2_5_a_disk_without_blocks_or_inodes_is_one_state_everywhere_and_passes_with_it() {
    let name = "full_disk::rfc5321_4_2_5_a_disk_without_blocks_or_inodes_is_one_state_everywhere_and_passes_with_it";
    with_own_mounts(name, async {
        let world = SmallDisk::new(lab().domain("dane.test", |d| d), 0).await;
        world.readiness(200).await;
        world.fill();
        let told = world.readiness(503).await;
        assert!(
            told.contains("is full since 20") && told.contains("no free blocks") && told.contains("goes out"),
            "{told}"
        );
        world.logged("the disk of the spool is full since").await;
        assert_eq!((world.full("blocks").await, world.full("inodes").await), (1.0, 0.0));
        assert!(world.answer().await.starts_with("452 4.3.1 "));
        let config = world.config();
        let status = run(["status", "--json", "--config", config.to_str().unwrap()]).await;
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["full_disk"]["lacks"], "blocks", "{status}");
        assert!(status["refuses"].as_str().is_some_and(|why| told.contains(why)), "{status}");
        world.free();
        world.readiness(200).await;
        world.logged("the disk of the spool has room again").await;
        assert_eq!(world.full("blocks").await, 0.0);
        world.mail("bob@dane.test").await;
        world.arrives("dane.test", 1).await;

        let files = world.fill_inodes();
        assert!(world.readiness(503).await.contains("low on free inodes"));
        assert!(world.answer().await.starts_with("452 4.3.1 "));
        assert_eq!((world.full("blocks").await, world.full("inodes").await), (0.0, 1.0));
        files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        world.readiness(200).await;
        world.mail("bob@dane.test").await;
        world.arrives("dane.test", 2).await;
    });
}

#[test]
fn rfc5321_6_1_on_a_full_disk_the_queue_goes_out_with_its_reports_and_the_relay_stops_and_starts() {
    let name =
        "full_disk::rfc5321_6_1_on_a_full_disk_the_queue_goes_out_with_its_reports_and_the_relay_stops_and_starts";
    with_own_mounts(name, async {
        for floor in [0, 8 << 20] {
            let lab = lab().domain("later.test", |d| d).domain("no.test", |d| d);
            let mut world = SmallDisk::new(lab, floor).await;
            for domain in ["later.test", "no.test"] {
                world.lab.mx(domain).unwrap().trouble(TroubleAt::Rcpt, says("450 4.2.1 not yet"));
                world.mail(&format!("bob@{domain}")).await;
            }
            world.until_queued(2.0).await;
            world.fill();
            world.readiness(503).await;
            world.stop().await;
            world.fill();
            world.start().await;
            world.fill();
            assert!(world.answer().await.starts_with("452 4.3.1 "));
            world.until_queued(2.0).await;
            world.lab.mx("later.test").unwrap().trouble(TroubleAt::Rcpt, None);
            world.lab.mx("no.test").unwrap().trouble(TroubleAt::Rcpt, says("550 5.1.1 no such user"));
            world.arrives("later.test", 1).await;
            assert!(world.arrives("office.test", 1).await.contains("no such user"));
            world.until_queued(0.0).await;
            // It is stopped and started as often as somebody likes, with whatever it left taken by others.
            for _again in 0..2 {
                world.stop().await;
                world.fill();
                world.start().await;
            }
            world.free();
            world.readiness(200).await;
            // The reserve is not there again yet: what is left at the stop is for the start.
            world.stop().await;
            world.fill();
            world.start().await;
            world.free();
            world.readiness(200).await;
            world.mail("bob@later.test").await;
            world.arrives("later.test", 2).await;
        }
    });
}

#[test]
fn a_start_without_a_free_inode_is_a_start() {
    with_own_mounts("full_disk::a_start_without_a_free_inode_is_a_start", async {
        let mut world = SmallDisk::new(lab().domain("later.test", |d| d), 0).await;
        world.lab.mx("later.test").unwrap().trouble(TroubleAt::Rcpt, says("450 4.2.1 not yet"));
        world.mail("bob@later.test").await;
        world.stop().await;
        let files = world.fill_inodes();
        world.start().await;
        assert!(world.readiness(503).await.contains("low on free inodes"));
        world.lab.mx("later.test").unwrap().trouble(TroubleAt::Rcpt, None);
        world.arrives("later.test", 1).await;
        world.until_queued(0.0).await;
        files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        world.readiness(200).await;
    });
}

#[tokio::test]
async fn a_disk_that_never_answers_does_not_hold_the_stop_which_says_what_it_leaves() {
    let (lab, folder) = (lab().domain("later.test", |d| d).start().await.unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, configuration(&lab, folder.path())).unwrap();
    lab.mx("later.test").unwrap().trouble(TroubleAt::Rcpt, says("450 4.2.1 not yet"));
    let mut relay = Serving::start(&file).await;
    let large = format!("{}{}", content("bob@later.test"), "a line of a large message\r\n".repeat(20_000));
    let id = hand_in(relay.smtp, SENDER, &["bob@later.test"], large.as_bytes()).await;
    hangs(&folder.path().join(format!("spool/content/{id}")));
    lab.mx("later.test").unwrap().trouble(TroubleAt::Rcpt, None);
    // No attempt ends any more.
    let attempts = || deferrals(relay.admin);
    let mut before = -1.0;
    while before < attempts().await {
        before = attempts().await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    relay.terminate();
    assert_eq!(relay.ends_within(STOP_PATIENCE).await, 0);
    let log = relay.log().join("\n");
    assert!(log.contains("the stop leaves work undone") && log.contains("deliveries_under_way=1"), "{log}");
}
