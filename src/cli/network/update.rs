//! `sbx network update`

use std::net::IpAddr;

use super::made;
use crate::cli::Global;
use crate::cli::container::Place;
use crate::error::{Error, Result};
use crate::network::named;
use crate::output::print;

/// Change the name servers of a network
///
/// They are asked for names that are none of its containers'. No container may run in it meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network update --dns-add 192.0.2.53 shop
  sbx network update --dns-drop 192.0.2.53 shop")]
pub struct UpdateArgs {
    /// Ask this server, too
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    dns_add: Vec<IpAddr>,
    /// Do not ask this server any more
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    dns_drop: Vec<IpAddr>,
    /// Name or ID
    #[arg(value_name = "NETWORK")]
    network: String,
}

pub fn execute(args: &UpdateArgs, global: &Global) -> Result<u8> {
    if args.dns_add.is_empty() && args.dns_drop.is_empty() {
        return Err(Error::new("cannot update a network")
            .because("nothing was named that is to change")
            .hint("there are: `--dns-add IP` and `--dns-drop IP`"));
    }
    let place = Place::of(global)?;
    let network = made(&args.network, &place)?;
    named::update_servers(&place.store, &network, &args.dns_add, &args.dns_drop)?;
    print::line(&network.name)?;
    Ok(0)
}
