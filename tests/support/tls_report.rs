//! Reads a mail with a report on TLS, as its recipient does (RFC 8460 §5.3).

use dane_relay::lab::mx::behaviour::Received;
use data_encoding::BASE64;
use serde_json::Value;

/// The document in it.
pub(crate) fn document(mail: &Received) -> Value {
    let text = String::from_utf8(mail.content.clone()).unwrap();
    let packed = text.split("application/tlsrpt+gzip").nth(1).unwrap();
    let packed = packed.split("\r\n\r\n").nth(1).unwrap().split("\r\n--").next().unwrap();
    let octets = BASE64.decode(packed.replace("\r\n", "").as_bytes()).unwrap();
    // The header of gzip is ten octets here, and its end is eight (RFC 1952 §2.3).
    let json = miniz_oxide::inflate::decompress_to_vec(&octets[10..octets.len() - 8]).unwrap();
    serde_json::from_slice(&json).unwrap()
}
