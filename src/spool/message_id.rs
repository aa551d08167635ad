//! Finds the Message-ID in the header of a message (RFC 5322 §3.6.4), so that `relay why` finds the
//! message by it. Pure and quick: it runs for every message that comes in.

use crate::smtp::header::{self, Line};

/// The octets that are looked at: the header fields of interest stand above the long ones.
pub(super) const HEAD_LIMIT: usize = 64 * 1024;

/// The longest id that is kept: a line of mail has at most 998 octets (RFC 5322 §2.1.1).
const ID_LIMIT: usize = 998;

const NAME: &[u8] = b"message-id";

/// The id without its brackets; `None` when there is none that can be used.
pub(super) fn message_id(content: &[u8]) -> Option<String> {
    let head = content.get(..HEAD_LIMIT).unwrap_or(content);
    let mut lines = header::lines(head).peekable();
    let mut value = lines.by_ref().find_map(|line| match line {
        Line::Field { name, value } => name.eq_ignore_ascii_case(NAME).then(|| value.to_vec()),
        Line::Folded(_) | Line::Odd(_) => None,
    })?;
    while let Some(Line::Folded(more)) = lines.next_if(|line| matches!(line, Line::Folded(_))) {
        value.extend_from_slice(more);
    }
    clean(&value)
}

/// What stands between the brackets, or all of it where a sender left them out.
fn clean(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let inside = match value.iter().position(|&octet| octet == b'<') {
        Some(open) => value.get(open + 1..)?.split(|&octet| octet == b'>').next()?,
        None => value,
    };
    let text = std::str::from_utf8(inside.trim_ascii()).ok()?;
    let is_usable = !text.is_empty() && text.len() <= ID_LIMIT && !text.chars().any(char::is_control);
    is_usable.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &str) -> Option<String> {
        message_id(content.as_bytes())
    }

    #[test]
    fn rfc5322_3_6_4_the_id_is_found_in_any_spelling() {
        for content in [
            "Message-ID: <a.1@b.example>\r\n\r\n",
            "From: x\r\nMESSAGE-id : <a.1@b.example> (comment)\r\nTo: y\r\n",
            "Message-ID:\r\n\t<a.1@b.example>\r\n\r\n",
            "Message-Id: a.1@b.example\n\n",
            "X: <no>\r\n <no>\r\nMessage-ID: <a.1@b.example>",
            "X: a\r\n \r\nMessage-ID: <a.1@b.example>\r\n\r\n",
        ] {
            assert_eq!(found(content).as_deref(), Some("a.1@b.example"), "{content:?}");
        }
    }

    #[test]
    fn what_is_no_id_of_this_message_is_none() {
        let long = format!("Message-ID: <{}>\r\n", "x".repeat(ID_LIMIT + 1));
        for content in [
            "",
            "\r\nMessage-ID: <body@b.example>\r\n",
            "X-Message-ID: <a@b>\r\n\r\n",
            "Message-ID\x0c: <a@b>\r\n\r\n",
            "Message-ID: <>\r\n",
            "Message-ID: <a\u{1b}b@c>\r\n",
            &long,
        ] {
            assert_eq!(found(content), None, "{content:?}");
        }
        assert!(found(&format!("Message-ID: <{}>\r\n", "x".repeat(ID_LIMIT))).is_some());
        let far = format!("X: {}\r\nMessage-ID: <a@b>\r\n", "x".repeat(HEAD_LIMIT));
        assert_eq!(found(&far), None, "beyond what is looked at");
    }
}
