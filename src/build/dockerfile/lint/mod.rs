//! What is allowed in a Dockerfile and most often a mistake: every build warns of it, and `sbx build --check` shows it. The
//! rules are BuildKit's, under their names (docker's "Build checks").

mod options;
mod rules;

use std::collections::BTreeMap;

use super::ast::{Body, Command, Dockerfile, Instruction, Origin, Stage};
use super::complaint::Complaint;
use super::expand::{Syntax, expand};
use super::ignore::Ignore;
use super::near;
use super::plan::{Base, Plan, PlannedStage, plan};
use super::scope::{Frame, Scope};
use super::settings::{Globals, Settings};
use super::source::{Source, Span};
use super::step::{AddSource, From, Step};
use crate::error::Result;
use crate::image::reference::Reference;

pub use options::Options;
pub use rules::Rule;

/// Something that is most often a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub rule: Rule,
    /// Without a full stop.
    pub message: String,
    pub span: Span,
}

impl Warning {
    /// `FILE:LINE:COLUMN: RULE: MESSAGE`
    pub fn line(&self, source: &Source) -> String {
        let place = source.place(self.span.start);
        let Self { rule, message, .. } = self;
        format!("{}:{}:{}: {}: {message}", source.name(), place.line, place.column, rule.name())
    }
}

/// What is known besides the Dockerfile.
pub struct Surroundings<'s> {
    /// The variables of an image's configuration, `NAME=VALUE`; none: not known, then nothing is said of variables.
    pub environment: &'s dyn Fn(&str) -> Option<Vec<String>>,
    pub ignore: Option<&'s Ignore>,
}

/// All warnings that the Dockerfile's own `# check=` (or the build argument `BUILDKIT_DOCKERFILE_CHECK`) does not skip,
/// in the order of the file.
///
/// # Errors
/// The Dockerfile cannot be built, or the options are not understood.
pub fn check(
    dockerfile: &Dockerfile,
    settings: &Settings,
    surroundings: &Surroundings,
) -> Result<Vec<Warning>> {
    let options = Options::of(dockerfile, settings)?;
    let plan = plan(dockerfile, settings)?;
    let mut linter = Linter { warnings: Vec::new() };
    linter.casing(dockerfile);
    linter.empty_continuations(dockerfile);
    linter.stage_names(dockerfile);
    linter.bases(dockerfile, settings).map_err(|complaint| complaint.in_source(&dockerfile.source))?;
    for stage in &dockerfile.stages {
        linter.only_the_last_counts(stage);
        stage.instructions.iter().for_each(|each| linter.one(each));
    }
    linter.stages(dockerfile, settings, surroundings, &plan)?;
    let mut warnings = linter.warnings;
    warnings.retain(|warning| !options.skips(warning.rule));
    warnings.sort_by_key(|warning| (warning.span.start, warning.rule));
    warnings.dedup();
    Ok(warnings)
}

struct Linter {
    warnings: Vec<Warning>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Casing {
    Lower,
    Upper,
    Mixed,
}

fn casing(word: &str) -> Casing {
    match (word.chars().any(char::is_lowercase), word.chars().any(char::is_uppercase)) {
        (true, true) => Casing::Mixed,
        (true, false) => Casing::Lower,
        _ => Casing::Upper,
    }
}

/// Names that mean something else in `--from`.
const RESERVED: [&str; 2] = ["scratch", "context"];

impl Linter {
    fn warn(&mut self, rule: Rule, span: Span, message: impl Into<String>) {
        self.warnings.push(Warning { rule, message: message.into(), span });
    }

    fn casing(&mut self, dockerfile: &Dockerfile) {
        let own = |instruction: &&Instruction| instruction.foreign.is_none();
        let stages = dockerfile.stages.iter().flat_map(|stage| {
            std::iter::once(&stage.keyword)
                .chain(stage.instructions.iter().filter(own).map(|each| &each.keyword))
        });
        let words: Vec<_> = dockerfile.globals.iter().map(|each| &each.keyword).chain(stages).collect();
        let count = |wanted| words.iter().filter(|word| casing(&word.text) == wanted).count();
        let (most, name) = match count(Casing::Lower) > count(Casing::Upper) {
            true => (Casing::Lower, "lowercase"),
            false => (Casing::Upper, "uppercase"),
        };
        for word in words.iter().filter(|word| casing(&word.text) != most) {
            let message =
                format!("Command '{}' should match the case of the command majority ({name})", word.text);
            self.warn(Rule::ConsistentInstructionCasing, word.span, message);
        }
        for stage in &dockerfile.stages {
            let Some(name) = &stage.from.name else { continue };
            let (from, keyword) = (&stage.keyword.text, &name.keyword);
            if casing(from) != Casing::Mixed && casing(&keyword.text) != casing(from) {
                let message = format!("'{}' and '{from}' keywords' casing do not match", keyword.text);
                self.warn(Rule::FromAsCasing, keyword.span, message);
            }
        }
    }

    /// Lines in a row are one mistake.
    fn empty_continuations(&mut self, dockerfile: &Dockerfile) {
        let mut end = None;
        for span in &dockerfile.empty_continuations {
            if end != Some(span.start) {
                self.warn(Rule::NoEmptyContinuation, *span, "Empty continuation line");
            }
            end = Some(span.end);
        }
    }

    fn stage_names(&mut self, dockerfile: &Dockerfile) {
        let mut seen = BTreeMap::new();
        for name in dockerfile.stages.iter().filter_map(|stage| stage.from.name.as_ref()) {
            let (text, span) = (&name.name.text, name.name.span);
            let lower = text.to_ascii_lowercase();
            if *text != lower {
                self.warn(Rule::StageNameCasing, span, format!("Stage name '{text}' should be lowercase"));
            }
            if RESERVED.contains(&lower.as_str()) {
                let message = format!("'{lower}' is reserved and should not be used as a stage name");
                self.warn(Rule::ReservedStageName, span, message);
            }
            if seen.insert(lower, ()).is_some() {
                let message = format!("Duplicate stage name '{text}', stage names should be unique");
                self.warn(Rule::DuplicateStageName, span, message);
            }
        }
    }

    /// What can be said of each FROM.
    fn bases(&mut self, dockerfile: &Dockerfile, settings: &Settings) -> Result<(), Complaint> {
        let globals = Globals::read(dockerfile, settings)?;
        // Where the defaults alone make nothing (`ARG A=${B:?}`), nothing can be said of them.
        let defaults = Globals::of_defaults(dockerfile, settings).ok();
        let syntax = Syntax::word(dockerfile.directives.escape);
        // `FROM build-$TARGETARCH` picks one of several stages, each of which is for one platform.
        let picked = dockerfile.stages.iter().any(|stage| stage.from.image.text.contains('$'));
        for stage in &dockerfile.stages {
            let from = &stage.from;
            for word in from.platform.iter().chain([&from.image]) {
                let Ok(expanded) = expand(&word.text, syntax, |name| globals.get(name)) else { continue };
                let undeclared = |name: &&String| !globals.declared.contains(*name);
                for name in expanded.missing.iter().filter(undeclared) {
                    let near = near::nearest(name, globals.names());
                    let hint = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
                    let message = format!("FROM argument '{name}' is not declared{hint}");
                    self.warn(Rule::UndefinedArgInFrom, word.span, message);
                }
            }
            if let Some(defaults) = defaults.as_ref().filter(|_| from.image.text.contains('$')) {
                let image = expand(&from.image.text, syntax, |name| defaults.get(name));
                let image = image.map(|expanded| expanded.text).unwrap_or_default();
                let is_stage = || {
                    let names = dockerfile.stages.iter().filter_map(|stage| stage.from.name.as_ref());
                    names.map(|name| &name.name.text).any(|name| name.eq_ignore_ascii_case(&image))
                };
                if !is_stage() && image != "scratch" && Reference::parse(&image).is_err() {
                    let message = format!(
                        "Default value for ARG {} results in empty or invalid base image name",
                        from.image.text
                    );
                    self.warn(Rule::InvalidDefaultArgInFrom, from.image.span, message);
                }
            }
            let Some(platform) = &from.platform else { continue };
            if matches!(platform.text.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
                let message = "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the \
                               default behavior";
                self.warn(Rule::RedundantTargetPlatform, platform.span, message);
            }
            let chosen = platform.text.contains('$') || (picked && from.name.is_some());
            if !chosen {
                let message =
                    format!("FROM --platform flag should not use constant value \"{}\"", platform.text);
                self.warn(Rule::FromPlatformFlagConstDisallowed, platform.span, message);
            }
        }
        Ok(())
    }

    fn only_the_last_counts(&mut self, stage: &Stage) {
        for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
            let mut all = stage.instructions.iter().filter(|each| each.body.name() == name);
            all.next_back();
            for each in all.filter(|each| each.foreign.is_none()) {
                let message = format!(
                    "Multiple {name} instructions should not be used in the same stage because only the last one \
                     will be used"
                );
                self.warn(Rule::MultipleInstructionsDisallowed, each.keyword.span, message);
            }
        }
    }

    /// What can be said of an instruction alone.
    fn one(&mut self, instruction: &Instruction) {
        if instruction.foreign.is_some() {
            return;
        }
        let span = instruction.span;
        match &instruction.body {
            Body::Maintainer(_) => {
                let message = "Maintainer instruction is deprecated in favor of using label";
                self.warn(Rule::MaintainerDeprecated, span, message);
            }
            Body::Env(pairs) | Body::Label(pairs) => {
                let name = instruction.body.name();
                if pairs.iter().any(|pair| pair.legacy) {
                    let message = format!(
                        "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
                    );
                    self.warn(Rule::LegacyKeyValueFormat, span, message);
                }
                if matches!(instruction.body, Body::Env(_)) {
                    pairs.iter().for_each(|pair| self.secret("ENV", &pair.name.text, pair.name.span));
                }
            }
            Body::Arg(arguments) => {
                for argument in arguments {
                    self.secret("ARG", &argument.name.text, argument.name.span);
                }
            }
            Body::Expose(words) => {
                for word in words {
                    let (port, protocol) = word.text.split_once('/').unwrap_or((&word.text, ""));
                    if protocol.chars().any(char::is_uppercase) && !protocol.contains('$') {
                        let message = format!(
                            "Defined protocol '{}' in EXPOSE instruction should be lowercase",
                            word.text
                        );
                        self.warn(Rule::ExposeProtoCasing, word.span, message);
                    }
                    if port.contains(':') && !port.contains('$') {
                        let message = format!(
                            "EXPOSE instruction should not define an IP address or host-port mapping, found '{}'",
                            word.text
                        );
                        self.warn(Rule::ExposeInvalidFormat, word.span, message);
                    }
                }
            }
            Body::OnBuild(trigger) => self.one(&trigger.instruction),
            _ => {}
        }
    }

    fn secret(&mut self, instruction: &str, name: &str, span: Span) {
        if rules::is_secret(name) {
            let message =
                format!("Do not use ARG or ENV instructions for sensitive data ({instruction} \"{name}\")");
            self.warn(Rule::SecretsUsedInArgOrEnv, span, message);
        }
    }

    /// What takes all of a stage, and of the stages that it is built on.
    fn stages(
        &mut self,
        dockerfile: &Dockerfile,
        settings: &Settings,
        surroundings: &Surroundings,
        plan: &Plan,
    ) -> Result<()> {
        let frame = Frame::new(dockerfile, settings)?;
        let mut done: BTreeMap<usize, Seen> = BTreeMap::new();
        let child = |stage: &'_ PlannedStage| match stage.base {
            Base::Stage(base) => Some((base, stage.index)),
            _ => None,
        };
        let last_child: BTreeMap<usize, usize> = plan.stages.iter().filter_map(child).collect();
        for planned in &plan.stages {
            let mut seen = match &planned.base {
                Base::Stage(base) => match done.get(base) {
                    Some(base) => Seen { scope: base.scope.child(), ..*base },
                    None => continue,
                },
                Base::Scratch => Seen::begin(Scope::on_image(&frame, []), true),
                Base::Context { .. } => Seen::begin(Scope::on_image(&frame, []), false),
                Base::Image(image) => match (surroundings.environment)(image) {
                    None => Seen::begin(Scope::on_image(&frame, []), false),
                    Some(list) => Seen::begin(Scope::on_image(&frame, list.iter().map(String::as_str)), true),
                },
            };
            let whole_stage = matches!(&planned.base, Base::Context { whole_stage: true, .. });
            let stage = &dockerfile.stages[planned.index];
            for instruction in stage.instructions.iter().filter(|_| !whole_stage) {
                self.step(instruction, &mut seen, surroundings.ignore)?;
            }
            done.insert(planned.index, seen);
            // Only what a later stage is built on is kept.
            if let Base::Stage(base) = planned.base
                && last_child.get(&base) == Some(&planned.index)
            {
                done.remove(&base);
            }
            if !last_child.contains_key(&planned.index) {
                done.remove(&planned.index);
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        instruction: &Instruction,
        seen: &mut Seen<'_>,
        ignore: Option<&Ignore>,
    ) -> Result<()> {
        let span = instruction.span;
        let own = instruction.foreign.is_none();
        match &instruction.body {
            Body::Shell(_) => seen.shell = true,
            Body::Cmd(Command::Shell(line)) | Body::Entrypoint(Command::Shell(line))
                if own && !seen.shell && !line.text.is_empty() =>
            {
                let message = format!(
                    "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                    instruction.body.name()
                );
                self.warn(Rule::JSONArgsRecommended, span, message);
            }
            _ => {}
        }
        let step = seen.scope.step(instruction)?;
        for missing in seen.scope.take_missing() {
            if !seen.environment || !own {
                continue;
            }
            let near = near::nearest(&missing.name, seen.scope.names());
            let hint = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
            let message = format!("Usage of undefined variable '${}'{hint}", missing.name);
            self.warn(Rule::UndefinedVar, missing.span, message);
        }
        if !own {
            return Ok(());
        }
        match step {
            Step::Workdir(path) => {
                if !path.starts_with('/') && !seen.workdir {
                    let message = format!(
                        "Relative workdir \"{path}\" can have unexpected results if the base image changes"
                    );
                    self.warn(Rule::WorkdirRelativePath, span, message);
                }
                seen.workdir = true;
            }
            Step::Copy(copy) if copy.from == From::Context => {
                let paths = copy.sources.iter().map(|path| Some(path.as_str())).collect();
                self.ignored("Copy", instruction, paths, ignore);
            }
            Step::Add(add) => {
                let path = |source: &'_ AddSource| match source {
                    AddSource::Path(path) => Some(path.clone()),
                    _ => None,
                };
                let paths: Vec<Option<String>> = add.sources.iter().map(path).collect();
                self.ignored("Add", instruction, paths.iter().map(Option::as_deref).collect(), ignore);
            }
            _ => {}
        }
        Ok(())
    }

    /// `paths` are the sources that are no here-documents, in order.
    fn ignored(
        &mut self,
        verb: &str,
        instruction: &Instruction,
        paths: Vec<Option<&str>>,
        ignore: Option<&Ignore>,
    ) {
        let (Body::Copy(transfer) | Body::Add(transfer)) = &instruction.body else { return };
        let Some(ignore) = ignore else { return };
        let words = transfer.sources.iter().filter_map(|source| match source {
            Origin::Path(word) => Some(word),
            Origin::File(_) => None,
        });
        for (path, word) in paths.into_iter().zip(words) {
            if let Some(path) = path.filter(|path| ignore.hides(path)) {
                let message =
                    format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore");
                self.warn(Rule::CopyIgnoredFile, word.span, message);
            }
        }
    }
}

/// What is known at one point of a stage.
struct Seen<'f> {
    scope: Scope<'f>,
    /// All variables of the base are known.
    environment: bool,
    workdir: bool,
    shell: bool,
}

impl<'f> Seen<'f> {
    fn begin(scope: Scope<'f>, environment: bool) -> Self {
        Self { scope, environment, workdir: false, shell: false }
    }
}

#[cfg(test)]
mod tests;
