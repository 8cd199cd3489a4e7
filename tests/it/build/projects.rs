//! Five projects with Dockerfiles as people write them (`tests/projects`): each is built, run, pushed, pulled by somebody
//! else and run there; built again it comes out of the cache, and after a change only what depends on it is made anew.
//!
//! What they install comes from servers of packages on this machine's loopback interface. Containers have one of their
//! own, so they are built with `--network host`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Finished, Message, Registry, Sbx, Server, TestImage, images, repository, require, sbx};

/// Two processors that others want, too.
const PATIENCE: Duration = Duration::from_secs(240);

struct Project {
    world: Sbx,
    registry: Registry,
    name: &'static str,
    options: Vec<String>,
}

impl Project {
    fn new(name: &'static str, bases: &[(TestImage, &str)]) -> Self {
        let world = sbx();
        for (image, base) in bases {
            world.put_image(image, &format!("docker.io/library/{base}:latest"));
        }
        let source = repository().join("tests/projects").join(name);
        world.program("cp").arg("-r").arg(source).arg(world.work()).succeed();
        Self { world, registry: Registry::start(), name, options: Vec::new() }
    }

    fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|word| (*word).to_owned()));
        self
    }

    fn image(&self) -> String {
        format!("{}/{}:1", self.registry.address(), self.name)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.world.work().join(self.name).join(file)
    }

    fn change(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).expect("a file of the project");
        assert!(text.contains(from), "{file} has no `{from}`");
        fs::write(self.path(file), text.replace(from, to)).expect("cannot change a file");
    }

    fn build(&self) -> Built {
        let words = ["build", "--network", "host", "-t"];
        let run = self.world.sbx(words).arg(self.image()).args(&self.options).arg(self.path(""));
        Built(run.timeout(PATIENCE).expect_code(0))
    }

    /// Builds twice; the second time nothing may be made.
    fn build_twice(&self) {
        let first = self.build();
        assert!(!first.made().is_empty(), "{}", first.0.stderr());
        let second = self.build();
        assert_eq!(second.made(), Vec::<String>::new(), "{}", second.0.stderr());
        assert_eq!(second.0.stdout(), first.0.stdout());
        assert!(second.0.elapsed < Duration::from_secs(5), "{:?}", second.0.elapsed);
    }

    /// Somebody else's world, who pulls what this one has pushed.
    fn published(&self) -> Sbx {
        self.world.sbx(["push", "-q", &self.image()]).timeout(PATIENCE).expect_code(0);
        let other = sbx();
        other.sbx(["pull", "-q", &self.image()]).timeout(PATIENCE).expect_code(0);
        other
    }

    /// What the server in the image says, here and in the world of somebody who has pulled it.
    fn says(&self, port: u16, path: &str, wanted: &str) {
        serves(&self.world, &self.image(), port, path, wanted);
        serves(&self.published(), &self.image(), port, path, wanted);
    }

    fn inspect(&self, template: &str) -> String {
        self.world.sbx(["image", "inspect", "--format", template, &self.image()]).succeed()
    }
}

struct Built(Finished);

impl Built {
    /// The instructions that were carried out, and not found.
    fn made(&self) -> Vec<String> {
        let (mut made, said) = (Vec::new(), self.0.stderr());
        // By the stage that stands before them, since others write between.
        let mut steps = BTreeMap::new();
        for line in said.lines() {
            if let Some((stage, text)) = line.split_once("STEP ") {
                steps.insert(stage, text.split_once(": ").map_or(text, |(_, instruction)| instruction));
            } else if let Some((stage, outcome)) = line.split_once("--> ")
                && let Some(step) = steps.get(stage)
                && !outcome.starts_with("Using cache")
            {
                made.push((*step).to_owned());
            }
        }
        made
    }

    /// The same by their first words.
    #[track_caller]
    fn made_only(&self, wanted: &[&str]) {
        let made = self.made();
        let same = made.len() == wanted.len() && made.iter().zip(wanted).all(|(made, w)| made.starts_with(w));
        assert!(same, "{made:#?}\n{}", self.0.stderr());
    }
}

/// Runs it, and asks it until it answers; then it is well, and ends when it is asked to.
fn serves(world: &Sbx, image: &str, port: u16, path: &str, wanted: &str) {
    let published = format!("127.0.0.1::{port}");
    let id = world.run(["-d", "-p", &published, image]).expect_code(0).stdout();
    let id = id.trim();
    let address = world.sbx(["port", id, &port.to_string()]).succeed();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut text = String::new();
        let asked = TcpStream::connect(&address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut text)
        });
        if asked.is_ok() && text.contains(" 200 ") {
            assert!(text.ends_with(wanted), "{text}");
            break;
        }
        let logs = || world.sbx(["logs", id]).finish().stderr();
        assert!(Instant::now() < until, "it never answered: {asked:?} {text} {}", logs());
        std::thread::sleep(Duration::from_millis(20));
    }
    if world.sbx(["inspect", "-f", "{{json .Config.Healthcheck}}", id]).succeed() != "null" {
        world.sbx(["healthcheck", "run", id]).expect_code(0);
    }
    world.sbx(["rm", "-f", "-v", "-t", "5", id]).expect_code(0);
    world.assert_clean();
}

/// A web server for a directory; as those of npm it gives a directory's `index.html` without a slash at the end.
fn served(directory: &Path) -> Server {
    let directory = directory.to_owned();
    Server::answering(move |request| {
        let path = request.target().split('?').next().unwrap_or_default();
        let mut file = directory.clone();
        file.extend(path.split('/').filter(|part| !["", ".", ".."].contains(part)));
        if file.is_dir() {
            file.push("index.html");
        }
        match fs::read(file) {
            Ok(content) => Message::answer(200, content).header("Content-Type", "text/html"),
            Err(_) => Message::answer(404, "there is no such file"),
        }
    })
}

/// The package that two of the projects use, where pip and npm look for it.
fn publish(world: &Sbx) -> PathBuf {
    let directory = world.directory().join("published");
    let made = Command::new(require("python3"))
        .arg(repository().join("tests/projects/publish"))
        .arg(&directory)
        .output()
        .expect("python3 starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    directory
}

#[test]
fn a_c_project_is_one_static_program_on_nothing() {
    let archive = served(&images().archive());
    let source = format!("APT_SOURCE=deb [trusted=yes] http://{}/ ./", archive.address());
    let project = Project::new("c", &[(images().debian(), "debian")]).with(&[
        "--build-arg",
        &source,
        "--build-arg",
        "VERSION=1.2.3",
    ]);
    project.build_twice();
    let says = |world: &Sbx, words: &[&str]| {
        let run = world.run(["--rm", "-i", "--net", "none", &project.image()]).args(words);
        run.stdin("one two\nthree\n").succeed()
    };
    let other = project.published();
    for world in [&project.world, &other] {
        assert_eq!(says(world, &[]), "count 1.2.3, as user 65534");
        assert_eq!(says(world, &["-"]), "2 lines, 3 words");
    }
    assert_eq!(project.inspect("{{len .RootFS.Layers}} {{.Config.User}}"), "1 65534:65534");

    // The packages stay, and so does the Makefile.
    project.change("src/count.c", "%lu lines, %lu words", "%lu lines and %lu words");
    project.change("Makefile", "2 lines, 3 words", "2 lines and 3 words");
    project.build().made_only(&["COPY Makefile", "COPY src/", "RUN make", "COPY --from=build"]);
    assert_eq!(says(&project.world, &["-"]), "2 lines and 3 words");
    project.change("src/count.c", "as user", "by user");
    project.build().made_only(&["COPY src/", "RUN make", "COPY --from=build"]);
    assert_eq!(says(&project.world, &[]), "count 1.2.3, by user 65534");
}

#[test]
fn a_rust_project_builds_its_dependencies_once() {
    let bases = [(images().rust(), "rust"), (images().debian(), "debian")];
    let project = Project::new("rust", &bases);
    project.build_twice();
    project.says(8000, "/", "hello, rust, as user 10001\n");

    // What .dockerignore keeps out changes nothing.
    fs::write(project.path("README.md"), "read me").expect("a file");
    project.build().made_only(&[]);
    project.change("src/main.rs", "as user", "by user");
    project.build().made_only(&["COPY src src", "RUN --mount=type=cache", "COPY --from=build"]);
    serves(&project.world, &project.image(), 8000, "/", "hello, rust, by user 10001\n");
}

#[test]
fn a_python_project_installs_from_an_index_with_hashes() {
    let project = Project::new("python", &[(images().python(), "python")]);
    let index = served(&publish(&project.world));
    let argument = format!("PIP_INDEX_URL=http://{}/simple", index.address());
    let project = project.with(&["--build-arg", &argument]);
    project.build_twice();
    project.says(8000, "/", "hello, python, as user 1234, started by the entry point\n");

    project.change("app/__main__.py", "as user", "by user");
    project.build().made_only(&["COPY --chown=app:app app"]);
    let said = "hello, python, by user 1234, started by the entry point\n";
    serves(&project.world, &project.image(), 8000, "/", said);

    // Another package than the one that was locked is not installed.
    let wheel = project.world.directory().join("published/simple/greeting/greeting-1.0.0-py3-none-any.whl");
    let mut bytes = fs::read(&wheel).expect("the wheel");
    bytes.push(0);
    fs::write(&wheel, bytes).expect("cannot write");
    let words = ["build", "--no-cache", "--network", "host"];
    let refused = project.world.sbx(words).args(&project.options).arg(project.path("")).timeout(PATIENCE);
    let said = refused.expect_code(1).stderr_has("Dockerfile:10:1: ").stderr();
    assert!(said.contains("RUN --mount=type=cache,target=/root/.cache/pip"), "{said}");
}

#[test]
fn a_node_project_is_tested_on_the_way() {
    let project = Project::new("node", &[(images().node(), "node")]);
    let registry = served(&publish(&project.world).join("npm"));
    let argument = format!("NPM_CONFIG_REGISTRY=http://{}/", registry.address());
    let project = project.with(&["--build-arg", &argument]);
    fs::create_dir(project.path("node_modules")).expect("a directory");
    fs::write(project.path("node_modules/mine"), "not for the image").expect("a file");
    project.build_twice();
    project.says(3000, "/", "hello, node, as user 1000\n");
    let inside = ["--rm", "--net", "none", &project.image(), "ls", "node_modules"];
    assert_eq!(project.world.run(inside).succeed(), "greeting");

    project.change("server.js", "as user", "by user");
    let made = project.build();
    // What comes from other stages stands above the mark of the tests.
    let copies = ["COPY --from=test", "COPY --from=dependencies", "COPY --chown=node:node"];
    made.made_only(&[&["COPY . .", "RUN npm test"][..], &copies].concat());
    serves(&project.world, &project.image(), 3000, "/", "hello, node, by user 1000\n");
    // A test that fails ends the build with its code, and the image stays what it was.
    project.change("test.js", "hello, test", "goodbye, test");
    let words = ["build", "--network", "host", "-t", &project.image()];
    let failed = project.world.sbx(words).args(&project.options).arg(project.path("")).expect_code(1);
    failed.stderr_has("Dockerfile:14:1: ").stderr_has("RUN npm test");
    serves(&project.world, &project.image(), 3000, "/", "hello, node, by user 1000\n");
}

#[test]
fn a_web_server_comes_with_its_pages_and_its_configuration() {
    let project = Project::new("web", &[(images().debian(), "debian")]);
    let archive = served(&images().archive());
    let sources = project.world.directory().join("sources");
    let line = format!("deb [trusted=yes] http://{}/ ./\n", archive.address());
    fs::write(&sources, &line).expect("a file");
    let secret = format!("id=apt-sources,src={}", sources.display());
    let project = project.with(&["--secret", &secret, "--build-arg", "REVISION=r7"]);
    project.build_twice();
    project.says(8080, "/", "<p>hello, web, revision r7</p>\n");
    let run = |user: &str, script: &str| {
        let words = ["--rm", "--net", "none", "--entrypoint", "sh"];
        project.world.run(words).args(["-u", user, &project.image(), "-c", script]).succeed()
    };
    // The secret and the caches are nowhere in the image.
    assert_eq!(run("root", "find /etc/apt/sources.list.d /var/lib/apt/lists /var/cache/apt -type f"), "");
    assert_eq!(
        run("www-data", "id -un; ls /srv/www; stat -c %U:%a /srv/www/index.html /docker-entrypoint.sh"),
        "www-data\nindex.html\nindex.html.gz\nwww-data:644\nroot:755"
    );

    project.change("site/index.html", "hello", "goodbye");
    project.build().made_only(&["COPY site/ .", "RUN find", "COPY --from=site"]);
    serves(&project.world, &project.image(), 8080, "/", "<p>goodbye, web, revision r7</p>\n");
    serves(&project.world, &project.image(), 8080, "/health", "well\n");
}
