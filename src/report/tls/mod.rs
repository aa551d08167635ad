//! Reports on TLS: how often it went well with a domain in a day, and how it failed (RFC 8460).
//!
//! All that is pure about them. `record.rs` reads the record by which a domain says that it wants reports, and
//! `uri.rs` the places that it names.

pub mod record;
pub mod uri;
