//! Distinguished names: when two are the same, and what their attributes say (RFC 5280 §7.1).

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::x509::{RelativeDistinguishedName, X509Name};

/// A distinguished name in a form that compares by bytes: attribute types as they are, text
/// without regard to case, string type and repeated spaces (RFC 5280 §7.1, ASCII as OpenSSL).
pub(super) fn comparable(name: &X509Name<'_>) -> Vec<u8> {
    name.iter_rdn().fold(Vec::new(), |mut form, rdn| {
        form.extend(relative(rdn));
        form
    })
}

/// One relative distinguished name of [`comparable`]; the order inside the set does not matter.
pub(super) fn relative(rdn: &RelativeDistinguishedName<'_>) -> Vec<u8> {
    let mut attributes: Vec<Vec<u8>> = rdn
        .iter()
        .map(|attribute| {
            let mut form = delimited(attribute.attr_type().as_bytes());
            form.extend(delimited(&value(attribute.attr_value())));
            form
        })
        .collect();
    attributes.sort();
    delimited(&attributes.concat())
}

/// Length first, so that neighbouring parts cannot run into each other.
fn delimited(part: &[u8]) -> Vec<u8> {
    let mut form = part.len().to_be_bytes().to_vec();
    form.extend_from_slice(part);
    form
}

fn value(any: &Any<'_>) -> Vec<u8> {
    let Some(text) = text(any) else { return [&any.tag().0.to_be_bytes(), any.data].concat() };
    let words: Vec<_> = text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
    words.join(" ").into_bytes()
}

/// The text of a directory string, whatever its type (RFC 5280 §4.1.2.4); `None` for no text.
pub(super) fn text(any: &Any<'_>) -> Option<String> {
    Some(match any.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => {
            String::from_utf8_lossy(any.data).into_owned()
        }
        // In practice ISO 8859-1.
        Tag::T61String => any.data.iter().map(|&b| char::from(b)).collect(),
        Tag::BmpString => {
            let units = any.data.chunks_exact(2).map(|pair| pair.iter().fold(0, |unit, &b| unit << 8 | u16::from(b)));
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        Tag::UniversalString => {
            let code = |four: &[u8]| four.iter().fold(0, |code, &b| code << 8 | u32::from(b));
            let char_of = |four| char::from_u32(code(four)).unwrap_or(char::REPLACEMENT_CHARACTER);
            any.data.chunks_exact(4).map(char_of).collect()
        }
        Tag(_) => return None,
    })
}
