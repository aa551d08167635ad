//! What is read of a message that comes in: RFC 5321 §6.3, RFC 5322 §2.2, RFC 8689 §3.
//!
//! Input: content. A field that weakens the message's protection, or ends a loop, must not depend
//! on how the content is cut, nor be one that another program does not see.

use dane_relay::accept::intake::{ContentFault, Intake, MessageLimits};
use dane_relay::envelope::TlsRequest;
use mail_parser::MessageParser;

/// Ways to cut the input; the result must not depend on them.
const PIECES: [usize; 3] = [1, 7, usize::MAX];
/// More Received fields are a loop.
const RECEIVED: u32 = 3;

/// Gives what the header asks of TLS, or why the content is refused.
pub(crate) fn check(input: &[u8]) -> Result<TlsRequest, ContentFault> {
    let [others @ .., read] = PIECES.map(|piece| read(input, piece));
    // Of two faults, which one is met first may depend on it.
    assert!(others.iter().all(|other| other.ok() == read.ok()), "{read:?} {others:?}");
    if read == Ok(TlsRequest::Optional) {
        let parsed = MessageParser::default().parse_headers(input).unwrap();
        let named = parsed.headers().iter().filter(|h| h.name.as_str().eq_ignore_ascii_case("TLS-Required"));
        assert_eq!(named.count(), 1, "others see another header");
    }
    read
}

fn read(input: &[u8], piece: usize) -> Result<TlsRequest, ContentFault> {
    let (mut intake, mut kept) = (Intake::new(MessageLimits { octets: 1_000_000, received: RECEIVED }), Vec::new());
    input.chunks(piece.min(input.len().max(1))).for_each(|piece| intake.chunk(piece, &mut kept));
    intake.chunks_ended();
    intake.verdict()?;
    assert_eq!(kept, input, "content is not changed");
    Ok(intake.content().tls)
}
