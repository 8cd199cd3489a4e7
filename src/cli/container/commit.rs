//! `sbx commit`

use std::path::PathBuf;

use super::Place;
use crate::cli::Global;
use crate::container::life;
use crate::container::list::{self, Status};
use crate::container::open_root::{self, Kept, OpenRoot};
use crate::error::{Error, Result, Step};
use crate::events::{self, Event};
use crate::image::reference::Reference;
use crate::image::transfer::commit::{self, Options};
use crate::image::transfer::convert::Schema;
use crate::output::print;
use crate::sys::process::wait_for;

/// Make an image of a container
///
/// What the container has changed becomes one more layer on those of its image; volumes and what else is mounted in it
/// do not. Of a container without an image (`--rootfs`) the whole root becomes one layer. A container of the new image
/// runs what this one runs. The ID of the image is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx commit web site:2
  sbx commit -m 'with the fix' -a 'Ada <ada@example.org>' web site:2
  sbx commit -c 'CMD [\"nginx\"]' -c 'ENV MODE=production' web site:2")]
pub struct CommitArgs {
    /// Who made the image
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// Apply an instruction of a Dockerfile to the configuration: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK,
    /// LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// The kind of the image's documents
    #[arg(short, long, value_name = "FORMAT", default_value = "oci")]
    format: Schema,
    /// Write the ID of the image to this file
    #[arg(short, long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Say this in the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Freeze the container meanwhile
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pause: Option<bool>,
    /// Print nothing but the ID
    #[arg(short, long)]
    quiet: bool,
    /// Make one layer of everything
    #[arg(short, long)]
    squash: bool,
    /// A name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's name; without one it has none but its ID
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub fn execute(args: CommitArgs, global: &Global) -> Result<u8> {
    let name =
        args.name.as_deref().map(|text| Reference::parse(text).map(Reference::or_latest)).transpose()?;
    if let Some(name) = name.as_ref().filter(|name| name.digest.is_some()) {
        return Err(Error::new(format!("cannot give an image the name `{name}`"))
            .because("a digest is not given, it follows from the content"));
    }
    let place = Place::of(global)?;
    let id = place.store.find(&args.container)?;
    let options = Options {
        name,
        author: args.author,
        message: args.message,
        changes: args.change,
        schema: args.format,
        squash: args.squash,
        quiet: args.quiet,
    };
    // Held until the layer is made.
    let (spec, kept) = open_root::look(&place.store, &place.runtime, &id)?;
    let frozen = match (&kept, args.pause) {
        (Kept::Running(_), Some(true)) => freeze(&place, &id)?,
        _ => false,
    };
    let settled = if matches!(kept, Kept::Running(_)) { settle(&place, &id) } else { Ok(()) };
    let image = settled.and_then(|()| commit::commit(&place.store, &id, &options));
    if frozen && let Err(error) = life::unpause(&place.store, &place.runtime, &id) {
        // It has ended meanwhile, or somebody else let it go on.
        log::debug!("{error}");
    }
    drop(kept);
    let image = image?;
    let event = Event::container(events::Action::Commit, &spec);
    events::record(place.store.root(), &place.runtime, event);
    if let Some(file) = &args.iidfile {
        std::fs::write(file, image.as_str())
            .step(|| format!("cannot write the image's ID to `{}`", file.display()))?;
    }
    print::line(image.as_str())?;
    Ok(0)
}

/// Freezes the container, unless it is already: false.
fn freeze(place: &Place, id: &str) -> Result<bool> {
    if list::one(&place.store, id).is_some_and(|found| matches!(found.status, Status::Paused { .. })) {
        return Ok(false);
    }
    life::pause(&place.store, &place.runtime, id).map_err(|error| {
        error
            .while_doing("cannot freeze the container while its image is made")
            .hint("leave out `--pause`: files that change meanwhile are taken as they are found")
    })?;
    Ok(true)
}

/// Has what the container wrote brought to where it is read from: the kernel keeps writes to a FUSE root back.
fn settle(place: &Place, id: &str) -> Result<()> {
    let opened = OpenRoot::open(&place.store, &place.runtime, id)?;
    let pid = opened.start(&[], |root| {
        let opened = root.map(|root| {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::openat(root.directory(), ".", flags, rustix::fs::Mode::empty())
        });
        if let Ok(Ok(root)) = opened {
            let _ = rustix::fs::syncfs(root);
        }
    })?;
    wait_for(pid).map(|_| ()).step(|| "cannot wait for a process")
}
