//! Starting, stopping and waiting for a container that has been made: through its monitor where it runs.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::container::connection;
use crate::container::control_group;
use crate::container::process::{ProcessRef, boot_id};
use crate::container::spec::Spec;
use crate::container::store::{Claim, Running, Store, short};
use crate::container::sweep;
use crate::error::{Error, Result, Step};
use crate::identity::{self, Caller as IdentityCaller, Host};
use crate::monitor::control;
use crate::monitor::message::{Request, ToClient};
use crate::monitor::{self, Caller, Connection, Place};
use crate::sys::channel::Channel;

/// How long a container that is killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at what nobody tells of.
const STEP: Duration = Duration::from_millis(2);

/// What became of a request to start.
pub enum Started {
    /// By this call.
    Now(Connection),
    /// It runs already.
    Before,
}

/// Takes the lock of a container that is down and starts it.
///
/// # Errors
/// Its record is damaged, or no process is to be had.
pub fn start(
    store: &Store,
    runtime: &Path,
    id: &str,
    caller: Caller,
    size: Option<(u16, u16)>,
) -> Result<Started> {
    let Some(claim) = claim_down(store, runtime, id)? else { return Ok(Started::Before) };
    let spec = match store.read_spec(id) {
        Ok(spec) => spec,
        Err(error) => {
            claim.release();
            return Err(error);
        }
    };
    let directory = store.directory_of(&spec);
    monitor::start(Place { store, runtime }, &spec, &directory, claim, caller, size).map(Started::Now)
}

/// The lock of a container that nobody looks after; none: somebody does.
fn claim_down(store: &Store, runtime: &Path, id: &str) -> Result<Option<Claim>> {
    let until = Instant::now() + PATIENCE;
    loop {
        // One whose monitor was killed is put in order first.
        sweep::put_in_order_if_abandoned(store, id, runtime);
        if let Some(claim) = store.claim_stopped(id)? {
            // Else its monitor was killed between the two.
            if claim.recorded().monitor.is_none() || Instant::now() > until {
                return Ok(Some(claim));
            }
            drop(claim);
            std::thread::sleep(STEP);
            continue;
        }
        let record = store.record_of(id).unwrap_or_default();
        // Its lock is held without a monitor for moments only: by a command that makes or removes it, or works in its
        // files. One whose first process has ended is down in a moment, or starts again.
        let looked_after = record.monitor.is_some() && !record.visit;
        if looked_after && !record.is_ending() || Instant::now() > until {
            return Ok(None);
        }
        std::thread::sleep(STEP);
    }
}

/// The error of a start, with what its map has to do with it: subordinate IDs may have changed since the container
/// was made, and its files belong to those of then.
pub fn explain_start(error: Error, spec: &Spec) -> Error {
    let now = Host::system();
    let planned = IdentityCaller::current(&now).and_then(|caller| {
        let request = identity::Request { tier: Some(spec.identity.tier), ..identity::Request::default() };
        identity::plan_on(&now, &request, &caller)
    });
    let same = planned.is_ok_and(|now| {
        spec.identity.join.is_some()
            || (now.uid_map == spec.identity.uid_map && now.gid_map == spec.identity.gid_map)
    });
    if same {
        return error;
    }
    error.hint(format!(
        "container {} was made with subordinate IDs ({}) that are not the ones you have now: its files belong to \
         those; have them given back in /etc/subuid and /etc/subgid, or make the container anew",
        short(&spec.id),
        spec.identity.uid_map.to_string().replace('\n', ", ")
    ))
}

/// Asks the monitor of a container; none: it is down.
///
/// # Errors
/// It cannot be talked to.
pub fn ask(store: &Store, runtime: &Path, id: &str, request: &Request) -> Result<Option<Channel>> {
    ask_with(store, runtime, id, request, None)
}

/// The same with a descriptor that the request takes.
///
/// # Errors
/// As [`ask`].
pub fn ask_with(
    store: &Store,
    runtime: &Path,
    id: &str,
    request: &Request,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<Option<Channel>> {
    let begun = Instant::now();
    loop {
        if let Some(channel) = control::request_with(runtime, id, request, descriptor)? {
            return Ok(Some(channel));
        }
        let Some(record) = served(store, id) else { return Ok(None) };
        // The socket comes a moment after the monitor, and goes a moment before it; one that is gone from under a
        // container that runs does not come back.
        let runs = record.started_at.is_some()
            && record.restarting.is_none()
            && record.init.is_some_and(ProcessRef::is_alive);
        if runs || begun.elapsed() > PATIENCE {
            return match control::request_with(runtime, id, request, descriptor)? {
                Some(channel) => Ok(Some(channel)),
                None if served(store, id).is_none() => Ok(None),
                None => Err(unreachable(id, &record, runtime)),
            };
        }
        std::thread::sleep(STEP);
    }
}

fn unreachable(id: &str, record: &Running, runtime: &Path) -> Error {
    let failed = Error::new(format!("cannot reach the monitor of container {}", short(id)));
    if record.boot_id != boot_id() {
        return failed.because("it runs on another machine that has this store, too");
    }
    failed
        .because(format!("its control socket in `{}` is gone", runtime.display()))
        .hint(format!("`sbx stop {}` and `sbx kill` work without it; a start makes a new one", short(id)))
}

/// The record of a container whose monitor lives.
fn served(store: &Store, id: &str) -> Option<Running> {
    store.record_of(id).filter(|record| {
        if record.visit {
            return false;
        }
        let here = record.boot_id == boot_id() && record.monitor.is_some_and(ProcessRef::is_alive);
        here || (record.boot_id != boot_id() && store.is_looked_after(id))
    })
}

/// The monitor of a container that runs on this machine. SIGTERM asks it to stop as when the machine goes down.
pub fn monitor_of(store: &Store, id: &str) -> Option<ProcessRef> {
    served(store, id).filter(|record| record.boot_id == boot_id())?.monitor
}

/// Stops a container and waits until it is down; false: it was down already. `timeout` in seconds, `signal`: as the
/// container was made where none.
///
/// # Errors
/// Its monitor cannot be reached.
pub fn stop(
    store: &Store,
    runtime: &Path,
    id: &str,
    timeout: Option<u64>,
    signal: Option<i32>,
) -> Result<bool> {
    let request = Request::Stop { timeout, signal };
    let mut was_up = false;
    loop {
        match ask(store, runtime, id, &request) {
            Ok(None) => break,
            Ok(Some(channel)) => {
                was_up = true;
                if let Answer::Down(_) = answer(&channel)? {
                    break;
                }
            }
            Err(error) => {
                stop_by_signal(store, id, timeout, error)?;
                was_up = true;
                break;
            }
        }
    }
    sweep::put_in_order_if_abandoned(store, id, runtime);
    Ok(was_up)
}

/// The last word of a monitor.
enum Answer {
    Started,
    /// The exit code.
    Down(i32),
    /// It was killed, or it was about to go when it was asked, and did not hear.
    Nothing,
}

fn answer(channel: &Channel) -> Result<Answer> {
    while let Ok(Some((message, _))) = channel.receive() {
        match message {
            ToClient::Started { .. } => return Ok(Answer::Started),
            ToClient::Exited { code, .. } => return Ok(Answer::Down(code)),
            ToClient::Failed(error) => return Err(error),
            ToClient::Notice(notice) => log::warn!("{notice}"),
            _ => {}
        }
    }
    Ok(Answer::Nothing)
}

/// Without the socket: SIGINT asks the monitor for the same.
fn stop_by_signal(store: &Store, id: &str, timeout: Option<u64>, error: Error) -> Result<()> {
    let Some(record) = served(store, id).filter(|record| record.boot_id == boot_id()) else {
        return Err(error);
    };
    let Some(monitor) = record.monitor else { return Err(error) };
    monitor.signal(libc::SIGINT).step(|| format!("cannot stop container {}", short(id)))?;
    if let Some(timeout) = timeout
        && !monitor.ends_within(Duration::from_secs(timeout))
        && let Some(init) = record.init
    {
        init.kill(PATIENCE);
    }
    while !monitor.ends_within(PATIENCE) {}
    Ok(())
}

/// Sends a signal to the first process.
///
/// # Errors
/// The container is not running.
pub fn kill(store: &Store, runtime: &Path, id: &str, signal: i32) -> Result<()> {
    let answer = match ask(store, runtime, id, &Request::Kill { signal }) {
        Ok(None) => return Err(not_running(id)),
        Ok(Some(channel)) => channel.receive::<ToClient>().ok().flatten(),
        Err(error) => {
            let init = served(store, id).filter(|record| record.boot_id == boot_id()).and_then(|r| r.init);
            let init = init.ok_or(error)?;
            return init.signal(signal).step(|| format!("cannot send a signal to container {}", short(id)));
        }
    };
    match answer {
        Some((ToClient::Done, _)) => Ok(()),
        Some((ToClient::Failed(error), _)) => Err(error),
        _ => Err(not_running(id)),
    }
}

/// Freezes a container, and waits until all its processes are.
///
/// # Errors
/// It is down, is paused already, has no cgroup, or takes longer than [`PATIENCE`]: it goes on then.
pub fn pause(store: &Store, runtime: &Path, id: &str) -> Result<()> {
    let channel = ask(store, runtime, id, &Request::Pause)?.ok_or_else(|| not_running(id))?;
    match channel.receive::<ToClient>().ok().flatten() {
        Some((ToClient::Done, Some(events))) => {
            if control_group::wait_until_frozen(events.as_fd(), PATIENCE)? {
                return Ok(());
            }
            unpause(store, runtime, id)?;
            Err(Error::new(format!("container {} does not freeze", short(id)))
                .because("the kernel is busy with a process of it")
                .hint("it goes on; `sbx top` shows which process is in state D"))
        }
        Some((ToClient::Failed(error), _)) => Err(error),
        _ => Err(not_running(id)),
    }
}

/// Lets a frozen container go on.
///
/// # Errors
/// It is down, or not paused.
pub fn unpause(store: &Store, runtime: &Path, id: &str) -> Result<()> {
    let channel = ask(store, runtime, id, &Request::Unpause)?.ok_or_else(|| not_running(id))?;
    match channel.receive::<ToClient>().ok().flatten() {
        Some((ToClient::Done, _)) => Ok(()),
        Some((ToClient::Failed(error), _)) => Err(error),
        _ => Err(not_running(id)),
    }
}

/// Of a command that needs one that runs.
pub fn not_running(id: &str) -> Error {
    Error::new(format!("container {} is not running", short(id)))
        .hint(format!("start it first: `sbx start {}`", short(id)))
}

/// Ends the container, if it runs, and starts it; the result comes when its command runs.
///
/// # Errors
/// It cannot be started.
pub fn restart(
    store: &Store,
    runtime: &Path,
    id: &str,
    timeout: Option<u64>,
    size: Option<(u16, u16)>,
) -> Result<()> {
    if connection::waits_for_a_bridge(store, id) {
        stop(store, runtime, id, timeout, None)?;
    }
    while let Some(channel) = ask(store, runtime, id, &Request::Restart { timeout })? {
        match answer(&channel)? {
            Answer::Started => return Ok(()),
            // It went down by itself before it was asked.
            Answer::Down(_) => break,
            Answer::Nothing => {}
        }
    }
    match start(store, runtime, id, Caller::Starter, size)? {
        Started::Now(connection) => crate::client::until_started(&connection.control),
        Started::Before => Ok(()),
    }
}

/// Waits until the life of a container ends that goes on now; none: it is down.
///
/// # Errors
/// Its monitor cannot be reached.
pub fn wait(store: &Store, runtime: &Path, id: &str) -> Result<Option<i32>> {
    while let Some(channel) = ask(store, runtime, id, &Request::Wait)? {
        if let Answer::Down(code) = answer(&channel)? {
            return Ok(Some(code));
        }
    }
    sweep::put_in_order_if_abandoned(store, id, runtime);
    Ok(None)
}
