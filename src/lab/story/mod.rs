//! The stories the lab tells, and the stage they play on.

pub mod demonstration;
pub mod ips;
pub mod situation;
pub mod stage;
