//! Carries out the stages of a build: each step that makes files becomes a layer, or is found in the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::build::cache::{Cache, Record};
use crate::build::configuration::Configuration;
use crate::build::context::Context;
use crate::build::dockerfile::plan::Base;
use crate::build::dockerfile::step::Step;
use crate::build::fetch::named::Available;
use crate::build::finish::Changes;
use crate::build::program::{Prepared, Stage};
use crate::build::remote::Remote;
use crate::build::report::{Report, Showing};
use crate::build::run::Surroundings;
use crate::build::tree::Tree;
use crate::error::{Error, Result};
use crate::image::digest::{Digest, Hasher};
use crate::image::documents::{History, ImageConfig};
use crate::image::store::{ImageStore, Lease};
use crate::image::transfer::layer::{self, Layer};
use crate::image::transfer::made::Made;
use crate::image::transfer::session::Session;
use crate::image::transfer::{Place, unpacker};
use crate::layers::pack::Times;
use crate::layers::store::{Begin, LayerStore};
use crate::layers::unpack::archive::Time;
use crate::output::progress::Progress;

/// What of the format of keys was changed last.
const GENERATION: &str = "2";

/// An image that a stage begins with, or that files come from.
#[derive(Debug, Clone)]
pub struct BaseImage {
    pub id: Digest,
    pub config: ImageConfig,
    pub layers: Vec<Made>,
}

/// A stage that was built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Built {
    /// Its history has no times where this build made it.
    pub configuration: Configuration,
    pub layers: Vec<Made>,
    /// Entries of the history that came with the base image.
    pub inherited: usize,
    /// Layers that came with it.
    pub base_layers: usize,
    /// The steps of the stages that were built on the way.
    pub records: Vec<(Digest, Record)>,
}

/// What a step came to.
#[derive(Debug)]
pub struct Outcome {
    /// None: it changed no file.
    pub layer: Option<Made>,
    pub cached: bool,
}

impl Outcome {
    pub fn cached(record: Record) -> Self {
        Self { layer: record.layer, cached: true }
    }

    pub fn made(layer: Option<Made>) -> Self {
        Self { layer, cached: false }
    }
}

/// Everything that a build works with.
pub struct Builder<'b> {
    pub place: Place,
    pub images: ImageStore,
    pub layers: LayerStore,
    pub cache: Cache,
    /// Keeps all that the build uses.
    pub lease: Lease,
    pub context: &'b Context,
    pub contexts: &'b BTreeMap<String, Available>,
    /// By the words of FROM and `--from`.
    pub bases: BTreeMap<String, BaseImage>,
    pub surroundings: Surroundings<'b>,
    pub use_cache: bool,
    /// Stages whose steps are all carried out.
    pub uncached: BTreeSet<usize>,
    /// Whether the stage that this process builds now is one of them.
    pub skips_cache: AtomicBool,
    pub changes: &'b Changes,
    pub times: Times,
    /// What others have carried out.
    pub remote: Remote,
    /// What was carried out before is not used.
    pub oldest: Option<SystemTime>,
    /// What this process has used or made since it was asked last.
    pub used: Mutex<Vec<(Digest, Record)>>,
    pub report: Report,
}

impl Builder<'_> {
    /// Builds one stage on what is there already.
    ///
    /// # Errors
    /// A step fails: with its place in the Dockerfile.
    pub fn stage(
        &self,
        stage: &Stage,
        done: &BTreeMap<usize, Built>,
        numbers: (usize, usize),
    ) -> Result<Built> {
        let total = stage.steps.len() + 1;
        self.skips_cache.store(self.uncached.contains(&stage.index), Ordering::Relaxed);
        let showing = self.report.step(numbers, (1, total), &stage.text);
        let mut built = self.begin(stage, done)?;
        showing.done(None);
        for (number, step) in stage.steps.iter().enumerate() {
            let showing = self.report.step(numbers, (number + 2, total), &step.text);
            let outcome = self.carry_out(step, &mut built, done, &showing);
            showing.done(outcome.map_err(|error| step.place.explain(&error))?.as_ref());
        }
        built.records.append(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(built)
    }

    fn begin(&self, stage: &Stage, done: &BTreeMap<usize, Built>) -> Result<Built> {
        let built = match &stage.base {
            Base::Scratch => Built {
                configuration: Configuration::on(self.empty_image()),
                layers: Vec::new(),
                inherited: 0,
                base_layers: 0,
                records: Vec::new(),
            },
            Base::Stage(index) => {
                let base = done.get(index).ok_or_else(|| Error::new("a stage is built before its base"))?;
                let mut base = base.clone();
                base.configuration = base.configuration.next_stage();
                base
            }
            Base::Image(name) => self.on_image(name)?,
            Base::Context { name, .. } => match self.contexts.get(name) {
                Some(Available::Image(image)) => self.on_image(image)?,
                _ => Built {
                    configuration: Configuration::on(self.empty_image()),
                    layers: self.whole_context(name)?.into_iter().collect(),
                    inherited: 0,
                    base_layers: 0,
                    records: Vec::new(),
                },
            },
        };
        Ok(built)
    }

    fn on_image(&self, name: &str) -> Result<Built> {
        let base = self.base(name)?;
        let mut config = base.config.clone();
        self.changes.of_base(&mut config);
        Ok(Built {
            configuration: Configuration::on(config),
            layers: base.layers.clone(),
            inherited: base.config.history.len(),
            base_layers: base.layers.len(),
            records: Vec::new(),
        })
    }

    fn empty_image(&self) -> ImageConfig {
        let platform = &self.surroundings.platform;
        ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        }
    }

    /// # Errors
    /// The image was not brought.
    pub fn base(&self, name: &str) -> Result<&BaseImage> {
        self.bases.get(name).ok_or_else(|| Error::new(format!("cannot find the image `{name}`")))
    }

    fn carry_out(
        &self,
        step: &Prepared,
        built: &mut Built,
        done: &BTreeMap<usize, Built>,
        showing: &Showing<'_>,
    ) -> Result<Option<Outcome>> {
        let outcome = match &step.step {
            Step::Run(run) => Some(self.run(step, run, built, done, showing)?),
            Step::Copy(copy) => Some(self.copy(copy, built, done)?),
            Step::Add(add) => Some(self.add(add, built)?),
            Step::Workdir(_) => {
                built.configuration.apply(&step.step);
                self.working_directory(built)?
            }
            other => {
                built.configuration.apply(other);
                None
            }
        };
        let layer = outcome.as_ref().and_then(|outcome| outcome.layer.clone());
        let history =
            History { created_by: step.text.clone(), empty_layer: layer.is_none(), ..History::default() };
        built.configuration.image.history.push(history);
        built.layers.extend(layer);
        Ok(outcome)
    }

    /// The key of a step: what it says, on what, with what else it goes by.
    pub fn key(&self, kind: &str, built: &Built, parts: &[&str]) -> Digest {
        let mut hasher = Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(GENERATION);
        add(kind);
        add(&format!("{:?}", self.times));
        built.layers.iter().for_each(|layer| add(layer.diff_id.as_str()));
        add("");
        parts.iter().for_each(|part| add(part));
        hasher.finish()
    }

    /// What the step with the key left earlier, here or elsewhere, where it is still there.
    pub fn cached(&self, key: &Digest) -> Result<Option<Record>> {
        self.cached_from(key, &self.remote)
    }

    /// The same of what was left here alone.
    pub fn cached_here(&self, key: &Digest) -> Result<Option<Record>> {
        self.cached_from(key, &Remote::default())
    }

    fn cached_from(&self, key: &Digest, remote: &Remote) -> Result<Option<Record>> {
        if !self.use_cache || self.skips_cache.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let own = self.cache.step(key, self.oldest);
        let record = match own.filter(|record| self.is_there(record)) {
            Some(record) => record,
            None => match remote.find(self, key, self.oldest) {
                Some(record) => {
                    self.keep_here(key, &record);
                    record
                }
                None => return Ok(None),
            },
        };
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push((key.clone(), record.clone()));
        Ok(Some(record))
    }

    /// Whether the layer of a record is in the store, unpacked where it is a blob alone: made for other IDs, say.
    fn is_there(&self, record: &Record) -> bool {
        let Some(made) = &record.layer else { return true };
        let leased = self.lease.add(&made.blob.digest).and_then(|()| self.lease.add(&made.diff_id));
        if leased.is_err() || !self.images.has_blob(&made.blob.digest) {
            return false;
        }
        let unpack = || {
            self.inside(|session| match session.layers.begin(&made.diff_id)? {
                Begin::Present => Ok(()),
                Begin::Make(unfinished) => {
                    let layer = Layer { blob: &made.blob, diff_id: &made.diff_id };
                    layer::from_store(session, layer, unfinished)
                }
            })
        };
        self.layers.has(&made.diff_id)
            || unpack().inspect_err(|error| log::debug!("the step is carried out again: {error}")).is_ok()
    }

    /// Keeps what a step left for the next build.
    pub fn keep(&self, key: &Digest, layer: Option<&Made>) {
        let record = Record { layer: layer.cloned() };
        self.keep_here(key, &record);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).push((key.clone(), record));
    }

    fn keep_here(&self, key: &Digest, record: &Record) {
        if let Err(error) = self.cache.keep_step(key, record) {
            self.report.warn(&format!("the next build does this step again: {error}"));
        }
    }

    /// Does `work` as root of the canonical user namespace, whose owners the files of layers have.
    ///
    /// # Errors
    /// What `work` failed with, or that there is no such namespace.
    pub fn as_root(&self, work: impl FnOnce(&Session) -> Result<Option<Made>>) -> Result<Option<Made>> {
        self.inside(|session| {
            let made = work(session)?;
            if let Some(made) = &made {
                // The session's own ends with this process.
                self.lease.add(&made.blob.digest)?;
                self.lease.add(&made.diff_id)?;
            }
            Ok(made)
        })
    }

    /// As [`Self::as_root`], whatever comes of it.
    ///
    /// # Errors
    /// As there.
    pub fn inside<T: Serialize + DeserializeOwned>(
        &self,
        work: impl FnOnce(&Session) -> Result<T>,
    ) -> Result<T> {
        let mut outcome = None;
        unpacker::run(
            &self.place.identity,
            |results| {
                let session =
                    Session::begin(&self.place.store, self.place.key(), Progress::new(true))?.unsettled();
                results.hand_over(&work(&session)?)
            },
            |result: T| {
                outcome = Some(result);
                Ok(())
            },
        )?;
        outcome.ok_or_else(|| Error::new("cannot work in the user namespace"))
    }

    /// Makes a layer of what `pack` writes.
    ///
    /// # Errors
    /// As of `pack`, or the store cannot take it.
    pub fn layer(
        session: &Session,
        pack: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
    ) -> Result<Option<Made>> {
        let bar = session.progress.bar("layer", 0);
        crate::image::transfer::made::layer(session, &bar, pack).map(Some)
    }

    /// The files of layers.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn tree(&self, layers: &[Made]) -> Result<Tree> {
        let paths: Vec<PathBuf> = layers.iter().map(|layer| self.layers.path(&layer.diff_id)).collect();
        Tree::of_layers(&paths)
    }

    /// The time of what is made anew.
    pub fn now(&self) -> Time {
        match self.times {
            Times::AtMost(time) | Times::Exactly(time) => time,
            Times::Kept => {
                let now = jiff::Timestamp::now();
                Time { seconds: now.as_second(), nanoseconds: 0 }
            }
        }
    }
}
