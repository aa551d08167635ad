//! One question of an operator each: the answer as data first, and the text of it beside.

pub mod audit;
pub mod cluster;
pub mod content;
pub mod dkim;
pub mod dns;
pub mod incidents;
pub mod json;
pub mod policy;
pub mod policy_list;
pub mod queue;
pub mod reconcile;
#[cfg(test)]
mod screen_tests;
pub mod send_test;
pub mod setup;
pub mod spool_move;
pub mod status;
pub mod suspend;
pub mod tls_reports;
pub mod tracking;
pub mod what_if;
pub mod why;
