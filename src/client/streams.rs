//! Copying between the caller's streams and the container's, a thread each: a blocked terminal or pipe of
//! the caller blocks nothing else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

const CHUNK: usize = 1 << 20;

/// Of a stream that goes on when its command has ended.
pub struct LastCall {
    /// Can be read when the command has ended: what is there by then is still copied.
    pub called: OwnedFd,
    /// Nobody listens.
    pub deaf: Box<dyn FnOnce() + Send>,
}

/// Copies from the container until it has nothing more to say, or nobody listens; `writing` is closed then.
/// Its next writes fail there as they would without a container between: a closed pipe is passed on.
///
/// # Errors
/// EAGAIN where RLIMIT_NPROC or the pids controller allows no thread.
pub fn copy_out(
    from: OwnedFd,
    to: BorrowedFd<'static>,
    writing: OwnedFd,
    last_call: Option<LastCall>,
) -> io::Result<()> {
    start(move || {
        let copied = copy(from.as_fd(), to, last_call.as_ref().map(|last| last.called.as_fd()));
        if let Err(error) = copied
            && error != Errno::PIPE
            // EIO: a terminal that hung up.
            && error != Errno::IO
        {
            log::warn!("cannot write the output of the container: {}", std::io::Error::from(error));
        }
        if let (Err(_), Some(last)) = (copied, last_call) {
            (last.deaf)();
        }
        drop((from, writing));
    })
}

fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().spawn(work).map(drop)
}

/// Copies the caller's standard input until its end; the container then reads the end, too. The thread is
/// not waited for: it may be blocked in a read for ever.
///
/// # Errors
/// As [`copy_out`].
pub fn copy_in(to: OwnedFd) -> io::Result<()> {
    start(move || {
        let _ = copy(rustix::stdio::stdin(), to.as_fd(), None);
        drop(to);
    })
}

/// Moves pages where that is harmless, copies bytes elsewhere.
///
/// splice(2) locks the pipe while it waits for the other end: from or to a terminal or socket that may take
/// for ever, and whoever holds the pipe's other side waits with it. Into a file it writes back the offset that
/// it saw before it waited, so that both streams in one file (`> log 2>&1`) would overwrite each other.
///
/// When `called` can be read, what `from` holds by then is the last that is copied.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, called: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut limit = Limit { called, left: None };
    if matches!(kind(from), FileType::Fifo | FileType::RegularFile) && kind(to) == FileType::Fifo {
        while limit.goes_on(from) {
            match splice(from, None, to, None, CHUNK, SpliceFlags::empty()) {
                Ok(0) => return Ok(()),
                Ok(moved) => limit.copied(moved),
                Err(Errno::INTR) => {}
                // EINVAL: a file opened for appending, a file system without splice. EAGAIN: the caller's
                // descriptor is non-blocking.
                Err(Errno::INVAL | Errno::AGAIN | Errno::NOSYS) => break,
                Err(error) => return Err(error),
            }
        }
    }
    let mut buffer = Vec::with_capacity(64 * 1024);
    while limit.goes_on(from) {
        buffer.clear();
        match rustix::io::read(from, spare_capacity(&mut buffer)) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                write_whole(to, &buffer)?;
                limit.copied(read);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(from, PollFlags::IN),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How long a stream is copied that others may hold open, and go on writing to.
struct Limit<'a> {
    called: Option<BorrowedFd<'a>>,
    /// Bytes at most, once the command has ended.
    left: Option<usize>,
}

impl Limit<'_> {
    /// Waits until there is something to copy; false when it is to end.
    fn goes_on(&mut self, from: BorrowedFd<'_>) -> bool {
        let Some(called) = self.called else { return true };
        loop {
            let mut polled = [
                PollFd::from_borrowed_fd(from, PollFlags::IN),
                PollFd::from_borrowed_fd(called, PollFlags::IN),
            ];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let wait = self.left.map(|_| &now);
            if poll(&mut polled, wait).is_err() {
                continue;
            }
            let [readable, over] = polled.map(|fd| !fd.revents().is_empty());
            match self.left {
                Some(left) => return readable && left > 0,
                // What the command wrote last is there, too: look again.
                None if over => self.left = Some(rustix::pipe::fcntl_getpipe_size(from).unwrap_or(CHUNK)),
                None => return true,
            }
        }
    }

    fn copied(&mut self, bytes: usize) {
        self.left = self.left.map(|left| left.saturating_sub(bytes));
    }
}

fn kind(fd: BorrowedFd<'_>) -> FileType {
    rustix::fs::fstat(fd).map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
}

/// Writes everything, also to a descriptor that somebody made non-blocking; false when nobody reads.
pub fn write_all(to: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    write_whole(to, bytes).is_ok()
}

fn write_whole(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(to, PollFlags::OUT),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags) {
    let mut polled = [PollFd::from_borrowed_fd(fd, flags)];
    let _ = poll(&mut polled, None);
}
