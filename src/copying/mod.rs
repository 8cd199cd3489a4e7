//! `sbx cp`: files between containers, and between a container and the caller.
//!
//! A process in the container's user namespace ([`OpenRoot`]) and one of the caller's speak tar over a pipe: one
//! packs ([`crate::layers::pack`]), the other unpacks ([`receive`]). Paths in the container are resolved in its root
//! by the former alone, paths of the caller by the latter, so that neither has to trust what the other finds.

pub mod find;
mod new_file;
pub mod place;
pub mod receive;

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::container::open_root::OpenRoot;
use crate::container::spec::{Root, Spec};
use crate::container::store::{Store, no_room};
use crate::container::user;
use crate::emulation::Emulation;
use crate::error::{Error, Result, Step};
use crate::events::{self, Action, Event};
use crate::layers::compression;
use crate::layers::owners::Owners;
use crate::layers::pack::{Part, pack_part};
use crate::sandbox::inroot::InRoot;
use crate::sys::channel::Channel;
use crate::sys::process::{send_signal, wait_for};

use find::{Shape, Source, Target, Tree};
use place::Place;
use receive::{Manner, Owner, receive};

/// /etc/passwd and /etc/group of an image are not worth more than this.
const LONGEST_ACCOUNT_FILE: u64 = 16 << 20;
/// Bytes written at once.
const PIECE: usize = 256 << 10;

/// What is copied how.
#[derive(Debug, Clone)]
pub struct Request {
    pub from: Place,
    pub to: Place,
    /// Owners and all attributes are kept; else what comes into a container belongs to its user.
    pub archive: bool,
    /// A symlink that is named as the source is followed.
    pub follow: bool,
    pub overwrite: bool,
}

/// From the process in a container to the command.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Found(Shape),
    /// The place for what comes is found.
    Ready,
    /// Bytes of the archive.
    Done(u64),
    Failed(Error),
}

/// Copies, and gives the bytes of the archive that it took.
///
/// # Errors
/// The source or the place for it is not there, a container cannot be opened, or a file cannot be read or made.
pub fn copy(store: &Store, runtime: &Path, request: &Request) -> Result<u64> {
    let open = |container: &str| {
        let opened = OpenRoot::open(store, runtime, &store.find(container)?)?;
        events::record(store.root(), runtime, Event::container(Action::Copy, opened.spec()));
        Ok::<_, Error>(opened)
    };
    match (&request.from, &request.to) {
        (Place::Container { container, path }, Place::Container { container: other, path: to }) => {
            let (first, second) = (store.find(container)?, store.find(other)?);
            let opened = open(container)?;
            let other = (first != second).then(|| OpenRoot::open(store, runtime, &second)).transpose()?;
            between(store, &opened, path, other.as_ref().unwrap_or(&opened), to, request)
        }
        (Place::Container { container, path }, Place::Local(to)) => {
            out(store, &open(container)?, path, to, request)
        }
        (Place::Container { container, path }, Place::Stream) => {
            if std::io::stdout().is_terminal() {
                return Err(Error::new("cowardly refusing to copy an archive to a terminal")
                    .hint("redirect the output: `sbx cp CONTAINER:PATH - > FILE.tar`"));
            }
            stream_out(store, &open(container)?, path, request)
        }
        (Place::Local(from), Place::Container { container, path }) => {
            // Before the container is made ready for nothing.
            let source = Source::find(Tree::Host, from, request.follow)?;
            into(&open(container)?, &source, path, request)
        }
        (Place::Stream, Place::Container { container, path }) => {
            if std::io::stdin().is_terminal() {
                return Err(Error::new("cannot copy an archive from a terminal")
                    .hint("redirect the input: `sbx cp - CONTAINER:PATH < FILE.tar`"));
            }
            stream_in(&open(container)?, path, request)
        }
        (Place::Local(_) | Place::Stream, Place::Local(_) | Place::Stream) => {
            Err(Error::new("cannot copy without a container")
                .because("neither the source nor the target is a path in one")
                .hint("write CONTAINER:PATH; cp(1) copies files of this machine"))
        }
    }
}

/// A process in a container, and what it says.
struct Worker {
    pid: i32,
    channel: Channel,
}

impl Worker {
    /// Starts `work` in the container, with one end of a pipe; its failure is the last that it says.
    fn start(
        opened: &OpenRoot,
        end: RawFd,
        work: impl FnOnce(&InRoot, &Channel) -> Result<u64>,
    ) -> Result<Self> {
        let (ours, theirs) = Channel::pair().step(|| "cannot make a socket pair")?;
        let kept = [end, theirs.as_fd().as_raw_fd()];
        let pid = opened.start(&kept, |root| {
            let _ = theirs.send(&match root.and_then(|root| work(&root, &theirs)) {
                Ok(bytes) => Said::Done(bytes),
                Err(error) => Said::Failed(error),
            });
        })?;
        Ok(Self { pid, channel: ours })
    }

    fn next(&self) -> Result<Said> {
        match self.channel.receive().step(|| "cannot talk to the process in the container")? {
            Some((Said::Failed(error), _)) => Err(error),
            Some((said, _)) => Ok(said),
            None => Err(Error::new("the process in the container was killed")),
        }
    }

    fn found(&self) -> Result<Shape> {
        match self.next()? {
            Said::Found(shape) => Ok(shape),
            _ => Err(Error::new("cannot understand the process in the container")),
        }
    }

    fn ready(&self) -> Result<()> {
        match self.next()? {
            Said::Ready => Ok(()),
            _ => Err(Error::new("cannot understand the process in the container")),
        }
    }

    fn done(&self) -> Result<u64> {
        match self.next()? {
            Said::Done(bytes) => Ok(bytes),
            _ => Err(Error::new("cannot understand the process in the container")),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = send_signal(self.pid, libc::SIGKILL);
        let _ = wait_for(self.pid);
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(|| "cannot make a pipe")
}

/// Starts the process that packs `path` of the container into `output`.
fn sender(
    store: &Store,
    opened: &OpenRoot,
    path: &[u8],
    request: &Request,
    output: OwnedFd,
) -> Result<Worker> {
    let recorded = recorded_owners(store, opened.spec());
    let end = output.as_raw_fd();
    Worker::start(opened, end, move |root, channel| {
        let source = Source::find(Tree::Container(root), path, request.follow)?;
        channel.send(&Said::Found(source.shape.clone())).step(|| "cannot talk to the command")?;
        let within = root_path(&source, root);
        let becomes = source.shape.name.clone().unwrap_or_else(|| b".".to_vec());
        let owners = within.map(|within| recorded.below(&within, &becomes)).unwrap_or_default();
        pack_source(&source, &becomes, &owners, File::from(output))
    })
}

/// Starts the process that unpacks what comes from `input` at the place for a source of this shape, or, without one,
/// in the directory `path`.
fn receiver(
    opened: &OpenRoot,
    path: &[u8],
    shape: Option<&Shape>,
    request: &Request,
    input: OwnedFd,
) -> Result<Worker> {
    let end = input.as_raw_fd();
    Worker::start(opened, end, move |root, channel| {
        let tree = Tree::Container(root);
        let target = match shape {
            Some(shape) => Target::find(tree, path, shape, request.overwrite)?,
            None => Target::directory(tree, path)?,
        };
        let manner = Manner {
            owner: if request.archive { Owner::Archive } else { users(root, opened.spec()) },
            special_bits: true,
            all_attributes: request.archive,
            overwrite: request.overwrite,
            record: opened.spec().emulation != Emulation::Off,
        };
        channel.send(&Said::Ready).step(|| "cannot talk to the command")?;
        let input = File::from(input);
        match shape {
            Some(_) => receive(&mut &input, target, false, &manner),
            None => {
                let (_, mut archive) =
                    compression::decompress_detected(input).step(|| "cannot read the archive")?;
                receive(&mut archive, target, true, &manner)
            }
        }
        .map(|()| 0)
    })
}

fn out(store: &Store, opened: &OpenRoot, path: &[u8], to: &[u8], request: &Request) -> Result<u64> {
    let (input, output) = pipe()?;
    let worker = sender(store, opened, path, request, output)?;
    let shape = worker.found()?;
    let target = Target::find(Tree::Host, to, &shape, request.overwrite)?;
    let manner = Manner {
        owner: Owner::Maker,
        special_bits: false,
        all_attributes: false,
        overwrite: request.overwrite,
        record: false,
    };
    let received = receive(&mut &File::from(input), target, false, &manner);
    // What went wrong there explains what is missing here.
    match (worker.done(), received) {
        (Err(error), Err(ours)) if is_closed_pipe(&error) => Err(ours),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(bytes), Ok(())) => Ok(bytes),
    }
}

fn stream_out(store: &Store, opened: &OpenRoot, path: &[u8], request: &Request) -> Result<u64> {
    let output = std::io::stdout().as_fd().try_clone_to_owned().step(|| "cannot write to standard output")?;
    let worker = sender(store, opened, path, request, output)?;
    worker.found()?;
    worker.done()
}

fn into(opened: &OpenRoot, source: &Source, path: &[u8], request: &Request) -> Result<u64> {
    let (input, output) = pipe()?;
    let worker = receiver(opened, path, Some(&source.shape), request, input)?;
    worker.ready()?;
    let becomes = source.shape.name.clone().unwrap_or_else(|| b".".to_vec());
    let packed = pack_source(source, &becomes, &Owners::default(), File::from(output));
    match (packed, worker.done()) {
        (Err(error), Err(theirs)) if is_closed_pipe(&error) => Err(theirs),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(bytes), Ok(_)) => Ok(bytes),
    }
}

fn stream_in(opened: &OpenRoot, path: &[u8], request: &Request) -> Result<u64> {
    let input = std::io::stdin().as_fd().try_clone_to_owned().step(|| "cannot read standard input")?;
    let worker = receiver(opened, path, None, request, input)?;
    worker.ready()?;
    worker.done()
}

fn between(
    store: &Store,
    opened: &OpenRoot,
    path: &[u8],
    other: &OpenRoot,
    to: &[u8],
    request: &Request,
) -> Result<u64> {
    let (input, output) = pipe()?;
    let sending = sender(store, opened, path, request, output)?;
    let shape = sending.found()?;
    let receiving = receiver(other, to, Some(&shape), request, input)?;
    receiving.ready()?;
    match (sending.done(), receiving.done()) {
        (Err(error), Err(theirs)) if is_closed_pipe(&error) => Err(theirs),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(bytes), Ok(_)) => Ok(bytes),
    }
}

fn pack_source(source: &Source, becomes: &[u8], owners: &Owners, output: File) -> Result<u64> {
    let mut output = BufWriter::with_capacity(PIECE, output);
    let part = Part { parent: source.parent.as_fd(), name: &source.name, becomes, owners };
    let bytes = pack_part(&part, &mut output)?;
    output.flush().map_err(|error| no_room(error, "cannot write the archive".to_owned()))?;
    Ok(bytes)
}

/// The other end has failed, and says why itself.
fn is_closed_pipe(error: &Error) -> bool {
    let closed = std::io::Error::from_raw_os_error(libc::EPIPE);
    error.causes().last().is_some_and(|cause| *cause == crate::error::plain(&closed.to_string()))
}

/// The user and group of the container's command, who is to work with what is copied (podman-cp(1), `--archive`).
fn users(root: &InRoot, spec: &Spec) -> Owner {
    let read = |path| root.read(Path::new(path), LONGEST_ACCOUNT_FILE).unwrap_or_default();
    let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
    let default = spec.identity.default_user;
    match user::resolve(spec.process.user.as_deref(), &[], &passwd, &group, default) {
        Ok(user) => Owner::One(user.uid, user.gid),
        Err(error) => {
            log::debug!("what is copied belongs to the container's root: {error}");
            Owner::Maker
        }
    }
}

/// What is recorded of owners beside the layers and in the container's directory; nothing where inodes have them.
fn recorded_owners(store: &Store, spec: &Spec) -> Owners {
    let directory = store.directory_of(spec);
    let read = || -> Result<Owners> {
        let located = spec.located(store.root(), &directory)?;
        let Root::Directories { lowers, .. } = &located.root else { return Ok(Owners::default()) };
        let mut all = Owners::default();
        if matches!(spec.root, Root::Layers { .. }) {
            for layer in lowers.iter().filter_map(|lower| lower.parent()) {
                all.cover(Owners::load(layer)?);
            }
        }
        all.cover(Owners::load(directory.path())?);
        Ok(all)
    };
    read().unwrap_or_else(|error| {
        log::debug!("{error}");
        Owners::default()
    })
}

/// The path of the source from the root; none where it is mounted or cannot be told.
fn root_path(source: &Source, root: &InRoot) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let path_of = |fd: std::os::fd::BorrowedFd<'_>| {
        std::fs::read_link(crate::sandbox::inroot::descriptor_path(fd)).ok()
    };
    let parent = path_of(source.parent.as_fd())?;
    let below = parent.strip_prefix(path_of(root.directory())?).ok()?.as_os_str().as_bytes().to_vec();
    Some(match (source.name.as_slice(), below.as_slice()) {
        (b".", _) => below,
        (name, b"") => name.to_vec(),
        (name, below) => [below, b"/", name].concat(),
    })
}
