//! The name server of bridge networks: containers find their neighbours by name, and addresses of the world.
//!
//! It listens on the gateway addresses, in the holder's network namespace. Who asks is told by the source address,
//! which nobody on a bridge can forge: [`table`] has the networks that the asker is in, [`verdict`] decides.
//!
//! - `web`, `web.NETWORK` and `web.dns.podman` are the same container; letters have no case. A name that is known
//!   without an address of the wanted family has an empty answer, so that nobody goes on searching.
//! - Other names are asked outside ([`forward`]): of the servers of the container, of its networks, or of the host. A
//!   container that is in internal networks alone is told that there is no such name, as is one whose [`Policy`]
//!   forbids it: many a C library takes a refusal for a reason to wait.
//! - Whoever has an address that no container has is refused.
//! - What a container may take is limited ([`limits`]).
//!
//! One thread does all of it, without waiting for anything but news.

pub mod answer;
mod clients;
mod forward;
mod limits;
pub mod name;
mod policy;
pub mod query;
pub mod reply;
mod server;
mod sockets;
mod stream;
pub mod table;
#[cfg(test)]
mod tests;
pub mod verdict;
mod watch;

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

pub use policy::{Asker, Found, Policy, Unrestricted};
use server::{Order, Server, Shared};
pub use sockets::Sockets;
pub use table::{Member, Network, Table};

/// Where name servers listen.
const PORT: u16 = 53;
/// The thread closes sockets within microseconds; nobody waits for it for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// The running name server; it ends when this is dropped.
#[derive(Debug)]
pub struct Responder {
    shared: Arc<Shared>,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts it, in the network namespace of the calling thread. `servers` are asked for names that are no
    /// container's, where neither container nor network has servers of its own.
    ///
    /// # Errors
    /// No thread, no descriptors, or no memory.
    pub fn start(policy: Arc<dyn Policy>, servers: Vec<IpAddr>) -> io::Result<Self> {
        Self::start_on(policy, servers, PORT, PORT)
    }

    /// With other ports: ours, and that of the servers.
    fn start_on(
        policy: Arc<dyn Policy>,
        servers: Vec<IpAddr>,
        port: u16,
        upstream_port: u16,
    ) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            table: RwLock::default(),
            servers: RwLock::new(servers),
            orders: Mutex::default(),
            wake,
        });
        let server = Server::new(shared.clone(), policy, upstream_port)?;
        let thread = thread::Builder::new().name("sbx-names".to_owned()).spawn(move || server.serve())?;
        Ok(Self { shared, port, thread: Some(thread) })
    }

    /// Answers on the addresses of a network's gateway. Who asks from now on is heard, also before the bridge has the
    /// addresses.
    ///
    /// # Errors
    /// The port is taken.
    pub fn listen(&self, network: &str, addresses: &[IpAddr]) -> io::Result<()> {
        self.listen_on(network, Sockets::bind(addresses, self.port)?);
        Ok(())
    }

    /// Answers on sockets that are bound, and do not block.
    pub fn listen_on(&self, network: &str, sockets: Sockets) {
        self.shared.order(Order::Listen(network.to_owned(), sockets));
    }

    /// Answers no more on the addresses of a network, which can be bound again afterwards.
    pub fn silence(&self, network: &str) {
        let (done, is_done) = channel();
        self.shared.order(Order::Silence(network.to_owned(), done));
        let _ = is_done.recv_timeout(PATIENCE);
    }

    /// Replaces the table: whoever asks from now on gets answers from this one.
    pub fn set_table(&self, table: Table) {
        *self.shared.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    /// Changes the table, as a whole.
    pub fn update(&self, change: impl FnOnce(&mut Table)) {
        change(Arc::make_mut(&mut self.shared.table.write().unwrap_or_else(PoisonError::into_inner)));
    }

    /// Replaces the servers that are asked where neither container nor network has its own.
    pub fn set_servers(&self, servers: Vec<IpAddr>) {
        *self.shared.servers.write().unwrap_or_else(PoisonError::into_inner) = servers;
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.shared.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
