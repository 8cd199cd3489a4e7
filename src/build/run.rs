//! RUN: a command in a sandbox like that of `sbx run`; what it changes becomes a layer.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Parser;
use rustix::event::{PollFd, PollFlags};

use crate::build::builder::{Builder, Built, Outcome};
use crate::build::dockerfile::step::{Program, Run, RunNetwork, RunSecurity};
use crate::build::leftover;
use crate::build::mounts::{Mounts, Secret};
use crate::build::program::Prepared;
use crate::build::report::Showing;
use crate::cli::build::Allowed;
use crate::cli::container_options::ContainerOptions;
use crate::client;
use crate::client::keys::DetachKeys;
use crate::container::directory::ContainerDirectory;
use crate::container::spec::Spec;
use crate::container::store::Store;
use crate::container::{difference, env, open_root, plan};
use crate::error::{EXIT_SBX, Error, Result, Step};
use crate::host::paths::Runtime;
use crate::identity::Tier;
use crate::image::platform::Wanted;
use crate::image::transfer::made::{Made, pack_found};
use crate::image::{self, Config, Source, Unpacked};
use crate::monitor::{self, Caller};
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, die_with_parent, exit_now, fork, wait_for};

/// What all commands of a build share.
pub struct Surroundings<'b> {
    pub store: &'b Store,
    pub runtime: &'b Runtime,
    pub platform: Wanted,
    /// Options of `sbx run` that the build was given: network, hosts, limits, volumes.
    pub options: Vec<String>,
    pub tier: Option<Tier>,
    pub allowed: Allowed,
    /// `--network`, where the instruction says nothing.
    pub network: Option<String>,
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of SSH agents.
    pub agents: &'b BTreeMap<String, PathBuf>,
}

/// `sbx run`'s options, from words.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, args_override_self = true)]
struct Words {
    #[command(flatten)]
    options: ContainerOptions,
}

/// Reads options of `sbx run`.
///
/// # Errors
/// One is wrong.
pub fn options(words: &[String]) -> Result<ContainerOptions> {
    let parsed = Words::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        Error::new("cannot prepare the command").because(line.trim_start_matches("error: ").to_owned())
    })?;
    Ok(parsed.options)
}

impl Builder<'_> {
    /// # Errors
    /// The command fails, with its exit code; or it cannot be run.
    pub fn run(
        &self,
        step: &Prepared,
        run: &Run,
        built: &Built,
        done: &BTreeMap<usize, Built>,
        showing: &Showing<'_>,
    ) -> Result<Outcome> {
        let insecure = run.security == RunSecurity::Insecure;
        if insecure && !self.surroundings.allowed.insecure {
            return Err(Error::new("cannot run it with `--security=insecure`")
                .because("the build was not told to allow it")
                .hint("add `--allow security.insecure`: the command gets all capabilities of its user namespace"));
        }
        if run.network == RunNetwork::Host && !self.surroundings.allowed.host_network {
            return Err(Error::new("cannot run it with `--network=host`")
                .because("the build was not told to allow it")
                .hint("add `--allow network.host`: the command gets the host's own network, with all that listens there"));
        }
        if built.layers.is_empty() {
            return Err(
                Error::new("cannot run a command").because("there is not one file yet: the stage is empty")
            );
        }
        let mut mounts = Mounts::default();
        for mount in &run.mounts {
            self.mount(mount, built, done, &mut mounts)?;
        }
        let script = match &run.program {
            Program::Script { name, content } => Some(mounts.script(self, name, content)?),
            _ => None,
        };
        let words = built.configuration.program(&run.program, script.as_deref().unwrap_or_default());
        let network = match run.network {
            RunNetwork::Default => self.surroundings.network.clone(),
            RunNetwork::None => Some("none".to_owned()),
            RunNetwork::Host => Some("host".to_owned()),
        };
        let config = &built.configuration.image.config;
        let program = format!("{:?} {words:?}", run.program);
        let key = self.key(
            "RUN",
            built,
            &[
                &program,
                &step.traced.join("\0"),
                &config.user,
                built.configuration.working_directory(),
                network.as_deref().unwrap_or_default(),
                &mounts.says,
                &self.surroundings.options.join("\0"),
                if insecure { "insecure" } else { "" },
            ],
        );
        if let Some(record) = self.cached(&key)? {
            return Ok(Outcome::cached(record));
        }
        let environment = step.environment.clone();
        let config = Config {
            env: environment,
            working_dir: Some(built.configuration.working_directory().to_owned()),
            user: Some(config.user.clone()).filter(|user| !user.is_empty()),
            ..Config::default()
        };
        let mut options = self.surroundings.options.clone();
        // A user that the image does not know stays unknown: its layer is for the command's changes alone.
        options.extend(["--log-driver", "none", "--passwd=false", "--name"].map(str::to_owned));
        options.push(leftover::name()?);
        if let Some(network) = network {
            options.extend(["--network".to_owned(), network]);
        }
        options.extend(mounts.options.iter().cloned());
        options.extend(insecure.then(|| "--privileged".to_owned()));
        options.extend(self.surroundings.tier.map(|tier| format!("--id-tier={tier}")));
        let command = (words, mounts.variables.as_slice());
        let made = self.run_words((&self::options(&options)?, &config), command, built, showing)?;
        drop(mounts);
        self.keep(&key, made.as_ref());
        Ok(Outcome::made(made))
    }

    fn run_words(
        &self,
        (options, config): (&ContainerOptions, &Config),
        (words, secrets): (Vec<String>, &[String]),
        built: &Built,
        showing: &Showing<'_>,
    ) -> Result<Option<Made>> {
        let diff_ids: Vec<_> = built.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let source = Source::Image(Unpacked {
            name: "build".to_owned(),
            // It has none yet; what matters of an image in a record are its layers.
            id: self.key("STATE", built, &[]),
            key: self.place.key().clone(),
            stacked: self.layers.stack(&diff_ids)?,
        });
        let Surroundings { store, runtime, .. } = &self.surroundings;
        let mut spec = plan::container(options, source, config, words, &plan::Place { store, runtime })?.spec;
        spec.becomes_layer = true;
        // When the build was killed nobody wants what the command still makes.
        spec.stop_timeout = 0;
        for notice in &spec.degraded {
            log::info!("{notice}");
        }
        let (claim, directory) = store.create(&spec)?;
        // They are in no record: the monitor, a fork of this process, knows them from here.
        env::set_all(&mut spec.process.env, secrets.to_vec());
        let outcome = self.in_container(&spec, &directory, claim, showing);
        let made = outcome.and_then(|()| self.changes(&spec, &directory));
        let removed = leftover::remove_own(store, &spec.id, &runtime.path);
        let made = made?;
        removed?;
        Ok(made)
    }

    /// Runs the container to its end, in a process of its own: a client has threads.
    fn in_container(
        &self,
        spec: &Spec,
        directory: &ContainerDirectory,
        claim: crate::container::store::Claim,
        showing: &Showing<'_>,
    ) -> Result<()> {
        let Surroundings { store, runtime, .. } = &self.surroundings;
        let failed = || "cannot run the command";
        let stdin = self.surroundings.options.iter().any(|option| option == "--interactive");
        let (output, written) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(failed)?;
        let (ours, theirs) = Channel::pair().step(failed)?;
        let parent = std::process::id();
        let pid = match fork().step(failed)? {
            Fork::Parent(pid) => {
                drop((claim, theirs, written));
                pid
            }
            Fork::Child => {
                drop((ours, output));
                let _ = die_with_parent(parent);
                // Standard output is for the image's ID alone.
                let redirected =
                    rustix::stdio::dup2_stdout(&written).and_then(|()| rustix::stdio::dup2_stderr(&written));
                drop(written);
                let served = redirected.step(failed).and_then(|()| {
                    let place = monitor::Place { store, runtime: &runtime.path };
                    let connection = monitor::start(place, spec, directory, claim, Caller::Owner, None)?;
                    let serving = client::Options {
                        stdin,
                        terminal: false,
                        signal_proxy: true,
                        detach_keys: DetachKeys::default(),
                        brought_in: false,
                    };
                    client::serve(connection, &serving, || {})
                });
                let _ = theirs.send(&served);
                exit_now(0)
            }
        };
        show_output(&output, &ours, showing);
        let served = ours.receive::<Result<u8>>().step(failed);
        wait_for(pid).step(failed)?;
        let code = match served? {
            Some((served, _)) => served?,
            None => return Err(Error::new(failed()).because("the process that watches over it was killed")),
        };
        if code == 0 {
            return Ok(());
        }
        let error = Error::new(format!("the command ended with exit code {code}")).exit_code(code);
        Err(match code {
            EXIT_SBX..=127 => error,
            // So shells say it; the kernel has 64.
            129..=192 => error.because(format!("signal {} ended it, or what it ran", code - 128)),
            _ => error,
        })
    }

    /// What the command has changed, as a layer; none: nothing.
    fn changes(&self, spec: &Spec, directory: &ContainerDirectory) -> Result<Option<Made>> {
        let Surroundings { store, runtime, .. } = &self.surroundings;
        // Its monitor may still be writing how it ended.
        let (_, kept) = open_root::look(store, &runtime.path, &spec.id)?;
        let located = spec.located(store.root(), directory)?.into_owned();
        let made = self.as_root(|session| {
            let found = difference::find(&located, directory)?;
            if found.changes.is_empty() {
                return Ok(None);
            }
            Self::layer(session, |archive| pack_found(found, (&located, directory), self.times, archive))
        });
        drop(kept);
        made
    }
}

/// Shows what a command writes until the client at the other end of the channel has something to say. Before it does
/// it has written everything.
fn show_output(output: &OwnedFd, client: &Channel, showing: &Showing<'_>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut polled = [PollFd::new(output, PollFlags::IN), PollFd::new(client, PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let (readable, has_ended) =
            (polled[0].revents().contains(PollFlags::IN), !polled[1].revents().is_empty());
        if !readable && (has_ended || !polled[0].revents().is_empty()) {
            return;
        }
        if readable {
            match rustix::io::read(output, &mut buffer) {
                Ok(0) => return,
                Ok(count) => showing.output(&buffer[..count]),
                Err(_) => {}
            }
        }
    }
}

/// The image that a word means, brought where it is missing.
///
/// # Errors
/// It is not to be had.
pub fn bring(store: &Store, request: &image::resolve::Request<'_>) -> Result<image::Resolved> {
    if request.name == image::BUILT_IN {
        return Err(Error::new("cannot build on the image `host`")
            .because("it is this machine's own system, and no layers")
            .hint(
                "name one of a registry: `FROM debian:12`, or `docker.io/library/host` if that was meant",
            ));
    }
    image::resolve::resolve(store.root(), request)
}
