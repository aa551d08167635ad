//! The lab's DNS: zones that are really signed, in any shape; the servers and resolvers that answer
//! for them; and the boxes on the way that spoil what they say.

mod answer;
pub mod authority;
pub mod boxes;
#[cfg(test)]
mod boxes_tests;
mod denial;
mod export;
pub mod fronts;
#[cfg(test)]
mod fronts_tests;
mod keys;
pub mod manner;
mod message;
pub mod plan;
pub mod random;
pub(in crate::lab) mod responder;
pub mod rrset;
pub mod server;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod shapes_tests;
mod signer;
mod validating;
pub(in crate::lab) mod view;
pub mod world;
pub mod zone;
