//! What a build takes from elsewhere: archives, downloads, git repositories. All of it is hostile.

pub mod archive;
pub mod context;
pub mod download;
pub mod git;
pub mod named;
pub mod scratch;
mod unpack;
