//! Emulated root, where one ID alone is mapped: changes of owner are recorded instead of made, changes of user
//! are remembered, and who asks is told so (design: the single tier).
//!
//! A filter beside the container's own hands the few calls that this takes to a [`server`] outside, by
//! seccomp_unotify(2). It is emulation for programs that cooperate, no security boundary: what a program may
//! really do is the kernel's affair as before, and whatever the server does not understand it leaves to the
//! kernel. So it may leave every call to the kernel whose arguments somebody changes under its hands; and where
//! it acts itself, it acts below the root of the calling process only, with the container's own IDs.

mod answers;
mod call;
pub mod choice;
mod credentials;
mod identities;
mod layout;
mod owners;
mod paths;
mod server;
mod sidecar;
mod target;

pub use choice::{Choice, Emulation};
pub use credentials::Credentials;
pub use identities::believe_first;
pub use server::{Emulator, refused, why_refused};
pub use sidecar::Places;

use crate::error::{Error, Result};
use crate::seccomp::arch::Arch;
use crate::seccomp::{Instruction, emulation};

/// The filter that hands over what is emulated.
///
/// # Errors
/// Where sbx makes no filters for the architecture.
pub fn program() -> Result<Vec<Instruction>> {
    let native =
        Arch::native().ok_or_else(|| Error::new("sbx makes no seccomp filter for this architecture"))?;
    emulation::program(native, &call::names())
}
