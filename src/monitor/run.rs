//! The monitor's life, from the first process to the last record.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::container::process::{ProcessRef, boot_id, kill_user_namespace};
use crate::container::spec::{LogDriver, Namespace, Spec};
use crate::container::state::State;
use crate::container::store::{Claim, Running, Store};
use crate::container::sweep;
use crate::emulation::Emulator;
use crate::error::{Error, Result, Step};
use crate::monitor::message::{ToClient, ToMonitor};
use crate::monitor::{Job, files, guard, log, output};
use crate::network::Helper;
use crate::sandbox::launch::{self, Born, Meanwhile, Sandbox};
use crate::sys::process::{reap_any, send_signal, wait_for};
use crate::sys::terminal::{next_signal, signal_descriptor};
use crate::sys::time::Utc;

/// Runs the container to its end, and tells the client.
pub(super) fn run(job: Job<'_>) {
    let Job { store, runtime, spec, owners, directory, claim, control, stdio, streams, terminal_client } =
        job;
    let init_of = |id: &str| {
        let record = store.running_record(id)?;
        record.init.map(|init| init.pid).ok_or_else(|| Error::new("the container has no process"))
    };
    let own_runtime = runtime.join(&spec.id);
    let mut record = Running {
        boot_id: boot_id(),
        monitor: ProcessRef::of(std::process::id().cast_signed()),
        runtime: Some(own_runtime.clone()),
        ..Running::default()
    };
    let ready = leave_the_callers_world().and_then(|()| claim.record(&record));
    let mut guard = None;
    let mut namespace = None;
    let mapping = || files::write(store, spec, directory, runtime);
    let mut mounting = |born: &Born<'_>| {
        record.init = ProcessRef::of(born.pid);
        if shares_pids(spec) {
            let (opened, number) = user_namespace(born.pid)?;
            record.userns = number;
            namespace = Some(opened);
            // Orphans of the container come to the monitor, which is there to end them.
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        }
        guard = Some(guard::start(born.pidfd, claim.descriptor(), namespace.as_ref())?);
        record.guard = guard.and_then(ProcessRef::of);
        Ok(())
    };
    let meanwhile = Meanwhile { mapping: &mapping, mounting: &mut mounting };
    let request = launch::Request { spec, directory, runtime, stdio, owners, init_of: &init_of, meanwhile };
    let prepared = ready.and_then(|()| launch::prepare(request));
    let started = prepared.and_then(|sandbox| {
        let mut watch = Watch {
            spec,
            sandbox,
            claim: &claim,
            record,
            trouble: None,
            guard: guard.take(),
            namespace: namespace.take(),
            control: Some(&control),
            streams,
            log: None,
            stop_at: None,
            deadline: None,
        };
        match watch.release(store, directory, terminal_client) {
            Ok(()) => Ok(watch),
            Err(error) => {
                watch.sandbox.end();
                end_guard(&mut watch.guard);
                Err(error)
            }
        }
    });
    let mut watch = match started {
        Ok(watch) => watch,
        Err(error) => {
            end_guard(&mut guard);
            sweep::remove_runtime(&own_runtime);
            match sweep::erase(store, spec, None) {
                Ok(()) => claim.release(),
                // The next command tries again: the lock is free when this process ends.
                Err(left) => ::log::debug!("{left}"),
            }
            let _ = control.send(&ToClient::Failed(error));
            return;
        }
    };
    let code = watch.until_the_end();
    watch.finish();
    sweep::remove_runtime(&own_runtime);
    let ended = |error| {
        let _ = control.send(&ToClient::Exited { code, error });
    };
    if spec.remove_on_exit && sweep::is_husk(spec, directory) && store.retire(&spec.id).is_ok() {
        // Nobody finds the container any more: what is left of it is nothing to wait for. The caller may unmount
        // the file system that it was called in.
        let _ = rustix::process::chdir("/");
        ended(watch.trouble.take());
        end_guard(&mut watch.guard);
        match sweep::erase_retired(store, spec, Some(&watch.sandbox.userns)) {
            Ok(()) => claim.release(),
            Err(left) => ::log::debug!("{left}"),
        }
        return;
    }
    end_guard(&mut watch.guard);
    let recorded = if spec.remove_on_exit {
        sweep::erase(store, spec, Some(&watch.sandbox.userns))
    } else {
        let finished_at = Some(Utc::now().seconds());
        let (started_at, error) = (watch.record.started_at, watch.trouble.clone());
        store.write_state(&spec.id, &State { started_at, finished_at, exit_code: code, error })
    };
    if recorded.is_ok() || !spec.remove_on_exit {
        claim.release();
    }
    ended(watch.trouble.take().or_else(|| recorded.err().map(|error| error.to_string())));
}

/// The client may end, close its streams or lose its terminal without any of that touching the container.
fn leave_the_callers_world() -> Result<()> {
    rustix::process::setsid().step(|| "cannot make a session for the monitor")?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null =
        rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).step(|| "cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).step(|| "cannot let go of standard input")?;
    rustix::stdio::dup2_stdout(&null).step(|| "cannot let go of standard output")?;
    rustix::stdio::dup2_stderr(&null).step(|| "cannot let go of standard error")
}

/// A child of the monitor that ended before the container did.
enum Lost {
    Guard,
    RootServer,
    Emulator,
    /// What it can do without, and what the caller should know of that.
    Other(String),
}

struct Watch<'a> {
    spec: &'a crate::container::spec::Spec,
    sandbox: Sandbox,
    claim: &'a Claim,
    /// As it stands in the lock file.
    record: Running,
    /// What happened to the container that its command did not do.
    trouble: Option<String>,
    guard: Option<i32>,
    /// The user namespace whose processes have to end one by one, where the PID namespace is shared. Held to the
    /// end, so that the kernel gives its number to no other.
    namespace: Option<File>,
    /// None once the client is gone.
    control: Option<&'a crate::sys::channel::Channel>,
    streams: Vec<output::Stream>,
    log: Option<log::Log>,
    /// When a container that was asked to stop is killed.
    stop_at: Option<Instant>,
    /// `--timeout`.
    deadline: Option<Instant>,
}

impl Watch<'_> {
    /// Guards, records and releases the prepared container: from here on it runs.
    fn release(
        &mut self,
        store: &Store,
        directory: &crate::container::directory::ContainerDirectory,
        terminal_client: Option<std::os::fd::OwnedFd>,
    ) -> Result<()> {
        if self.spec.log_driver == LogDriver::K8sFile {
            let path = directory.log();
            self.log =
                Some(log::Log::open(&path).step(|| format!("cannot write the log `{}`", path.display()))?);
        }
        let control = self.control.ok_or_else(|| Error::new("the client is gone"))?;
        if let Some(master) = self.sandbox.terminal.take() {
            let _ = control.send_with(&ToClient::Terminal, master.as_fd());
            self.streams.push(output::Stream::new(log::Name::Stdout, master, terminal_client)?);
        }
        let network = self.sandbox.network.as_ref();
        let servers = [
            self.sandbox.root_server,
            network.map(Helper::pid),
            network.and_then(Helper::relay_pid),
            self.sandbox.emulator.as_ref().map(Emulator::pid),
        ];
        self.record.servers = servers.into_iter().flatten().filter_map(ProcessRef::of).collect();
        self.record.started_at = Some(Utc::now().seconds());
        if !self.spec.remove_on_exit {
            store.write_state(&self.spec.id, &State::lost(self.record.started_at))?;
        }
        self.claim.record(&self.record)?;
        self.sandbox.go()?;
        for notice in self.sandbox.notices.drain(..) {
            let _ = control.send(&ToClient::Notice(notice));
        }
        self.deadline = self.spec.timeout.and_then(after);
        let _ = control.send(&ToClient::Started { pid: self.sandbox.pid });
        Ok(())
    }

    /// Starts another guard in the place of one that was killed.
    fn start_guard(&mut self) -> Result<()> {
        let (init, lock) = (self.sandbox.pidfd.as_fd(), self.claim.descriptor());
        self.guard = Some(guard::start(init, lock, self.namespace.as_ref())?);
        self.record.guard = self.guard.and_then(ProcessRef::of);
        self.claim.record(&self.record)
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
    fn replace(&mut self, pid: i32, code: i32) {
        match self.forget(pid) {
            Some(Lost::Guard) => {
                if let Err(error) = self.start_guard() {
                    // The record and the next command of sbx still stand for it.
                    ::log::debug!("{error}");
                }
            }
            Some(Lost::RootServer) => self.end_rootless(code),
            Some(Lost::Emulator) => self.end_unanswered(code),
            Some(Lost::Other(notice)) => {
                let _ = self.control.map(|control| control.send(&ToClient::Notice(notice)));
            }
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

    /// Serves streams, signals and requests until the first process has ended; its exit code.
    fn until_the_end(&mut self) -> i32 {
        let signals =
            [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE, libc::SIGXFSZ];
        let Ok(signals) = signal_descriptor(&signals) else {
            return wait_for(self.sandbox.pid).unwrap_or(125);
        };
        loop {
            while let Some((pid, code)) = reap_any() {
                if pid == self.sandbox.pid {
                    return code;
                }
                self.replace(pid, code);
            }
            let mut polled = vec![PollFd::new(&signals, PollFlags::IN)];
            if let Some(control) = self.control {
                polled.push(PollFd::new(control, PollFlags::IN));
            }
            let first_stream = polled.len();
            for stream in &self.streams {
                if let Some((fd, flags)) = stream.waits_for() {
                    polled.push(PollFd::from_borrowed_fd(fd, flags));
                }
            }
            let wait = self.next_deadline().map(until);
            let _ = crate::sys::memory::poll_idly(&mut polled, wait.as_ref());
            let asked = self.control.is_some() && !polled[1].revents().is_empty();
            let signalled = !polled[0].revents().is_empty();
            let moved = polled[first_stream..].iter().any(|fd| !fd.revents().is_empty());
            drop(polled);
            if moved {
                for stream in &mut self.streams {
                    stream.advance(&mut self.log);
                }
                self.notice_deaf_client();
            }
            if signalled {
                while let Some(signal) = next_signal(signals.as_fd()) {
                    if signal == libc::SIGTERM {
                        self.stop();
                    }
                }
            }
            if asked {
                self.serve_client();
            }
            self.keep_deadlines();
        }
    }

    /// A client whose own output was closed (`| head -1`) passes that on. One that was killed does not: what
    /// the container says while it is asked to stop belongs in the log.
    fn notice_deaf_client(&mut self) {
        let connected = self.control.is_some_and(|control| !has_hung_up(control));
        let mut terminal_lost = false;
        for stream in &mut self.streams {
            if stream.client_went_deaf() && connected {
                if self.spec.process.terminal {
                    terminal_lost = true;
                } else {
                    stream.close();
                }
            }
        }
        if terminal_lost {
            // The client holds the terminal open for keys, so that closing it here would tell nobody.
            self.stop();
        }
    }

    fn serve_client(&mut self) {
        match self.control.map(crate::sys::channel::Channel::receive) {
            Some(Ok(Some((ToMonitor::Signal(signal), _)))) => {
                let _ = send_signal(self.sandbox.pid, signal);
            }
            // A client that goes without a word was killed, and a foreground container goes with it.
            _ => {
                self.control = None;
                self.stop();
            }
        }
    }

    fn stop(&mut self) {
        let _ = send_signal(self.sandbox.pid, self.spec.stop_signal);
        self.stop_at = self.stop_at.or_else(|| after(self.spec.stop_timeout));
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.stop_at, self.deadline].into_iter().flatten().min()
    }

    fn keep_deadlines(&mut self) {
        if self.next_deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            (self.stop_at, self.deadline) = (None, None);
            let _ = send_signal(self.sandbox.pid, libc::SIGKILL);
            if let Some(server) = self.sandbox.root_server {
                // Who waits for an answer of a stopped server cannot be killed.
                let _ = send_signal(server, libc::SIGCONT);
            }
        }
    }

    /// The first process is gone: everything else of the container goes, and its output is delivered.
    fn finish(&mut self) {
        if let Some(control) = self.control {
            let _ = control.send(&ToClient::Ended);
        }
        if self.record.userns != 0 {
            // The server writes back what is dirty once the last mount is gone.
            kill_user_namespace(self.record.userns, &self.record.servers);
            while let Some((pid, _)) = reap_any() {
                self.forget(pid);
            }
        }
        self.sandbox.end_servers();
        for stream in &mut self.streams {
            stream.drain(&mut self.log);
        }
        self.streams.clear();
        // Network file systems keep a removed file for as long as it is open, and its directory with it.
        self.log = None;
    }
}

fn end_guard(guard: &mut Option<i32>) {
    if let Some(guard) = guard.take() {
        let _ = send_signal(guard, libc::SIGKILL);
        let _ = wait_for(guard);
    }
}

/// Whether processes of the container can outlive its first one.
fn shares_pids(spec: &Spec) -> bool {
    spec.namespaces.pid != Namespace::Private && spec.identity.join.is_none()
}

/// The inode of the namespace that the container's processes are in; with a nested map it is not the
/// canonical one.
fn user_namespace(pid: i32) -> Result<(File, u64)> {
    let path = format!("/proc/{pid}/ns/user");
    let failed = || format!("cannot look at `{path}`");
    let namespace = File::open(&path).step(failed)?;
    let number = namespace.metadata().step(failed)?.ino();
    Ok((namespace, number))
}

fn has_hung_up(channel: &crate::sys::channel::Channel) -> bool {
    let mut polled = [PollFd::new(channel, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// None where the clock never gets so far.
fn after(seconds: u64) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(seconds))
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) }
}
