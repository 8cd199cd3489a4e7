//! One binary for every end-to-end test: each module states the behaviour of one subject.
//!
//! `scripts/test` runs all of it as an unprivileged user, and the tests below a module `as_root` as root.

mod harness;

mod as_root;
mod command_line;
mod exit_codes;
mod identity;
mod isolation;
mod lesser_hosts;
mod network;
mod newuidmap_shim;
mod seccomp_kernel;
mod seccomp_oracle;
mod streams;
mod terminal;
mod verbs;
