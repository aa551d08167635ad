//! Text of a remote side as it may stand in logs and reports: bounded, on one line, and without a
//! command to whatever shows it (RFC 5321 §4.4, RFC 6531 §3.7.4).

/// Keeps printable ASCII, at most `limit` octets; any other octet is shown as `\xNN`.
/// Remote text may not bring line ends or control characters into logs and headers.
#[must_use]
pub fn printable(text: &[u8], limit: usize) -> String {
    let mut shown = String::new();
    for &octet in text {
        if !push(&mut shown, &shown_octet(octet), limit) {
            break;
        }
    }
    shown
}

/// The same, but what is text in UTF-8 stays (RFC 6531 §3.7.4 allows it in replies). Characters
/// that command a terminal, or turn the order of others around, are shown by their octets.
#[must_use]
pub(super) fn readable(text: &[u8], limit: usize) -> String {
    let mut shown = String::new();
    for chunk in text.utf8_chunks() {
        let characters = chunk.valid().chars().map(|character| match character {
            '\t' => " ".to_owned(),
            harmless if is_harmless(harmless) => harmless.to_string(),
            odd => odd.to_string().bytes().map(escaped).collect(),
        });
        for piece in characters.chain(chunk.invalid().iter().copied().map(escaped)) {
            if !push(&mut shown, &piece, limit) {
                return shown;
            }
        }
    }
    shown
}

/// Adds a piece where there is room for it.
fn push(shown: &mut String, piece: &str, limit: usize) -> bool {
    let fits = shown.len() + piece.len() <= limit;
    if fits {
        shown.push_str(piece);
    }
    fits
}

fn shown_octet(octet: u8) -> String {
    if (32..127).contains(&octet) { char::from(octet).to_string() } else { escaped(octet) }
}

fn escaped(octet: u8) -> String {
    format!("\\x{octet:02X}")
}

/// Neither a control character, nor one without a width, nor one about the direction of text.
fn is_harmless(character: char) -> bool {
    let is_invisible = matches!(
        character,
        '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}'
    );
    !character.is_control() && !is_invisible
}
