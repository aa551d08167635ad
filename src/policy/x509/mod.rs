//! Certificates: reading them, their names, their signatures, and the paths they form
//! (RFC 5280, RFC 6125). Pure; what a certificate is held to is decided by the policies.

pub mod certificate;
pub(crate) mod constraints;
mod distinguished;
pub(crate) mod names;
pub(crate) mod path;
pub(crate) mod rules;
pub mod signature;
pub(crate) mod small_rsa;
pub mod webpki;
