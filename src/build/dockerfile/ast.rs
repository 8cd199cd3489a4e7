//! What a Dockerfile says, as it was written: typed instructions with the place of each word. Nothing is expanded
//! here; [`super::step`] is what an instruction means once its variables are known.

use super::source::{Source, Span};

/// A whole Dockerfile that was understood.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    pub source: Source,
    pub directives: Directives,
    /// The ARGs before the first FROM.
    pub globals: Vec<Instruction>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// Lines with nothing but white space inside of an instruction that goes on (NoEmptyContinuation).
    pub empty_continuations: Vec<Span>,
}

/// `# syntax=`, `# escape=`, `# check=` in the first lines.
#[derive(Debug, Clone)]
pub struct Directives {
    pub syntax: Option<Word>,
    /// `\`, or a backtick.
    pub escape: char,
    pub check: Option<Word>,
}

/// A stretch of the file, still with its variables, quotes and escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct Stage {
    pub from: From,
    /// The FROM instruction.
    pub span: Span,
    /// `FROM` as it was typed.
    pub keyword: Word,
    /// The FROM's line as history and progress show it.
    pub text: String,
    pub instructions: Vec<Instruction>,
}

#[derive(Debug, Clone)]
pub struct From {
    pub platform: Option<Word>,
    pub image: Word,
    pub name: Option<StageName>,
}

#[derive(Debug, Clone)]
pub struct StageName {
    /// `AS` as it was typed.
    pub keyword: Word,
    /// As typed; names of stages are compared in lower case.
    pub name: Word,
}

#[derive(Debug, Clone)]
pub struct Instruction {
    /// From the keyword to the end of the arguments, here-documents included.
    pub span: Span,
    /// The keyword as it was typed.
    pub keyword: Word,
    /// The whole instruction in one line: continuations joined, comments left out, without here-documents.
    pub text: String,
    pub body: Body,
    /// What the places are in, where it is not the Dockerfile: a trigger of the base image.
    pub foreign: Option<Source>,
}

#[derive(Debug, Clone)]
pub enum Body {
    Add(Transfer),
    Arg(Vec<Argument>),
    Cmd(Command),
    Copy(Transfer),
    Entrypoint(Command),
    Env(Vec<Pair>),
    Expose(Vec<Word>),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(Word),
    OnBuild(OnBuild),
    Run(Run),
    /// A JSON array.
    Shell(Vec<Word>),
    StopSignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

impl Body {
    /// The instruction's name in capitals.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::OnBuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// CMD, ENTRYPOINT, and what RUN and HEALTHCHECK execute.
#[derive(Debug, Clone)]
pub enum Command {
    /// A line for the shell, empty where nothing was written.
    Shell(Word),
    /// A JSON array of words, maybe empty.
    Exec(Vec<Word>),
}

/// `NAME=VALUE` of ENV and LABEL.
#[derive(Debug, Clone)]
pub struct Pair {
    pub name: Word,
    pub value: Word,
    /// Written as `NAME VALUE` (LegacyKeyValueFormat).
    pub legacy: bool,
}

#[derive(Debug, Clone)]
pub struct Argument {
    pub name: Word,
    pub default: Option<Word>,
}

#[derive(Debug, Clone)]
pub struct Run {
    /// `--mount`, in order; read by [`super::mount`] once variables are known.
    pub mounts: Vec<Word>,
    /// `--network`.
    pub network: Option<Word>,
    /// `--security`.
    pub security: Option<Word>,
    pub command: Command,
    pub files: Vec<HereDocument>,
}

/// A here-document: `<<NAME`, and the lines up to one that says `NAME`.
#[derive(Debug, Clone)]
pub struct HereDocument {
    pub name: String,
    /// Variables are expanded: the name was not quoted.
    pub expand: bool,
    /// `<<-`: tabs at the start of lines do not count.
    pub strip_tabs: bool,
    /// The file descriptor before `<<`, where one was written.
    pub descriptor: Option<u32>,
    /// The lines as written, the last with its line end; tabs are still there.
    pub content: String,
    /// The lines of the content.
    pub span: Span,
}

/// COPY and ADD.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// COPY alone.
    pub from: Option<Word>,
    pub chown: Option<Word>,
    pub chmod: Option<Word>,
    pub link: bool,
    /// COPY alone.
    pub parents: bool,
    pub exclude: Vec<Word>,
    /// ADD alone.
    pub keep_git_dir: bool,
    /// ADD alone.
    pub checksum: Option<Word>,
    /// ADD alone; none: local archives are unpacked, downloaded ones are not.
    pub unpack: Option<bool>,
    pub sources: Vec<Origin>,
    pub destination: Word,
}

/// A source of COPY or ADD.
#[derive(Debug, Clone)]
pub enum Origin {
    Path(Word),
    File(HereDocument),
}

#[derive(Debug, Clone)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`.
    None,
    Check {
        interval: Option<Word>,
        timeout: Option<Word>,
        start_period: Option<Word>,
        start_interval: Option<Word>,
        retries: Option<Word>,
        command: Command,
    },
}

#[derive(Debug, Clone)]
pub struct OnBuild {
    /// The trigger as the image's configuration keeps it, here-documents included.
    pub trigger: String,
    /// The same, read: it must be one instruction that may be a trigger.
    pub instruction: Box<Instruction>,
}
