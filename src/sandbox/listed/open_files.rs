//! Room for the descriptors of a long list of mounts, below the limit of whoever calls (getrlimit(2), RLIMIT_NOFILE).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::container::listed::Listed;

/// What is open beside the mounts.
const OTHERS: u64 = 64;

/// The limit that was there, if it was too low; the command gets it back.
pub(super) struct Room(Option<Rlimit>);

impl Room {
    /// Goes up to the hard limit where the mounts need it.
    pub(super) fn make(listed: &Listed) -> Self {
        let before = getrlimit(Resource::Nofile);
        let needed = listed.mounts.len() as u64 + OTHERS;
        if before.current.is_none_or(|soft| soft >= needed) {
            return Self(None);
        }
        let most = Rlimit { current: before.maximum, maximum: before.maximum };
        Self(setrlimit(Resource::Nofile, most).is_ok().then_some(before))
    }

    pub(super) fn give_back(self) {
        if let Some(before) = self.0 {
            // Down to what it was: nobody refuses that.
            let _ = setrlimit(Resource::Nofile, before);
        }
    }
}
