//! `sbx build`

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::build::context;
use crate::build::dockerfile::lint::{self, Surroundings};
use crate::build::dockerfile::plan::plan;
use crate::build::dockerfile::settings::Settings;
use crate::build::finish::Output;
use crate::build::mounts::Secret;
use crate::build::solve::{self, Request};
use crate::cli::Global;
use crate::cli::dialect::{self, Dialect};
use crate::cli::transfer::options::{PlatformOptions, RegistryOptions, TrustOption};
use crate::container::store::Store;
use crate::error::{Error, Result, Step};
use crate::host::paths;
use crate::identity::Tier;
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::transfer::Policy;
use crate::image::transfer::convert::Schema;
use crate::layers::pack::Times;
use crate::layers::unpack::archive::Time;
use crate::output::{harmless, print};

/// The variable that makes builds reproducible (reproducible-builds.org).
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// How the progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProgressKind {
    #[default]
    Auto,
    Plain,
}

/// Build an image from a Dockerfile
///
/// CONTEXT is the directory that COPY and ADD take from; `-` reads a Dockerfile from standard input, and has none. The
/// steps are shown on standard error, and the ID of the image on standard output.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:
  sbx build -t site .
  sbx build -t site:2 --build-arg VERSION=2 --target final .
  sbx build --secret id=token,src=token.txt .
  sbx build -o out .
  echo 'FROM debian:12' | sbx build -"
)]
pub struct BuildArgs {
    /// The Dockerfile; default: `Containerfile` or `Dockerfile` in the context; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Name the image; again for more names
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,
    /// Give a value to an ARG; without a value that of the caller's variable
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Build this stage, and those that it needs
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Give COPY and `RUN --mount` one more context
    #[arg(long, value_name = "NAME=DIR")]
    build_context: Vec<String>,
    /// Carry out every step, whatever earlier builds have left
    #[arg(long)]
    no_cache: bool,
    /// When to ask the registry for base images; default: missing, and without a value always
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pull: Option<String>,
    /// Set a label of the image
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Set an annotation of the image's manifest
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Give a secret to `RUN --mount=type=secret`: `id=ID,src=FILE` or `id=ID,env=VARIABLE`
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// Network of RUN: none, host, private, or what else `sbx run --network` takes
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Option<String>,
    /// Add a line to /etc/hosts of RUN: `NAME:IP`
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Name server of RUN
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Resource limit of RUN: `NAME=SOFT[:HARD]`
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// Size of /dev/shm of RUN
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Bind a directory for RUN: `SOURCE:TARGET[:OPTIONS]`
    #[arg(short, long, value_name = "SOURCE:TARGET")]
    volume: Vec<String>,
    /// Where the result goes: `type=image`, `type=tar,dest=FILE|-`, `type=local,dest=DIR`, or DIR; default: the store
    #[arg(short, long, value_name = "OUTPUT")]
    output: Option<String>,
    /// Write the ID of the image to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// The kind of the image's documents
    #[arg(long, value_name = "FORMAT", default_value = "oci")]
    format: Schema,
    /// Seconds since 1970: when the image and all files of its new layers were made
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<i64>,
    /// Stages that are built at once; default: one for each processor
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How progress is shown: lines, in both
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    progress: ProgressKind,
    /// Look for mistakes in the Dockerfile, and build nothing
    #[arg(long)]
    check: bool,
    /// Print nothing but the ID
    #[arg(short, long)]
    quiet: bool,
    /// Accepted for the sake of scripts: the image is always in the store
    #[arg(long, hide = true)]
    load: bool,
    /// Accepted for the sake of scripts: a step's container is always removed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, hide = true)]
    rm: Option<bool>,
    /// As `--rm`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, hide = true)]
    force_rm: Option<bool>,
    /// Accepted for the sake of scripts: each step is a layer of its own
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, hide = true)]
    layers: Option<bool>,
    #[command(flatten)]
    platform: PlatformOptions,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    trust: TrustOption,
    /// Where the IDs come from: range, root or single; default: the best there is
    #[arg(long, value_name = "TIER")]
    id_tier: Option<Tier>,
    /// A directory, or `-`
    #[arg(value_name = "CONTEXT", default_value = ".")]
    context: String,
}

pub fn execute(args: &BuildArgs, global: &Global) -> Result<u8> {
    args.trust.check()?;
    for (flag, value) in [("--rm", args.rm), ("--force-rm", args.force_rm), ("--layers", args.layers)] {
        if value == Some(false) {
            return Err(Error::new(format!("cannot honour `{flag}=false`")).because(match flag {
                "--layers" => "each step that changes files makes a layer",
                _ => "a step's container is always removed",
            }));
        }
    }
    let names = args.tag.iter().map(|text| name(text)).collect::<Result<Vec<_>>>()?;
    let contexts = args.build_context.iter().map(|text| {
        let (name, path) = split("--build-context", text)?;
        Ok((name.to_owned(), context::directory(name, path)?))
    });
    let contexts: BTreeMap<String, PathBuf> = contexts.collect::<Result<_>>()?;
    let mut settings = Settings {
        arguments: arguments(&args.build_arg)?,
        target: args.target.clone(),
        contexts: contexts.keys().cloned().collect(),
        platform: args.platform.resolve()?,
        build_platform: Wanted::host(),
    };
    let times = times(args.timestamp, &mut settings)?;
    let pairs = |flag: &str, texts: &[String]| {
        let pair = |text: &String| match text.split_once('=') {
            None if flag == "--label" => Ok((text.clone(), String::new())),
            _ => split(flag, text).map(|(name, value)| (name.to_owned(), value.to_owned())),
        };
        texts.iter().map(pair).collect::<Result<Vec<_>>>()
    };
    let (context, dockerfile) = context::load(&args.context, args.file.as_deref())?;
    if args.check {
        return check(&dockerfile, &settings, &context);
    }
    let request = Request {
        contexts,
        labels: pairs("--label", &args.label)?,
        annotations: pairs("--annotation", &args.annotation)?.into_iter().collect(),
        pull: args.pull.as_deref().map_or(Ok(Policy::Missing), policy)?,
        registry: args.registry.resolve()?,
        tier: args.id_tier,
        use_cache: !args.no_cache,
        quiet: args.quiet,
        times,
        schema: args.format,
        jobs: args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1),
        options: options(args),
        network: args.network.clone(),
        secrets: args.secret.iter().map(|text| secret(text)).collect::<Result<_>>()?,
        output: args.output.as_deref().map_or(Ok(Output::Image), output)?,
        names,
        settings,
        context,
        dockerfile,
    };
    if request.output != Output::Image && (args.iidfile.is_some() || !request.names.is_empty()) {
        return Err(Error::new("cannot name the result")
            .because("`--output` makes files of it, and no image")
            .hint("leave out `-t` and `--iidfile`, or `--output`"));
    }
    let surroundings = paths::Surroundings::current();
    let store = Store::new(paths::store(global.root.as_deref(), &surroundings)?);
    paths::create_store(store.root())?;
    let runtime = paths::runtime(&surroundings)?;
    let Some(id) = solve::build(request, &store, &runtime)? else { return Ok(0) };
    if let Some(file) = &args.iidfile {
        std::fs::write(file, id.as_str())
            .step(|| format!("cannot write the image's ID to `{}`", file.display()))?;
    }
    print::line(match dialect::current() {
        Dialect::Docker => id.as_str(),
        _ => id.hex(),
    })?;
    Ok(0)
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
fn times(timestamp: Option<i64>, settings: &mut Settings) -> Result<Times> {
    if let Some(seconds) = timestamp {
        return Ok(Times::Exactly(Time { seconds, nanoseconds: 0 }));
    }
    let given = settings.arguments.get(EPOCH).cloned();
    let Some(text) = given.or_else(|| std::env::var(EPOCH).ok()).filter(|text| !text.is_empty()) else {
        return Ok(Times::Kept);
    };
    let seconds = text
        .parse()
        .step(|| format!("cannot use `{EPOCH}={}` as seconds since 1970", text.escape_debug()))?;
    settings.arguments.insert(EPOCH.to_owned(), text);
    Ok(Times::AtMost(Time { seconds, nanoseconds: 0 }))
}

/// Options of `sbx run` for RUN.
fn options(args: &BuildArgs) -> Vec<String> {
    let all = [
        ("--add-host", &args.add_host),
        ("--dns", &args.dns),
        ("--ulimit", &args.ulimit),
        ("--volume", &args.volume),
    ];
    let mut words: Vec<String> = Vec::new();
    for (flag, values) in all {
        words.extend(values.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    if let Some(size) = &args.shm_size {
        words.extend(["--shm-size".to_owned(), size.clone()]);
    }
    if let Some(tier) = args.id_tier {
        words.extend(["--id-tier".to_owned(), tier.to_string()]);
    }
    words
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

/// `id=ID,src=FILE` or `id=ID,env=VARIABLE`; without both, the variable or file of that name.
fn secret(text: &str) -> Result<(String, Secret)> {
    let refused = |why: String| {
        Error::new(format!("cannot use `--secret {}`", text.escape_debug()))
            .because(why)
            .hint("write `id=ID,src=FILE` or `id=ID,env=VARIABLE`")
    };
    let (mut id, mut found, mut kind) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => found = Some(Secret::File(value.into())),
            Some(("env", value)) => found = Some(Secret::Variable(value.to_owned())),
            Some(("type", value @ ("file" | "env"))) => kind = Some(value.to_owned()),
            _ => return Err(refused(format!("`{}` is not known", field.escape_debug()))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| refused("it has no `id`".to_owned()))?;
    let secret = match (found, kind.as_deref()) {
        (Some(Secret::File(path)), Some("env")) => Secret::Variable(path.display().to_string()),
        (Some(found), _) => found,
        (None, Some("file")) => Secret::File(id.clone().into()),
        (None, _) if std::env::var_os(&id).is_some() => Secret::Variable(id.clone()),
        (None, _) => Secret::File(id.clone().into()),
    };
    Ok((id, secret))
}

fn output(text: &str) -> Result<Output> {
    let refused = |why: &str| {
        Error::new(format!("cannot use `--output {}`", text.escape_debug())).because(why.to_owned()).hint(
            "there are: `type=image`, `type=tar,dest=FILE`, `type=local,dest=DIR`; `sbx save` writes images",
        )
    };
    if text == "-" {
        return Ok(Output::Tar(None));
    }
    if !text.contains('=') {
        return Ok(Output::Directory(text.into()));
    }
    let (mut kind, mut destination) = (None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("dest", value)) => destination = Some(value),
            _ => return Err(refused("it has fields that are not known")),
        }
    }
    match (kind, destination) {
        // cross and buildx say so where they want the image in the store.
        (Some("image" | "docker"), None) => Ok(Output::Image),
        (Some("tar"), None | Some("-")) => Ok(Output::Tar(None)),
        (Some("tar"), Some(path)) => Ok(Output::Tar(Some(path.into()))),
        (Some("local"), Some(path)) => Ok(Output::Directory(path.into())),
        (Some("local"), None) => Err(refused("it has no `dest`")),
        _ => Err(refused("there is no such output")),
    }
}

/// `--check`: the well-known mistakes.
fn check(
    dockerfile: &crate::build::dockerfile::ast::Dockerfile,
    settings: &Settings,
    context: &context::Context,
) -> Result<u8> {
    plan(dockerfile, settings)?;
    let surroundings = Surroundings { environment: &|_| None, ignore: Some(&context.ignore) };
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
