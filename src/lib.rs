//! sbx: containers for people without root.
//!
//! The folders follow the path of `sbx run`: words become a request ([`cli`]), the request becomes one
//! immutable spec ([`container`]), the source of the root file system is found ([`image`]), mounted
//! ([`layers`]), entered ([`sandbox`], with [`identity`] and [`seccomp`]), connected ([`network`]) and
//! watched ([`monitor`]); [`volume`]s outlive it; the caller's terminal and streams are served by [`client`].

pub mod build;
pub mod cli;
pub mod client;
pub mod container;
pub mod copying;
pub mod delegation;
pub mod doctor;
pub mod emulation;
pub mod error;
pub mod events;
pub mod host;
pub mod identity;
pub mod image;
pub mod layers;
pub mod limits;
pub mod logs;
pub mod monitor;
pub mod network;
pub mod oci;
pub mod output;
pub mod pod;
pub mod records;
pub mod registry;
pub mod sandbox;
pub mod seccomp;
pub mod secret;
pub mod sys;
pub mod units;
pub mod volume;

pub use error::{Error, Result};
