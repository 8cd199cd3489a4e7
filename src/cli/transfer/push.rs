//! `sbx push`

use std::path::PathBuf;

use crate::cli::Global;
use crate::cli::transfer::options::{RegistryOptions, TrustOption, registry_name};
use crate::container::store::no_room;
use crate::error::{Error, Result};
use crate::events::{self, Action, Event};
use crate::host::paths;
use crate::image::reference::{DEFAULT_TAG, Reference};
use crate::image::store::{Image, ImageStore};
use crate::image::transfer::convert::{Packing, Schema};
use crate::image::transfer::push::{self, Options};
use crate::layers::compression::Compression;
use crate::output::print;
use crate::output::progress::Progress;
use crate::registry::Client;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ManifestFormat {
    Oci,
    /// docker's schema 2
    V2s2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pack {
    Gzip,
    Zstd,
}

/// Send an image to a registry
///
/// What the registry has is not sent again. An image that was pulled arrives byte for byte, unless another format
/// or compression is asked for; layers that are not packed are packed with gzip.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx push localhost:5000/tool:1
  sbx push tool:1 quay.io/me/tool:1
  sbx push --compression-format zstd --compression-level 19 tool:1 localhost:5000/tool:small
  sbx push --all-tags localhost:5000/tool")]
pub struct PushArgs {
    /// Send every tag of the repository that is in the store
    #[arg(short, long, conflicts_with = "destination")]
    all_tags: bool,
    /// Print nothing but the name
    #[arg(short, long)]
    quiet: bool,
    /// Write the digest of the manifest to this file
    #[arg(long, value_name = "FILE", conflicts_with = "all_tags")]
    digestfile: Option<PathBuf>,
    /// Format of the manifest; default: the image's own
    #[arg(long, value_enum)]
    format: Option<ManifestFormat>,
    /// Pack layers so that are packed otherwise
    #[arg(long, value_enum, value_name = "FORMAT")]
    compression_format: Option<Pack>,
    /// How hard to pack: 1 to 9 for gzip, 1 to 22 for zstd
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..=22))]
    compression_level: Option<u32>,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    trust: TrustOption,
    /// A name or ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where to; default: the image's own name
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

pub fn execute(args: &PushArgs, global: &Global) -> Result<u8> {
    args.trust.check()?;
    let options = Options { schema: args.format.map(schema), packing: packing(args)? };
    let root = paths::store(global.root.as_deref(), &paths::Surroundings::current())?;
    let store = ImageStore::new(&root);
    let pushes = match args.all_tags {
        true => every_tag(&store, &args.image)?,
        false => vec![one(&store, &args.image, args.destination.as_deref())?],
    };
    let client = Client::new(args.registry.resolve()?)?;
    let progress = Progress::new(args.quiet);
    for (image, target) in pushes {
        progress.line(&format!("The push refers to repository [{}]", target.repository()));
        let pushed = push::push(&store, &client, &image, &target, &options, &progress)?;
        events::record_here(&root, Event::image(Action::Push, &image.id, target.to_string()));
        if let Some(path) = &args.digestfile {
            std::fs::write(path, pushed.digest.as_str()).map_err(|error| {
                no_room(error, format!("cannot write the digest to `{}`", path.display()))
            })?;
        }
        if args.quiet {
            print::line(&target.to_string())?;
        } else {
            let tag = target.tag.as_deref().unwrap_or(DEFAULT_TAG);
            print::line(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size))?;
        }
    }
    Ok(0)
}

fn schema(format: ManifestFormat) -> Schema {
    match format {
        ManifestFormat::Oci => Schema::Oci,
        ManifestFormat::V2s2 => Schema::Docker,
    }
}

fn packing(args: &PushArgs) -> Result<Packing> {
    let kind = match args.compression_format {
        Some(Pack::Zstd) => Compression::Zstd,
        Some(Pack::Gzip) | None => Compression::Gzip,
    };
    if kind == Compression::Gzip && args.compression_level.is_some_and(|level| level > 9) {
        return Err(
            Error::new("cannot use a compression level above 9 with gzip").hint("zstd has levels up to 22")
        );
    }
    Ok(Packing { kind, level: args.compression_level, all: args.compression_format.is_some() })
}

fn missing(word: &str) -> Error {
    Error::new(format!("there is no image `{}`", word.escape_debug()))
        .hint("`sbx images -a` lists the images; `sbx tag IMAGE NAME` gives one another name")
}

fn one(store: &ImageStore, word: &str, destination: Option<&str>) -> Result<(Image, Reference)> {
    let image = store.find(word)?.ok_or_else(|| missing(word))?;
    let target = match destination {
        Some(text) => Reference::parse(&registry_name(text)?)?.or_latest(),
        None => {
            let said = Reference::parse(word).map(Reference::or_latest).ok();
            let name = said.and_then(|said| image.names.iter().find(|name| **name == said).cloned());
            name.ok_or_else(|| {
                Error::new(format!("cannot tell where to push `{word}`"))
                    .because("it is no name of an image")
                    .hint(format!("name the place: `sbx push {word} REGISTRY/NAME:TAG`"))
            })?
        }
    };
    if target.digest.is_some() {
        return Err(Error::new(format!("cannot push to `{target}`"))
            .because("a digest is not given, it follows from the content")
            .hint("push to a tag"));
    }
    Ok((image, target))
}

fn every_tag(store: &ImageStore, word: &str) -> Result<Vec<(Image, Reference)>> {
    let repository = Reference::parse(word)?;
    if repository.tag.is_some() || repository.digest.is_some() {
        return Err(Error::new(format!("cannot push all tags of `{word}`"))
            .because("it names one tag or digest")
            .hint(format!("leave that out: `{}`", repository.familiar_repository())));
    }
    let mut names: Vec<Reference> = store.list()?.into_iter().filter_map(|entry| entry.reference).collect();
    names.retain(|name| name.repository() == repository.repository() && name.tag.is_some());
    names.sort();
    let found = names.into_iter().map(|name| {
        let image = store.find_reference(&name)?.ok_or_else(|| missing(word))?;
        Ok((image, name))
    });
    let found = found.collect::<Result<Vec<_>>>()?;
    if found.is_empty() { Err(missing(word)) } else { Ok(found) }
}
