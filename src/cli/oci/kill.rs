//! `sbx oci kill`

use crate::container::signal;
use crate::error::Result;
use crate::oci;
use crate::oci::state::Root;

/// Send a signal to the first process of a container
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci kill web
  sbx oci kill web KILL
  sbx oci kill --all web 9")]
pub struct KillArgs {
    /// To all its processes
    #[arg(short, long)]
    all: bool,
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
    /// Name or number of the signal
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    signal: String,
}

pub fn execute(args: &KillArgs, root: &Root) -> Result<u8> {
    // kill(2): it asks whether there is somebody.
    let signal = if args.signal == "0" { 0 } else { signal::parse("SIGNAL", &args.signal)? };
    oci::signal::send(&root.find(&args.id)?, signal, args.all)?;
    Ok(0)
}
