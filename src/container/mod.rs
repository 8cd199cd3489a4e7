//! What a container is: its immutable spec, its directory and lock in the store, its names.

pub mod spec;
pub mod capabilities;
