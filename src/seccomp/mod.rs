//! Seccomp filters: the default one, those of `--security-opt seccomp=FILE`, and the programs made of them.
//!
//! The default is a table of our own ([`default`]), a file is parsed ([`profile`]); either becomes a policy,
//! a verdict for each call of each architecture ([`policy`]), and that a program of classic BPF ([`bpf`]),
//! which [`crate::sys::seccomp::install`] hands to the kernel.

pub mod arch;
pub mod bpf;
pub mod default;
pub mod emulation;
mod errno;
#[cfg(test)]
mod interpreter;
pub mod policy;
pub mod profile;
mod resolve;
mod table;

use crate::container::capabilities::CapSet;
use crate::container::spec::Seccomp;
use crate::error::{Error, Result};

pub use bpf::Instruction;

/// The program for a container with these capabilities on a kernel of this version (major, minor); none
/// where it is to run unconfined.
pub fn program(choice: &Seccomp, caps: CapSet, kernel: (u32, u32)) -> Result<Option<Vec<Instruction>>> {
    let native = arch::Arch::native().ok_or_else(|| {
        Error::new("sbx makes no seccomp filter for this architecture")
            .hint("run without one: `--security-opt seccomp=unconfined`")
    });
    let policy = match choice {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => default::policy(native?, caps, kernel),
        Seccomp::Profile(json) => {
            profile::parse_with_listener(json.as_bytes())?.resolve(native?, caps, kernel)?
        }
    };
    bpf::emit(&policy).map(Some)
}

/// The version (major, minor) of the running kernel, from uname(2); zeros where it does not say.
pub fn running_kernel() -> (u32, u32) {
    release_version(&rustix::system::uname().release().to_string_lossy())
}

fn release_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests;
