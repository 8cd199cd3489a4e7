//! What a container is: its immutable spec, its directory and lock in the store, its names.

pub mod capabilities;
pub mod directory;
pub mod process;
pub mod spec;
pub mod state;
pub mod store;
pub mod sweep;
