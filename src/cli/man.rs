//! `sbx man`: the manual pages, for users and packagers.

use std::path::{Path, PathBuf};

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
            write(&command, directory)?;
        }
        None => {
            print::bytes(&page(&clap_mangen::Man::new(command))?)?;
        }
    }
    Ok(0)
}

/// The pages of a command and of those below it.
fn write(command: &clap::Command, directory: &Path) -> Result<()> {
    let below = command.get_subcommands().filter(|command| !command.is_hide_set());
    below.into_iter().try_for_each(|command| write(command, directory))?;
    let man = clap_mangen::Man::new(command.clone());
    let path = directory.join(man.get_filename());
    std::fs::write(&path, page(&man)?).step(|| format!("cannot write `{}`", path.display()))
}

fn page(man: &clap_mangen::Man) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render(&mut page).step(|| "cannot write the manual page")?;
    // What is said after the options ends with examples everywhere.
    let text = String::from_utf8(page).step(|| "cannot write the manual page")?;
    Ok(text.replace("\n.SH EXTRA\n", "\n.SH EXAMPLES\n").into_bytes())
}

/// Without `sbx help` and its like: they would have a page for each command, with nothing in it.
fn without_help(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|verb| match verb.get_name() {
        "help" => verb.hide(true),
        _ => without_help(verb),
    })
}
