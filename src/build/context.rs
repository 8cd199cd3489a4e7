//! What a build is given: the directory with the files, the ignore file, the Dockerfile.

use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::build::dockerfile::ast::Dockerfile;
use crate::build::dockerfile::ignore::{self, Ignore};
use crate::build::dockerfile::limits;
use crate::build::dockerfile::parse;
use crate::build::fetch::archive;
use crate::build::fetch::context::{self as elsewhere, Fetched, Means, Remote, fetch, from_archive};
use crate::build::fetch::scratch::Scratch;
use crate::error::{Error, Result, Step};

/// Looked for in this order.
pub const DOCKERFILES: [&str; 2] = ["Containerfile", "Dockerfile"];
pub const STDIN: &str = "-";

/// The context.
#[derive(Debug)]
pub struct Context {
    /// None: there is none, only a Dockerfile.
    pub directory: Option<PathBuf>,
    pub ignore: Ignore,
    /// Where it is, for as long as it is needed, if it was fetched.
    pub scratch: Option<Scratch>,
}

/// Reads what the words name: the context, and `--file` where it was given.
///
/// # Errors
/// Something is not there, or is no Dockerfile.
pub fn load(word: &str, file: Option<&str>, means: &Means<'_>) -> Result<(Context, Dockerfile)> {
    if word == STDIN {
        return from_stdin(file, means);
    }
    if !Path::new(word).exists()
        && let Some(remote) = Remote::read(word)?
    {
        let shown = crate::registry::download::shown(word);
        let what = format!("`{}`", shown.escape_debug());
        return match fetch(&remote, means)? {
            Fetched::Directory(directory, scratch) => elsewhere::open((directory, scratch), file, &what),
            Fetched::File(text) => match file {
                None => Ok((nothing(), parse::read(&shown, &text[..])?)),
                Some(_) => Err(Error::new(format!("cannot build from {what}"))
                    .because("it is a Dockerfile itself, and `-f` names another")),
            },
        };
    }
    let failed = || format!("cannot build from `{}`", word.escape_debug());
    let directory = Path::new(word);
    match directory.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            return Err(Error::new(failed())
                .because("it is no directory")
                .hint("the context is a directory; `-f FILE` names the Dockerfile"));
        }
        Err(error) => return Err(Error::new(failed()).because(error)),
    }
    let directory = directory.canonicalize().step(failed)?;
    let (dockerfile, beside) = match file {
        Some(STDIN) => (parse::read(STDIN, std::io::stdin().lock())?, None),
        Some(file) if elsewhere::is_url(file) => (download(file, means)?, None),
        Some(file) => {
            let path = find(file, &directory);
            (read(&path, file)?, Some(path))
        }
        None => {
            let found = DOCKERFILES.iter().map(|name| directory.join(name)).find(|path| path.exists());
            let path = found.ok_or_else(|| {
                Error::new(failed())
                    .because(format!("it has neither `{}` nor `{}`", DOCKERFILES[0], DOCKERFILES[1]))
                    .hint("`-f FILE` names another")
            })?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // A pipe that `-f` names is meant; one that lies there would be waited for.
            if path.metadata().step(failed)?.file_type().is_fifo() {
                return Err(Error::new(failed()).because(format!("`{name}` is a pipe, and no file")));
            }
            (read(&path, &name)?, Some(path))
        }
    };
    let ignore = ignore_file(&directory, beside.as_deref())?;
    Ok((Context { directory: Some(directory), ignore, scratch: None }, dockerfile))
}

/// The Dockerfile that `-f` names: from the working directory, or else in the context, as podman has it.
fn find(file: &str, context: &Path) -> PathBuf {
    let path = PathBuf::from(file);
    let inside = context.join(file);
    match path.exists() || !inside.exists() {
        true => path,
        false => inside,
    }
}

/// A Dockerfile on the network.
fn download(file: &str, means: &Means<'_>) -> Result<Dockerfile> {
    let shown = crate::registry::download::shown(file);
    match fetch(&Remote::Url(file.to_owned()), means)? {
        Fetched::File(text) => parse::read(&shown, &text[..]),
        Fetched::Directory(..) => Err(Error::new(format!("cannot read `{}`", shown.escape_debug()))
            .because("it is an archive")
            .hint("name it as the context, in place of the directory")),
    }
}

fn read(path: &Path, name: &str) -> Result<Dockerfile> {
    let failed = || format!("cannot read `{}`", path.display());
    let file = File::open(path).step(failed)?;
    if file.metadata().step(failed)?.is_dir() {
        return Err(Error::new(failed()).because("it is a directory").hint("name the Dockerfile itself"));
    }
    parse::read(name, file)
}

/// The patterns that leave files out: beside the Dockerfile, or else in the context.
fn ignore_file(context: &Path, dockerfile: Option<&Path>) -> Result<Ignore> {
    let own = dockerfile.map(|path| ignore::beside(&path.to_string_lossy()).map(PathBuf::from));
    let usual = ignore::FILES.map(|name| context.join(name));
    for path in own.into_iter().flatten().chain(usual) {
        if path.symlink_metadata().is_ok() {
            // As of the Dockerfile: nobody would ever write into it.
            if path.metadata().is_ok_and(|found| found.file_type().is_fifo()) {
                return Err(Error::new(format!("cannot read `{}`", path.display()))
                    .because("it is a pipe, and no file"));
            }
            return ignore_file_at(&path);
        }
    }
    Ok(Ignore::default())
}

/// The patterns of a file (`--ignorefile`).
///
/// # Errors
/// It cannot be read, or a pattern is not understood.
pub fn ignore_file_at(path: &Path) -> Result<Ignore> {
    let failed = || format!("cannot read `{}`", path.display());
    let mut text = Vec::new();
    let file = File::open(path).step(failed)?;
    file.take(limits::IGNORE_FILE + 1).read_to_end(&mut text).step(failed)?;
    Ignore::read(&path.display().to_string(), &String::from_utf8_lossy(&text))
}

fn nothing() -> Context {
    Context { directory: None, ignore: Ignore::default(), scratch: None }
}

/// `-`: an archive that is the context, or a Dockerfile without one.
fn from_stdin(file: Option<&str>, means: &Means<'_>) -> Result<(Context, Dockerfile)> {
    let failed = || "cannot build from standard input";
    let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).step(failed)?;
    let mut stdin = File::from(stdin);
    let mut first = Vec::new();
    stdin.by_ref().take(archive::FIRST).read_to_end(&mut first).step(failed)?;
    if archive::looks_like_one(&first) {
        if file == Some(STDIN) {
            return Err(Error::new(failed())
                .because("the context is read from there, and `-f -` names it for the Dockerfile"));
        }
        let scratch = Scratch::new(means.store)?;
        let unpacked = from_archive(Cursor::new(first).chain(stdin), scratch)?;
        return elsewhere::open(unpacked, file, "the archive on standard input");
    }
    if let Some(file) = file.filter(|file| *file != STDIN) {
        return Err(Error::new(failed()).because(format!(
            "with `-` the Dockerfile is read from there, and `-f {}` names another",
            file.escape_debug()
        )));
    }
    Ok((nothing(), parse::read(STDIN, Cursor::new(first).chain(stdin))?))
}
