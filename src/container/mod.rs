//! What a container is: its immutable spec, its directory and lock in the store, its names; and the words
//! of the command line made into the values of the spec.

pub mod capabilities;
pub mod claim;
pub mod device;
pub mod difference;
pub mod directory;
pub mod disk;
pub mod document;
pub mod duration;
pub mod env;
pub mod export;
pub mod filter;
pub mod label;
pub mod life;
pub mod list;
pub mod moment;
pub mod name;
pub mod namespace;
pub mod open_root;
pub mod plan;
pub mod process;
pub mod restart;
pub mod rlimit;
pub mod scratch;
pub mod security;
pub mod settings;
pub mod signal;
pub mod size;
pub mod spec;
pub mod state;
pub mod store;
pub mod sweep;
pub mod sysctl;
pub mod timezone;
pub mod user;
pub mod volume;
