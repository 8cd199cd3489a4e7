//! One case: its file, its bundle, and the judgement over what three runtimes made of it.
//!
//! ```text
//! # What the case states.
//! do: create -> ok
//! do: start c -> ok
//! do: wait c stopped -> stopped
//! do: delete c -> ok
//! says: TEXT
//! runc: output "nothing"
//! specification: SENTENCE
//! -- config.json --
//! {"hostname": "box", "mounts+": [{"destination": "/tmp", "type": "tmpfs"}]}
//! -- script --
//! hostname
//! -- output --
//! box
//! -- rootfs/etc/file mode=600 --
//! content
//! ```
//!
//! `config.json` is a merge patch (RFC 7396) over [`super::runner::Runner::base`]; a name with `+` at its end adds to an array.
//! `raw` is the whole text instead. `script` becomes the command, `sh -c SCRIPT`; without one it is `true`. `stdin` is what
//! `create` and `run` get on standard input. What else there is are files of the bundle ([`told`]). `{bundle}` stands for its
//! directory, `{uid}`, `{gid}`, `{subuid}` and `{subgid}` for the caller's IDs and the first subordinate ones (`{subuid}+1` for the next), `{console}` for
//! a socket at which a terminal is waited for.
//!
//! Each `do:` is a command and what comes of it: the exit code of `run` and `exec`, the status of `state`, `ok` or `fails` of
//! others; `run -> 0` where there is none. `create` and `run` get the bundle, or its directory `dir=DIR`, and the ID `c`, or
//! `id=ID`. `wait ID STATUS` waits until `state` has it; `sh LINE` is a shell's, in the bundle. `output` is what the container
//! says (and its terminal), `log` what is in the bundle's file of this name at the end; `left` are the IDs of containers that
//! are still there then, none.
//!
//! All of that is to hold for the three. `says:` is a text on the standard error of sbx; a case in which sbx refuses something
//! has one, so that it is refused for that reason and no other. Where crun or runc differ, a line names
//! it, the fact, and the value in JSON (`?` for one that is not always the same); and at least one line tells why sbx does not follow: `specification: SENTENCE` of the OCI
//! runtime specification, `kernel: RULE`, `version: WHAT` the Debian package is too old for, or `silent: WHY`, where the
//! specification leaves it open and the two differ.
//!
//! What is otherwise on some hosts stands at the end, in a section `-- where HOST --` ([`Host`]) of such lines. It is instead of
//! all differences and texts above, and of the steps where it has any; `output: JSON` is what the container says there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::host::Host;
use super::runner::Outcome;
use crate::harness::told::{self, Item, item, marker, section};

/// As a value that differs: it is not the same each time.
const ANY: &str = "?";

#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    pub steps: Vec<Step>,
    pub config: Config,
    pub script: Option<String>,
    pub stdin: String,
    pub files: Vec<Item>,
    says: Vec<String>,
    wanted: BTreeMap<String, String>,
    /// By runtime and fact.
    differences: BTreeMap<(String, String), String>,
    reasons: Vec<String>,
}

#[derive(Debug)]
pub struct Step {
    pub words: String,
    /// What its outcome is called.
    pub fact: String,
}

#[derive(Debug)]
pub enum Config {
    Patch(String),
    Raw(String),
}

impl Default for Config {
    fn default() -> Self {
        Self::Patch("{}".to_owned())
    }
}

impl Case {
    pub fn read(path: &Path, host: &Host) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let mut case = Self { name, ..Self::default() };
        for fact in ["output", "log", "left"] {
            case.wanted.insert(fact.to_owned(), String::new());
        }
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next_if(|line| marker(line).is_none()) {
            case.header(line.trim_end_matches('\n'));
        }
        while let Some((words, content)) = section(&mut lines) {
            match words {
                "config.json" => case.config = Config::Patch(content),
                "raw" => case.config = Config::Raw(content),
                "script" => case.script = Some(content),
                "stdin" => case.stdin = content,
                "output" | "log" => drop(case.wanted.insert(words.to_owned(), content)),
                _ => match words.strip_prefix("where ") {
                    Some(property) if host.is(property) => case.elsewhere(&content),
                    Some(_) => {}
                    None => case.files.push(item(words, content)),
                },
            }
        }
        if case.steps.is_empty() {
            case.step("run -> 0");
        }
        assert_eq!(
            case.reasons.is_empty(),
            case.differences.is_empty(),
            "{}: a difference has a reason, and a reason a difference",
            path.display()
        );
        case
    }

    /// What holds on this host instead.
    fn elsewhere(&mut self, content: &str) {
        self.says.clear();
        self.differences.clear();
        self.reasons.clear();
        if content.lines().any(|line| line.starts_with("do: ")) {
            for step in std::mem::take(&mut self.steps) {
                self.wanted.remove(&step.fact);
            }
        }
        content.lines().for_each(|line| self.header(line));
    }

    fn header(&mut self, line: &str) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", self.name));
        match key {
            "do" => self.step(value),
            "output" => {
                let text = serde_json::from_str(value).unwrap_or_else(|_| panic!("{}: {line}", self.name));
                self.wanted.insert(key.to_owned(), text);
            }
            "says" => self.says.push(value.to_owned()),
            "specification" | "kernel" | "version" | "silent" => self.reasons.push(line.to_owned()),
            "crun" | "runc" => {
                let (fact, value) = value.split_once(' ').unwrap_or((value, "\"\""));
                let text = match serde_json::from_str(value) {
                    Ok(Value::String(text)) => text,
                    _ => value.to_owned(),
                };
                self.differences.insert((key.to_owned(), fact.to_owned()), text);
            }
            _ => panic!("{}: {line}", self.name),
        }
    }

    fn step(&mut self, text: &str) {
        let (words, wanted) = text
            .rsplit_once(" -> ")
            .unwrap_or_else(|| panic!("{}: {text}: and what comes of it?", self.name));
        let verb = words.split(' ').next().unwrap_or_default();
        let same = self.steps.iter().filter(|step| step.words.split(' ').next() == Some(verb)).count();
        let fact = if same == 0 { verb.to_owned() } else { format!("{verb}.{}", same + 1) };
        self.wanted.insert(fact.clone(), wanted.to_owned());
        self.steps.push(Step { words: words.to_owned(), fact });
    }

    /// All that decides what a runtime makes of it.
    pub fn recipe(&self) -> String {
        format!("{:?}", (&self.steps, &self.config, &self.script, &self.stdin, &self.files))
    }

    /// Adds the case's files to a bundle.
    pub fn lay_out(&self, bundle: &Path) {
        told::add(&self.files, bundle);
    }

    /// What is wrong, if anything.
    pub fn judge(&self, ours: &Outcome, theirs: &[(&str, Outcome)]) -> Vec<String> {
        let mut wrong = Vec::new();
        for text in &self.says {
            if !ours.said.contains(text.as_str()) {
                wrong.push(format!("sbx does not say {text:?}: {}", ours.said));
            }
        }
        if self.says.is_empty() && ours.said.lines().any(|line| line.starts_with("Error: ")) {
            wrong.push(format!(
                "sbx refuses, and the case does not say (`says:`) in what words: {}",
                ours.said
            ));
        }
        for (fact, wanted) in &self.wanted {
            let made = &ours.facts[fact];
            if made != wanted {
                wrong.push(format!("{fact}: sbx makes {made:?} instead of {wanted:?}: {}", ours.said));
            }
            for (name, outcome) in theirs {
                let made = &outcome.facts[fact];
                match self.differences.get(&((*name).to_owned(), fact.clone())) {
                    None if made != wanted => {
                        let said = &outcome.said;
                        wrong.push(format!("{fact}: {name} makes {made:?} instead of {wanted:?}: {said}"));
                    }
                    Some(_) if made == wanted => {
                        let said = &outcome.said;
                        wrong.push(format!("{fact}: {name} does not differ: take the line out: {said}"));
                    }
                    Some(told) if made != told && told != ANY => {
                        wrong.push(format!("{fact}: {name} makes {made:?}, and the case says {told:?}"));
                    }
                    _ => {}
                }
            }
        }
        let unknown = self.differences.keys().filter(|(_, fact)| !self.wanted.contains_key(fact));
        wrong.extend(unknown.map(|(name, fact)| format!("{name}: there is no fact `{fact}`")));
        wrong
    }
}
