//! From a registry into the store.

use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Step};
use crate::events::{self, Action, Event};
use crate::image::digest::Digest;
use crate::image::documents::{self, Descriptor, ImageConfig, Index, LARGEST_CONFIG, Manifest, media_type};
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::store::{BlobBegin, Image, NewImage};
use crate::image::transfer::Place;
use crate::image::transfer::ensure::Options;
use crate::image::transfer::layer::{self, Layer, Origin};
use crate::image::transfer::session::Session;
use crate::image::transfer::unpacker::{self, Results};
use crate::output::progress::Progress;
use crate::registry::{Client, Failure, Fetched, Kind, Outcome};

/// An index may name an index; more of them are a maze.
const DEEPEST: usize = 3;

/// What a pull gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pulled {
    /// The whole name.
    pub name: String,
    pub id: Digest,
    /// The digest that the name stands for in its registry.
    pub digest: Digest,
    /// The store had it already.
    pub up_to_date: bool,
}

/// Pulls each of `texts`, or with `all_tags` everything in their repositories, in the unpacker's process. Each image
/// is handed to `each` as soon as it is there; what fails is reported at the end.
///
/// # Errors
/// The last failure; those before it are logged.
pub fn all(
    place: &Place,
    texts: &[String],
    all_tags: bool,
    options: &Options,
    mut each: impl FnMut(Pulled) -> Result<()>,
) -> Result<()> {
    let client = Client::new(options.registry.clone())?;
    for name in texts.iter().filter_map(|text| client.registries().resolve_short(text).ok()).flatten() {
        // What fails here fails again where it is needed.
        let _ = client.look_up_credentials(&name);
    }
    let work = |results: &Results| -> Result<()> {
        let progress = Progress::new(options.quiet);
        let mut failure = None;
        let mut note = |result: Result<()>| {
            if let Err(error) = result
                && let Some(earlier) = failure.replace(error)
            {
                log::error!("{earlier}");
            }
        };
        let session = || Session::begin(&place.store, place.key(), progress.clone());
        for text in texts {
            let pull_names = |names: &[Reference]| -> Result<()> {
                let pulled = pull(&session()?, &client, names, &options.platform)?;
                progress.line(&format!("Digest: {}", pulled.digest));
                let what = if pulled.up_to_date { "Image is up to date" } else { "Downloaded newer image" };
                let name = Reference::parse(&pulled.name)?;
                progress.line(&format!("Status: {what} for {}", name.familiar()));
                results.hand_over(&pulled)
            };
            match (client.registries().resolve_short(text), all_tags) {
                (Ok(names), false) => note(pull_names(&names)),
                (Ok(names), true) => match tags(&client, &names) {
                    Ok(tagged) => tagged.into_iter().for_each(|name| note(pull_names(&[name]))),
                    Err(error) => note(Err(error)),
                },
                (Err(error), _) => note(Err(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    };
    unpacker::run(&place.identity, work, |pulled: Pulled| {
        events::record_here(&place.store, Event::image(Action::Pull, &pulled.id, &pulled.name));
        each(pulled)
    })
}

/// Every tag of the first of the repositories that there is.
fn tags(client: &Client, names: &[Reference]) -> Result<Vec<Reference>> {
    let mut failure = Error::new("cannot pull an image without a name");
    for name in names {
        match client.tags(name, None) {
            Ok(tags) => {
                return Ok(tags.into_iter().filter_map(|tag| tagged(name, tag)).collect());
            }
            Err(error) => failure = error.error,
        }
    }
    Err(failure)
}

/// None where a registry lists what can be no tag: as part of a name it could be anything.
fn tagged(repository: &Reference, tag: String) -> Option<Reference> {
    let name = Reference { tag: Some(tag), digest: None, ..repository.clone() };
    if Reference::parse(&name.to_string()).is_ok_and(|parsed| parsed == name) {
        return Some(name);
    }
    let tag = name.tag.unwrap_or_default();
    log::warn!(
        "`{}` lists `{}`, which can be no tag: it is left out",
        repository.familiar_repository(),
        tag.chars().take(200).collect::<String>().escape_debug()
    );
    None
}

/// Pulls the first of `names` that there is: what a short name may stand for.
///
/// # Errors
/// No registry has it, or it is not what its digests say.
pub fn pull(session: &Session, client: &Client, names: &[Reference], wanted: &Wanted) -> Result<Pulled> {
    let mut failures: Vec<(&Reference, Failure)> = Vec::new();
    for name in names {
        session.progress.line(&format!("Trying to pull {name}..."));
        match pull_one(session, client, name, wanted) {
            Ok(pulled) => return Ok(pulled),
            // Another registry may have it.
            Err(failure) if matches!(failure.kind, Kind::NotFound | Kind::Denied | Kind::Unreachable) => {
                failures.push((name, failure));
            }
            Err(failure) => return Err(failure.error),
        }
    }
    match failures.len() {
        0 => Err(Error::new("cannot pull an image without a name")),
        1 => Err(failures.remove(0).1.error),
        _ => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let error = Error::new(format!("cannot pull any of {}", names.join(", ")));
            let because = failures.into_iter().map(|(_, failure)| failure.error.to_string());
            Err(error.because(because.collect::<Vec<_>>().join("; ")))
        }
    }
}

fn pull_one(session: &Session, client: &Client, name: &Reference, wanted: &Wanted) -> Outcome<Pulled> {
    if let Some(image) = session.store.find_reference(name).map_err(own)?
        && wanted.accepts(&image.config)
        && let Some(digest) = client.manifest_digest(name)?
        && image.repo_digests.contains(&format!("{}@{digest}", name.repository()))
        && complete(session, &image).map_err(own)?
    {
        return Ok(Pulled { name: name.to_string(), id: image.id, digest, up_to_date: true });
    }
    let found = find(session, client, name, wanted)?;
    let size = fetch(session, client, name, &found).map_err(own)?;
    let up_to_date = record(session, name, &found, size).map_err(own)?;
    Ok(Pulled { name: name.to_string(), id: found.manifest.config.digest, digest: found.digest, up_to_date })
}

fn own(error: Error) -> Failure {
    Failure::new(Kind::Other, error)
}

/// An image in a registry, with its documents in the store.
struct Found {
    /// What the name stands for: an index, or the manifest itself.
    digest: Digest,
    index: Option<Digest>,
    descriptor: Descriptor,
    manifest: Manifest,
    config: ImageConfig,
}

fn find(session: &Session, client: &Client, name: &Reference, wanted: &Wanted) -> Outcome<Found> {
    let mut fetched = client.manifest(name)?;
    let digest = fetched.digest.clone();
    let mut index = None;
    for _ in 0..DEEPEST {
        if !media_type::is_index(&fetched.media_type) {
            let found = read_manifest(session, client, name, &fetched)?;
            if !wanted.accepts(&found.config) {
                warn_of_platform(name, wanted, &found.config).map_err(own)?;
            }
            return Ok(Found { digest, index, ..found });
        }
        let document: Index =
            documents::parse(&format!("the index of `{name}`"), &fetched.bytes).map_err(own)?;
        let chosen = wanted.choose(&document, &name.to_string()).map_err(own)?;
        session.store.put_bytes(&fetched.bytes, &session.lease).map_err(own)?;
        index.get_or_insert(fetched.digest);
        fetched =
            client.manifest(&Reference { tag: None, digest: Some(chosen.digest.clone()), ..name.clone() })?;
    }
    Err(own(Error::new(format!("cannot pull `{name}`")).because("its indexes name indexes, again and again")))
}

/// An image of another platform is taken where the caller has named none: somebody may want to look at it.
fn warn_of_platform(name: &Reference, wanted: &Wanted, config: &ImageConfig) -> Result<()> {
    let is = format!("{}/{}", config.os, config.architecture);
    if wanted.named {
        return Err(Error::new(format!("cannot pull `{name}` for {wanted}"))
            .because(format!("it is there for {is} only")));
    }
    log::warn!("the image `{}` is for {is}, and this machine is {wanted}", name.familiar());
    Ok(())
}

fn read_manifest(session: &Session, client: &Client, name: &Reference, fetched: &Fetched) -> Outcome<Found> {
    let what = || format!("the manifest of `{name}`");
    let unknown = |kind: &str| {
        let error = Error::new(format!("cannot pull `{name}`"))
            .because(format!("it holds something of the type `{}`", kind.escape_debug()))
            .hint("sbx pulls images of the OCI and of docker's second schema");
        Failure::new(Kind::UnknownType, error)
    };
    if !media_type::is_manifest(&fetched.media_type) {
        return Err(unknown(&fetched.media_type));
    }
    let manifest: Manifest = documents::parse(&what(), &fetched.bytes).map_err(own)?;
    if !matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) {
        return Err(unknown(&manifest.config.media_type));
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| !media_type::is_layer(&layer.media_type)) {
        return Err(unknown(&layer.media_type));
    }
    session.store.put_bytes(&fetched.bytes, &session.lease).map_err(own)?;
    let bytes = read_config(session, client, name, &manifest.config)?;
    let config: ImageConfig =
        documents::parse(&format!("the configuration of `{name}`"), &bytes).map_err(own)?;
    let (blobs, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if blobs != diff_ids {
        return Err(own(Error::new(format!("cannot pull `{name}`"))
            .because(format!("its manifest has {blobs} layers and its configuration {diff_ids}"))));
    }
    let descriptor = Descriptor::new(&fetched.media_type, fetched.digest.clone(), fetched.bytes.len() as u64);
    Ok(Found { digest: fetched.digest.clone(), index: None, descriptor, manifest, config })
}

fn read_config(
    session: &Session,
    client: &Client,
    name: &Reference,
    config: &Descriptor,
) -> Outcome<Vec<u8>> {
    let failed = || format!("cannot read the configuration of `{name}`");
    if config.size > LARGEST_CONFIG {
        let cause = format!("it has {} bytes, and {LARGEST_CONFIG} are the most that sbx reads", config.size);
        return Err(own(Error::new(failed()).because(cause)));
    }
    if let BlobBegin::Write(mut blob) =
        session.store.begin_blob(&config.digest, config.size, &session.lease).map_err(own)?
    {
        let mut source = client.blob(name, config, blob.existing())?;
        std::io::copy(&mut source, &mut blob).step(failed).map_err(own)?;
        blob.finish(&session.lease).map_err(|error| own(error.while_doing(failed())))?;
    }
    session.store.read_document(&config.digest, LARGEST_CONFIG).map_err(own)
}

/// Brings the layers; gives the bytes of their files.
fn fetch(session: &Session, client: &Client, name: &Reference, found: &Found) -> Result<u64> {
    let open = |blob: &Descriptor, offset: u64| -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(client.blob(name, blob, offset)?))
    };
    let origin = Origin { action: "Downloading", open: &open };
    bring_all(session, &found.manifest, &found.config, &origin)
        .map_err(|error| error.while_doing(format!("cannot pull `{name}`")))
}

/// Brings every layer of an image, each once, however often the image names it.
///
/// # Errors
/// As [`layer::bring`].
pub(super) fn bring_all(
    session: &Session,
    manifest: &Manifest,
    config: &ImageConfig,
    origin: &Origin<'_>,
) -> Result<u64> {
    let mut layers: Vec<Layer<'_>> = Vec::new();
    for (blob, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        match layers.iter().find(|known| known.blob.digest == blob.digest) {
            None => layers.push(Layer { blob, diff_id }),
            Some(known) if known.diff_id == diff_id => {}
            Some(_) => {
                return Err(Error::new(format!("cannot use the layer {}", blob.digest.short()))
                    .because("the image says of it that it unpacks to two different things"));
            }
        }
    }
    let tasks: Vec<_> = layers
        .into_iter()
        .map(|layer| (layer, session.progress.bar(layer.blob.digest.short(), layer.blob.size)))
        .collect();
    let sizes = session.share_out(tasks, |(layer, bar)| layer::bring(session, layer, &bar, origin))?;
    Ok(sizes.into_iter().fold(0, u64::saturating_add))
}

/// Puts the image under its name; true where it was there, just so.
fn record(session: &Session, name: &Reference, found: &Found, size: u64) -> Result<bool> {
    let repository = name.repository();
    let mut repo_digests = vec![format!("{repository}@{}", found.digest)];
    if found.digest != found.descriptor.digest {
        repo_digests.push(format!("{repository}@{}", found.descriptor.digest));
    }
    let image = NewImage {
        manifest: found.descriptor.clone(),
        id: found.manifest.config.digest.clone(),
        created: found.config.created.clone(),
        size,
        repo_digests,
        index: found.index.clone(),
    };
    // A digest decides, and is a name of its own.
    let name = match &name.digest {
        Some(_) => Reference { tag: None, ..name.clone() },
        None => name.clone(),
    };
    let mut change = session.store.change()?;
    let was = change.find(&name.to_string()).ok().flatten();
    change.put(Some(&name), &image);
    change.commit()?;
    Ok(was.is_some_and(|was| was.manifest.digest == image.manifest.digest))
}

/// Whether all of an image is in the store; layers of which only the blobs are there are unpacked.
///
/// # Errors
/// A layer cannot be unpacked.
pub fn complete(session: &Session, image: &Image) -> Result<bool> {
    let documents = [&image.manifest.digest, &image.document.config.digest];
    for digest in documents.into_iter().chain(&image.config.rootfs.diff_ids) {
        session.lease.add(digest)?;
    }
    for layer in &image.document.layers {
        session.lease.add(&layer.digest)?;
        if session.store.blob_size(&layer.digest) != Some(layer.size) {
            return Ok(false);
        }
    }
    unpack(session, image)?;
    Ok(true)
}

/// Unpacks the layers that are there as blobs alone.
///
/// # Errors
/// A blob is missing or damaged, or there is no room.
pub fn unpack(session: &Session, image: &Image) -> Result<u64> {
    let missing = |_: &Descriptor, _: u64| -> Result<Box<dyn Read + Send>> {
        Err(Error::new("cannot find a blob of the image").because("it is no longer in the store"))
    };
    let quiet = image.config.rootfs.diff_ids.iter().all(|diff_id| session.layers.has(diff_id));
    if quiet {
        return Ok(0);
    }
    bring_all(session, &image.document, &image.config, &Origin { action: "Reading", open: &missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_tag_is_left_out() {
        let repository = Reference::parse("example.org/tool").unwrap();
        let tagged = |tag: &str| super::tagged(&repository, tag.to_owned()).map(|name| name.to_string());
        assert_eq!(tagged("1.2-x").as_deref(), Some("example.org/tool:1.2-x"));
        let digest = format!("1@{}", Digest::of(b"x"));
        for tag in ["", "\u{1b}[2J", "../../other/manifests/1", "a b", "5000/other", "x?y=z", digest.as_str()]
        {
            assert_eq!(tagged(tag), None, "{tag:?}");
        }
    }
}
