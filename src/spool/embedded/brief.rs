//! What waits, in brief, from the state database: one statement for all, or for one of several who read beside each other.

use super::reader::StateReader;
use crate::clock::Timestamp;
use crate::spool::Hold;
use crate::spool::brief::{BriefRow, Gathering};
use crate::spool::ledger::{BriefPart, LedgerError};
use std::ops::ControlFlow;

/// How many read beside each other, a power of two: what a clock before 1970 accepted is somebody's share, too.
const READERS: u8 = 2;

/// What one of them reads: messages that were accepted in every so manieth second, a little more than a second each. However
/// they came in, nobody is left with all of them, and what lies together is read by the same one.
#[derive(Clone, Copy, Debug)]
pub(super) struct BriefShare(u8);

impl BriefShare {
    /// All of them, each for another reader.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..READERS).map(Self)
    }
}

impl StateReader {
    /// A share of [`crate::spool::ledger::Ledger::waiting_in_brief`].
    pub(super) fn for_each_waiting_in_brief(
        &self,
        share: BriefShare,
        mut each: impl FnMut(BriefPart) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT m.id, m.accepted_at, m.held, m.envelope GLOB '{*}', r.address, r.state \
             FROM messages m INDEXED BY waiting_messages CROSS JOIN recipients r ON r.message = m.id \
             WHERE m.finished_at IS NULL AND (m.accepted_at >> 10) & (?1 - 1) = ?2 ORDER BY m.accepted_at, m.id",
        )?;
        let mut rows = select.query([READERS, share.0])?;
        let mut gathering = Gathering::default();
        while let Some(row) = rows.next()? {
            let text = |column| row.get_ref(column).ok().and_then(|text| text.as_str().ok()).unwrap_or_default();
            let part = gathering.add(&BriefRow {
                message: row.get(0)?,
                accepted_at: Timestamp(row.get(1)?),
                hold: if row.get(2)? { Hold::Held } else { Hold::Scheduled },
                is_whole: row.get(3)?,
                address: text(4),
                state: text(5),
            });
            if part.is_some_and(|part| each(part).is_break()) {
                return Ok(());
            }
        }
        let _whether_more = gathering.rest().map(each);
        Ok(())
    }
}
