//! Every other command of sbx: help, versions, completions, manual pages, `info`, `doctor`, `unshare`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{Sbx, require, rootfs, sbx};

const VERBS: [&str; 9] = ["run", "ps", "rm", "unshare", "doctor", "info", "version", "completion", "man"];

/// Everything below a directory, to see that nothing was made.
fn tree(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory").flatten() {
            if entry.file_type().expect("a type").is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}\n{text}"))
}

#[test]
fn alone_it_prints_help() {
    let world = sbx();
    world.sbx::<&str>([]).expect_code(0).stderr_is("").stdout_has("Usage: sbx").stdout_has("Examples:");
}

#[test]
fn help_of_every_command_has_examples_and_fits_a_terminal() {
    let world = sbx();
    for verb in VERBS {
        let short = world.sbx([verb, "--help"]).env("COLUMNS", "80").expect_code(0).stderr_is("").stdout();
        assert!(short.contains("Usage: sbx ") && short.contains("Examples:"), "{verb}:\n{short}");
        assert!(short.contains(&format!("sbx {verb}")), "{verb}:\n{short}");
        let mut pty = world.pty([verb, "--help"]);
        assert_eq!(pty.finish(), 0);
        let long = pty.screen().lines().map(|line| plain(line).chars().count()).max();
        assert!(long.unwrap_or(0) <= 80, "{verb}: a line of {long:?} columns:\n{}", pty.screen());
    }
}

/// A line without its colours.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.trim_end_matches('\r').chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            characters.find(char::is_ascii_alphabetic);
        } else {
            text.push(character);
        }
    }
    text
}

#[test]
fn the_version_is_told_in_three_ways() {
    let world = sbx();
    let short = world.sbx(["--version"]).succeed();
    assert!(short.starts_with(concat!("sbx ", env!("CARGO_PKG_VERSION"), ", ")), "{short}");
    assert_eq!(world.sbx(["-v"]).succeed(), short);
    let long = world.sbx(["version"]).succeed();
    assert!(long.contains(env!("CARGO_PKG_VERSION")), "{long}");
}

#[test]
fn version_speaks_json_and_templates() {
    let world = sbx();
    let text = world.sbx(["version", "--format", "json"]).succeed();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    json(&text);
    assert_eq!(
        world.sbx(["version", "--format", "{{.Client.Version}}"]).succeed(),
        env!("CARGO_PKG_VERSION")
    );
    world.sbx(["version", "--format", "{{.NoSuch}}"]).expect_code(125).stdout_is("").stderr_has("Error: ");
    world.sbx(["version", "--format", "{{"]).expect_code(125).stdout_is("").stderr_has("Error: ");
}

#[test]
fn info_tells_of_the_host_and_makes_nothing() {
    let world = sbx();
    let before = tree(world.directory());
    let text = world.sbx(["info"]).succeed();
    assert!(text.contains(&*rustix::system::uname().release().to_string_lossy()), "{text}");
    let whole = json(&world.sbx(["info", "--format", "json"]).succeed());
    assert!(whole["host"].is_object() && whole["store"].is_object(), "{whole}");
    let os = world.sbx(["info", "--format", "{{.Host.OS}}"]).succeed();
    assert_eq!(os, "linux");
    assert_eq!(world.sbx(["info", "--format", "{{.host.os}}"]).succeed(), os);
    world.sbx(["info", "--format", "{{.Host.NoSuch}}"]).expect_code(125).stdout_is("").stderr_has("Error: ");
    assert_eq!(tree(world.directory()), before);
}

#[test]
fn info_counts_containers() {
    let world = sbx();
    for code in ["0", "1"] {
        let script = format!("exit {code}");
        world
            .run(["--net", "none", "--rootfs"])
            .arg(rootfs())
            .args(["sh", "-c", &script])
            .expect_code(code.parse().expect("a number"));
    }
    let mut running = world
        .run(["--rm", "--net", "none", "--init", "--rootfs"])
        .arg(rootfs())
        .args(["sh", "-c", "echo up; exec sleep 1000"])
        .spawn();
    running.wait_for_stdout("up");
    let whole = json(&world.sbx(["info", "--format", "json"]).succeed());
    running.signal(Signal::SIGTERM);
    running.finish().code_is(143);
    let counts = &whole["store"]["containerStore"];
    assert_eq!(
        (&counts["number"], &counts["running"], &counts["stopped"]),
        (&3.into(), &1.into(), &2.into()),
        "{whole}"
    );
}

#[test]
fn verbs_that_only_look_need_no_home() {
    for verb in ["info", "version", "doctor"] {
        let world = sbx().env_remove("HOME").env_remove("XDG_DATA_HOME").env_remove("XDG_RUNTIME_DIR");
        let before = tree(world.directory());
        let finished = world.sbx([verb]).finish();
        // doctor may find something missing, which is its answer.
        let code = finished.code();
        assert!(code == 0 || (verb == "doctor" && code == 1), "{verb}: {code}\n{}", finished.stderr());
        assert!(!finished.stdout().is_empty(), "{verb}: {}", finished.stderr());
        assert_eq!(tree(world.directory()), before, "{verb}");
    }
}

#[test]
fn doctor_says_for_each_check_what_it_found() {
    let world = sbx();
    let before = tree(world.directory());
    let finished = world.sbx(["doctor"]).finish();
    assert!([0, 1].contains(&finished.code()), "{}", finished.stderr());
    let text = finished.stdout();
    for subject in ["user namespaces", "newuidmap", "fuse-overlayfs", "slirp4netns", "cgroup"] {
        assert!(text.to_lowercase().contains(subject), "nothing about {subject}:\n{text}");
    }
    let whole = json(&world.sbx(["doctor", "--format", "json"]).finish().stdout());
    assert!(!whole.to_string().is_empty());
    assert_eq!(tree(world.directory()), before);
    world.sbx(["doctor", "--format", "{{.NoSuch"]).expect_code(125).stdout_is("");
}

#[test]
fn doctor_fails_where_something_needed_is_missing_and_tells_the_mend() {
    let world = sbx();
    let finished = world.sbx(["--root", "/proc/no-place", "doctor"]).finish();
    let text = finished.stdout();
    assert!(text.contains("missing  store") && text.contains("mend: "), "{text}");
    assert_eq!(finished.code(), 1, "{text}");
    let whole =
        json(&world.sbx(["--root", "/proc/no-place", "doctor", "--format", "json"]).expect_code(1).stdout());
    assert!(whole.to_string().contains("SBX_ROOT"), "{whole}");
}

fn script_for(world: &Sbx, shell: &str) -> std::path::PathBuf {
    let script = world.sbx(["completion", shell]).expect_code(0).stderr_is("").stdout();
    assert!(script.contains("unshare") && script.contains("rootfs"), "{shell}: {} bytes", script.len());
    world.file(shell, script)
}

#[test]
fn completions_are_made_for_every_shell() {
    let world = sbx();
    for shell in ["bash", "zsh", "fish", "elvish"] {
        script_for(&world, shell);
    }
    let refused = world.sbx(["completion", "tcsh"]).expect_code(125).stdout_is("").stderr_has("Error: ");
    assert!(refused.stderr().contains("bash, elvish, fish"), "{}", refused.stderr());
    world.sbx(["completion"]).expect_code(125).stdout_is("").stderr_has("Error: ");
}

#[test]
fn bash_completes_commands_and_options() {
    let world = sbx();
    let script = script_for(&world, "bash");
    let ask = |words: &str, last: &str, verb: &str| {
        let count = words.split(' ').count();
        let text = format!(
            "set -e; . '{}'; COMP_WORDS=(sbx {words} '{last}'); COMP_CWORD={}; \
             set +e; _sbx sbx '{last}' {verb}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            if words.is_empty() { 1 } else { count + 1 }
        );
        world.program("bash").args(["--norc", "-c", &text]).expect_code(0).stderr_is("").stdout()
    };
    assert_eq!(ask("", "unsh", "sbx"), "unshare\n");
    let options = ask("run", "--ro", "run");
    assert!(options.lines().any(|line| line == "--rootfs"), "{options}");
}

/// A world with something of each kind to name.
fn world_with_names() -> Sbx {
    let world = sbx();
    let rootfs = crate::harness::rootfs();
    for name in ["web", "worker"] {
        world.sbx(["create", "--net=none", "--name", name, "--rootfs"]).arg(rootfs).arg("true").succeed();
    }
    world.put_image(&crate::harness::images().busybox(), "tool:1");
    world.sbx(["volume", "create", "data"]).succeed();
    world.sbx(["network", "create", "shop"]).succeed();
    world
}

#[test]
fn bash_completes_the_names_of_what_there_is() {
    let world = world_with_names();
    let script = script_for(&world, "bash");
    let ask = |line: &str| {
        let last = line.rsplit(' ').next().unwrap_or_default();
        // As bash hands it over: words are divided at colons, too.
        let last = last.rsplit(':').next().unwrap_or_default();
        let text = format!(
            ". '{}'; COMP_LINE='{line}'; COMP_POINT={}; read -ra COMP_WORDS <<<\"${{COMP_LINE//:/ : }}\"; \
             COMP_WORDS[0]=$SBX; [[ '{last}' ]] || COMP_WORDS+=(''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _sbx_with_names \"$SBX\" '{last}' x; echo \"${{COMPREPLY[*]}}\"",
            script.display(),
            line.len(),
        );
        let bash = world.program("bash").args(["--norc", "-c", &text]);
        bash.env("SBX", crate::harness::sbx_binary()).expect_code(0).stderr_is("").stdout().trim().to_owned()
    };
    for (line, words) in [
        ("sbx rm we", "web"),
        ("sbx rm -f -t 5 web wo", "worker"),
        ("sbx --root /nowhere rm -f -t 5 web wo", ""),
        ("sbx container start wor", "worker"),
        // Nothing runs.
        ("sbx exec w", ""),
        ("sbx exec -it -u root ", ""),
        ("sbx logs --tail 3 -f we", "web"),
        ("sbx run --rm -it to", "tool:1"),
        // The part behind the colon alone is what bash replaces.
        ("sbx run tool:", "1"),
        ("sbx run ho", "host"),
        // Those are words of the command.
        ("sbx run --rm host --ne", ""),
        ("sbx run --net sh", "shop"),
        ("sbx network connect shop we", "web"),
        ("sbx network connect shop web w", ""),
        ("sbx volume rm da", "data"),
        ("sbx volume create da", ""),
        ("sbx inspect dat", "data"),
        ("sbx cp we", "web:"),
        ("sbx rm --for", "--force"),
        ("sbx volu", "volume"),
    ] {
        assert_eq!(ask(line), words, "{line}");
    }
}

/// A directory of the world with `sbx` in it, for PATH.
fn path_with_sbx(world: &Sbx) -> String {
    let directory = world.work().join("bin");
    std::fs::create_dir(&directory).expect("a directory");
    std::os::unix::fs::symlink(crate::harness::sbx_binary(), directory.join("sbx")).expect("a link");
    format!("{}:/usr/bin:/bin", directory.display())
}

#[test]
fn fish_completes_the_names_of_what_there_is() {
    let world = world_with_names();
    let (script, path) = (script_for(&world, "fish"), path_with_sbx(&world));
    for (line, words) in [
        ("sbx rm we", "web"),
        ("sbx container start wor", "worker"),
        ("sbx run --rm -it to", "tool:1"),
        ("sbx run --net sh", "shop"),
        ("sbx volume rm da", "data"),
        ("sbx cp we", "web:"),
        ("sbx exec web l", ""),
    ] {
        let text = format!("source '{}'; complete -C '{line}'", script.display());
        let fish = world.program(require("fish")).args(["--no-config", "-c", &text]).env("PATH", &path);
        assert_eq!(fish.expect_code(0).stdout().trim(), words, "{line}");
    }
}

#[test]
fn zsh_completes_the_names_of_what_there_is() {
    let world = world_with_names();
    let (script, path) = (script_for(&world, "zsh"), path_with_sbx(&world));
    std::fs::rename(&script, script.with_file_name("_sbx")).expect("cannot rename");
    let directory = script.parent().expect("a directory").display().to_string();
    // Types a line and the tab key on a terminal, and shows what the line is then.
    let ask = r#"
        zmodload zsh/zpty
        zpty shell "zsh -f -i"
        zpty -w shell "fpath=(\$FUNCTIONS \$fpath); autoload -Uz compinit; compinit -u -D; bindkey '^I' complete-word"
        zpty -w shell "show() { print -r -- \"<\$BUFFER>\" }; zle -N show; bindkey '^X' show; echo ready-\$((1 + 1))"
        zpty -r shell out '*ready-2*'
        zpty -w -n shell "$1"$'\t\x18'
        zpty -r shell out '*<*>*'
        print -r -- "${${out##*<}%%>*}""#;
    for (line, whole) in [
        ("sbx rm we", "sbx rm web "),
        ("sbx run --rm -it to", "sbx run --rm -it tool:1 "),
        ("sbx network rm sh", "sbx network rm shop "),
        ("sbx cp we", "sbx cp web:"),
        ("sbx rm --forc", "sbx rm --force "),
    ] {
        let zsh = world.program(require("zsh")).args(["-f", "-c", ask, "zsh", line]);
        let shown = zsh.env("PATH", &path).env("FUNCTIONS", &directory).expect_code(0).stdout();
        assert_eq!(shown.trim_end_matches('\n'), whole);
    }
}

#[test]
fn manual_pages_render_without_a_warning() {
    let world = sbx();
    require("man");
    let directory = world.work().join("man1");
    world.sbx(["man"]).arg(&directory).expect_code(0).stdout_is("").stderr_is("");
    for page in [
        "sbx",
        "sbx-run",
        "sbx-ps",
        "sbx-rm",
        "sbx-unshare",
        "sbx-doctor",
        "sbx-info",
        "sbx-version",
        "sbx-completion",
    ] {
        let file = directory.join(format!("{page}.1"));
        assert!(file.is_file(), "{} is missing", file.display());
        let text = world
            .program("man")
            .args(["--warnings", "-l"])
            .arg(&file)
            .env("MANWIDTH", "80")
            .env("MANPAGER", "cat")
            .expect_code(0)
            .stderr_is("")
            .stdout();
        assert!(text.contains("NAME") && text.contains("SYNOPSIS"), "{page}:\n{text}");
    }
    for of_help in ["sbx-help-run", "sbx-image-help"] {
        assert!(!directory.join(format!("{of_help}.1")).exists(), "{of_help} says nothing");
    }
    let page = world.sbx(["man"]).expect_code(0).stdout();
    assert!(page.contains(".TH sbx"), "{page}");
}

#[test]
fn unshare_is_root_of_the_callers_range() {
    let world = sbx();
    assert_eq!(world.sbx(["unshare", "id", "-u"]).succeed(), "0");
    let map = world.sbx(["unshare", "cat", "/proc/self/uid_map"]).succeed();
    let lines: Vec<Vec<u64>> = map
        .lines()
        .map(|line| line.split_whitespace().map(|number| number.parse().expect("a number")).collect())
        .collect();
    let own = u64::from(nix::unistd::geteuid().as_raw());
    assert_eq!(lines[0], [0, own, 1], "{map}");
    assert!(lines.len() > 1 && lines[1][2] >= 65536, "no subordinate range is mapped:\n{map}");
    let single = world.sbx(["unshare", "--id-tier", "single", "cat", "/proc/self/uid_map"]).succeed();
    assert_eq!(single.split_whitespace().collect::<Vec<_>>(), ["0", &own.to_string(), "1"]);
}

#[test]
fn unshare_passes_words_streams_environment_and_directory() {
    let world = sbx().env("MINE", "kept");
    world
        .sbx(["unshare", "sh", "-c", "cat; echo $MINE; echo err >&2; pwd", "--rm"])
        .stdin("in\n")
        .expect_code(0)
        .stdout_is(&format!("in\nkept\n{}\n", world.work().display()))
        .stderr_is("err\n");
}

#[test]
fn unshare_ends_as_its_command_does() {
    let world = sbx();
    for code in [0, 1, 42, 255] {
        world.sbx(["unshare", "sh", "-c", &format!("exit {code}")]).expect_code(code);
    }
    world.sbx(["unshare", "sh", "-c", "kill -TERM $$"]).expect_code(143);
    world.sbx(["unshare", "no-such-command"]).expect_code(127).stdout_is("").stderr_has("Error: ");
    world.sbx(["unshare", "/etc"]).expect_code(126).stdout_is("").stderr_has("Error: ");
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.02; done";
    let mut running = world.sbx(["unshare", "sh", "-c", script]).spawn();
    running.wait_for_stdout("up");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(9);
}

#[test]
fn unshare_starts_a_shell_with_the_terminals_job_control() {
    let world = sbx().env("SHELL", "/bin/bash");
    let mut pty = world.pty(["unshare"]);
    pty.send_line("PS1='>> '; echo shell $0 $(id -u)");
    pty.expect("shell /bin/bash 0");
    pty.send_line("sleep 1000");
    pty.expect("sleep 1000");
    std::thread::sleep(std::time::Duration::from_millis(200));
    pty.send("\x1a");
    pty.expect("Stopped");
    pty.expect(">> ");
    pty.send_line("fg");
    pty.expect("fg\r\n");
    pty.expect("sleep 1000");
    std::thread::sleep(std::time::Duration::from_millis(200));
    pty.send("\x03");
    pty.expect(">> ");
    pty.send_line("exit 6");
    assert_eq!(pty.finish(), 6);
}

#[test]
fn unshare_removes_what_containers_leave() {
    let world = sbx();
    let tree = world.work().join("tree");
    std::fs::create_dir(&tree).expect("a directory");
    let volume = format!("{}:/tree", tree.display());
    world
        .run(["--rm", "--net", "none", "-v", &volume, "--rootfs"])
        .arg(rootfs())
        .args(["sh", "-c", "mkdir /tree/d; echo x >/tree/d/f; chmod 700 /tree/d; chown -R 33:33 /tree/d"])
        .expect_code(0);
    let owner = std::fs::metadata(tree.join("d")).expect("a directory").uid();
    assert_ne!(owner, nix::unistd::geteuid().as_raw());
    if !nix::unistd::geteuid().is_root() {
        assert!(std::fs::remove_dir_all(&tree).is_err(), "the caller can remove it without help");
    }
    world.sbx(["unshare", "rm", "-r"]).arg(&tree).expect_code(0);
    assert!(!tree.exists());
}

#[test]
fn info_shows_registries_and_mirrors() {
    let world = sbx();
    let config = world.file(
        "registries.conf",
        "unqualified-search-registries = ['quay.io']\n[[registry]]\nlocation = 'docker.io'\n\
         [[registry.mirror]]\nlocation = 'localhost:5000'\ninsecure = true\n\
         [[registry]]\nprefix = '*.bad.example'\nblocked = true\n",
    );
    let world = world.env("CONTAINERS_REGISTRIES_CONF", &config);
    let registries = &json(&world.sbx(["info", "--format", "json"]).succeed())["registries"];
    assert_eq!(registries["search"][0], "quay.io");
    assert_eq!(registries["docker.io"]["Mirrors"][0]["Location"], "localhost:5000");
    assert_eq!(registries["docker.io"]["Mirrors"][0]["Insecure"], true);
    assert_eq!(registries["*.bad.example"]["Blocked"], true);
    world.sbx(["info", "-f", "{{.RegistryConfig.Mirrors}}"]).expect_code(0).stdout_is("[localhost:5000]\n");
    world.sbx(["info"]).expect_code(0).stdout_has("\n  \"*.bad.example\":\n");
}
