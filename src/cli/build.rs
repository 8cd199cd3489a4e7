//! `sbx build`

mod cache_options;
mod fixed_options;
mod image_options;
mod output_options;
mod run_options;
mod secret_options;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::build::context;
use crate::build::dockerfile::lint::{self, Surroundings};
use crate::build::dockerfile::plan::plan;
use crate::build::dockerfile::settings::{Settings, context_name};
use crate::build::fetch::context::Means;
use crate::build::fetch::named::Named;
use crate::build::finish::Finished;
use crate::build::remote::{Export, Place};
use crate::build::report;
use crate::build::solve::{self, Request};
use crate::build::squash::Squash;
use crate::build::watch;
use crate::cli::Global;
use crate::cli::dialect::{self, Dialect};
use crate::cli::transfer::options::{PlatformOptions, RegistryOptions, TrustOption};
use crate::container::store::{Store, no_room};
use crate::error::{Error, Result, Step};
use crate::host::paths;
use crate::identity::Tier;
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::store::ImageStore;
use crate::image::transfer::Policy;
use crate::image::transfer::convert::Schema;
use crate::layers::pack::Times;
use crate::layers::unpack::archive::Time;
use crate::output::{harmless, print};
use cache_options::CacheOptions;
use fixed_options::FixedOptions;
use image_options::ImageOptions;
use output_options::{OutputOptions, Outputs};
pub use run_options::Allowed;
use run_options::RunOptions;
use secret_options::SecretOptions;

/// The variable that makes builds reproducible (reproducible-builds.org).
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// podman's variable for `--format`.
const FORMAT: &str = "BUILDAH_FORMAT";

/// docker's variable for `--progress`.
const PROGRESS: &str = "BUILDKIT_PROGRESS";

/// The argument that leaves `.git` in a context (BuildKit's name).
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// What BuildKit takes as arguments though it is about the build: the name of the host that RUN sees,
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
/// and `--cache-to type=inline`.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";

/// How the progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressKind {
    /// What suits standard error.
    Auto,
    /// Lines.
    Plain,
    /// What runs is drawn at the bottom of the terminal.
    Tty,
    /// Nothing but errors, and the ID.
    #[value(alias = "none")]
    Quiet,
    /// BuildKit's messages, a JSON object a line.
    #[value(name = "rawjson")]
    RawJson,
}

/// Build an image from a Dockerfile
///
/// CONTEXT is what COPY and ADD take from: a directory, an archive on standard input (`-`), a git repository
/// (`https://HOST/NAME.git#BRANCH:DIRECTORY`, `git@HOST:NAME.git`), or the URL of an archive. A Dockerfile alone, on standard
/// input or at a URL, has none. The steps are shown on standard error, and the ID of the image on standard output.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:
  sbx build -t site .
  sbx build -t site:2 --build-arg VERSION=2 --target final .
  sbx build -t registry.example.org/site --push .
  sbx build --secret id=token,src=token.txt .
  sbx build --ssh default=$HOME/.ssh/id_ed25519 .
  sbx build -o out .
  sbx build https://example.org/site.git#main:docs
  sbx build --build-context debian=docker-image://debian:13 --build-context assets=../assets .
  tar -c . | sbx build -
  sbx build -t site -o type=oci,dest=site.tar .
  echo 'FROM debian:12' | sbx build -"
)]
pub struct BuildArgs {
    /// The Dockerfile; default: `Containerfile` or `Dockerfile` in the context; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Vec<String>,
    /// Take the patterns of what is ignored from this file
    #[arg(long, value_name = "FILE")]
    ignorefile: Option<PathBuf>,
    /// Name the image; again for more names
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,
    /// Give a value to an ARG; without a value that of the caller's variable
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Read values of ARGs from a file of such lines
    #[arg(long, value_name = "FILE")]
    build_arg_file: Vec<PathBuf>,
    /// Build this stage, and those that it needs
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Whether stages that the target does not need are left out; default: true
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    skip_unused_stages: Option<bool>,
    /// One more context for FROM, COPY and `RUN --mount`: a directory, `docker-image://IMAGE`, `oci-layout://DIR:TAG`, or
    /// the address of a git repository or an archive; a name of an image is that image's, too
    #[arg(long, value_name = "NAME=SOURCE")]
    build_context: Vec<String>,
    /// When to ask the registry for base images; default: missing, and without a value always
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pull: Option<String>,
    /// Write the ID of the image to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what was made to this file: digests and names, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// The kind of the image's documents; default: oci, or what $BUILDAH_FORMAT says
    #[arg(long, value_name = "FORMAT")]
    format: Option<Schema>,
    /// Make one layer of all that the build makes
    #[arg(long)]
    squash: bool,
    /// Make one layer of everything, the base included
    #[arg(long)]
    squash_all: bool,
    /// Whether each step is a layer of its own that later builds may use; default: true
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    layers: Option<bool>,
    /// Seconds since 1970: when the image and all files of its new layers were made
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<i64>,
    /// Seconds since 1970: when the image was made, and no file of its new layers later; as $SOURCE_DATE_EPOCH
    #[arg(long, value_name = "SECONDS", conflicts_with = "timestamp")]
    source_date_epoch: Option<i64>,
    /// Stages that are built at once; default, and 0: one for each processor
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How progress is shown; default: auto, or what $BUILDKIT_PROGRESS says
    #[arg(long, value_name = "KIND", value_enum)]
    progress: Option<ProgressKind>,
    /// Append what is shown to this file instead
    #[arg(long, value_name = "FILE")]
    logfile: Option<PathBuf>,
    /// Look for mistakes in the Dockerfile, and build nothing
    #[arg(long)]
    check: bool,
    /// Print nothing but the ID
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    output: OutputOptions,
    #[command(flatten)]
    image: ImageOptions,
    #[command(flatten)]
    secrets: SecretOptions,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    fixed: FixedOptions,
    #[command(flatten)]
    platform: PlatformOptions,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    trust: TrustOption,
    /// Where the IDs come from: range, root or single; default: the best there is
    #[arg(long, value_name = "TIER")]
    id_tier: Option<Tier>,
    /// A directory, `-`, a git repository or a URL
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: String,
}

pub fn execute(args: &BuildArgs, global: &Global) -> Result<u8> {
    args.trust.check()?;
    args.fixed.check()?;
    if let Some(file) = &args.logfile {
        log_to(file)?;
    }
    let progress = progress(args)?;
    args.run.check_limits()?;
    let names = args.tag.iter().map(|text| name(text)).collect::<Result<Vec<_>>>()?;
    let contexts = args.build_context.iter().map(|text| {
        let (name, value) = split("--build-context", text)?;
        Ok((context_name(name), Named::read(name, value)?))
    });
    let contexts: BTreeMap<String, Named> = contexts.collect::<Result<_>>()?;
    let mut given = image_options::argument_files(&args.build_arg_file)?;
    given.extend(arguments(&args.build_arg)?);
    let mut settings = Settings {
        arguments: given,
        target: args.target.clone(),
        all_stages: args.skip_unused_stages == Some(false),
        contexts: contexts.keys().cloned().collect(),
        platform: args.platform.resolve_only()?,
        build_platform: Wanted::host(),
    };
    let times = times(args, &mut settings)?;
    let file = match args.file.as_slice() {
        [] => None,
        [file] => Some(file.as_str()),
        _ => {
            return Err(Error::new("cannot build from several Dockerfiles")
                .because("`-f` was given more than once")
                .hint("put them into one: `cat A B | sbx build -f - CONTEXT`"));
        }
    };
    let surroundings = paths::Surroundings::current();
    let store = Store::new(paths::store(global.root.as_deref(), &surroundings)?);
    let secrets = args.secrets.secrets()?;
    let means = Means {
        store: store.root(),
        secrets: &secrets,
        keep_git_dir: settings
            .arguments
            .get(KEEP_GIT_DIR)
            .is_some_and(|value| matches!(value.as_str(), "1" | "true")),
        use_cache: !args.cache.no_cache,
    };
    let (mut context, mut dockerfile) = context::load(&args.context, file, &means)?;
    if let Some(path) = &args.ignorefile {
        context.ignore = context::ignore_file_at(path)?;
    }
    if let (Some(image), Some(stage)) = (&args.image.from, dockerfile.stages.first_mut()) {
        stage.from.image.text.clone_from(image);
    }
    if args.check || args.fixed.checks() {
        return check(&dockerfile, &settings, &context, &store);
    }
    lint::Options::of(&dockerfile, &settings)?;
    let wants_image = args.iidfile.is_some() || args.metadata_file.is_some();
    let Outputs { outputs, names, annotations, schema } = args.output.resolve(names, wants_image)?;
    let mut changes = args.image.changes()?;
    changes.annotations.extend(annotations);
    let is_to_stdout = outputs.iter().any(|output| output.target.is_stdout());
    let one_layer = args.squash || args.layers == Some(false);
    let argument = |name: &str| settings.arguments.get(name).filter(|value| !value.is_empty());
    let mut exports = args.cache.exports()?;
    if argument(INLINE_CACHE).is_some_and(|value| matches!(value.as_str(), "1" | "true"))
        && !exports.iter().any(|export| export.place == Place::Inline)
    {
        exports.push(Export { place: Place::Inline, ..Export::default() });
    }
    let mut options = args.run.words();
    options.extend(argument(HOSTNAME).map(|name| format!("--hostname={name}")));
    let request = Request {
        contexts,
        changes,
        environment: args.image.environment()?,
        pull: args.pull.as_deref().map_or(Ok(Policy::Missing), policy)?,
        registry: args.registry.resolve()?,
        tier: args.id_tier,
        use_cache: !args.cache.no_cache && args.layers != Some(false),
        cache_ttl: args.cache.ttl()?,
        imports: args.cache.imports()?,
        exports,
        uncached: args.cache.no_cache_filter.clone(),
        quiet: progress == report::Kind::Quiet,
        progress,
        times,
        schema: schema.map_or_else(|| format(args.format), Ok)?,
        squash: match one_layer {
            _ if args.squash_all => Squash::All,
            true => Squash::New,
            false => Squash::No,
        },
        jobs: match args.jobs {
            None | Some(0) => std::thread::available_parallelism().map_or(1, usize::from),
            Some(jobs) => jobs,
        },
        options,
        allowed: args.run.check()?,
        network: args.run.network(),
        secrets,
        signers: args.secrets.signers()?,
        outputs,
        names,
        settings,
        context,
        dockerfile,
    };
    paths::create_store(store.root())?;
    let runtime = paths::runtime(&surroundings)?;
    let built = watch::run(&store, &runtime, || solve::build(request, &store, &runtime))?;
    let Some(finished) = built else { return Ok(0) };
    if let Some(file) = &args.iidfile {
        write(file, finished.id.as_str(), "the image's ID")?;
    }
    if let Some(file) = &args.metadata_file {
        write(file, &metadata(&finished), "what was made")?;
    }
    if !is_to_stdout {
        print::line(match dialect::current() {
            Dialect::Docker => finished.id.as_str(),
            _ => finished.id.hex(),
        })?;
    }
    Ok(0)
}

fn write(path: &Path, text: &str, what: &str) -> Result<()> {
    let failed = || format!("cannot write {what} to `{}`", path.display());
    std::fs::write(path, text).map_err(|error| no_room(error, failed()))
}

/// docker's keys.
fn metadata(finished: &Finished) -> String {
    let Finished { id, manifest, names } = finished;
    let mut text = json!({
        "containerimage.config.digest": id,
        "containerimage.digest": manifest.digest,
        "containerimage.descriptor": {
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.size,
        },
    });
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        text["image.name"] = names.join(",").into();
    }
    format!("{text:#}\n")
}

fn progress(args: &BuildArgs) -> Result<report::Kind> {
    use clap::ValueEnum;
    let said = std::env::var(PROGRESS).ok().filter(|said| !said.is_empty());
    let kind = match (args.progress, said) {
        _ if args.quiet => return Ok(report::Kind::Quiet),
        (Some(kind), _) => kind,
        (None, None) => ProgressKind::Auto,
        (None, Some(said)) => ProgressKind::from_str(&said, true).map_err(|_| {
            Error::new(format!("cannot use `{PROGRESS}={}`", said.escape_debug()))
                .hint("there are: auto, plain, tty, quiet, rawjson")
        })?,
    };
    Ok(match kind {
        ProgressKind::Auto => report::Kind::fitting(),
        ProgressKind::Plain => report::Kind::Lines,
        ProgressKind::Tty if !std::io::stderr().is_terminal() => {
            return Err(Error::new("cannot show progress as on a terminal")
                .because("standard error is none")
                .hint("`--progress plain` writes lines"));
        }
        ProgressKind::Tty => report::Kind::Terminal,
        ProgressKind::Quiet => report::Kind::Quiet,
        ProgressKind::RawJson => report::Kind::Json,
    })
}

/// Everything that is written to standard error from now on goes to a file.
fn log_to(path: &Path) -> Result<()> {
    let failed = || format!("cannot write to the log file `{}`", path.display());
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path).step(failed)?;
    rustix::stdio::dup2_stderr(file).step(failed)
}

fn format(given: Option<Schema>) -> Result<Schema> {
    match (given, std::env::var(FORMAT).ok().as_deref()) {
        (Some(given), _) => Ok(given),
        (None, None | Some("" | "oci")) => Ok(Schema::Oci),
        (None, Some("docker")) => Ok(Schema::Docker),
        (None, Some(other)) => Err(Error::new(format!("cannot use `{FORMAT}={}`", other.escape_debug()))
            .hint("there are: oci, docker")),
    }
}

fn name(text: &str) -> Result<Reference> {
    let name = Reference::parse(text)?.or_latest();
    match name.digest {
        Some(_) => Err(Error::new(format!("cannot give an image the name `{name}`"))
            .because("a digest is not given, it follows from the content")),
        None => Ok(name),
    }
}

fn split<'t>(flag: &str, text: &'t str) -> Result<(&'t str, &'t str)> {
    text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
        Error::new(format!("cannot use `{flag} {}`", text.escape_debug())).because("it is no `NAME=VALUE`")
    })
}

/// What `--build-arg` gives; a name alone means the caller's variable, where there is one.
fn arguments(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut arguments = BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some(("", _)) => {
                return Err(Error::new(format!("cannot use `--build-arg {}`", text.escape_debug()))
                    .because("it has no name"));
            }
            Some((name, value)) => {
                arguments.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = std::env::var_os(text).and_then(|value| value.into_string().ok()) {
                    arguments.insert(text.clone(), value);
                }
            }
        }
    }
    Ok(arguments)
}

/// `--timestamp` sets all times, SOURCE_DATE_EPOCH the latest.
fn times(args: &BuildArgs, settings: &mut Settings) -> Result<Times> {
    if let Some(seconds) = args.timestamp {
        return Ok(Times::Exactly(Time { seconds, nanoseconds: 0 }));
    }
    let given = settings.arguments.get(EPOCH).cloned();
    let given = args.source_date_epoch.map(|seconds| seconds.to_string()).or(given);
    let Some(text) = given.or_else(|| std::env::var(EPOCH).ok()).filter(|text| !text.is_empty()) else {
        return Ok(Times::Kept);
    };
    let seconds = text
        .parse()
        .step(|| format!("cannot use `{EPOCH}={}` as seconds since 1970", text.escape_debug()))?;
    settings.arguments.insert(EPOCH.to_owned(), text);
    Ok(Times::AtMost(Time { seconds, nanoseconds: 0 }))
}

/// podman's words, and docker's switch.
fn policy(text: &str) -> Result<Policy> {
    Ok(match text {
        "always" | "true" => Policy::Always,
        "missing" | "false" | "ifnotpresent" => Policy::Missing,
        "never" => Policy::Never,
        "newer" | "ifnewer" => Policy::Newer,
        _ => {
            return Err(Error::new(format!("cannot use `--pull={}`", text.escape_debug()))
                .hint("there are: always, missing, never, newer"));
        }
    })
}

/// `--check`: the well-known mistakes.
fn check(
    dockerfile: &crate::build::dockerfile::ast::Dockerfile,
    settings: &Settings,
    context: &context::Context,
    store: &Store,
) -> Result<u8> {
    plan(dockerfile, settings)?;
    let images = ImageStore::new(store.root());
    // Nothing is brought: of variables of images that are not there nothing is said.
    let environment = |name: &str| images.find(name).ok().flatten().map(|image| image.config.config.env);
    let surroundings = Surroundings { environment: &environment, ignore: Some(&context.ignore) };
    let warnings = lint::check(dockerfile, settings, &surroundings)?;
    for warning in &warnings {
        let source = &dockerfile.source;
        let line = source.place(warning.span.start).line;
        let excerpt = crate::build::dockerfile::complaint::excerpt(source, warning.span);
        let text =
            format!("{}:{line}: {}: {}\n{excerpt}", source.name(), warning.rule.name(), warning.message);
        print::line(&harmless::lines(&text))?;
    }
    match warnings.len() {
        0 => print::line("Check complete, no warnings found.").map(|_| 0),
        // docker's code.
        _ => Ok(1),
    }
}
