//! The only folder with `unsafe`: thin wrappers of system calls that nix and rustix do not have.
#![allow(unsafe_code)]

pub mod ids;
pub mod probe;
pub mod process;
