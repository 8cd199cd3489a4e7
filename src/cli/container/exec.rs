//! `sbx exec`

use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::Named;
use crate::client;
use crate::client::keys::DetachKeys;
use crate::container::spec::{Process, Spec};
use crate::container::store::short;
use crate::container::{env, life, links, name};
use crate::error::{Error, Result};
use crate::monitor::exec::{self, NOT_RUNNING};
use crate::monitor::message::Request;
use crate::output::print;
use crate::sandbox::enter::Entry;
use crate::secret::copies;

/// Run a command in a running container
///
/// It gets the container's user, environment, working directory, namespaces, capabilities and filter, unless an
/// option says otherwise, and ends with the container at the latest.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    override_usage = "sbx exec [OPTIONS] CONTAINER COMMAND [ARG...]\n       sbx exec [OPTIONS] --latest COMMAND [ARG...]",
    after_help = "Examples:
  sbx exec web ps ax
  sbx exec -it web sh
  sbx exec -u root -w /etc -e DEBUG=1 web cat passwd
  tar -c . | sbx exec -i web tar -xC /srv -f -

The exit code is the command's own; 125: sbx failed, 126: the command cannot be invoked, 127: it was not found,
128+N: signal N ended it, 255: the container does not run."
)]
pub struct ExecArgs {
    /// Leave the command running in the background, and print the ID of its session
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the command running; an empty text: there are none
    #[arg(long, value_name = "KEYS", default_value = client::keys::DEFAULT)]
    detach_keys: DetachKeys,
    /// Connect standard input; without it the command reads nothing
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// User that runs the command: `NAME|UID[:GROUP|GID]`
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Working directory in the container
    #[arg(short, long, visible_alias = "cwd", value_name = "DIR")]
    workdir: Option<String>,
    /// Set an environment variable: `NAME=VALUE`, or `NAME` to pass the caller's on
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// All capabilities of the container's user namespace, and no filter
    #[arg(long)]
    privileged: bool,
    /// Take the container that was made last
    #[arg(short, long, conflicts_with = "cidfile")]
    latest: bool,
    /// Take the container whose ID is in this file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// The container, its command and the arguments of that
    #[arg(trailing_var_arg = true, value_name = "WORD")]
    words: Vec<String>,
}

pub fn execute(mut args: ExecArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let id = target(&place, &mut args)?;
    let mut spec = place.store.read_spec(&id)?;
    // Of a container that has gone there is nothing to say any more.
    spec.process.env.extend(links::environment(&place.store, &spec).unwrap_or_default());
    let secrets = copies::values(&spec, &place.store.directory_of(&spec))?;
    let mut entry = entry(&args, &spec)?;
    env::set_all(&mut entry.process.env, copies::variables(&spec, &secrets)?);
    let stdin = args.interactive && !args.detach;
    let request = exec::Request {
        id: name::random_id()?,
        stdin,
        terminal: args.tty,
        size: client::caller_size(),
        detach: args.detach,
    };
    if args.tty && stdin && !client::is_terminal() {
        log::warn!("the input device is not a TTY: `-t` and `-i` might not work together as expected");
    }
    serve(&place, &id, &entry, request, args.detach_keys)
}

/// Runs words in the container as it is, and shows what they say; the exit code.
///
/// # Errors
/// The container does not run, or the words cannot be executed.
pub fn run(place: &Place, id: &str, words: Vec<String>) -> Result<u8> {
    let container = place.store.read_spec(id)?.process;
    let process = Process { args: words, account: None, terminal: false, stdin: false, ..container };
    let request =
        exec::Request { id: name::random_id()?, stdin: false, terminal: false, size: None, detach: false };
    serve(place, id, &Entry { process, privileged: false }, request, DetachKeys::default())
}

/// Has the container's monitor start it, and serves it.
fn serve(
    place: &Place,
    id: &str,
    entry: &Entry,
    request: exec::Request,
    detach_keys: DetachKeys,
) -> Result<u8> {
    let not_running = || {
        Error::new("can only create exec sessions on running containers")
            .because(format!("container {} is not running", short(id)))
            .hint(format!("start it first: `sbx start {}`", short(id)))
            .exit_code(NOT_RUNNING)
    };
    let options = client::Options {
        stdin: request.stdin,
        terminal: request.terminal,
        signal_proxy: false,
        detach_keys,
        brought_in: true,
    };
    let (session, detach) = (request.id.clone(), request.detach);
    let file = entry.to_file()?;
    let request = Request::Exec(Box::new(request));
    let asked = life::ask_with(&place.store, &place.runtime, id, &request, Some(file.as_fd()))?;
    let control = asked.ok_or_else(not_running)?;
    drop(file);
    let outcome = match detach {
        // Its output is nowhere, and its end nothing to wait for.
        true => client::exec_detached(control)?.then_some(0),
        false => client::exec(control, &options)?,
    };
    let code = outcome.ok_or_else(not_running)?;
    if detach {
        print::line(&session)?;
    }
    Ok(code)
}

/// The container; its word is taken from the others.
fn target(place: &Place, args: &mut ExecArgs) -> Result<String> {
    let mut named = Named {
        latest: args.latest,
        cidfile: args.cidfile.take().into_iter().collect(),
        containers: Vec::new(),
    };
    if !named.latest && named.cidfile.is_empty() && !args.words.is_empty() {
        named.containers.push(args.words.remove(0));
    }
    if args.words.is_empty() {
        return Err(Error::new("cannot run a command in a container without a command")
            .hint("name the container and the command: `sbx exec CONTAINER COMMAND`"));
    }
    let chosen = named.resolve(place)?;
    chosen.first().ok_or_else(|| Error::new("there is no container"))?.id(place)
}

/// What is to run, complete.
fn entry(args: &ExecArgs, spec: &Spec) -> Result<Entry> {
    let files = args.env_file.iter().map(|path| env::read_file(path)).collect::<Result<Vec<_>>>()?;
    let defaults = env::Defaults { terminal: args.tty, ..env::Defaults::default() };
    let container = &spec.process;
    let cwd = match args.workdir.as_deref() {
        None => container.cwd.clone(),
        Some(text) if text.starts_with('/') => PathBuf::from(text),
        Some(text) => {
            return Err(Error::new(format!("cannot use `{text}` as the working directory"))
                .because("it is not an absolute path")
                .hint(format!("write `-w /{text}`")));
        }
    };
    Ok(Entry {
        process: Process {
            args: args.words.clone(),
            entry_point: 0,
            env: env::merge(&container.env, &files, &args.env, &env::of_caller(), defaults)?,
            cwd,
            user: args.user.clone().or_else(|| container.user.clone()),
            account: None,
            terminal: args.tty,
            stdin: args.interactive,
            stdin_once: true,
            ..container.clone()
        },
        privileged: args.privileged,
    })
}
