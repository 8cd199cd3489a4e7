//! `--emulate-root`.

use serde::{Deserialize, Serialize};

use crate::container::spec::{Driver, Root};
use crate::error::{Error, Result};
use crate::identity::{Identity, Tier};
use crate::seccomp::arch::Arch;

/// `--emulate-root`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Choice {
    /// Where one ID alone is mapped and the root can be changed.
    #[default]
    Auto,
    Always,
    Never,
}

/// What a container's spec says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Emulation {
    #[default]
    Off,
    /// Without it, where the kernel or an outer container has it so, and that is said.
    IfPossible,
    Required,
}

/// The first kernel that carries on with a call which the server leaves to it.
const FIRST_KERNEL: (u32, u32) = (5, 5);

/// Decides for one container.
///
/// # Errors
/// It was asked for where it cannot be, or where all IDs are mapped.
pub fn decide(
    choice: Choice,
    identity: &Identity,
    root: &Root,
    kernel: (u32, u32),
    degraded: &mut Vec<String>,
) -> Result<Emulation> {
    let sole = identity.tier == Tier::Single && identity.join.is_none();
    let has_root =
        identity.inner_uid_map().to_host(0).is_some() && identity.inner_gid_map().to_host(0).is_some();
    let changes = match root {
        Root::Host { .. } => false,
        Root::Directories { driver, .. } | Root::Layers { driver, .. } => *driver != Driver::Bind,
        Root::WritableDirectory { .. } => true,
    };
    let impossible = if kernel < FIRST_KERNEL {
        Some(format!("it takes Linux {}.{}", FIRST_KERNEL.0, FIRST_KERNEL.1))
    } else if Arch::native().is_none() {
        Some("sbx makes no seccomp filter for this architecture".to_owned())
    } else {
        None
    };
    let refused = |why: &str| Err(Error::new("cannot use `--emulate-root always`").because(why));
    match (choice, impossible) {
        (Choice::Never, _) => Ok(Emulation::Off),
        (Choice::Always, _) if !sole => {
            refused("more than one ID is mapped, so that owners are changed and users taken for real")
                .map_err(|error: Error| error.hint("leave it out, or add `--id-tier single`"))
        }
        (Choice::Always, _) if !has_root => refused("the container has no root: 0 is not mapped"),
        (Choice::Always, Some(why)) => refused(&why),
        (Choice::Always, None) => Ok(Emulation::Required),
        (Choice::Auto, _) if !sole || !has_root || !changes => Ok(Emulation::Off),
        (Choice::Auto, Some(why)) => {
            degraded
                .push(format!("owners and users are not emulated, so that chown(1) and apt-get fail: {why}"));
            Ok(Emulation::Off)
        }
        (Choice::Auto, None) => Ok(Emulation::IfPossible),
    }
}
