//! What runs beside the pipeline while the relay is up, and the start that puts all of it together.

mod admin;
mod api;
mod audit;
pub mod control;
mod disk;
mod dns;
mod error;
pub mod exceptions;
mod exchange;
mod files;
mod generation;
mod incidents;
mod limits;
pub mod notify;
mod operator;
pub mod order;
mod reload;
mod selfcheck;
pub mod start;
mod successive;
mod suspensions;
pub mod tls_reports;
mod watch;
