//! Parts of a mail and what joins them (RFC 2045 §6, RFC 2046 §5.1, RFC 2183 §2).

use super::form::{field, is_clean, quoted_printable};
use data_encoding::BASE64_MIME;

/// One part: its type, its encoding, its octets, and the name of the file where it is one.
pub(super) struct MimePart {
    pub(super) content_type: String,
    pub(super) encoding: &'static str,
    pub(super) file_name: Option<String>,
    pub(super) octets: Vec<u8>,
}

/// Text for people: as it is, or in quoted-printable where it is not ASCII.
pub(super) fn text_part(text: String) -> MimePart {
    if is_clean(text.as_bytes()) {
        let content_type = "text/plain; charset=us-ascii".to_owned();
        return MimePart { content_type, encoding: "7bit", file_name: None, octets: text.into_bytes() };
    }
    let octets = quoted_printable(text.as_bytes());
    let content_type = "text/plain; charset=utf-8".to_owned();
    MimePart { content_type, encoding: "quoted-printable", file_name: None, octets }
}

/// A page for people: its lines may be of any length, so always in quoted-printable.
fn page_part(page: &str) -> MimePart {
    let octets = quoted_printable(page.replace('\n', "\r\n").as_bytes());
    let content_type = "text/html; charset=utf-8".to_owned();
    MimePart { content_type, encoding: "quoted-printable", file_name: None, octets }
}

/// The same as text and as a page; whoever reads it shows the last one it can (RFC 2046 §5.1.4).
pub(super) fn alternative(text: MimePart, page: &str, name: &str) -> MimePart {
    let parts = [text, page_part(page)];
    // Not how the boundary of the whole begins, so that neither is taken for the other.
    let boundary = boundary(&format!("{name}.words"), &parts);
    let mut octets = Vec::new();
    join(&mut octets, &boundary, &parts);
    let content_type = format!("multipart/alternative; boundary=\"{boundary}\"");
    MimePart { content_type, encoding: "7bit", file_name: None, octets }
}

/// A file for programs, in base64 (RFC 2045 §6.8). Its name has no octet that would have to be quoted.
pub(super) fn attachment(content_type: &str, file_name: String, content: &[u8]) -> MimePart {
    let octets = BASE64_MIME.encode(content).into_bytes();
    MimePart { content_type: content_type.to_owned(), encoding: "base64", file_name: Some(file_name), octets }
}

/// The parts, each behind its boundary.
pub(super) fn join(message: &mut Vec<u8>, boundary: &str, parts: &[MimePart]) {
    for MimePart { content_type, encoding, file_name, octets } in parts {
        message.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        message.extend_from_slice(field("Content-Type", content_type).as_bytes());
        if *encoding != "7bit" {
            message.extend_from_slice(field("Content-Transfer-Encoding", encoding).as_bytes());
        }
        if let Some(name) = file_name {
            let disposition = format!("attachment; filename=\"{name}\"");
            message.extend_from_slice(field("Content-Disposition", &disposition).as_bytes());
        }
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(octets);
    }
    message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
}

/// RFC 2046 §5.1.1. `=_` cannot occur in quoted-printable, and the number is raised until the
/// boundary is in no part either, whatever the original holds.
pub(super) fn boundary(name: &str, parts: &[MimePart]) -> String {
    let named = |number: usize| format!("=_{name}.{number}");
    let is_free = |boundary: &String| {
        let pattern = boundary.as_bytes();
        parts.iter().all(|part| part.octets.windows(pattern.len()).all(|window| window != pattern))
    };
    // The parts are shorter than this many boundaries, so that one is always free.
    let most = parts.iter().map(|part| part.octets.len()).sum::<usize>();
    (0..=most).map(named).find(is_free).unwrap_or_else(|| named(most + 1))
}
