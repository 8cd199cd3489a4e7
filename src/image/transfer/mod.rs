//! Moving whole images: between registries and the store, archives and the store.

pub mod ahead;
pub mod unpacker;
