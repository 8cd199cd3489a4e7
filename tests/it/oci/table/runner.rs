//! Carries a case out: with sbx, and with whatever else has the command line of runc.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::case::{Case, Config};
use crate::harness::{Sbx, require, rootfs, sbx_binary};
use crate::oci::console::receive;

/// What a status may be waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of one command.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What comes of a command that does.
const FAILS: &str = "fails";
/// The exit code of one that was still there then.
const HUNG: i32 = -1;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    pub facts: BTreeMap<String, String>,
    /// On standard error.
    pub said: String,
}

/// Runs a line of a shell, and gives the exit code.
pub type Shell<'a> = dyn Fn(&str) -> i32 + 'a;

pub struct Runner<'w> {
    world: &'w Sbx,
    pub ids: [(&'static str, u32); 4],
}

impl<'w> Runner<'w> {
    pub fn new(world: &'w Sbx) -> Self {
        require("getsubids");
        let first = |option: &[&str]| {
            let line = world.program("getsubids").args(option).arg(user()).succeed();
            line.split(' ').nth(2).and_then(|id| id.parse().ok()).expect("a subordinate ID")
        };
        let ids = [
            ("{uid}", nix::unistd::geteuid().as_raw()),
            ("{gid}", nix::unistd::getegid().as_raw()),
            ("{subuid}", first(&[])),
            ("{subgid}", first(&["-g"])),
        ];
        Self { world, ids }
    }

    /// What every case begins with.
    pub fn base() -> Value {
        let map = |own: &str, below: &str| json!([{ "containerID": 0, "hostID": own, "size": 1 }, { "containerID": 1, "hostID": below, "size": 65536 }]);
        let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]);
        json!({
            "ociVersion": "1.0.0",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["true"],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
                "noNewPrivileges": true,
            },
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                  "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            ],
            "linux": {
                "namespaces": [
                    { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "user" },
                ],
                "uidMappings": map("{uid}", "{subuid}"),
                "gidMappings": map("{gid}", "{subgid}"),
            },
        })
    }

    pub fn sbx(&self, case: &Case) -> Outcome {
        let shell = |line: &str| self.world.program("sh").args(["-c", line]).finish().code();
        // As with crun, no host has control groups for it: others have the tests in `in_vm`.
        let runtime = format!("{} oci --cgroup-manager disabled", quoted(&sbx_binary()));
        self.carry_out(case, "sbx", &runtime, &shell)
    }

    /// `runtime` is a command line without its verb.
    pub fn carry_out(&self, case: &Case, name: &str, runtime: &str, shell: &Shell<'_>) -> Outcome {
        let bundle = self.world.work().join(format!("{}.{name}", case.name));
        self.make(case, &bundle);
        let run = Carried {
            case,
            bundle,
            runtime,
            shell,
            socket: self.world.directory().join(name),
            commands: Cell::new(0),
        };
        let outcome = run.outcome();
        // Files of others go with the world.
        let _ = fs::remove_dir_all(&run.bundle);
        outcome
    }

    fn make(&self, case: &Case, bundle: &Path) {
        fs::create_dir(bundle).expect("two cases have one name");
        copy_root(&bundle.join("rootfs"));
        case.lay_out(bundle);
        let text = match &case.config {
            Config::Raw(text) => self.filled(text, bundle),
            Config::Patch(patch) => {
                let mut config = Self::base().to_string();
                for (place, id) in self.ids {
                    config = config.replace(&format!("\"{place}\""), &id.to_string());
                }
                let mut config: Value = serde_json::from_str(&config).expect("JSON");
                if let Some(script) = &case.script {
                    config["process"]["args"] = json!(["sh", "-c", self.filled(script, bundle)]);
                }
                let patch = serde_json::from_str(&self.filled(patch, bundle))
                    .unwrap_or_else(|error| panic!("{}: {error}", case.name));
                merge(&mut config, patch);
                config.to_string()
            }
        };
        fs::write(bundle.join("config.json"), text).expect("a config.json");
        fs::write(bundle.join("stdin"), &case.stdin).expect("a file");
    }

    fn filled(&self, text: &str, bundle: &Path) -> String {
        let text = text.replace("{bundle}", bundle.to_str().expect("UTF-8"));
        let text = self.ids.iter().fold(text, |text, (place, id)| text.replace(place, &id.to_string()));
        // `{subuid}+1`
        let sums = self.ids.iter().flat_map(|(_, id)| (1..10).map(move |more| (id, more)));
        sums.fold(text, |text, (id, more)| text.replace(&format!("{id}+{more}"), &(id + more).to_string()))
    }
}

/// The tests' root file system with a few of its programs, since each case has three of them.
fn copy_root(target: &Path) {
    const PROGRAMS: &[&str] = &[
        "cat", "chown", "cut", "echo", "env", "false", "grep", "head", "hostname", "id", "ionice", "kill",
        "ls", "mkdir", "mknod", "nice", "ps", "pwd", "readlink", "rm", "sed", "sh", "sleep", "sort", "stat",
        "stty", "test", "touch", "tr", "true", "tty", "uname", "wc",
    ];
    copy_directories(rootfs(), target);
    let bin = target.join("bin");
    // No case writes into it.
    fs::hard_link(rootfs().join("bin/busybox"), bin.join("busybox")).expect("a link");
    for name in PROGRAMS {
        symlink("busybox", bin.join(name)).expect("a symlink");
    }
}

/// All but symlinks and programs.
fn copy_directories(source: &Path, target: &Path) {
    fs::create_dir(target).expect("a directory");
    for entry in fs::read_dir(source).expect("a directory").map(|entry| entry.expect("an entry")) {
        let (kind, target) = (entry.file_type().expect("a type"), target.join(entry.file_name()));
        if kind.is_dir() {
            copy_directories(&entry.path(), &target);
        } else if kind.is_file() && entry.file_name() != "busybox" {
            fs::copy(entry.path(), &target).expect("a file");
        }
    }
    fs::set_permissions(target, fs::metadata(source).expect("a directory").permissions()).expect("a mode");
}

fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("the user database");
    user.expect("the tests' user has an entry").name
}

/// RFC 7396, and `+`.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().expect("an object");
    for (name, value) in patch {
        if let Some(name) = name.strip_suffix('+') {
            let array = target.entry(name).or_insert_with(|| json!([])).as_array_mut().expect("an array");
            array.extend(value.as_array().expect("an array").iter().cloned());
        } else if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_str().expect("UTF-8"))
}

/// A case under way.
struct Carried<'a> {
    case: &'a Case,
    bundle: PathBuf,
    runtime: &'a str,
    shell: &'a Shell<'a>,
    /// For the terminal.
    socket: PathBuf,
    /// How many commands there were.
    commands: Cell<u32>,
}

impl Carried<'_> {
    fn outcome(&self) -> Outcome {
        let asks = self.case.steps.iter().any(|step| step.words.contains("{console}"));
        let terminal = asks.then(|| self.wait_for_terminal());
        let mut facts = BTreeMap::new();
        for step in &self.case.steps {
            facts.insert(step.fact.clone(), self.step(&step.words));
        }
        let left = fs::read_dir(self.beside("state")).into_iter().flatten().flatten();
        let mut left: Vec<String> =
            left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        left.sort();
        for id in &mut left {
            if self.command("other", &format!("delete --force '{id}'"), "/dev/null") != 0 {
                *id += " for ever";
            }
        }
        facts.insert("left".to_owned(), left.join(" "));
        let mut output = self.said("out");
        if let Some(terminal) = terminal {
            // Nobody may have come.
            drop(UnixStream::connect(&self.socket));
            output += &terminal.join().expect("the terminal's reader").replace("\r\n", "\n");
            fs::remove_file(&self.socket).expect("the socket");
        }
        facts.insert("output".to_owned(), output);
        facts.insert("log".to_owned(), read(&self.bundle.join("log")));
        let bundle = self.bundle.to_str().expect("UTF-8");
        for fact in facts.values_mut() {
            *fact = fact.replace(bundle, "{bundle}");
        }
        Outcome { facts, said: self.said("err").replace(bundle, "{bundle}") }
    }

    fn step(&self, words: &str) -> String {
        let words = words.replace("{console}", self.socket.to_str().expect("UTF-8"));
        let words = words.replace("{bundle}", self.bundle.to_str().expect("UTF-8"));
        let (verb, rest) = words.split_once(' ').unwrap_or((&words, ""));
        match verb {
            "create" | "run" => {
                let (mut id, mut bundle, mut line) = ("c", self.bundle.clone(), verb.to_owned());
                for word in rest.split_whitespace() {
                    match word.split_once('=') {
                        Some(("id", named)) => id = named,
                        Some(("dir", below)) => bundle.push(below),
                        _ => write!(line, " {word}").expect("a string"),
                    }
                }
                write!(line, " --bundle {}", quoted(&bundle)).expect("a string");
                let code = self.command("out", &format!("{line} '{id}'"), "stdin");
                // What goes on in the background has no code.
                if verb == "run" && !rest.contains("--detach") {
                    told(code, code.to_string())
                } else {
                    success(code)
                }
            }
            "exec" => {
                let code = self.command("out", &words, "/dev/null");
                told(code, code.to_string())
            }
            "state" => self.status(rest),
            "sh" => success((self.shell)(&format!("cd {} && {rest}", quoted(&self.bundle)))),
            "wait" => {
                let (id, wanted) = rest.split_once(' ').expect("an ID and a status");
                let until = Instant::now() + PATIENCE;
                loop {
                    let status = self.status(id);
                    if [wanted, FAILS].contains(&status.split(' ').next().unwrap_or_default())
                        || Instant::now() > until
                    {
                        return status;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            _ => success(self.command("other", &words, "/dev/null")),
        }
    }

    /// The status, and what is wrong with the rest of the state.
    fn status(&self, id: &str) -> String {
        let code = self.command("json", &format!("state {id}"), "/dev/null");
        if code != 0 {
            return success(code);
        }
        let text = read(&self.place("json", self.commands.get()));
        let Ok(state) = serde_json::from_str::<Value>(&text) else { return format!("no JSON: {text}") };
        let mut status = state["status"].as_str().unwrap_or("no status").to_owned();
        let has_process = state["pid"].as_i64().is_some_and(|pid| pid > 0);
        if has_process == (status == "stopped") {
            write!(status, " pid {}", state["pid"]).expect("a string");
        }
        if state["id"] != json!(id)
            || state["bundle"] != json!(self.bundle)
            || !state["ociVersion"].is_string()
        {
            write!(status, " {state}").expect("a string");
        }
        if state["annotations"].as_object().is_some_and(|annotations| !annotations.is_empty()) {
            write!(status, " {}", state["annotations"]).expect("a string");
        }
        status
    }

    /// Runs the runtime. Each command has files of its own for what it says: a runtime may give them to the container's user.
    fn command(&self, kind: &str, words: &str, input: &str) -> i32 {
        let number = self.commands.get() + 1;
        self.commands.set(number);
        let began = Instant::now();
        let code = (self.shell)(&format!(
            "cd {} && exec timeout -s KILL {} {} --root {} {words} <{input} >{} 2>{}",
            quoted(&self.bundle),
            TIMEOUT.as_secs(),
            self.runtime,
            quoted(&self.beside("state")),
            quoted(&self.place(kind, number)),
            quoted(&self.place("err", number)),
        ));
        if began.elapsed() < TIMEOUT { code } else { HUNG }
    }

    fn place(&self, kind: &str, number: u32) -> PathBuf {
        self.beside(&format!("{kind}.{number}"))
    }

    fn beside(&self, name: &str) -> PathBuf {
        let mut path = self.bundle.clone().into_os_string();
        path.push(format!(".{name}"));
        path.into()
    }

    /// All of one kind, in the order of the commands.
    fn said(&self, kind: &str) -> String {
        (1..=self.commands.get()).map(|number| read(&self.place(kind, number))).collect()
    }

    fn wait_for_terminal(&self) -> JoinHandle<String> {
        let listener = UnixListener::bind(&self.socket).expect("a socket");
        std::thread::spawn(move || {
            let Some(terminal) = receive(&listener).1 else { return String::new() };
            let mut seen = Vec::new();
            // EIO at the end of a terminal.
            let _ = File::from(terminal).read_to_end(&mut seen);
            String::from_utf8_lossy(&seen).into_owned()
        })
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn success(code: i32) -> String {
    told(code, if code == 0 { "ok" } else { FAILS }.to_owned())
}

fn told(code: i32, text: String) -> String {
    if code == HUNG { "hangs".to_owned() } else { text }
}
