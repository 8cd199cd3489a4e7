//! One life of a container: from its first process to the moment when nothing of it runs any more.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::container::process::{ProcessRef, kill_user_namespace};
use crate::container::spec::{Namespace, Spec};
use crate::container::store::{Claim, Running};
use crate::emulation::Emulator;
use crate::error::{Result, Step};
use crate::logs::Log;
use crate::monitor::message::ToClient;
use crate::monitor::sessions::Sessions;
use crate::monitor::{guard, output};
use crate::network::Helper;
use crate::network::bridge::Session;
use crate::network::bridge::allow::log::NetworkLog;
use crate::sandbox::launch::Sandbox;
use crate::sys::process::{reap_any, send_signal, wait_for};

/// A child of the monitor that ended before the container did.
enum Lost {
    Guard,
    RootServer,
    Emulator,
    /// What it can do without, and what the caller should know of that.
    Other(String),
}

pub(super) struct Life {
    pub sandbox: Sandbox,
    /// What happened to the container that its command did not do.
    pub trouble: Option<String>,
    pub guard: Option<i32>,
    /// The user namespace whose processes have to end one by one, where the PID namespace is shared. Held to the
    /// end, so that the kernel gives its number to no other.
    pub namespace: Option<File>,
    pub streams: Vec<output::Stream>,
    /// The master side of the container's terminal, for clients that come later.
    pub terminal: Option<OwnedFd>,
    /// The container's standard input, where no client has taken it.
    pub stdin: Option<OwnedFd>,
    /// When a container that was asked to stop is killed.
    pub stop_at: Option<Instant>,
    /// `--timeout`.
    pub deadline: Option<Instant>,
    /// Its place in bridge networks; it is out of them when this goes.
    pub bridges: Option<Session>,
    /// With `--net-allow`: what the container has tried to reach.
    pub network_log: Option<NetworkLog>,
    /// When to try again to join them: whoever held them was killed.
    pub rejoin_at: Option<Instant>,
    pub born: Instant,
    /// Tells, with POLLPRI, that something of memory happened; none: memory is not counted.
    pub memory_events: Option<OwnedFd>,
    /// Processes that the kernel has killed for want of memory.
    pub oom_kills: u64,
}

impl Life {
    /// Who serves the container.
    pub fn servers(&self) -> Vec<ProcessRef> {
        let network = self.sandbox.network.as_ref();
        let servers = [
            self.sandbox.root_server,
            network.map(Helper::pid),
            network.and_then(Helper::relay_pid),
            self.sandbox.emulator.as_ref().map(Emulator::pid),
        ];
        servers.into_iter().flatten().filter_map(ProcessRef::of).collect()
    }

    /// Starts another guard in the place of one that was killed.
    fn start_guard(&mut self, claim: &Claim, record: &mut Running) -> Result<()> {
        let (init, lock) = (self.sandbox.pidfd.as_fd(), claim.descriptor());
        self.guard = Some(guard::start(init, lock, self.namespace.as_ref())?);
        record.guard = self.guard.and_then(ProcessRef::of);
        claim.record(record)
    }

    /// A child that was reaped: its number may be another's from now on.
    fn forget(&mut self, pid: i32) -> Option<Lost> {
        if self.guard == Some(pid) {
            self.guard = None;
            return Some(Lost::Guard);
        }
        if self.sandbox.emulator.as_ref().is_some_and(|emulator| emulator.pid() == pid) {
            self.sandbox.emulator = None;
            return Some(Lost::Emulator);
        }
        let served_root = self.sandbox.root_server == Some(pid);
        if let Some(notice) = self.sandbox.reaped(pid) {
            return Some(Lost::Other(notice));
        }
        served_root.then_some(Lost::RootServer)
    }

    /// A child ended while the container's first process is there.
    pub fn replace(&mut self, pid: i32, code: i32, claim: &Claim, record: &mut Running, clients: &Sessions) {
        match self.forget(pid) {
            Some(Lost::Guard) => {
                if let Err(error) = self.start_guard(claim, record) {
                    // The record and the next command of sbx still stand for it.
                    ::log::debug!("{error}");
                }
            }
            Some(Lost::RootServer) => self.end_rootless(code),
            Some(Lost::Emulator) => self.end_unanswered(code),
            Some(Lost::Other(notice)) => clients.notify(&ToClient::Notice(notice)),
            None => {}
        }
    }

    /// Without its root no program can go on. Where the server just followed the container this changes
    /// nothing.
    fn end_rootless(&mut self, code: i32) {
        if code != 0 {
            self.trouble =
                Some(format!("fuse-overlayfs, which served the root file system, ended with code {code}"));
        }
        let _ = send_signal(self.sandbox.pid, libc::SIGKILL);
    }

    /// Calls that nobody answers fail with ENOSYS, getuid(2) too. Where the server just followed the container
    /// this changes nothing.
    fn end_unanswered(&mut self, code: i32) {
        if code != 0 {
            self.trouble = Some(Emulator::explain(code));
        }
        let _ = send_signal(self.sandbox.pid, libc::SIGKILL);
    }

    /// Asks the container to end, and sees to it that it does in so many seconds.
    pub fn stop(&mut self, signal: i32, timeout: u64) {
        self.thaw();
        if timeout == 0 {
            return self.kill();
        }
        let _ = send_signal(self.sandbox.pid, signal);
        let at = after(timeout);
        self.stop_at = match (self.stop_at, at) {
            (Some(sooner), Some(at)) => Some(sooner.min(at)),
            (known, at) => known.or(at),
        };
    }

    /// A signal would wait for that.
    pub fn thaw(&self) {
        if let Some(Err(error)) = self.sandbox.cgroup.as_ref().map(|group| group.freeze(false)) {
            ::log::debug!("cannot let the container go on: {error}");
        }
    }

    fn kill(&mut self) {
        (self.stop_at, self.deadline) = (None, None);
        let _ = send_signal(self.sandbox.pid, libc::SIGKILL);
        if let Some(group) = &self.sandbox.cgroup {
            group.kill();
        }
        if let Some(server) = self.sandbox.root_server {
            // Who waits for an answer of a stopped server cannot be killed.
            let _ = send_signal(server, libc::SIGCONT);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        [self.stop_at, self.deadline, self.rejoin_at].into_iter().flatten().min()
    }

    pub fn keep_deadlines(&mut self) {
        let due = [self.stop_at, self.deadline].into_iter().flatten().min();
        if due.is_some_and(|due| due <= Instant::now()) {
            self.kill();
        }
    }

    /// The first process is gone: everything else of the container goes, and its output is delivered.
    pub fn finish(&mut self, spec: &Spec, record: &Running, log: &mut Option<Log>, owner: Option<u64>) {
        self.thaw();
        // In a PID namespace of others the end of the first process is nobody else's.
        if let Some(group) =
            self.sandbox.cgroup.as_ref().filter(|_| spec.namespaces.pid != Namespace::Private)
        {
            group.kill();
        }
        if record.userns != 0 {
            // The server writes back what is dirty once the last mount is gone.
            kill_user_namespace(record.userns, &record.servers);
            while let Some((pid, _)) = reap_any() {
                self.forget(pid);
            }
        }
        self.leave_networks();
        self.sandbox.end_servers();
        self.sandbox.cgroup = None;
        for stream in &mut self.streams {
            stream.drain(log, owner);
        }
        self.streams.clear();
    }

    /// Once nothing of the container runs.
    fn leave_networks(&mut self) {
        let Some(bridges) = self.bridges.take() else { return };
        if self.network_log.is_none() {
            return;
        }
        match bridges.leave() {
            Ok(lines) => lines.iter().for_each(|line| self.note_traffic(line)),
            Err(error) => ::log::debug!("{error}"),
        }
    }

    pub fn note_traffic(&mut self, line: &str) {
        let written = self.network_log.as_mut().map_or(Ok(()), |log| log.write(line));
        if let Err(error) = written {
            ::log::debug!("cannot write the network log: {error}");
        }
    }

    pub fn end_guard(&mut self) {
        end_guard(&mut self.guard);
    }

    pub fn up(&self) -> Duration {
        self.born.elapsed()
    }
}

pub(super) fn end_guard(guard: &mut Option<i32>) {
    if let Some(guard) = guard.take() {
        let _ = send_signal(guard, libc::SIGKILL);
        let _ = wait_for(guard);
    }
}

/// Whether processes of the container can outlive its first one.
pub(super) fn shares_pids(spec: &Spec) -> bool {
    spec.namespaces.pid != Namespace::Private && spec.identity.join.is_none()
}

/// The inode of the namespace that the container's processes are in; with a nested map it is not the
/// canonical one.
pub(super) fn user_namespace(pid: i32) -> Result<(File, u64)> {
    let path = format!("/proc/{pid}/ns/user");
    let failed = || format!("cannot look at `{path}`");
    let namespace = File::open(&path).step(failed)?;
    let number = namespace.metadata().step(failed)?.ino();
    Ok((namespace, number))
}

/// None where the clock never gets so far.
pub(super) fn after(seconds: u64) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(seconds))
}
