//! draft
pub mod clock;
pub mod config;
pub mod envelope;
pub mod outcome;
pub mod policy;
pub mod resolve;
pub mod route;
pub mod smtp;
pub mod spool;
