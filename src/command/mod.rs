//! One question of an operator each: the answer as data first, and the text of it beside.

pub mod audit;
pub mod dns;
pub mod policy;
pub mod queue;
pub mod send_test;
pub mod setup;
pub mod status;
pub mod why;
