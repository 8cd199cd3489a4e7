//! What every end-to-end test stands on: a world of its own for each test ([`Sbx`]), a small root file system
//! shared by all ([`rootfs`]), a terminal to type on ([`Pty`]), and a look at what was left behind.
//!
//! ```ignore
//! sbx().run(["--rm", "--rootfs", rootfs(), "cat"]).stdin("hello").expect_code(0).stdout_is("hello");
//! ```
#![allow(dead_code, unused_imports)] // Tests of one subject use a part of it, and a build may hold one subject.

mod background;
pub mod cases;
mod clients;
mod command;
mod faults;
mod git;
mod http;
mod image;
mod images;
mod inetd;
mod kept;
mod leftovers;
mod podman;
mod prerequisites;
mod pty;
mod registry;
mod rootfs;
mod ssh;
mod tokens;
pub mod told;
mod world;

pub use background::Background;
pub use clients::sbx_by_all_names;
pub use command::{Finished, Run, Running};
pub use faults::{Fault, Faulty};
pub use git::{Repository, backend, git_daemon, git_over_http};
pub use http::{Message, Server};
pub use image::{LayerTar, MadeImage, image, sha256};
pub use images::{Images, TestImage, images};
pub use kept::{forget, forget_stale, kept};
pub use leftovers::Leftovers;
pub use podman::Podman;
pub use prerequisites::{cache, patience, repository, require, require_root, sbx_binary, shim_binary};
pub use pty::Pty;
pub use registry::Registry;
pub use rootfs::{debian_rootfs, rootfs, services_rootfs};
pub use ssh::SshServer;
pub use tokens::TokenServer;
pub use world::{Sbx, sbx};

/// The directory below `directory` that was changed last, of those that have the file `mark`.
fn newest_below(directory: &std::path::Path, mark: &str) -> Option<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let made = entries.filter(|entry| entry.path().join(mark).exists());
    made.max_by_key(|entry| entry.metadata().and_then(|found| found.modified()).ok())
        .map(|entry| entry.path())
}
