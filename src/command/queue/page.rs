//! A page of what waits: some messages, and where the next page begins.
//!
//! By age a page costs the same however much waits. For the other orders all that waits is looked through
//! (`sorted.rs`), and where that takes longer than anybody waits for a page, nothing is sorted.

use super::Filter;
use super::list::QueueLine;
pub use super::sorted::SortKey;
use super::sorted::{SortPlace, SortedPage};
use crate::clock::Timestamp;
use crate::spool::ledger::{
    Ledger, LedgerError, LedgerMessage, Listed, Listing, MessageState, WaitingFrom, WaitingOrder, WaitingPlace,
};
use serde::Serialize;

/// The most messages of a page.
pub const MOST_OF_PAGE: usize = 500;

/// Messages that are looked at for one page: where few fit, a page may be short and not the last.
const MOST_LOOKED_AT: usize = 1_000;

/// The most messages that are sorted by something else than their age: a second of looking through.
pub const MOST_SORTED: usize = 50_000;

/// Which page is wanted.
#[derive(Clone, Debug)]
pub struct PageWanted {
    /// Which messages.
    pub filter: Filter,
    /// In which order, and where it begins.
    pub order: PageOrder,
    /// The most messages on it.
    pub limit: usize,
}

/// In which order messages are shown, and where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageOrder {
    /// By age.
    Age(WaitingFrom),
    /// By something else, behind a place.
    By(SortKey, Option<SortPlace>),
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It would have to be looked through whole.
    #[error("more than {MOST_SORTED} messages wait: they are sorted by age alone, oldest or newest")]
    TooManyToSort,
    /// Another one is being sorted.
    #[error("the queue is being sorted for somebody else: ask again")]
    Sorting,
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
pub async fn page(ledger: &dyn Ledger, wanted: &PageWanted, now: Timestamp) -> Result<QueuePage, PageError> {
    if !wanted.filter.id.is_empty() {
        return Ok(by_id(ledger, &wanted.filter, now).await?);
    }
    match &wanted.order {
        PageOrder::Age(from) => Ok(by_age(ledger.waiting_from(*from).await?, wanted, now).await?),
        PageOrder::By(key, after) => {
            let page = SortedPage::new(*key, after.clone(), wanted.limit);
            sorted(ledger.waiting().await?, page, &wanted.filter, now).await
        }
    }
}

async fn by_age(mut listing: Box<dyn Listing>, wanted: &PageWanted, now: Timestamp) -> Result<QueuePage, LedgerError> {
    let (mut page, mut looked_at) = (QueuePage::default(), 0);
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

async fn sorted(
    mut listing: Box<dyn Listing>,
    mut page: SortedPage,
    filter: &Filter,
    now: Timestamp,
) -> Result<QueuePage, PageError> {
    let (mut unreadable, mut looked_at) = (0, 0);
    while let Some(listed) = listing.next().await? {
        looked_at += 1;
        if looked_at > MOST_SORTED {
            return Err(PageError::TooManyToSort);
        }
        let Listed::Message(message) = listed else {
            unreadable += 1;
            continue;
        };
        let recipients = filter.fitting(&message, now);
        if !recipients.is_empty() {
            page.take(&message, &recipients, now);
        }
    }
    let (messages, next) = page.end();
    Ok(QueuePage { messages, next, unreadable })
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
pub fn from_words(order: Option<&str>, after: Option<&str>) -> Result<PageOrder, String> {
    let order = match order {
        None | Some("oldest") => WaitingOrder::Oldest,
        Some("newest") => WaitingOrder::Newest,
        Some(other) => return sorted_from(other, after),
    };
    let place = |text: &str| {
        let (at, id) = text.split_once('-')?;
        Some(WaitingPlace { accepted_at: Timestamp(at.parse().ok()?), id: id.parse().ok()? })
    };
    let wrong = || "after is what the page before says in next".to_owned();
    let after = after.map(|text| place(text).ok_or_else(wrong)).transpose()?;
    Ok(PageOrder::Age(WaitingFrom { order, after }))
}

fn sorted_from(word: &str, after: Option<&str>) -> Result<PageOrder, String> {
    let unknown = || "sort is oldest, newest, domain, next, size or attempts".to_owned();
    let key = SortKey::of_word(word).ok_or_else(unknown)?;
    let wrong = || "after is what the page before says in next".to_owned();
    let after = after.map(|text| SortPlace::parse(text).ok_or_else(wrong)).transpose()?;
    Ok(PageOrder::By(key, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::queue::testing::{NOW, message};
    use crate::envelope::QueueId;
    use async_trait::async_trait;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// As many messages that wait as anybody likes to look at, counted.
    struct EndlessQueue(Arc<AtomicUsize>);

    #[async_trait]
    impl Listing for EndlessQueue {
        async fn next(&mut self) -> Result<Option<Listed>, LedgerError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Some(Listed::Message(Box::new(message()))))
        }
    }

    #[tokio::test]
    async fn a_page_reads_a_bounded_number_of_messages_however_many_wait() {
        let read = Arc::new(AtomicUsize::new(0));
        let endless = || Box::new(EndlessQueue(Arc::clone(&read)));
        let oldest = PageOrder::Age(WaitingFrom { order: WaitingOrder::Oldest, after: None });
        let wanted = |filter| PageWanted { filter, order: oldest.clone(), limit: 50 };
        let page = by_age(endless(), &wanted(Filter::default()), NOW).await.unwrap();
        assert_eq!((page.messages.len(), read.swap(0, Ordering::SeqCst)), (50, 50));
        let nobody = Filter { domain: Some("nobody.example".to_owned()), ..Filter::default() };
        let page = by_age(endless(), &wanted(nobody), NOW).await.unwrap();
        assert_eq!((page.messages.len(), page.next.is_some()), (0, true), "it goes on on the next page");
        assert_eq!(read.swap(0, Ordering::SeqCst), MOST_LOOKED_AT);
        let page = SortedPage::new(SortKey::Size, None, 50);
        let sorted = sorted(endless(), page, &Filter::default(), NOW).await;
        assert!(matches!(sorted, Err(PageError::TooManyToSort)), "{sorted:?}");
        assert_eq!(read.swap(0, Ordering::SeqCst), MOST_SORTED + 1);
    }

    #[test]
    fn a_place_is_written_and_read_and_what_is_none_is_refused() {
        let place = WaitingPlace { accepted_at: Timestamp(1_795_261_468_000), id: QueueId(77) };
        let read = from_words(Some("newest"), Some(&cursor(place))).unwrap();
        assert_eq!(read, PageOrder::Age(WaitingFrom { order: WaitingOrder::Newest, after: Some(place) }));
        let first = PageOrder::Age(WaitingFrom { order: WaitingOrder::Oldest, after: None });
        assert_eq!(from_words(None, None).unwrap(), first);
        for wrong in ["", "-", "1", "x-0000000000001", "1-zzz-", "1 OR 1=1-0000000000001"] {
            assert!(from_words(None, Some(wrong)).is_err(), "{wrong}");
        }
        let place = "-7.1795261468000.0000000000001.a.example";
        assert_eq!(from_words(Some("size"), Some(place)), Ok(PageOrder::By(SortKey::Size, SortPlace::parse(place))));
        assert_eq!(from_words(Some("next"), None), Ok(PageOrder::By(SortKey::Next, None)));
        for (sort, after) in [("colour", None), ("size", Some("-1")), ("size", Some("1.2.x.")), ("size", Some("1.2"))] {
            assert!(from_words(Some(sort), after).is_err(), "{sort} {after:?}");
        }
    }
}
