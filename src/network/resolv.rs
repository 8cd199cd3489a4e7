//! The container's resolv.conf (resolv.conf(5)), made of the host's and of `--dns`, `--dns-search`, `--dns-option`.
//!
//! As podman does: the helper's own forwarder comes first, the host's servers follow (without those of the loopback
//! interface, which is another one inside), and what was asked for replaces its part of the host's file.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use super::programs::{self, Program};
use super::{Mode, Network, pasta, slirp4netns};
use crate::error::Result;

/// The host's file may be anything; of what lies behind this many bytes nothing is read.
const LONGEST_FILE: u64 = 64 * 1024;
/// Where systemd-resolved lists the servers that its stub asks (systemd-resolved.service(8)).
const BEHIND_THE_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// The C library reads no more of them (resolv.conf(5), MAXNS).
const MOST_SERVERS: usize = 3;
const HOST_FILE: &str = "/etc/resolv.conf";

/// The host's files, as far as they could be read.
#[derive(Debug, Clone, Default)]
pub struct HostFiles {
    /// /etc/resolv.conf.
    pub resolv_conf: String,
    /// The servers behind the stub of systemd-resolved, if /etc/resolv.conf names that alone.
    pub behind_the_stub: Option<String>,
}

impl HostFiles {
    pub fn read() -> Self {
        let resolv_conf = read(Path::new(HOST_FILE));
        let settings = Settings::read(&resolv_conf);
        let stub = !settings.servers.is_empty()
            && settings.servers.iter().all(|s| s == "127.0.0.53" || s == "127.0.0.54");
        let behind_the_stub = stub.then(|| read(Path::new(BEHIND_THE_STUB))).filter(|text| !text.is_empty());
        Self { resolv_conf, behind_the_stub }
    }

    /// Whether /etc/resolv.conf names a server beyond the loopback interface.
    pub fn has_outer_server(&self) -> bool {
        Settings::read(&self.resolv_conf).servers.iter().any(|server| !is_local(server))
    }
}

pub(super) fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// Who is asked for names through the network.
#[derive(Debug)]
pub struct Reach<'a> {
    /// The helper that connects the container, or the bridges that it is on.
    pub helper: &'a Mode,
    /// Whether pasta's forwarder works on this host ([`pasta::forwards_dns`]).
    pub pasta_forwards: bool,
    /// The name servers of its bridge networks: they know its neighbours, and ask those of `--dns` for the rest.
    pub responders: &'a [IpAddr],
}

/// Makes the text of the container's /etc/resolv.conf. For [`Mode::Container`] the other container's file is shared
/// instead.
pub fn compose(network: &Network, host: &HostFiles, reach: &Reach<'_>) -> String {
    let asked = !(network.dns.is_empty() && network.dns_search.is_empty() && network.dns_options.is_empty());
    if network.mode == Mode::Host && !asked {
        return host.resolv_conf.clone();
    }
    let settings = Settings::read(&host.resolv_conf);
    let servers = if !reach.responders.is_empty() {
        reach.responders.iter().take(MOST_SERVERS).map(IpAddr::to_string).collect()
    } else if !network.dns.is_empty() {
        network.dns.iter().map(IpAddr::to_string).collect()
    } else if network.mode == Mode::Host {
        settings.servers.clone()
    } else {
        behind(reach.helper, host, reach.pasta_forwards)
    };
    let search = match network.dns_search.as_slice() {
        [] => settings.search,
        [dot] if dot == "." => Vec::new(),
        asked => asked.to_vec(),
    };
    let options = if network.dns_options.is_empty() { settings.options } else { network.dns_options.clone() };

    let mut text = String::new();
    let mut seen = Vec::new();
    for server in servers {
        if !seen.contains(&server) {
            text.push_str(&format!("nameserver {server}\n"));
            seen.push(server);
        }
    }
    for (keyword, words) in [("search", search), ("options", options)] {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

/// Who answers for names behind a helper, best first.
fn behind(helper: &Mode, host: &HostFiles, pasta_forwards: bool) -> Vec<String> {
    let settings = Settings::read(&host.resolv_conf);
    let forwarder = match helper {
        Mode::Slirp4netns(options) => slirp4netns::Options::parse(options).ok().and_then(|o| o.dns()),
        Mode::Pasta(options) if pasta_forwards => pasta::dns_forwarder(options),
        _ => None,
    };
    let mut servers: Vec<String> = forwarder.map(|ip| ip.to_string()).into_iter().collect();
    let outer =
        host.behind_the_stub.as_deref().map_or(settings.servers.clone(), |t| Settings::read(t).servers);
    servers.extend(outer.into_iter().filter(|server| !is_local(server)));
    if servers.is_empty() {
        // A namespace of the user's own may run its resolver there; nothing else is known.
        servers = settings.servers;
    }
    servers
}

/// The servers that a namespace behind `helper` can ask. `cache` is the file of [`Program::probe`].
///
/// # Errors
/// The helper cannot be asked what it knows.
pub fn forwarders(helper: &Mode, cache: &Path) -> Result<Vec<IpAddr>> {
    let host = HostFiles::read();
    let forwards = match (helper, programs::find("pasta")) {
        (Mode::Pasta(_), Some(path)) => pasta::forwards_dns(&Program::probe(&path, cache)?, &host),
        _ => false,
    };
    Ok(behind(helper, &host, forwards).iter().filter_map(|server| server.parse().ok()).collect())
}

/// What a resolv.conf says; the last of `search` and `domain` wins, as in the C library.
#[derive(Default)]
struct Settings {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Settings {
    fn read(text: &str) -> Self {
        let mut settings = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default();
            let words = words.take_while(|word| !word.starts_with(['#', ';'])).map(str::to_owned);
            match keyword {
                "nameserver" => settings.servers.extend(words.take(1).filter(|word| address(word).is_some())),
                "search" => settings.search = words.collect(),
                "domain" => settings.search = words.take(1).collect(),
                "options" => settings.options.extend(words),
                _ => {}
            }
        }
        settings
    }
}

/// The address of a server, without its zone (`fe80::1%eth0`).
fn address(server: &str) -> Option<IpAddr> {
    server.split('%').next()?.parse().ok()
}

/// Whether a server is reached in the host's network namespace only: loopback, or an address of one link.
fn is_local(server: &str) -> bool {
    match address(server) {
        Some(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(IpAddr::V6(ip)) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\ndomain old.example\nnameserver 127.0.0.1\nnameserver 192.0.2.53 # ours\n\
        nameserver fe80::1%eth0\nnameserver 2001:db8::53\nsearch a.example b.example\noptions ndots:2 rotate\n";

    fn network(mode: Mode) -> Network {
        Network { mode, ..Network::private_slirp4netns() }
    }

    fn compose_with(network: &Network, text: &str) -> String {
        compose_through(network, text, &network.mode, &[])
    }

    fn compose_through(network: &Network, text: &str, helper: &Mode, responders: &[IpAddr]) -> String {
        let host = HostFiles { resolv_conf: text.to_owned(), behind_the_stub: None };
        compose(network, &host, &Reach { helper, pasta_forwards: true, responders })
    }

    #[test]
    fn bridge_networks_answer_themselves_and_alone() {
        let helper = Mode::Slirp4netns(vec![]);
        let responders: Vec<IpAddr> =
            ["10.89.0.1", "10.89.1.1", "fd00::1", "fd01::1"].iter().map(|ip| ip.parse().unwrap()).collect();
        let asked = Network { dns: vec!["192.0.2.1".parse().unwrap()], ..network(Mode::Bridge) };
        let text = compose_through(&asked, HOST, &helper, &responders);
        let servers: Vec<&str> = text.lines().filter(|line| line.starts_with("nameserver")).collect();
        assert_eq!(servers, ["nameserver 10.89.0.1", "nameserver 10.89.1.1", "nameserver fd00::1"]);
        assert!(text.contains("search a.example"), "{text}");
        // Without names of its own, a network is as any other.
        assert!(compose_through(&asked, HOST, &helper, &[]).starts_with("nameserver 192.0.2.1\nsearch"));
        let text = compose_through(&network(Mode::Bridge), HOST, &helper, &[]);
        assert!(text.starts_with("nameserver 10.0.2.3\nnameserver 192.0.2.53\n"), "{text}");
    }

    #[test]
    fn the_forwarder_comes_first_and_loopback_goes() {
        let rest = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch a.example b.example\noptions ndots:2 rotate\n";
        let slirp = compose_with(&network(Mode::Slirp4netns(vec![])), HOST);
        assert_eq!(slirp, format!("nameserver 10.0.2.3\n{rest}"));
        let other = compose_with(&network(Mode::Slirp4netns(vec!["cidr=10.9.0.0/16".into()])), HOST);
        assert!(other.starts_with("nameserver 10.9.0.3\n"), "{other}");
        let pasta = compose_with(&network(Mode::Pasta(vec![])), HOST);
        assert_eq!(pasta, format!("nameserver 169.254.1.1\n{rest}"));
        let own = compose_with(&network(Mode::Pasta(vec!["--dns-forward".into(), "192.0.2.9".into()])), HOST);
        assert!(own.starts_with("nameserver 192.0.2.9\n"), "{own}");
        assert_eq!(compose_with(&network(Mode::None), HOST), rest);
    }

    #[test]
    fn the_host_network_keeps_the_hosts_text() {
        assert_eq!(compose_with(&network(Mode::Host), HOST), HOST);
        let asked = Network { dns_search: vec!["c.example".into()], ..network(Mode::Host) };
        let text = compose_with(&asked, HOST);
        assert!(text.starts_with("nameserver 127.0.0.1\n") && text.contains("search c.example\n"), "{text}");
    }

    #[test]
    fn what_was_asked_for_replaces_its_part() {
        let asked = Network {
            dns: vec!["192.0.2.1".parse().expect("ip"), "::1".parse().expect("ip")],
            dns_options: vec!["timeout:1".into()],
            ..network(Mode::Slirp4netns(vec![]))
        };
        assert_eq!(
            compose_with(&asked, HOST),
            "nameserver 192.0.2.1\nnameserver ::1\nsearch a.example b.example\noptions timeout:1\n"
        );
        let no_search = Network { dns_search: vec![".".into()], ..network(Mode::None) };
        assert!(!compose_with(&no_search, HOST).contains("search"));
    }

    #[test]
    fn servers_behind_the_stub_are_taken() {
        let host = HostFiles {
            resolv_conf: "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n".into(),
            behind_the_stub: Some("nameserver 192.0.2.7\nsearch other\n".into()),
        };
        assert!(!host.has_outer_server());
        let text = compose(
            &network(Mode::Pasta(vec![])),
            &host,
            &Reach { helper: &Mode::Pasta(vec![]), pasta_forwards: false, responders: &[] },
        );
        assert_eq!(text, "nameserver 192.0.2.7\nsearch lan\noptions edns0 trust-ad\n");
    }

    #[test]
    fn odd_host_files_do_no_harm() {
        for text in [
            "",
            "nameserver",
            "nameserver \u{fffd}\u{0}",
            "nameserver 1.2.3",
            "search",
            "options # none",
            "\r\n\r\n",
        ] {
            assert_eq!(compose_with(&network(Mode::None), text), "", "{text:?}");
        }
        assert_eq!(compose_with(&network(Mode::None), "nameserver 127.0.0.1\r\n"), "nameserver 127.0.0.1\n");
        assert_eq!(
            compose_with(&network(Mode::None), "nameserver 192.0.2.1\nnameserver 192.0.2.1"),
            "nameserver 192.0.2.1\n"
        );
        assert_eq!(read(Path::new("/")), "");
        assert_eq!(read(Path::new("/dev/zero")).len() as u64, LONGEST_FILE);
    }
}
