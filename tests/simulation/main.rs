//! The whole relay in seeded worlds, in virtual time, with a crash at every durable step.
//!
//! A world has senders, an operator, and domains whose hosts deliver, greylist, defer, refuse, are
//! dead or silent, whose DNS lies or fails, whose certificates and policies do not fit; and a
//! relay that is restarted, and whose clock is set. All of the relay is the real one: listener,
//! spool, resolver with its validation, MTA-STS, policy, TLS, SMTP, reports and ledger; it is put
//! together as `relay serve` does it. Only the sockets are pipes, and the spool's writers are
//! turned by hand, so that all runs on one thread in the runtime's own time, and days pass in
//! moments.
//!
//! Policies change and their hosts go away, exceptions come to their end, paths to the DNS are silent,
//! filter or lie; and long worlds outlive the history of their spool.
//!
//! After each world every recipient is accounted for, by the audit and by what came to the mail
//! hosts; nobody was told twice of one failure; and nobody got a message twice without a crash
//! between the dot and the record (RFC 5321 §6.1, §4.5.4.1).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "what fails in a test is the test's result"
)]
mod behaviour;
mod crash_snapshot;
mod dns_paths;
mod failover;
mod invariants;
mod life;
mod manual_spool;
mod network;
mod oracle;
mod pruning_log;
#[path = "../support/random.rs"]
mod random;
mod report_volume;
#[path = "../support/tls_report.rs"]
mod tls_report;
mod tls_reports;
mod world;
#[path = "../support/wrapped_spool.rs"]
mod wrapped_spool;

use crash_snapshot::{CRASH_KINDS, Crash, CrashKind};
use random::SeededRandom;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use world::{Size, World};

/// Worlds that everybody runs; `SIMULATION_WORLDS` asks for more.
const WORLDS: u64 = 6;
/// Those that last longer than their history; `SIMULATION_LONG_WORLDS` asks for more.
const LONG_WORLDS: u64 = 2;
/// Worlds with a crash at each step; `SIMULATION_CRASHED_WORLDS` asks for more.
const CRASHED_WORLDS: u64 = 1;
/// Steps from the opening of a spool until it is at work, at most.
const OPENING: usize = 12;

fn wanted(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Does all the jobs, on as many threads as the machine has processors.
fn side_by_side(jobs: usize, job: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(mine) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|mine| *mine < jobs) {
            job(mine);
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

#[test]
fn rfc5321_6_1_in_every_world_each_recipient_gets_the_message_or_its_sender_is_told_once() {
    side_by_side(usize::try_from(wanted("SIMULATION_WORLDS", WORLDS)).unwrap(), |seed| {
        twice(seed as u64, Size::Usual);
    });
}

#[test]
fn rfc5321_6_1_what_is_over_is_forgotten_in_its_time_and_nothing_else_is() {
    let done = Mutex::new(BTreeSet::new());
    side_by_side(usize::try_from(wanted("SIMULATION_LONG_WORLDS", LONG_WORLDS)).unwrap(), |seed| {
        for world in twice(seed as u64, Size::Long) {
            done.lock().unwrap().extend(world.invariants.pruning_log().steps().clone());
        }
    });
    let done = done.into_inner().unwrap();
    for step in ["Committed(Pruning)", "Committed(Forwarding)", "SegmentRemoved", "ContentRemoved"] {
        assert!(done.contains(step), "no world has {step}: {done:?}");
    }
}

/// A world without crashes, and the same again with some.
fn twice(seed: u64, size: Size) -> [World; 2] {
    let mut random = SeededRandom::new(seed);
    let steps = if size == Size::Long { 150 } else { 60 };
    let crashes: Vec<Crash> =
        (0..4).map(|_| Crash { step: 1 + random.size(steps), kind: *random.pick(&CRASH_KINDS) }).collect();
    [&[][..], &crashes].map(|crashes| {
        let mut world = World::new(seed, size);
        world.run(crashes);
        world.check_invariants();
        world
    })
}

#[test]
fn rfc5321_6_1_a_crash_at_any_durable_step_costs_nobody_anything_but_a_duplicate() {
    for seed in 0..wanted("SIMULATION_CRASHED_WORLDS", CRASHED_WORLDS) {
        let all = World::new(seed, Size::Small).run(&[]);
        let crashes: Vec<Crash> = all.iter().enumerate().flat_map(|(nth, done)| done.crashes(nth + 1)).collect();
        side_by_side(crashes.len(), |nth| {
            // And one more while the spool is opened again.
            let again = Crash { step: 1 + nth % OPENING, kind: CRASH_KINDS[nth / OPENING % 2] };
            let mut world = World::new(seed, Size::Small);
            world.run(&[crashes[nth], again]);
            world.check_invariants();
        });
    }
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let crashes = [Crash { step: 40, kind: CrashKind::Kill }];
    let run = |seed| World::new(seed, Size::Usual).run(&crashes);
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
