//! The only folder with `unsafe`: thin wrappers of system calls that nix and rustix do not have.
#![allow(unsafe_code)]

pub mod channel;
pub mod mount;
pub mod process;
pub mod terminal;
pub mod time;
pub mod seccomp;
