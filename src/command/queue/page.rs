//! A page of what waits: some messages, and where the next page begins. However much waits, a page costs the same.

use super::Filter;
use super::list::QueueLine;
use crate::clock::Timestamp;
use crate::spool::ledger::{
    Ledger, LedgerError, LedgerMessage, Listed, MessageState, WaitingFrom, WaitingOrder, WaitingPlace,
};
use serde::Serialize;

/// The most messages of a page.
pub const MOST_OF_PAGE: usize = 500;

/// Messages that are looked at for one page: where few fit, a page may be short and not the last.
const MOST_LOOKED_AT: usize = 1_000;

/// Which page is wanted.
#[derive(Clone, Debug)]
pub struct PageWanted {
    /// Which messages.
    pub filter: Filter,
    /// Where it begins.
    pub from: WaitingFrom,
    /// The most messages on it.
    pub limit: usize,
}

/// Some of what waits.
#[derive(Debug, Default, Serialize)]
pub struct QueuePage {
    /// The messages that fit.
    pub messages: Vec<QueueLine>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
    /// Messages on the way that cannot be read.
    pub unreadable: u64,
}

/// A page.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn page(ledger: &dyn Ledger, wanted: &PageWanted, now: Timestamp) -> Result<QueuePage, LedgerError> {
    if !wanted.filter.id.is_empty() {
        return by_id(ledger, &wanted.filter, now).await;
    }
    let (mut page, mut listing) = (QueuePage::default(), ledger.waiting_from(wanted.from).await?);
    let mut looked_at = 0;
    while let Some(listed) = listing.next().await? {
        looked_at += 1;
        let Listed::Message(message) = listed else {
            page.unreadable += 1;
            continue;
        };
        page.take(&message, &wanted.filter, now);
        if page.messages.len() >= wanted.limit || looked_at >= MOST_LOOKED_AT {
            let place = WaitingPlace { accepted_at: message.envelope.accepted_at, id: message.id };
            page.next = Some(cursor(place));
            break;
        }
    }
    Ok(page)
}

async fn by_id(ledger: &dyn Ledger, filter: &Filter, now: Timestamp) -> Result<QueuePage, LedgerError> {
    let mut page = QueuePage::default();
    for id in filter.id.iter().take(MOST_OF_PAGE) {
        let waiting = ledger.message(*id).await?.filter(|message| message.standing != MessageState::Finished);
        if let Some(message) = waiting {
            page.take(&message, filter, now);
        }
    }
    Ok(page)
}

impl QueuePage {
    fn take(&mut self, message: &LedgerMessage, filter: &Filter, now: Timestamp) {
        let recipients = filter.fitting(message, now);
        if !recipients.is_empty() {
            self.messages.push(QueueLine::new(message, &recipients, now));
        }
    }
}

/// A place as the address of the next page has it.
fn cursor(place: WaitingPlace) -> String {
    format!("{}-{}", place.accepted_at.0, place.id)
}

/// The order and the place that an address names.
///
/// # Errors
/// What is none.
pub fn from_words(order: Option<&str>, after: Option<&str>) -> Result<WaitingFrom, String> {
    let order = match order {
        None | Some("oldest") => WaitingOrder::Oldest,
        Some("newest") => WaitingOrder::Newest,
        Some(_) => return Err("sort is oldest or newest".to_owned()),
    };
    let place = |text: &str| {
        let (at, id) = text.split_once('-')?;
        Some(WaitingPlace { accepted_at: Timestamp(at.parse().ok()?), id: id.parse().ok()? })
    };
    let wrong = || "after is what the page before says in next".to_owned();
    let after = after.map(|text| place(text).ok_or_else(wrong)).transpose()?;
    Ok(WaitingFrom { order, after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::QueueId;

    #[test]
    fn a_place_is_written_and_read_and_what_is_none_is_refused() {
        let place = WaitingPlace { accepted_at: Timestamp(1_795_261_468_000), id: QueueId(77) };
        let read = from_words(Some("newest"), Some(&cursor(place))).unwrap();
        assert_eq!(read, WaitingFrom { order: WaitingOrder::Newest, after: Some(place) });
        assert_eq!(from_words(None, None).unwrap(), WaitingFrom { order: WaitingOrder::Oldest, after: None });
        for wrong in ["", "-", "1", "x-0000000000001", "1-zzz-", "1 OR 1=1-0000000000001"] {
            assert!(from_words(None, Some(wrong)).is_err(), "{wrong}");
        }
        assert!(from_words(Some("size"), None).is_err());
    }
}
