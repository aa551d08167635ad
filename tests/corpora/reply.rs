//! Replies of mail servers: RFC 5321 §4.2, RFC 2034 §4.
//!
//! Input: what a server sends.

use dane_relay::smtp::reply::{Capabilities, REPLY_LINES_LIMIT, REPLY_TEXT_LIMIT, Reply, ReplyParser};

/// Octets of a line's text that we send.
const LINE_SHOWN: usize = 440;

/// Gives the number of good replies before the first octets that are none.
pub(crate) fn check(input: &[u8]) -> usize {
    let replies = replies(input);
    for reply in &replies {
        let text: usize = reply.lines.iter().map(String::len).sum();
        assert!(text <= REPLY_TEXT_LIMIT && (1..=REPLY_LINES_LIMIT).contains(&reply.lines.len()));
        assert!(!reply.lines.iter().any(|line| line.contains(char::is_control)), "{reply:?}");
        assert!(reply.enhanced.is_none_or(|enhanced| u16::from(enhanced.class) == reply.code / 100));
        if reply.lines.iter().all(|line| line.is_ascii()) {
            survives_the_wire(reply);
        }
        let _offered = Capabilities::from_ehlo(reply);
    }
    replies.len()
}

fn replies(input: &[u8]) -> Vec<Reply> {
    let (mut parser, mut replies) = (ReplyParser::default(), Vec::new());
    for line in input.split_inclusive(|&b| b == b'\n') {
        match parser.line(line) {
            Ok(reply) => replies.extend(reply),
            Err(_) => break,
        }
    }
    replies
}

/// A reply in ASCII that is repeated says the same; only long lines are cut, and the end of a long reply,
/// where the code that stands in each line leaves too little room; spaces behind the code may go.
fn survives_the_wire(reply: &Reply) {
    let again = replies(&reply.to_wire());
    let [again] = again.as_slice() else { panic!("{reply:?} became {} replies", again.len()) };
    assert_eq!((again.code, again.enhanced, again.lines.len()), (reply.code, reply.enhanced, reply.lines.len()));
    let code = reply.enhanced.map_or(0, |enhanced| enhanced.to_string().len() + 1);
    let mut room = REPLY_TEXT_LIMIT;
    for (line, repeated) in reply.lines.iter().zip(&again.lines) {
        let shown = line.len().min(LINE_SHOWN).min(room.saturating_sub(code));
        room = room.saturating_sub(code + line.len().min(LINE_SHOWN));
        assert_eq!(line[..shown].trim_start(), repeated.trim_start(), "{reply:?}");
    }
}
