//! What runs beside the pipeline while the relay is up, and the start that puts all of it together.

pub mod admin;
pub mod audit;
pub mod control;
mod dns;
pub mod error;
pub mod exceptions;
mod files;
pub mod generation;
pub mod notify;
pub mod reload;
mod selfcheck;
pub mod start;
