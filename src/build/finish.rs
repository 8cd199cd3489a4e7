//! The last stage becomes an image of the store, or files.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::build::builder::{Builder, Built};
use crate::build::dockerfile::ignore::Ignore;
use crate::build::dockerfile::matching::Destination;
use crate::build::place::{Attributes, Plan};
use crate::build::select::{self, Rules};
use crate::build::solve::Request;
use crate::build::tree::Tree;
use crate::copying::find::{self, Target};
use crate::copying::receive::{Manner, Owner, receive};
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, RootFs, media_type};
use crate::image::store::NewImage;
use crate::image::transfer::archive::docker::manifest;
use crate::image::transfer::convert::to_schema;
use crate::layers::pack::Times;
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, die_with_parent, exit_now, fork, wait_for};

/// Where the result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image of the store.
    Image,
    /// An archive of the files; none: standard output.
    Tar(Option<PathBuf>),
    /// The files in a directory.
    Directory(PathBuf),
}

/// # Errors
/// The store or the place of the output cannot be written.
pub fn finish(builder: &Builder<'_>, built: Built, request: &Request) -> Result<Option<Digest>> {
    let finished = match &request.output {
        Output::Image => image(builder, built, request).map(Some),
        Output::Tar(None) => files(builder, &built, &mut std::io::stdout()).map(|()| None),
        Output::Tar(Some(path)) => {
            let failed = || format!("cannot write `{}`", path.display());
            let mut file = File::create(path).step(failed)?;
            files(builder, &built, &mut file).map_err(|error| error.while_doing(failed()))?;
            Ok(None)
        }
        Output::Directory(path) => {
            let failed = || format!("cannot write to `{}`", path.display());
            std::fs::create_dir_all(path).step(failed)?;
            directory(builder, &built, path).map_err(|error| error.while_doing(failed()))?;
            Ok(None)
        }
    };
    // Once for all layers: killed before, they are made again after the next boot.
    if let Err(error) = builder.layers.settle() {
        log::warn!("{error}: what was built is unpacked again after the next boot");
    }
    finished
}

fn image(builder: &Builder<'_>, built: Built, request: &Request) -> Result<Digest> {
    let Built { configuration, layers, inherited } = built;
    let mut config = configuration.image;
    config.config.labels.extend(request.labels.iter().cloned());
    let diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
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
    for entry in config.history.iter_mut().skip(inherited) {
        entry.created = Some(created.clone());
    }
    let config_bytes = serde_json::to_vec(&config).step(written)?;
    let id = builder.images.put_bytes(&config_bytes, &builder.lease)?;
    let descriptor = Descriptor::new(media_type::OCI_CONFIG, id.clone(), config_bytes.len() as u64);
    let mut document = manifest(descriptor, layers.iter().map(|layer| layer.blob.clone()).collect());
    document.annotations.extend(request.annotations.clone());
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
    let mut change = builder.images.change()?;
    match request.names.as_slice() {
        [] => change.put(None, &new),
        names => names.iter().for_each(|name| change.put(Some(name), &new)),
    }
    change.commit()?;
    for name in &request.names {
        builder.report.line(&format!("Successfully tagged {}", name.familiar()));
    }
    Ok(id)
}

/// Writes the archive of all files.
fn files(builder: &Builder<'_>, built: &Built, target: &mut (dyn Write + Send)) -> Result<()> {
    builder
        .as_root(|_| {
            pack_all(builder, built, target)?;
            Ok(None)
        })
        .map(|_| ())
}

fn pack_all(builder: &Builder<'_>, built: &Built, target: &mut (dyn Write + Send)) -> Result<()> {
    let (nothing, tree) = (Tree::of_layers(&[])?, builder.tree(&built.layers)?);
    let exclude = Ignore::default();
    let rules = Rules { ignore: None, exclude: &exclude, parents: false, place: "the image" };
    let taken = select::select(&tree, &[".".to_owned()], &rules)?;
    let mut plan = Plan::new(&nothing, Attributes { owner: None, mode: None, now: builder.now() });
    plan.copy(&taken, &[], &Destination::read("/", "/"))?;
    let mut target = std::io::BufWriter::with_capacity(1 << 18, target);
    plan.pack(Some(&tree), builder.times, &mut target)?;
    target.flush().step(|| "cannot write the archive")
}

/// Writes all files below a directory, as the caller's own: by a process that is not root of anything.
fn directory(builder: &Builder<'_>, built: &Built, path: &Path) -> Result<()> {
    let failed = || "cannot start a process";
    let (input, output) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(failed)?;
    let (ours, theirs) = Channel::pair().step(failed)?;
    let parent = std::process::id();
    let pid = match fork().step(failed)? {
        Fork::Parent(pid) => {
            drop((input, theirs));
            pid
        }
        Fork::Child => {
            drop((output, ours));
            let _ = die_with_parent(parent);
            let manner = Manner {
                owner: Owner::Maker,
                special_bits: false,
                all_attributes: false,
                overwrite: true,
                record: false,
            };
            let received = Target::directory(find::Tree::Host, path.as_os_str().as_bytes())
                .and_then(|target| receive(&mut File::from(input), target, true, &manner));
            let _ = theirs.send(&received);
            exit_now(0)
        }
    };
    let packed = files(builder, built, &mut File::from(output));
    let received = ours.receive::<Result<()>>().step(failed)?;
    wait_for(pid).step(failed)?;
    match received {
        Some((Err(error), _)) => Err(error),
        Some((Ok(()), _)) => packed,
        None => Err(Error::new("the process that writes the files was killed")),
    }
}
