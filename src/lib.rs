//! draft
pub mod accept;
pub mod clock;
pub mod config;
pub mod envelope;
#[cfg(feature = "lab")]
pub mod lab;
pub mod outcome;
pub mod policy;
pub mod report;
pub mod resolve;
pub mod route;
pub mod smtp;
pub mod spool;
