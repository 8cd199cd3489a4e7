//! What a container is: its immutable spec, its directory and lock in the store, its names.

pub mod capabilities;
pub mod device;
pub mod duration;
pub mod env;
pub mod name;
pub mod rlimit;
pub mod signal;
pub mod size;
pub mod spec;
pub mod sysctl;
pub mod user;
pub mod volume;
