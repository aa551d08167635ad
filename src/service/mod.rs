//! What runs beside the pipeline while the relay is up, and the start that puts all of it together.

mod admin;
mod audit;
pub mod control;
mod egress;
pub mod exceptions;
pub mod incidents;
pub mod notify;
mod selfcheck;
pub mod start;
pub mod watch;
