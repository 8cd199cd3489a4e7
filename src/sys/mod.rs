//! The only folder with `unsafe`: thin wrappers of system calls that nix and rustix do not have.
#![allow(unsafe_code)]

pub mod channel;
pub mod ids;
pub mod local_time;
pub mod memory;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod notify;
pub mod open_files;
pub mod probe;
pub mod process;
pub mod random;
pub mod remote;
pub mod scheduling;
pub mod seccomp;
pub mod signals;
pub mod tap;
pub mod terminal;
pub mod time;
