//! `sbx port`

use std::net::IpAddr;

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::failures::MISSING;
use crate::container::list;
use crate::container::spec::Spec;
use crate::container::store::short;
use crate::error::{Error, Result};
use crate::network::{PortMapping, exposed};
use crate::output::print;

/// Show where the ports of a container are on the host
///
/// With PORT where that one is; the exit code is 1 where it is not published.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx port web
  sbx port web 80
  sbx port --all")]
pub struct PortArgs {
    /// All containers that run
    #[arg(short, long, conflicts_with_all = ["container", "latest"])]
    all: bool,
    /// The container that was made last
    #[arg(short, long)]
    latest: bool,
    /// Name, ID or the beginning of an ID
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest"])]
    container: Option<String>,
    /// A port of the container, `PORT[/tcp|/udp]`
    #[arg(value_name = "PORT")]
    port: Option<String>,
}

pub fn execute(args: &PortArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    if args.all {
        let running = list::all(&place.store).into_iter().filter(|found| found.status.is_up());
        let lines = running.filter_map(|found| found.spec).flat_map(|spec| {
            let lines = lines(&spec).into_iter();
            lines.map(move |line| format!("{}\t{line}\n", short(&spec.id))).collect::<Vec<_>>()
        });
        print::text(&lines.collect::<String>())?;
        return Ok(0);
    }
    // With `--latest` the one word there is means the port.
    let (id, port) = match (args.latest, &args.container) {
        (true, port) => {
            let latest = list::all(&place.store).into_iter().next();
            (latest.ok_or_else(|| Error::new("there is no container"))?.id, port)
        }
        (false, word) => (place.store.find(word.as_deref().unwrap_or_default())?, &args.port),
    };
    let spec = place.store.read_spec(&id)?;
    let Some(port) = port else {
        print::text(&lines(&spec).into_iter().map(|line| line + "\n").collect::<String>())?;
        return Ok(0);
    };
    let wanted =
        exposed::parse(port).ok().and_then(|ports| <[String; 1]>::try_from(ports).ok()).ok_or_else(|| {
            Error::new(format!("cannot use `{}` as a port", port.escape_debug()))
                .hint("write `PORT[/tcp|/udp]`, such as `80`")
        })?;
    let found: String = sorted(&spec)
        .filter(|mapping| inside(mapping) == wanted[0])
        .map(|mapping| outside(mapping) + "\n")
        .collect();
    if found.is_empty() {
        return Err(Error::new(format!("no public port '{}' published for {}", wanted[0], spec.name))
            .exit_code(MISSING));
    }
    print::text(&found)?;
    Ok(0)
}

fn lines(spec: &Spec) -> Vec<String> {
    sorted(spec).map(|mapping| format!("{} -> {}", inside(mapping), outside(mapping))).collect()
}

fn sorted(spec: &Spec) -> impl Iterator<Item = &PortMapping> {
    let mut mappings: Vec<&PortMapping> = spec.network.ports.iter().collect();
    mappings.sort_by_key(|mapping| (mapping.container_port, mapping.protocol.to_string(), mapping.host_port));
    mappings.into_iter()
}

fn inside(mapping: &PortMapping) -> String {
    format!("{}/{}", mapping.container_port, mapping.protocol)
}

fn outside(mapping: &PortMapping) -> String {
    match mapping.host_ip {
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{}", mapping.host_port),
        Some(ip) => format!("{ip}:{}", mapping.host_port),
        None => format!("0.0.0.0:{}", mapping.host_port),
    }
}
