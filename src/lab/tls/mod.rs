//! The lab's certificates, and the shapes its TLS can take.

pub mod ca;
pub mod certificate;
pub mod shape;
