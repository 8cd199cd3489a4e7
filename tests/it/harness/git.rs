//! Git repositories, and servers for them on loopback: git's own, behind a listener of the test's.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::http::{Message, Server};
use super::inetd::Inetd;
use super::world::Sbx;

/// A repository in a directory below a world's own.
pub struct Repository<'w> {
    world: &'w Sbx,
    pub directory: PathBuf,
}

impl<'w> Repository<'w> {
    /// An empty one, `<world>/git/NAME`.
    pub fn new(world: &'w Sbx, name: &str) -> Self {
        let directory = world.directory().join("git").join(name);
        std::fs::create_dir_all(&directory).expect("cannot make a directory");
        let repository = Self { world, directory };
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    /// `git WORDS`, in the work tree.
    pub fn git(&self, words: &[&str]) -> String {
        let settings = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"];
        let program = self.world.program(super::require("git")).args(settings).args(words);
        let dated = program.env("GIT_COMMITTER_DATE", "1500000000 +0000").env("GIT_CONFIG_NOSYSTEM", "1");
        dated.directory(&self.directory).succeed().trim().to_owned()
    }

    pub fn file(&self, name: &str, content: &str) -> &Self {
        let path = self.directory.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("cannot make a directory");
        std::fs::write(path, content).expect("cannot write a file");
        self
    }

    /// Commits everything, and gives the commit.
    pub fn commit(&self) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// Serves the repositories below `root` over http, as `http://ADDRESS/NAME/.git`.
pub fn git_over_http(root: &Path) -> Server {
    let root = root.to_owned();
    Server::answering(move |request| backend(&root, request))
}

/// git-http-backend(1) as a program behind a web server (RFC 3875).
pub fn backend(root: &Path, request: &Message) -> Message {
    let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
    let mut command = Command::new(super::require("git"));
    command.arg("http-backend").env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("PATH_INFO", path);
    command.env("QUERY_STRING", query).env("REQUEST_METHOD", request.method());
    for (variable, header) in [
        ("CONTENT_TYPE", "Content-Type"),
        ("HTTP_CONTENT_ENCODING", "Content-Encoding"),
        ("HTTP_GIT_PROTOCOL", "Git-Protocol"),
    ] {
        command.envs(request.get(header).map(|value| (variable, value)));
    }
    command.env("CONTENT_LENGTH", request.body.len().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("cannot start git http-backend");
    let mut stdin = child.stdin.take().expect("a pipe");
    let body = request.body.clone();
    let writing = thread::spawn(move || stdin.write_all(&body));
    let said = child.wait_with_output().expect("git http-backend").stdout;
    let _ = writing.join();
    let end = said.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(said.len());
    let head = String::from_utf8_lossy(&said[..end]).into_owned();
    let headers: Vec<(&str, &str)> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let status = headers.iter().find(|(name, _)| *name == "Status");
    let status = status.and_then(|(_, value)| value.split(' ').next()?.parse().ok()).unwrap_or(200);
    let mut answer = Message::answer(status, said.get(end + 4..).unwrap_or_default());
    for (name, value) in headers.into_iter().filter(|(name, _)| *name != "Status") {
        answer = answer.header(name, value);
    }
    answer
}

/// `git daemon` for the repositories below a directory: `git://ADDRESS/NAME/.git`.
pub fn git_daemon(root: &Path) -> Inetd {
    let root = root.to_owned();
    Inetd::start(move || {
        let mut command = Command::new(super::require("git"));
        command.args(["daemon", "--inetd", "--export-all"]);
        command.arg(format!("--base-path={}", root.display()));
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command
    })
}
