//! `sbx run`

use std::io::Write;

use crate::cli::Global;
use crate::cli::container_options::ContainerOptions;
use crate::cli::transfer::options::registry_name;
use crate::client;
use crate::container::plan::{self, Place};
use crate::container::spec::Seccomp;
use crate::container::store::Store;
use crate::container::sweep;
use crate::error::{Error, Result, Step};
use crate::host::paths;
use crate::identity::Userns;
use crate::image;
use crate::monitor;

/// The exit code after SIGSYS.
const KILLED_BY_FILTER: u8 = 128 + libc::SIGSYS as u8;

/// Run a command in a new container.
///
/// IMAGE is pulled from its registry unless it is in the store. `host` is built in: the machine's own system below a
/// throw-away layer. With `--rootfs` or `--rootfs-rw` there is no IMAGE: the words are the command.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    args_override_self = true,
    override_usage = "sbx run [OPTIONS] IMAGE [COMMAND [ARG...]]\n       sbx run [OPTIONS] --rootfs DIR [COMMAND [ARG...]]",
    after_help = "Examples:\n  \
        sbx run --rm -it debian:12\n  \
        sbx run --rm host sh -c 'id; hostname; ps ax'\n  \
        sbx run --rm -v .:/src -w /src host make test\n  \
        sbx run --rm -it --rootfs ./debian bash\n  \
        sbx run --rm --net none --read-only -v ./untrusted:/untrusted:ro host /untrusted\n  \
        sbx run --rm -p 8080:80 --rootfs ./web nginx -g 'daemon off;'\n\n\
        The exit code is the command's own; 125: sbx failed, 126: the command cannot be invoked, 127: it was \
        not found, 128+N: signal N ended it."
)]
pub struct RunArgs {
    #[command(flatten)]
    options: ContainerOptions,
    /// Forward signals to the command.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set, help_heading = "Command")]
    sig_proxy: bool,
    /// Tell nothing but errors.
    #[arg(short, long)]
    quiet: bool,
    /// Print help.
    #[arg(long, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    /// IMAGE, the command and its arguments; IMAGE is left out with `--rootfs` or `--rootfs-rw`.
    #[arg(trailing_var_arg = true, value_name = "WORD")]
    words: Vec<String>,
}

pub fn execute(args: RunArgs, global: &Global) -> Result<u8> {
    if args.quiet {
        log::set_max_level(log::LevelFilter::Error);
    }
    let (options, mut command) = (args.options, args.words);
    let surroundings = paths::Surroundings::current();
    let store = Store::new(paths::store(global.root.as_deref(), &surroundings)?);
    options.trust.check()?;
    let platform = options.platform.resolve()?;
    let registry = options.registry.resolve()?;
    let image = image::source(&options.rootfs, options.rootfs_rw.as_ref(), &mut command, |name| {
        let request = image::resolve::Request {
            name: &registry_name(name)?,
            pull: options.pull,
            platform,
            registry,
            tier: options.id_tier,
            quiet: args.quiet,
        };
        image::resolve::resolve(store.root(), &request)
    })?;
    paths::create_store(store.root())?;
    let runtime = paths::runtime(&surroundings)?;
    if let Some(note) = &runtime.note {
        log::info!("{note}");
    }
    let place = Place { store: &store, runtime: &runtime };
    // Held until the choice stands in the spec.
    let choice =
        matches!(options.userns, Some(Userns::Auto(_))).then(|| store.lock_choice_of_ids()).transpose()?;
    let decide = || plan::container(&options, image.source.clone(), &image.config, command.clone(), &place);
    let spec = decide().or_else(|error| match sweep::sweep(&store, &runtime.path) {
        0 => Err(error),
        // A helper whose monitor was killed may have held the port.
        _ => decide(),
    })?;
    for notice in &spec.degraded {
        log::warn!("{notice}");
    }
    let serving = client::Options {
        stdin: spec.process.stdin,
        terminal: spec.process.terminal,
        signal_proxy: args.sig_proxy,
    };
    if serving.terminal && serving.stdin && !client::is_terminal() {
        log::warn!("the input device is not a TTY: `-t` and `-i` might not work together as expected");
    }
    let cidfile = options.cidfile.as_ref().map(|path| write_cidfile(path, &spec.id)).transpose()?;
    let started = store.create(&spec).or_else(|error| {
        // The name may be that of a container whose monitor was killed.
        sweep::sweep(&store, &runtime.path);
        store.create(&spec).map_err(|_| error)
    });
    drop((choice, image.lock));
    let (claim, directory) = started.inspect_err(|_| remove_cidfile(cidfile))?;
    let connection = monitor::start(&store, &runtime.path, &spec, &directory, claim, client::caller_size())
        .inspect_err(|_| {
        remove_cidfile(cidfile);
        sweep::sweep(&store, &runtime.path);
    })?;
    let outcome = client::serve(connection, &serving, || {
        sweep::sweep(&store, &runtime.path);
    });
    if matches!(spec.security.seccomp, Seccomp::Profile(_)) && matches!(outcome, Ok(KILLED_BY_FILTER)) {
        log::warn!(
            "the seccomp profile forbids a system call that the command, or its execution, needs: it was killed"
        );
    }
    if options.rm || outcome.is_err() {
        // The file goes with the container (podman-run(1), --cidfile).
        remove_cidfile(cidfile);
    }
    outcome
}

fn write_cidfile<'a>(path: &'a std::path::Path, id: &str) -> Result<&'a std::path::Path> {
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

fn remove_cidfile(path: Option<&std::path::Path>) {
    if let Some(path) = path {
        let _ = std::fs::remove_file(path);
    }
}
