//! The files of the last stage: an archive, or a directory of the caller's own.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::build::builder::{Builder, Built};
use crate::build::dockerfile::ignore::Ignore;
use crate::build::dockerfile::matching::Destination;
use crate::build::place::{Attributes, Plan};
use crate::build::select::{self, Rules};
use crate::build::tree::Tree;
use crate::copying::find::{self, Target};
use crate::copying::receive::{Manner, Owner, receive};
use crate::error::{Error, Result, Step};
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, die_with_parent, exit_now, fork, wait_for};

/// Writes the archive of all files.
///
/// # Errors
/// A file cannot be read, or the archive not be written.
pub fn files(builder: &Builder<'_>, built: &Built, target: &mut (dyn Write + Send)) -> Result<()> {
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
    let mut plan = Plan::new(&nothing, Attributes { now: builder.now(), ..Attributes::default() });
    plan.copy(&taken, &[], &Destination::read("/", "/"))?;
    let mut target = std::io::BufWriter::with_capacity(1 << 18, target);
    plan.pack(Some(&tree), builder.times, &mut target)?;
    target.flush().step(|| "cannot write the archive")
}

/// Writes all files below a directory, as the caller's own: by a process that is not root of anything.
///
/// # Errors
/// A file cannot be read or written.
pub fn directory(builder: &Builder<'_>, built: &Built, path: &Path) -> Result<()> {
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
