//! A monitor's connection to the holder: for as long as it lives the container is in its networks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Endpoint;
use super::holder;
use super::place::Place;
use super::protocol::{FromHolder, Joiner, ToHolder, Wanted};
use crate::error::{Error, Result, Step};
use crate::identity::Identity;
use crate::network::PortMapping;
use crate::sys::channel::Channel;

/// How long a holder may take for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Holders that ended just when they were needed.
const ATTEMPTS: usize = 8;

/// What the holder says of its own accord.
#[derive(Debug)]
pub enum Said {
    /// A line for the network log.
    Traffic(String),
    /// The holder is gone.
    Gone,
}

/// What a holder leaves behind when it is killed.
#[derive(Debug)]
pub struct Former {
    /// The user namespace below which its containers are.
    pub namespace: OwnedFd,
    /// The addresses of containers, by their IDs: they come back for them.
    pub addresses: HashMap<String, Vec<IpAddr>>,
}

/// A container's place in the networks of the shared namespace.
#[derive(Debug)]
pub struct Session {
    channel: Channel,
    /// The user namespace below which the container's has to be.
    namespace: OwnedFd,
    pub endpoints: Vec<Endpoint>,
    /// Said while an answer was waited for.
    said: Vec<String>,
}

impl Session {
    /// Joins the networks, and starts the holder where there is none. `former` gives what a holder left behind
    /// when it was killed.
    ///
    /// # Errors
    /// A network has no address left, or not the one that is asked for; the holder cannot be started.
    pub fn join(
        place: &Place,
        identity: &Identity,
        former: &dyn Fn() -> Option<Former>,
        joiner: &Joiner,
    ) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            let channel = connect(place, identity, former)?;
            match channel.send(&ToHolder::Join(Box::new(joiner.clone()))) {
                Ok(()) => {}
                Err(gone) if matches!(gone.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => continue,
                Err(error) => return Err(error).step(lost),
            }
            // One that was about to end leaves without a word.
            let Some((answer, namespace)) = receive(&channel)? else { continue };
            return match (answer, namespace) {
                (FromHolder::Joined(endpoints), Some(namespace)) => {
                    Ok(Self { channel, namespace, endpoints, said: Vec::new() })
                }
                (FromHolder::Failed(error), _) => Err(error),
                _ => Err(unexpected()),
            };
        }
        Err(Error::new("cannot connect the container to its networks")
            .because("the process that holds them ends as soon as it is started"))
    }

    /// The user namespace below which the container's has to be.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Hands over a socket that is bound to a host port.
    ///
    /// # Errors
    /// The holder is gone.
    pub fn publish(&self, mapping: &PortMapping, socket: BorrowedFd<'_>) -> Result<()> {
        self.channel.send_with(&ToHolder::Publish(mapping.clone()), socket).step(lost)
    }

    /// Has the interfaces made in the container's network namespace; [`Self::wait`] says when they are there.
    ///
    /// # Errors
    /// The holder is gone.
    pub fn plug(&self, network: BorrowedFd<'_>) -> Result<()> {
        self.channel.send_with(&ToHolder::Plug, network).step(lost)
    }

    /// Waits for what was asked for last.
    ///
    /// # Errors
    /// It failed, or the holder is gone.
    pub fn wait(&mut self) -> Result<()> {
        match self.answer()? {
            FromHolder::Done => Ok(()),
            FromHolder::Failed(error) => Err(error),
            _ => Err(unexpected()),
        }
    }

    /// # Errors
    /// As [`Self::join`].
    pub fn connect(&mut self, wanted: &Wanted) -> Result<()> {
        self.channel.send(&ToHolder::Connect(Box::new(wanted.clone()))).step(lost)?;
        match self.answer()? {
            FromHolder::Connected(endpoint) => {
                self.endpoints.push(*endpoint);
                Ok(())
            }
            FromHolder::Failed(error) => Err(error),
            _ => Err(unexpected()),
        }
    }

    /// Out of the network with this ID.
    ///
    /// # Errors
    /// The holder is gone.
    pub fn disconnect(&mut self, network: &str) -> Result<()> {
        self.channel.send(&ToHolder::Disconnect { network: network.to_owned() }).step(lost)?;
        self.wait()?;
        self.endpoints.retain(|endpoint| endpoint.network != network);
        Ok(())
    }

    /// Out of all networks; gives the last lines for the network log.
    ///
    /// # Errors
    /// The holder is gone.
    pub fn leave(mut self) -> Result<Vec<String>> {
        self.channel.send(&ToHolder::Leave).step(lost)?;
        self.wait()?;
        Ok(self.said)
    }

    /// Gives the container another name in all of its networks.
    ///
    /// # Errors
    /// The holder is gone.
    pub fn rename(&mut self, name: &str) -> Result<()> {
        self.channel.send(&ToHolder::Rename { name: name.to_owned() }).step(lost)?;
        self.wait()
    }

    /// # Errors
    /// An interface cannot be made again.
    pub fn reload(&mut self) -> Result<()> {
        self.channel.send(&ToHolder::Reload).step(lost)?;
        self.wait()
    }

    /// What the holder has said, when [`AsFd::as_fd`] is readable or earlier.
    pub fn said(&mut self) -> Vec<Said> {
        let mut all: Vec<Said> = self.said.drain(..).map(Said::Traffic).collect();
        loop {
            if !is_readable(self.channel.as_fd(), Some(Duration::ZERO)) {
                return all;
            }
            match self.channel.receive() {
                Ok(Some((FromHolder::Traffic(line), _))) => all.push(Said::Traffic(line)),
                Ok(Some(_)) => {}
                _ => {
                    all.push(Said::Gone);
                    return all;
                }
            }
        }
    }

    fn answer(&mut self) -> Result<FromHolder> {
        loop {
            match receive(&self.channel)? {
                Some((FromHolder::Traffic(line), _)) => self.said.push(line),
                Some((answer, _)) => return Ok(answer),
                None => return Err(Error::new(lost()).because("it was killed")),
            }
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn connect(place: &Place, identity: &Identity, former: &dyn Fn() -> Option<Former>) -> Result<Channel> {
    if let Some(channel) = place.connect() {
        return Ok(channel);
    }
    let lock = place.lock_file()?;
    lock.lock().step(|| "cannot wait for others who start the networks")?;
    if let Some(channel) = place.connect() {
        return Ok(channel);
    }
    let former = former();
    if let Some(former) = &former {
        holder::end_unreachable(former.namespace.as_fd());
    }
    holder::start(place, identity, former)?;
    place.connect().ok_or_else(|| Error::new("cannot connect to the process that holds the networks"))
}

fn receive(channel: &Channel) -> Result<Option<(FromHolder, Option<OwnedFd>)>> {
    if !is_readable(channel.as_fd(), Some(PATIENCE)) {
        return Err(Error::new("the process that holds the networks does not answer")
            .because(format!("nothing came from it in {} s", PATIENCE.as_secs()))
            .hint("end it: `pkill -f sbx-network`, and it is started again"));
    }
    channel.receive().step(lost)
}

fn is_readable(end: BorrowedFd<'_>, wait: Option<Duration>) -> bool {
    let until = wait.map(|wait| Instant::now() + wait);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut polled = [PollFd::from_borrowed_fd(end, PollFlags::IN)];
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            // Reading says why.
            Err(_) => return true,
        }
    }
}

fn lost() -> &'static str {
    "cannot talk to the process that holds the networks"
}

fn unexpected() -> Error {
    Error::new("the process that holds the networks said something unexpected")
        .hint("another version of sbx may have started it: end the containers on its networks")
}
