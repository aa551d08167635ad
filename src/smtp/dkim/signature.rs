//! The field of a signature (RFC 6376 §3.5) over chosen fields and the body.

use super::canonical::relaxed_field;
use super::content::{HeaderFields, ReadContent, SIGNATURE_FIELD};
use super::{DkimKey, FIELDS_LIMIT, Unsignable};
use crate::smtp::address::Domain;
use data_encoding::BASE64;

/// Where the field is folded, in characters (RFC 5322 §2.1.1 recommends 78).
const LINE_WIDTH: usize = 76;

/// Which fields are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedFields {
    /// Every field of these names that is there.
    pub(crate) names: Vec<String>,
    /// Of these names one more than there are, so that none can be added (RFC 6376 §8.15).
    pub(crate) oversigned: Vec<String>,
}

/// Who signs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DkimSigner<'a> {
    /// The domain that answers for the message, `d=`.
    pub(crate) domain: &'a Domain,
    /// Under which name its public key is published, `s=`.
    pub(crate) selector: &'a str,
    /// The private key.
    pub(crate) key: &'a DkimKey,
}

impl ReadContent {
    /// The fields of the signatures, each with its line end, for the top of the message. `at` is when, in
    /// seconds since 1970.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn sign(&self, signers: &[DkimSigner<'_>], which: &SignedFields, at: i64) -> Result<String, Unsignable> {
        let fields = HeaderFields::of_header(&self.header);
        let (names, signed) = chosen(&fields, which)?;
        let mut all = String::new();
        for signer in signers {
            let mut field = FoldedField::begin();
            for tag in ["v=1;", &format!("a={};", signer.key.key_type().algorithm()), "c=relaxed/relaxed;"] {
                field.word(tag);
            }
            field.word(&format!("d={};", signer.domain));
            field.word(&format!("s={};", signer.selector));
            field.word(&format!("t={at};"));
            field.word(&format!("h={}", names.first().map_or("", String::as_str)));
            names.iter().skip(1).for_each(|name| field.more(&format!(":{name}")));
            field.more(";");
            field.word(&format!("bh={};", BASE64.encode(&self.relaxed)));
            field.word("b=");
            let mut data = signed.clone();
            relaxed_field(SIGNATURE_FIELD.as_bytes(), field.text.split("\r\n").map(str::as_bytes), &mut data);
            field.text_anywhere(&BASE64.encode(&signer.key.sign(&data)?));
            all.push_str("DKIM-Signature:");
            all.push_str(&field.text);
            all.push_str("\r\n");
        }
        Ok(all)
    }
}

/// The names for `h=`, and the fields behind them in their relaxed form: of several with a name the last one
/// first (RFC 6376 §5.4.2); a name without a field stands for none, and keeps one from being added (§5.4).
fn chosen(fields: &HeaderFields<'_>, which: &SignedFields) -> Result<(Vec<String>, Vec<u8>), Unsignable> {
    let (mut names, mut signed) = (Vec::new(), Vec::new());
    for name in &which.names {
        for lines in fields.last_first(name) {
            relaxed_field(name.as_bytes(), lines.iter().copied(), &mut signed);
            signed.extend_from_slice(b"\r\n");
            names.push(name.to_ascii_lowercase());
            if names.len() > FIELDS_LIMIT {
                return Err(Unsignable::TooManyFields);
            }
        }
        if which.oversigned.iter().any(|oversigned| oversigned.eq_ignore_ascii_case(name)) {
            names.push(name.to_ascii_lowercase());
        }
    }
    Ok((names, signed))
}

/// The value of a field, folded.
struct FoldedField {
    text: String,
    column: usize,
}

impl FoldedField {
    fn begin() -> Self {
        Self { text: String::new(), column: "DKIM-Signature:".len() }
    }

    /// A blank, or a new line, and this.
    fn word(&mut self, word: &str) {
        if self.column + 1 + word.len() > LINE_WIDTH {
            self.text.push_str("\r\n");
            self.column = 0;
        }
        self.text.push(' ');
        self.text.push_str(word);
        self.column += 1 + word.len();
    }

    /// This, at the end of the line or in a new one.
    fn more(&mut self, text: &str) {
        if self.column + text.len() > LINE_WIDTH {
            self.text.push_str("\r\n ");
            self.column = 1;
        }
        self.text.push_str(text);
        self.column += text.len();
    }

    /// This, folded wherever a line ends: blanks do not count in base64.
    fn text_anywhere(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let room = LINE_WIDTH.saturating_sub(self.column);
            let (line, behind) = rest.split_at_checked(room.min(rest.len())).unwrap_or((rest, ""));
            self.text.push_str(line);
            self.column += line.len();
            rest = behind;
            if !rest.is_empty() {
                self.text.push_str("\r\n ");
                self.column = 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
