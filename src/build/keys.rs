//! `--ssh`: the agents that sign for commands. Keys that are named by their files are given to an agent of the build's
//! own, which ends with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::build::leftover;
use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::host::programs;

/// Run by ssh-agent, whose socket is there by then; the agent would look only every ten seconds whether this process
/// still is. It ends when its standard input does, however the build ended. ssh-agent is setgid, and forgets to die
/// with its parent (prctl(2), `PR_SET_PDEATHSIG`).
const KEEP: &str = "(for key; do ssh-add -q -- \"$key\" </dev/null || { echo \"ssh-add refuses $key\" >&2; exit 1; }; done) \
    && echo && cat; kill \"$SSH_AGENT_PID\"";
/// What is told of a failure, in bytes.
const LONGEST_WORD: u64 = 4 << 10;

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// An agent that runs, by its socket.
    Agent(PathBuf),
    /// Private keys without a passphrase.
    Keys(Vec<PathBuf>),
}

/// The agents of a build, by their IDs; those that were started end with the value.
#[derive(Debug, Default)]
pub struct Agents {
    pub sockets: BTreeMap<String, PathBuf>,
    started: Vec<Started>,
}

#[derive(Debug)]
struct Started {
    keeper: Child,
    directory: PathBuf,
}

impl Agents {
    /// Starts the agents that keys need.
    ///
    /// # Errors
    /// There is no OpenSSH, or a key cannot be used.
    pub fn start(signers: &BTreeMap<String, Signer>, runtime: &Path) -> Result<Self> {
        let mut agents = Self::default();
        for (id, signer) in signers {
            let socket = match signer {
                Signer::Agent(socket) => socket.clone(),
                Signer::Keys(keys) => agents.add(keys, runtime).map_err(|error| {
                    error.while_doing(format!("cannot use the keys of `--ssh {}`", id.escape_debug()))
                })?,
            };
            agents.sockets.insert(id.clone(), socket);
        }
        Ok(agents)
    }

    fn add(&mut self, keys: &[PathBuf], runtime: &Path) -> Result<PathBuf> {
        let program = programs::find("ssh-agent").ok_or_else(|| {
            Error::new("cannot start `ssh-agent`")
                .because("it is not installed")
                .hint("install OpenSSH's client (Debian: openssh-client)")
        })?;
        let directory = runtime.join(leftover::name()?);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| no_room(error, format!("cannot make `{}`", directory.display())))?;
        let socket = directory.join("agent");
        let mut command = Command::new(&program);
        command.arg("-a").arg(&socket).args(["sh", "-c", KEEP, "sh"]).args(keys);
        // Nobody is asked for a passphrase: whoever builds may not be there.
        command.env("SSH_ASKPASS", "false").env("SSH_ASKPASS_REQUIRE", "force");
        let path = std::env::join_paths(programs::directories()).unwrap_or_default();
        command.env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let keeper = command.spawn().step(|| format!("cannot start `{}`", program.display()));
        let keeper = match keeper {
            Ok(keeper) => keeper,
            Err(error) => {
                let _ = fs::remove_dir_all(&directory);
                return Err(error);
            }
        };
        self.started.push(Started { keeper, directory });
        self.started.last_mut().map_or(Ok(()), Started::wait)?;
        Ok(socket)
    }
}

impl Started {
    /// Waits until the agent has the keys.
    fn wait(&mut self) -> Result<()> {
        let mut ready = String::new();
        if let Some(output) = self.keeper.stdout.take() {
            let _ = BufReader::new(output.take(1)).read_line(&mut ready);
        }
        if ready == "\n" {
            return Ok(());
        }
        drop(self.keeper.stdin.take());
        let mut said = Vec::new();
        if let Some(errors) = self.keeper.stderr.take() {
            let _ = errors.take(LONGEST_WORD).read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        let words: Vec<&str> = said.split_whitespace().collect();
        Err(Error::new("no agent takes them").because(words.join(" ").escape_debug()).hint("a key needs the mode 0600 and no passphrase; others go through an agent: `ssh-add KEY`, `--ssh default`"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            log::debug!("cannot remove `{}`: {error}", self.directory.display());
        }
    }
}
