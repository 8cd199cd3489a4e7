//! From the words of the command line to a decided network, with what goes together and what does not.

mod allowed;
pub(super) mod memberships;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use super::named::NamedNetworks;
use super::programs::{self, Program};
use super::{Mode, Network, Reserved, mode, pasta, ports, slirp4netns};
use crate::error::{Error, Result};

/// The flags of `sbx run` about the network, as typed.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--network`, `--net`
    pub networks: Vec<String>,
    /// `--network-alias`
    pub aliases: Vec<String>,
    /// `-p`, `--publish`
    pub publish: Vec<String>,
    /// `--net-allow`
    pub allow: Vec<String>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `--add-host NAME:IP`
    pub add_hosts: Vec<String>,
    pub ip: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    pub mac_address: Option<String>,
    pub no_hosts: bool,
    /// `--hostname` was given.
    pub hostname: bool,
}

/// What was decided, and what the user should be told.
#[derive(Debug)]
pub struct Plan {
    pub network: Network,
    /// The published ports among them, until they are bound by whoever forwards them.
    pub reserved: Reserved,
    pub warnings: Vec<String>,
}

/// Checks a request and decides it on this host: helper, host ports, addresses. `cache` keeps the options of
/// pasta, which is asked for them when an address depends on it.
pub fn plan(request: &Request, cache: &Path, networks: &NamedNetworks) -> Result<Plan> {
    let mut published = Vec::new();
    for text in &request.publish {
        published.extend(ports::parse(text)?);
    }
    let dns = request.dns.iter().map(|text| parse_server(text)).collect::<Result<Vec<IpAddr>>>()?;
    for word in request.dns_search.iter().chain(&request.dns_options) {
        check_word(word)?;
    }
    let added = request.add_hosts.iter().map(|text| parse_host(text)).collect::<Result<Vec<_>>>()?;
    if let Some(mac) = &request.mac_address {
        mode::check_mac_address(mac)?;
    }
    let mut requested = mode::parse(&request.networks)?;
    if !request.allow.is_empty() {
        allowed::check(request, &requested)?;
        requested = mode::Requested::Decided(Mode::Bridge);
    }
    let mut warnings = Vec::new();
    let memberships = match &requested {
        mode::Requested::Named(asked) => memberships::all(asked, request, networks, &mut warnings)?,
        _ => {
            memberships::check_none(request)?;
            Vec::new()
        }
    };
    if let mode::Requested::Decided(mode) = &requested {
        check_together(request, mode)?;
        if *mode == Mode::Host && !published.is_empty() {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
            published.clear();
        }
    }
    let mode = match requested.decide() {
        // Nothing was asked for that a container without a network could not honour.
        Err(missing) if request.networks.is_empty() && goes_without(request) => {
            warnings.push(format!(
                "the container has no network but its own loopback interface: {}; `--network host` shares the host's",
                missing.causes().join(": ")
            ));
            Mode::None
        }
        decided => decided?,
    };
    let gateway = match added.iter().any(|(_, target)| matches!(target, HostTarget::Gateway)) {
        true => Some(gateway(&mode, cache)?.ok_or_else(|| unreachable_host(&mode))?),
        false => None,
    };
    let hosts = added
        .into_iter()
        .filter_map(|(name, target)| match target {
            HostTarget::Address(ip) => Some((name, ip)),
            HostTarget::Gateway => gateway.map(|ip| (name, ip)),
        })
        .collect::<Vec<_>>();
    let (ports, reserved) = ports::resolve(&published)?;
    let network = Network {
        allowed: allowed::list(request, &hosts, || self::gateway(&mode, cache))?,
        mode,
        ports,
        dns,
        dns_search: request.dns_search.clone(),
        dns_options: request.dns_options.clone(),
        hosts,
        // Otherwise it stands in the membership.
        mac_address: request.mac_address.clone().filter(|_| memberships.is_empty()),
        no_hosts: request.no_hosts,
        memberships,
        // Looked up once it is known which networks they can be in.
        links: Vec::new(),
    };
    Ok(Plan { network, reserved, warnings })
}

fn goes_without(request: &Request) -> bool {
    request.publish.is_empty()
        && request.mac_address.is_none()
        && !request.add_hosts.iter().any(|host| host.ends_with("host-gateway"))
}

/// Refuses flags that a mode can't honour.
fn check_together(request: &Request, mode: &Mode) -> Result<()> {
    let shared = matches!(mode, Mode::Container(_));
    let unforwarded = matches!(mode, Mode::None | Mode::Path(_) | Mode::Container(_));
    let without_interface = matches!(mode, Mode::None | Mode::Host | Mode::Path(_) | Mode::Container(_));
    let conflicts = [
        ("--publish", unforwarded && !request.publish.is_empty(), "nothing forwards ports into that network"),
        ("--mac-address", without_interface && request.mac_address.is_some(), "no interface is made"),
        ("--hostname", shared && request.hostname, "the other container's hostname is shared"),
        ("--dns", shared && !request.dns.is_empty(), "the other container's resolv.conf is shared"),
        (
            "--dns-search",
            shared && !request.dns_search.is_empty(),
            "the other container's resolv.conf is shared",
        ),
        (
            "--dns-option",
            shared && !request.dns_options.is_empty(),
            "the other container's resolv.conf is shared",
        ),
        ("--add-host", shared && !request.add_hosts.is_empty(), "the other container's hosts file is shared"),
        ("--no-hosts", shared && request.no_hosts, "the other container's hosts file is shared"),
        ("--add-host", request.no_hosts && !request.add_hosts.is_empty(), "`--no-hosts` makes no hosts file"),
    ];
    match conflicts.iter().find(|(_, conflict, _)| *conflict) {
        Some((flag, _, reason)) => {
            Err(Error::new(format!("cannot use `{flag}` with `--network {mode}`")).because(reason))
        }
        None => Ok(()),
    }
}

fn parse_server(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| {
        Error::new(format!("invalid name server `{text}`")).because("`--dns` takes an IP address")
    })
}

/// A search domain or a resolver option becomes a word of a line of resolv.conf, and may not become more.
fn check_word(word: &str) -> Result<()> {
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::new(format!("invalid word for resolv.conf: `{}`", word.escape_debug()))
            .because("it is empty, or has blanks in it")
            .hint("give `--dns-search` and `--dns-option` once for each word"));
    }
    Ok(())
}

enum HostTarget {
    Address(IpAddr),
    Gateway,
}

fn parse_host(text: &str) -> Result<(String, HostTarget)> {
    let wrong = |cause: &str| {
        Error::new(format!("invalid host `{}`", text.escape_debug()))
            .because(cause)
            .hint("write `--add-host NAME:IP` or `--add-host NAME:host-gateway`")
    };
    let (name, target) = text.split_once([':', '=']).ok_or_else(|| wrong("there is no colon in it"))?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(wrong("the name is empty or has blanks in it"));
    }
    if target == "host-gateway" {
        return Ok((name.to_owned(), HostTarget::Gateway));
    }
    let bare = target.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(target);
    let ip = bare.parse().map_err(|_| wrong("what follows the name is not an IP address"))?;
    Ok((name.to_owned(), HostTarget::Address(ip)))
}

/// Where the host is reached from inside, for `host-gateway` and host.containers.internal; None: it can't be.
pub fn gateway(mode: &Mode, cache: &Path) -> Result<Option<IpAddr>> {
    Ok(match mode {
        Mode::Host => Some(Ipv4Addr::LOCALHOST.into()),
        Mode::Slirp4netns(options) => {
            let options = slirp4netns::Options::parse(options)?;
            if options.allow_host_loopback {
                options.gateway()
            } else {
                outgoing(Ipv4Addr::UNSPECIFIED.into())
            }
        }
        Mode::Pasta(options) => match programs::find("pasta") {
            Some(path) => pasta::host_address(options, &Program::probe(&path, cache)?),
            None => None,
        },
        Mode::Bridge => gateway(&uplink(), cache)?,
        Mode::None | Mode::Path(_) | Mode::Container(_) => None,
    })
}

/// The helper that connects the namespace of the bridges: the one that a private network gets.
pub fn uplink() -> Mode {
    match programs::find("slirp4netns") {
        Some(_) => Mode::Slirp4netns(Vec::new()),
        None => Mode::Pasta(Vec::new()),
    }
}

/// The container's own addresses, as far as they are known before it starts.
pub fn own_addresses(mode: &Mode) -> Vec<IpAddr> {
    match mode {
        Mode::Slirp4netns(options) => {
            slirp4netns::Options::parse(options).ok().and_then(|o| o.address()).into_iter().collect()
        }
        Mode::Pasta(options) => match pasta::asked_addresses(options) {
            asked if !asked.is_empty() => asked,
            _ => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
                .into_iter()
                .filter_map(outgoing)
                .collect(),
        },
        // Those of its endpoints, which are not known before.
        Mode::None | Mode::Host | Mode::Path(_) | Mode::Container(_) | Mode::Bridge => Vec::new(),
    }
}

fn unreachable_host(mode: &Mode) -> Error {
    Error::new(format!("cannot replace `host-gateway` with `--network {mode}`"))
        .because("the host has no address there")
        .hint("use `--network slirp4netns`, or give the address itself")
}

/// The host's address on its default route: that of a datagram socket connected to an address beyond it (RFC 5737
/// and RFC 3849 ones; nothing is sent).
pub(super) fn outgoing(any: IpAddr) -> Option<IpAddr> {
    let beyond: IpAddr = match any {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((beyond, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(networks: &[&str]) -> Request {
        Request { networks: networks.iter().map(|&n| n.to_owned()).collect(), ..Request::default() }
    }

    fn plan_of(request: &Request) -> Result<Plan> {
        let folder = tempfile::tempdir().expect("a folder");
        plan(request, &folder.path().join("helpers.json"), &NamedNetworks::new(folder.path()))
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&w| w.to_owned()).collect()
    }

    #[test]
    fn ports_go_with_helpers_alone() {
        let publish = strings(&["80"]);
        let plan = plan_of(&Request { publish: publish.clone(), ..request(&["host"]) }).expect("host");
        assert_eq!(plan.warnings, ["Published ports are discarded when using host network mode"]);
        assert!(plan.network.ports.is_empty());
        for mode in ["none", "container:web", "ns:/proc/self/ns/net"] {
            let error = plan_of(&Request { publish: publish.clone(), ..request(&[mode]) }).expect_err(mode);
            assert_eq!(error.message(), format!("cannot use `--publish` with `--network {mode}`"));
        }
    }

    #[test]
    fn another_containers_files_are_not_ours_to_change() {
        for (flag, request) in [
            ("--dns", Request { dns: strings(&["1.1.1.1"]), ..request(&["container:web"]) }),
            ("--add-host", Request { add_hosts: strings(&["a:1.1.1.1"]), ..request(&["container:web"]) }),
            ("--hostname", Request { hostname: true, ..request(&["container:web"]) }),
            (
                "--mac-address",
                Request { mac_address: Some("02:42:ac:11:00:02".into()), ..request(&["container:web"]) },
            ),
            (
                "--mac-address",
                Request { mac_address: Some("02:42:ac:11:00:02".into()), ..request(&["none"]) },
            ),
        ] {
            let error = plan_of(&request).expect_err(flag);
            assert!(error.message().contains(flag), "{error}");
        }
    }

    #[test]
    fn hosts_are_read_and_the_gateway_is_replaced() {
        let added = strings(&[
            "db:192.0.2.1",
            "six:::1",
            "bracket:[2001:db8::1]",
            "equal=192.0.2.2",
            "me:host-gateway",
        ]);
        let plan = plan_of(&Request { add_hosts: added, ..request(&["host"]) }).expect("hosts");
        let hosts: Vec<String> = plan.network.hosts.iter().map(|(n, ip)| format!("{n} {ip}")).collect();
        assert_eq!(
            hosts,
            ["db 192.0.2.1", "six ::1", "bracket 2001:db8::1", "equal 192.0.2.2", "me 127.0.0.1"]
        );
        for bad in ["db", "db:", ":1.2.3.4", "db:example.org", "d b:1.2.3.4", "db\n:1.2.3.4"] {
            assert!(
                plan_of(&Request { add_hosts: strings(&[bad]), ..request(&["none"]) }).is_err(),
                "{bad:?}"
            );
        }
        let error = plan_of(&Request { add_hosts: strings(&["me:host-gateway"]), ..request(&["none"]) });
        assert!(error.expect_err("unreachable").message().contains("host-gateway"));
    }

    #[test]
    fn words_stay_words_in_resolv_conf() {
        for bad in ["a b", "a\nnameserver 192.0.2.66", ""] {
            let search = Request { dns_search: strings(&[bad]), ..request(&["none"]) };
            assert!(plan_of(&search).is_err(), "{bad:?}");
        }
        let error =
            plan_of(&Request { dns: strings(&["example.org"]), ..request(&["none"]) }).expect_err("a name");
        assert_eq!(error.message(), "invalid name server `example.org`");
    }

    #[test]
    fn the_default_is_the_faster_helper() {
        assert!(programs::find("slirp4netns").is_some(), "this test needs slirp4netns installed");
        let plan = plan_of(&request(&[])).expect("the default");
        assert_eq!(plan.network.mode, Mode::Slirp4netns(vec![]));
        assert_eq!(own_addresses(&plan.network.mode), ["10.0.2.100".parse::<IpAddr>().expect("ip")]);
    }
}
