//! What the command line alone needs: exit codes, the terminal, the orders of an operator.

pub(crate) mod log;
pub(crate) mod manual;
pub(crate) mod operator;
pub(crate) mod terminal;
