//! What an instruction means: variables expanded, flags read, everything checked that can be without a file system.
//! This is what the builder executes.

use std::time::Duration;

use super::ast::{self, Word};
use super::chmod::Chmod;
use super::complaint::Complaint;
use crate::container::duration;

/// One instruction, ready to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Add(Add),
    /// What the stage's scope now knows; nothing to do.
    Arg,
    Cmd(CommandLine),
    Copy(Copy),
    Entrypoint(CommandLine),
    /// Names and values, in order.
    Env(Vec<(String, String)>),
    /// `80/tcp`; ranges are written out.
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<(String, String)>),
    Maintainer(String),
    /// The trigger's text, for `OnBuild` of the configuration.
    OnBuild(String),
    Run(Run),
    Shell(Vec<String>),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    /// As written: relative to the directory before it unless it begins with `/`.
    Workdir(String),
}

/// CMD, ENTRYPOINT and health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// For the stage's SHELL.
    Shell(String),
    Exec(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub mounts: Vec<Mount>,
    pub network: RunNetwork,
    pub security: RunSecurity,
    pub program: Program,
}

/// What RUN executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A script for the stage's SHELL, here-documents put back where the shell reads them.
    Shell(String),
    Exec(Vec<String>),
    /// A here-document that begins with `#!`: a file of this name and content, mode 0755, in a directory that is
    /// there for this command alone (BuildKit has it in /dev/pipes), is executed.
    Script {
        name: String,
        content: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunNetwork {
    /// What the build was given.
    #[default]
    Default,
    None,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunSecurity {
    #[default]
    Sandbox,
    Insecure,
}

/// `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// An absolute path, or one relative to the working directory; none: the kind's own place
    /// (`/run/secrets/ID`, `/run/buildkit/ssh_agent.N`, or an environment variable alone).
    pub target: Option<String>,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Writes are thrown away.
    Bind {
        from: From,
        source: String,
    },
    Cache {
        /// The target where none was given.
        id: String,
        from: Option<From>,
        source: String,
        sharing: Sharing,
        owner: Owner,
    },
    /// Bytes.
    Tmpfs {
        size: Option<u64>,
    },
    Secret {
        id: String,
        /// The variable that holds the secret; with a target as well, both.
        variable: Option<String>,
        required: bool,
        owner: Owner,
    },
    Ssh {
        id: String,
        required: bool,
        owner: Owner,
    },
}

/// Mode and owner of what a mount makes; none: the kind's default (caches 0755, secrets 0400, sockets 0600; 0:0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    #[default]
    Shared,
    Private,
    Locked,
}

/// Where COPY or a mount takes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The build context.
    Context,
    /// A stage of this Dockerfile by index.
    Stage(usize),
    /// A context of `--build-context`, else an image.
    Named(String),
    /// Nothing: `FROM scratch` in all but name.
    Scratch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub from: From,
    /// Patterns (`super::matching`), as written but for variables.
    pub sources: Vec<String>,
    pub files: Vec<InlineFile>,
    pub destination: String,
    pub attributes: Attributes,
    pub parents: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    pub sources: Vec<AddSource>,
    pub files: Vec<InlineFile>,
    pub destination: String,
    pub attributes: Attributes,
    pub keep_git_dir: bool,
    /// `ALGORITHM:HEX`, of the one remote source.
    pub checksum: Option<String>,
    /// None: local archives are unpacked, downloaded ones are not.
    pub unpack: Option<bool>,
}

/// What COPY and ADD share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `USER[:GROUP]`, names or numbers; none: 0:0.
    pub chown: Option<String>,
    pub chmod: Option<Chmod>,
    pub link: bool,
    /// Patterns below each source, as of an ignore file.
    pub exclude: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddSource {
    Path(String),
    /// `http://` or `https://`.
    Url(String),
    Git(GitSource),
}

/// A git repository as ADD and contexts name it: `https://host/x.git[#REF[:DIRECTORY]]`, `git@host:x.git`, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// What git is given.
    pub url: String,
    /// A branch, tag or commit; none: the remote's HEAD.
    pub reference: Option<String>,
    /// Below the root of the repository.
    pub directory: Option<String>,
}

/// A here-document of COPY or ADD: mode 0644 unless `--chmod` says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    pub name: String,
    pub content: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    None,
    Check {
        command: CommandLine,
        interval: Option<Duration>,
        timeout: Option<Duration>,
        start_period: Option<Duration>,
        start_interval: Option<Duration>,
        retries: Option<u32>,
    },
}

/// docker's shortest span between checks, in milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);

impl RunNetwork {
    /// # Errors
    /// It is no network of RUN.
    pub fn read(word: &Word) -> Result<Self, Complaint> {
        match word.text.as_str() {
            "default" => Ok(Self::Default),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            _ => Err(Complaint::new(word.span, "the network of RUN is `default`, `none` or `host`")),
        }
    }
}

impl RunSecurity {
    /// # Errors
    /// It is neither `sandbox` nor `insecure`.
    pub fn read(word: &Word) -> Result<Self, Complaint> {
        match word.text.as_str() {
            "sandbox" => Ok(Self::Sandbox),
            "insecure" => Ok(Self::Insecure),
            _ => Err(Complaint::new(word.span, "the security of RUN is `sandbox` or `insecure`")),
        }
    }
}

impl CommandLine {
    pub fn read(command: &ast::Command) -> Self {
        match command {
            ast::Command::Shell(line) => Self::Shell(line.text.clone()),
            ast::Command::Exec(words) => Self::Exec(words.iter().map(|word| word.text.clone()).collect()),
        }
    }
}

impl Healthcheck {
    /// # Errors
    /// A span of time or a number is none.
    pub fn read(check: &ast::Healthcheck) -> Result<Self, Complaint> {
        let ast::Healthcheck::Check { interval, timeout, start_period, start_interval, retries, command } =
            check
        else {
            return Ok(Self::None);
        };
        let span = |word: &Option<Word>| match word {
            None => Ok(None),
            Some(word) => match duration::parse("HEALTHCHECK", &word.text) {
                // Nothing means the default.
                Ok(Duration::ZERO) => Ok(None),
                Ok(span) if span >= SHORTEST => Ok(Some(span)),
                Ok(_) => Err(Complaint::new(word.span, "a span is at least 1ms")),
                Err(error) => Err(Complaint::new(
                    word.span,
                    format!("this is no span of time: {}", error.causes().join(": ")),
                )
                .hint("write `30s`, `1m30s`, `500ms`")),
            },
        };
        let retries = match retries {
            None => None,
            Some(word) => match word.text.parse::<u32>() {
                Ok(0) => None,
                Ok(retries) if retries <= i32::MAX as u32 => Some(retries),
                _ => return Err(Complaint::new(word.span, "`--retries` is a number")),
            },
        };
        Ok(Self::Check {
            command: CommandLine::read(command),
            interval: span(interval)?,
            timeout: span(timeout)?,
            start_period: span(start_period)?,
            start_interval: span(start_interval)?,
            retries,
        })
    }
}
