//! `sbx run`

use crate::cli::Global;
use crate::cli::container_options::ContainerOptions;
use crate::cli::creation::{Created, create, remove_cidfile};
use crate::client::keys::DetachKeys;
use crate::client::{self, attached};
use crate::container::spec::{LogDriver, Seccomp};
use crate::container::{requires, sweep};
use crate::error::{Error, Result};
use crate::events::{self, Action, Event};
use crate::logs::options::Driver;
use crate::monitor::{self, Caller, Place};
use crate::output::print;

/// The exit code after SIGSYS.
const KILLED_BY_FILTER: u8 = 128 + libc::SIGSYS as u8;

/// Run a command in a new container.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    args_override_self = true,
    override_usage = "sbx run [OPTIONS] IMAGE [COMMAND [ARG...]]\n       sbx run [OPTIONS] --rootfs DIR [COMMAND [ARG...]]",
    after_help = "IMAGE is pulled from its registry unless it is in the store. `host` is built in: the machine's own \
        system below a throw-away layer. With `--rootfs` or `--rootfs-rw` there is no IMAGE: the words are the \
        command.\n\n\
        Examples:\n  \
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
    /// Connect only these streams (stdin, which takes `-i`, stdout, stderr); default: all of them.
    #[arg(short, long, value_name = "STREAM", value_parser = attached::parse, conflicts_with = "detach", help_heading = "Command")]
    attach: Vec<attached::Stream>,
    /// Leave the container running in the background, and print its ID.
    #[arg(short, long, help_heading = "Command")]
    detach: bool,
    /// Keys that leave the container running; an empty text: there are none.
    #[arg(long, value_name = "KEYS", default_value = client::keys::DEFAULT, help_heading = "Command")]
    detach_keys: DetachKeys,
    /// Forward signals to the command, and end it with the client.
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
    let RunArgs { mut options, attach, detach, detach_keys, sig_proxy, quiet, words, .. } = args;
    if attach.contains(&attached::Stream::Stdin) && !options.interactive {
        return Err(Error::new("cannot attach standard input")
            .because("it is closed without `-i`")
            .hint("add `-i`"));
    }
    if !attach.is_empty() {
        if options.log_driver == Driver::Other(LogDriver::Passthrough) {
            return Err(Error::new("cannot leave streams unattached with `--log-driver passthrough`")
                .because("the command has the caller's own streams"));
        }
        options.interactive &= attach.contains(&attached::Stream::Stdin);
    }
    options.detach = detach;
    let created = create(&options, words, quiet, global)?;
    if let Err(error) = requires::start_first(&created.store, &created.runtime, &created.spec) {
        created.claim.release();
        if created.spec.remove_on_exit {
            remove_cidfile(created.cidfile.as_deref());
            sweep::remove_stopped(&created.store, &created.spec.id, &created.runtime)?;
        }
        return Err(error);
    }
    if detach { run_detached(created) } else { run_in_foreground(created, sig_proxy, detach_keys, &attach) }
}

fn run_detached(created: Created) -> Result<u8> {
    let Created { store, runtime, spec, reserved: _reserved, directory, claim, cidfile } = created;
    sweep::sweep(&store, &runtime);
    let size = client::caller_size();
    let place = Place { store: &store, runtime: &runtime };
    let started =
        monitor::start(place, &spec, &directory, claim, Caller::Starter, size).and_then(|connection| {
            events::record(store.root(), &runtime, Event::container(Action::Create, &spec));
            client::until_started(&connection.control)
        });
    if let Err(error) = started {
        sweep::sweep(&store, &runtime);
        if spec.remove_on_exit {
            remove_cidfile(cidfile.as_deref());
        }
        return Err(error);
    }
    print::line(&spec.id)?;
    Ok(0)
}

fn run_in_foreground(
    created: Created,
    signal_proxy: bool,
    detach_keys: DetachKeys,
    attach: &[attached::Stream],
) -> Result<u8> {
    let Created { store, runtime, spec, reserved: _reserved, directory, claim, cidfile } = created;
    let serving = client::Options {
        stdin: spec.process.stdin,
        terminal: spec.process.terminal,
        signal_proxy,
        detach_keys,
        brought_in: false,
    };
    if serving.terminal && serving.stdin && !client::is_terminal() {
        log::warn!("the input device is not a TTY: `-t` and `-i` might not work together as expected");
    }
    let caller = if signal_proxy { Caller::Owner } else { Caller::Guest { stdin: serving.stdin } };
    let size = client::caller_size();
    let place = Place { store: &store, runtime: &runtime };
    let outcome = monitor::start(place, &spec, &directory, claim, caller, size)
        .inspect_err(|_| {
            sweep::sweep(&store, &runtime);
        })
        .and_then(|connection| {
            // The container is on its way meanwhile.
            events::record(store.root(), &runtime, Event::container(Action::Create, &spec));
            let _muted = attached::Muted::but_for(attach)?;
            client::serve(connection, &serving, || {
                sweep::sweep(&store, &runtime);
            })
        });
    if matches!(spec.security.seccomp, Seccomp::Profile(_)) && matches!(outcome, Ok(KILLED_BY_FILTER)) {
        log::warn!(
            "the seccomp profile forbids a system call that the command, or its execution, needs: it was killed"
        );
    }
    // After the detach keys it is still there.
    if cidfile.is_some() && spec.remove_on_exit && !directory.path().exists() {
        // The file goes with the container (podman-run(1), --cidfile).
        remove_cidfile(cidfile.as_deref());
    }
    outcome
}
