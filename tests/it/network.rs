//! The network of a container: what it reaches, what reaches it, and what it is told when it can't have one.

mod helpers;
mod inside;
mod lost;
pub mod outer;
mod own_addresses;
mod refused;
mod shared;
