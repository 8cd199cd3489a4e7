//! Git repositories, by the `git` program. A repository and its server are hostile: git gets an environment and a
//! configuration of this module's alone, runs no hook and no filter, and speaks no protocol but those of networks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, Mode, Timestamps};

use crate::build::dockerfile::step::GitSource;
use crate::build::fetch::scratch::Scratch;
use crate::build::mounts::Secret;
use crate::build::tree::Tree;
use crate::error::{Error, Result, Step};
use crate::host::programs;
use crate::layers::remove;
use crate::registry::download::split;
use crate::sys::process::{bind_to_parent, send_signal};

/// What git may speak where the address comes from a Dockerfile, and for submodules always.
const PROTOCOLS: &str = "http:https:git:ssh";
/// As long git may say nothing.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of what it says this much is kept, in bytes.
const LONGEST_OUTPUT: usize = 16 << 10;
/// Of the list of references.
const LONGEST_LIST: u64 = 64 << 20;
/// What of the caller's environment git sees: ways to the network, and the agent with the keys.
const ENVIRONMENT: [&str; 12] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];
/// The secret with a token for http.
const TOKEN: &str = "GIT_AUTH_TOKEN";
/// Questions have no answer here.
/// What git says of a server that has hung up, whatever ssh has said before.
const OF_EVERY_FAILURE: [&str; 2] =
    ["Please make sure you have the correct access rights", "and the repository exists."];
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=20";

/// A repository on its server.
#[derive(Debug)]
pub struct Repository<'s> {
    source: &'s GitSource,
    program: PathBuf,
    /// Without a name and password.
    url: String,
    scheme: Scheme,
    /// `Authorization: …`, for http.
    authorization: Option<String>,
    scratch: &'s Scratch,
}

/// Who names a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Caller,
    Dockerfile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    /// On this machine: for what the caller names himself.
    File,
    Other,
}

/// A version of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// What is asked of the server.
    wanted: String,
    /// None: the server does not tell before all was fetched.
    pub commit: Option<String>,
    /// The object of an annotated tag.
    tag: Option<String>,
}

impl Version {
    /// The same, now that its commit is known.
    #[must_use]
    pub fn at(&self, commit: &str) -> Self {
        Self { commit: Some(commit.to_owned()), ..self.clone() }
    }
}

/// The secret of the build that lets in where an address has no password: `GIT_AUTH_TOKEN.HOST` or `GIT_AUTH_TOKEN`, as
/// BuildKit has it.
///
/// # Errors
/// It cannot be read.
pub fn secret(secrets: &BTreeMap<String, Secret>, source: &GitSource) -> Result<Option<Vec<u8>>> {
    let host = source.url.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    let host = host.map(|host| host.rsplit('@').next().unwrap_or(host));
    let names = host.map(|host| format!("{TOKEN}.{host}")).into_iter().chain([TOKEN.to_owned()]);
    let found = names.filter_map(|name| secrets.get(&name).map(|secret| (name, secret))).next();
    found.map(|(name, secret)| secret.read(&name)).transpose()
}

impl<'s> Repository<'s> {
    /// A repository on the network; of the caller also one on this machine.
    ///
    /// # Errors
    /// There is no git, or the address is none that it is asked for.
    pub fn new(
        source: &'s GitSource,
        scratch: &'s Scratch,
        origin: Origin,
        secret: Option<&[u8]>,
    ) -> Result<Self> {
        let (mut url, mut credentials) = (source.url.clone(), None);
        let begins = |scheme: &str| source.url.starts_with(scheme);
        let scheme = match () {
            () if begins("http://") || begins("https://") => Scheme::Http,
            () if begins("file://") && origin == Origin::Caller => Scheme::File,
            () => Scheme::Other,
        };
        if scheme == Scheme::Http {
            (url, credentials) = split(&source.url);
        }
        let failed = || Error::new(format!("cannot fetch the repository `{}`", url.escape_debug()));
        if begins("file:") && scheme != Scheme::File {
            return Err(failed().because("a Dockerfile reads no repositories of this machine"));
        }
        if url.starts_with('-') || url.contains(|c: char| c.is_control()) {
            return Err(failed().because("it is no address of a repository"));
        }
        let program = programs::find("git").ok_or_else(|| {
            failed()
                .because("`git` is not installed")
                .hint("an administrator can install it: `apt install git`")
        })?;
        let basic = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let token = secret.map(|secret| [b"x-access-token:", secret.trim_ascii()].concat());
        let authorization =
            credentials.or(token).map(|credentials| format!("Authorization: Basic {}", basic(&credentials)));
        Ok(Self { source, program, url, scheme, authorization, scratch })
    }

    /// Asks the server which commit is meant.
    ///
    /// # Errors
    /// The server cannot be reached, or has no such reference.
    pub fn version(&self) -> Result<Version> {
        let reference = self.source.reference.as_deref();
        if let Some(commit) = reference.filter(|text| is_hex(text) && matches!(text.len(), 40 | 64)) {
            let commit = commit.to_ascii_lowercase();
            return Ok(Version { wanted: commit.clone(), commit: Some(commit), tag: None });
        }
        let mut words = vec!["ls-remote", "--", &self.url];
        let peeled = reference.map(|reference| format!("{reference}^{{}}"));
        match (reference, &peeled) {
            (Some(reference), Some(peeled)) => words.extend([reference, peeled]),
            _ => words.push("HEAD"),
        }
        let list = self.git(None, &words, self.protocols())?;
        let find = |name: &str| {
            let found = list.lines().filter_map(|line| line.split_once('\t'));
            found
                .filter(|(hash, _)| is_hex(hash))
                .find(|(_, found)| *found == name)
                .map(|(hash, _)| hash.to_owned())
        };
        let Some(reference) = reference else {
            let commit = find("HEAD").ok_or_else(|| self.failed().because("it has no HEAD: it is empty"))?;
            return Ok(Version { wanted: "HEAD".to_owned(), commit: Some(commit), tag: None });
        };
        // As git checkout has it, a branch comes first.
        for name in [
            format!("refs/heads/{reference}"),
            format!("refs/tags/{reference}"),
            format!("refs/{reference}"),
            reference.to_owned(),
        ] {
            let Some(hash) = find(&name) else { continue };
            let peeled = find(&format!("{name}^{{}}"));
            let tag = peeled.is_some().then(|| hash.clone());
            return Ok(Version { wanted: name, commit: Some(peeled.unwrap_or(hash)), tag });
        }
        match is_hex(reference) && reference.len() >= 7 {
            true => Ok(Version { wanted: reference.to_owned(), commit: None, tag: None }),
            false => Err(self
                .failed()
                .because(format!("it has no branch, tag or commit `{}`", reference.escape_debug()))),
        }
    }

    /// Compares a version with `--checksum`: a commit, or the beginning of one.
    ///
    /// # Errors
    /// It is another.
    pub fn check(&self, version: &Version, checksum: Option<&str>) -> Result<()> {
        let (Some(checksum), Some(commit)) = (checksum, &version.commit) else { return Ok(()) };
        if checksum.contains(':') {
            return Err(self
                .failed()
                .because(format!("`{checksum}` is no checksum of a repository"))
                .hint("write `--checksum=COMMIT`, with the digits of the commit"));
        }
        let wanted = checksum.to_ascii_lowercase();
        let fits = |hash: &String| hash.starts_with(&wanted);
        match fits(commit) || version.tag.as_ref().is_some_and(fits) {
            true => Ok(()),
            false => Err(self
                .failed()
                .because(format!("it is at the commit {commit}, and `--checksum` says {wanted}"))),
        }
    }

    /// Fetches the version and gives the directory that has its files, all with the time of the commit, and the commit.
    /// `.git` is kept where it is wanted.
    ///
    /// # Errors
    /// It cannot be fetched.
    pub fn check_out(&self, version: &Version, name: &str, keep: bool) -> Result<(PathBuf, String)> {
        let directory = self.scratch.directory(name)?;
        let git = |words: &[&str], protocols| self.git(Some(&directory), words, protocols);
        git(&["init", "--quiet", "--template="], "")?;
        git(&["remote", "add", "origin", "--", &self.url], "")?;
        let fetch = ["fetch", "--progress", "--no-tags", "--no-recurse-submodules"];
        let shallow = [&fetch[..], &["--depth=1", "origin", &version.wanted]].concat();
        let whole =
            [&fetch[..], &["origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]]
                .concat();
        let shallow = match &version.commit {
            Some(_) => git(&shallow, self.protocols()),
            None => Err(Error::new("the server does not know it by this name")),
        };
        // Servers without shallow copies, or that give no commit by its number, give everything.
        let at = match shallow {
            Ok(_) => "FETCH_HEAD",
            Err(error) => {
                log::debug!("{error}: all of the repository is fetched");
                git(&whole, self.protocols())?;
                version.commit.as_deref().unwrap_or(&version.wanted)
            }
        };
        let commit = format!("{at}^{{commit}}");
        let commit =
            git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &commit], "").map_err(|_| {
                self.failed()
                    .because(format!("it has no branch, tag or commit `{}`", version.wanted.escape_debug()))
            })?;
        let commit = commit.trim().to_owned();
        if version.commit.as_ref().is_some_and(|expected| *expected != commit) {
            return Err(self.failed().because("it was changed while it was fetched").hint("build again"));
        }
        git(&["checkout", "--quiet", "--force", "--detach", &commit], "")?;
        if directory.join(".gitmodules").symlink_metadata().is_ok() {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--checkout"];
            let shallow = [&update[..], &["--depth=1"]].concat();
            git(&shallow, PROTOCOLS).or_else(|_| git(&update, PROTOCOLS))?;
        }
        let time = git(&["log", "-1", "--format=%ct", &commit], "")?;
        let seconds = time.trim().parse().unwrap_or(0);
        settle(&directory, keep, seconds).step(|| format!("cannot prepare the files of `{}`", self.url))?;
        Ok((directory, commit))
    }

    fn protocols(&self) -> &'static str {
        if self.scheme == Scheme::File { "file" } else { PROTOCOLS }
    }

    fn failed(&self) -> Error {
        Error::new(format!("cannot fetch the repository `{}`", self.url.escape_debug()))
    }

    /// Runs git to its end, and gives its standard output.
    fn git(&self, directory: Option<&Path>, words: &[&str], protocols: &str) -> Result<String> {
        let failed = || self.failed();
        let output = self.scratch.path().join("output");
        let standard = File::create(&output).step(|| format!("cannot make `{}`", output.display()))?;
        let mut command = Command::new(&self.program);
        command.args(words).stdin(Stdio::null()).stdout(standard).stderr(Stdio::piped());
        command.current_dir(directory.unwrap_or(self.scratch.path()));
        self.environment(&mut command, protocols);
        bind_to_parent(&mut command);
        // The modes of what is checked out do not depend on the caller's mask. This process has one thread.
        let mask = rustix::process::umask(Mode::from_raw_mode(0o022));
        let started = command.spawn();
        rustix::process::umask(mask);
        let mut child = started.map_err(|error| {
            failed().because(format!("`{}` cannot be started: {error}", self.program.display()))
        })?;
        let mut said = Vec::new();
        let listened = match child.stderr.take() {
            Some(mut stderr) => listen(&mut stderr, &mut said),
            None => Ok(()),
        };
        if listened.is_err() {
            // The group: git has helpers.
            let _ = send_signal(-(child.id().cast_signed()), libc::SIGKILL);
        }
        let status: ExitStatus = child.wait().map_err(|error| failed().because(error))?;
        listened.map_err(|error| failed().because(error))?;
        if !status.success() {
            return Err(failed().because(complaint(&said, status)));
        }
        let mut text = Vec::new();
        let read = File::open(&output).and_then(|file| file.take(LONGEST_LIST).read_to_end(&mut text));
        read.map_err(|error| failed().because(error))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn environment(&self, command: &mut Command, protocols: &str) {
        let home = self.scratch.path();
        command.env_clear();
        for name in ENVIRONMENT {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        if let Ok(path) = std::env::join_paths(programs::directories()) {
            command.env("PATH", path);
        }
        for (name, value) in [
            ("LC_ALL", "C.UTF-8"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ALLOW_PROTOCOL", protocols),
            ("GIT_SSH_COMMAND", SSH),
            ("GIT_SSH_VARIANT", "ssh"),
        ] {
            command.env(name, value);
        }
        // ~/.netrc and the like: what is sent to a server is in the address, or in a secret of the build.
        command.env("HOME", home).env("XDG_CONFIG_HOME", home);
        let mut settings = vec![
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("core.symlinks", "true"),
            ("core.autocrlf", "false"),
            ("core.logAllRefUpdates", "false"),
            ("core.attributesFile", "/dev/null"),
            ("core.excludesFile", "/dev/null"),
            ("init.defaultBranch", "main"),
            ("advice.detachedHead", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("fetch.recurseSubmodules", "false"),
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
        ];
        let key = self.authorization.as_ref().and_then(|_| {
            let (scheme, rest) = self.url.split_once("://")?;
            let host = rest.split('/').next()?;
            Some(format!("http.{scheme}://{host}/.extraHeader"))
        });
        // Not among the arguments, which anybody may read.
        if let (Some(key), Some(authorization)) = (&key, &self.authorization) {
            settings.push((key, authorization));
        }
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (at, (key, value)) in settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
    }
}

/// The directory of a checkout that an address names, symlinks followed within it.
///
/// # Errors
/// It is not there.
pub fn below(checkout: &Path, source: &GitSource) -> Result<PathBuf> {
    let Some(directory) = &source.directory else { return Ok(checkout.to_owned()) };
    let tree = Tree::of_directory(checkout)?;
    let real = tree.real(Path::new(directory));
    match tree.directory(&real) {
        Some(_) => Ok(checkout.join(real)),
        None => Err(Error::new(format!("cannot find the directory `{}`", directory.escape_debug()))
            .because(format!("the repository `{}` has none such", source.url.escape_debug()))),
    }
}

/// Whether the caller names a repository on this machine: `file:///srv/x.git#main:docs`.
pub fn local(text: &str) -> Option<GitSource> {
    text.strip_prefix("file:///")?;
    let (url, fragment) = text.split_once('#').map_or((text, ""), |(url, fragment)| (url, fragment));
    let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let safe = !reference.starts_with('-') && !directory.split('/').any(|part| part == "..");
    safe.then(|| GitSource { url: url.to_owned(), reference: some(reference), directory: some(directory) })
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Reads what git says until it ends; an error where it says nothing for too long.
fn listen(stderr: &mut (impl Read + std::os::fd::AsFd), said: &mut Vec<u8>) -> io::Result<()> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let mut buffer = [0; 4096];
    loop {
        let ready = rustix::event::poll(&mut [PollFd::new(&*stderr, PollFlags::IN)], Some(&patience));
        match ready {
            Ok(0) => return Err(io::Error::other("the server has sent nothing for too long")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let count = stderr.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        said.extend_from_slice(&buffer[..count]);
        if said.len() > LONGEST_OUTPUT {
            said.drain(..said.len() - LONGEST_OUTPUT / 2);
        }
    }
}

/// What git complained of, in one line.
fn complaint(said: &[u8], status: ExitStatus) -> String {
    let text = String::from_utf8_lossy(said);
    let mut lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let is_telling = |line: &&str| {
        let begins = ["fatal: ", "error: ", "ssh: "].iter().any(|begin| line.starts_with(begin));
        !OF_EVERY_FAILURE.contains(line)
            && (begins || line.contains(": Permission denied") || !line.contains(": "))
    };
    let telling: Vec<&str> = lines.clone().filter(is_telling).collect();
    let shown = match telling.is_empty() {
        true => lines.next_back().unwrap_or_default().to_owned(),
        false => telling[telling.len().saturating_sub(3)..].join("; "),
    };
    let shown: String = shown.chars().filter(|c| !c.is_control()).take(400).collect();
    if shown.is_empty() { format!("git ended with {status}") } else { format!("git says: {shown}") }
}

/// Takes `.git` away, also that of submodules, and gives everything one time.
fn settle(directory: &Path, keep: bool, seconds: i64) -> io::Result<()> {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let is_directory = entry.file_type()?.is_dir();
        if entry.file_name() == ".git" && !keep {
            remove::own(&path)?;
            continue;
        }
        if is_directory {
            settle(&path, keep, seconds)?;
        }
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    rustix::fs::utimensat(CWD, directory, &times, AtFlags::empty())?;
    Ok(())
}
