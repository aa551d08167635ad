//! The language of RFC 5321 and its extensions: addresses, commands, replies, headers, message
//! data.
//!
//! Everything here is pure: bytes in, values out, every length bounded.

pub mod address;
pub mod command;
pub mod data;
pub mod dkim;
pub mod dsn;
pub(crate) mod eight_bit;
pub(crate) mod error;
pub(crate) mod header;
pub mod line;
pub(crate) mod parameter;
pub mod reply;
pub(crate) mod sasl;
mod shown;
pub(crate) mod special_use;
