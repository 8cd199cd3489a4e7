//! A Dockerfile's text becomes instructions.
//!
//! The crate `parse-dockerfile` 0.1.9 was measured and not taken: it knows a here-document only where `<<NAME` is the
//! first word of RUN (`RUN cat <<EOF` is an "unknown instruction" one line later), refuses two stages of one name, which
//! docker builds, leaves continuations and comments inside of RUN, leaves ENV, LABEL and ARG as one text without the
//! places of their words, and checks no flag.

mod arguments;
mod directives;
mod flags;

use std::io::Read;
use std::ops::Range;

use super::ast::{Body, Dockerfile, Instruction, OnBuild, Stage};
use super::complaint::Complaint;
use super::logical::{Logical, Reader};
use super::source::{Source, Span};
use super::words::{self, Json};
use super::{heredoc, limits, near};
use crate::error::{Error, Result, Step};
use arguments::Arguments;

const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile; `name` is what messages call it. Bytes that are not UTF-8 become U+FFFD, as they would in the
/// image's configuration.
///
/// # Errors
/// It cannot be read, is too long, or [`parse`] does not understand it.
pub fn read(name: &str, file: impl Read) -> Result<Dockerfile> {
    let mut bytes = Vec::new();
    file.take(limits::FILE + 1).read_to_end(&mut bytes).step(|| format!("cannot read `{name}`"))?;
    if bytes.len() as u64 > limits::FILE {
        return Err(Error::new(format!("cannot build `{name}`"))
            .because(format!("it is longer than {} MiB", limits::FILE >> 20)));
    }
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    parse(name, text)
}

/// Reads the text of a Dockerfile.
///
/// # Errors
/// Names the file, line and column of what is not understood, and shows the line.
pub fn parse(name: &str, text: String) -> Result<Dockerfile> {
    let source = Source::new(name, text);
    if source.text().len() as u64 > limits::FILE {
        return Err(Error::new(format!("cannot build `{name}`"))
            .because(format!("it is longer than {} MiB", limits::FILE >> 20)));
    }
    dockerfile(&source).map_err(|complaint| complaint.in_source(&source))
}

/// Reads a trigger of a base image (`OnBuild` of its configuration); `image` is what messages call that.
///
/// # Errors
/// As [`parse`]; what may be no trigger is refused, too.
pub fn trigger(image: &str, text: &str) -> Result<Instruction> {
    let source = Source::new(&format!("ONBUILD of {image}"), text.to_owned());
    let read = || {
        let mut reader = Reader::new(source.text());
        let Some(logical) = reader.logical() else {
            return Err(Complaint::new(Span::default(), "the trigger is empty"));
        };
        let whole = logical.trimmed(0..logical.text.len());
        let parser = Parser { escape: '\\' };
        may_be_trigger(&logical, &parser.keyword(&logical, whole).0)?;
        let mut instruction = parser.instruction(&mut reader, &logical)?;
        if let Some(next) = reader.logical() {
            let span = next.span(0..next.text.len());
            return Err(Complaint::new(span, "a trigger is one instruction alone"));
        }
        instruction.foreign = Some(source.clone());
        Ok(instruction)
    };
    read().map_err(|complaint| complaint.in_source(&source))
}

fn dockerfile(source: &Source) -> Result<Dockerfile, Complaint> {
    let mut reader = Reader::new(source.text());
    let directives = directives::read(&mut reader)?;
    reader.escape = directives.escape;
    let parser = Parser { escape: directives.escape };
    let mut globals = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut empty_continuations = Vec::new();
    let mut count = 0;
    while let Some(mut logical) = reader.logical() {
        let whole = logical.span(0..logical.text.len());
        count += 1;
        if count > limits::INSTRUCTIONS {
            return Err(Complaint::new(whole, format!("more than {} instructions", limits::INSTRUCTIONS)));
        }
        empty_continuations.append(&mut logical.empty);
        let (keyword, _) = parser.keyword(&logical, logical.trimmed(0..logical.text.len()));
        if logical.text[keyword].eq_ignore_ascii_case("FROM") {
            stages.push(parser.from(&logical)?);
            if stages.len() > limits::STAGES {
                return Err(Complaint::new(whole, format!("more than {} stages", limits::STAGES)));
            }
            continue;
        }
        let instruction = parser.instruction(&mut reader, &logical)?;
        match (stages.last_mut(), &instruction.body) {
            (Some(stage), _) => stage.instructions.push(instruction),
            (None, Body::Arg(_)) => globals.push(instruction),
            (None, _) => {
                let what = format!("{} before the first FROM", instruction.body.name());
                return Err(Complaint::new(instruction.keyword.span, what)
                    .hint("begin with `FROM IMAGE`; only ARG may stand before it"));
            }
        }
    }
    if stages.is_empty() {
        let end = source.text().len();
        return Err(Complaint::new(Span::new(end, end), "there is no FROM")
            .hint("write `FROM IMAGE`, or `FROM scratch` to begin with nothing"));
    }
    Ok(Dockerfile { source: source.clone(), directives, globals, stages, empty_continuations })
}

/// ONBUILD, FROM and MAINTAINER may be no trigger.
fn may_be_trigger(logical: &Logical, keyword: &Range<usize>) -> Result<(), Complaint> {
    let name = logical.text[keyword.clone()].to_ascii_uppercase();
    match name.as_str() {
        "ONBUILD" | "FROM" | "MAINTAINER" => {
            Err(Complaint::new(logical.span(keyword.clone()), format!("{name} may be no trigger of ONBUILD")))
        }
        _ => Ok(()),
    }
}

struct Parser {
    escape: char,
}

impl Parser {
    /// The keyword, and all that is after it.
    fn keyword(&self, logical: &Logical, range: Range<usize>) -> (Range<usize>, Range<usize>) {
        let text = &logical.text[range.clone()];
        let length = text.find(['\t', '\u{b}', '\u{c}', '\r', ' ']).unwrap_or(text.len());
        let keyword = range.start..range.start + length;
        (keyword.clone(), logical.trimmed(keyword.end..range.end))
    }

    fn from(&self, logical: &Logical) -> Result<Stage, Complaint> {
        let whole = logical.trimmed(0..logical.text.len());
        let (keyword, rest) = self.keyword(logical, whole.clone());
        let (flags, rest) = flags::take(logical, rest, self.escape);
        let arguments = Arguments::new(logical, keyword.clone(), rest, self.escape, Vec::new());
        Ok(Stage {
            from: arguments.from(flags)?,
            span: logical.span(whole.clone()),
            keyword: logical.word(keyword),
            text: logical.text[whole].to_owned(),
            instructions: Vec::new(),
        })
    }

    /// Reads what a logical line says, with its here-documents.
    fn instruction(&self, reader: &mut Reader, logical: &Logical) -> Result<Instruction, Complaint> {
        let whole = logical.trimmed(0..logical.text.len());
        let (keyword, rest) = self.keyword(logical, whole.clone());
        let name = logical.text[keyword.clone()].to_ascii_uppercase();
        if name != "ONBUILD" {
            let documents = self.documents(reader, logical, whole.clone())?;
            return self.plain(logical, whole, documents);
        }
        let (flags, rest) = flags::take(logical, rest, self.escape);
        flags::Values::read(flags, "ONBUILD", &[])?;
        if rest.is_empty() {
            return Err(Complaint::new(logical.span(keyword), "ONBUILD needs an instruction"));
        }
        may_be_trigger(logical, &self.keyword(logical, rest.clone()).0)?;
        let documents = self.documents(reader, logical, rest.clone())?;
        let mut trigger = logical.text[rest.clone()].to_owned();
        for document in &documents {
            trigger.push('\n');
            trigger.push_str(&document.content);
            trigger.push_str(&document.name);
        }
        let instruction = Box::new(self.plain(logical, rest, documents)?);
        let span = logical.span(whole.clone()).to(instruction.span);
        Ok(Instruction {
            span,
            keyword: logical.word(keyword),
            text: logical.text[whole].to_owned(),
            body: Body::OnBuild(OnBuild { trigger, instruction }),
            foreign: None,
        })
    }

    /// The here-documents that follow, where the instruction can have some.
    fn documents(
        &self,
        reader: &mut Reader,
        logical: &Logical,
        range: Range<usize>,
    ) -> Result<Vec<super::ast::HereDocument>, Complaint> {
        let (keyword, rest) = self.keyword(logical, range.clone());
        let name = &logical.text[keyword];
        if !["RUN", "COPY", "ADD"].iter().any(|other| name.eq_ignore_ascii_case(other)) {
            return Ok(Vec::new());
        }
        let (_, rest) = flags::take(logical, rest, self.escape);
        if words::json(&logical.text[rest]) != Json::No {
            return Ok(Vec::new());
        }
        let span = logical.span(range.clone());
        let announced = heredoc::announced(&logical.text[range]);
        if announced.len() > limits::DOCUMENTS {
            let what = format!("more than {} here-documents", limits::DOCUMENTS);
            return Err(Complaint::new(span, what));
        }
        announced.into_iter().map(|each| heredoc::collect(reader, each, span)).collect()
    }

    /// An instruction other than FROM and ONBUILD.
    fn plain(
        &self,
        logical: &Logical,
        range: Range<usize>,
        documents: Vec<super::ast::HereDocument>,
    ) -> Result<Instruction, Complaint> {
        let (keyword, rest) = self.keyword(logical, range.clone());
        let name = logical.text[keyword.clone()].to_ascii_uppercase();
        let Some(name) = INSTRUCTIONS.into_iter().find(|&known| known == name) else {
            return Err(unknown(logical, keyword));
        };
        let (flags, rest) = flags::take(logical, rest, self.escape);
        let end = documents.last().map(|document| document.span);
        let arguments = Arguments::new(logical, keyword.clone(), rest, self.escape, documents);
        let body = arguments.body(name, flags)?;
        let span = logical.span(range.clone());
        Ok(Instruction {
            span: end.map_or(span, |end| span.to(end)),
            keyword: logical.word(keyword),
            text: logical.text[range].to_owned(),
            body,
            foreign: None,
        })
    }
}

fn unknown(logical: &Logical, keyword: Range<usize>) -> Complaint {
    let typed: String = logical.text[keyword.clone()].chars().take(40).collect();
    let begins = keyword.start..keyword.start + typed.len();
    Complaint::new(logical.span(begins), format!("there is no instruction `{typed}`"))
        .hint("what belongs to the instruction before needs a `\\` at the end of the line before")
        .meant(near::nearest(&typed, INSTRUCTIONS))
}

/// Which stages there are has to be known before any variable of a stage is.
pub(super) fn no_variable(span: Span, what: &str) -> Complaint {
    Complaint::new(span, format!("`{what}` knows no variables"))
        .hint("give it a stage of its own: `ARG IMAGE` before the first FROM, and `FROM $IMAGE AS name`")
}

#[cfg(test)]
mod tests;
