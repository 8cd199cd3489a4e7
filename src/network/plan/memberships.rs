//! The networks with names that a container is to be in, and the options that name one thing of the only one.

use super::Request;
use crate::error::{Error, Result};
use crate::network::bridge::Membership;
use crate::network::named::{Asked, NamedNetworks, put};

/// What was asked of each network, with `--ip`, `--ip6`, `--mac-address` and `--network-alias`.
///
/// # Errors
/// A network that is not there or cannot give what is asked, and options that one network alone can honour.
pub(super) fn all(
    asked: &[Asked],
    request: &Request,
    networks: &NamedNetworks,
    warnings: &mut Vec<String>,
) -> Result<Vec<Membership>> {
    let mut asked = asked.to_vec();
    match asked.as_mut_slice() {
        [only] => lay_over(only, request)?,
        _ => {
            if let Some(option) = options(request).next() {
                return Err(Error::new(format!("cannot use `{option}` with {} networks", asked.len()))
                    .because("it does not say which of them it is about")
                    .hint("write it to the network: `--network NAME:ip=…,ip6=…,mac=…,alias=…`"));
            }
        }
    }
    let mut memberships: Vec<Membership> = Vec::new();
    for one in &asked {
        let network = networks.to_join(&one.name)?;
        let membership = network.membership(one)?;
        if !network.dns && !membership.aliases.is_empty() {
            warnings.push(without_names(&membership));
        }
        if memberships.iter().any(|other| other.id == membership.id) {
            return Err(Error::new(format!("the network `{}` is there twice", membership.name)));
        }
        let taken = |other: &Membership| other.interface.is_some() && other.interface == membership.interface;
        if let Some(other) = memberships.iter().find(|other| taken(other)) {
            return Err(Error::new(format!(
                "the networks `{}` and `{}` cannot have the same name of an interface",
                other.name, membership.name
            )));
        }
        memberships.push(membership);
    }
    Ok(memberships)
}

/// podman-compose gives aliases in every network.
pub(crate) fn without_names(membership: &Membership) -> String {
    format!(
        "containers have no names in the network `{}`: nobody finds this one as `{}`",
        membership.name,
        membership.aliases.join("`, `")
    )
}

/// Refuses what only a network with a name can honour; `--mac-address` goes to the interface that a helper makes.
pub(super) fn check_none(request: &Request) -> Result<()> {
    match options(request).find(|option| *option != "--mac-address") {
        Some(option) => Err(Error::new(format!("cannot use `{option}`"))
            .because("the container is in no network that others can be in")
            .hint("`sbx network create NAME` makes one, and `--network NAME` is to be in it")),
        None => Ok(()),
    }
}

fn lay_over(asked: &mut Asked, request: &Request) -> Result<()> {
    let twice = |error: Error| error.while_doing(format!("cannot connect the container to `{}`", asked.name));
    let (mut ip, mut ip6, mut mac) = (asked.ip, asked.ip6, asked.mac_address);
    if let Some(asked) = request.ip {
        put(&mut ip, "--ip", asked).map_err(twice)?;
    }
    if let Some(asked) = request.ip6 {
        put(&mut ip6, "--ip6", asked).map_err(twice)?;
    }
    if let Some(text) = &request.mac_address {
        put(&mut mac, "--mac-address", text.parse()?).map_err(twice)?;
    }
    (asked.ip, asked.ip6, asked.mac_address) = (ip, ip6, mac);
    request.aliases.iter().try_for_each(|alias| asked.add_alias(alias))
}

/// The options that were given of those that are about one network.
fn options(request: &Request) -> impl Iterator<Item = &'static str> {
    let all = [
        ("--ip", request.ip.is_some()),
        ("--ip6", request.ip6.is_some()),
        ("--mac-address", request.mac_address.is_some()),
        ("--network-alias", !request.aliases.is_empty()),
    ];
    all.into_iter().filter(|(_, given)| *given).map(|(option, _)| option)
}
