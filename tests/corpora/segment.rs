//! Recovery of a spool from a segment: RFC 5321 §6.1.
//!
//! Input: the eight octets of the segment's mark, then the segment. The scanner is not public, so
//! this goes through the door that the relay uses: a spool directory is opened with it.

use dane_relay::clock::Timestamp;
use dane_relay::config::SpoolConfig;
use dane_relay::spool::embedded::EmbeddedSpool;
use dane_relay::spool::{Spool, SpoolError};
use std::path::Path;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_795_261_468_000);

/// Gives the number of messages that are whole, and of records that are damaged.
pub(crate) fn check(input: &[u8]) -> (usize, u64) {
    let Some((mark, segment)) = input.split_first_chunk::<8>() else { return (0, 0) };
    let folder = tempfile::TempDir::new().unwrap();
    let segments = folder.path().join("segments");
    std::fs::create_dir(&segments).unwrap();
    let name = format!("00000001-{:016x}.seg", u64::from_be_bytes(*mark));
    std::fs::write(segments.join(name), segment).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = runtime.block_on(open_and_read(folder.path()));
    // What was found once is found again: from the state database now, and not twice.
    let (messages, _) = runtime.block_on(open_and_read(folder.path()));
    assert_eq!(messages, first.0);
    (first.0.len(), first.1)
}

/// The messages that can be read, with their size, and the number of damaged records.
async fn open_and_read(folder: &Path) -> (Vec<(u64, u64)>, u64) {
    let config = SpoolConfig {
        path: folder.to_owned(),
        min_free_bytes: 0,
        min_free_inodes: 0,
        max_history_bytes: u64::MAX,
        keep_history: Duration::from_secs(60),
        ..SpoolConfig::default()
    };
    let spool = EmbeddedSpool::open(&config, NOW).unwrap();
    let mut messages = Vec::new();
    for claim in spool.claim_due(Timestamp(i64::MAX), usize::MAX).await.unwrap() {
        let (id, mut size) = (claim.entry.id, 0);
        assert_eq!(claim.entry.recipients.len(), claim.entry.envelope.recipients.len());
        let mut body = spool.open_body(id).await.unwrap();
        while let Some(piece) = body.next().await.unwrap() {
            size += piece.len() as u64;
        }
        assert_eq!(size, claim.entry.size);
        messages.push((id.0, size));
    }
    assert_eq!(messages.len() as u64, spool.stats().queued_messages);
    assert!(!matches!(spool.admit(1), Err(SpoolError::Stopped)), "damage must not stop the spool");
    let damaged = spool.recovery().damaged_records;
    spool.close().await;
    messages.sort_unstable();
    (messages, damaged)
}
