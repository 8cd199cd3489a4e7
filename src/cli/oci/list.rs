//! `sbx oci list`

use crate::error::{Result, Step};
use crate::oci::state::{Container, Root, Status};
use crate::output::print;
use crate::output::table::Table;

/// List the containers of this state directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci list
  sbx oci list --format json
  sbx oci list --quiet")]
pub struct ListArgs {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Print IDs alone
    #[arg(short, long)]
    quiet: bool,
}

pub fn execute(args: &ListArgs, root: &Root) -> Result<u8> {
    let containers = root.all();
    if args.quiet {
        for container in &containers {
            print::line(&container.state.id)?;
        }
        return Ok(0);
    }
    if args.format == "json" {
        let all: Vec<_> = containers.iter().map(super::state::document).collect();
        print::line(&serde_json::to_string(&all).step(|| "cannot write JSON")?)?;
        return Ok(0);
    }
    let mut table = Table::new(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    containers.iter().for_each(|container| table.push(row(container)));
    print::text(&table.render())?;
    Ok(0)
}

fn row(container: &Container) -> Vec<String> {
    let (state, status) = (&container.state, container.status());
    let pid = match status {
        Status::Stopped => 0,
        _ => state.init.map_or(0, |init| init.pid),
    };
    vec![
        state.id.clone(),
        pid.to_string(),
        status.name().to_owned(),
        state.bundle.display().to_string(),
        state.created.to_string(),
        super::state::owner(state.owner),
    ]
}
