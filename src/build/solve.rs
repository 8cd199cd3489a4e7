//! A whole build: bases are brought, stages built side by side, the target becomes an image.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use crate::build::builder::{BaseImage, Builder, Built};
use crate::build::cache::{Cache, Record};
use crate::build::context::Context;
use crate::build::dockerfile::ast::{Dockerfile, Word};
use crate::build::dockerfile::plan::{Base, Plan, insert_triggers, plan, read_triggers, triggers_of};
use crate::build::dockerfile::settings::Settings;
use crate::build::dockerfile::step::{From, MountKind, Step as Instruction};
use crate::build::fetch::context::Means;
use crate::build::fetch::named::{Available, Named};
use crate::build::finish::Finished;
use crate::build::keys::{Agents, Signer};
use crate::build::program::{self, Place as Position, Stage};
use crate::build::remote::{self, Export, Import, Remote};
use crate::build::report::{self, Report};
use crate::build::run::{self, Surroundings};
use crate::build::squash::Squash;
use crate::build::{checks, finish, leftover};
use crate::cli::build::Allowed;
use crate::container::store::Store;
use crate::error::{Error, Result, Step};
use crate::host::paths::Runtime;
use crate::identity::Tier;
use crate::image::digest::Digest;
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::resolve::Request as ImageRequest;
use crate::image::store::{ImageStore, Lease};
use crate::image::transfer::convert::Schema;
use crate::image::transfer::layout;
use crate::image::transfer::made::Made;
use crate::image::transfer::{Place, Policy};
use crate::layers::pack::Times;
use crate::layers::store::LayerStore;
use crate::registry;
use crate::sys::process::{Fork, die_with_parent, exit_now, fork};

/// How often triggers may lead to bases that have triggers.
const MOST_ROUNDS: usize = 100;

/// What a build was told.
pub struct Request {
    pub context: Context,
    pub dockerfile: Dockerfile,
    pub settings: Settings,
    /// By the names that [`crate::build::dockerfile::settings::context_name`] gives.
    pub contexts: BTreeMap<String, Named>,
    pub names: Vec<Reference>,
    pub changes: finish::Changes,
    /// Instructions that go before those of stages on an image.
    pub environment: Vec<String>,
    pub pull: Policy,
    pub registry: registry::Options,
    pub tier: Option<Tier>,
    pub use_cache: bool,
    /// Steps that were carried out longer ago are carried out again.
    pub cache_ttl: Option<Duration>,
    pub imports: Vec<Import>,
    pub exports: Vec<Export>,
    /// Names of stages whose steps are all carried out.
    pub uncached: Vec<String>,
    pub quiet: bool,
    pub progress: report::Kind,
    pub times: Times,
    pub schema: Schema,
    pub squash: Squash,
    /// Stages that are built at once.
    pub jobs: usize,
    /// Options of `sbx run` for RUN.
    pub options: Vec<String>,
    pub allowed: Allowed,
    pub network: Option<String>,
    pub secrets: BTreeMap<String, crate::build::mounts::Secret>,
    pub signers: BTreeMap<String, Signer>,
    /// At least one.
    pub outputs: Vec<finish::Output>,
}

/// Builds, and gives the image where one is made.
///
/// # Errors
/// What is wrong with the Dockerfile, a base that is not to be had, a step that fails.
pub fn build(mut request: Request, store: &Store, runtime: &Runtime) -> Result<Option<Finished>> {
    // What is wrong with the options is said before anything is done.
    run::options(&request.options)?;
    let place = Place::of(store.root(), request.tier)?;
    leftover::remove(store, &runtime.path);
    let images = ImageStore::new(store.root());
    let lease = images.lease()?;
    let layers = LayerStore::new(store.root(), place.key());
    let mut bases: BTreeMap<String, BaseImage> = BTreeMap::new();
    let mut triggered = BTreeSet::new();
    let mut rounds = 0;
    let plan = loop {
        let plan = plan(&request.dockerfile, &request.settings)?;
        for stage in &plan.stages {
            let Some(name) = image_of(&stage.base, &request.contexts) else { continue };
            let from = &request.dockerfile.stages[stage.index].from;
            let at = |word: &Word| Position::at(&request.dockerfile.source, word.span);
            let mut platform = request.settings.platform.clone();
            if let Some(text) = stage.platform.as_deref().filter(|text| !text.is_empty()) {
                let word = from.platform.as_ref().unwrap_or(&from.image);
                platform = text.parse().map_err(|error| at(word).explain(&error))?;
            }
            if !bases.contains_key(name) {
                let base = bring(&request, store, &images, (&layers, &lease), name, platform);
                let base = base.map_err(|error| at(&from.image).explain(&error))?;
                bases.insert(name.to_owned(), base);
            }
        }
        let mut changed = false;
        for stage in &plan.stages {
            let first = match &stage.base {
                // None of the stage's instructions is carried out.
                Base::Context { whole_stage: true, .. } => Vec::new(),
                Base::Stage(index) => triggers_of(&request.dockerfile, *index),
                base => match image_of(base, &request.contexts) {
                    Some(name) => {
                        let triggers = bases.get(name).map(triggers).unwrap_or_default();
                        read_triggers(name, &[request.environment.clone(), triggers].concat())?
                    }
                    None => read_triggers("scratch", &request.environment)?,
                },
            };
            if !first.is_empty() && triggered.insert(stage.index) {
                insert_triggers(&mut request.dockerfile, stage.index, first);
                changed = true;
            }
        }
        rounds += 1;
        if !changed {
            break plan;
        }
        if rounds > MOST_ROUNDS {
            return Err(
                Error::new("cannot build it").because("the triggers of its bases do not come to an end")
            );
        }
    };
    let stages = prepare(&request, &plan, &bases)?;
    checks::warn(&request, &|name| bases.get(name))?;
    for (name, place) in named_images(&stages, &request.contexts) {
        if let Entry::Vacant(vacant) = bases.entry(name) {
            let platform = request.settings.platform.clone();
            let base = bring(&request, store, &images, (&layers, &lease), vacant.key(), platform);
            vacant.insert(base.map_err(|error| place.explain(&error))?);
        }
    }
    let means = Means {
        store: store.root(),
        secrets: &request.secrets,
        keep_git_dir: false,
        use_cache: request.use_cache,
    };
    let contexts = fetched(&request.contexts, &stages, &means)?;
    for base in bases.values() {
        for layer in &base.layers {
            lease.add(&layer.blob.digest)?;
            lease.add(&layer.diff_id)?;
        }
    }
    let agents = Agents::start(&request.signers, &runtime.path)?;
    let mut builder = Builder {
        place,
        images,
        cache: Cache::new(store.root()),
        layers,
        lease,
        context: &request.context,
        contexts: &contexts,
        bases,
        surroundings: Surroundings {
            store,
            runtime,
            platform: request.settings.platform.clone(),
            options: request.options.clone(),
            tier: request.tier,
            allowed: request.allowed,
            network: request.network.clone(),
            secrets: request.secrets.clone(),
            agents: &agents.sockets,
        },
        use_cache: request.use_cache,
        uncached: uncached(&stages, &request.uncached)?,
        skips_cache: AtomicBool::new(false),
        changes: &request.changes,
        times: request.times,
        remote: Remote::default(),
        oldest: request.cache_ttl.and_then(|ttl| SystemTime::now().checked_sub(ttl)),
        used: Mutex::default(),
        report: Report::without_drawing(request.progress),
    };
    if request.use_cache {
        builder.remote = Remote::open(&builder, &request.imports, &request.registry, builder.oldest)?;
    }
    builder.report = Report::begin(request.progress)?;
    let built = all_stages(&builder, &stages, request.jobs);
    builder.report.end();
    let (built, records) = built?;
    let finished = finish::finish(&builder, built, &request)?;
    for export in &request.exports {
        let own = finished.records.as_slice();
        let sent =
            remote::send(&builder, export, if export.all_stages { &records } else { own }, &request.registry);
        match sent {
            Err(error) if export.ignores_failure => log::warn!("the cache was brought nowhere: {error}"),
            sent => sent?,
        }
    }
    Ok(finished.image)
}

fn prepare(request: &Request, plan: &Plan, bases: &BTreeMap<String, BaseImage>) -> Result<Vec<Stage>> {
    let base_of = |index: usize| {
        let stage = plan.stages.iter().find(|stage| stage.index == index)?;
        let name = image_of(&stage.base, &request.contexts)?;
        bases.get(name).map(|base| base.config.clone())
    };
    program::prepare(&request.dockerfile, &request.settings, plan, &base_of)
}

/// The stages that `--no-cache-filter` names.
fn uncached(stages: &[Stage], names: &[String]) -> Result<BTreeSet<usize>> {
    let is_it = |stage: &&Stage, name: &str| {
        stage.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name))
            || stage.index.to_string() == name
    };
    let found = names.iter().map(|name| {
        let found = stages.iter().find(|stage| is_it(stage, name)).map(|stage| stage.index);
        found.ok_or_else(|| {
            Error::new(format!("cannot honour `--no-cache-filter {}`", name.escape_debug()))
                .because("no stage of this name is built")
        })
    });
    found.collect()
}

fn triggers(base: &BaseImage) -> Vec<String> {
    let triggers = base.config.config.other.get("OnBuild").and_then(serde_json::Value::as_array);
    let words = triggers.into_iter().flatten().filter_map(serde_json::Value::as_str);
    words.map(str::to_owned).collect()
}

/// The image that a stage begins with, if it is one.
fn image_of<'n>(base: &'n Base, contexts: &'n BTreeMap<String, Named>) -> Option<&'n str> {
    match base {
        Base::Image(name) => Some(name),
        Base::Context { name, .. } => contexts.get(name)?.image(),
        _ => None,
    }
}

/// The names that files are taken from by `--from`, of contexts and images, and where that stands first.
fn sources<'s>(stages: &'s [Stage]) -> BTreeMap<&'s str, &'s Position> {
    let mut names = BTreeMap::new();
    for step in stages.iter().flat_map(|stage| &stage.steps) {
        let mut add = |from: &'s From| {
            if let From::Named(name) = from {
                names.entry(name.as_str()).or_insert(&step.place);
            }
        };
        match &step.step {
            Instruction::Copy(copy) => add(&copy.from),
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    match &mount.kind {
                        MountKind::Bind { from, .. } | MountKind::Cache { from: Some(from), .. } => add(from),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    names
}

/// The images that files are taken from.
fn named_images<'s>(
    stages: &'s [Stage],
    contexts: &BTreeMap<String, Named>,
) -> BTreeMap<String, &'s Position> {
    let image = |name: &str| match contexts.get(name) {
        Some(context) => context.image().map(str::to_owned),
        None => Some(name.to_owned()),
    };
    sources(stages).into_iter().filter_map(|(name, place)| Some((image(name)?, place))).collect()
}

/// The contexts that are used.
fn fetched(
    contexts: &BTreeMap<String, Named>,
    stages: &[Stage],
    means: &Means<'_>,
) -> Result<BTreeMap<String, Available>> {
    let mut used: BTreeSet<&str> = sources(stages).into_keys().collect();
    used.extend(stages.iter().filter_map(|stage| match &stage.base {
        Base::Context { name, .. } => Some(name.as_str()),
        _ => None,
    }));
    let used = contexts.iter().filter(|(name, _)| used.contains(name.as_str()));
    used.map(|(name, context)| Ok((name.clone(), context.fetch(name, means)?))).collect()
}

fn bring(
    request: &Request,
    store: &Store,
    images: &ImageStore,
    (layers, lease): (&LayerStore, &Lease),
    name: &str,
    platform: Wanted,
) -> Result<BaseImage> {
    let layout = request
        .contexts
        .values()
        .find_map(|context| context.layout().filter(|_| context.image() == Some(name)));
    if let Some(layout) = layout {
        let place = Place::of(store.root(), request.tier)?;
        return layout::bring(&place, layout, &platform, request.quiet, lease);
    }
    let resolved = run::bring(
        store,
        &ImageRequest {
            name,
            pull: request.pull,
            platform,
            registry: request.registry.clone(),
            tier: request.tier,
            quiet: request.quiet,
        },
    )?;
    let crate::image::Source::Image(unpacked) = &resolved.source else {
        return Err(Error::new(format!("cannot build on `{name}`")).because("it is no image"));
    };
    let image = images.find(unpacked.id.hex())?;
    let image =
        image.ok_or_else(|| Error::new(format!("cannot build on `{name}`")).because("it was removed"))?;
    let mut made = Vec::new();
    for (blob, diff_id) in image.document.layers.iter().zip(&image.config.rootfs.diff_ids) {
        let size = layers.facts(diff_id)?.size;
        made.push(Made { blob: blob.clone(), diff_id: diff_id.clone(), size });
    }
    Ok(BaseImage { id: image.id, config: image.config, layers: made })
}

/// Builds all stages, and gives the target and the steps of all: those that wait for none of the others at once, each in a process of its own.
fn all_stages(
    builder: &Builder<'_>,
    stages: &[Stage],
    jobs: usize,
) -> Result<(Built, Vec<(Digest, Record)>)> {
    let target = stages.last().ok_or_else(|| Error::new("there is no stage"))?.index;
    let mut done: BTreeMap<usize, Built> = BTreeMap::new();
    let mut running: BTreeMap<i32, (usize, File)> = BTreeMap::new();
    let numbers = |stage: &Stage| {
        let at = stages.iter().position(|other| other.index == stage.index).unwrap_or(0);
        (at + 1, stages.len())
    };
    let mut waiting: Vec<&Stage> = stages.iter().collect();
    while !waiting.is_empty() || !running.is_empty() {
        let (mut ready, rest): (Vec<&Stage>, Vec<&Stage>) =
            waiting.into_iter().partition(|stage| stage.needs.iter().all(|need| done.contains_key(need)));
        waiting = rest;
        // Alone it needs no process of its own.
        if ready.len() == 1 && running.is_empty() || jobs <= 1 {
            let stage = ready.remove(0);
            let built = builder.stage(stage, &done, numbers(stage))?;
            done.insert(stage.index, built);
            waiting.splice(0..0, ready);
            continue;
        }
        while running.len() < jobs
            && let Some(stage) = (!ready.is_empty()).then(|| ready.remove(0))
        {
            let (pid, outcome) = beside(builder, stage, &done, numbers(stage))?;
            running.insert(pid, (stage.index, outcome));
        }
        waiting.splice(0..0, ready);
        let ended = wait(&mut running);
        let Some((index, outcome)) = ended else { continue };
        match read(outcome) {
            Ok(built) => {
                done.insert(index, built);
            }
            Err(error) => {
                for pid in running.keys() {
                    let _ = crate::sys::process::send_signal(*pid, libc::SIGKILL);
                }
                while !running.is_empty() {
                    wait(&mut running);
                }
                leftover::remove(builder.surroundings.store, &builder.surroundings.runtime.path);
                return Err(error);
            }
        }
    }
    let mut seen = BTreeSet::new();
    let all = done.values().flat_map(|built| &built.records);
    let records = all.filter(|(key, _)| seen.insert(key.clone())).cloned().collect();
    let built = done.remove(&target).ok_or_else(|| Error::new("the target was not built"))?;
    Ok((built, records))
}

/// Builds a stage in a process of its own, which writes into the file what came of it.
fn beside(
    builder: &Builder<'_>,
    stage: &Stage,
    done: &BTreeMap<usize, Built>,
    numbers: (usize, usize),
) -> Result<(i32, File)> {
    let failed = || "cannot start a process";
    let outcome = rustix::fs::memfd_create(c"sbx-stage", rustix::fs::MemfdFlags::CLOEXEC).step(failed)?;
    let mut outcome = File::from(outcome);
    let parent = std::process::id();
    match fork().step(failed)? {
        Fork::Parent(pid) => Ok((pid, outcome)),
        Fork::Child => {
            let _ = die_with_parent(parent);
            let built = builder.stage(stage, done, numbers);
            let written = serde_json::to_vec(&built).ok().and_then(|text| outcome.write_all(&text).ok());
            exit_now(i32::from(written.is_none()))
        }
    }
}

/// Waits for one of the processes.
fn wait(running: &mut BTreeMap<i32, (usize, File)>) -> Option<(usize, File)> {
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Ok(Some((pid, _))) => {
                if let Some(ended) = running.remove(&pid.as_raw_nonzero().get()) {
                    return Some(ended);
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => {
                running.clear();
                return None;
            }
        }
    }
}

fn read(mut outcome: File) -> Result<Built> {
    let failed = || "cannot build a stage";
    let mut text = Vec::new();
    outcome.rewind().and_then(|()| outcome.read_to_end(&mut text)).step(failed)?;
    if text.is_empty() {
        return Err(Error::new(failed()).because("the process that builds it was killed"));
    }
    serde_json::from_slice::<Result<Built>>(&text).step(failed)?
}
