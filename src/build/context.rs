//! What a build is given: the directory with the files, the ignore file, the Dockerfile.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::build::dockerfile::ast::Dockerfile;
use crate::build::dockerfile::git;
use crate::build::dockerfile::ignore::{self, Ignore};
use crate::build::dockerfile::limits;
use crate::build::dockerfile::parse;
use crate::error::{Error, Result, Step};
use crate::layers::compression::{self, Compression};

/// Looked for in this order.
const DOCKERFILES: [&str; 2] = ["Containerfile", "Dockerfile"];
/// `ustar` stands here in the first block of an archive (tar(5)).
const MAGIC: std::ops::Range<usize> = 257..262;
const STDIN: &str = "-";

/// The context.
#[derive(Debug)]
pub struct Context {
    /// None: there is none, only a Dockerfile.
    pub directory: Option<PathBuf>,
    pub ignore: Ignore,
}

/// Reads what the words name: the context, and `--file` where it was given.
///
/// # Errors
/// Something is not there, or is no Dockerfile.
pub fn load(word: &str, file: Option<&str>) -> Result<(Context, Dockerfile)> {
    if word == STDIN {
        return from_stdin(file);
    }
    let failed = || format!("cannot build from `{}`", word.escape_debug());
    let remote = word.contains("://") || git::read(word).is_ok_and(|found| found.is_some());
    if remote && !Path::new(word).exists() {
        return Err(Error::new(failed())
            .because("contexts on the network are not fetched yet")
            .hint("clone or download it first, and give the directory"));
    }
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
        Some(file) => {
            let path = find(file, &directory)?;
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
            (read(&path, &name)?, Some(path))
        }
    };
    let ignore = ignore_file(&directory, beside.as_deref())?;
    Ok((Context { directory: Some(directory), ignore }, dockerfile))
}

/// The Dockerfile that `-f` names: from the working directory, or else in the context, as podman has it.
fn find(file: &str, context: &Path) -> Result<PathBuf> {
    if file.contains("://") {
        return Err(Error::new(format!("cannot read `{}`", file.escape_debug()))
            .because("Dockerfiles on the network are not fetched yet"));
    }
    let path = PathBuf::from(file);
    let inside = context.join(file);
    match path.exists() || !inside.exists() {
        true => Ok(path),
        false => Ok(inside),
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
        let failed = || format!("cannot read `{}`", path.display());
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.step(failed)?,
        };
        let mut text = Vec::new();
        file.take(limits::IGNORE_FILE + 1).read_to_end(&mut text).step(failed)?;
        return Ignore::read(&path.display().to_string(), &String::from_utf8_lossy(&text));
    }
    Ok(Ignore::default())
}

/// `-`: a Dockerfile without a context. An archive is one with.
fn from_stdin(file: Option<&str>) -> Result<(Context, Dockerfile)> {
    let failed = || "cannot build from standard input";
    if let Some(file) = file.filter(|file| *file != STDIN) {
        return Err(Error::new(failed()).because(format!(
            "with `-` the Dockerfile is read from there, and `-f {}` names another",
            file.escape_debug()
        )));
    }
    let mut stdin = std::io::stdin().lock();
    let mut first = Vec::new();
    stdin.by_ref().take(512).read_to_end(&mut first).step(failed)?;
    if compression::detect(&first) != Compression::None || first.get(MAGIC) == Some(b"ustar") {
        return Err(Error::new(failed())
            .because("archives are not taken as contexts yet")
            .hint("unpack it, and give the directory: `tar -x -C DIR && sbx build DIR`"));
    }
    let dockerfile = parse::read(STDIN, std::io::Cursor::new(first).chain(stdin))?;
    Ok((Context { directory: None, ignore: Ignore::default() }, dockerfile))
}

/// A directory of `--build-context`.
///
/// # Errors
/// It is none.
pub fn directory(name: &str, path: &str) -> Result<PathBuf> {
    let failed = || format!("cannot use the context `{name}={}`", path.escape_debug());
    if path.contains("://") {
        return Err(Error::new(failed())
            .because("contexts of `--build-context` are directories")
            .hint("an image can be named in FROM and `--from` itself"));
    }
    let found = fs::canonicalize(path).step(failed)?;
    match found.is_dir() {
        true => Ok(found),
        false => Err(Error::new(failed()).because("it is no directory")),
    }
}
