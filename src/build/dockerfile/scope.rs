//! What a stage knows while it is built: its variables and arguments; and with them, what its instructions mean.

use std::collections::BTreeSet;

use super::ast::{self, Body, Dockerfile, Instruction, Origin, Word};
use super::complaint::Complaint;
use super::expand::{Syntax, expand};
use super::git;
use super::plan::Names;
use super::settings::{Globals, PREDEFINED, Settings};
use super::source::Span;
use super::step::{
    Add, AddSource, Attributes, CommandLine, Copy, From, Healthcheck, InlineFile, MountKind, Program, Run,
    RunNetwork, RunSecurity, Step,
};
use super::variables::Variables;
use super::{chmod, limits, mount};
use crate::container::env::DEFAULT_PATH;
use crate::error::Result;
use crate::image::changes;

/// Paths with their places, and here-documents.
type Sources = (Vec<(String, Span)>, Vec<InlineFile>);

/// The build argument that names BuildKit's namespace of cache mounts.
const CACHE_SPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// What all stages of a build share.
#[derive(Debug)]
pub struct Frame<'b> {
    dockerfile: &'b Dockerfile,
    settings: &'b Settings,
    globals: Globals,
    names: Names,
}

impl<'b> Frame<'b> {
    /// # Errors
    /// A default of a global ARG is not understood.
    pub fn new(dockerfile: &'b Dockerfile, settings: &'b Settings) -> Result<Self> {
        let globals = Globals::read(dockerfile, settings)
            .map_err(|complaint| complaint.in_source(&dockerfile.source))?;
        Ok(Self { dockerfile, settings, globals, names: Names::of(dockerfile, settings) })
    }

    pub fn globals(&self) -> &Globals {
        &self.globals
    }
}

/// A variable that an instruction asked for and nobody has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub name: String,
    pub span: Span,
}

/// The variables of one stage at one of its instructions.
#[derive(Debug, Clone)]
pub struct Scope<'f> {
    frame: &'f Frame<'f>,
    /// ENV, of the base and of the stage; each name once, in order.
    environment: Variables,
    /// ARG, those with a value; each name once, in order.
    arguments: Variables,
    /// ARG, also those without a value.
    declared: BTreeSet<String>,
    missing: Vec<Missing>,
    /// Bytes that may still be expanded.
    budget: usize,
}

impl<'f> Scope<'f> {
    /// A stage on an image, whose configuration has these `NAME=VALUE`.
    pub fn on_image<'e>(frame: &'f Frame<'f>, environment: impl IntoIterator<Item = &'e str>) -> Self {
        let mut scope = Self {
            frame,
            environment: Variables::default(),
            arguments: Variables::default(),
            declared: BTreeSet::new(),
            missing: Vec::new(),
            budget: limits::STAGE,
        };
        for pair in environment {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            scope.environment.set(name, value);
        }
        scope
    }

    /// A stage on this one, when this one is done: it inherits the arguments, too (docker's "Build variables": once
    /// declared or consumed in a stage, an argument is inherited by child stages).
    #[must_use]
    pub fn child(&self) -> Self {
        Self { missing: Vec::new(), budget: limits::STAGE, ..self.clone() }
    }

    /// ENV overrides ARG, wherever it stands (Dockerfile reference, "Using ARG variables").
    fn value(&self, name: &str) -> Option<&str> {
        self.environment.get(name).or_else(|| self.arguments.get(name)).or_else(|| match name {
            // An image without one has docker's.
            "PATH" => Some(DEFAULT_PATH),
            name if PREDEFINED.contains(&name) => self.frame.settings.arguments.get(name).map(String::as_str),
            _ => None,
        })
    }

    /// The variables of ENV, as the image's configuration keeps them.
    pub fn environment(&self) -> &[(String, String)] {
        self.environment.list()
    }

    /// The declared arguments that have a value: RUN sees them, and its cache depends on them.
    pub fn arguments(&self) -> impl Iterator<Item = (&str, &str)> {
        self.arguments.iter().filter(|(name, _)| self.environment.get(name).is_none())
    }

    /// The proxies that were given with `--build-arg` and not declared: RUN sees them, nobody else ever does.
    pub fn proxies(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_set = |name| self.environment.get(name).or_else(|| self.arguments.get(name)).is_some();
        let given = PREDEFINED.into_iter().filter(move |name| !is_set(*name));
        given.filter_map(|name| Some((name, self.frame.settings.arguments.get(name)?.as_str())))
    }

    /// What RUN gets: proxies, arguments and ENV, in this order.
    pub fn run_environment(&self) -> Vec<(&str, &str)> {
        self.proxies().chain(self.arguments()).chain(self.environment.iter()).collect()
    }

    /// What was asked for and not set, since this was asked last.
    pub fn take_missing(&mut self) -> Vec<Missing> {
        std::mem::take(&mut self.missing)
    }

    /// Names that a misspelt one may have meant.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let environment = self.environment.iter().map(|(name, _)| name);
        environment.chain(self.declared.iter().map(String::as_str))
    }

    /// Whether an ARG of this stage has declared the name.
    pub fn is_declared(&self, name: &str) -> bool {
        self.declared.contains(name)
    }

    /// What an instruction means here; ARG and ENV are taken in.
    ///
    /// # Errors
    /// Something of it is not understood, now that variables are known.
    pub fn step(&mut self, instruction: &Instruction) -> Result<Step> {
        let source = instruction.foreign.as_ref().unwrap_or(&self.frame.dockerfile.source);
        self.read(instruction).map_err(|complaint| complaint.in_source(source))
    }

    fn read(&mut self, instruction: &Instruction) -> Result<Step, Complaint> {
        Ok(match &instruction.body {
            Body::Add(add) => Step::Add(self.add(add)?),
            Body::Arg(arguments) => self.declare(arguments, instruction.span)?,
            Body::Cmd(command) => Step::Cmd(CommandLine::read(command)),
            Body::Copy(copy) => Step::Copy(self.copy(copy)?),
            Body::Entrypoint(command) => Step::Entrypoint(CommandLine::read(command)),
            Body::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                for (name, value) in &pairs {
                    if name.contains('=') {
                        return Err(Complaint::new(instruction.span, "a variable's name has no `=`"));
                    }
                    self.environment.set(name, value);
                }
                self.affordable(instruction.span)?;
                Step::Env(pairs)
            }
            Body::Expose(words) => Step::Expose(self.ports(words)?),
            Body::Healthcheck(check) => Step::Healthcheck(Healthcheck::read(check)?),
            Body::Label(pairs) => Step::Label(self.pairs(pairs)?),
            Body::Maintainer(name) => Step::Maintainer(name.text.clone()),
            Body::OnBuild(trigger) => Step::OnBuild(trigger.trigger.clone()),
            Body::Run(run) => Step::Run(self.run(run)?),
            Body::Shell(words) => Step::Shell(words.iter().map(|word| word.text.clone()).collect()),
            Body::StopSignal(word) => {
                let signal = self.word(word)?;
                crate::container::signal::parse("STOPSIGNAL", &signal).map_err(|error| {
                    Complaint::new(
                        word.span,
                        format!("`{signal}` is no signal: {}", error.causes().join(": ")),
                    )
                })?;
                Step::StopSignal(signal)
            }
            Body::User(word) => Step::User(self.maybe(word)?),
            Body::Volume(words) => {
                let paths = words.iter().map(|word| self.some(word, "a volume"));
                Step::Volume(paths.collect::<Result<_, _>>()?)
            }
            Body::Workdir(word) => Step::Workdir(self.maybe(word)?),
        })
    }

    /// Expands a word; what is missing is noted.
    fn word(&mut self, word: &Word) -> Result<String, Complaint> {
        self.text(&word.text, word.span, Syntax::word(self.frame.dockerfile.directives.escape))
    }

    fn text(&mut self, text: &str, span: Span, syntax: Syntax) -> Result<String, Complaint> {
        let expanded =
            expand(text, syntax, |name| self.value(name)).map_err(|why| Complaint::new(span, why))?;
        self.spend(expanded.text.len(), span)?;
        self.note(expanded.missing, span);
        Ok(expanded.text)
    }

    fn note(&mut self, missing: BTreeSet<String>, span: Span) {
        let names = missing.into_iter().filter(|name| !self.declared.contains(name));
        let missing: Vec<Missing> = names.map(|name| Missing { name, span }).collect();
        self.missing.extend(missing);
    }

    fn spend(&mut self, bytes: usize, span: Span) -> Result<(), Complaint> {
        match self.budget.checked_sub(bytes) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(Complaint::new(
                span,
                format!("the stage expands to more than {} MiB", limits::STAGE >> 20),
            )),
        }
    }

    /// A word that may not turn out to be empty.
    fn some(&mut self, word: &Word, what: &str) -> Result<String, Complaint> {
        let text = self.word(word)?;
        match text.trim().is_empty() {
            true => Err(Complaint::new(word.span, format!("{what} may not be empty"))),
            false => Ok(text),
        }
    }

    /// A word that variables may make empty: then it says nothing, as BuildKit and buildah have it.
    fn maybe(&mut self, word: &Word) -> Result<String, Complaint> {
        let text = self.word(word)?;
        Ok(if text.trim().is_empty() { String::new() } else { text })
    }

    fn option(&mut self, word: Option<&Word>) -> Result<Option<String>, Complaint> {
        let text = word.map(|word| self.word(word)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn pairs(&mut self, pairs: &[ast::Pair]) -> Result<Vec<(String, String)>, Complaint> {
        let pair = |pair: &ast::Pair| Ok((self.some(&pair.name, "a name")?, self.word(&pair.value)?));
        // All see the variables from before the instruction (Dockerfile reference, "Environment replacement").
        pairs.iter().map(pair).collect()
    }

    /// What ENV and ARG hold together.
    fn affordable(&self, span: Span) -> Result<(), Complaint> {
        match self.environment.size() + self.arguments.size() > limits::ENVIRONMENT {
            true => {
                let what = format!("the variables hold more than {} MiB", limits::ENVIRONMENT >> 20);
                Err(Complaint::new(span, what))
            }
            false => Ok(()),
        }
    }

    /// ARG: what `--build-arg` gives, else the default, else the value of the global scope.
    fn declare(&mut self, arguments: &[ast::Argument], span: Span) -> Result<Step, Complaint> {
        let mut values = Vec::new();
        for argument in arguments {
            let name = self.some(&argument.name, "a name")?;
            let default = argument.default.as_ref().map(|word| self.word(word)).transpose()?;
            let given = self.frame.settings.arguments.get(&name).cloned();
            let global = || self.frame.globals.get(&name).map(str::to_owned);
            let value = given.or(default).or_else(global);
            values.push((name, value));
        }
        for (name, value) in values {
            if let Some(value) = value {
                self.arguments.set(&name, &value);
            }
            self.declared.insert(name);
        }
        self.affordable(span)?;
        Ok(Step::Arg)
    }

    fn ports(&mut self, words: &[Word]) -> Result<Vec<String>, Complaint> {
        let syntax = Syntax::words(self.frame.dockerfile.directives.escape);
        let mut ports = Vec::new();
        for word in words {
            let expanded = expand(&word.text, syntax, |name| self.value(name))
                .map_err(|why| Complaint::new(word.span, why))?;
            self.note(expanded.missing, word.span);
            for text in expanded.words {
                // docker takes `IP:HOST:PORT`, too, and keeps the port.
                let port = text.rsplit(':').next().unwrap_or(&text);
                let Some(range) = changes::ports(port) else {
                    let what = format!("`{}` is no port", text.escape_debug());
                    return Err(Complaint::new(word.span, what).hint("write `80`, `80/udp` or `8000-8010`"));
                };
                ports.extend(range);
                if ports.len() > limits::PORTS {
                    return Err(Complaint::new(word.span, "these are more ports than there are"));
                }
            }
        }
        Ok(ports)
    }

    fn run(&mut self, run: &ast::Run) -> Result<Run, Complaint> {
        let names = &self.frame.names;
        let mut mounts = Vec::new();
        for word in &run.mounts {
            let mut value = |text: &str| {
                self.text(text, word.span, Syntax::word(self.frame.dockerfile.directives.escape))
            };
            let mut mount = mount::read(word, &mut value, &|name| names.resolve(name))?;
            if let MountKind::Cache { id, .. } = &mut mount.kind
                && let Some(space) =
                    self.frame.settings.arguments.get(CACHE_SPACE).filter(|space| !space.is_empty())
            {
                *id = format!("{space}/{id}");
            }
            mounts.push(mount);
        }
        Ok(Run {
            mounts,
            network: run.network.as_ref().map(RunNetwork::read).transpose()?.unwrap_or_default(),
            security: run.security.as_ref().map(RunSecurity::read).transpose()?.unwrap_or_default(),
            program: program(&run.command, &run.files),
        })
    }

    fn attributes(&mut self, transfer: &ast::Transfer) -> Result<Attributes, Complaint> {
        let chmod = match &transfer.chmod {
            None => None,
            Some(word) => {
                let text = self.word(word)?;
                let word = Word { text, span: word.span };
                (!word.text.is_empty()).then(|| chmod::read(&word)).transpose()?
            }
        };
        Ok(Attributes {
            chown: self.option(transfer.chown.as_ref())?,
            chmod,
            link: transfer.link,
            exclude: transfer.exclude.iter().map(|word| self.word(word)).collect::<Result<_, _>>()?,
        })
    }

    /// Paths and here-documents of COPY and ADD.
    fn sources(&mut self, transfer: &ast::Transfer) -> Result<Sources, Complaint> {
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        for source in &transfer.sources {
            match source {
                Origin::Path(word) => paths.push((self.some(word, "a source")?, word.span)),
                Origin::File(document) => {
                    let mut content = document.lines();
                    if document.expand {
                        content = self.text(&content, document.span, Syntax::content())?;
                    }
                    files.push(InlineFile { name: document.name.clone(), content });
                }
            }
        }
        Ok((paths, files))
    }

    fn copy(&mut self, copy: &ast::Transfer) -> Result<Copy, Complaint> {
        let (sources, files) = self.sources(copy)?;
        let from = match &copy.from {
            Some(word) if !word.text.is_empty() => self.frame.names.resolve(&word.text),
            _ => From::Context,
        };
        if let Some((_, span)) = sources.iter().find(|(path, _)| is_remote(path)) {
            return Err(Complaint::new(*span, "COPY takes files of the context, a stage or an image")
                .hint("ADD downloads what is on the network"));
        }
        let destination = self.destination(copy, sources.len() + files.len())?;
        Ok(Copy {
            from,
            sources: sources.into_iter().map(|(path, _)| path).collect(),
            files,
            destination,
            attributes: self.attributes(copy)?,
            parents: copy.parents,
        })
    }

    fn add(&mut self, add: &ast::Transfer) -> Result<Add, Complaint> {
        let (sources, files) = self.sources(add)?;
        let checksum = self.option(add.checksum.as_ref())?;
        if let (Some(sum), Some(word)) = (&checksum, &add.checksum) {
            check_sum(sum).map_err(|why| Complaint::new(word.span, why))?;
            if sources.len() + files.len() != 1 || !is_remote(&sources[0].0) {
                return Err(Complaint::new(word.span, "`--checksum` belongs to one source on the network"));
            }
        }
        let destination = self.destination(add, sources.len() + files.len())?;
        let sources = sources.into_iter().map(|(path, span)| match git::read(&path) {
            Err(why) => Err(Complaint::new(span, why)),
            Ok(Some(source)) => Ok(AddSource::Git(source)),
            Ok(None) if is_url(&path) => Ok(AddSource::Url(path)),
            Ok(None) => Ok(AddSource::Path(path)),
        });
        Ok(Add {
            sources: sources.collect::<Result<_, _>>()?,
            files,
            destination,
            attributes: self.attributes(add)?,
            keep_git_dir: add.keep_git_dir,
            checksum,
            unpack: add.unpack,
        })
    }

    fn destination(&mut self, transfer: &ast::Transfer, sources: usize) -> Result<String, Complaint> {
        let word = &transfer.destination;
        let destination = self.some(word, "a destination")?;
        let is_directory = destination.ends_with('/') || destination == "." || destination.ends_with("/.");
        if sources > 1 && !is_directory {
            return Err(Complaint::new(word.span, "several sources need a directory as destination")
                .hint(format!("end it with a slash: `{destination}/`")));
        }
        Ok(destination)
    }
}

fn is_url(path: &str) -> bool {
    let begins =
        |scheme: &str| path.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    begins("http://") || begins("https://")
}

fn is_remote(path: &str) -> bool {
    is_url(path) || !matches!(git::read(path), Ok(None))
}

/// `ALGORITHM:HEX`, or a commit of a git repository.
fn check_sum(text: &str) -> Result<(), String> {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let length = match text.split_once(':') {
        None if is_hex(text) && (7..=64).contains(&text.len()) => return Ok(()),
        Some(("sha256", _)) => 64,
        Some(("sha384", _)) => 96,
        Some(("sha512", _)) => 128,
        _ => return Err("a checksum is `sha256:HEX`, `sha384:HEX` or `sha512:HEX`".to_owned()),
    };
    match text.split_once(':') {
        Some((_, hex)) if is_hex(hex) && hex.len() == length => Ok(()),
        _ => Err(format!("the checksum has not {length} hexadecimal digits")),
    }
}

/// What RUN executes: here-documents go to the shell, unless they are all that there is.
fn program(command: &ast::Command, files: &[ast::HereDocument]) -> Program {
    let line = match command {
        ast::Command::Exec(words) => {
            return Program::Exec(words.iter().map(|word| word.text.clone()).collect());
        }
        ast::Command::Shell(line) => &line.text,
    };
    let Some(first) = files.first() else { return Program::Shell(line.clone()) };
    let alone = files.len() == 1 && super::heredoc::read(line).is_some();
    if alone && first.content.starts_with("#!") {
        return Program::Script { name: first.name.clone(), content: first.lines() };
    }
    if alone {
        return Program::Shell(first.lines());
    }
    let mut script = line.clone();
    for file in files {
        script.push('\n');
        script.push_str(&file.content);
        script.push_str(&file.name);
    }
    Program::Shell(script)
}

#[cfg(test)]
mod tests;
