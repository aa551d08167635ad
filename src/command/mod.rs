//! One question of an operator each: the answer as data first, and the text of it beside.

pub mod audit;
pub mod dns;
pub mod incidents;
pub mod policy;
pub mod queue;
pub mod reconcile;
pub mod send_test;
pub mod setup;
pub mod status;
pub mod suspend;
pub mod tracking;
pub mod what_if;
pub mod why;
