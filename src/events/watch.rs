//! Waiting until there may be more events, for as long as somebody reads.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// How long to wait where nothing tells of changes: inotify instances are few (fs.inotify.max_user_instances).
const BLIND: Duration = Duration::from_millis(100);
/// Looked at so often all the same: the directory may be another by now.
const SURE: Duration = Duration::from_secs(1);

/// Tells of changes to a file that may be replaced.
pub struct Watch(Option<OwnedFd>);

impl Watch {
    pub fn new() -> Self {
        let made = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        Self(made.inspect_err(|error| log::debug!("there is no inotify: {error}")).ok())
    }

    /// To be called before the file is read: what is written from then on ends [`Watch::wait`]. Says whether it does.
    pub fn arm(&self, directory: &Path, file: &Path) -> bool {
        let Some(inotify) = &self.0 else { return false };
        let entries = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let armed = inotify::add_watch(inotify, directory, entries);
        // It may not be there yet: that it is made tells the directory.
        let _ = inotify::add_watch(inotify, file, WatchFlags::MODIFY);
        armed.is_ok()
    }

    /// Returns after a change, at the latest after `limit`, and in any case now and then. False: nobody reads what
    /// is printed any more.
    pub fn wait(&self, armed: bool, limit: Option<Duration>) -> bool {
        let longest = if armed { SURE } else { BLIND };
        let longest = limit.map_or(longest, |limit| limit.min(longest));
        let timeout =
            Timespec { tv_sec: longest.as_secs().cast_signed(), tv_nsec: longest.subsec_nanos().into() };
        let stdout = rustix::stdio::stdout();
        // A pipe without a reader is an error that poll(2) reports unasked.
        let mut polled = vec![PollFd::new(&stdout, PollFlags::empty())];
        if let Some(inotify) = &self.0 {
            polled.push(PollFd::new(inotify, PollFlags::IN));
        }
        let _ = poll(&mut polled, Some(&timeout));
        let gone = polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        self.drain();
        !gone
    }

    fn drain(&self) {
        let Some(inotify) = &self.0 else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        while reader.next().is_ok() {}
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}
