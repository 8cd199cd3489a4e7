//! One binary for every end-to-end test: each module states the behaviour of one subject.
//!
//! `scripts/test` runs all of it as an unprivileged user, and the tests below a module `as_root` as root.

mod harness;

mod as_root;
mod identity;
mod lesser_hosts;
mod newuidmap_shim;
mod seccomp_kernel;
mod seccomp_oracle;
