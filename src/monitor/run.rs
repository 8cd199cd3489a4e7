//! The monitor's work, from the first process of a container to its last record.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::container::control_group::ControlGroup;
use crate::container::directory::ContainerDirectory;
use crate::container::process::{ProcessRef, boot_id};
use crate::container::restart::BackOff;
use crate::container::spec::Spec;
use crate::container::state::State;
use crate::container::store::{Claim, Restarting, Running, Store};
use crate::delegation::Delegated;
use crate::emulation::Places;
use crate::error::{Error, Result, Step};
use crate::events::{self, Action, Event};
use crate::logs::{Log, Name};
use crate::monitor::exec::{Execs, Wake};
use crate::monitor::health::Health;
use crate::monitor::life::{self, Life};
use crate::monitor::message::ToClient;
use crate::monitor::sessions::{Role, Sessions};
use crate::monitor::wires::Wires;
use crate::monitor::{Caller, Job, control, files, guard, output};
use crate::network::bridge::allow::log::NetworkLog;
use crate::network::bridge::publish::Published;
use crate::sandbox::launch::{self, Born, Meanwhile};
use crate::sys::channel::Channel;
use crate::sys::process::{close_all_but, reap_any};
use crate::sys::terminal::{next_signal, signal_descriptor, unblock_signals};
use crate::sys::time::Utc;

/// What the monitor takes by descriptor while the container runs.
const SIGNALS: [i32; 6] =
    [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE, libc::SIGXFSZ];

/// What a command wants to become of a container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Stop,
    /// By a service manager, or since the machine goes down.
    ShutDown,
    /// By a signal that ends it.
    Kill,
    Restart,
}

impl Asked {
    /// Its restart policy has nothing to say.
    fn for_good(self) -> bool {
        self == Self::ShutDown || self.by_user()
    }

    /// A command wants it to stay down, after a boot, too.
    pub(super) fn by_user(self) -> bool {
        matches!(self, Self::Stop | Self::Kill)
    }
}

pub(super) struct Monitor<'a> {
    pub(super) store: &'a Store,
    pub(super) runtime: &'a Path,
    pub(super) spec: &'a Spec,
    owners: Places,
    pub(super) directory: &'a ContainerDirectory,
    pub(super) claim: Claim,
    pub(super) own_runtime: PathBuf,
    /// As it stands in the lock file.
    pub(super) record: Running,
    pub(super) sessions: Sessions,
    /// The session of the one who started the monitor.
    caller: u64,
    /// The control socket.
    pub(super) listener: Option<OwnedFd>,
    pub(super) log: Option<Log>,
    /// What became of the container before this monitor started it.
    pub(super) before: Option<State>,
    pub(super) asked: Asked,
    back_off: BackOff,
    pub(super) life: Option<Life>,
    pub(super) execs: Execs,
    pub(super) health: Option<Health>,
    /// The host's ports that lead into bridge networks.
    pub(super) published: Option<Published>,
    /// Where its cgroups are made, once there was a reason to look for a place.
    pub(super) delegated: Option<Delegated>,
    /// In this life.
    pub(super) oom_killed: bool,
}

/// Runs the container to its end, and tells those who are connected.
pub(super) fn run(job: Job<'_>) {
    let Job { store, runtime, spec, owners, directory, claim, control, caller, wires } = job;
    let ready = leave_the_callers_world(&control, &claim, &wires, caller);
    let mut sessions = Sessions::default();
    let role = match caller {
        Caller::Owner => Role::Client { owner: true },
        Caller::Guest { .. } => Role::Client { owner: false },
        Caller::Starter => Role::Starter,
    };
    let caller = sessions.add(control, role);
    let own_runtime = runtime.join(&spec.id);
    let record = Running {
        boot_id: boot_id(),
        monitor: ProcessRef::of(std::process::id().cast_signed()),
        runtime: Some(own_runtime.clone()),
        ..Running::default()
    };
    let mut monitor = Monitor {
        store,
        runtime,
        spec,
        owners,
        directory,
        claim,
        own_runtime,
        record,
        sessions,
        caller,
        listener: None,
        log: None,
        before: None,
        asked: Asked::Nothing,
        back_off: BackOff::default(),
        life: None,
        execs: Execs::default(),
        health: None,
        published: None,
        delegated: None,
        oom_killed: false,
    };
    if let Err(error) = ready.and_then(|()| monitor.begin(wires)) {
        return monitor.never_started(&error);
    }
    let mut code = monitor.live();
    while let Some(wait) = monitor.waits_for_another_life(code) {
        if !monitor.rest(code, wait) {
            return monitor.down_after_rest(code);
        }
        let asked = std::mem::replace(&mut monitor.asked, Asked::Nothing);
        code = match Wires::lay(spec, None).and_then(|wires| monitor.begin(wires)) {
            Ok(()) => {
                if asked == Asked::Restart {
                    monitor.tell(Event::container(Action::Restart, spec));
                }
                monitor.live()
            }
            Err(error) => monitor.failed_again(&error),
        };
    }
    monitor.down(code);
}

/// The client may end, close its streams or lose its terminal without any of that touching the container, and the
/// container holds nothing of it.
fn leave_the_callers_world(control: &Channel, claim: &Claim, wires: &Wires, caller: Caller) -> Result<()> {
    rustix::process::setsid().step(|| "cannot make a session for the monitor")?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null =
        rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).step(|| "cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).step(|| "cannot let go of standard input")?;
    rustix::stdio::dup2_stdout(&null).step(|| "cannot let go of standard output")?;
    rustix::stdio::dup2_stderr(&null).step(|| "cannot let go of standard error")?;
    drop(null);
    if caller == Caller::Starter {
        // What the caller inherited from others would stay open for as long as the container runs.
        let mut kept = wires.descriptors();
        kept.extend([0, 1, 2, control.as_fd().as_raw_fd(), claim.descriptor().as_raw_fd()]);
        close_all_but(&mut kept);
        rustix::process::chdir("/").step(|| "cannot leave the working directory")?;
    }
    Ok(())
}

impl Monitor<'_> {
    /// Starts a life: when this returns, the command runs.
    fn begin(&mut self, wires: Wires) -> Result<()> {
        let Wires { stdio, outputs, terminal_client, stdin } = wires;
        let (store, spec, directory, runtime) = (self.store, self.spec, self.directory, self.runtime);
        let mut bridges = self.join_networks()?;
        let planned = self.plan_group()?;
        self.oom_killed = false;
        let claim = &self.claim;
        let mut record = Running {
            boot_id: self.record.boot_id.clone(),
            monitor: self.record.monitor,
            runtime: self.record.runtime.clone(),
            restarts: self.record.restarts,
            // Until its command runs again.
            restarting: self.record.restarting,
            ..Running::default()
        };
        record.endpoints = bridges.as_ref().map_or_else(Vec::new, |bridges| bridges.endpoints.clone());
        record.bridged = bridges.is_some();
        planned.record(&mut record);
        claim.record(&record)?;
        let cgroup = planned.make()?;
        let init_of = |id: &str| {
            let record = store.running_record(id)?;
            record.init.map(|init| init.pid).ok_or_else(|| Error::new("the container has no process"))
        };
        let (mut guard, mut namespace) = (None, None);
        let (mut streams, log, caller) = (Vec::new(), &mut self.log, self.caller);
        let mut outputs = outputs.into_iter();
        let listener = std::cell::RefCell::new(self.listener.take());
        let endpoints = record.endpoints.clone();
        let furnishing = || {
            let mut listener = listener.borrow_mut();
            if listener.is_none() {
                *listener = Some(control::listen(runtime, &spec.id)?);
            }
            files::write(store, spec, directory, runtime, &endpoints)
        };
        let mut mounting = |born: &Born<'_>| {
            record.init = ProcessRef::of(born.pid);
            if life::shares_pids(spec) {
                let (opened, number) = life::user_namespace(born.pid)?;
                record.userns = number;
                namespace = Some(opened);
                // Orphans of the container come to the monitor, which is there to end them.
                let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
            }
            guard = Some(guard::start(born.pidfd, claim.descriptor(), namespace.as_ref())?);
            record.guard = guard.and_then(ProcessRef::of);
            match log {
                Some(log) => log.end_lines(),
                None => *log = Log::open(spec, directory)?,
            }
            for wire in outputs.by_ref() {
                let mut stream = output::Stream::new(wire.name, wire.source)?;
                if let Some(client) = wire.client {
                    stream.connect(caller, client)?;
                }
                streams.push(stream);
            }
            Ok(())
        };
        let meanwhile = Meanwhile {
            furnishing: &furnishing,
            mounting: &mut mounting,
            mounted: &mut Meanwhile::nothing,
            attaching: &mut Meanwhile::no_mounts,
            calls: &mut Meanwhile::no_calls,
        };
        let owners = self.owners.clone();
        let request = launch::Request {
            spec,
            directory,
            runtime,
            stdio,
            owners,
            cgroup,
            bridges: bridges.as_mut(),
            init_of: &init_of,
            gate: None,
            lock: None,
            meanwhile,
        };
        let prepared = launch::prepare(request);
        self.listener = listener.take();
        let sandbox = match prepared {
            Ok(sandbox) => sandbox,
            Err(error) => {
                life::end_guard(&mut guard);
                return Err(error);
            }
        };
        self.record = record;
        if sandbox.cgroup.is_none() {
            self.record.cgroup = None;
        }
        let network_log = spec.network.allowed.as_ref().and_then(|_| {
            let path = directory.network_log();
            NetworkLog::open(&path)
                .inspect_err(|error| ::log::warn!("cannot write `{}`: {error}", path.display()))
                .ok()
        });
        let memory_events = sandbox.cgroup.as_ref().and_then(ControlGroup::memory_events);
        let mut life = Life {
            sandbox,
            trouble: None,
            guard,
            namespace,
            streams,
            terminal: None,
            stdin,
            stop_at: None,
            deadline: None,
            bridges,
            network_log,
            rejoin_at: None,
            born: Instant::now(),
            memory_events,
            oom_kills: 0,
        };
        let released =
            self.connect_terminal(&mut life, terminal_client).and_then(|()| self.release(&mut life));
        match released {
            Ok(()) => {
                self.life = Some(life);
                self.look_for_oom();
                self.begin_health();
                Ok(())
            }
            Err(error) => {
                life.sandbox.end();
                life.end_guard();
                Err(error)
            }
        }
    }

    /// Connects the container's terminal to the one who started it.
    fn connect_terminal(&mut self, life: &mut Life, terminal_client: Option<OwnedFd>) -> Result<()> {
        if let Some(master) = life.sandbox.terminal.take() {
            life.terminal = Some(master.try_clone().step(|| "cannot copy a descriptor")?);
            let mut stream = output::Stream::new(Name::Stdout, master)?;
            if let Some(client) = terminal_client {
                stream.connect(self.caller, client)?;
                if let (Some(session), Some(master)) = (self.sessions.get(self.caller), &life.terminal) {
                    session.tell_with(&ToClient::Terminal, master.as_fd());
                }
            }
            life.streams.push(stream);
        }
        Ok(())
    }

    /// Records and releases the prepared container: from here on it runs.
    fn release(&mut self, life: &mut Life) -> Result<()> {
        self.record.servers = life.servers();
        (self.record.started_at, self.record.restarting) = (Some(Utc::now()), None);
        if !self.spec.remove_on_exit {
            if self.record.restarts == 0 {
                self.before = Some(self.store.read_state(&self.spec.id).unwrap_or_default());
            }
            let state = State::lost(self.record.started_at, self.record.restarts);
            self.store.write_state(&self.spec.id, &state)?;
        }
        self.claim.record(&self.record)?;
        life.sandbox.go()?;
        for notice in life.sandbox.notices.drain(..) {
            self.sessions.notify(&ToClient::Notice(notice));
        }
        life.deadline = self.spec.timeout.and_then(life::after);
        self.sessions.started(life.sandbox.pid);
        self.tell(Event::container(Action::Start, self.spec));
        Ok(())
    }

    /// Serves streams, signals and requests until the first process has ended, and what is left of the container
    /// with it; its exit code.
    fn live(&mut self) -> i32 {
        let code = match signal_descriptor(&SIGNALS) {
            Ok(signals) => self.until_the_end(&signals),
            Err(_) => self
                .life
                .as_ref()
                .map_or(125, |life| crate::sys::process::wait_for(life.sandbox.pid).unwrap_or(125)),
        };
        self.explain_oom(code);
        let owner = self.sessions.owner().map(|session| session.id);
        self.execs.end_all(&mut self.sessions);
        self.end_health();
        self.sessions.notify(&ToClient::Ended);
        if matches!(self.asked, Asked::Stop | Asked::ShutDown) {
            self.tell(Event::container(Action::Stop, self.spec));
        }
        self.tell(Event::container(Action::Died, self.spec).with("exitCode", code));
        if let Some(life) = &mut self.life {
            life.finish(self.spec, &self.record, &mut self.log, owner);
        }
        code
    }

    fn until_the_end(&mut self, signals: &OwnedFd) -> i32 {
        loop {
            while let Some((pid, code)) = reap_any() {
                let Some(life) = &mut self.life else { continue };
                if pid == life.sandbox.pid {
                    return code;
                }
                if self.execs.reaped(pid, code, &mut self.sessions) {
                    if code == 128 + libc::SIGKILL {
                        // The kernel holds back what follows another event closely.
                        self.look_for_oom();
                    }
                    continue;
                }
                life.replace(pid, code, &self.claim, &mut self.record, &self.sessions);
            }
            self.keep_health();
            self.keep_networks();
            let deadline = self.life.as_ref().and_then(Life::next_deadline);
            self.turn(signals, [deadline, self.next_health()].into_iter().flatten().min());
            if let Some(life) = &mut self.life {
                life.keep_deadlines();
            }
        }
    }

    /// Waits until something happens, or the deadline comes, and serves it.
    fn turn(&mut self, signals: &OwnedFd, deadline: Option<Instant>) {
        let mut polled = vec![PollFd::new(signals, PollFlags::IN)];
        polled.extend(self.listener.as_ref().map(|listener| PollFd::new(listener, PollFlags::IN)));
        let first_session = polled.len();
        let ids: Vec<u64> = self
            .sessions
            .descriptors()
            .map(|(id, end)| {
                polled.push(PollFd::from_borrowed_fd(end, PollFlags::IN));
                id
            })
            .collect();
        let first_wake = polled.len();
        let wakes: Vec<Wake> = self
            .execs
            .descriptors()
            .map(|(wake, end)| {
                polled.push(PollFd::from_borrowed_fd(end, PollFlags::IN));
                wake
            })
            .collect();
        let first_bridge = polled.len();
        polled.extend(
            self.life
                .iter()
                .filter_map(|life| life.bridges.as_ref())
                .map(|session| PollFd::new(session, PollFlags::IN)),
        );
        let first_memory = polled.len();
        let memory = self.life.as_ref().and_then(|life| life.memory_events.as_ref());
        polled.extend(memory.map(|events| PollFd::new(events, PollFlags::PRI)));
        let first_stream = polled.len();
        for stream in self.life.iter().flat_map(|life| &life.streams) {
            polled.extend(stream.waits_for().map(|(end, flags)| PollFd::from_borrowed_fd(end, flags)));
        }
        let wait = deadline.map(until);
        let _ = crate::sys::memory::poll_idly(&mut polled, wait.as_ref());
        let happened: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(polled);
        if happened[first_stream..].contains(&true) {
            self.copy_output();
        }
        if happened[0] {
            while let Some(signal) = next_signal(signals.as_fd()) {
                match signal {
                    // Of a service manager, or a machine that goes down: nobody wants it to stay down.
                    libc::SIGTERM => {
                        self.asked = Asked::ShutDown;
                        self.end_life(None, None);
                    }
                    libc::SIGINT => self.stop(None, None),
                    _ => {}
                }
            }
        }
        // Before the clients: one that was killed when its command ran already leaves it.
        for (wake, _) in
            wakes.into_iter().zip(&happened[first_wake..first_bridge]).filter(|(_, happened)| **happened)
        {
            self.wake(wake);
        }
        for (id, _) in ids.into_iter().zip(&happened[first_session..]).filter(|(_, happened)| **happened) {
            self.serve(id);
        }
        if happened[first_bridge..first_memory].contains(&true) {
            self.serve_networks();
        }
        if happened[first_memory..first_stream].contains(&true) {
            self.look_for_oom();
        }
        if first_session == 2 && happened[1] {
            self.take_connections();
        }
    }

    fn copy_output(&mut self) {
        let Some(life) = &mut self.life else { return };
        let mut deaf = Vec::new();
        for (number, stream) in life.streams.iter_mut().enumerate() {
            stream.advance(&mut self.log);
            deaf.extend(stream.went_deaf().into_iter().map(|session| (number, session)));
        }
        for (stream, session) in deaf {
            self.went_deaf(stream, session);
        }
    }

    /// The one who started the container and whose own output was closed (`| head -1`) passes that on. One that was
    /// killed does not: what the container says while it is asked to stop belongs in the log. A guest who does not
    /// listen any more is let go, and the container goes on.
    fn went_deaf(&mut self, stream: usize, session: u64) {
        let role = self.sessions.get(session).map(|session| session.role);
        if role == Some(Role::Client { owner: false }) {
            let name = self.life.as_ref().and_then(|life| life.streams.get(stream)).map(output::Stream::name);
            if name == Some(Name::Stdout) {
                self.let_go_with(session, &ToClient::Done);
            }
            return;
        }
        let owner = self.sessions.owner().filter(|owner| owner.id == session);
        if owner.is_none_or(|owner| has_hung_up(&owner.channel)) {
            return;
        }
        if self.spec.process.terminal {
            // The client holds the terminal open for keys, so that closing it here would tell nobody.
            self.stop(None, None);
        } else if let Some(life) = &mut self.life {
            life.streams[stream].close();
        }
    }

    fn take_connections(&mut self) {
        let Some(listener) = &self.listener else { return };
        // One that cannot be taken shows again at the next turn.
        while let Ok(Some(channel)) = Channel::accept(listener.as_fd()) {
            self.sessions.add(channel, Role::New);
        }
    }

    /// Asks the container to end, for good.
    pub(super) fn stop(&mut self, signal: Option<i32>, timeout: Option<u64>) {
        self.asked = Asked::Stop;
        self.end_life(signal, timeout);
    }

    pub(super) fn end_life(&mut self, signal: Option<i32>, timeout: Option<u64>) {
        let (default_signal, default_timeout) = (self.spec.stop_signal, self.spec.stop_timeout);
        self.let_go_on();
        if let Some(life) = &mut self.life {
            life.stop(signal.unwrap_or(default_signal), timeout.unwrap_or(default_timeout));
        }
    }

    /// How long to wait for the next life; none: there is none.
    fn waits_for_another_life(&mut self, code: i32) -> Option<Duration> {
        let up = self.life.as_ref().map_or(Duration::ZERO, Life::up);
        match self.asked {
            Asked::Stop | Asked::ShutDown | Asked::Kill => None,
            Asked::Restart => Some(Duration::ZERO),
            Asked::Nothing => {
                let policy = self.store.settings(&self.spec.id).restart.unwrap_or(self.spec.restart);
                if !policy.applies(code, self.record.restarts) {
                    return None;
                }
                self.record.restarts += 1;
                Some(self.back_off.after(up))
            }
        }
    }

    /// Between two lives; false where a command wants no other.
    fn rest(&mut self, code: i32, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let trouble = self.let_life_go();
        let now = Utc::now();
        self.write_state(code, trouble.clone(), now);
        drop(self.sessions.ended(code, trouble.as_deref(), false));
        self.record.restarting = Some(Restarting { code, since: now });
        (self.record.init, self.record.guard, self.record.userns) = (None, None, 0);
        (self.record.cgroup, self.record.paused) = (None, false);
        self.record.servers.clear();
        if let Err(error) = self.claim.record(&self.record) {
            ::log::debug!("{error}");
        }
        if let Ok(signals) = signal_descriptor(&SIGNALS) {
            while !self.asked.for_good() && Instant::now() < until {
                while reap_any().is_some() {}
                self.turn(&signals, Some(until));
            }
        }
        unblock_signals();
        !self.asked.for_good()
    }

    pub(super) fn tell(&self, event: Event) {
        events::record(self.store.root(), self.runtime, self.named(event));
    }

    /// With the name that the container has now: `sbx rename` may have changed it since the monitor read the spec.
    pub(super) fn named(&self, mut event: Event) -> Event {
        if let Some(name) = self.store.settings(&self.spec.id).name {
            event.name = name;
        }
        event
    }
}

fn has_hung_up(channel: &Channel) -> bool {
    let mut polled = [PollFd::new(channel, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) }
}
