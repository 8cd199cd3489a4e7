//! `sbx build`: a Dockerfile and a context become an image.

pub mod builder;
pub mod cache;
pub mod configuration;
pub mod context;
mod copy;
pub mod dockerfile;
pub mod finish;
mod leftover;
pub mod mounts;
pub mod place;
pub mod program;
mod report;
pub mod run;
pub mod select;
pub mod solve;
pub mod tree;
