//! What the command line alone needs: arguments, exit codes, the terminal, the orders of an operator.

pub(crate) mod arguments;
pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod configuration;
pub(crate) mod content;
pub(crate) mod exit;
pub(crate) mod guide;
pub(crate) mod log;
pub(crate) mod lookup;
pub(crate) mod manual;
pub(crate) mod operator;
pub(crate) mod orders;
pub(crate) mod place;
pub(crate) mod reload;
pub(crate) mod send_test;
pub(crate) mod serve;
pub(crate) mod setup;
pub(crate) mod shown;
pub(crate) mod suspend;
pub(crate) mod terminal;
pub(crate) mod top;
pub(crate) mod trouble;
pub(crate) mod user;
pub(crate) mod values;
