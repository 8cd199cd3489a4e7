//! `sbx volume import`

use std::fs::File;

use super::Stores;
use crate::cli::Global;
use crate::cli::transfer::load::stdin;
use crate::error::{Result, Step};
use crate::volume::archive;

/// Put what a tar holds into a volume
///
/// Over what is there. The tar may be packed with gzip, zstd, xz or bzip2. The volume has to exist.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx volume import data data.tar.gz
  sbx volume export old | sbx volume import new -")]
pub struct ImportArgs {
    /// The volume
    #[arg(value_name = "NAME")]
    name: String,
    /// A file, or `-` for standard input
    #[arg(value_name = "FILE|-", default_value = "-")]
    source: String,
}

pub fn execute(args: &ImportArgs, global: &Global) -> Result<u8> {
    let mut file = match args.source.as_str() {
        "-" => stdin("cannot import an archive from a terminal")?,
        path => File::open(path).step(|| format!("cannot open `{path}`"))?,
    };
    archive::import(&Stores::of(global)?.containers, &args.name, &mut file)?;
    Ok(0)
}
