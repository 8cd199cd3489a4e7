//! Host names become addresses without the C library's name service, which a static binary does not have: literal
//! addresses, /etc/hosts, and then `getent ahosts`, which asks whatever this machine is set up to ask.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::host::programs;

/// Addresses that are tried; more are passed over.
const MOST: usize = 16;

/// Why a name has no address.
#[derive(Debug)]
pub struct Unresolved {
    pub host: String,
    pub why: String,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no address is known for the host `{}`: {}", self.host, self.why)
    }
}

impl std::error::Error for Unresolved {}

#[derive(Debug, Clone)]
pub struct HostNames {
    hosts: PathBuf,
    getent: Option<PathBuf>,
}

impl Default for HostNames {
    fn default() -> Self {
        Self { hosts: PathBuf::from("/etc/hosts"), getent: programs::find("getent") }
    }
}

impl HostNames {
    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let name = bare.trim_end_matches('.').to_ascii_lowercase();
        let unresolved = |why: String| Unresolved { host: name.clone(), why };
        let listed = in_hosts(&self.hosts, &name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        if name == "localhost" || name.ends_with(".localhost") {
            // RFC 6761, 6.3: never anything but loopback.
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let Some(getent) = &self.getent else {
            return Err(unresolved(format!(
                "{} does not have it, and there is no program `getent` to ask",
                self.hosts.display()
            )));
        };
        let asked = Command::new(getent)
            .args(["ahosts", &name])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| unresolved(format!("getent cannot be started: {error}")))?;
        let addresses = from_getent(&String::from_utf8_lossy(&asked.stdout));
        if addresses.is_empty() {
            return Err(unresolved("neither /etc/hosts nor `getent ahosts` has one".to_owned()));
        }
        Ok(addresses)
    }
}

impl Resolver for HostNames {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let mut found = self.empty();
        let addresses =
            self.addresses(host).map_err(|unresolved| ureq::Error::Other(Box::new(unresolved)))?;
        for address in addresses.into_iter().take(MOST) {
            found.push(SocketAddr::new(address, port));
        }
        Ok(found)
    }
}

/// hosts(5)
fn in_hosts(hosts: &Path, name: &str) -> Vec<IpAddr> {
    let text = fs::read_to_string(hosts).unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Each address stands in several lines, one for each type of socket.
fn from_getent(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(Ok(address)) = line.split_whitespace().next().map(str::parse::<IpAddr>) else { continue };
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn shown(names: &HostNames, host: &str) -> String {
        match names.addresses(host) {
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn literals_then_hosts_then_getent() {
        let directory = tempfile::tempdir().unwrap();
        let hosts = directory.path().join("hosts");
        fs::write(&hosts, "10.0.0.1 a.example # b.example\n#10.0.0.2 a.example\n::7 A.Example x\nbad c\n")
            .unwrap();
        let getent = directory.path().join("getent");
        let script = "#!/bin/sh\n[ \"$1 $2\" = 'ahosts b.example' ] || exit 2\n\
            printf '192.0.2.1 STREAM b.example\\n192.0.2.1 DGRAM\\n2001:db8::1 STREAM\\n'\n";
        fs::write(&getent, script).unwrap();
        fs::set_permissions(&getent, fs::Permissions::from_mode(0o755)).unwrap();
        let names = HostNames { hosts, getent: Some(getent) };
        assert_eq!(shown(&names, "[2001:db8::5]"), "2001:db8::5");
        assert_eq!(shown(&names, "127.0.0.1"), "127.0.0.1");
        assert_eq!(shown(&names, "a.example."), "10.0.0.1 ::7");
        assert_eq!(shown(&names, "b.example"), "192.0.2.1 2001:db8::1");
        assert_eq!(shown(&names, "localhost"), "127.0.0.1 ::1");
        assert!(shown(&names, "c.example").contains("neither /etc/hosts nor `getent ahosts`"));
        let without = HostNames { getent: None, ..names };
        assert!(shown(&without, "b.example").contains("no program `getent`"));
    }
}
