//! What the kernel's refusals mean for an entry.

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::layers::unpack::archive::{Entry, shown};

pub fn check<T>(result: Result<T, Errno>, what: &str) -> Result<T> {
    result.map_err(|error| explain(error, what))
}

pub fn explain(error: Errno, what: &str) -> Error {
    let failed = Error::new(format!("cannot {what}")).because(error);
    match error {
        Errno::NOSPC | Errno::DQUOT => failed.hint(
            "free some space where images are kept (`sbx info` names the place), or choose another with `--root`",
        ),
        _ => failed,
    }
}

/// Why a file cannot have its owner.
pub fn explain_owner(error: Errno, entry: &Entry) -> Error {
    let failed = Error::new(format!("cannot give it to user {} and group {}", entry.uid, entry.gid));
    match error {
        Errno::INVAL | Errno::OVERFLOW => failed.because("the user namespace has no such ID").hint(
            "ask an administrator for a longer range of subordinate IDs (/etc/subuid, /etc/subgid), or use \
                 `--id-tier single`, which records owners instead of setting them",
        ),
        Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP => failed.because(error).hint(
            "keep the store on a local file system (`--root DIR` or SBX_ROOT): network file systems refuse \
             foreign owners",
        ),
        error => failed.because(error),
    }
}

pub fn attribute_error(name: &[u8], error: Errno) -> Error {
    explain(error, &format!("set its extended attribute `{}`", shown(name)))
}
