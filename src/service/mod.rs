//! What runs beside the pipeline while the relay is up, and the start that puts all of it together.

pub mod admin;
pub mod audit;
pub mod control;
pub mod egress;
pub mod exceptions;
pub mod incidents;
pub mod notify;
pub mod selfcheck;
pub mod start;
pub mod watch;
