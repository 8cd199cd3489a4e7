//! `sbx man`: the manual pages, for users and packagers.

use std::path::PathBuf;

use crate::error::{Result, Step};
use crate::output::print;

/// Write the manual pages into a directory, or print the one of `sbx`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sbx man | man -l -\n  \
    sbx man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Where one page for each command goes; made where it is missing.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub fn execute(args: &ManArgs) -> Result<u8> {
    let command = without_help(super::command());
    match &args.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory).step(|| format!("cannot make `{}`", directory.display()))?;
            clap_mangen::generate_to(command, directory)
                .step(|| format!("cannot write manual pages into `{}`", directory.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).step(|| "cannot write the manual page")?;
            print::bytes(&page)?;
        }
    }
    Ok(0)
}

/// Without `sbx help` and its like: they would have a page for each command, with nothing in it.
fn without_help(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|verb| match verb.get_name() {
        "help" => verb.hide(true),
        _ => without_help(verb),
    })
}
