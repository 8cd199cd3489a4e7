//! The container's world: its namespaces, mounts, devices and privileges, and the exec into it.
//!
//! [`launch`] is the outside (the monitor): it makes the process, has its ID maps written, starts what serves it, and
//! lets it go, where need be with the help of a [`launcher`]. [`child`] is the inside: the steps from an empty set of
//! namespaces to the user's command, in order. [`enter`] brings further processes into a container that runs. What the
//! processes say to each other is [`message`].

pub mod accounts;
pub mod child;
pub mod command;
pub mod devices;
pub mod enter;
pub mod init;
pub mod inroot;
pub mod kernel_mounts;
pub mod launch;
mod launcher;
pub mod listed;
pub mod message;
pub mod namespaces;
pub mod ownership;
pub mod privileges;
pub mod program;
pub mod reach;
pub mod root;
mod secret_mounts;
mod terminal;
pub mod user_mounts;
pub mod userns;
pub mod volumes;
