//! Copying between the caller's streams and the container's, a thread each: a blocked terminal or pipe of
//! the caller blocks nothing else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

const CHUNK: usize = 1 << 20;

/// Copies from the container until it has nothing more to say.
pub fn copy_out(from: OwnedFd, to: BorrowedFd<'static>) -> JoinHandle<()> {
    thread::spawn(move || copy(from.as_fd(), to))
}

/// Copies the caller's standard input until its end; the container then reads the end, too. The thread is
/// not waited for: it may be blocked in a read for ever.
pub fn copy_in(to: OwnedFd) {
    thread::spawn(move || {
        copy(rustix::stdio::stdin(), to.as_fd());
        drop(to);
    });
}

/// Moves pages where both ends allow it (splice(2): one of them is a pipe), copies bytes elsewhere. Into a
/// file, too, bytes are copied: splice does not lock the file's offset as write does, and where both streams go
/// to one file (`>log 2>&1`) they would overwrite each other.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let to_file = rustix::fs::fstat(to).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
    });
    while !to_file {
        match splice(from, None, to, None, CHUNK, SpliceFlags::empty()) {
            Ok(0) => return,
            Ok(_) | Err(Errno::INTR) => {}
            // EINVAL: a terminal, a file opened for appending, a file system without splice. EAGAIN: the
            // caller's descriptor is non-blocking.
            Err(Errno::INVAL | Errno::AGAIN | Errno::NOSYS) => break,
            Err(_) => return,
        }
    }
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let read = match rustix::io::read(from, &mut buffer[..]) {
            Ok(0) => return,
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                wait_for(from, rustix::event::PollFlags::IN);
                continue;
            }
            Err(_) => return,
        };
        if !write_all(to, &buffer[..read]) {
            return;
        }
    }
}

/// Writes everything, also to a descriptor that somebody made non-blocking; false when nobody reads.
pub fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(to, rustix::event::PollFlags::OUT),
            Err(_) => return false,
        }
    }
    true
}

fn wait_for(fd: BorrowedFd<'_>, flags: rustix::event::PollFlags) {
    let mut polled = [rustix::event::PollFd::from_borrowed_fd(fd, flags)];
    let _ = rustix::event::poll(&mut polled, None);
}
