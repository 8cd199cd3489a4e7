//! Showing logs, and waiting for what is added to them.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::container::process::{ProcessRef, boot_id};
use crate::container::store::Store;
use crate::error::Result;
use crate::logs::Reader;
use crate::logs::show::{Lines, Output};

/// Between two looks where the kernel says what changes; for file systems that have it change on a server.
const SELDOM: Duration = Duration::from_secs(2);
/// Between two looks where it does not.
const OFTEN: Duration = Duration::from_millis(100);

/// The log of one container, on its way to the caller.
pub struct Shown {
    pub name: String,
    pub reader: Reader,
    pub lines: Lines,
    /// Who may still write to it; none: nobody, or nobody is waited for.
    pub writer: Option<Writer>,
}

/// Whoever looks after a container.
pub enum Writer {
    /// Its monitor, to the end of its last life.
    Monitor(OwnedFd),
    /// A monitor on another machine that has the store, too.
    Elsewhere { store: Store, id: String },
}

impl Writer {
    /// Who writes now; none where the container is down.
    pub fn of(store: &Store, id: &str) -> Option<Self> {
        let record = store.record_of(id)?;
        if record.boot_id != boot_id() {
            let elsewhere = Self::Elsewhere { store: store.clone(), id: id.to_owned() };
            return elsewhere.is_there().then_some(elsewhere);
        }
        record.monitor.and_then(ProcessRef::open).map(Self::Monitor).filter(Self::is_there)
    }

    fn is_there(&self) -> bool {
        match self {
            Self::Monitor(pidfd) => !crate::sys::process::has_ended(pidfd),
            Self::Elsewhere { store, id } => store.is_looked_after(id),
        }
    }
}

/// Shows each log to its end, one after the other, and then what is added, until nobody can write any more or it is
/// later than `until`. Ends without an error where nobody reads any more.
///
/// # Errors
/// A log cannot be read, or the caller's stream cannot be written.
pub fn show(mut logs: Vec<Shown>, until: Option<Timestamp>) -> Result<()> {
    let mut output = Output::new();
    let changes = Changes::watch(&logs);
    loop {
        let is_late = until.is_some_and(|until| Timestamp::now() > until);
        for log in &mut logs {
            // Asked first: who has ended wrote nothing after that.
            let ends = is_late || !log.writer.as_ref().is_some_and(Writer::is_there);
            if log.read(ends, &mut output)?.is_break() {
                return output.finish();
            }
            if ends {
                log.warn();
            }
        }
        if output.flush().is_break() || is_late {
            return output.finish();
        }
        logs.retain(|log| log.writer.is_some());
        if logs.is_empty() || changes.wait(&logs, until).is_break() {
            return output.finish();
        }
    }
}

impl Shown {
    fn read(&mut self, ends: bool, output: &mut Output) -> Result<ControlFlow<()>> {
        let (lines, output) = (&mut self.lines, std::cell::RefCell::new(output));
        let mut sink = |entry: crate::logs::Entry<'_>| lines.entry(&entry, &mut output.borrow_mut());
        let flow = self.reader.read(&mut sink, &mut || output.borrow_mut().flush())?;
        if ends {
            self.reader.finish(&mut sink)?;
            self.writer = None;
        }
        Ok(flow)
    }

    fn warn(&self) {
        let count = self.reader.damaged() + self.lines.strange_times();
        if count > 0 {
            let lines = if count == 1 { "line is" } else { "lines are" };
            log::warn!("the log of `{}` is damaged: {count} {lines} left out", self.name);
        }
    }
}

/// Tells when a log has changed.
struct Changes {
    /// None where the user has no more of these (inotify(7), max_user_instances), or nobody waits.
    notices: Option<OwnedFd>,
}

impl Changes {
    /// Before the first look, so that nothing is missed.
    fn watch(logs: &[Shown]) -> Self {
        if logs.iter().all(|log| log.writer.is_none()) {
            return Self { notices: None };
        }
        let notices = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok();
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        // Of the directory: files come and go.
        let directories = logs.iter().filter(|log| log.writer.is_some()).map(|log| log.reader.directory());
        let all: Option<Vec<i32>> = notices.as_ref().and_then(|notices| {
            directories.map(|path: PathBuf| inotify::add_watch(notices, path, flags).ok()).collect()
        });
        Self { notices: notices.filter(|_| all.is_some()) }
    }

    /// Waits for news of a log, the end of a writer, or the time `until`; breaks off where nobody reads any more.
    fn wait(&self, logs: &[Shown], until: Option<Timestamp>) -> ControlFlow<()> {
        let mut polled = vec![PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::empty())];
        polled.extend(self.notices.as_ref().map(|notices| PollFd::new(notices, PollFlags::IN)));
        let mut patience = if self.notices.is_some() { SELDOM } else { OFTEN };
        for log in logs {
            match &log.writer {
                Some(Writer::Monitor(pidfd)) => {
                    polled.push(PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN));
                }
                Some(Writer::Elsewhere { .. }) => patience = patience.min(Duration::from_secs(1)),
                None => {}
            }
        }
        if let Some(until) = until {
            let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
            patience = patience.min(left + Duration::from_millis(1));
        }
        let patience =
            Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
        let _ = poll(&mut polled, Some(&patience));
        if polled[0].revents().contains(PollFlags::ERR) {
            return ControlFlow::Break(());
        }
        if let Some(notices) = &self.notices {
            // What changed is seen by looking.
            let mut ignored = [0_u8; 16 * 1024];
            while rustix::io::read(notices, &mut ignored).is_ok_and(|read| read > 0) {}
        }
        ControlFlow::Continue(())
    }
}
