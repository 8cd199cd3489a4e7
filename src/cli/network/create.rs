//! `sbx network create`

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{networks, record};
use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::dialect::{self, Dialect};
use crate::container::name;
use crate::error::{Error, Result};
use crate::events::Action;
use crate::network::named::{DRIVER, DriverOptions, Made, Request, check_interface};
use crate::output::print;

/// Make a network
///
/// Its name is printed. Containers in it reach each other by name; those of two networks do not reach each other.
/// Addresses are chosen that no other network has and that the host has no route to.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Options of the driver (`--opt NAME=VALUE`): mtu=BYTES; isolate=false, to reach other networks \
that want it, too; allow_host_loopback=true, to reach the host's own loopback interface as host.containers.internal.

Examples:
  sbx network create shop
  sbx network create --internal --subnet 10.91.0.0/24 back
  sbx network create --ipv6 --opt mtu=1400 --label app=shop --ignore shop
  sbx run -d --network shop --name web -p 127.0.0.1:8080:80 nginx"
)]
pub struct CreateArgs {
    /// The kind of network: bridge
    #[arg(short, long, value_name = "DRIVER", default_value = DRIVER)]
    driver: String,
    /// Its addresses, one range of IPv4 and one of IPv6 at most; default: a free one of IPv4
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    subnet: Vec<IpNet>,
    /// The address of the bridge; default: the first of the subnet
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// Give containers addresses from this part of the subnet: a CIDR, or FIRST-LAST
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// Give no container this address
    #[arg(long, value_name = "NAME=IP", value_delimiter = ',')]
    aux_address: Vec<String>,
    /// Give it IPv6 addresses, too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    ipv6: bool,
    /// Reach nothing outside of it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    internal: bool,
    /// Ask this server for names that are none of its containers'
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    dns: Vec<IpAddr>,
    /// Give its containers no names
    #[arg(long)]
    disable_dns: bool,
    /// Set an option of the driver
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Name the bridge; default: sbx0, sbx1 and so on
    #[arg(long, value_name = "NAME")]
    interface_name: Option<String>,
    /// Set a label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Be content with a network of that name
    #[arg(long)]
    ignore: bool,
    #[command(flatten)]
    others: OtherArgs,
    /// Name of the network; default: a random one
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// What is so anyway, or known and refused with the reason.
#[derive(Debug, clap::Args)]
struct OtherArgs {
    #[arg(long, hide = true)]
    attachable: bool,
    #[arg(long, hide = true)]
    config_from: Option<String>,
    #[arg(long, hide = true)]
    config_only: bool,
    #[arg(long, hide = true)]
    ingress: bool,
    #[arg(long, hide = true)]
    ipam_driver: Option<String>,
    #[arg(long, hide = true)]
    ipam_opt: Vec<String>,
    #[arg(long, hide = true)]
    ipv4: Option<String>,
    #[arg(long, hide = true)]
    route: Vec<String>,
    #[arg(long, hide = true)]
    scope: Option<String>,
}

const SWARM: &str = "swarms of several machines need daemons, and there are none";

impl OtherArgs {
    fn check(&self) -> Result<()> {
        let refused =
            |option: &str, reason: &str| Err(Error::new(format!("cannot use `{option}`")).because(reason));
        match self.ipam_driver.as_deref() {
            None | Some("default" | "host-local") => {}
            Some("dhcp") => {
                return refused(
                    "--ipam-driver dhcp",
                    "the bridge is not on the host's network, where a DHCP server is",
                );
            }
            Some("none") => {
                return refused("--ipam-driver none", "containers without an address are reached by nobody")
                    .map_err(|error: Error| error.hint("`--network none` is to be in no network"));
            }
            Some(other) => {
                let option = format!("--ipam-driver {}", other.escape_debug());
                return refused(&option, "there are: host-local, default");
            }
        }
        match self.scope.as_deref() {
            None | Some("local") => {}
            Some(_) => return refused("--scope", SWARM),
        }
        if self.ingress {
            return refused("--ingress", SWARM);
        }
        if self.config_only || self.config_from.is_some() {
            return refused(
                "--config-only and --config-from",
                "they are for the driver macvlan, which needs root",
            );
        }
        if !self.ipam_opt.is_empty() {
            return refused("--ipam-opt", "what gives out the addresses has no options");
        }
        if !self.route.is_empty() {
            return refused("--route", "there is one way out of a network: by its gateway");
        }
        match self.ipv4.as_deref() {
            None | Some("true") => Ok(()),
            Some(_) => {
                refused("--ipv4", "a network has IPv4 addresses unless only one of IPv6 is its subnet")
                    .map_err(|error: Error| {
                        error.hint("write `--subnet fd12:3456:789a::/64`, without `--ipv6`")
                    })
            }
        }
    }
}

pub fn execute(args: &CreateArgs, global: &Global) -> Result<u8> {
    let name = args.name.clone().map_or_else(name::random, Ok)?;
    let what = format!("cannot make the network `{}`", name.escape_debug());
    let request = request(args, &name).map_err(|error| error.while_doing(what.clone()))?;
    let place = Place::of(global)?;
    crate::host::paths::create_store(place.store.root())?;
    let shown = match networks(&place).create(&request)? {
        Some(Made { network, warnings }) => {
            for warning in &warnings {
                log::warn!("{warning}");
            }
            record(&place, Action::Create, &network);
            if dialect::current() == Dialect::Docker { network.id } else { name }
        }
        None if args.ignore => name,
        None => {
            return Err(Error::new(what)
                .because("the name is in use")
                .hint("`--ignore` takes the one that there is"));
        }
    };
    print::line(&shown)?;
    Ok(0)
}

fn request(args: &CreateArgs, name: &str) -> Result<Request> {
    check_driver(&args.driver)?;
    args.others.check()?;
    if let Some(name) = &args.interface_name {
        check_interface(name)?;
    }
    if name == "podman" && dialect::current() == Dialect::Podman {
        return Err(Error::new("the name is that of the network that is always there"));
    }
    Ok(Request {
        name: name.to_owned(),
        labels: labels(&args.label)?,
        subnets: args.subnet.clone(),
        gateways: args.gateway.clone(),
        ranges: args.ip_range.iter().map(|text| range(text)).collect::<Result<_>>()?,
        reserved: reserved(&args.aux_address)?,
        ipv6: args.ipv6,
        internal: args.internal,
        dns: !args.disable_dns,
        dns_servers: args.dns.clone(),
        options: DriverOptions::parse(&args.opt)?,
        interface: args.interface_name.clone(),
    })
}

fn check_driver(driver: &str) -> Result<()> {
    let wrong =
        |cause: &str| Error::new(format!("cannot use the driver `{}`", driver.escape_debug())).because(cause);
    match driver {
        DRIVER => Ok(()),
        "macvlan" | "ipvlan" => Err(wrong(
            "it puts an interface onto one of the host's, which the kernel lets only the host's root do",
        )
        .hint(
            "`--network pasta` gives a container the host's addresses; `-p` publishes ports of any network",
        )),
        "host" | "none" | "null" => {
            let mode = if driver == "host" { "host" } else { "none" };
            Err(wrong("there is one network of that kind, and it is always there")
                .hint(format!("`sbx run --network {mode}` is to be in it")))
        }
        "overlay" => Err(wrong(SWARM).hint("`--driver bridge` connects the containers of this machine")),
        _ => {
            Err(wrong("there is no such driver: those of other programs are not loaded")
                .hint("there is: bridge"))
        }
    }
}

/// First and last address of `10.0.0.8/29` or `10.0.0.8-10.0.0.15`.
fn range(text: &str) -> Result<(IpAddr, IpAddr)> {
    let ends = match text.split_once('-') {
        Some((first, last)) => first.parse().ok().zip(last.parse().ok()),
        None => text.parse::<IpNet>().ok().map(|net| match net.trunc() {
            IpNet::V4(net) => (net.network().into(), net.broadcast().into()),
            IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
        }),
    };
    ends.ok_or_else(|| {
        Error::new(format!("cannot use `--ip-range {}`", text.escape_debug()))
            .hint("write `10.91.0.128/25` or `10.91.0.10-10.91.0.20`")
    })
}

fn reserved(texts: &[String]) -> Result<BTreeMap<String, IpAddr>> {
    let mut reserved = BTreeMap::new();
    for text in texts {
        let pair = text.split_once('=').and_then(|(name, ip)| Some((name, ip.parse().ok()?)));
        let Some((name, ip)) = pair.filter(|(name, _)| !name.is_empty()) else {
            return Err(Error::new(format!("cannot use `--aux-address {}`", text.escape_debug()))
                .hint("write NAME=IP, such as `router=10.91.0.5`"));
        };
        reserved.insert(name.to_owned(), ip);
    }
    Ok(reserved)
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(Error::new(format!("cannot use `--label {text}`")).hint("write KEY=VALUE")),
        (key, value) => Ok((key.to_owned(), value.to_owned())),
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let ends = |text| range(text).map(|(first, last)| format!("{first} {last}"));
        assert_eq!(ends("10.91.0.128/25").unwrap(), "10.91.0.128 10.91.0.255");
        assert_eq!(ends("10.91.0.10-10.91.0.20").unwrap(), "10.91.0.10 10.91.0.20");
        assert_eq!(ends("fd00::/126").unwrap(), "fd00:: fd00::3");
        for bad in ["", "10.91.0.1", "10.91.0.1-", "a-b", "10.91.0.0/33"] {
            assert!(ends(bad).is_err(), "{bad}");
        }
    }
}
