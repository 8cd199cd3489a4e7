//! `sbx save`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::cli::Global;
use crate::container::store::no_room;
use crate::error::{Error, Result};
use crate::host::paths;
use crate::image::store::ImageStore;
use crate::image::transfer::save::{self, Format, Saved};
use crate::output::progress::Progress;

/// Save images to an archive
///
/// The default is an archive that docker, podman and skopeo load, and that is an OCI layout, too. The same images
/// give the same bytes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx save -o tool.tar tool:1
  sbx save tool:1 | ssh host podman load
  sbx save --format oci-dir -o layout tool:1 tool:2")]
pub struct SaveArgs {
    /// Write this file or directory instead of standard output
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// What is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Accepted for podman's sake: archives always take several images
    #[arg(short, long)]
    multi_image_archive: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub fn execute(args: &SaveArgs, global: &Global) -> Result<u8> {
    let root = paths::store(global.root.as_deref(), &paths::Surroundings::current())?;
    let store = ImageStore::new(&root);
    let images = save::find(&store, &args.images)?;
    if args.multi_image_archive && args.format == Format::DockerDir {
        return Err(Error::new("cannot save several images with `--format docker-dir`")
            .because("a directory of this kind holds one image"));
    }
    // Lines for each blob would tell nothing: what is asked for is the file.
    let progress = Progress::new(args.quiet || !std::io::stderr().is_terminal());
    let output = args.output.as_deref().filter(|path| path.as_os_str() != "-");
    match output {
        Some(path) if args.format.is_directory() => {
            save::directory(&store, &images, args.format, path, &progress)?;
        }
        Some(path) => to_file(&store, &images, args.format, path, &progress)?,
        None if args.format.is_directory() => {
            return Err(
                Error::new("cannot save a directory to standard output").hint("name it with `-o DIRECTORY`")
            );
        }
        None => {
            let mut stdout = std::io::stdout().lock();
            if stdout.is_terminal() {
                return Err(Error::new("cowardly refusing to save to a terminal")
                    .hint("name a file with `-o FILE`, or redirect the output"));
            }
            save::archive(&store, &images, args.format, &mut stdout, &progress)?;
        }
    }
    Ok(0)
}

/// The file appears when it is whole. What is there and no file (a pipe, /dev/null) is written to.
fn to_file(
    store: &ImageStore,
    images: &[Saved],
    format: Format,
    path: &Path,
    progress: &Progress,
) -> Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
    let exists = path.symlink_metadata();
    if exists.is_ok_and(|metadata| !metadata.is_file()) {
        let file = std::fs::File::options().write(true).open(path);
        let mut file = file.map_err(|error| Error::new(failed()).because(error))?;
        return save::archive(store, images, format, &mut file, progress);
    }
    let name = path.file_name().ok_or_else(|| Error::new(failed()).because("it has no name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let file = std::fs::File::create_new(&temporary);
    let mut file = file.map_err(|error| no_room(error, failed()))?;
    let written = save::archive(store, images, format, &mut file, progress)
        .and_then(|()| std::fs::rename(&temporary, path).map_err(|error| no_room(error, failed())));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
