//! `sbx build`: a Dockerfile and a context become an image.

mod add;
mod agent;
pub mod builder;
pub mod cache;
pub mod caches;
mod checks;
pub mod configuration;
pub mod context;
mod copy;
pub mod dockerfile;
mod export;
pub mod fetch;
pub mod finish;
pub mod keys;
pub mod leftover;
mod merge;
pub mod mounts;
pub mod place;
pub mod program;
pub mod remote;
pub mod report;
pub mod run;
pub mod select;
pub mod solve;
pub mod squash;
pub mod tree;
pub mod watch;
