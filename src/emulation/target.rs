//! The process whose call is being answered: its memory, its root, its working directory, its descriptors.
//!
//! Everything is reached by the number of a thread, which belongs to somebody else once that thread has ended.
//! So whatever was opened or read counts only if the call still waits afterwards.

use std::ffi::CString;
use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::fs::{CWD, Mode, OFlags};

use super::credentials::Credentials;
use crate::sys::notify;

/// PATH_MAX of linux/limits.h, with the final zero.
const LONGEST_PATH: usize = 4096;
const PAGE: u64 = 4096;

pub struct Target<'a> {
    listener: BorrowedFd<'a>,
    id: u64,
    pub tid: i32,
    /// Whom the first process below this listener believes to be, where that is not what the kernel says.
    pub first: Option<&'a Arc<Credentials>>,
}

impl<'a> Target<'a> {
    pub fn new(listener: BorrowedFd<'a>, id: u64, tid: i32, first: Option<&'a Arc<Credentials>>) -> Self {
        Self { listener, id, tid, first }
    }

    /// Whether the call still waits: what was opened and read before is the caller's then.
    pub fn is_waiting(&self) -> bool {
        notify::is_waiting(self.listener, self.id)
    }

    /// Answers the call with a copy of a descriptor.
    pub fn give(&self, descriptor: BorrowedFd<'_>, close_on_exec: bool) -> std::io::Result<()> {
        notify::answer_with(self.listener, self.id, descriptor, close_on_exec)
    }

    /// What a link in the thread's directory of /proc leads to: `root`, `cwd`, `fd/N`.
    pub fn open(&self, link: &str) -> Option<OwnedFd> {
        let path = format!("/proc/{}/{link}", self.tid);
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// The text of such a link, where it is a path.
    pub fn read_link(&self, link: &str) -> Option<Vec<u8>> {
        let path = format!("/proc/{}/{link}", self.tid);
        rustix::fs::readlink(path, Vec::new()).ok().map(CString::into_bytes)
    }

    /// A line of the thread's status file (proc_pid_status(5)), without its name.
    pub fn status_line(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        File::open(format!("/proc/{}/status", self.tid)).ok()?.read_to_string(&mut text).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    /// Reads up to `buffer.len()` bytes; fewer where the mapping ends.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Option<usize> {
        let remote = RemoteIoVec { base: usize::try_from(address).ok()?, len: buffer.len() };
        process_vm_readv(Pid::from_raw(self.tid), &mut [IoSliceMut::new(buffer)], &[remote]).ok()
    }

    /// A string that ends in a zero; none where it is too long or not all there.
    pub fn read_path(&self, address: u64) -> Option<CString> {
        let mut text = Vec::with_capacity(256);
        let mut chunk = [0_u8; 256];
        while text.len() < LONGEST_PATH {
            let at = address.checked_add(text.len() as u64)?;
            // Not beyond the page: the next one need not be there.
            let length = usize::try_from(PAGE - at % PAGE).ok()?.min(chunk.len());
            let read = self.read(at, &mut chunk[..length])?;
            if read == 0 {
                return None;
            }
            match chunk[..read].iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend_from_slice(&chunk[..end]);
                    return CString::new(text).ok();
                }
                None => text.extend_from_slice(&chunk[..read]),
            }
        }
        None
    }

    /// Writes into the caller's memory, through a descriptor that stays that process's.
    pub fn write(&self, address: u64, bytes: &[u8]) -> bool {
        let path = format!("/proc/{}/mem", self.tid);
        let Ok(memory) = File::options().write(true).open(path) else { return false };
        self.is_waiting() && memory.write_all_at(bytes, address).is_ok()
    }
}
