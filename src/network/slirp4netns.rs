//! slirp4netns(1): its options as podman spells them, its command line, and its API socket.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::programs::Program;
use super::{Network, PortMapping, ports};
use crate::error::{Error, Result, Step};

/// The API socket in the container's runtime directory.
pub const API_SOCKET: &str = "slirp4netns.sock";
/// The longest that fits a tap with Ethernet header into what libslirp reads at once.
const MTU: u32 = 65520;
/// The longest path in a socket address (unix(7)), without its zero byte.
const LONGEST_SOCKET_PATH: usize = 107;

/// The values of `--network slirp4netns:NAME=VALUE,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub allow_host_loopback: bool,
    pub mtu: u32,
    /// Network and prefix length.
    pub cidr: (Ipv4Addr, u8),
    pub enable_ipv6: bool,
    /// An address or an interface of the host.
    pub outbound_addr: Option<String>,
    pub outbound_addr6: Option<String>,
    /// What the tap is called inside; there is no word for it.
    pub interface: &'static str,
    /// It gives the tap its address and makes it the default route; there is no word for it.
    pub configure: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow_host_loopback: false,
            mtu: MTU,
            cidr: (Ipv4Addr::new(10, 0, 2, 0), 24),
            enable_ipv6: true,
            outbound_addr: None,
            outbound_addr6: None,
            interface: "tap0",
            configure: true,
        }
    }
}

impl Options {
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            parsed.take(option).map_err(|cause| {
                Error::new(format!("invalid option of `--network slirp4netns`: `{option}`")).because(cause)
            })?;
        }
        if parsed.outbound_addr6.is_some() && !parsed.enable_ipv6 {
            return Err(Error::new("`outbound_addr6` needs `enable_ipv6=true`"));
        }
        Ok(parsed)
    }

    fn take(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').ok_or("it is not of the form NAME=VALUE")?;
        let truth = || match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("it takes true or false".to_owned()),
        };
        match name {
            "allow_host_loopback" => self.allow_host_loopback = truth()?,
            "enable_ipv6" => self.enable_ipv6 = truth()?,
            "mtu" => {
                self.mtu = value
                    .parse()
                    .ok()
                    .filter(|mtu| (68..=65521).contains(mtu))
                    .ok_or("the MTU is a number from 68 to 65521")?;
            }
            "cidr" => self.cidr = parse_cidr(value)?,
            "outbound_addr" => {
                let fits = value.parse::<Ipv4Addr>().is_ok() || is_interface(value);
                self.outbound_addr =
                    Some(fits.then(|| value.to_owned()).ok_or("it takes an IPv4 address or an interface")?);
            }
            "outbound_addr6" => {
                let fits = value.parse::<Ipv6Addr>().is_ok() || is_interface(value);
                self.outbound_addr6 =
                    Some(fits.then(|| value.to_owned()).ok_or("it takes an IPv6 address or an interface")?);
            }
            "port_handler" => match value {
                "slirp4netns" => {}
                "rootlesskit" => {
                    return Err("rootlesskit's port handler is another process per container, which sbx does not start; \
                        ports are forwarded by slirp4netns itself"
                        .to_owned());
                }
                _ => return Err("the only port handler is slirp4netns".to_owned()),
            },
            _ => {
                return Err("known are allow_host_loopback, cidr, enable_ipv6, mtu, outbound_addr, outbound_addr6 and \
                    port_handler"
                    .to_owned());
            }
        }
        Ok(())
    }

    /// The container's address (slirp4netns(1), DESCRIPTION: the 100th of its network).
    pub fn address(&self) -> Option<IpAddr> {
        self.host_number(100)
    }

    /// The router, which is the host's loopback interface if that is allowed.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.host_number(2)
    }

    /// The forwarder to the host's name server.
    pub fn dns(&self) -> Option<IpAddr> {
        self.host_number(3)
    }

    fn host_number(&self, number: u32) -> Option<IpAddr> {
        u32::from(self.cidr.0).checked_add(number).map(|ip| Ipv4Addr::from(ip).into())
    }
}

fn parse_cidr(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let parsed = text.split_once('/').and_then(|(ip, length)| Some((ip.parse().ok()?, length.parse().ok()?)));
    let (ip, length): (Ipv4Addr, u8) = parsed.ok_or("it takes an IPv4 network, such as 10.0.2.0/24")?;
    if !(1..=25).contains(&length) {
        return Err("the network needs room for host number 100: a prefix length from 1 to 25".to_owned());
    }
    if u32::from(ip) & (u32::MAX >> length) != 0 {
        return Err("it is not the first address of its network".to_owned());
    }
    Ok((ip, length))
}

fn is_interface(name: &str) -> bool {
    let plain = !name.is_empty() && !name.contains(['/', '.']);
    plain && Path::new("/sys/class/net").join(name).exists()
}

/// The descriptors that the program inherits.
pub struct Descriptors {
    pub ready: i32,
    pub exit: i32,
}

/// What of the host decides about options.
pub struct HostFacts {
    /// The kernel has IPv6 at all.
    pub ipv6: bool,
    /// The sandbox shows /etc and /run alone; with a resolv.conf elsewhere its DNS would be dead.
    pub resolv_conf_in_sandbox: bool,
}

impl HostFacts {
    pub fn read() -> Self {
        let resolv_conf = std::fs::canonicalize("/etc/resolv.conf");
        Self {
            ipv6: Path::new("/proc/net/if_inet6").exists(),
            resolv_conf_in_sandbox: !resolv_conf
                .is_ok_and(|f| !f.starts_with("/etc") && !f.starts_with("/run")),
        }
    }
}

/// Makes the arguments for the network namespace of a process.
pub fn arguments(
    network: &Network,
    options: &Options,
    program: &Program,
    host: &HostFacts,
    fds: &Descriptors,
    pid: i32,
) -> Result<Vec<String>> {
    let need = |option: &str, why: &str| {
        if program.has(option) {
            return Ok(());
        }
        Err(Error::new(format!("`{}` is too old: it has no `{option}`", program.path.display()))
            .because(why)
            .hint("install slirp4netns 1.0 or later, or use `--network pasta`"))
    };
    need("--ready-fd", "sbx must know when the network is ready")?;
    let mut arguments = vec![
        format!("--mtu={}", options.mtu),
        format!("--ready-fd={}", fds.ready),
        format!("--exit-fd={}", fds.exit),
    ];
    if options.configure {
        arguments.insert(0, "--configure".to_owned());
    }
    if !options.allow_host_loopback {
        need(
            "--disable-host-loopback",
            "the container must not reach services of the host's loopback interface",
        )?;
        arguments.push("--disable-host-loopback".to_owned());
    }
    // An MTU below 1280 rules IPv6 out (RFC 8200, section 5).
    if options.enable_ipv6 && host.ipv6 && options.mtu >= 1280 && program.has("--enable-ipv6") {
        arguments.push("--enable-ipv6".to_owned());
    }
    if options.cidr != Options::default().cidr {
        need("--cidr", "`cidr` was asked for")?;
        arguments.push(format!("--cidr={}/{}", options.cidr.0, options.cidr.1));
    }
    for (option, value) in
        [("--outbound-addr", &options.outbound_addr), ("--outbound-addr6", &options.outbound_addr6)]
    {
        if let Some(value) = value {
            need(option, "an outbound address was asked for")?;
            arguments.push(format!("{option}={value}"));
        }
    }
    if let Some(mac) = &network.mac_address {
        need("--macaddress", "`--mac-address` was asked for")?;
        arguments.push(format!("--macaddress={}", mac.replace('-', ":")));
    }
    if program.has("--enable-sandbox") && host.resolv_conf_in_sandbox {
        arguments.push("--enable-sandbox".to_owned());
    }
    if program.has("--enable-seccomp") {
        arguments.push("--enable-seccomp".to_owned());
    }
    if !network.ports.is_empty() {
        need("--api-socket", "ports are forwarded through it")?;
        arguments.push(format!("--api-socket={API_SOCKET}"));
    }
    arguments.push(pid.to_string());
    arguments.push(options.interface.to_owned());
    Ok(arguments)
}

/// Asks a running slirp4netns, whose API socket is in `folder`, to forward a port.
pub fn forward(folder: &Path, mapping: &PortMapping, timeout: Duration) -> Result<()> {
    let answer = ask(folder, &request(mapping), timeout).step(|| {
        format!("ask slirp4netns to forward host port {}/{}", mapping.host_port, mapping.protocol)
    })?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    if answer.get("return").is_some() {
        return Ok(());
    }
    let reason = answer.pointer("/error/desc").and_then(|text| text.as_str()).unwrap_or("it gave no answer");
    if mapping.host_ip.is_some_and(|ip| ip.is_ipv6()) {
        return Err(Error::new(format!(
            "cannot publish host port {}/{}",
            mapping.host_port, mapping.protocol
        ))
        .because(format!("this slirp4netns does not listen on IPv6 addresses ({reason})"))
        .hint("use `--network pasta`, or slirp4netns 1.3 or later"));
    }
    // It doesn't say why; trying the same tells.
    ports::resolve(&[mapping.into()])?;
    Err(Error::new(format!("cannot publish host port {}/{}", mapping.host_port, mapping.protocol))
        .because(format!("slirp4netns refused it: {reason}")))
}

/// One request of the API (slirp4netns(1), API SOCKET). The unspecified address is every address: IPv4 alone up to
/// version 1.2, both families from 1.3 on.
fn request(mapping: &PortMapping) -> String {
    let ip = mapping.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    // From 1.3 on "::" means both families, as 0.0.0.0 does; a digit after the protocol narrows it.
    let family = if ip.is_ipv6() { "6" } else { "" };
    serde_json::json!({
        "execute": "add_hostfwd",
        "arguments": {
            "proto": format!("{}{family}", mapping.protocol),
            "host_addr": ip.to_string(),
            "host_port": mapping.host_port,
            "guest_port": mapping.container_port,
        }
    })
    .to_string()
}

fn ask(folder: &Path, request: &str, timeout: Duration) -> io::Result<Vec<u8>> {
    let path = folder.join(API_SOCKET);
    let mut stream = if path.as_os_str().len() <= LONGEST_SOCKET_PATH {
        UnixStream::connect(path)?
    } else {
        let folder = File::open(folder)?;
        UnixStream::connect(format!("/proc/self/fd/{}/{API_SOCKET}", folder.as_raw_fd()))?
    };
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(request.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::super::{Mode, Protocol};
    use super::*;

    const EVERYTHING: &[&str] = &[
        "--ready-fd",
        "--disable-host-loopback",
        "--enable-ipv6",
        "--cidr",
        "--outbound-addr",
        "--outbound-addr6",
        "--macaddress",
        "--enable-sandbox",
        "--enable-seccomp",
        "--api-socket",
    ];
    const HOST: HostFacts = HostFacts { ipv6: true, resolv_conf_in_sandbox: true };
    const FDS: Descriptors = Descriptors { ready: 7, exit: 8 };

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>())
    }

    fn line(network: &Network, words: &[&str], has: &[&str], host: &HostFacts) -> Result<String> {
        let program = Program::with_options("/usr/bin/slirp4netns", has);
        Ok(arguments(network, &parse(words)?, &program, host, &FDS, 42)?.join(" "))
    }

    #[test]
    fn options_are_podmans() {
        assert_eq!(parse(&[]).expect("none"), Options::default());
        let options = parse(&[
            "allow_host_loopback=true",
            "mtu=1400",
            "cidr=192.168.64.0/20",
            "enable_ipv6=true",
            "outbound_addr=lo",
            "outbound_addr6=2001:db8::1",
            "port_handler=slirp4netns",
        ])
        .expect("all");
        assert!(options.allow_host_loopback && options.enable_ipv6);
        assert_eq!((options.mtu, options.cidr), (1400, (Ipv4Addr::new(192, 168, 64, 0), 20)));
        assert_eq!(options.address(), Some("192.168.64.100".parse().expect("ip")));
        assert_eq!(Options::default().gateway(), Some("10.0.2.2".parse().expect("ip")));
        for word in [
            "mtu=67",
            "mtu=65522",
            "mtu=x",
            "mtu",
            "allow_host_loopback=yes",
            "cidr=10.0.2.0",
            "cidr=10.0.2.0/26",
            "cidr=10.0.2.5/24",
            "cidr=fd00::/64",
            "cidr=0.0.0.0/0",
            "outbound_addr=../x",
            "outbound_addr=none0",
            "outbound_addr6=1.2.3.4",
            "port_handler=rootlesskit",
            "port_handler=x",
            "dns=1",
            "",
        ] {
            assert!(parse(&[word]).is_err(), "{word}");
        }
        assert!(parse(&["enable_ipv6=false", "outbound_addr6=::1"]).is_err());
    }

    #[test]
    fn the_command_line_is_closed_by_default() {
        let network = Network::private_slirp4netns();
        assert_eq!(
            line(&network, &[], EVERYTHING, &HOST).expect("arguments"),
            "--configure --mtu=65520 --ready-fd=7 --exit-fd=8 --disable-host-loopback --enable-ipv6 --enable-sandbox \
             --enable-seccomp 42 tap0"
        );
        let outside = HostFacts { ipv6: false, resolv_conf_in_sandbox: false };
        let open = line(&network, &["allow_host_loopback=true"], EVERYTHING, &outside).expect("arguments");
        assert!(!open.contains("loopback") && !open.contains("sandbox") && !open.contains("ipv6"), "{open}");
    }

    #[test]
    fn a_version_without_what_is_needed_is_refused() {
        let network = Network::private_slirp4netns();
        let error = line(&network, &[], &["--ready-fd"], &HOST).expect_err("open to the host");
        assert!(error.to_string().contains("--disable-host-loopback"), "{error}");
        let old = ["--ready-fd", "--disable-host-loopback"];
        assert!(line(&network, &[], &old, &HOST).is_ok());
        assert!(line(&network, &["cidr=10.9.0.0/16"], &old, &HOST).is_err());
        let mac = Network { mac_address: Some("02-42-ac-11-00-02".into()), ..Network::private_slirp4netns() };
        assert!(line(&mac, &[], &old, &HOST).is_err());
        assert!(line(&mac, &[], EVERYTHING, &HOST).expect("all").contains("--macaddress=02:42:ac:11:00:02"));
    }

    #[test]
    fn requests_name_every_address_or_one() {
        let mapping = |ip: Option<&str>| PortMapping {
            host_ip: ip.map(|ip| ip.parse().expect("ip")),
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Udp,
        };
        assert_eq!(
            request(&mapping(None)),
            r#"{"arguments":{"guest_port":80,"host_addr":"0.0.0.0","host_port":8080,"proto":"udp"},"execute":"add_hostfwd"}"#
        );
        assert!(request(&mapping(Some("127.0.0.1"))).contains(r#""host_addr":"127.0.0.1""#));
        assert!(request(&mapping(Some("::1"))).contains(r#""proto":"udp6""#));
        assert_eq!(Network::private_slirp4netns().mode, Mode::Slirp4netns(vec![]));
    }
}
