//! The arguments of each instruction.

use std::ops::Range;

use super::super::ast::{
    Argument, Body, Command, From, Healthcheck, HereDocument, Origin, Pair, Run, StageName, Transfer, Word,
};
use super::super::complaint::Complaint;
use super::super::heredoc;
use super::super::logical::Logical;
use super::super::words::{self, Json};
use super::super::{chmod, limits, mount, step};
use super::flags::{Flag, Kind, Values};

const NOT_STRINGS: &str = "an array here has strings alone";

/// What is after an instruction's flags.
pub struct Arguments<'l> {
    logical: &'l Logical,
    keyword: Range<usize>,
    rest: Range<usize>,
    escape: char,
    documents: Vec<HereDocument>,
}

impl<'l> Arguments<'l> {
    pub fn new(
        logical: &'l Logical,
        keyword: Range<usize>,
        rest: Range<usize>,
        escape: char,
        documents: Vec<HereDocument>,
    ) -> Self {
        Self { logical, keyword, rest, escape, documents }
    }

    fn text(&self) -> &'l str {
        &self.logical.text[self.rest.clone()]
    }

    fn plain(&self) -> Result<Vec<Range<usize>>, Complaint> {
        self.bounded(words::plain(self.logical, self.rest.clone()))
    }

    fn quoted(&self) -> Result<Vec<Range<usize>>, Complaint> {
        self.bounded(words::quoted(self.logical, self.rest.clone(), self.escape))
    }

    fn bounded(&self, words: Vec<Range<usize>>) -> Result<Vec<Range<usize>>, Complaint> {
        match words.len() > limits::WORDS {
            true => self.complain(format!("more than {} words", limits::WORDS)),
            false => Ok(words),
        }
    }

    fn complain<T>(&self, message: impl Into<String>) -> Result<T, Complaint> {
        let span = if self.rest.is_empty() { self.keyword.clone() } else { self.rest.clone() };
        Err(Complaint::new(self.logical.span(span), message))
    }

    pub fn body(self, name: &'static str, flags: Vec<Flag>) -> Result<Body, Complaint> {
        let known: &[(&str, Kind)] = match name {
            "ADD" => &[
                ("checksum", Kind::Text),
                ("chmod", Kind::Text),
                ("chown", Kind::Text),
                ("exclude", Kind::Many),
                ("keep-git-dir", Kind::Switch),
                ("link", Kind::Switch),
                ("unpack", Kind::Switch),
            ],
            "COPY" => &[
                ("chmod", Kind::Text),
                ("chown", Kind::Text),
                ("exclude", Kind::Many),
                ("from", Kind::Text),
                ("link", Kind::Switch),
                ("parents", Kind::Switch),
            ],
            "HEALTHCHECK" => &[
                ("interval", Kind::Text),
                ("retries", Kind::Text),
                ("start-interval", Kind::Text),
                ("start-period", Kind::Text),
                ("timeout", Kind::Text),
            ],
            "RUN" => &[
                ("device", Kind::Many),
                ("mount", Kind::Many),
                ("network", Kind::Text),
                ("security", Kind::Text),
            ],
            _ => &[],
        };
        let flags = Values::read(flags, name, known)?;
        Ok(match name {
            "ADD" => Body::Add(self.transfer(name, &flags)?),
            "ARG" => Body::Arg(self.names()?),
            "CMD" => Body::Cmd(self.command(self.rest.clone())?),
            "COPY" => Body::Copy(self.transfer(name, &flags)?),
            "ENTRYPOINT" => Body::Entrypoint(self.command(self.rest.clone())?),
            "ENV" => Body::Env(self.pairs(name)?),
            "EXPOSE" => Body::Expose(self.at_least_one(self.plain()?, name)?),
            "HEALTHCHECK" => Body::Healthcheck(self.healthcheck(&flags)?),
            "LABEL" => Body::Label(self.pairs(name)?),
            "MAINTAINER" => Body::Maintainer(self.one(name)?),
            "RUN" => Body::Run(self.run(&flags)?),
            "SHELL" => Body::Shell(self.shell()?),
            "STOPSIGNAL" => Body::StopSignal(self.one(name)?),
            "USER" => Body::User(self.one(name)?),
            "VOLUME" => Body::Volume(self.volumes()?),
            "WORKDIR" => Body::Workdir(self.one(name)?),
            // FROM and ONBUILD are read elsewhere.
            _ => return self.complain(format!("{name} may not stand here")),
        })
    }

    pub fn from(&self, flags: Vec<Flag>) -> Result<From, Complaint> {
        let flags = Values::read(flags, "FROM", &[("platform", Kind::Text)])?;
        let words = self.plain()?;
        let word = |index: usize| self.logical.word(words[index].clone());
        let platform = flags.text("platform");
        match words.len() {
            1 => Ok(From { platform, image: word(0), name: None }),
            3 if word(1).text.eq_ignore_ascii_case("AS") => {
                let name = word(2);
                if !is_stage_name(&name.text) {
                    return Err(Complaint::new(name.span, "this is no name for a stage").hint(
                        "a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`",
                    ));
                }
                Ok(From { platform, image: word(0), name: Some(StageName { keyword: word(1), name }) })
            }
            0 => self.complain("FROM needs an image"),
            _ => self.complain("FROM takes an image and maybe `AS NAME`, nothing else"),
        }
    }

    /// The whole rest is one word, white space included.
    fn one(&self, name: &str) -> Result<Word, Complaint> {
        match self.rest.is_empty() {
            true => self.complain(format!("{name} needs an argument")),
            false => Ok(self.logical.word(self.rest.clone())),
        }
    }

    fn at_least_one(&self, words: Vec<Range<usize>>, name: &str) -> Result<Vec<Word>, Complaint> {
        match words.is_empty() {
            true => self.complain(format!("{name} needs an argument")),
            false => Ok(words.into_iter().map(|word| self.logical.word(word)).collect()),
        }
    }

    /// The words of an array; their place is that of the array. None: it is no array.
    fn array(&self, range: Range<usize>) -> Result<Option<Vec<Word>>, Complaint> {
        let text = &self.logical.text[range.clone()];
        if text.starts_with('[') && text.len() > limits::WORD {
            let what = format!("an array is longer than {} KiB", limits::WORD >> 10);
            return Err(Complaint::new(self.logical.span(range), what));
        }
        match words::json(text) {
            Json::No => Ok(None),
            Json::NotStrings => Err(Complaint::new(self.logical.span(range), NOT_STRINGS)),
            Json::Words(words) => {
                let span = self.logical.span(range);
                Ok(Some(words.into_iter().map(|text| Word { text, span }).collect()))
            }
        }
    }

    fn command(&self, range: Range<usize>) -> Result<Command, Complaint> {
        let array = self.array(range.clone())?;
        Ok(array.map_or_else(|| Command::Shell(self.logical.word(range)), Command::Exec))
    }

    fn run(self, flags: &Values) -> Result<Run, Complaint> {
        if let Some(span) = flags.span("device") {
            return Err(Complaint::new(
                span,
                "`RUN --device` asks for a CDI device, which sbx does not know",
            ));
        }
        if self.rest.is_empty() {
            return self.complain("RUN needs a command");
        }
        let mounts = flags.many("mount");
        for word in &mounts {
            mount::check(word)?;
        }
        let network = flags.text("network");
        let security = flags.text("security");
        network.as_ref().map(step::RunNetwork::read).transpose()?;
        security.as_ref().map(step::RunSecurity::read).transpose()?;
        let command = self.command(self.rest.clone())?;
        if matches!(&command, Command::Exec(words) if words.is_empty()) {
            return self.complain("RUN needs a command");
        }
        Ok(Run { mounts, network, security, command, files: self.documents })
    }

    fn shell(&self) -> Result<Vec<Word>, Complaint> {
        match self.array(self.rest.clone())? {
            Some(words) if !words.is_empty() => Ok(words),
            _ => {
                let span = if self.rest.is_empty() { self.keyword.clone() } else { self.rest.clone() };
                Err(Complaint::new(self.logical.span(span), "SHELL needs a JSON array of words")
                    .hint("write `SHELL [\"/bin/bash\", \"-c\"]`"))
            }
        }
    }

    fn volumes(&self) -> Result<Vec<Word>, Complaint> {
        let words = match self.array(self.rest.clone())? {
            Some(words) if words.is_empty() => return self.complain("VOLUME needs an argument"),
            Some(words) => words,
            None => self.at_least_one(self.plain()?, "VOLUME")?,
        };
        match words.iter().find(|word| word.text.trim().is_empty()) {
            Some(empty) => Err(Complaint::new(empty.span, "a volume is a path")),
            None => Ok(words),
        }
    }

    /// `NAME[=VALUE]…` of ARG.
    fn names(&self) -> Result<Vec<Argument>, Complaint> {
        let words = self.quoted()?;
        if words.is_empty() {
            return self.complain("ARG needs a name");
        }
        words
            .into_iter()
            .map(|word| match self.logical.text[word.clone()].find('=') {
                Some(0) => Err(Complaint::new(self.logical.span(word), "there is no name before the `=`")),
                Some(at) => Ok(Argument {
                    name: self.logical.word(word.start..word.start + at),
                    default: Some(self.logical.word(word.start + at + 1..word.end)),
                }),
                None => Ok(Argument { name: self.logical.word(word), default: None }),
            })
            .collect()
    }

    /// `NAME=VALUE…` of ENV and LABEL, or the one pair `NAME VALUE` of old.
    fn pairs(&self, name: &str) -> Result<Vec<Pair>, Complaint> {
        let words = self.quoted()?;
        let Some(first) = words.first() else {
            return self.complain(format!("{name} needs `NAME=VALUE`"));
        };
        if !self.logical.text[first.clone()].contains('=') {
            return self.legacy_pair(name).map(|pair| vec![pair]);
        }
        let pair = |word: Range<usize>| match self.logical.text[word.clone()].find('=') {
            None => Err(Complaint::new(self.logical.span(word), "there is no `=` in this word")
                .hint("quote a value with white space: `NAME=\"a value\"`")),
            Some(0) => Err(Complaint::new(self.logical.span(word), "there is no name before the `=`")),
            Some(at) => Ok(Pair {
                name: self.logical.word(word.start..word.start + at),
                value: self.logical.word(word.start + at + 1..word.end),
                legacy: false,
            }),
        };
        words.into_iter().map(pair).collect()
    }

    fn legacy_pair(&self, name: &str) -> Result<Pair, Complaint> {
        let Some(length) = self.text().find(['\t', '\u{b}', '\u{c}', '\r', ' ']) else {
            return self.complain(format!("{name} needs a value: `NAME=VALUE`"));
        };
        let split = self.rest.start + length;
        let value = self.logical.trimmed(split..self.rest.end);
        Ok(Pair {
            name: self.logical.word(self.rest.start..split),
            value: self.logical.word(value),
            legacy: true,
        })
    }

    fn healthcheck(&self, flags: &Values) -> Result<Healthcheck, Complaint> {
        let Some(kind) = self.plain()?.into_iter().next() else {
            return self.complain("HEALTHCHECK needs `NONE` or `CMD` and a command");
        };
        let rest = self.logical.trimmed(kind.end..self.rest.end);
        match self.logical.text[kind.clone()].to_ascii_uppercase().as_str() {
            "NONE" if rest.is_empty() => Ok(Healthcheck::None),
            "NONE" => Err(Complaint::new(self.logical.span(rest), "`HEALTHCHECK NONE` takes no arguments")),
            "CMD" => {
                let command = self.command(rest)?;
                let nothing = match &command {
                    Command::Shell(line) => line.text.is_empty(),
                    Command::Exec(words) => words.is_empty(),
                };
                if nothing {
                    return Err(Complaint::new(self.logical.span(kind), "`HEALTHCHECK CMD` needs a command"));
                }
                let check = Healthcheck::Check {
                    interval: flags.text("interval"),
                    timeout: flags.text("timeout"),
                    start_period: flags.text("start-period"),
                    start_interval: flags.text("start-interval"),
                    retries: flags.text("retries"),
                    command,
                };
                step::Healthcheck::read(&check)?;
                Ok(check)
            }
            _ => Err(Complaint::new(self.logical.span(kind), "HEALTHCHECK is followed by `NONE` or `CMD`")),
        }
    }

    fn transfer(mut self, name: &str, flags: &Values) -> Result<Transfer, Complaint> {
        let mut words = match self.array(self.rest.clone())? {
            Some(words) => words,
            None => {
                let words = self.plain()?;
                words.into_iter().map(|word| self.logical.word(word)).collect()
            }
        };
        let destination = match words.pop() {
            Some(word) if !words.is_empty() => word,
            _ => return self.complain(format!("{name} needs a source and a destination")),
        };
        if heredoc::read(&destination.text).is_some() {
            return Err(Complaint::new(destination.span, "a here-document is no destination"));
        }
        let mut documents = std::mem::take(&mut self.documents).into_iter().peekable();
        let mut sources = Vec::new();
        for word in words {
            let document = heredoc::read(&word.text)
                .and_then(|announced| documents.next_if(|document| document.name == announced.name));
            sources.push(document.map_or_else(|| Origin::Path(word), Origin::File));
        }
        if documents.next().is_some() {
            return self.complain("there may be no white space after `<<` here");
        }
        let chmod = flags.text("chmod");
        if let Some(word) = chmod.as_ref().filter(|word| !word.text.contains('$')) {
            chmod::read(word)?;
        }
        let from = flags.text("from");
        if let Some(word) = from.as_ref().filter(|word| word.text.contains('$')) {
            return Err(super::no_variable(word.span, "--from"));
        }
        Ok(Transfer {
            from,
            chown: flags.text("chown"),
            chmod,
            link: flags.switch("link") == Some(true),
            parents: flags.switch("parents") == Some(true),
            exclude: flags.many("exclude"),
            keep_git_dir: flags.switch("keep-git-dir") == Some(true),
            checksum: flags.text("checksum"),
            unpack: flags.switch("unpack"),
            sources,
            destination,
        })
    }
}

/// `[a-z][a-z0-9-_.]*`, in any case.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
