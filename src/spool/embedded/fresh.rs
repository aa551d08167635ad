//! Contents that have just come in, kept for the delivery that follows at once: it need not open the segment and read
//! again what was written a moment ago. Pure; bounded in octets.

use crate::envelope::QueueId;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Octets of content kept in all.
const MOST_OCTETS: usize = 16 * 1024 * 1024;

/// Contents by message.
#[derive(Debug, Default)]
pub(super) struct FreshContents {
    contents: BTreeMap<QueueId, Bytes>,
    octets: usize,
}

impl FreshContents {
    /// Keeps the content, unless there is no room for it.
    pub(super) fn keep(&mut self, id: QueueId, content: &Bytes) {
        if self.octets.saturating_add(content.len()) > MOST_OCTETS {
            return;
        }
        self.octets += content.len();
        if let Some(before) = self.contents.insert(id, content.clone()) {
            self.octets = self.octets.saturating_sub(before.len());
        }
    }

    /// The content, when it was kept.
    pub(super) fn get(&self, id: QueueId) -> Option<Bytes> {
        self.contents.get(&id).cloned()
    }

    /// It is not needed any more, or not soon.
    pub(super) fn forget(&mut self, id: QueueId) {
        if let Some(content) = self.contents.remove(&id) {
            self.octets = self.octets.saturating_sub(content.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_there_is_room_for_and_room_comes_back() {
        let mut fresh = FreshContents::default();
        let half = Bytes::from(vec![0; MOST_OCTETS / 2]);
        for id in 1..=3 {
            fresh.keep(QueueId(id), &half);
        }
        assert_eq!([1, 2, 3].map(|id| fresh.get(QueueId(id)).is_some()), [true, true, false]);
        fresh.forget(QueueId(1));
        fresh.forget(QueueId(1));
        fresh.keep(QueueId(3), &half);
        fresh.keep(QueueId(4), &Bytes::from_static(b"x"));
        assert_eq!([1, 2, 3, 4].map(|id| fresh.get(QueueId(id)).is_some()), [false, true, true, false]);
    }
}
