//! Message content on the wire: RFC 5321 §2.3.8, §4.1.1.4, §4.5.2.
//!
//! Input: what a client sends behind DATA. The same octets also serve as content that came by
//! BDAT (RFC 3030 §2) and goes out by DATA.

use dane_relay::smtp::data::{DataDecoder, DotStuffer, LineEndCheck};

/// Ways to cut the input; the result must not depend on them.
const PIECES: [usize; 3] = [1, 7, usize::MAX];

/// What a decoder says about the whole input.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    content: Vec<u8>,
    consumed: usize,
    ended: bool,
    bare: bool,
}

/// Gives the octets of the content, when it has an end and may be accepted.
pub(crate) fn check(input: &[u8]) -> Option<usize> {
    let [decoded, others @ ..] = PIECES.map(|piece| decode(input, piece));
    assert!(others.iter().all(|other| *other == decoded), "{decoded:?} {others:?}");
    let accepted = decoded.ended && !decoded.bare;
    if accepted {
        assert!(decoded.consumed <= input.len() && input[..decoded.consumed].ends_with(b".\r\n"));
        assert!(is_clean(&decoded.content), "smuggled: {decoded:?}");
        assert!(goes_out_as_it_is(&decoded.content));
    }
    if is_clean(input) {
        assert!(goes_out_as_it_is(input));
    }
    accepted.then_some(decoded.content.len())
}

fn decode(input: &[u8], piece: usize) -> Decoded {
    let (mut decoder, mut content, mut consumed) = (DataDecoder::default(), Vec::new(), 0);
    for piece in input.chunks(piece.min(input.len().max(1))) {
        let fed = decoder.feed(piece, &mut content);
        consumed += fed.consumed;
        if fed.ended {
            return Decoded { content, consumed, ended: true, bare: decoder.bare_line_end() };
        }
        assert_eq!(fed.consumed, piece.len());
    }
    Decoded { content, consumed, ended: false, bare: decoder.bare_line_end() }
}

/// Whether every CR and every LF is part of a CRLF; said by the code and by a search.
fn is_clean(content: &[u8]) -> bool {
    let cut = |piece: usize| {
        let mut check = LineEndCheck::default();
        content.chunks(piece.min(content.len().max(1))).for_each(|piece| check.feed(piece));
        !check.bare_line_end() && !check.ends_in_cr()
    };
    let [clean, others @ ..] = PIECES.map(cut);
    let bare = |at: usize| match content[at] {
        b'\r' => content.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || content[at - 1] != b'\r',
        _ => false,
    };
    assert!(others.iter().all(|other| *other == clean));
    assert_ne!(clean, (0..content.len()).any(bare));
    clean
}

/// What is stuffed for DATA comes out as it went in, with a last CRLF if it had none.
fn goes_out_as_it_is(content: &[u8]) -> bool {
    let stuffed = |piece: usize| {
        let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
        content.chunks(piece.min(content.len().max(1))).for_each(|piece| stuffer.feed(piece, &mut wire));
        stuffer.finish(&mut wire);
        wire
    };
    let [wire, others @ ..] = PIECES.map(stuffed);
    let mut whole = content.to_vec();
    if !whole.is_empty() && !whole.ends_with(b"\r\n") {
        whole.extend_from_slice(b"\r\n");
    }
    let arrived = Decoded { content: whole, consumed: wire.len(), ended: true, bare: false };
    others.iter().all(|other| *other == wire) && decode(&wire, usize::MAX) == arrived
}
