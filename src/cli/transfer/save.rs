//! `sbx save`

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::cli::Global;
use crate::cli::transfer::output;
use crate::error::{Error, Result};
use crate::events::{self, Action, Event};
use crate::host::paths;
use crate::image::store::ImageStore;
use crate::image::transfer::save::{self, Format};
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
        Some(path) => {
            output::file(path, |file| save::archive(&store, &images, args.format, file, &progress))?;
        }
        None if args.format.is_directory() => {
            return Err(
                Error::new("cannot save a directory to standard output").hint("name it with `-o DIRECTORY`")
            );
        }
        None => {
            let mut stdout = output::stdout("save")?;
            save::archive(&store, &images, args.format, &mut stdout, &progress)?;
        }
    }
    for saved in &images {
        let name = saved.names.first().map(ToString::to_string).unwrap_or_default();
        events::record_here(&root, Event::image(Action::Save, &saved.image.id, name));
    }
    Ok(0)
}
