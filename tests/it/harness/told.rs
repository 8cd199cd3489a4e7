//! Files that a case of a table tells in its text: a line `-- PATH ATTRIBUTES --`, and under it the content.
//!
//! Attributes: `mode=OCTAL`, `mtime=SECONDS`, `crlf`, `bom`, `chomp` (no line end after the last line), `pad=N` (`{pad}`
//! stands for N letters). `a -> b` is a symlink, `a => b` a hard link, `a/` a directory.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::iter::Peekable;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// When files were changed, unless they say otherwise.
const LONG_AGO: u64 = 1_500_000_000;

#[derive(Debug)]
pub struct Item {
    path: String,
    kind: Kind,
    mode: Option<u32>,
    mtime: u64,
}

#[derive(Debug)]
enum Kind {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    HardLink(String),
}

/// The words and the content of the next file.
pub fn section<'t>(lines: &mut Peekable<impl Iterator<Item = &'t str>>) -> Option<(&'t str, String)> {
    let words = marker(lines.next()?).expect("a line that begins a file");
    let mut content = String::new();
    while let Some(line) = lines.next_if(|line| marker(line).is_none()) {
        content.push_str(line);
    }
    Some((words, content))
}

/// Makes all of them in a directory that has nothing else.
pub fn lay_out(items: &[Item], directory: &Path) {
    make(items, directory);
    let told: BTreeMap<&str, &Item> =
        items.iter().map(|item| (item.path.trim_end_matches('/'), item)).collect();
    settle(directory, "", &told);
}

/// Adds them to what a directory has.
pub fn add(items: &[Item], directory: &Path) {
    make(items, directory);
    for item in items.iter().filter(|item| matches!(item.kind, Kind::File(_) | Kind::Directory)) {
        attributes(&directory.join(&item.path), Some(item));
    }
}

fn make(items: &[Item], directory: &Path) {
    for item in items {
        let path = directory.join(&item.path);
        fs::create_dir_all(path.parent().expect("it is below the directory")).expect("a directory");
        match &item.kind {
            Kind::File(content) => fs::write(&path, content).expect("a file"),
            Kind::Directory => fs::create_dir_all(&path).expect("a directory"),
            Kind::Symlink(target) => symlink(target, &path).expect("a symlink"),
            Kind::HardLink(target) => fs::hard_link(directory.join(target), &path).expect("a hard link"),
        }
    }
}

/// The words between `-- ` and ` --`.
pub fn marker(line: &str) -> Option<&str> {
    line.trim_end_matches('\n').strip_prefix("-- ")?.strip_suffix(" --")
}

pub fn item(words: &str, content: String) -> Item {
    let (mut path, mut kind, mut mode, mut mtime) = (words.to_owned(), None, None, LONG_AGO);
    if let Some((link, target)) = words.split_once(" -> ") {
        (path, kind) = (link.to_owned(), Some(Kind::Symlink(target.to_owned())));
    } else if let Some((link, target)) = words.split_once(" => ") {
        (path, kind) = (link.to_owned(), Some(Kind::HardLink(target.to_owned())));
    }
    let mut content = content.into_bytes();
    while kind.is_none() {
        let Some((rest, word)) = path.rsplit_once(' ') else { break };
        match word.split_once('=').unwrap_or((word, "")) {
            ("mode", octal) => mode = Some(u32::from_str_radix(octal, 8).expect("octal digits")),
            ("mtime", seconds) => mtime = seconds.parse().expect("seconds"),
            ("crlf", _) => content = String::from_utf8(content).expect("text").replace('\n', "\r\n").into(),
            ("bom", _) => content.splice(..0, "\u{feff}".bytes()).for_each(drop),
            ("chomp", _) => {
                content.pop();
            }
            ("pad", count) => {
                let long = "x".repeat(count.parse().expect("a number"));
                content = String::from_utf8(content).expect("text").replace("{pad}", &long).into();
            }
            _ => break,
        }
        path = rest.to_owned();
    }
    let kind = kind.unwrap_or(if path.ends_with('/') { Kind::Directory } else { Kind::File(content) });
    Item { path, kind, mode, mtime }
}

/// Gives all files below a directory their modes and times, whatever the umask.
fn settle(directory: &Path, name: &str, items: &BTreeMap<&str, &Item>) {
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
        let below = entry.file_name().to_string_lossy().into_owned();
        let below = if name.is_empty() { below } else { format!("{name}/{below}") };
        if entry.file_type().expect("a type").is_dir() {
            settle(&entry.path(), &below, items);
        } else if !entry.file_type().expect("a type").is_file() {
            continue;
        }
        attributes(&entry.path(), items.get(below.as_str()).copied());
    }
    attributes(directory, items.get(name).copied());
}

fn attributes(path: &Path, item: Option<&Item>) {
    // A hard link has the attributes of the file that it names.
    if item.is_some_and(|item| matches!(item.kind, Kind::HardLink(_))) {
        return;
    }
    let ordinary = if path.is_dir() { 0o755 } else { 0o644 };
    let mode = item.and_then(|item| item.mode).unwrap_or(ordinary);
    let time = UNIX_EPOCH + Duration::from_secs(item.map_or(LONG_AGO, |item| item.mtime));
    let file = File::open(path).expect("a file of the context");
    file.set_times(FileTimes::new().set_modified(time)).expect("a time");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}
