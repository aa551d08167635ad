//! What comes from a wire becomes a message: at a bounded cost (`octets.rs`), and not lost for one odd
//! record in it (`odd.rs`).

use super::octets::{is_laborious, refuse};
use super::odd::set_aside;
use hickory_proto::op::Message;
use hickory_proto::serialize::binary::DecodeError;

/// Makes a message one that can be decoded, at a bounded cost. Octets that are no message stay so.
pub(in crate::resolve) fn make_readable(octets: &mut [u8]) {
    if is_laborious(octets) {
        refuse(octets);
    } else {
        set_aside(octets);
    }
}

/// Reads a message, made readable before.
///
/// # Errors
/// When the octets are no message.
pub(in crate::resolve) fn decode(octets: &[u8]) -> Result<Message, DecodeError> {
    let mut octets = octets.to_vec();
    make_readable(&mut octets);
    Message::from_vec(&octets)
}
