//! Which process believes to have which credentials.
//!
//! The number of a set of credentials is kept in the process itself, as its soft limit RLIMIT_RSS, to which no
//! kernel has paid attention since 2.4.30 (getrlimit(2)). So it goes with the process over fork and exec, it is
//! shared by its threads, it ends with it, and nobody need follow who comes from whom.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustix::io::Errno;

use super::credentials::{Credentials, Set};
use super::target::Target;
use crate::sys::remote;

/// Where the numbers begin, so that no limit that somebody set is taken for one; but below a hard limit they
/// begin at 1.
const FIRST: u64 = 0x5b78_0000_0000_0000;

/// The number that stands for [`Target::first`], whoever that is.
const OF_THE_LISTENER: u64 = 1;

#[derive(Default)]
pub struct Identities(RwLock<Known>);

#[derive(Default)]
struct Known {
    all: Vec<Arc<Credentials>>,
    numbers: HashMap<Arc<Credentials>, u64>,
}

/// Makes the calling process believe in the credentials that its server is told with the listener
/// ([`Target::first`]). Gives the limit that was there.
pub fn believe_first() -> std::io::Result<(u64, u64)> {
    let before = remote::limit(0, libc::RLIMIT_RSS)?;
    remote::set_limit(0, libc::RLIMIT_RSS, (soft(OF_THE_LISTENER, before.1), before.1))?;
    Ok(before)
}

fn soft(number: u64, hard: u64) -> u64 {
    if hard == u64::MAX { FIRST + number } else { number }
}

impl Identities {
    /// What the process was given here; none: it has what the kernel says.
    pub fn of(&self, target: &Target<'_>) -> Option<Arc<Credentials>> {
        let (soft, _) = remote::limit(target.tid, libc::RLIMIT_RSS).ok()?;
        let number = if soft >= FIRST { soft - FIRST } else { soft };
        if number == OF_THE_LISTENER {
            return target.first.cloned();
        }
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(number.checked_sub(OF_THE_LISTENER + 1)?).ok()?;
        known.all.get(place).cloned()
    }

    /// Gives the process other credentials.
    pub fn give(&self, target: &Target<'_>, credentials: Credentials) -> Result<(), Errno> {
        let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
        let (_, hard) = remote::limit(target.tid, libc::RLIMIT_RSS).map_err(failed)?;
        let number = self.number(credentials);
        if !target.is_waiting() {
            return Err(Errno::SRCH);
        }
        remote::set_limit(target.tid, libc::RLIMIT_RSS, (soft(number, hard), hard)).map_err(failed)
    }

    fn number(&self, credentials: Credentials) -> u64 {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(&credentials) {
            return *number;
        }
        let credentials = Arc::new(credentials);
        known.all.push(Arc::clone(&credentials));
        let number = OF_THE_LISTENER + known.all.len() as u64;
        known.numbers.insert(credentials, number);
        number
    }
}

/// What the kernel says (proc_pid_status(5)), in IDs of the container.
pub fn real(target: &Target<'_>) -> Option<Credentials> {
    let numbers = |name| -> Option<Vec<u32>> {
        let line = target.status_line(name)?;
        line.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
    };
    let set = |name| match numbers(name)?[..] {
        [real, effective, saved, file_system] => Some(Set { real, effective, saved, file_system }),
        _ => None,
    };
    Some(Credentials { user: set("Uid")?, group: set("Gid")?, groups: numbers("Groups")?, keeper: None })
}
