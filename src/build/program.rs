//! Every stage that is to be built, with all variables known: what is left is to carry it out.

use std::collections::BTreeMap;

use crate::build::dockerfile::ast::{Dockerfile, Instruction};
use crate::build::dockerfile::complaint::excerpt;
use crate::build::dockerfile::plan::{Base, Plan};
use crate::build::dockerfile::scope::{Frame, Scope};
use crate::build::dockerfile::settings::Settings;
use crate::build::dockerfile::source::{Source, Span};
use crate::build::dockerfile::step::Step;
use crate::error::{Error, Result};
use crate::image::documents::ImageConfig;
use crate::registry::download;

/// A stage of the plan.
#[derive(Debug)]
pub struct Stage {
    /// The index into the Dockerfile.
    pub index: usize,
    pub name: Option<String>,
    pub base: Base,
    /// Indices of the stages that have to be there first.
    pub needs: Vec<usize>,
    /// The FROM as progress shows it.
    pub text: String,
    pub steps: Vec<Prepared>,
}

/// One instruction.
#[derive(Debug)]
pub struct Prepared {
    pub step: Step,
    /// In one line, as it was written, but for passwords in addresses: it stays in the image's history.
    pub text: String,
    /// `NAME=VALUE` that a command gets.
    pub environment: Vec<String>,
    /// The same without what leaves no trace (proxies): what a cache goes by.
    pub traced: Vec<String>,
    /// Where it stands.
    pub place: Place,
}

/// Where an instruction stands, for messages.
#[derive(Debug, Clone)]
pub struct Place {
    /// `FILE:LINE:COLUMN`.
    pub line: String,
    pub excerpt: String,
}

impl Place {
    fn of(dockerfile: &Dockerfile, instruction: &Instruction) -> Self {
        Self::at(instruction.foreign.as_ref().unwrap_or(&dockerfile.source), instruction.span)
    }

    pub fn at(source: &Source, span: Span) -> Self {
        let place = source.place(span.start);
        let line = format!("{}:{}:{}", source.name(), place.line, place.column);
        Self { line, excerpt: excerpt(source, span) }
    }

    /// The error with the place where it happened, and the line shown.
    pub fn explain(&self, error: &Error) -> Error {
        let message = format!("{}: {}\n{}", self.line, error.message(), self.excerpt);
        let placed = Error::new(message).exit_code(error.code());
        let placed = error.causes().iter().fold(placed, Error::because);
        error.hints().iter().fold(placed, |placed, hint| placed.hint(hint.clone()))
    }
}

/// Reads all instructions of the plan's stages. `base` gives the configuration of a base image.
///
/// # Errors
/// An instruction is not understood.
pub fn prepare(
    dockerfile: &Dockerfile,
    settings: &Settings,
    plan: &Plan,
    base: &dyn Fn(usize) -> Option<ImageConfig>,
) -> Result<Vec<Stage>> {
    let frame = Frame::new(dockerfile, settings)?;
    let mut scopes: BTreeMap<usize, Scope<'_>> = BTreeMap::new();
    let mut stages = Vec::new();
    for planned in &plan.stages {
        let mut scope = match &planned.base {
            Base::Stage(index) => match scopes.get(index) {
                Some(scope) => scope.child(),
                None => Scope::on_image(&frame, []),
            },
            _ => {
                let environment = base(planned.index).map(|config| config.config.env).unwrap_or_default();
                Scope::on_image(&frame, environment.iter().map(String::as_str))
            }
        };
        let written = &dockerfile.stages[planned.index];
        let mut steps = Vec::new();
        // A context with the name of the stage takes its place.
        let instructions = match planned.base {
            Base::Context { whole_stage: true, .. } => &[],
            _ => &written.instructions[..],
        };
        for instruction in instructions {
            let step = scope.step(instruction)?;
            let pair = |(name, value): (&str, &str)| format!("{name}={value}");
            let (environment, traced) = match &step {
                Step::Run(_) => {
                    let own = scope.environment().iter().map(|(name, value)| (name.as_str(), value.as_str()));
                    let traced = scope.arguments().chain(own).map(pair).collect();
                    (scope.run_environment().into_iter().map(pair).collect(), traced)
                }
                _ => (Vec::new(), Vec::new()),
            };
            for missing in scope.take_missing() {
                log::debug!("the variable `{}` is not set", missing.name);
            }
            let place = Place::of(dockerfile, instruction);
            let text = text_of(instruction, &step);
            steps.push(Prepared { step, text, environment, traced, place });
        }
        scopes.insert(planned.index, scope);
        stages.push(Stage {
            index: planned.index,
            name: planned.name.clone(),
            base: planned.base.clone(),
            needs: planned.needs.clone(),
            text: written.text.clone(),
            steps,
        });
    }
    Ok(stages)
}

fn text_of(instruction: &Instruction, step: &Step) -> String {
    let word = |word: &str| match word.starts_with("http://") || word.starts_with("https://") {
        true => download::shown(word),
        false => word.to_owned(),
    };
    match step {
        Step::Add(_) => instruction.text.split(' ').map(word).collect::<Vec<_>>().join(" "),
        _ => instruction.text.clone(),
    }
}
