//! The matrix: random combinations of everything that a decision about TLS can depend on, through
//! the whole relay, beside an oracle that knows nothing of its code (RFC 7672, RFC 8461, RFC 8689).
//!
//! - `facts.rs` has the facts, and makes random batches of them; `corners.rs` the combinations in which
//!   one rule by itself decides, so that they are not left to chance.
//! - `table.rs` is the oracle: what must become of a mail, from the RFCs and the README.
//! - `world.rs` builds a lab that is as the facts say; `run.rs` lets a relay live in it and compares.
//! - `shrink.rs` makes what differs plain; `doc.rs` writes `deploy/tls-decisions.md` from the oracle.
//!
//! `TLS_MATRIX_CELLS` asks for more cells than usual, `TLS_MATRIX_SEED` for other ones; what differs
//! is printed with the seed of its batch, and `TLS_MATRIX_SEED=<that> TLS_MATRIX_CELLS=1` runs that
//! batch alone. `TLS_MATRIX_SHOWN` says how many differences are made plain.

mod corners;
mod doc;
mod facts;
mod run;
mod shrink;
mod table;
mod world;

use facts::Batch;
use run::{Lived, live};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Cells that everybody runs.
const CELLS: u64 = 300;
/// Cells of one batch, which share a relay.
const CELLS_PER_BATCH: u64 = 60;
/// What has to be among them, or less is tried than this says.
const ENDS: [&str; 15] = [
    "goes: Clear",
    "goes: Unauthenticated",
    "goes: Dane",
    "goes: DaneOfHost",
    "goes: WebPki",
    "goes: WebPkiAndDaneOfHost",
    "waits: NotFoundOut",
    "waits: NoTls",
    "waits: Handshake",
    "waits: Certificate",
    "waits: NotListed",
    "waits: NoDane",
    "waits: NoSts",
    "waits: RequireTls",
    "returns",
];
/// Differences that are made plain; the rest is counted.
const SHOWN: u64 = 12;

fn wanted(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Lives batches through on as many threads as the machine has processors.
fn all_lived(seeds: std::ops::Range<u64>) -> BTreeMap<u64, Lived> {
    let (next, all) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|seed| *seed < seeds.end) {
            let lived = live(&Batch::random(seed, usize::try_from(CELLS_PER_BATCH).unwrap()));
            all.lock().unwrap().insert(seed, lived);
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    all.into_inner().unwrap()
}

/// What differs, as plain as can be, and where it came from.
fn described(seed: u64, difference: &run::Difference) -> String {
    let batch = Batch::random(seed, usize::try_from(CELLS_PER_BATCH).unwrap()).of(difference.cell);
    // Of the same kind, or it would be made plain what somebody else has found.
    let differences = |batch: &Batch| -> Vec<run::Difference> {
        live(batch).differences.into_iter().filter(|other| other.about == difference.about).collect()
    };
    let alone = differences(&batch);
    let mut text = format!("batch {seed}, cell {}: {}\n", difference.cell, difference.what);
    if alone.is_empty() {
        let _ = writeln!(text, "  (only among the other cells of its batch)\n  {:?}", batch.cells[0]);
        return text;
    }
    let plain = shrink::plainest(batch, |batch| !differences(batch).is_empty());
    let _ = writeln!(text, "  plain: {:?}, between: {:?}\n  {:?}", plain.settings, plain.between, plain.cells[0]);
    for difference in differences(&plain) {
        let _ = writeln!(text, "  there: {}", difference.what);
    }
    text
}

#[test]
fn every_combination_of_policies_peers_and_wishes_ends_as_the_standards_say() {
    let first = wanted("TLS_MATRIX_SEED", 0);
    let batches = wanted("TLS_MATRIX_CELLS", CELLS).div_ceil(CELLS_PER_BATCH);
    let all = all_lived(first..first + batches);
    let (mut ends, mut mails, mut reused) = (BTreeMap::<&str, usize>::new(), 0, 0);
    for lived in all.values() {
        mails += lived.mails;
        reused += lived.reused;
        lived.ends.iter().for_each(|(end, count)| *ends.entry(end).or_default() += count);
    }
    let tried = format!("{mails} mails, {reused} on used connections: {ends:#?}");
    let counted = all.values().flat_map(|lived| &lived.differences).fold(BTreeMap::new(), |mut counted, difference| {
        *counted.entry(format!("{:?}", difference.about)).or_insert(0) += 1;
        counted
    });
    let differing: Vec<_> =
        all.iter().flat_map(|(seed, lived)| lived.differences.iter().map(move |d| (*seed, d))).collect();
    let shown: String = differing
        .iter()
        .take(usize::try_from(wanted("TLS_MATRIX_SHOWN", SHOWN)).unwrap())
        .map(|(seed, difference)| described(*seed, difference))
        .collect();
    assert!(differing.is_empty(), "{} differences: {counted:?}\n{shown}\n{tried}", differing.len());
    if batches * CELLS_PER_BATCH >= CELLS {
        let missing: Vec<_> = ENDS.into_iter().filter(|end| !ends.contains_key(end)).collect();
        assert!(missing.is_empty() && reused > 0, "never tried: {missing:?}\n{tried}");
    }
}
