//! A container becomes an image: what it changed is one more layer on its image's.

use std::time::SystemTime;

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{Root, Spec};
use crate::container::store::Store;
use crate::error::{Error, Result, Step};
use crate::image::changes;
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, History, ImageConfig, RootFs, RunConfig, media_type};
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::store::{Image, ImageStore, NewImage};
use crate::image::transfer::archive::docker::manifest;
use crate::image::transfer::convert::{Schema, to_schema};
use crate::image::transfer::made::{self, Made};
use crate::image::transfer::session::Session;
use crate::image::transfer::{Place, unpacker};
use crate::layers::pack::Times;
use crate::output::progress::Progress;

/// Variables that sbx sets in every container, and that say nothing of the image.
const OWN_VARIABLES: [&str; 4] = ["HOME", "HOSTNAME", "TERM", "container"];

/// What a commit is told.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: Option<Reference>,
    pub author: Option<String>,
    pub message: Option<String>,
    /// Instructions: see [`changes::apply`].
    pub changes: Vec<String>,
    pub schema: Schema,
    /// One layer of everything, in the place of the image's and a new one.
    pub squash: bool,
    pub quiet: bool,
}

/// Makes an image of a container and gives its ID.
///
/// # Errors
/// The container has no root of its own, its image is damaged, a change is not understood, or there is no room.
pub fn commit(store: &Store, id: &str, options: &Options) -> Result<Digest> {
    let spec = store.read_spec(id)?;
    let failed = || format!("cannot make an image of the container `{}`", spec.name);
    if matches!(spec.root, Root::Host { .. }) {
        return Err(Error::new(failed())
            .because(
                "its root is this machine's own system (the image `host`), which is no image to build on",
            )
            .hint(format!(
                "take the files that it changed: `sbx diff {0}`, `sbx cp {0}:PATH .`",
                spec.name
            )));
    }
    let directory = store.directory_of(&spec);
    let base = match &spec.root {
        Root::Layers { image, .. } => {
            let found = ImageStore::new(store.root()).find(image.hex())?;
            Some(found.ok_or_else(|| Error::new(failed()).because("its image is no longer in the store"))?)
        }
        _ => None,
    };
    let config = configuration(&spec, base.as_ref(), options)?;
    let located = spec.located(store.root(), &directory)?.into_owned();
    let place = Place::with(store.root(), spec.identity.clone());
    let mut made = None;
    unpacker::run(
        &place.identity,
        |results| {
            let session = Session::begin(&place.store, place.key(), Progress::new(options.quiet))?;
            let job = Job { session, spec: &located, directory: &directory, options };
            results.hand_over(&job.run(base.as_ref(), config)?)
        },
        |id: Digest| {
            made = Some(id);
            Ok(())
        },
    )
    .map_err(|error| error.while_doing(failed()))?;
    // What was removed while it was read is missing in the layer.
    if store.read_spec(id).is_err() {
        return Err(Error::new(failed()).because("it was removed meanwhile"));
    }
    made.ok_or_else(|| Error::new(failed()))
}

struct Job<'a> {
    session: Session,
    spec: &'a Spec,
    directory: &'a ContainerDirectory,
    options: &'a Options,
}

impl Job<'_> {
    fn run(&self, base: Option<&Image>, mut config: ImageConfig) -> Result<Digest> {
        let base = base.filter(|_| !self.options.squash);
        let session = &self.session;
        let mut layers = Vec::new();
        let mut size = 0;
        if let Some(base) = base {
            for (layer, diff_id) in base.document.layers.iter().zip(&base.config.rootfs.diff_ids) {
                session.lease.add(&layer.digest)?;
                session.lease.add(diff_id)?;
                size += session.layers.facts(diff_id)?.size;
                layers.push(layer.clone());
            }
        }
        let made = self.layer(base.is_some())?;
        layers.push(made.blob);
        config.rootfs.kind = "layers".to_owned();
        config.rootfs.diff_ids.push(made.diff_id);
        self.finish(&config, layers, size + made.size)
    }

    /// Stores what the container changed, or, without an image below, all of its root.
    fn layer(&self, on_image: bool) -> Result<Made> {
        let bar = self.session.progress.bar("Committing", 0);
        let container = (self.spec, self.directory);
        let made = made::layer(&self.session, &bar, |target| {
            made::pack_container(container, on_image, Times::Kept, target)
        })?;
        bar.done("Commit complete");
        Ok(made)
    }

    fn finish(&self, config: &ImageConfig, layers: Vec<Descriptor>, size: u64) -> Result<Digest> {
        let session = &self.session;
        let written = || "cannot write the image's documents";
        let config_bytes = serde_json::to_vec(config).step(written)?;
        let id = session.store.put_bytes(&config_bytes, &session.lease)?;
        let descriptor = Descriptor::new(media_type::OCI_CONFIG, id.clone(), config_bytes.len() as u64);
        let document = to_schema(&manifest(descriptor, layers), self.options.schema)?;
        let bytes = serde_json::to_vec(&document).step(written)?;
        let digest = session.store.put_bytes(&bytes, &session.lease)?;
        let image = NewImage {
            manifest: Descriptor::new(self.options.schema.manifest(), digest, bytes.len() as u64),
            id: id.clone(),
            created: config.created.clone(),
            size,
            repo_digests: Vec::new(),
            index: None,
        };
        let mut change = session.store.change()?;
        change.put(self.options.name.as_ref(), &image);
        change.commit()?;
        Ok(id)
    }
}

/// The image's configuration with what the container was made with, and the changes.
fn configuration(spec: &Spec, base: Option<&Image>, options: &Options) -> Result<ImageConfig> {
    let now = jiff::Timestamp::try_from(SystemTime::now()).step(|| "cannot tell the time")?.to_string();
    let host = Wanted::host();
    let mut config = base.map_or_else(
        || ImageConfig {
            architecture: host.architecture,
            os: host.os,
            variant: host.variant,
            ..ImageConfig::default()
        },
        |base| base.config.clone(),
    );
    if base.is_none() || options.squash {
        config.rootfs = RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() };
        config.history.clear();
    }
    config.created = Some(now.clone());
    config.author = options.author.clone().or(config.author);
    take_over(spec, &mut config.config);
    changes::apply(&options.changes, &mut config.config)?;
    config.history.push(History {
        created: Some(now),
        created_by: spec.process.args.join(" "),
        author: options.author.clone().unwrap_or_default(),
        comment: options.message.clone().unwrap_or_default(),
        ..History::default()
    });
    Ok(config)
}

/// What a container of the new image is to be as this one is (docker-commit(1)).
fn take_over(spec: &Spec, config: &mut RunConfig) {
    let process = &spec.process;
    let (entry_point, command) = process.args.split_at(process.entry_point.min(process.args.len()));
    let some = |words: &[String]| Some(words.to_vec()).filter(|words| !words.is_empty());
    (config.entrypoint, config.cmd) = (some(entry_point), some(command));
    for variable in &process.env {
        let Some((name, _)) = variable.split_once('=') else { continue };
        if OWN_VARIABLES.contains(&name) {
            continue;
        }
        let prefix = format!("{name}=");
        match config.env.iter_mut().find(|known| known.starts_with(&prefix)) {
            Some(known) => known.clone_from(variable),
            None => config.env.push(variable.clone()),
        }
    }
    if let Some(user) = &process.user {
        config.user.clone_from(user);
    }
    let directory = process.cwd.to_string_lossy();
    if directory != "/" || !config.working_dir.is_empty() {
        config.working_dir = directory.into_owned();
    }
    config.labels.extend(spec.labels.clone());
}
