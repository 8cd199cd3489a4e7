//! Moving whole images: between registries and the store, archives and the store.

mod ahead;
pub mod archive;
mod layer;
pub mod pull;
pub mod session;
pub mod unpacker;
