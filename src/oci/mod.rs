//! The command line of an OCI runtime (`sbx oci`): bundles instead of images, and no process that stays.
//!
//! `create` does what a monitor does up to the point where the command would run, and ends; the container's first
//! process becomes the child of whoever called, or of its subreaper, and waits at a FIFO in the state directory until
//! `start` lets it go. What a bundle says becomes a [`crate::container::spec::Spec`] ([`config`]) and goes the way of
//! every container ([`crate::sandbox::launch`]).

pub mod attend;
pub mod bundle;
pub mod config;
pub mod console;
pub mod create;
pub mod delete;
mod device_limits;
pub mod exec;
pub mod freeze;
pub mod group;
pub mod resources;
pub mod run;
pub mod signal;
pub mod start;
pub mod state;
pub mod template;
