//! What a connection to an MX host must look like, decided from what the DNS says
//! (RFC 7672 §2.2, §3).
//!
//! The files below answer the parts of that question; all of them are pure. What a server
//! presents never makes them panic, and no amount of it costs more than their named bounds.

pub mod certificate;
pub mod chain;
mod constraints;
pub mod dane;
mod names;
mod rules;
pub mod signature;
#[cfg(test)]
mod testing;
