//! `sbx network connect`, `disconnect` and `reload`

use std::net::{Ipv4Addr, Ipv6Addr};

use super::event;
use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::{Selection, each};
use crate::container::connection::{self, When};
use crate::error::{Error, Result};
use crate::events::{self, Action};
use crate::network::mac::MacAddress;
use crate::network::named::Asked;
use crate::network::without_names;

/// Put a container into a network, also while it runs
///
/// It gets another interface there, and stays in its other networks. The network stays the container's when it is
/// started again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network connect shop web
  sbx network connect --alias www --ip 10.91.0.7 back web")]
pub struct ConnectArgs {
    /// Another name of the container in the network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Its IPv4 address there
    #[arg(long, value_name = "IP")]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address there
    #[arg(long, value_name = "IP")]
    ip6: Option<Ipv6Addr>,
    /// MAC address of its interface there
    #[arg(long, value_name = "MAC")]
    mac_address: Option<MacAddress>,
    /// Known, and refused with the reason.
    #[arg(long, hide = true)]
    link: Vec<String>,
    #[arg(long, hide = true)]
    link_local_ip: Vec<String>,
    #[arg(long, hide = true)]
    driver_opt: Vec<String>,
    #[arg(long, hide = true)]
    gw_priority: Option<String>,
    /// Name or ID
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Take a container out of a network, also while it runs
///
/// Out of its last one, too: it has nothing but loopback then.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network disconnect shop web")]
pub struct DisconnectArgs {
    /// Also where the network cannot be found any more, or cannot be reached
    #[arg(short, long)]
    force: bool,
    /// Name or ID
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Set up the networks of containers again
///
/// Interfaces, names and published ports of those that run and are in bridge networks. Nothing needs that as long as
/// nobody changes the namespace of the bridges by hand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network reload web
  sbx network reload --all")]
pub struct ReloadArgs {
    #[command(flatten)]
    selection: Selection,
}

impl ConnectArgs {
    fn check(&self) -> Result<()> {
        let given = [
            (
                "--link",
                !self.link.is_empty(),
                "names in a network are everybody's: `--alias` gives one to the container",
            ),
            (
                "--link-local-ip",
                !self.link_local_ip.is_empty(),
                "the interface has the addresses of the network alone",
            ),
            ("--driver-opt", !self.driver_opt.is_empty(), "the driver has no options for one container"),
            (
                "--gw-priority",
                self.gw_priority.is_some(),
                "the first network that is not internal gives the default route",
            ),
        ];
        match given.iter().find(|(_, given, _)| *given) {
            Some((option, _, reason)) => Err(Error::new(format!("cannot use `{option}`")).because(reason)),
            None => Ok(()),
        }
    }
}

pub fn connect(args: &ConnectArgs, global: &Global) -> Result<u8> {
    args.check()?;
    let place = Place::of(global)?;
    let failed =
        || format!("cannot connect container `{}` to the network `{}`", args.container, args.network);
    let mut asked =
        Asked { ip: args.ip, ip6: args.ip6, mac_address: args.mac_address, ..Asked::named(&args.network) };
    args.alias.iter().try_for_each(|alias| asked.add_alias(alias))?;
    let id = place.store.find(&args.container).map_err(|error| error.while_doing(failed()))?;
    let network = super::made(&args.network, &place).map_err(|error| error.while_doing(failed()))?;
    let when = connection::connect(&place.store, &place.runtime, &id, &network, &asked)
        .map_err(|error| error.while_doing(failed()))?;
    if !network.dns && !asked.aliases.is_empty() {
        log::warn!("{}", without_names(&network.membership(&asked)?));
    }
    say(when, &args.container);
    // Else the monitor has told of it.
    if when != When::Now {
        let event = event(Action::Connect, &network).with("container", &id);
        events::record(place.store.root(), &place.runtime, event);
    }
    Ok(0)
}

pub fn disconnect(args: &DisconnectArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let failed =
        || format!("cannot disconnect container `{}` from the network `{}`", args.container, args.network);
    let id = place.store.find(&args.container).map_err(|error| error.while_doing(failed()))?;
    let network = match super::made(&args.network, &place) {
        Ok(network) => Some(network),
        Err(_) if args.force => None,
        Err(error) => return Err(error.while_doing(failed())),
    };
    let word = network.as_ref().map_or(args.network.as_str(), |network| &network.id);
    let (left, when) = connection::disconnect(&place.store, &place.runtime, &id, word, args.force)
        .map_err(|error| error.while_doing(failed()))?;
    say(when, &args.container);
    if when != When::Now {
        let event = events::Event::new(events::Kind::Network, Action::Disconnect, left.id, left.name);
        events::record(place.store.root(), &place.runtime, event.with("container", &id));
    }
    Ok(0)
}

pub fn reload(args: &ReloadArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let bridged = |id: &str| place.store.record_of(id).is_some_and(|record| record.bridged);
    let chosen = args.selection.resolve(&place, |found| found.status.is_up() && bridged(&found.id))?;
    each(&chosen, &place, "set up the networks of", |id, _| {
        connection::reload(&place.store, &place.runtime, id)
    })
}

fn say(when: When, container: &str) {
    if when == When::NextStartThoughItRuns {
        log::warn!(
            "container `{container}` was started where no bridge reaches it: the change takes place when it is started again, \
             as with `sbx restart`"
        );
    }
}
