//! The only folder with `unsafe`: thin wrappers of system calls that nix and rustix do not have.
#![allow(unsafe_code)]

pub mod net;
pub mod process;
