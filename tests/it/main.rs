//! One binary for every end-to-end test: each module states the behaviour of one subject.
//!
//! `scripts/test` runs all of it as an unprivileged user, and the tests below a module `as_root` as root.

mod harness;

mod concurrency;
mod damage;
mod environment;
mod kills;
mod newuidmap_shim;
mod ps_rm;
mod seccomp_kernel;
mod seccomp_oracle;
