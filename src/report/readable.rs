//! Domain names as people know them: `müller.example` and not `xn--mller-kva.example`
//! (RFC 5890 §2.3.2.1; by UTS 46).
//!
//! Only for the sentences at the top of a report. The evidence below them and the part for
//! machines keep the A-labels, which are what is looked up. What another system said stays as it
//! said it.

use crate::smtp::address::{Host, Mailbox};
use idna::uts46::{AsciiDenyList, Hyphens, Uts46};

/// What every A-label begins with (RFC 5890 §2.3.2.1).
const A_LABEL: &str = "xn--";

/// An address with the name of its domain as people know it; the local-part is its owner's affair.
pub(super) fn mailbox(mailbox: &Mailbox) -> String {
    let whole = mailbox.as_str();
    match (mailbox.host(), whole.rsplit_once('@')) {
        (Host::Domain(_), Some((local_part, domain))) => format!("{local_part}@{}", name(domain)),
        (Host::Domain(_) | Host::Literal(_), _) => whole.to_owned(),
    }
}

/// A sentence with its domain names as people know them. `said` are the words of another system
/// in it: they stay.
pub(super) fn sentence(text: &str, said: Option<&str>) -> String {
    let around = said.filter(|said| !said.is_empty()).and_then(|said| Some((text.split_once(said)?, said)));
    match around {
        Some(((before, after), said)) => names(before) + said + &names(after),
        None => names(text),
    }
}

/// Every domain name in a text.
pub(super) fn names(text: &str) -> String {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    // Each piece ends with the one character that is of no name.
    let piece = |piece: &str| {
        let (inside, end) = piece.split_at(piece.trim_end_matches(|c| !is_of_name(c)).len());
        name(inside) + end
    };
    text.split_inclusive(|c| !is_of_name(c)).map(piece).collect()
}

/// One name: each A-label as its U-label, where there is a valid one that cannot be mistaken.
fn name(name: &str) -> String {
    if !name.to_ascii_lowercase().contains(A_LABEL) {
        return name.to_owned();
    }
    let (shown, result) = Uts46::new().to_user_interface(
        name.as_bytes(),
        AsciiDenyList::EMPTY,
        Hyphens::Allow,
        |label, _top, _is_bidi| is_of_one_script(label),
    );
    match result {
        Ok(()) => shown.into_owned(),
        Err(_) => name.to_owned(),
    }
}

/// Latin letters beside others are how a name is made to look like another one (RFC 5890 §4.4);
/// such a label stays an A-label.
fn is_of_one_script(label: &[char]) -> bool {
    // Basic Latin to Latin Extended-B, and Latin Extended Additional.
    let is_latin = |c: &char| matches!(c, '\u{0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}');
    let mut letters = label.iter().filter(|c| c.is_alphabetic());
    letters.clone().all(is_latin) || !letters.any(is_latin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5890_2_3_2_1_a_labels_in_sentences_are_shown_as_u_labels() {
        for (text, shown) in [
            ("The domain xn--mller-kva.example does not exist.", "The domain müller.example does not exist."),
            ("(xn--mller-kva.example), XN--MLLER-KVA.example:", "(müller.example), müller.example:"),
            ("mx.xn--fsqu00a.xn--4rr70v [192.0.2.1]:25", "mx.例子.广告 [192.0.2.1]:25"),
            ("\"_25._tcp.mx.xn--mller-kva.example TLSA\"", "\"_25._tcp.mx.müller.example TLSA\""),
            ("No name with A-labels. Nor xn at its end: xn", "No name with A-labels. Nor xn at its end: xn"),
            ("", ""),
        ] {
            assert_eq!(names(text), shown);
        }
    }

    #[test]
    fn rfc5890_4_4_what_is_no_u_label_or_could_be_mistaken_stays_as_it_is() {
        // No punycode; a label that mixes Latin with Cyrillic; an A-label of ASCII alone.
        for name in ["xn--\u{2d}\u{2d}.example", "xn--pypal-4ve.example", "xn--abc-.example", "xn--.example"] {
            assert_eq!(names(name), name);
        }
    }

    #[test]
    fn the_local_part_and_the_words_of_another_system_stay() {
        let shown = |text: &str| mailbox(&text.parse().unwrap());
        assert_eq!(shown("xn--mller-kva@xn--mller-kva.example"), "xn--mller-kva@müller.example");
        assert_eq!(shown("\"a b\"@xn--mller-kva.example"), "\"a b\"@müller.example");
        assert_eq!(shown("a@[192.0.2.1]"), "a@[192.0.2.1]");
        let said = "550 no xn--mller-kva.example here";
        let text = format!("mx.xn--mller-kva.example said: {said}");
        assert_eq!(sentence(&text, Some(said)), format!("mx.müller.example said: {said}"));
        assert_eq!(sentence(&text, Some("")), "mx.müller.example said: 550 no müller.example here");
    }
}
