//! Signals sent to the client go to the container (`--sig-proxy`).

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

use crate::client::Options;
use crate::error::{Result, Step};
use crate::monitor::message::ToMonitor;
use crate::sys::channel::Channel;
use crate::sys::terminal::{next_signal, signal_descriptor};

/// With a terminal keys travel as bytes, and only what comes from elsewhere is forwarded. SIGTSTP and its
/// like stay with the client: it is a job of the caller's shell. SIGCHLD, SIGPIPE and SIGURG never go.
const FORWARDED: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
];

/// Blocks the signals before any other thread starts, so that all threads inherit the mask, and forwards
/// them from a thread of its own.
pub fn forward(control: &Arc<Channel>, options: &Options) -> Result<()> {
    // A closed pipe of the caller shows as EPIPE where it is written to.
    signal_descriptor(&[libc::SIGPIPE]).step(|| "cannot block SIGPIPE")?;
    if !options.signal_proxy {
        return Ok(());
    }
    let mut signals: Vec<i32> = FORWARDED.to_vec();
    signals.extend(libc::SIGRTMIN()..=libc::SIGRTMAX());
    let descriptor = signal_descriptor(&signals).step(|| "cannot catch signals")?;
    let control = Arc::clone(control);
    thread::spawn(move || {
        loop {
            let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
            let _ = poll(&mut polled, None);
            while let Some(signal) = next_signal(descriptor.as_fd()) {
                let _ = control.send(&ToMonitor::Signal(signal));
            }
        }
    });
    Ok(())
}
