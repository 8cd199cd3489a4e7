//! `sbx-network`: makes the process inside, starts the uplinks, and ends with it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::uplink::{self, Uplink};
use super::{ToInside, ToOutside, inside};
use crate::error::{Error, Result, Step};
use crate::identity::{self, Identity};
use crate::network::Helper;
use crate::network::bridge::Former;
use crate::network::bridge::place::Place;
use crate::sys::channel::Channel;
use crate::sys::memory::poll_idly;
use crate::sys::process::{Clone, Fork, clone3, exit_now, fork, reap_any};

const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
/// A helper that ends is started again, at first at once.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The process's life. `report` is told of the start: none, or why it failed.
pub fn run(
    place: &Place,
    identity: &Identity,
    listener: OwnedFd,
    report: Channel,
    former: Option<Former>,
) -> ! {
    let _ = rustix::thread::set_name(c"sbx-network");
    crate::sys::process::tame_signals();
    let made = make(place, identity, listener, former);
    let (pid, channel) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = report.send(&Some(error));
            exit_now(125)
        }
    };
    let ready = match channel.receive() {
        Ok(Some((ToOutside::Ready, _))) => None,
        Ok(Some((ToOutside::Failed(error), _))) => Some(error),
        _ => Some(Error::new("the process that holds the networks ended when it was started")),
    };
    let failed = ready.is_some();
    let _ = report.send(&ready);
    drop(report);
    if !failed {
        Outside { channel, pid, place, uplinks: Vec::new() }.serve();
    }
    exit_now(0)
}

fn make(
    place: &Place,
    identity: &Identity,
    listener: OwnedFd,
    former: Option<Former>,
) -> Result<(i32, Channel)> {
    let failed = || "cannot make the process that holds the networks";
    let (ours, theirs) = Channel::pair().step(failed)?;
    let own = std::process::id();
    if former.is_some() {
        return match fork().step(failed)? {
            Fork::Child => {
                drop(ours);
                inside::run(place, listener, theirs, former, own)
            }
            Fork::Parent(pid) => Ok((pid, ours)),
        };
    }
    let cloned =
        clone3(libc::CLONE_NEWUSER).map_err(|error| crate::host::userns::explain_clone_failure(&error))?;
    match cloned {
        Clone::Child => {
            drop(ours);
            inside::run(place, listener, theirs, None, own)
        }
        Clone::Parent { pid, .. } => {
            identity::start_write(identity, pid)?.wait()?;
            ours.send(&ToInside::Mapped).step(failed)?;
            Ok((pid, ours))
        }
    }
}

/// A helper, or when there will be one again.
struct Running {
    uplink: Uplink,
    helper: Option<Helper>,
    again: Option<Instant>,
    wait: Duration,
}

struct Outside<'a> {
    channel: Channel,
    /// The process inside.
    pid: i32,
    place: &'a Place,
    uplinks: Vec<Running>,
}

impl Outside<'_> {
    /// Until the process inside ends.
    fn serve(&mut self) {
        loop {
            let ends: Vec<OwnedFd> =
                self.uplinks.iter().filter_map(|running| pidfd(running.helper.as_ref()?.pid())).collect();
            let mut polled = vec![PollFd::new(&self.channel, PollFlags::IN)];
            polled.extend(ends.iter().map(|end| PollFd::new(end, PollFlags::IN)));
            let wait = self.uplinks.iter().filter_map(|running| running.again).min().map(until);
            let _ = poll_idly(&mut polled, wait.as_ref());
            let said = !polled[0].revents().is_empty();
            let ended = polled[1..].iter().any(|end| !end.revents().is_empty());
            drop(polled);
            if ended {
                self.lose();
            }
            self.restart();
            if said {
                match self.channel.receive() {
                    Ok(Some((ToOutside::Start(uplink), _))) => {
                        self.uplinks.push(Running {
                            uplink,
                            helper: None,
                            again: Some(Instant::now()),
                            wait: Duration::from_millis(100),
                        });
                        self.restart();
                    }
                    Ok(Some(_)) => {}
                    _ => return,
                }
            }
        }
    }

    /// Reaps helpers that have ended.
    fn lose(&mut self) {
        while let Some((pid, _)) = reap_any() {
            for running in &mut self.uplinks {
                if running.helper.as_mut().is_some_and(|helper| helper.reaped(pid).is_some()) {
                    running.helper = None;
                    running.again = Some(Instant::now() + running.wait);
                    running.wait = (running.wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    fn restart(&mut self) {
        let now = Instant::now();
        for running in &mut self.uplinks {
            if running.again.is_none_or(|again| again > now) {
                continue;
            }
            running.again = None;
            let uplink = running.uplink;
            let started =
                uplink::start(uplink, self.pid, self.place.runtime()).and_then(|(mut helper, connected)| {
                    helper.wait_ready(HELPER_TIMEOUT)?;
                    Ok((helper, connected))
                });
            let message = match started {
                Ok((helper, connected)) => {
                    running.helper = Some(helper);
                    ToInside::Connected(uplink, connected)
                }
                Err(error) => {
                    running.again = Some(now + running.wait);
                    running.wait = (running.wait * 2).min(LONGEST_WAIT);
                    ToInside::Unconnected(uplink, error)
                }
            };
            let _ = self.channel.send(&message);
        }
    }
}

fn pidfd(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) }
}
