//! `sbx generate`

pub mod systemd;

use clap::Subcommand;

use crate::cli::Global;
use crate::error::Result;

/// Write files for other programs
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sbx generate systemd --name --files web"
)]
pub struct GenerateArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Systemd(systemd::SystemdArgs),
}

pub fn execute(args: GenerateArgs, global: &Global) -> Result<u8> {
    match args.verb {
        Verb::Systemd(args) => systemd::execute(&args, global),
    }
}
