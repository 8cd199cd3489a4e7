//! Connections: one pool for each host, with its certificates and its proxy.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector, TcpConnector};

use super::connector::Tls;
use super::proxy::Proxies;
use super::resolve::HostNames;
use super::tls::Trust;
use crate::error::Result;

/// Time for a connection with its TLS handshake, to each address of a host.
const CONNECT: Duration = Duration::from_secs(15);
/// Time without a byte after which a connection is given up, unless told otherwise.
const STALLED: Duration = Duration::from_secs(60);
/// Connections to a host that are kept for the next request.
const IDLE: usize = 16;

pub struct Agents {
    trust: Trust,
    proxies: Proxies,
    stalled: Duration,
    /// By scheme and authority, and whether certificates are verified.
    made: Mutex<HashMap<(String, bool), Agent>>,
}

impl Agents {
    pub fn new(trust: Trust, stalled: Option<Duration>) -> Self {
        Self {
            trust,
            proxies: Proxies::from_environment(),
            stalled: stalled.unwrap_or(STALLED),
            made: Mutex::default(),
        }
    }

    /// The agent for a URL. `domain` is the registry's name in certs.d.
    ///
    /// # Errors
    /// Its certificates or its proxy cannot be used.
    pub fn agent(&self, url: &Uri, domain: &str, verify: bool) -> Result<Agent> {
        let is_https = url.scheme_str() == Some("https");
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        let key = (format!("{is_https} {authority} {domain}"), verify);
        if let Some(agent) = self.lock().get(&key) {
            return Ok(agent.clone());
        }
        let host = url.host().unwrap_or_default();
        let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed where the password is known not to follow.
            .max_redirects(0)
            .proxy(self.proxies.to(is_https, host, port)?)
            .user_agent(concat!("sbx/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("")
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(self.stalled))
            .timeout_per_write(Some(self.stalled))
            .build();
        let tcp =
            ().chain(SocksConnector::default())
                .chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default());
        let agent = if is_https {
            Agent::with_parts(
                config,
                tcp.chain(Tls(self.trust.config(domain, verify)?)),
                HostNames::default(),
            )
        } else {
            Agent::with_parts(config, tcp, HostNames::default())
        };
        Ok(self.lock().entry(key).or_insert(agent).clone())
    }

    /// An agent is never half made: what a thread that panicked left behind is sound.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, bool), Agent>> {
        self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
