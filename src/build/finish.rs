//! The last stage becomes an image of the store, an archive, or files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::build::builder::{Builder, Built};
use crate::build::cache::Record;
use crate::build::remote::{Place, document};
use crate::build::solve::Request;
use crate::build::{export, squash};
use crate::cli::transfer::output;
use crate::error::{Error, Result, Step};
use crate::events::{self, Action, Event};
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, ImageConfig, RootFs, media_type};
use crate::image::reference::Reference;
use crate::image::store::NewImage;
use crate::image::transfer::archive::docker::manifest;
use crate::image::transfer::convert::{Packing, to_schema};
use crate::image::transfer::push;
use crate::image::transfer::save::{self, Format, Saved};
use crate::layers::pack::Times;
use crate::output::progress::Progress;
use crate::registry::Client;

/// One place that the result goes to.
#[derive(Debug, Clone)]
pub struct Output {
    pub target: Target,
    /// How layers are packed for a registry; none: gzip.
    pub packing: Option<Packing>,
    /// The registry's certificate is not asked for.
    pub insecure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An image of the store; pushed, of the registries of its names, too.
    Image { push: bool },
    /// None: standard output, here and below.
    Archive(Archive, Option<PathBuf>),
    /// A directory that is an OCI layout.
    Layout(PathBuf),
    /// An archive of the files.
    Tar(Option<PathBuf>),
    /// The files.
    Directory(PathBuf),
    /// What the steps left for the next build.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    Docker,
    Oci,
}

impl Output {
    pub fn plain(target: Target) -> Self {
        Self { target, packing: None, insecure: false }
    }

    pub fn to_registry(push: bool) -> Self {
        Self::plain(Target::Image { push })
    }
}

impl Target {
    pub fn is_stdout(&self) -> bool {
        matches!(self, Self::Archive(_, None) | Self::Tar(None))
    }

    /// An image that is not of the store, under the names that it is given.
    pub fn is_archive(&self) -> bool {
        matches!(self, Self::Archive(..) | Self::Layout(_) | Self::Nothing)
    }

    fn is_made_of_an_image(&self) -> bool {
        matches!(self, Self::Image { .. } | Self::Archive(..) | Self::Layout(_))
    }
}

/// What the command line changes of the image.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub labels: Vec<(String, String)>,
    /// Of the base.
    pub unset_labels: Vec<String>,
    pub inherits_labels: bool,
    pub annotations: BTreeMap<String, String>,
    pub unset_variables: Vec<String>,
    pub omits_history: bool,
    pub os_version: Option<String>,
    pub os_features: Vec<String>,
}

impl Changes {
    /// Takes away what a base is not to bequeath.
    pub fn of_base(&self, config: &mut ImageConfig) {
        let labels = &mut config.config.labels;
        if !self.inherits_labels {
            labels.clear();
        }
        self.unset_labels.iter().for_each(|name| drop(labels.remove(name)));
    }

    fn of_image(&self, config: &mut ImageConfig) {
        config.config.labels.extend(self.labels.iter().cloned());
        let is_unset = |pair: &String| {
            let name = pair.split_once('=').map_or(pair.as_str(), |(name, _)| name);
            self.unset_variables.iter().any(|unset| unset == name)
        };
        config.config.env.retain(|pair| !is_unset(pair));
        if self.omits_history {
            config.history.clear();
        }
        if let Some(version) = &self.os_version {
            config.other.insert("os.version".to_owned(), version.clone().into());
        }
        if !self.os_features.is_empty() {
            config.other.insert("os.features".to_owned(), self.os_features.clone().into());
        }
    }
}

/// The image that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finished {
    pub id: Digest,
    /// As it was pushed last, or is in the store.
    pub manifest: Descriptor,
    pub names: Vec<Reference>,
}

/// What became of the last stage.
#[derive(Debug)]
pub struct Outcome {
    /// None: files alone.
    pub image: Option<Finished>,
    /// The steps that it is made of.
    pub records: Vec<(Digest, Record)>,
}

/// # Errors
/// The store or the place of an output cannot be written.
pub fn finish(builder: &Builder<'_>, built: Built, request: &Request) -> Result<Outcome> {
    let built = squash::squash(builder, built, request.squash)?;
    let targets = || request.outputs.iter().map(|output| &output.target);
    let finished = match targets().any(Target::is_made_of_an_image) {
        true => Some(image(builder, &built, request)?),
        false => None,
    };
    let finished = finished.map(|(new, finished)| {
        if targets().any(|target| matches!(target, Target::Image { .. })) {
            keep(builder, &new, request)?;
        }
        Ok::<_, Error>(finished)
    });
    let mut finished = finished.transpose()?;
    let delivered = request
        .outputs
        .iter()
        .try_for_each(|output| deliver(builder, &built, request, output, finished.as_mut()));
    // Once for all layers: killed before, they are made again after the next boot.
    if let Err(error) = builder.layers.settle() {
        log::warn!("{error}: what was built is unpacked again after the next boot");
    }
    delivered.map(|()| Outcome { image: finished, records: built.records })
}

fn deliver(
    builder: &Builder<'_>,
    built: &Built,
    request: &Request,
    output: &Output,
    finished: Option<&mut Finished>,
) -> Result<()> {
    match (&output.target, finished) {
        (Target::Image { push: true }, Some(finished)) => push(builder, request, output, finished),
        (Target::Archive(kind, path), Some(finished)) => archive(builder, *kind, path.as_ref(), finished),
        (Target::Layout(path), Some(finished)) => {
            let saved = saved(builder, finished)?;
            save::directory(&builder.images, &saved, Format::OciDir, path, &Progress::new(true))
        }
        (Target::Tar(None), _) => export::files(builder, built, &mut output::stdout("write files")?),
        (Target::Tar(Some(path)), _) => output::file(path, |file| export::files(builder, built, file)),
        (Target::Directory(path), _) => {
            let failed = || format!("cannot write to `{}`", path.display());
            std::fs::create_dir_all(path).step(failed)?;
            export::directory(builder, built, path).map_err(|error| error.while_doing(failed()))
        }
        _ => Ok(()),
    }
}

fn saved(builder: &Builder<'_>, finished: &Finished) -> Result<Vec<Saved>> {
    let image = builder.images.image(&finished.manifest)?;
    Ok(vec![Saved { image, names: finished.names.clone() }])
}

fn archive(builder: &Builder<'_>, kind: Archive, path: Option<&PathBuf>, finished: &Finished) -> Result<()> {
    let saved = saved(builder, finished)?;
    let format = match kind {
        Archive::Docker => Format::DockerArchive,
        Archive::Oci => Format::OciArchive,
    };
    let progress = Progress::new(true);
    match path {
        None => {
            let mut stdout = output::stdout("write an image")?;
            save::archive(&builder.images, &saved, format, &mut stdout, &progress)
        }
        Some(path) => {
            output::file(path, |file| save::archive(&builder.images, &saved, format, file, &progress))
        }
    }
}

fn push(builder: &Builder<'_>, request: &Request, output: &Output, finished: &mut Finished) -> Result<()> {
    let mut registry = request.registry.clone();
    if output.insecure {
        registry.tls_verify = Some(false);
    }
    let client = Client::new(registry)?;
    let mut options = push::Options::default();
    if let Some(packing) = output.packing {
        options.packing = packing;
    }
    let progress = Progress::new(request.quiet);
    let image = builder.images.image(&finished.manifest)?;
    for name in &finished.names {
        let pushed = push::push(&builder.images, &client, &image, name, &options, &progress)?;
        events::record_here(builder.images.root(), Event::image(Action::Push, &image.id, name.to_string()));
        progress.line(&format!("Pushed {name}@{}", pushed.digest));
        finished.manifest.digest = pushed.digest;
        finished.manifest.size = pushed.size;
    }
    Ok(())
}

/// Makes the documents of the image, which nothing names yet.
fn image(builder: &Builder<'_>, built: &Built, request: &Request) -> Result<(NewImage, Finished)> {
    let Built { configuration, layers, inherited, .. } = built;
    let mut config = configuration.image.clone();
    request.changes.of_image(&mut config);
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    if request.exports.iter().any(|export| export.place == Place::Inline) {
        document::note(&mut config, &built.records, &diff_ids);
    }
    config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids };
    config.created = None;
    let written = || "cannot write the image's documents";
    // The same image as before is made at the same time as before.
    let key = Digest::of(&serde_json::to_vec(&config).step(written)?);
    let created = match builder.times {
        Times::AtMost(time) | Times::Exactly(time) => {
            jiff::Timestamp::from_second(time.seconds).step(|| "cannot use the time")?.to_string()
        }
        Times::Kept => match builder.cache.created(&key).filter(|_| builder.use_cache) {
            Some(created) => created,
            None => {
                let now = jiff::Timestamp::now().to_string();
                builder.cache.keep_created(&key, &now)?;
                now
            }
        },
    };
    config.created = Some(created.clone());
    for entry in config.history.iter_mut().skip(*inherited) {
        entry.created = Some(created.clone());
    }
    let config_bytes = serde_json::to_vec(&config).step(written)?;
    let id = builder.images.put_bytes(&config_bytes, &builder.lease)?;
    let descriptor = Descriptor::new(media_type::OCI_CONFIG, id.clone(), config_bytes.len() as u64);
    let mut document = manifest(descriptor, layers.iter().map(|layer| layer.blob.clone()).collect());
    document.annotations.extend(request.changes.annotations.clone());
    let document = to_schema(&document, request.schema)?;
    let bytes = serde_json::to_vec(&document).step(written)?;
    let digest = builder.images.put_bytes(&bytes, &builder.lease)?;
    let new = NewImage {
        manifest: Descriptor::new(request.schema.manifest(), digest, bytes.len() as u64),
        id: id.clone(),
        created: Some(created),
        size: layers.iter().map(|layer| layer.size).sum(),
        repo_digests: Vec::new(),
        index: None,
    };
    let finished = Finished { id, manifest: new.manifest.clone(), names: request.names.clone() };
    Ok((new, finished))
}

/// Puts the image into the store's index, under its names.
fn keep(builder: &Builder<'_>, new: &NewImage, request: &Request) -> Result<()> {
    let mut change = builder.images.change()?;
    match request.names.as_slice() {
        [] => change.put(None, new),
        names => names.iter().for_each(|name| change.put(Some(name), new)),
    }
    change.commit()?;
    for name in &request.names {
        builder.report.line(&format!("Successfully tagged {}", name.familiar()));
    }
    Ok(())
}
