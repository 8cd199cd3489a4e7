//! A new container, as `run` and `create` make it.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::Global;
use crate::cli::container_options::ContainerOptions;
use crate::cli::rm;
use crate::cli::transfer::options::registry_name;
use crate::container::directory::ContainerDirectory;
use crate::container::name;
use crate::container::plan::{self, Decided, Place};
use crate::container::spec::Spec;
use crate::container::store::{Claim, Store};
use crate::container::sweep;
use crate::error::{Error, Result, Step};
use crate::host::paths;
use crate::identity::Userns;
use crate::image;
use crate::limits;
use crate::network::Reserved;

/// Names that are tried without a number, and at all.
const FEW_NAMES: u32 = 4;
const MOST_NAMES: u32 = 20;

/// A container that has been made and whose lock is held.
pub struct Created {
    pub store: Store,
    /// The user's runtime directory.
    pub runtime: PathBuf,
    pub spec: Spec,
    /// To be held until the container runs.
    pub reserved: Reserved,
    pub directory: ContainerDirectory,
    pub claim: Claim,
    /// The file with the container's ID.
    pub cidfile: Option<PathBuf>,
}

/// Makes a container of what was typed.
///
/// # Errors
/// The first option that is wrong or cannot be honoured; the image is not to be had; the store takes no more.
pub fn create(
    options: &ContainerOptions,
    mut command: Vec<String>,
    quiet: bool,
    global: &Global,
) -> Result<Created> {
    let surroundings = paths::Surroundings::current();
    let store = Store::new(paths::store(global.root.as_deref(), &surroundings)?);
    options.trust.check()?;
    let platform = options.platform.resolve()?;
    let registry = options.registry.resolve()?;
    // Before an image is pulled for nothing.
    limits::plan(&options.limits, &options.control_group)?;
    let image = image::source(&options.rootfs, options.rootfs_rw.as_ref(), &mut command, |name| {
        let request = image::resolve::Request {
            name: &registry_name(name)?,
            pull: options.pull,
            platform,
            registry,
            tier: options.id_tier,
            quiet,
        };
        image::resolve::resolve(store.root(), &request)
    })?;
    paths::create_store(store.root())?;
    let runtime = paths::runtime(&surroundings)?;
    if let Some(note) = &runtime.note {
        log::info!("{note}");
    }
    if let Some(name) = options.name.as_deref().filter(|_| options.replace) {
        // Before anything is chosen: what it holds, such as ports, is free then.
        rm::remove_for_another(&store, &runtime.path, name)?;
    }
    let place = Place { store: &store, runtime: &runtime };
    // Held until the choice stands in the spec.
    let choice =
        matches!(options.userns, Some(Userns::Auto(_))).then(|| store.lock_choice_of_ids()).transpose()?;
    let decide = || plan::container(options, image.source.clone(), &image.config, command.clone(), &place);
    let Decided { mut spec, reserved } =
        decide().or_else(|error| match sweep::sweep(&store, &runtime.path) {
            0 => Err(error),
            // A helper whose monitor was killed may have held the port.
            _ => decide(),
        })?;
    for notice in &spec.degraded {
        log::warn!("{notice}");
    }
    let cidfile = options.cidfile.as_ref().map(|path| write_cidfile(path, &spec.id)).transpose()?;
    let made = make(&store, &mut spec, options.name.is_none(), &runtime.path);
    drop((choice, image.lock));
    let (claim, directory) = made.inspect_err(|_| remove_cidfile(cidfile))?;
    let cidfile = cidfile.map(Path::to_owned);
    Ok(Created { store, runtime: runtime.path, spec, reserved, directory, claim, cidfile })
}

/// Makes the container's directory; one whose name nobody chose gets another where it is taken.
fn make(
    store: &Store,
    spec: &mut Spec,
    any_name: bool,
    runtime: &Path,
) -> Result<(Claim, ContainerDirectory)> {
    let mut attempts = 0;
    loop {
        let error = match store.create(spec) {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        if any_name && attempts < MOST_NAMES && store.is_taken(&spec.name) {
            attempts += 1;
            spec.name = if attempts < FEW_NAMES { name::random()? } else { name::random_with_number()? };
            continue;
        }
        // The name may be that of a container whose monitor was killed.
        sweep::sweep(store, runtime);
        return store.create(spec).map_err(|_| error);
    }
}

fn write_cidfile<'a>(path: &'a Path, id: &str) -> Result<&'a Path> {
    let failed = || format!("cannot write the container's ID to `{}`", path.display());
    let mut file = std::fs::File::create_new(path).map_err(|error| {
        let exists = error.kind() == std::io::ErrorKind::AlreadyExists;
        if exists {
            Error::new(failed())
                .because("container ID file found")
                .hint("make sure that the container that it names does not run, and remove the file")
        } else {
            Error::new(failed()).because(error)
        }
    })?;
    file.write_all(id.as_bytes()).step(failed)?;
    Ok(path)
}

pub fn remove_cidfile(path: Option<&Path>) {
    if let Some(path) = path {
        let _ = std::fs::remove_file(path);
    }
}
