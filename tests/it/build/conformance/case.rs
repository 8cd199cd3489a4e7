//! One case: its file, its context on disk, and the judgement over what two builders made of it.
//!
//! ```text
//! # What the case states.
//! options: --build-arg A=1 --target x
//! -- Dockerfile --
//! FROM scratch
//! COPY d l /x/
//! -- d/f mode=640 --
//! content
//! -- d/empty/ --
//! -- l -> d/f --
//! ```
//!
//! Before the first file there may be: `options: WORDS` of the build; `before: WORDS` of a build that comes first (again for
//! more); `fails: TEXT`, where neither builder may make an image, and sbx says this; `reference: SENTENCE` of the Dockerfile
//! reference, by which sbx and buildah differ in what the lines `sbx: KEY VALUE` name: what sbx makes (`absent`, where it
//! makes nothing of that name). Attributes of a file: `mode=OCTAL`, `mtime=SECONDS`, `crlf`, `bom`, `chomp` (no line end
//! after the last line), `pad=N` (`{pad}` stands for N letters). `a -> b` is a symlink, `a => b` a hard link, `a/` a directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::outcome::{Facts, Outcome};
use crate::harness::Sbx;
use crate::harness::told::{Item, item, lay_out, marker, section};

#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    pub options: Vec<String>,
    pub before: Vec<Vec<String>>,
    fails: Option<String>,
    sentence: String,
    differences: BTreeMap<String, String>,
    files: Vec<Item>,
}

impl Case {
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let mut case = Self { name, ..Self::default() };
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next_if(|line| marker(line).is_none()) {
            case.header(line.trim_end_matches('\n'));
        }
        while let Some((words, content)) = section(&mut lines) {
            case.files.push(item(words, content));
        }
        assert!(!case.files.is_empty(), "{} has no file", path.display());
        assert_eq!(
            case.sentence.is_empty(),
            case.differences.is_empty(),
            "{}: `reference:` and `sbx:` go together",
            path.display()
        );
        case
    }

    fn header(&mut self, line: &str) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}", self.name));
        let words = || value.split_whitespace().map(str::to_owned).collect();
        match key {
            "options" => self.options = words(),
            "before" => self.before.push(words()),
            "fails" => self.fails = Some(value.to_owned()),
            "reference" => self.sentence = value.to_owned(),
            "sbx" => {
                let (key, value) = value.split_once(' ').unwrap_or((value, ""));
                self.differences.insert(key.to_owned(), value.to_owned());
            }
            _ => panic!("{}: {line}", self.name),
        }
    }

    /// All that decides what a builder makes of it.
    pub fn recipe(&self) -> String {
        format!("{:?}", (&self.options, &self.before, &self.files))
    }

    /// Makes the context.
    pub fn lay_out(&self, world: &Sbx) -> PathBuf {
        let context = world.work().join(&self.name);
        fs::create_dir(&context).expect("two cases have one name");
        lay_out(&self.files, &context);
        context
    }

    /// What is wrong, if anything. Where buildah alone makes nothing, the case has to name all that sbx makes, but for what
    /// the image `base` has, too.
    pub fn judge(&self, ours: &Outcome, theirs: &Outcome, base: &Facts) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Outcome::Failed(said) = ours {
            match &self.fails {
                None => wrong.push(format!("sbx fails: {said}")),
                Some(text) if !said.contains(text.as_str()) => {
                    wrong.push(format!("sbx does not say {text:?}: {said}"));
                }
                Some(_) => {}
            }
        } else if let Some(text) = &self.fails {
            wrong.push(format!("sbx does not fail with {text:?}"));
        }
        let (ours, theirs) = (ours.facts(), theirs.facts());
        let both = ours.keys().chain(theirs.keys());
        let mut keys: Vec<&String> = both.chain(self.differences.keys()).collect();
        keys.sort();
        keys.dedup();
        let or_absent = |value: Option<&String>| value.map_or("absent", String::as_str).to_owned();
        // Where one of them made nothing, that alone is the difference.
        let failed = ours.contains_key("fails") != theirs.contains_key("fails");
        let made = failed && theirs.contains_key("fails");
        for key in keys {
            let (ours, theirs) = (or_absent(ours.get(key)), or_absent(theirs.get(key)));
            match self.differences.get(key) {
                Some(wanted) if *wanted != ours => {
                    wrong.push(format!("{key}: sbx makes `{ours}`, and the reference wants `{wanted}`"));
                }
                Some(_) if ours == theirs => {
                    wrong.push(format!("{key}: buildah makes the same: take the quotation out"));
                }
                None if made && ours != "absent" && base.get(key) != Some(&ours) => {
                    wrong.push(format!("{key}: sbx makes `{ours}`, buildah nothing at all"));
                }
                None if failed && key != "fails" => {}
                None if ours != theirs => {
                    wrong.push(format!("{key}: sbx makes `{ours}`, buildah `{theirs}`"));
                }
                _ => {}
            }
        }
        wrong
    }
}
