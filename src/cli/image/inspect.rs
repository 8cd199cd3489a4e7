//! `sbx image inspect`

use crate::cli::Global;
use crate::cli::inspect::{self, Kind};
use crate::error::Result;

/// Show all that is known of images, as JSON
///
/// The fields are docker's, and podman's where docker has none; `RootFS` has the chain IDs, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx image inspect debian:12
  sbx image inspect -f '{{.Config.Cmd}} {{.Architecture}}' debian:12")]
pub struct ImageInspectArgs {
    /// Print `json`, or what a Go template makes of each image
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub fn execute_image(args: &ImageInspectArgs, global: &Global) -> Result<u8> {
    inspect::show(&args.images, Kind::Image, args.format.as_deref(), false, global)
}
