//! `sbx load`

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::cli::Global;
use crate::cli::transfer::options::{PlatformOptions, TierOption};
use crate::error::{Error, Result, Step};
use crate::events::{self, Action, Event};
use crate::image::reference::Reference;
use crate::image::transfer::load::{self, Input};
use crate::output::print;

/// Load images from an archive
///
/// Archives of `save` of docker, podman and sbx, OCI archives and OCI layouts are recognised by their content,
/// packed with gzip, zstd, xz or bzip2 or not at all. Without `--input` the archive is read from standard input.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx load -i image.tar
  ssh host docker save tool:1 | sbx load
  sbx load -i ./oci-layout-directory")]
pub struct LoadArgs {
    /// Read this file or directory
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Print nothing but what was loaded
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    platform: PlatformOptions,
    #[command(flatten)]
    tier: TierOption,
}

pub fn execute(args: &LoadArgs, global: &Global) -> Result<u8> {
    let wanted = args.platform.resolve()?;
    let input = match &args.input {
        Some(path) if path.as_os_str() != "-" => Input::open(path)?,
        _ => Input::Archive(stdin("cannot load an archive from a terminal")?),
    };
    let place = super::place(global, args.tier)?;
    let what =
        args.input.as_ref().map_or("standard input".to_owned(), |path| format!("`{}`", path.display()));
    load::load(&place, input, &wanted, args.quiet, |loaded| {
        let name = loaded.names.first().map(String::as_str).unwrap_or_default();
        events::record_here(&place.store, Event::image(Action::Load, &loaded.id, name));
        for name in &loaded.names {
            print::line(&format!("Loaded image: {}", Reference::parse(name)?.familiar()))?;
        }
        if loaded.names.is_empty() {
            print::line(&format!("Loaded image ID: {}", loaded.id))?;
        }
        Ok(())
    })
    .map_err(|error| error.while_doing(format!("cannot load from {what}")))?;
    Ok(0)
}

/// Standard input, unless nobody means it.
pub(crate) fn stdin(refused: &str) -> Result<std::fs::File> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::new(refused).hint("name a file, or lead a pipe here"));
    }
    let owned = std::os::fd::AsFd::as_fd(&stdin).try_clone_to_owned();
    owned.map(std::fs::File::from).step(|| "cannot read standard input")
}
