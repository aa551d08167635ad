//! What becomes of kept policies: on a good disk, a bad one, and when strangers come (RFC 8461
//! §5.1, §10.2).
#![expect(clippy::disallowed_methods, reason = "these tests do to files what disks and strangers do")]

use super::*;
use crate::policy::sts::record::PolicyId;
use crate::policy::sts::room::LIMITS;
use crate::state_dir::{StateDir, sealed};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_795_261_468_000);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(31_557_600);

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

fn read_policy(name: &str, text: String) -> Arc<StsPolicy> {
    let id = Some(PolicyId::try_from("1".to_owned()).unwrap());
    Arc::new(StsPolicy::read(domain(name), id, text.into_bytes(), NOW).unwrap())
}

fn policy(name: &str, mode: &str, max_age: u64) -> Arc<StsPolicy> {
    read_policy(name, format!("version: STSv1\r\nmode: {mode}\r\nmx: *.test\r\nmax_age: {max_age}\r\n"))
}

/// As long as a policy may be, and hardly compressible.
fn fat_policy(name: &str, seed: u64) -> Arc<StsPolicy> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = "version: STSv1\nmode: enforce\nmax_age: 31557600\n".to_owned();
    for _ in 0..1000 {
        state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(17) ^ seed;
        let (a, b, c) = (state, state.wrapping_mul(31), state.wrapping_mul(1_000_003));
        text += &format!("mx: m{a:016x}{b:016x}{c:016x}.test\n");
    }
    read_policy(name, text)
}

fn store(spool: &Path, limits: StoreLimits) -> Store {
    Store::new(Box::new(StateDir::collection(&spool.join(COLLECTION))), limits)
}

fn held(store: &Store, name: &str) -> Held {
    store.get(&domain(name)).held
}

fn lost(held: &Held) -> &Lost {
    let Held::Lost(lost) = held else { panic!("{held:?}") };
    lost
}

fn file(spool: &Path, name: &str) -> PathBuf {
    spool.join(COLLECTION).join(name)
}

#[test]
fn rfc8461_5_1_policies_survive_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let failure = RefreshFailure { at: NOW, result_type: "sts-webpki-invalid".into(), sentence: "no".into() };
    let first = policy("a.test", "enforce", 1000);
    let second = Arc::new(StsPolicy { refresh_failure: Some(failure), id: None, ..(*first).clone() });
    let third = policy(&format!("{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(61)), "testing", 9);
    let fourth = fat_policy("fat.test", 1);
    for policy in [&first, &second, &third, &fourth] {
        store(folder.path(), LIMITS).put(policy, NOW).unwrap();
        let read = store(folder.path(), LIMITS).get(&policy.domain);
        assert_eq!(read, Held::Policy(Arc::clone(policy)).into());
    }
    let files = fs::read_dir(folder.path().join(COLLECTION)).unwrap().count();
    assert_eq!(files, 3, "nothing unfinished stays behind");
}

#[test]
fn rfc8461_10_2_strangers_with_the_largest_policies_evict_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let kept = store(folder.path(), LIMITS);
    for (name, days) in [("established.test", 2), ("newcomer.test", 0)] {
        kept.put(&policy(name, "enforce", 604_800), NOW).unwrap();
        if days > 0 {
            kept.establish(&domain(name), NOW.plus(days * DAY)).unwrap();
        }
    }
    let limits = StoreLimits { newcomers: Size { entries: 5000, bytes: 1_048_576 }, ..LIMITS };
    let flooded = store(folder.path(), limits);
    for n in 0..100 {
        flooded.put(&fat_policy(&format!("d{n}.evil.test"), n), NOW.plus(DAY)).unwrap();
    }
    for running in [&flooded, &store(folder.path(), limits)] {
        for name in ["established.test", "newcomer.test"] {
            assert!(matches!(held(running, name), Held::Policy(_)), "{name}");
        }
        let strangers = (0..100).map(|n| held(running, &format!("d{n}.evil.test"))).collect::<Vec<_>>();
        let let_go = strangers.iter().filter(|held| matches!(held, Held::Lost(_))).count();
        assert!((50..100).contains(&let_go), "{let_go}");
        assert!(!strangers.contains(&Held::Nothing), "an enforced policy is never forgotten");
    }
}

#[test]
fn rfc8461_5_1_who_is_let_go_leaves_the_end_of_the_policy_and_comes_back_by_a_fetch() {
    let folder = tempfile::tempdir().unwrap();
    let limits = StoreLimits { newcomers: Size { entries: 1, bytes: u64::MAX }, ..LIMITS };
    let kept = store(folder.path(), limits);
    kept.put(&policy("first.test", "enforce", 1000), NOW).unwrap();
    kept.put(&policy("none.test", "none", 1000), NOW).unwrap();
    kept.put(&policy("tested.test", "testing", 1000), NOW).unwrap();
    assert_eq!((held(&kept, "none.test"), held(&kept, "tested.test")), (Held::Nothing, Held::Nothing));
    let late = StsPolicy {
        standing: Tenure { since: NOW.plus(DAY), established: None },
        ..(*policy("late.test", "enforce", 500)).clone()
    };
    let late = Arc::new(late);
    kept.put(&late, NOW).unwrap();
    for running in [&kept, &store(folder.path(), limits)] {
        assert!(matches!(held(running, "first.test"), Held::Policy(_)));
        let gone = held(running, "late.test");
        let gone = lost(&gone);
        assert_eq!((&gone.because, gone.until), (&LostBecause::LetGo, Some(NOW.plus(Duration::from_secs(500)))));
    }
    let roomy = store(folder.path(), LIMITS);
    roomy.put(&policy("late.test", "enforce", 500), NOW.plus(2 * DAY)).unwrap();
    let Held::Policy(back) = held(&roomy, "late.test") else { panic!() };
    assert_eq!(back.standing, late.standing, "and stands as before");
}

#[test]
fn rfc8461_10_2_who_finds_no_room_at_all_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let limits = StoreLimits { newcomers: Size { entries: 1, bytes: u64::MAX }, ends: 2, ..LIMITS };
    let kept = store(folder.path(), limits);
    let put = |n: u64| {
        let standing = Tenure { since: NOW.plus(Duration::from_secs(n)), established: None };
        let policy = StsPolicy { standing, ..(*policy(&format!("d{n}.test"), "enforce", 1000)).clone() };
        kept.put(&Arc::new(policy), NOW)
    };
    assert_eq!([put(0), put(1), put(2)], [Ok(()), Ok(()), Ok(())]);
    assert_eq!(put(3), Err(StoreFault::Full { domains: 1 }));
    assert_eq!(held(&kept, "d3.test"), Held::Nothing);
    assert!(matches!(held(&kept, "d1.test"), Held::Lost(_)));
}

#[test]
fn rfc8461_5_1_a_policy_that_cannot_be_read_is_lost_and_not_none_over_restarts() {
    let (folder, of_b) = (tempfile::tempdir().unwrap(), policy("b.test", "enforce", 10));
    let path = file(folder.path(), "a.test");
    store(folder.path(), LIMITS).put(&policy("a.test", "enforce", 10), NOW).unwrap();
    let good = fs::read(&path).unwrap();
    let newer = sealed::seal(&serde_json::json!({ "version": 99, "domain": "a.test" })).unwrap();
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    let contents = [
        flipped,
        Vec::new(),
        good[..good.len() - 1].to_vec(),
        file::encode(&of_b).unwrap(),
        newer,
        vec![b'x'; 2 << 20],
    ];
    for content in contents {
        fs::write(&path, &content).unwrap();
        let written = Timestamp(fs::metadata(&path).unwrap().mtime() * 1000);
        for _restart in 0..2 {
            let running = store(folder.path(), LIMITS);
            let first = running.get(&domain("a.test"));
            assert!(matches!(first.news, Some(StoreFault::Lost { .. })), "{first:?}");
            assert!(matches!(lost(&first.held).because, LostBecause::Damaged { .. }), "{first:?}");
            assert_eq!(lost(&first.held).until, Some(written.plus(YEAR)));
            assert_eq!(running.get(&domain("a.test")), first.held.into(), "told once");
            assert_eq!(held(&running, "c.test"), Held::Nothing, "and nobody else's");
        }
        assert_eq!(fs::read(&path).unwrap(), content, "it stays for whoever repairs it");
    }
    let repaired = store(folder.path(), LIMITS);
    repaired.put(&policy("a.test", "enforce", 10), NOW).unwrap();
    assert!(matches!(held(&repaired, "a.test"), Held::Policy(_)));
}

#[test]
fn rfc8461_5_1_a_file_that_the_disk_does_not_give_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(file(folder.path(), "folder.test")).unwrap();
    std::os::unix::fs::symlink("circle.test", file(folder.path(), "circle.test")).unwrap();
    let running = store(folder.path(), LIMITS);
    for name in ["folder.test", "circle.test"] {
        assert!(matches!(lost(&held(&running, name)).because, LostBecause::Unreadable { .. }), "{name}");
    }
    assert_eq!(held(&running, "a.test"), Held::Nothing);
}

#[test]
fn rfc8461_5_1_where_the_whole_folder_cannot_be_read_nobody_is_taken_for_having_no_policy() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(COLLECTION), "in the way").unwrap();
    let running = store(folder.path(), LIMITS);
    let first = running.get(&domain("a.test"));
    assert!(matches!(first.news, Some(StoreFault::Unreadable { .. })), "{first:?}");
    assert_eq!(lost(&first.held).until, None);
    let second = running.get(&domain("b.test"));
    assert!(matches!(second, LookedUp { held: Held::Lost(_), news: None }), "told once: {second:?}");
    assert!(matches!(running.all().1[..], [StoreFault::Unreadable { .. }]));
    // What is fetched meanwhile counts, though it cannot be kept.
    assert!(matches!(running.put(&policy("a.test", "enforce", 10), NOW), Err(StoreFault::Disk { .. })));
    assert!(matches!(held(&running, "a.test"), Held::Policy(_)));
    fs::remove_file(folder.path().join(COLLECTION)).unwrap();
    assert_eq!(held(&running, "b.test"), Held::Nothing);
}

#[test]
fn rfc8461_5_1_a_disk_that_takes_no_new_policy_leaves_the_old_one_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let running = store(folder.path(), LIMITS);
    let (old, new) = (policy("a.test", "enforce", 1000), policy("a.test", "testing", 1000));
    let new = Arc::new(StsPolicy { fetched_at: NOW.plus(DAY), ..(*new).clone() });
    running.put(&old, NOW).unwrap();
    // The file to be written aside cannot be: its name is taken.
    fs::create_dir_all(folder.path().join(COLLECTION).join(format!(".new-{}-1", std::process::id()))).unwrap();
    assert!(matches!(running.put(&new, NOW.plus(DAY)), Err(StoreFault::Disk { .. })));
    let Held::Policy(here) = held(&running, "a.test") else { panic!() };
    assert_eq!(here.terms.mode, Mode::Testing, "the younger one lives in memory");
    assert_eq!(held(&store(folder.path(), LIMITS), "a.test"), Held::Policy(old));
}

#[test]
fn what_is_remembered_outlasts_a_file_that_has_become_unreadable() {
    let folder = tempfile::tempdir().unwrap();
    let running = store(folder.path(), LIMITS);
    running.put(&policy("a.test", "enforce", 1000), NOW).unwrap();
    fs::write(file(folder.path(), "a.test"), "").unwrap();
    let first = running.get(&domain("a.test"));
    assert!(matches!(first, LookedUp { held: Held::Policy(_), news: Some(StoreFault::Lost { .. }) }), "{first:?}");
    let second = running.get(&domain("a.test"));
    assert!(matches!(second, LookedUp { held: Held::Policy(_), news: None }), "{second:?}");
}

#[test]
fn two_processes_never_replace_a_policy_by_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let (service, operator) = (store(folder.path(), LIMITS), store(folder.path(), LIMITS));
    let old = policy("a.test", "enforce", 1000);
    let new = Arc::new(StsPolicy { fetched_at: NOW.plus(DAY), ..(*policy("a.test", "testing", 1000)).clone() });
    service.put(&old, NOW).unwrap();
    operator.put(&new, NOW.plus(DAY)).unwrap();
    service.put(&old, NOW.plus(DAY)).unwrap();
    let failure = RefreshFailure { at: NOW, result_type: "sts-webpki-invalid".into(), sentence: "no".into() };
    service.note_failure(&old.domain, failure.clone(), NOW.plus(DAY)).unwrap();
    for running in [&service, &operator, &store(folder.path(), LIMITS)] {
        let Held::Policy(here) = held(running, "a.test") else { panic!() };
        assert_eq!((here.terms.mode, here.refresh_failure.as_ref()), (Mode::Testing, Some(&failure)));
    }
}

#[test]
fn a_policy_from_the_future_is_replaced_and_lives_from_now_on() {
    let folder = tempfile::tempdir().unwrap();
    let running = store(folder.path(), LIMITS);
    let future = Arc::new(StsPolicy { fetched_at: NOW.plus(9 * YEAR), ..(*policy("a.test", "enforce", 1000)).clone() });
    running.put(&future, NOW.plus(9 * YEAR)).unwrap();
    running.correct_clock(&future.domain, NOW).unwrap();
    let Held::Policy(here) = held(&running, "a.test") else { panic!() };
    assert_eq!(here.fetched_at, NOW);
    running.put(&future, NOW.plus(9 * YEAR)).unwrap();
    let operator = store(folder.path(), LIMITS);
    operator.put(&policy("a.test", "testing", 1000), NOW).unwrap();
    let Held::Policy(here) = held(&running, "a.test") else { panic!() };
    assert_eq!(here.terms.mode, Mode::Testing, "also by another process");
}

#[test]
fn what_is_removed_is_gone_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let (store, other) = (store(folder.path(), LIMITS), store(folder.path(), LIMITS));
    let policy = policy("a.test", "enforce", 10);
    store.put(&policy, NOW).unwrap();
    assert!(matches!(other.get(&policy.domain).held, Held::Policy(_)));
    store.remove(&policy.domain);
    assert_eq!((held(&store, "a.test"), held(&other, "a.test")), (Held::Nothing, Held::Nothing));
}

#[test]
fn a_domain_is_the_same_however_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let running = store(folder.path(), LIMITS);
    running.put(&policy("M\u{fc}ller.Example.", "enforce", 1000), NOW).unwrap();
    assert!(matches!(held(&running, "xn--mller-kva.example"), Held::Policy(_)));
    assert!(file(folder.path(), "xn--mller-kva.example").exists());
}
