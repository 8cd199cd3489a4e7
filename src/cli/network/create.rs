//! `sbx network create`

use std::collections::BTreeMap;

use super::{networks, record, refused};
use crate::cli::Global;
use crate::cli::container::Place;
use crate::container::name;
use crate::error::{Error, Result};
use crate::events::Action;
use crate::network::BRIDGES;
use crate::network::named::DRIVER;
use crate::output::print;

/// Make a network
///
/// Its name is printed. Each container in it has a private network of its own: they do not reach each other by name or
/// address yet, only by published ports of the host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx network create shop
  sbx network create --label app=shop --ignore shop
  sbx run -d --network shop -p 127.0.0.1:8080:80 nginx")]
pub struct CreateArgs {
    /// The kind of network: bridge
    #[arg(short, long, value_name = "DRIVER", default_value = DRIVER)]
    driver: String,
    /// Set a label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Be content with a network of that name
    #[arg(long)]
    ignore: bool,
    #[command(flatten)]
    bridge: BridgeArgs,
    /// Name of the network; default: a random one
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// What only a bridge can do: known, and refused with the reason.
#[derive(Debug, clap::Args)]
struct BridgeArgs {
    #[arg(long, hide = true)]
    attachable: bool,
    #[arg(long, hide = true)]
    aux_address: Vec<String>,
    #[arg(long, hide = true)]
    config_from: Option<String>,
    #[arg(long, hide = true)]
    config_only: bool,
    #[arg(long, hide = true)]
    disable_dns: bool,
    #[arg(long, hide = true)]
    dns: Vec<String>,
    #[arg(long, hide = true)]
    gateway: Vec<String>,
    #[arg(long, hide = true)]
    ingress: bool,
    #[arg(long, hide = true)]
    interface_name: Option<String>,
    #[arg(long, hide = true)]
    internal: bool,
    #[arg(long, hide = true)]
    ip_range: Vec<String>,
    #[arg(long, hide = true)]
    ipam_driver: Option<String>,
    #[arg(long, hide = true)]
    ipam_opt: Vec<String>,
    #[arg(long, hide = true)]
    ipv6: bool,
    #[arg(short, long, hide = true)]
    opt: Vec<String>,
    #[arg(long, hide = true)]
    route: Vec<String>,
    #[arg(long, hide = true)]
    scope: Option<String>,
    #[arg(long, hide = true)]
    subnet: Vec<String>,
}

impl BridgeArgs {
    fn asked(&self) -> Option<&'static str> {
        let all = [
            ("--attachable", self.attachable),
            ("--aux-address", !self.aux_address.is_empty()),
            ("--config-from", self.config_from.is_some()),
            ("--config-only", self.config_only),
            ("--disable-dns", self.disable_dns),
            ("--dns", !self.dns.is_empty()),
            ("--gateway", !self.gateway.is_empty()),
            ("--ingress", self.ingress),
            ("--interface-name", self.interface_name.is_some()),
            ("--internal", self.internal),
            ("--ip-range", !self.ip_range.is_empty()),
            ("--ipam-driver", self.ipam_driver.is_some()),
            ("--ipam-opt", !self.ipam_opt.is_empty()),
            ("--ipv6", self.ipv6),
            ("--opt", !self.opt.is_empty()),
            ("--route", !self.route.is_empty()),
            ("--scope", self.scope.is_some()),
            ("--subnet", !self.subnet.is_empty()),
        ];
        all.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }
}

pub fn execute(args: &CreateArgs, global: &Global) -> Result<u8> {
    let CreateArgs { driver, label, ignore, bridge, name } = args;
    let name = name.clone().map_or_else(name::random, Ok)?;
    let what = format!("make the network `{}`", name.escape_debug());
    if let Some(option) = bridge.asked() {
        return Err(refused(&format!("{what} with `{option}`")));
    }
    if driver != DRIVER {
        return Err(Error::new(format!("cannot {what} with the driver `{}`", driver.escape_debug()))
            .because(BRIDGES)
            .hint(format!(
                "leave `--driver` out: a network without a bridge is of the driver `{DRIVER}`, too"
            )));
    }
    let labels = labels(label)?;
    let place = Place::of(global)?;
    crate::host::paths::create_store(place.store.root())?;
    match networks(&place).create(&name, labels)? {
        Some(network) => {
            record(&place, Action::Create, &network);
        }
        None if *ignore => {}
        None => {
            return Err(Error::new(format!("cannot {what}"))
                .because("the name is in use")
                .hint("`--ignore` takes the one that there is"));
        }
    }
    print::line(&name)?;
    Ok(0)
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(Error::new(format!("cannot use `--label {text}`")).hint("write KEY=VALUE")),
        (key, value) => Ok((key.to_owned(), value.to_owned())),
    };
    texts.iter().map(pair).collect()
}
