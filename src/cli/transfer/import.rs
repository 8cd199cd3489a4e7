//! `sbx import`

use std::fs::File;

use crate::cli::Global;
use crate::cli::transfer::load::stdin;
use crate::cli::transfer::options::{PlatformOptions, TierOption};
use crate::error::{Error, Result, Step};
use crate::events::{self, Action, Event};
use crate::image::reference::Reference;
use crate::image::transfer::import::{self, Input, Options};
use crate::output::print;

/// Make an image of a root file system
///
/// The tar, packed with gzip, zstd, xz or bzip2 or not at all, becomes an image of one layer. Its ID is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx import rootfs.tar.gz base:latest
  mmdebstrap stable - | sbx import - debian:stable
  sbx import -c 'CMD [\"/bin/sh\"]' -c 'ENV LANG=C.UTF-8' -m 'from the build server' rootfs.tar tool")]
pub struct ImportArgs {
    /// Apply an instruction of a Dockerfile to the configuration: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK,
    /// LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Say this in the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Print nothing but the ID
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    platform: PlatformOptions,
    #[command(flatten)]
    tier: TierOption,
    /// A file, a URL, or `-` for standard input
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// The image's name; without one it has none but its ID
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub fn execute(args: ImportArgs, global: &Global) -> Result<u8> {
    let ImportArgs { change, message, quiet, platform, tier, source, name } = args;
    let name = name.map(|text| Reference::parse(&text).map(Reference::or_latest)).transpose()?;
    if let Some(name) = name.as_ref().filter(|name| name.digest.is_some()) {
        return Err(Error::new(format!("cannot give an image the name `{name}`"))
            .because("a digest is not given, it follows from the content"));
    }
    let platform = platform.resolve()?;
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let file = match source.as_str() {
        "-" => Some(stdin("cannot import an archive from a terminal")?),
        _ if is_url => None,
        path => Some(File::open(path).step(|| format!("cannot open `{path}`"))?),
    };
    if file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|metadata| metadata.is_dir())) {
        return Err(Error::new(format!("cannot import `{source}`")).because("it is a directory").hint(
            format!("pack it: `tar -C {source} -c . | sbx import - NAME`; `sbx load` takes OCI layouts"),
        ));
    }
    let place = super::place(global, tier)?;
    let options = Options { name, changes: change, message, platform, quiet, from: source.clone() };
    let id = import::import(&place, &options, || match file {
        Some(file) => Ok(Input::File(file)),
        None => crate::registry::download::download(&source).map(Input::Stream),
    })?;
    let name = options.name.as_ref().map(ToString::to_string).unwrap_or_default();
    events::record_here(&place.store, Event::image(Action::Import, &id, name));
    print::line(id.as_str())?;
    Ok(0)
}
