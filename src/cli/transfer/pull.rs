//! `sbx pull`

use crate::cli::Global;
use crate::cli::transfer::options::{
    PlatformOptions, RegistryOptions, TierOption, TrustOption, registry_name,
};
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use crate::image::transfer::{Policy, ensure, pull};
use crate::output::print;

/// Fetch images from registries
///
/// Each image is unpacked while it is fetched. What is in the store already is not fetched again, and a fetch
/// that was interrupted goes on where it ended. The whole name of each image is printed once it is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pull debian:12
  sbx pull --platform linux/arm64 quay.io/fedora/fedora
  sbx pull -q localhost:5000/tool@sha256:…
  sbx pull --all-tags localhost:5000/tool")]
pub struct PullArgs {
    /// Fetch every tag of the repository
    #[arg(short, long, conflicts_with = "policy")]
    all_tags: bool,
    /// Print nothing but names
    #[arg(short, long)]
    quiet: bool,
    /// When the registry is asked: always, for what is missing, never, or always but without need (newer)
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Policy::Always, hide_possible_values = true)]
    policy: Policy,
    #[command(flatten)]
    platform: PlatformOptions,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    tier: TierOption,
    #[command(flatten)]
    trust: TrustOption,
    /// Names, as in `debian:12`
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub fn execute(args: &PullArgs, global: &Global) -> Result<u8> {
    args.trust.check()?;
    let options = ensure::Options {
        platform: args.platform.resolve()?,
        registry: args.registry.resolve()?,
        quiet: args.quiet,
    };
    let images = args.images.iter().map(|text| checked(text, args.all_tags)).collect::<Result<Vec<_>>>()?;
    let place = super::place(global, args.tier)?;
    if args.policy == Policy::Always {
        pull::all(&place, &images, args.all_tags, &options, |pulled| print::line(&pulled.name).map(|_| ()))?;
        return Ok(0);
    }
    for text in &images {
        let image = ensure::ensure(&place, text, args.policy, &options)?;
        let named = |name: &&Reference| name.familiar() == *text || name.to_string() == *text;
        let name = image.names.iter().find(named).or(image.names.first());
        print::line(&name.map_or_else(|| image.id.to_string(), Reference::to_string))?;
    }
    Ok(0)
}

fn checked(text: &str, all_tags: bool) -> Result<String> {
    let name = registry_name(text)?;
    let reference = Reference::parse(&name)?;
    if all_tags && (reference.tag.is_some() || reference.digest.is_some()) {
        return Err(Error::new(format!("cannot pull all tags of `{text}`"))
            .because("it names one tag or digest")
            .hint(format!("leave that out: `{}`", reference.familiar_repository())));
    }
    Ok(name)
}
