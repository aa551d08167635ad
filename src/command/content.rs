//! `relay queue show ID --content|--header` and `relay queue export ID`: the content of a message, whole or its
//! header.

use crate::envelope::QueueId;
use crate::spool::ledger::{Ledger, LedgerError};
use bytes::Bytes;

/// What is read of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentPart {
    /// All of it.
    Whole,
    /// The fields before the first empty line (RFC 5322 §2.1).
    Header,
}

/// The content; `None` when nothing is known of the message, or its content is gone.
///
/// # Errors
/// When the spool cannot be read, or what is found is damaged.
pub async fn content(ledger: &dyn Ledger, id: QueueId, part: ContentPart) -> Result<Option<Bytes>, LedgerError> {
    let content = ledger.content(id).await?;
    Ok(content.map(|content| match part {
        ContentPart::Whole => content,
        ContentPart::Header => header(&content),
    }))
}

/// With the end of its last line.
fn header(content: &Bytes) -> Bytes {
    let end = content.windows(4).position(|octets| octets == b"\r\n\r\n").map_or(content.len(), |at| at + 2);
    content.slice(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5322_2_1_the_header_ends_before_the_first_empty_line() {
        let of = |content: &'static [u8]| header(&Bytes::from_static(content));
        assert_eq!(of(b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\nmore"), &b"A: 1\r\nB: 2\r\n"[..]);
        assert_eq!(of(b"A: 1\r\n"), &b"A: 1\r\n"[..]);
    }
}
