//! Published ports of containers in bridge networks: what comes to a socket of the host goes on to the container.
//!
//! One thread of the holder serves all of them, in the shared network namespace. The sockets that it is handed are
//! of the host's namespace and stay there; those that it opens towards the containers are of its own. These have the
//! client's address wherever that can be answered ([`source`]), for which the thread needs CAP_NET_ADMIN over its
//! namespace, and the namespace a rule that takes the answers for its own: nftables' `socket transparent`.

mod connection;
mod conversations;
mod datagram;
mod engine;
mod slots;
mod source;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use ipnet::IpNet;
use rustix::event::{EventfdFlags, eventfd};

use self::engine::Engine;
use super::Endpoint;
use crate::error::{Error, Result, Step};
use crate::network::Protocol;

/// Where a container's published ports lead to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The container's, with the length of the network's prefix; at most one of each family. None at all: clients
    /// are refused.
    pub addresses: Vec<IpNet>,
    /// The bridge's own addresses, as which clients appear that the container cannot answer.
    pub gateways: Vec<IpAddr>,
}

impl From<&Endpoint> for Target {
    fn from(endpoint: &Endpoint) -> Self {
        Self { addresses: endpoint.addresses.clone(), gateways: endpoint.gateways.clone() }
    }
}

/// The running thread. It ends, and with it all connections, when this is dropped.
#[derive(Debug)]
pub struct Forwarder {
    /// None only while it is dropped.
    commands: Option<Sender<(Command, SyncSender<()>)>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Command {
    Publish { owner: String, socket: OwnedFd, protocol: Protocol, port: u16, target: Target },
    Retarget { owner: String, target: Target },
    Withdraw { owner: String },
}

impl Forwarder {
    /// Starts the thread in the network namespace of the caller, and lets this process have as many open descriptors
    /// as it may: a connection takes two.
    ///
    /// # Errors
    /// The kernel gives no thread or descriptor.
    pub fn start() -> Result<Self> {
        Self::start_with(engine::raise_descriptors())
    }

    /// `most`: descriptors that it may have open.
    fn start_with(most: usize) -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags).step(|| "cannot make an eventfd")?);
        let (commands, receiver) = channel();
        let mut engine =
            Engine::new(receiver, Arc::clone(&wake), most).step(|| "cannot make the forwarder's epoll")?;
        let thread = std::thread::Builder::new()
            .name("sbx-forward".to_owned())
            .spawn(move || engine.run())
            .step(|| "cannot start the forwarder of published ports")?;
        Ok(Self { commands: Some(commands), wake, thread: Some(thread) })
    }

    /// Serves `socket`, which is bound in the host's network namespace (TCP: and listens), for the container `owner`:
    /// what comes goes to the container's `port`.
    ///
    /// # Errors
    /// The socket is none for this; the forwarder has ended.
    pub fn publish(
        &self,
        owner: &str,
        socket: OwnedFd,
        protocol: Protocol,
        port: u16,
        target: Target,
    ) -> Result<()> {
        let step = || format!("cannot forward to container port {port}/{protocol}");
        rustix::io::ioctl_fionbio(&socket, true).step(step)?;
        match protocol {
            Protocol::Tcp => {
                if !rustix::net::sockopt::socket_acceptconn(&socket).step(step)? {
                    return Err(Error::new(step()).because("the host's socket does not listen"));
                }
                source::tune(&socket).step(step)?;
            }
            Protocol::Udp => datagram::prepare(&socket).step(step)?,
        }
        self.command(Command::Publish { owner: owner.to_owned(), socket, protocol, port, target })
    }

    /// Changes where the container's ports lead to. Connections to an address that it has no longer are reset.
    /// Nothing happens to those that lead there already.
    ///
    /// # Errors
    /// The forwarder has ended.
    pub fn retarget(&self, owner: &str, target: Target) -> Result<()> {
        self.command(Command::Retarget { owner: owner.to_owned(), target })
    }

    /// Closes the container's sockets, and resets its connections. None is left when this returns.
    ///
    /// # Errors
    /// The forwarder has ended.
    pub fn withdraw(&self, owner: &str) -> Result<()> {
        self.command(Command::Withdraw { owner: owner.to_owned() })
    }

    /// Waits until it is carried out, which takes no longer than a turn of the loop.
    fn command(&self, command: Command) -> Result<()> {
        let (done, wait) = sync_channel(1);
        let ended = || Error::new("the forwarder of published ports has ended");
        let commands = self.commands.as_ref().ok_or_else(ended)?;
        commands.send((command, done)).map_err(|_| ended())?;
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        wait.recv().map_err(|_| ended())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.commands = None;
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
