//! Which stages are built, on what, and which wait for which.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::ast::{Body, Dockerfile, Instruction};
use super::complaint::Complaint;
use super::expand::{Syntax, expand};
use super::mount;
use super::near;
use super::settings::{Globals, Settings, context_name};
use super::step::From;
use crate::error::{Error, Result};

/// The stages that the target needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In an order in which each comes after what it needs; the last is the target.
    pub stages: Vec<PlannedStage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStage {
    /// The index into [`Dockerfile::stages`].
    pub index: usize,
    /// In lower case.
    pub name: Option<String>,
    pub base: Base,
    /// `--platform` of its FROM, expanded; empty is none.
    pub platform: Option<String>,
    /// Indices of the stages whose files it reads: its base, COPY --from, RUN --mount=from. Sorted, each once.
    pub needs: Vec<usize>,
}

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    Scratch,
    /// An earlier stage, by index.
    Stage(usize),
    /// A context of `--build-context` with that name. One with the stage's own name takes the place of the whole
    /// stage: none of its instructions are carried out.
    Context {
        name: String,
        whole_stage: bool,
    },
    /// An image's reference as written.
    Image(String),
}

/// The names of stages, and of contexts, which come first.
#[derive(Debug, Clone, Default)]
pub struct Names {
    stages: BTreeMap<String, usize>,
    contexts: BTreeSet<String>,
    count: usize,
}

impl Names {
    /// The last of several stages with one name has it.
    pub fn of(dockerfile: &Dockerfile, settings: &Settings) -> Self {
        Self {
            stages: stage_names(dockerfile).filter_map(|(index, name)| Some((name?, index))).collect(),
            contexts: settings.contexts.clone(),
            count: dockerfile.stages.len(),
        }
    }

    /// What `--from=NAME` of COPY and `from=NAME` of a mount mean.
    pub fn resolve(&self, name: &str) -> From {
        if let Some(number) = self.number(name) {
            return From::Stage(number);
        }
        match self.stages.get(&name.to_ascii_lowercase()) {
            // A context with the name of a stage is the stage, which then is that context.
            Some(&index) => From::Stage(index),
            None if self.contexts.contains(&context_name(name)) => From::Named(context_name(name)),
            None if name == "scratch" => From::Scratch,
            None => From::Named(name.to_owned()),
        }
    }

    fn number(&self, name: &str) -> Option<usize> {
        name.bytes().all(|b| b.is_ascii_digit()).then(|| name.parse().ok()).flatten()
    }

    /// Which stage `--target` names.
    fn target(&self, target: &str) -> Result<usize> {
        let number = self.number(target).filter(|&number| number < self.count);
        if let Some(index) = self.stages.get(&target.to_ascii_lowercase()).copied().or(number) {
            return Ok(index);
        }
        let error = Error::new(format!("cannot build the stage `{}`", target.escape_debug()))
            .because("there is none");
        let names: Vec<&str> = self.stages.keys().map(String::as_str).take(20).collect();
        Err(match near::nearest(target, self.stages.keys().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if names.is_empty() => {
                error.hint(format!("no stage has a name; they are numbered from 0 to {}", self.count - 1))
            }
            None => error.hint(format!("there are: {}", names.join(", "))),
        })
    }
}

fn stage_names(dockerfile: &Dockerfile) -> impl Iterator<Item = (usize, Option<String>)> {
    let name =
        |stage: &super::ast::Stage| stage.from.name.as_ref().map(|name| name.name.text.to_ascii_lowercase());
    dockerfile.stages.iter().map(name).enumerate()
}

/// Makes the plan for the target, by default the last stage.
///
/// # Errors
/// There is no such target, a FROM is not understood, a stage number is none, or stages wait for one another.
pub fn plan(dockerfile: &Dockerfile, settings: &Settings) -> Result<Plan> {
    let complain = |complaint: Complaint| complaint.in_source(&dockerfile.source);
    let globals = Globals::read(dockerfile, settings).map_err(complain)?;
    let names = Names::of(dockerfile, settings);
    let target = match settings.target.as_deref().filter(|target| !target.is_empty()) {
        Some(target) => names.target(target)?,
        None => dockerfile.stages.len() - 1,
    };
    let mut stages: Vec<Option<PlannedStage>> = Vec::with_capacity(dockerfile.stages.len());
    stages.resize_with(dockerfile.stages.len(), || None);
    let mut earlier = Earlier::new(dockerfile);
    // Only what is needed is looked at: a stage that is not built may be as wrong as it likes.
    let mut wanted = if settings.all_stages { (0..=target).collect() } else { vec![target] };
    while let Some(index) = wanted.pop() {
        if stages[index].is_some() {
            continue;
        }
        let stage = read(dockerfile, settings, &globals, &names, &mut earlier, index)?;
        wanted.extend(&stage.needs);
        stages[index] = Some(stage);
    }
    let stages: BTreeMap<usize, PlannedStage> =
        stages.into_iter().flatten().map(|stage| (stage.index, stage)).collect();
    order(dockerfile, stages).map_err(complain)
}

/// Which stage a name meant at a FROM: the last one before it with that name.
struct Earlier(BTreeMap<String, Vec<usize>>);

impl Earlier {
    fn new(dockerfile: &Dockerfile) -> Self {
        let mut names: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, name) in stage_names(dockerfile) {
            if let Some(name) = name {
                names.entry(name).or_default().push(index);
            }
        }
        Self(names)
    }

    fn find(&self, name: &str, before: usize) -> Option<usize> {
        let indices = self.0.get(&name.to_ascii_lowercase())?;
        indices[..indices.partition_point(|&index| index < before)].last().copied()
    }
}

fn read(
    dockerfile: &Dockerfile,
    settings: &Settings,
    globals: &Globals,
    names: &Names,
    earlier: &mut Earlier,
    index: usize,
) -> Result<PlannedStage> {
    let stage = &dockerfile.stages[index];
    let syntax = Syntax::word(dockerfile.directives.escape);
    let expanded = |word: &super::ast::Word| {
        let expanded = expand(&word.text, syntax, |name| globals.get(name));
        expanded
            .map(|expanded| expanded.text)
            .map_err(|why| Complaint::new(word.span, why).in_source(&dockerfile.source))
    };
    let name = stage.from.name.as_ref().map(|name| name.name.text.to_ascii_lowercase());
    let platform = stage.from.platform.as_ref().map(expanded).transpose()?;
    let image = expanded(&stage.from.image)?;
    if image.is_empty() {
        let empty = Complaint::new(stage.from.image.span, "the name of the base image is empty")
            .hint("give the ARG a default before the first FROM, or `--build-arg NAME=VALUE`");
        return Err(empty.in_source(&dockerfile.source));
    }
    let own = name.as_ref().filter(|name| settings.contexts.contains(*name));
    let base = match own {
        Some(name) => Base::Context { name: name.clone(), whole_stage: true },
        None => match earlier.find(&image, index) {
            Some(stage) => Base::Stage(stage),
            None if settings.contexts.contains(&context_name(&image)) => {
                Base::Context { name: context_name(&image), whole_stage: false }
            }
            None if image == "scratch" => Base::Scratch,
            None => Base::Image(image),
        },
    };
    let mut needs = BTreeSet::new();
    if let Base::Stage(base) = base {
        needs.insert(base);
    }
    if own.is_none() {
        for instruction in &stage.instructions {
            let source = instruction.foreign.as_ref().unwrap_or(&dockerfile.source);
            read_from(instruction, names, &mut needs).map_err(|complaint| complaint.in_source(source))?;
        }
    }
    Ok(PlannedStage {
        index,
        name,
        base,
        platform: platform.filter(|platform| !platform.is_empty()),
        needs: needs.into_iter().collect(),
    })
}

/// The stages whose files an instruction reads.
fn read_from(instruction: &Instruction, names: &Names, needs: &mut BTreeSet<usize>) -> Result<(), Complaint> {
    let mut need = |name: &str, span| match names.resolve(name) {
        From::Stage(index) if index < names.count => {
            needs.insert(index);
            Ok(())
        }
        From::Stage(_) => {
            let what = format!("there is no stage {name}");
            Err(Complaint::new(span, what).hint(format!("stages are numbered from 0 to {}", names.count - 1)))
        }
        _ => Ok(()),
    };
    match &instruction.body {
        Body::Copy(copy) => copy.from.iter().try_for_each(|word| need(&word.text, word.span)),
        Body::Run(run) => run.mounts.iter().try_for_each(|word| match mount::from(word)? {
            Some(name) => need(&name, word.span),
            None => Ok(()),
        }),
        _ => Ok(()),
    }
}

/// Puts each stage after what it needs, the lowest index first.
fn order(dockerfile: &Dockerfile, stages: BTreeMap<usize, PlannedStage>) -> Result<Plan, Complaint> {
    let mut waiting: BTreeMap<usize, usize> =
        stages.iter().map(|(&index, stage)| (index, stage.needs.len())).collect();
    let mut awaited: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (&index, stage) in &stages {
        for &needed in &stage.needs {
            awaited.entry(needed).or_default().push(index);
        }
    }
    let free = waiting.iter().filter(|(_, count)| **count == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = free.map(|(&index, _)| Reverse(index)).collect();
    let mut stages = stages;
    let mut ordered = Vec::with_capacity(stages.len());
    while let Some(Reverse(index)) = ready.pop() {
        ordered.extend(stages.remove(&index));
        for waiter in awaited.remove(&index).unwrap_or_default() {
            let Some(count) = waiting.get_mut(&waiter) else { continue };
            *count -= 1;
            if *count == 0 {
                ready.push(Reverse(waiter));
            }
        }
    }
    let Some((&first, _)) = stages.first_key_value() else { return Ok(Plan { stages: ordered }) };
    // Whoever is left waits for one that is left: going on from any leads into a circle.
    let next = |index: usize| stages[&index].needs.iter().copied().find(|need| stages.contains_key(need));
    let mut path = vec![first];
    let circle = loop {
        let Some(index) = path.last().and_then(|&last| next(last)) else { break path };
        if let Some(begin) = path.iter().position(|&seen| seen == index) {
            break path.split_off(begin);
        }
        path.push(index);
    };
    let name = |index: usize| match &stages[&index].name {
        Some(name) => format!("`{name}`"),
        None => format!("number {index}"),
    };
    let shown: Vec<String> = circle.iter().chain(circle.first()).take(8).map(|&index| name(index)).collect();
    let span = dockerfile.stages[circle[0]].span;
    let what = match circle.len() {
        1 => format!("the stage {} takes files from itself", name(circle[0])),
        _ => format!("stages wait for one another: {}", shown.join(" for ")),
    };
    Err(Complaint::new(span, what))
}

/// The triggers of a base image; `image` is what messages call it.
///
/// # Errors
/// One of them is not understood.
pub fn read_triggers(image: &str, triggers: &[String]) -> Result<Vec<Instruction>> {
    triggers.iter().map(|trigger| super::parse::trigger(image, trigger)).collect()
}

/// The triggers that a stage leaves to those that are based on it.
pub fn triggers_of(dockerfile: &Dockerfile, stage: usize) -> Vec<Instruction> {
    let trigger = |instruction: &Instruction| match &instruction.body {
        Body::OnBuild(trigger) => Some((*trigger.instruction).clone()),
        _ => None,
    };
    let stage = dockerfile.stages.get(stage);
    stage.into_iter().flat_map(|stage| &stage.instructions).filter_map(trigger).collect()
}

/// Puts the triggers of a stage's base before the stage's own instructions. The plan is then to be made again, since a
/// trigger may need other stages.
pub fn insert_triggers(dockerfile: &mut Dockerfile, stage: usize, mut triggers: Vec<Instruction>) {
    if let Some(stage) = dockerfile.stages.get_mut(stage) {
        triggers.append(&mut stage.instructions);
        stage.instructions = triggers;
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn settings(target: Option<&str>, arguments: &[(&str, &str)], contexts: &[&str]) -> Settings {
        Settings {
            target: target.map(str::to_owned),
            arguments: arguments.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            contexts: contexts.iter().map(|&name| name.to_owned()).collect(),
            ..Settings::default()
        }
    }

    fn planned(text: &str, settings: &Settings) -> Result<Plan> {
        plan(&parse("Dockerfile", text.to_owned()).unwrap(), settings)
    }

    /// The indices in order.
    fn order_of(text: &str, target: Option<&str>) -> Vec<usize> {
        let plan = planned(text, &settings(target, &[], &[])).unwrap_or_else(|error| panic!("{error}"));
        plan.stages.iter().map(|stage| stage.index).collect()
    }

    #[test]
    fn only_what_the_target_needs_is_built() {
        let text = "FROM a AS one\nFROM b AS two\nCOPY --from=one x y\nFROM c AS three\nFROM two\n\
                    RUN --mount=from=three,target=/x y\nFROM d AS Last\n";
        for (target, indices) in [
            (None, &[4][..]),
            (Some("last"), &[4]),
            (Some("LAST"), &[4]),
            (Some("3"), &[0, 1, 2, 3]),
            (Some("two"), &[0, 1]),
            (Some("Three"), &[2]),
            (Some("0"), &[0]),
            (Some(""), &[4]),
        ] {
            assert_eq!(order_of(text, target), indices, "{target:?}");
        }
        let error = |target| planned(text, &settings(Some(target), &[], &[])).unwrap_err();
        assert!(error("5").hints()[0].contains("there are: last, one, three, two"));
        assert!(error("tow").hints()[0].contains("`two`"));
    }

    #[test]
    fn bases_are_earlier_stages_contexts_or_images() {
        let base = |text: &str, contexts: &[&str]| {
            let plan = planned(text, &settings(None, &[], contexts)).unwrap();
            plan.stages.last().unwrap().base.clone()
        };
        let image = |name: &str| Base::Image(name.to_owned());
        assert_eq!(base("FROM scratch", &[]), Base::Scratch);
        assert_eq!(base("FROM a:1", &[]), image("a:1"));
        assert_eq!(base("FROM x AS a\nFROM A", &[]), Base::Stage(0));
        // A name of a later stage, and the stage's own, is an image's.
        assert_eq!(base("FROM a AS a", &[]), image("a"));
        assert_eq!(base("FROM a AS a\nFROM a AS a\nFROM a", &[]), Base::Stage(1));
        // A number is no stage for FROM.
        assert_eq!(base("FROM a\nFROM 0", &[]), image("0"));
        let context = |name: &str, whole_stage| Base::Context { name: name.to_owned(), whole_stage };
        assert_eq!(base("FROM a:1", &["a:1"]), context("a:1", false));
        for text in ["FROM a", "FROM a:latest", "FROM docker.io/library/a", "FROM docker.io/a:latest"] {
            assert_eq!(base(text, &["a"]), context("a", false), "{text}");
        }
        assert_eq!(base("FROM quay.io/a", &["a"]), image("quay.io/a"));
        assert_eq!(base("FROM x AS a\nRUN y", &["a"]), context("a", true));
        assert_eq!(base("FROM scratch", &["scratch"]), context("scratch", false));
    }

    #[test]
    fn a_from_knows_the_global_arguments() {
        let text = "ARG V=1\nARG IMAGE=base:$V\nFROM --platform=$BUILDPLATFORM ${IMAGE}\n";
        let last = |arguments: &[(&str, &str)]| {
            planned(text, &settings(None, arguments, &[])).unwrap().stages.pop().unwrap()
        };
        assert_eq!(last(&[]).base, Base::Image("base:1".to_owned()));
        assert_eq!(last(&[("V", "2")]).base, Base::Image("base:2".to_owned()));
        assert_eq!(last(&[("IMAGE", "other")]).base, Base::Image("other".to_owned()));
        assert_eq!(last(&[]).platform, Some(crate::image::platform::Wanted::host().to_string()));
        let error = planned("ARG X\nFROM $X", &settings(None, &[], &[])).unwrap_err();
        assert!(
            error.message().starts_with("Dockerfile:2:6: the name of the base image is empty"),
            "{error}"
        );
        // What is not declared before the first FROM is not known there.
        assert!(planned("FROM $X", &settings(None, &[("X", "a")], &[])).is_err());
    }

    #[test]
    fn files_may_come_from_a_later_stage_but_not_in_a_circle() {
        assert_eq!(order_of("FROM a AS x\nCOPY --from=y p q\nFROM b AS y\n", Some("x")), [1, 0]);
        assert_eq!(order_of("FROM a AS x\nCOPY --from=1 p q\nFROM b AS y\n", Some("x")), [1, 0]);
        for (text, part) in [
            ("FROM a AS x\nCOPY --from=x p q", "takes files from itself"),
            ("FROM a\nCOPY --from=0 p q", "takes files from itself"),
            ("FROM a AS x\nRUN --mount=target=/m,from=y z\nFROM x AS y", "`x` for `y` for `x`"),
            (
                "FROM a AS x\nCOPY --from=y p q\nFROM b AS y\nCOPY --from=x p q\nFROM y",
                "wait for one another",
            ),
            ("FROM a\nCOPY --from=7 p q", "no stage 7"),
        ] {
            let error = planned(text, &settings(None, &[], &[])).expect_err(text);
            assert!(error.message().contains(part), "{text}: {error}");
        }
        // Nobody asks for the circle.
        assert_eq!(order_of("FROM a AS x\nCOPY --from=x p q\nFROM b", None), [1]);
        // What is no stage is an image or a context, and nothing to wait for.
        assert_eq!(order_of("FROM a\nCOPY --from=nginx:1 p q", None), [0]);
    }

    #[test]
    fn a_context_in_place_of_a_stage_needs_nothing() {
        let text = "FROM a AS x\nFROM b AS y\nCOPY --from=x p q\nFROM y\n";
        let plan = planned(text, &settings(None, &[], &["y"])).unwrap();
        let indices: Vec<usize> = plan.stages.iter().map(|stage| stage.index).collect();
        assert_eq!(indices, [1, 2]);
    }

    #[test]
    fn triggers_come_first_and_may_need_a_stage() {
        let mut file = parse("Dockerfile", "FROM a AS x\nFROM b\nRUN z\n".to_owned()).unwrap();
        let triggers = ["RUN y".to_owned(), "COPY --from=x p q".to_owned()];
        insert_triggers(&mut file, 1, read_triggers("b", &triggers).unwrap());
        let names: Vec<&str> =
            file.stages[1].instructions.iter().map(|instruction| instruction.text.as_str()).collect();
        assert_eq!(names, ["RUN y", "COPY --from=x p q", "RUN z"]);
        let plan = plan(&file, &Settings::default()).unwrap();
        assert_eq!(plan.stages.last().unwrap().needs, [0]);
        let wrong = read_triggers("b", &["RUNX".to_owned()]).unwrap_err();
        assert!(wrong.message().starts_with("ONBUILD of b:1:1: "), "{wrong}");
    }

    #[test]
    fn a_thousand_stages_are_ordered() {
        let mut text = "FROM a AS s0\n".to_owned();
        for index in 1..1000 {
            text.push_str(&format!("FROM s{} AS s{index}\n", index - 1));
        }
        assert_eq!(order_of(&text, None).len(), 1000);
    }
}
