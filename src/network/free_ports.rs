//! Host ports: chosen where any will do, checked where one was named, and who holds a taken one.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::sockopt;

use super::ports::{HostPort, PortRequest};
use super::{PortMapping, Protocol, host_socket};
use crate::error::{Error, Result, Step};

/// Attempts to find an ephemeral port that this very request does not use yet.
const RANDOM_ATTEMPTS: usize = 64;

/// TCP ports that are kept from everybody else's choice, and from connections that go out, until whoever forwards
/// them has bound them, too: they are bound and not listened at, with SO_REUSEADDR, as all our helpers bind theirs.
#[derive(Debug, Default)]
pub struct Reserved(#[expect(dead_code, reason = "held, not read")] Vec<OwnedFd>);

/// Turns requests into mappings: random ports are chosen, named ones are tried.
///
/// Another process may still take a named port, or one of UDP, before the helper does; the helper's refusal is an
/// error, too.
///
/// # Errors
/// Two requests for one host port; a port that is taken, privileged, or of an address this host does not have.
pub fn resolve(requests: &[PortRequest]) -> Result<(Vec<PortMapping>, Reserved)> {
    let mut taken = Taken::default();
    let mut mappings = Vec::with_capacity(requests.len());
    let mut reserved = Vec::new();
    for request in requests.iter().filter(|r| matches!(r.host_port, HostPort::Fixed(_))) {
        if let HostPort::Fixed(port) = request.host_port
            && !taken.insert(request, port)
        {
            return Err(Error::new(format!("host port {port}/{} is published twice", request.protocol)));
        }
    }
    for request in requests {
        let (host_port, socket) = match request.host_port {
            HostPort::Fixed(port) => {
                (port, bind(request, port, true).map_err(|cause| refused(request, port, &cause))?)
            }
            HostPort::Random => random(request, &mut taken)?,
            HostPort::Within(first, last) => first_free(request, first, last, &mut taken)?,
        };
        if request.protocol == Protocol::Tcp {
            sockopt::set_socket_reuseaddr(&socket, true)
                .step(|| format!("cannot reserve host port {host_port}"))?;
            reserved.push(socket);
        }
        mappings.push(PortMapping {
            host_ip: request.host_ip,
            host_port,
            container_port: request.container_port,
            protocol: request.protocol,
        });
    }
    Ok((mappings, Reserved(reserved)))
}

fn bind(request: &PortRequest, port: u16, reuse: bool) -> io::Result<OwnedFd> {
    host_socket::bind(request.protocol, request.host_ip, port, reuse)
}

/// The host ports of one request; every address (None) collides with each single one.
#[derive(Default)]
struct Taken(HashSet<(Protocol, u16, Option<IpAddr>)>, HashSet<(Protocol, u16)>);

impl Taken {
    fn insert(&mut self, request: &PortRequest, port: u16) -> bool {
        let ip = request.host_ip.filter(|ip| !ip.is_unspecified());
        let any = (request.protocol, port, None);
        let used = match ip {
            None => self.1.contains(&(request.protocol, port)),
            Some(_) => self.0.contains(&any) || self.0.contains(&(request.protocol, port, ip)),
        };
        if !used {
            self.0.insert((request.protocol, port, ip));
            self.1.insert((request.protocol, port));
        }
        !used
    }
}

fn random(request: &PortRequest, taken: &mut Taken) -> Result<(u16, OwnedFd)> {
    for _ in 0..RANDOM_ATTEMPTS {
        let (port, socket) = bind(request, 0, false)
            .and_then(|socket| Ok((host_socket::port(&socket)?, socket)))
            .map_err(|cause| refused(request, 0, &cause))?;
        if taken.insert(request, port) {
            return Ok((port, socket));
        }
    }
    Err(Error::new(format!(
        "no free host port for container port {}/{}",
        request.container_port, request.protocol
    )))
}

fn first_free(request: &PortRequest, first: u16, last: u16, taken: &mut Taken) -> Result<(u16, OwnedFd)> {
    let mut cause = None;
    // First those that nobody has reserved and no former connection waits at.
    for reuse in [false, true] {
        for port in first..=last {
            match bind(request, port, reuse) {
                Ok(socket) if taken.insert(request, port) => return Ok((port, socket)),
                Ok(_) => {}
                Err(error) => cause = Some(error),
            }
        }
    }
    let error = Error::new(format!("no free host port from {first} to {last} ({})", request.protocol));
    Err(match cause {
        Some(cause) => error.because(cause),
        None => error,
    })
}

/// Makes the error of a host port that can't be had.
pub(super) fn refused(request: &PortRequest, port: u16, cause: &io::Error) -> Error {
    let place = match request.host_ip {
        Some(ip) => SocketAddr::new(ip, port).to_string(),
        None => port.to_string(),
    };
    let error = Error::new(format!("cannot publish host port {place}/{}", request.protocol));
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            let error = match holder(request.protocol, port, Path::new("/proc")) {
                Some(process) => error.because(format!("address already in use by {process}")),
                None => error.because("address already in use"),
            };
            error.hint(format!("choose another port, or let sbx choose: `-p {}`", request.container_port))
        }
        io::ErrorKind::PermissionDenied => {
            let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
            let start = fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u16>().ok());
            match start {
                Some(start) if port < start => error
                    .because(format!(
                        "ports below {start} need privilege (net.ipv4.ip_unprivileged_port_start={start})"
                    ))
                    .hint(format!("take port {start} or above"))
                    .hint(format!(
                        "or let an administrator run `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
                    )),
                _ => error.because(cause),
            }
        }
        io::ErrorKind::AddrNotAvailable => error.because("this host does not have that address"),
        _ if cause.raw_os_error() == Some(libc::EMFILE) => error
            .because(cause)
            .hint("each port takes an open file: raise the limit of the shell, `ulimit -n`"),
        _ => error.because(cause),
    }
}

/// Names the process that listens on a port, as far as /proc shows it to us (mostly our own processes).
fn holder(protocol: Protocol, port: u16, proc: &Path) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["net/tcp", "net/tcp6"],
        Protocol::Udp => ["net/udp", "net/udp6"],
    };
    let inodes: HashSet<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(proc.join(table)).ok())
        .flat_map(|text| listeners(&text, protocol, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    fs::read_dir(proc).ok()?.flatten().find_map(|process| {
        let name = process.file_name();
        let pid: u32 = name.to_str()?.parse().ok()?;
        let held = fs::read_dir(process.path().join("fd")).ok()?.flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|link| link.to_str().is_some_and(|link| inodes.contains(link)))
        });
        let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        held.then(|| format!("process {pid} ({})", command.trim()))
    })
}

/// The inodes of the sockets bound to a port in the text of /proc/net/tcp or udp (proc_net_tcp, Linux
/// Documentation/networking): for TCP those that listen (state 0A).
fn listeners(table: &str, protocol: Protocol, port: u16) -> Vec<u64> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let local = fields.nth(1)?;
            let state = fields.nth(1)?;
            let inode = fields.nth(5)?.parse().ok()?;
            let bound = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
            (bound == port && (protocol == Protocol::Udp || state == "0A")).then_some(inode)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::ports::parse;
    use super::*;

    fn requests(texts: &[&str]) -> Vec<PortRequest> {
        texts.iter().flat_map(|text| parse(text).expect(text)).collect()
    }

    #[test]
    fn random_ports_are_distinct_and_free() {
        let (mappings, _) = resolve(&requests(&["80", "81-140", "80/udp"])).expect("free ports");
        let distinct: HashSet<_> = mappings.iter().map(|m| (m.protocol, m.host_port)).collect();
        assert_eq!(distinct.len(), 62);
        assert!(mappings.iter().all(|m| m.host_port >= 1024), "{mappings:?}");
    }

    #[test]
    fn a_taken_port_names_itself_and_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let error = resolve(&requests(&[&format!("{port}:80")])).expect_err("taken");
        let text = error.to_string();
        assert!(text.contains(&port.to_string()), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    }

    #[test]
    fn the_first_free_port_of_a_range_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let last = port.saturating_add(20);
        let text = format!("127.0.0.1:{port}-{last}:80");
        let (mappings, _) = resolve(&requests(&[&text, &text])).expect("a free one");
        assert!(mappings.iter().all(|m| m.host_port > port && m.host_port <= last), "{mappings:?}");
        assert_ne!(mappings[0].host_port, mappings[1].host_port);
    }

    #[test]
    fn what_is_chosen_is_kept_from_others_and_left_to_the_helper() {
        let (mappings, reserved) = resolve(&requests(&["127.0.0.1::80"])).expect("a port");
        let port = mappings[0].host_port;
        let (last, at) = (port.saturating_add(20), |port| SocketAddr::from(([127, 0, 0, 1], port)));
        let (others, _) = resolve(&requests(&[&format!("127.0.0.1:{port}-{last}:80")])).expect("another");
        assert_ne!(others[0].host_port, port);
        // std's listeners have SO_REUSEADDR, as those of the helpers.
        let listener = TcpListener::bind(at(port)).expect("the helper's");
        drop(reserved);
        std::net::TcpStream::connect(at(port)).expect("served");
        drop(listener);
    }

    #[test]
    fn one_host_port_is_published_once() {
        for pair in [["8080:80", "8080:81"], ["127.0.0.1:8080:80", "8080:80"], ["8080:80", "[::1]:8080:80"]] {
            let error = resolve(&requests(&pair)).expect_err("twice");
            assert_eq!(error.message(), "host port 8080/tcp is published twice");
        }
        let mut taken = Taken::default();
        for text in ["127.0.0.1:8080:80", "127.0.0.2:8080:80", "127.0.0.1:8080:80/udp"] {
            assert!(taken.insert(&requests(&[text])[0], 8080), "{text}");
        }
    }

    #[test]
    fn privileged_ports_name_the_sysctl() {
        let request = &requests(&["1:80"])[0];
        let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("the sysctl");
        assert!(start.trim().parse::<u16>().expect("a number") > 1, "the host opens every port to everyone");
        let error = refused(request, 1, &io::Error::from_raw_os_error(libc::EACCES));
        assert!(
            error.to_string().contains(&format!("ip_unprivileged_port_start={}", start.trim())),
            "{error}"
        );
    }

    #[test]
    fn listeners_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0\n   \
            1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20\n   \
            2: broken\n";
        assert_eq!(listeners(table, Protocol::Tcp, 8080), [4711]);
        assert_eq!(listeners(table, Protocol::Udp, 8080), [4711, 4712]);
        assert!(listeners(table, Protocol::Tcp, 80).is_empty());
    }
}
