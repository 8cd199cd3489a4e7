//! The process that moves images: a child in the canonical user namespace, where the owners of all files of a
//! layer can be given. It works with threads and never forks; its parent has one thread, shows nothing, passes
//! signals on and takes the results.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Step};
use crate::identity::Identity;
use crate::sandbox::userns;
use crate::sys::channel::Channel;
use crate::sys::process::{die_with_parent, exit_now, send_signal, wait_for};
use crate::sys::signals;
use crate::sys::terminal::{next_signal, signal_descriptor};

/// What ends a transfer. What was downloaded stays for the next one.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

#[derive(Serialize, Deserialize)]
enum Message<T> {
    Item(T),
    Failed(Error),
    Done,
}

/// The child's end: hands results to the parent.
pub struct Results(Channel);

impl Results {
    /// # Errors
    /// The parent is gone, or `item` is longer than a message may be.
    pub fn hand_over<T: Serialize>(&self, item: &T) -> Result<()> {
        self.0.send(&Message::Item(item)).step(|| "cannot hand a result to the parent process")
    }
}

/// Runs `work` in the child; each result that it hands over comes to `each`. A signal that ends the transfer
/// ends this process, too, as if it had never been caught.
///
/// # Errors
/// What `work` or `each` failed with, that there can be no user namespace, or that the child was killed.
pub fn run<T: Serialize + DeserializeOwned>(
    identity: &Identity,
    work: impl FnOnce(&Results) -> Result<()>,
    mut each: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let failed = || "cannot watch over the process that moves the image";
    let mask = SigSet::thread_get_mask().step(failed)?;
    let caught: Vec<i32> = ENDING.into_iter().filter(|signal| !signals::is_ignored(*signal)).collect();
    let descriptor = signal_descriptor(&caught).step(failed)?;
    let (ours, theirs) = Channel::pair().step(failed)?;
    let parent = std::process::id();
    let started = userns::start_in(identity, || {
        let results = Results(theirs);
        // Only after the change of IDs, which would clear it.
        if die_with_parent(parent).is_err() || end_on_signals(&caught).is_err() {
            return 125;
        }
        let message = match work(&results) {
            Ok(()) => Message::<()>::Done,
            Err(error) => Message::Failed(error),
        };
        i32::from(results.0.send(&message).is_err())
    });
    let outcome = started.and_then(|pid| {
        let (outcome, signal) = supervise(pid, &ours, descriptor.as_fd(), &mut each);
        if let Some(signal) = signal {
            let _ = mask.thread_set_mask();
            let _ = signals::take(signal);
        }
        outcome
    });
    let _ = mask.thread_set_mask();
    outcome
}

/// Takes what the child says until its end, and the signal that ended it, if one did.
fn supervise<T: DeserializeOwned>(
    pid: i32,
    channel: &Channel,
    signals: BorrowedFd<'_>,
    each: &mut impl FnMut(T) -> Result<()>,
) -> (Result<()>, Option<i32>) {
    let failed = || "cannot understand the process that moves the image";
    let mut signalled = None;
    let mut outcome = None;
    loop {
        let mut polled = [PollFd::new(channel, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        if rustix::event::poll(&mut polled, None).is_err_and(|errno| errno != rustix::io::Errno::INTR) {
            break;
        }
        let has_news = !polled[0].revents().is_empty();
        while let Some(signal) = next_signal(signals) {
            signalled = Some(signal);
            let _ = send_signal(pid, signal);
        }
        if !has_news {
            continue;
        }
        match channel.receive::<Message<T>>().step(failed) {
            Ok(Some((Message::Item(item), _))) => {
                if let Err(error) = each(item) {
                    outcome = Some(Err(error));
                    break;
                }
            }
            Ok(Some((Message::Done, _))) => outcome = Some(Ok(())),
            Ok(Some((Message::Failed(error), _))) => outcome = Some(Err(error)),
            Ok(None) => break,
            Err(error) => {
                outcome = Some(Err(error));
                break;
            }
        }
    }
    if outcome.as_ref().is_some_and(Result::is_err) || outcome.is_none() {
        // It has ended, or nobody takes what it would still hand over.
        let _ = send_signal(pid, libc::SIGKILL);
    }
    let code = wait_for(pid);
    // A transfer that was finished all the same is a success.
    let signalled = signalled.filter(|_| outcome.is_none());
    let killed = || {
        let error = Error::new("cannot move the image: the process that does it was killed");
        match code {
            Ok(137) => error.because("SIGKILL, as from the kernel where memory is short"),
            Ok(code) => error.because(format!("exit code {code}")),
            Err(cause) => error.because(cause),
        }
    };
    (outcome.unwrap_or_else(|| Err(killed())), signalled)
}

/// Starts the thread of the child that waits for signals. The files that are being made are locked by this
/// process: whoever needs their room takes it once the process is gone.
fn end_on_signals(caught: &[i32]) -> std::io::Result<()> {
    let descriptor = signal_descriptor(caught)?;
    let wait = move || loop {
        let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
        let _ = rustix::event::poll(&mut polled, None);
        if let Some(signal) = next_signal(descriptor.as_fd()) {
            if rustix::termios::isatty(rustix::stdio::stderr()) {
                // Below the progress bars.
                let _ = rustix::io::write(rustix::stdio::stderr(), b"\n");
            }
            exit_now(128 + signal);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(|_| ())
}
