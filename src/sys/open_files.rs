//! Room for many descriptors, below the limit of whoever calls (getrlimit(2), RLIMIT_NOFILE).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is open beside those that room is made for.
const OTHERS: u64 = 64;

/// The limit that was there, if it was too low; it is given back in the end.
pub struct Room(Option<Rlimit>);

impl Room {
    /// Goes up to the hard limit where so many descriptors need it.
    pub fn make(descriptors: u64) -> Self {
        let before = getrlimit(Resource::Nofile);
        if before.current.is_none_or(|soft| soft >= descriptors.saturating_add(OTHERS)) {
            return Self(None);
        }
        let most = Rlimit { current: before.maximum, maximum: before.maximum };
        Self(setrlimit(Resource::Nofile, most).is_ok().then_some(before))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            // Down to what it was: nobody refuses that.
            let _ = setrlimit(Resource::Nofile, before);
        }
    }
}
