//! One binary for every end-to-end test: each module states the behaviour of one subject.
//!
//! `scripts/test` runs all of it as an unprivileged user, and the tests below a module `as_root` as root.

mod harness;

mod as_root;
mod attach;
mod bridge;
mod cgroups;
mod clients;
mod command_line;
mod concurrency;
mod copying;
mod damage;
mod devices;
mod emulated_root;
mod environment;
mod events;
mod everyday;
mod exec;
mod exit_codes;
mod health;
mod host_image;
mod hostile_roots;
mod identity;
mod images;
mod isolation;
mod kills;
mod layers;
mod lesser_hosts;
mod life;
mod listing;
mod login;
mod logs;
mod mounts;
mod network;
mod networks_named;
mod newuidmap_shim;
mod pods;
mod ports;
mod ps_rm;
mod readme;
mod registry;
mod run_image;
mod scratch;
mod seccomp_kernel;
mod seccomp_oracle;
mod secrets;
mod streams;
mod terminal;
mod top;
mod transfer;
mod units;
mod unpacking;
mod variables;
mod verbs;
mod volumes;
