//! The monitor's life, from the first process to the last record.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::container::process::{ProcessRef, boot_id, kill_user_namespace};
use crate::container::spec::{LogDriver, Namespace};
use crate::container::state::State;
use crate::container::store::Running;
use crate::container::sweep;
use crate::error::{Error, Result, Step};
use crate::monitor::message::{ToClient, ToMonitor};
use crate::monitor::{Job, files, guard, log, output};
use crate::network;
use crate::sandbox::launch::{self, Sandbox};
use crate::sys::process::{reap_any, send_signal, wait_for};
use crate::sys::terminal::{next_signal, signal_descriptor};
use crate::sys::time::Utc;

/// Runs the container to its end, and tells the client.
pub(super) fn run(job: Job<'_>) {
    let Job { store, runtime, spec, directory, claim, control, stdio, streams, terminal_client } = job;
    let init_of = |id: &str| {
        let record = store.running_record(id)?;
        record.init.map(|init| init.pid).ok_or_else(|| Error::new("the container has no process"))
    };
    let meanwhile = || files::write(store, spec, directory, runtime);
    let request =
        launch::Request { spec, directory, runtime, stdio, init_of: &init_of, meanwhile: &meanwhile };
    let started = leave_the_callers_world().and_then(|()| launch::prepare(request)).and_then(|sandbox| {
        let mut watch = Watch {
            spec,
            sandbox,
            guard: None,
            control: Some(&control),
            streams,
            log: None,
            stop_at: None,
            deadline: None,
        };
        match watch.release(directory, &claim, terminal_client) {
            Ok(()) => Ok(watch),
            Err(error) => {
                watch.sandbox.end();
                watch.end_guard();
                Err(error)
            }
        }
    });
    let mut watch = match started {
        Ok(watch) => watch,
        Err(error) => {
            let _ = std::fs::remove_dir_all(runtime.join(&spec.id));
            let _ = sweep::erase(store, spec, None);
            claim.release();
            let _ = control.send(&ToClient::Failed(error));
            return;
        }
    };
    let started_at = Utc::now().seconds();
    let code = watch.until_the_end();
    watch.finish();
    let _ = std::fs::remove_dir_all(runtime.join(&spec.id));
    let recorded = if spec.remove_on_exit {
        sweep::erase(store, spec, Some(&watch.sandbox.userns))
    } else {
        let finished_at = Some(Utc::now().seconds());
        let state = State { started_at: Some(started_at), finished_at, exit_code: code, error: None };
        store.write_state(&spec.id, &state)
    };
    claim.release();
    let error = recorded.err().map(|error| error.to_string());
    let _ = control.send(&ToClient::Exited { code, error });
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

struct Watch<'a> {
    spec: &'a crate::container::spec::Spec,
    sandbox: Sandbox,
    guard: Option<i32>,
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
        directory: &crate::container::directory::ContainerDirectory,
        claim: &crate::container::store::Claim,
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
        let own_userns = self.spec.identity.join.is_none();
        let userns = self.sandbox.userns.metadata().map_or(0, |metadata| metadata.ino());
        let shared_pids = self.spec.namespaces.pid != Namespace::Private && own_userns;
        let also = shared_pids.then(|| self.member_namespace().unwrap_or(userns));
        if shared_pids {
            // Orphans of the container come to the monitor, which is there to end them.
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        }
        self.guard = Some(guard::start(self.sandbox.pidfd.as_fd(), claim.descriptor(), also)?);
        let network = self.sandbox.network.as_ref();
        let servers = [
            self.sandbox.root_server,
            network.map(network::Helper::pid),
            network.and_then(network::Helper::relay_pid),
        ];
        claim.record(&Running {
            boot_id: boot_id(),
            monitor: ProcessRef::of(std::process::id().cast_signed()),
            guard: self.guard.and_then(ProcessRef::of),
            init: ProcessRef::of(self.sandbox.pid),
            servers: servers.into_iter().flatten().filter_map(ProcessRef::of).collect(),
            userns: also.unwrap_or(0),
            started_at: Some(Utc::now().seconds()),
        })?;
        for notice in self.sandbox.notices.drain(..) {
            let _ = control.send(&ToClient::Notice(notice));
        }
        self.sandbox.go()?;
        self.deadline = self.spec.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let _ = control.send(&ToClient::Started { pid: self.sandbox.pid });
        Ok(())
    }

    /// The inode of the namespace that the container's processes are in; with a nested map it is not the
    /// canonical one.
    fn member_namespace(&self) -> Option<u64> {
        std::fs::metadata(format!("/proc/{}/ns/user", self.sandbox.pid)).ok().map(|metadata| metadata.ino())
    }

    /// Serves streams, signals and requests until the first process has ended; its exit code.
    fn until_the_end(&mut self) -> i32 {
        let signals =
            [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE, libc::SIGXFSZ];
        let Ok(signals) = signal_descriptor(&signals) else {
            return wait_for(self.sandbox.pid).unwrap_or(125);
        };
        loop {
            let mut lost = Vec::new();
            while let Some((pid, code)) = reap_any() {
                if pid == self.sandbox.pid {
                    return code;
                }
                lost.extend(self.sandbox.reaped(pid));
            }
            for notice in lost {
                let _ = self.control.map(|control| control.send(&ToClient::Notice(notice)));
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
        let grace = Duration::from_secs(self.spec.stop_timeout);
        self.stop_at.get_or_insert_with(|| Instant::now() + grace);
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.stop_at, self.deadline].into_iter().flatten().min()
    }

    fn keep_deadlines(&mut self) {
        if self.next_deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            (self.stop_at, self.deadline) = (None, None);
            let _ = send_signal(self.sandbox.pid, libc::SIGKILL);
        }
    }

    /// The first process is gone: everything else of the container goes, and its output is delivered.
    fn finish(&mut self) {
        if let Some(control) = self.control {
            let _ = control.send(&ToClient::Ended);
        }
        if self.spec.namespaces.pid != Namespace::Private && self.spec.identity.join.is_none() {
            while let Some((pid, _)) = reap_any() {
                self.sandbox.reaped(pid);
            }
            if let Ok(metadata) = self.sandbox.userns.metadata() {
                kill_user_namespace(metadata.ino());
            }
        }
        self.sandbox.end_servers();
        for stream in &mut self.streams {
            stream.drain(&mut self.log);
        }
        self.streams.clear();
        self.end_guard();
    }

    fn end_guard(&mut self) {
        if let Some(guard) = self.guard.take() {
            let _ = send_signal(guard, libc::SIGKILL);
            let _ = wait_for(guard);
        }
    }
}

fn has_hung_up(channel: &crate::sys::channel::Channel) -> bool {
    let mut polled = [PollFd::new(channel, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) }
}
