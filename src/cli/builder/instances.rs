//! docker's builders: there is one, sbx itself, which starts when it is called and ends when it is done.

use crate::cli::dialect;
use crate::error::{Error, Result};
use crate::image::platform::Wanted;
use crate::output::print;
use crate::output::table::Table;

const ONLY: &str = "default";
/// The buildx whose command line is spoken; programs that drive it compare the number.
const VERSION: &str = "v0.17.1";

/// Show the version of the command line that is spoken
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx buildx version")]
pub struct VersionArgs {}

/// List the builders: there is one
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx buildx ls")]
pub struct ListArgs {}

/// Show a builder: there is one
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx buildx inspect\n  sbx buildx inspect --bootstrap default")]
pub struct InspectArgs {
    /// Accepted for the sake of scripts: there is nothing to be started
    #[arg(long)]
    bootstrap: bool,
    /// The builder
    #[arg(value_name = "NAME", default_value = ONLY)]
    name: String,
}

/// Choose a builder: there is one
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx buildx use default")]
pub struct UseArgs {
    /// Accepted for the sake of scripts
    #[arg(long)]
    default: bool,
    /// Accepted for the sake of scripts
    #[arg(long)]
    global: bool,
    /// The builder
    #[arg(value_name = "NAME")]
    name: String,
}

/// What makes no sense without daemons, whatever its options
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sbx buildx build -t site .")]
pub struct OtherArgs {
    #[arg(value_name = "WORDS", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub fn version(_args: &VersionArgs) -> Result<u8> {
    let own = env!("CARGO_PKG_VERSION");
    print::line(&match dialect::current() {
        // podman's builder is buildah.
        dialect::Dialect::Podman => format!("sbx {own}"),
        _ => format!("github.com/docker/buildx {VERSION} sbx-{own}"),
    })?;
    Ok(0)
}

pub fn list(_args: &ListArgs) -> Result<u8> {
    let mut table = Table::new(["name/node", "driver/endpoint", "status", "buildkit", "platforms"]);
    let (name, platform) = (format!("{ONLY}*"), Wanted::host().to_string());
    table.push([name.as_str(), "sbx", "running", env!("CARGO_PKG_VERSION"), &platform]);
    print::text(&table.render())?;
    Ok(0)
}

pub fn inspect(args: &InspectArgs) -> Result<u8> {
    let _ = args.bootstrap;
    known(&args.name)?;
    print::text(&format!(
        "Name:      {ONLY}\nDriver:    sbx\n\nNodes:\nName:      {ONLY}\nEndpoint:  {ONLY}\nStatus:    running\nPlatforms: {}\n",
        Wanted::host()
    ))?;
    Ok(0)
}

pub fn choose(args: &UseArgs) -> Result<u8> {
    let _ = (args.default, args.global);
    known(&args.name).map(|()| 0)
}

fn known(name: &str) -> Result<()> {
    match name == ONLY {
        true => Ok(()),
        false => Err(Error::new(format!("there is no builder `{}`", name.escape_debug()))
            .because("sbx builds by itself, without a daemon that could be one of several")
            .hint(format!("leave it out, or name `{ONLY}`"))),
    }
}

/// `verb` is what was asked for.
pub fn refuse(verb: &str, args: &OtherArgs) -> Result<u8> {
    let shown = args.words.iter().map(|word| format!(" {}", word.escape_debug())).collect::<String>();
    let error = Error::new(format!("cannot do `buildx {verb}{shown}`"));
    Err(match verb {
        "bake" => error
            .because("files that describe several builds are not read")
            .hint("call `sbx buildx build` for each target"),
        "imagetools" => error
            .because("images for several platforms are pulled, but not made yet")
            .hint("`sbx image inspect` shows an image, `sbx push` sends it"),
        _ => error
            .because("there are no builders to be made, started or removed: sbx builds by itself, without a daemon")
            .hint("leave this out; `sbx buildx build` needs no preparation"),
    })
}
