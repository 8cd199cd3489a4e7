//! pasta(1): podman's way of passing its options, and its command line.

use std::net::{IpAddr, Ipv4Addr};

use super::programs::Program;
use super::resolv::HostFiles;
use super::{Network, PortMapping, Protocol};
use crate::error::{Error, Result};

/// Where the container finds the forwarder to the host's name server: link-local, so that it hides nobody.
const DNS_FORWARD: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Where the container finds the host, in versions that know `--map-guest-addr`.
const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);
/// podman's own word: leave the gateway mapped to the host's loopback interface.
const MAP_GW: &str = "--map-gw";

/// Options by which sbx itself talks to pasta, and those that make another program of it.
const OURS: &[(&str, &str)] = &[
    ("-P", "--pid"),
    ("-f", "--foreground"),
    ("-F", "--fd"),
    ("-h", "--help"),
    ("", "--version"),
    ("", "--netns"),
    ("", "--userns"),
    ("", "--netns-only"),
    ("", "--no-netns-quit"),
    ("", "--runas"),
];

/// Checks the words of `--network pasta:WORD,…`, which go to pasta as they are.
pub fn check_options(options: &[String]) -> Result<()> {
    let wrong = |word: &str, cause: &str| {
        Err(Error::new(format!("invalid option of `--network pasta`: `{word}`")).because(cause))
    };
    let mut after_option = false;
    for word in options {
        let name = word.split('=').next().unwrap_or_default();
        if !word.starts_with('-') {
            if !after_option {
                return wrong(word, "it is neither an option nor the value of one");
            }
            after_option = false;
            continue;
        }
        let attached = |short: &str| !short.is_empty() && !word.starts_with("--") && word.starts_with(short);
        if OURS.iter().any(|(short, long)| name == *long || attached(short)) || word == "-" || word == "--" {
            return wrong(word, "sbx sets it itself");
        }
        after_option = !word.starts_with("--") || !word.contains('=');
    }
    Ok(())
}

/// The values of an option, `--name VALUE`, `--name=VALUE` or `-n VALUE`.
fn values<'a>(options: &'a [String], long: &str, short: &str) -> Vec<&'a str> {
    options
        .iter()
        .enumerate()
        .filter_map(|(at, word)| {
            if word == long || (!short.is_empty() && word == short) {
                return options.get(at + 1).map(String::as_str);
            }
            if !short.is_empty() && !word.starts_with("--") && word.len() > short.len() {
                return word.strip_prefix(short);
            }
            word.strip_prefix(long)?.strip_prefix('=')
        })
        .collect()
}

/// The address at which pasta forwards DNS queries.
pub fn dns_forwarder(options: &[String]) -> Option<IpAddr> {
    match values(options, "--dns-forward", "").first() {
        Some(asked) => asked.parse().ok(),
        None => Some(DNS_FORWARD.into()),
    }
}

/// Whether the forwarder has somewhere to send queries: versions that do not know `--dns-host` forward to a
/// server of /etc/resolv.conf that is not on the loopback interface, or nowhere.
pub fn forwards_dns(program: &Program, host: &HostFiles) -> bool {
    program.has("--dns-host") || host.has_outer_server()
}

/// Where the host is reached from inside. pasta gives the container the host's own address, so that address
/// isn't it.
pub fn host_address(options: &[String], program: &Program) -> Option<IpAddr> {
    let asked = ["--map-guest-addr", "--map-host-loopback"].iter().find_map(|o| values(options, o, "").pop());
    match asked {
        Some(address) => address.parse().ok(),
        None => program.has("--map-guest-addr").then_some(HOST_ADDRESS.into()),
    }
}

/// The container's addresses that were asked for (`-a`); none: those of the host's default routes.
pub fn asked_addresses(options: &[String]) -> Vec<IpAddr> {
    values(options, "--address", "-a").iter().filter_map(|a| a.split('/').next()?.parse().ok()).collect()
}

/// Makes the arguments for the network namespace of a process. pasta stays in the foreground, as a child of ours,
/// and writes its process ID to standard output, a pipe, when it is ready. `root`: we are root, and pasta would
/// become nobody, who may not enter the container's namespaces.
pub fn arguments(
    network: &Network,
    options: &[String],
    program: &Program,
    root: bool,
    pid: i32,
) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--foreground", "--quiet", "--config-net", "--pid", "/proc/self/fd/1"].map(str::to_owned).into();
    if root {
        arguments.extend(["--runas".to_owned(), "0:0".to_owned()]);
    }
    arguments.extend(options.iter().filter(|option| *option != MAP_GW).cloned());
    if values(options, "--dns-forward", "").is_empty() {
        arguments.extend(["--dns-forward".to_owned(), DNS_FORWARD.to_string()]);
    }
    if !options.iter().any(|option| option == MAP_GW || option == "--no-map-gw")
        && values(options, "--map-host-loopback", "").is_empty()
    {
        arguments.push("--no-map-gw".to_owned());
    }
    if program.has("--map-guest-addr") && values(options, "--map-guest-addr", "").is_empty() {
        arguments.extend(["--map-guest-addr".to_owned(), HOST_ADDRESS.to_string()]);
    }
    if let Some(mac) = &network.mac_address {
        arguments.extend(["--ns-mac-addr".to_owned(), mac.replace('-', ":")]);
    }
    for (protocol, short, long) in
        [(Protocol::Tcp, "-t", "--tcp-ports"), (Protocol::Udp, "-u", "--udp-ports")]
    {
        let published = network.ports.iter().filter(|mapping| mapping.protocol == protocol);
        let before = arguments.len();
        arguments.extend(published.flat_map(|mapping| [short.to_owned(), forward(mapping)]));
        if arguments.len() == before && values(options, long, short).is_empty() {
            arguments.extend([short.to_owned(), "none".to_owned()]);
        }
    }
    for (short, long) in [("-T", "--tcp-ns"), ("-U", "--udp-ns")] {
        if values(options, long, short).is_empty() {
            arguments.extend([short.to_owned(), "none".to_owned()]);
        }
    }
    arguments.push(pid.to_string());
    arguments
}

fn forward(mapping: &PortMapping) -> String {
    let ports = format!("{}:{}", mapping.host_port, mapping.container_port);
    match mapping.host_ip {
        Some(ip) => format!("{ip}/{ports}"),
        None => ports,
    }
}

/// The lines of pasta's standard error that say something: without a system logger it complains of each message.
pub fn is_worth_showing(line: &str) -> bool {
    !(line.starts_with("Failed to send ") && line.ends_with("syslog"))
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(',').filter(|w| !w.is_empty()).map(str::to_owned).collect()
    }

    fn line(network: &Network, options: &str, has: &[&str]) -> String {
        let program = Program::with_options("/usr/bin/pasta", has);
        arguments(network, &words(options), &program, false, 42).join(" ")
    }

    fn private() -> Network {
        Network { mode: Mode::Pasta(vec![]), ..Network::private_slirp4netns() }
    }

    #[test]
    fn the_command_line_is_closed_by_default() {
        let ours = "--foreground --quiet --config-net --pid /proc/self/fd/1";
        assert_eq!(
            line(&private(), "", &[]),
            format!("{ours} --dns-forward 169.254.1.1 --no-map-gw -t none -u none -T none -U none 42")
        );
        let new = line(&private(), "", &["--map-guest-addr"]);
        assert!(new.contains(" --map-guest-addr 169.254.1.2 "), "{new}");
        assert_eq!(
            line(&private(), "--map-gw,-T,5432,-uauto,--dns-forward=192.0.2.1", &[]),
            format!("{ours} -T 5432 -uauto --dns-forward=192.0.2.1 -t none -U none 42")
        );
        let program = Program::with_options("/usr/bin/pasta", &[]);
        assert!(arguments(&private(), &[], &program, true, 42).join(" ").contains("--runas 0:0"));
    }

    #[test]
    fn ports_and_mac_address_are_passed() {
        let mapping = |ip: Option<&str>, protocol| PortMapping {
            host_ip: ip.map(|ip| ip.parse().expect("ip")),
            host_port: 8080,
            container_port: 80,
            protocol,
        };
        let ports = vec![
            mapping(None, Protocol::Tcp),
            mapping(Some("::1"), Protocol::Tcp),
            mapping(Some("127.0.0.1"), Protocol::Udp),
        ];
        let network = Network { ports, mac_address: Some("02:42:ac:11:00:02".into()), ..private() };
        let line = line(&network, "", &[]);
        assert!(
            line.ends_with("--ns-mac-addr 02:42:ac:11:00:02 -t 8080:80 -t ::1/8080:80 -u 127.0.0.1/8080:80 -T none -U none 42"),
            "{line}"
        );
    }

    #[test]
    fn options_that_are_ours_are_refused() {
        for good in
            ["", "-T,5432", "--map-gw", "-4,-I,eth9", "--ns-ifname=eth9,-a,10.0.0.1", "-t,auto,-u,auto"]
        {
            check_options(&words(good)).expect(good);
        }
        for bad in [
            "-f",
            "-P,/tmp/x",
            "-P/tmp/x",
            "--pid=/tmp/x",
            "--netns,/x",
            "--runas=0",
            "sh",
            "-T,1,sh",
            "--ns-ifname=a,b",
            "--",
            "-",
        ] {
            assert!(check_options(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_follow_the_options() {
        let (old, new) = (Program::with_options("p", &[]), Program::with_options("p", &["--map-guest-addr"]));
        assert_eq!(host_address(&[], &old), None);
        assert_eq!(host_address(&[], &new), Some(HOST_ADDRESS.into()));
        assert_eq!(host_address(&words("--map-guest-addr=none"), &new), None);
        assert_eq!(host_address(&words("--map-host-loopback,169.254.7.7"), &old), "169.254.7.7".parse().ok());
        assert_eq!(asked_addresses(&words("-a,10.1.2.3/24,--address=fd01::2")).len(), 2);
    }

    #[test]
    fn complaints_about_the_logger_are_left_out() {
        assert!(!is_worth_showing("Failed to send 51 bytes to syslog"));
        assert!(is_worth_showing("Couldn't open network namespace"));
    }
}
