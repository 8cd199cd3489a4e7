//! `sbx bundle`

use std::path::PathBuf;

use crate::cli::Global;
use crate::cli::transfer::options::registry_name;
use crate::container::store::Store;
use crate::error::{Error, Result};
use crate::host::paths;
use crate::image::BUILT_IN;
use crate::image::platform::Wanted;
use crate::image::resolve;
use crate::image::transfer::ensure::Policy;
use crate::oci::bundle::{self, Kind};

/// Write an OCI bundle of an image: a directory that `sbx oci`, runc and crun run
///
/// It is for the user who makes it: the IDs are those of this user's containers. The files of the image are copied.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx bundle debian:12 ./debian
  sbx bundle --read-only alpine ./alpine
  sbx oci run --bundle ./debian test
  srun --container=$PWD/debian hostname")]
pub struct BundleArgs {
    /// What the container changes is refused
    #[arg(long, conflicts_with = "overlay")]
    read_only: bool,
    /// What the container changes goes to the directory `upper` of the bundle, and the image stays as it is
    #[arg(long)]
    overlay: bool,
    /// Tell of no progress
    #[arg(short, long)]
    quiet: bool,
    /// A name or ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The bundle, which is made
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub fn execute(args: &BundleArgs, global: &Global) -> Result<u8> {
    if args.image == BUILT_IN {
        return Err(Error::new("cannot make a bundle of the image `host`")
            .because("it is made of this machine's own directories each time"));
    }
    let surroundings = paths::Surroundings::current();
    let store = Store::new(paths::store(global.root.as_deref(), &surroundings)?);
    paths::create_store(store.root())?;
    let request = resolve::Request {
        name: &registry_name(&args.image)?,
        pull: Policy::Missing,
        platform: Wanted::host(),
        registry: crate::registry::Options::default(),
        tier: None,
        quiet: args.quiet,
    };
    let image = resolve::resolve(store.root(), &request)?;
    let kind = match (args.read_only, args.overlay) {
        (true, _) => Kind::ReadOnly,
        (_, true) => Kind::Overlay,
        _ => Kind::Writable,
    };
    bundle::make(store.root(), &image, &args.directory, kind)?;
    Ok(0)
}
