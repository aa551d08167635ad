//! Command lines: RFC 5321 §2.3.8, §4.1, §4.5.3.1.4.
//!
//! Input: what a client sends outside of message content.

use dane_relay::smtp::address::{ForwardPath, Mailbox, ReversePath, parse_forward_path, parse_reverse_path};
use dane_relay::smtp::command::{self, Command};
use dane_relay::smtp::line::{COMMAND_LINE_LIMIT, LineReader};

/// Gives the number of good commands.
pub(crate) fn check(input: &[u8]) -> usize {
    let lines = lines(input, input.len());
    assert_eq!(lines, self::lines(input, 1), "where the stream is cut changes what was said");
    lines.iter().flatten().filter(|line| good(line)).count()
}

/// The lines, and `None` for each bad one, when octets come in pieces.
fn lines(input: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
    let (mut reader, mut waiting, mut found) = (LineReader::default(), Vec::new(), Vec::new());
    for piece in input.chunks(piece.max(1)) {
        waiting.extend_from_slice(piece);
        loop {
            let next = reader.next(&waiting);
            let (consumed, line) = (next.consumed, next.line.map(|line| line.ok().map(<[u8]>::to_vec)));
            assert!(consumed <= waiting.len());
            waiting.drain(..consumed);
            let Some(line) = line else { break };
            found.push(line);
        }
        assert!(waiting.len() < COMMAND_LINE_LIMIT, "an endless line must not fill the memory");
    }
    found
}

fn good(line: &[u8]) -> bool {
    assert!(line.len() <= COMMAND_LINE_LIMIT - 2 && !line.iter().any(|b| matches!(b, b'\r' | b'\n')));
    let Ok(command) = command::parse(line) else { return false };
    match command {
        Command::Mail(mail) => {
            if let ReversePath::Mailbox(mailbox) = &mail.reverse_path {
                harmless(mailbox);
            }
            assert_eq!(parse_reverse_path(&mail.reverse_path.to_string()), Ok(mail.reverse_path));
        }
        Command::Rcpt(rcpt) => {
            if let ForwardPath::Mailbox(mailbox) = &rcpt.forward_path {
                harmless(mailbox);
                assert_eq!(parse_forward_path(&format!("<{mailbox}>")).as_ref(), Ok(&rcpt.forward_path));
            }
            let original = rcpt.parameters.original_recipient.map(|original| original.address());
            assert!(original.is_none_or(|address| !address.contains(char::is_control)));
        }
        Command::Ehlo(name) | Command::Helo(name) => assert!(name.bytes().all(|b| (32..127).contains(&b))),
        Command::Auth(_) | Command::Bdat(_) | Command::Data | Command::Rset => {}
        Command::Noop | Command::Vrfy | Command::Help | Command::StartTls | Command::Quit => {}
    }
    true
}

/// What goes into commands, headers and logs of ours cannot end a line there.
fn harmless(mailbox: &Mailbox) {
    assert!(!mailbox.as_str().contains(char::is_control), "{mailbox:?}");
    let host = mailbox.host().to_string();
    assert!(host.bytes().all(|b| b.is_ascii_graphic()), "{host:?}");
}
