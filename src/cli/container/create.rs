//! `sbx create`

use crate::cli::Global;
use crate::cli::container_options::ContainerOptions;
use crate::cli::creation;
use crate::error::Result;
use crate::events::{self, Action, Event};
use crate::output::print;

/// Make a container without starting it
///
/// Prints its ID. `sbx start` runs it; all options are those of `sbx run`.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    args_override_self = true,
    override_usage = "sbx create [OPTIONS] IMAGE [COMMAND [ARG...]]",
    after_help = "Examples:\n  \
        sbx create --name web -p 8080:80 nginx\n  \
        sbx start web\n  \
        sbx create -i --name build debian:12 bash"
)]
pub struct CreateArgs {
    #[command(flatten)]
    options: ContainerOptions,
    /// Tell nothing but errors.
    #[arg(short, long)]
    quiet: bool,
    /// Print help.
    #[arg(long, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    /// IMAGE, the command and its arguments; IMAGE is left out with `--rootfs` or `--rootfs-rw`.
    #[arg(trailing_var_arg = true, value_name = "WORD")]
    words: Vec<String>,
}

pub fn execute(args: CreateArgs, global: &Global) -> Result<u8> {
    if args.quiet {
        log::set_max_level(log::LevelFilter::Error);
    }
    let created = creation::create(&args.options, args.words, args.quiet, global)?;
    created.claim.release();
    let event = Event::container(Action::Create, &created.spec);
    events::record(created.store.root(), &created.runtime, event);
    print::line(&created.spec.id)?;
    Ok(0)
}
