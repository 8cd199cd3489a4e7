//! Where the result goes: archives, directories, registries, the store; and what is said about it.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{Kitchen, kitchen};
use crate::harness::{Registry, require};

const DOCKERFILE: &str = "FROM base\nRUN echo one >/x\nRUN echo two >/y && rm /x\n";

/// What skopeo says of an archive or layout.
fn skopeo(place: &str) -> Value {
    let output = Command::new(require("skopeo")).args(["inspect", place]).output().expect("skopeo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn archives_and_layouts_are_images_that_others_read() {
    let kitchen = kitchen();
    let out = kitchen.world.directory().join("out");
    fs::create_dir(&out).expect("a directory");
    for (kind, transport) in
        [("type=docker", "docker-archive"), ("type=oci", "oci-archive"), ("type=oci,tar=false", "oci")]
    {
        let path = out.join(transport);
        let option = format!("{kind},dest={}", path.display());
        let id = kitchen.build(DOCKERFILE, &["-q", "-t", "made", "-o", &option]).succeed();
        let found = skopeo(&format!("{transport}:{}", path.display()));
        assert_eq!(found["Layers"].as_array().map(Vec::len), Some(3), "{kind}: {found}");
        // It is where it was asked for, and nowhere else.
        kitchen.world.sbx(["image", "exists", &id]).expect_code(1);
    }
    let piped = kitchen.build(DOCKERFILE, &["-q", "-t", "made", "-o", "type=docker"]).expect_code(0);
    kitchen.world.sbx(["image", "exists", piped.stdout().trim()]).expect_code(0);
    let piped = kitchen.build(DOCKERFILE, &["-t", "piped", "-o", "type=oci"]).expect_code(0);
    kitchen.world.sbx(["load"]).stdin(piped.stdout_bytes()).expect_code(0).stdout_has("piped");
    kitchen.world.run(["--rm", "--net", "none", "piped", "cat", "/y"]).expect_code(0).stdout_is("two\n");
}

#[test]
fn files_and_an_image_may_be_made_at_once() {
    let kitchen = kitchen();
    let out = kitchen.world.directory().join("out");
    let tar = kitchen.world.directory().join("out.tar");
    let options = [format!("type=local,dest={}", out.display()), format!("type=tar,dest={}", tar.display())];
    let dockerfile = "FROM base AS one\nRUN echo x >/x\nFROM scratch\nCOPY --from=one /x /d/\n";
    kitchen.build(dockerfile, &["-q", "-t", "made", "-o", &options[0], "-o", &options[1]]).succeed();
    assert_eq!(fs::read_to_string(out.join("d/x")).expect("a file"), "x\n");
    assert!(fs::metadata(&tar).expect("an archive").len() > 1024);
    kitchen.world.sbx(["image", "exists", "made"]).expect_code(0);
    // Without a name there is none.
    let nothing = kitchen.build(dockerfile, &["--no-cache", "-o", "type=cacheonly"]).expect_code(0);
    nothing.stdout_is("");
    let again = kitchen.build(dockerfile, &["-o", "type=cacheonly"]).expect_code(0);
    assert_eq!(again.stderr().matches("Using cache").count(), 2, "{}", again.stderr());
}

#[test]
fn an_image_is_pushed_when_it_is_built_and_told_of() {
    let kitchen = kitchen();
    let registry = Registry::start();
    let at = |name: &str| format!("{}/{name}", registry.address());
    let told = kitchen.world.directory().join("told.json");
    let push = |options: &[&str]| {
        let told = told.display().to_string();
        let all = [&["-q", "--tls-verify=false", "--metadata-file", &told], options].concat();
        let id = kitchen.build(DOCKERFILE, &all).succeed();
        let told: Value = serde_json::from_slice(&fs::read(&told).expect("a file")).expect("JSON");
        (id, told)
    };
    let remote = |name: &str| {
        let place = format!("docker://{}", at(name));
        let output = Command::new(require("skopeo")).args(["inspect", "--tls-verify=false", &place]).output();
        let output = output.expect("skopeo starts");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let (id, said) = push(&["-t", &at("a:1"), "-t", &at("b"), "--push"]);
    assert_eq!(said["containerimage.config.digest"], format!("sha256:{id}"));
    assert_eq!(said["containerimage.digest"], remote("a:1")["Digest"]);
    assert_eq!(remote("b:latest")["Digest"], remote("a:1")["Digest"]);
    assert_eq!(said["image.name"], format!("{},{}", at("a:1"), at("b:latest")));

    let output = format!("type=registry,name={},compression=zstd,annotation.k=v", at("c"));
    let (_, said) = push(&["-o", &output]);
    assert_eq!(said["containerimage.digest"], remote("c")["Digest"]);
    let raw = Command::new(require("skopeo"))
        .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", at("c"))])
        .output()
        .expect("skopeo starts");
    let raw = String::from_utf8_lossy(&raw.stdout).into_owned();
    assert!(raw.contains("tar+zstd") && raw.contains(r#""annotations":{"k":"v"}"#), "{raw}");
    kitchen.build(DOCKERFILE, &["--push"]).expect_code(125).stderr_has("no name");
}

#[test]
fn squashed_layers_hold_what_all_of_them_did() {
    let kitchen = kitchen();
    kitchen.file("f", "f");
    let dockerfile = "FROM base\nRUN mkdir -p /d/e && echo a >/d/a && echo b >/d/b && ln /d/a /d/hard && chown 3:4 /d/b\n\
                      COPY f /d/\nRUN rm /d/b /etc/group && rm -r /d/e && echo e >/d/e && ln -s a /d/soft\n\
                      RUN echo late >>/etc/passwd\n";
    let look = |options: &[&str]| {
        let all = [&["-q", "-t", "made", "--timestamp", "86400"], options].concat();
        kitchen.build(dockerfile, &all).succeed();
        let script = "find /d /etc /home /var /usr ! -path '/etc/host*' ! -path /etc/resolv.conf | sort | while read f; do \
                      stat -c '%n %A %u:%g' \"$f\"; test -f \"$f\" && stat -c '%h %s' \"$f\" && md5sum <\"$f\"; \
                      done; ls / /bin | wc -l";
        (kitchen.layers("made"), kitchen.shell(script))
    };
    let (layers, files) = look(&[]);
    assert!(files.contains("/d/hard -rw-r--r-- 0:0\n2 2\n") && !files.contains("/etc/group"), "{files}");
    let (squashed, same) = look(&["--squash"]);
    assert_eq!((layers, squashed), (5, 2));
    assert_eq!(same, files);
    let (all, same) = look(&["--squash-all"]);
    assert_eq!((all, same), (1, files.clone()));
    // Nobody looks into the cache for a build that has no steps of its own.
    let (one, same) = look(&["--layers=false"]);
    assert_eq!((one, same), (2, files));
    assert_eq!(kitchen.inspect("made", "{{len .History}}").trim(), (history(&kitchen)).to_string());
    // What vanished before the end is in no layer at all.
    let gone = "FROM base\nRUN echo token-4711 >/secret\nRUN rm /secret\n";
    kitchen.build(gone, &["-q", "-t", "made", "--squash"]).succeed();
    assert_eq!(kitchen.shell("ls -A / | grep secret"), "");
}

/// How many entries the base has, and the four instructions.
fn history(kitchen: &Kitchen) -> usize {
    let base: usize = kitchen.inspect("base", "{{len .History}}").trim().parse().expect("a number");
    base + 4
}

#[test]
fn the_configuration_is_changed_from_outside() {
    let kitchen = kitchen();
    kitchen
        .build("FROM base\nLABEL old=1 kept=1\nENV A=1 B=2\n", &["-q", "-t", "docker.io/library/mine"])
        .succeed();
    let arguments = kitchen.file("arguments", "# two\nX=1\nY=2\n").context().join("arguments");
    let made = |options: &[&str]| {
        let all = [&["-q", "-t", "made"], options].concat();
        kitchen
            .build("FROM base\nARG X=0\nARG Y=0\nLABEL new=$X-$Y\nRUN echo $C-$A >/seen\n", &all)
            .succeed();
        let labels = kitchen.inspect("made", "{{json .Config.Labels}}");
        let variables = kitchen.inspect("made", "{{json .Config.Env}}");
        (labels.trim().to_owned(), variables.trim().to_owned())
    };
    let file = arguments.display().to_string();
    let (labels, variables) = made(&[
        "--from",
        "mine",
        "--build-arg-file",
        &file,
        "--build-arg",
        "X=7",
        "--env",
        "C=it's $A",
        "--unsetenv",
        "B",
        "--unsetlabel",
        "old",
    ]);
    assert_eq!(labels, r#"{"kept":"1","new":"7-2"}"#);
    assert!(
        variables.contains("C=it's $A") && variables.contains("A=1") && !variables.contains("B="),
        "{variables}"
    );
    assert_eq!(kitchen.shell("cat /seen"), "it's $A-1");
    let (labels, _) = made(&["--from", "mine", "--inherit-labels=false", "--label", "l=2", "--omit-history"]);
    assert_eq!(labels, r#"{"l":"2","new":"0-0"}"#);
    assert_eq!(kitchen.inspect("made", "{{len .History}}").trim(), "0");

    let layout = kitchen.world.directory().join("annotated");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    kitchen
        .build("FROM base\n", &["-q", "-o", &output, "--annotation", "manifest:a=b", "--os-version", "7"])
        .succeed();
    let manifest = Command::new(require("skopeo"))
        .args(["inspect", "--raw", &format!("oci:{}", layout.display())])
        .output()
        .expect("skopeo starts");
    assert!(String::from_utf8_lossy(&manifest.stdout).contains(r#""annotations":{"a":"b"}"#), "{manifest:?}");
    kitchen.build("FROM base\n", &["--annotation", "index:a=b"]).expect_code(125).stderr_has("no index");
}

#[test]
fn what_a_build_cannot_honour_is_refused_and_what_it_does_anyway_is_not() {
    let kitchen = kitchen();
    for option in [
        "--rm",
        "--force-rm=true",
        "--compress",
        "-D",
        "--provenance=false",
        "--sbom=false",
        "--attest=type=provenance,disabled=true",
        "--isolation=rootless",
        "--builder=default",
        "--identity-label=false",
        "--rewrite-timestamp",
        "--compat-volumes=false",
        "--created-annotation=false",
        "--userns=host",
        "--load",
        "--no-hosts",
        "--http-proxy=false",
        "--cap-drop=NET_RAW",
        "--network=default",
    ] {
        kitchen.build("FROM base\nRUN true\n", &["-q", option]).expect_code(0);
    }
    for option in [
        "--rm=false",
        "--force-rm=false",
        "--disable-compression=false",
        "--provenance=true",
        "--sbom=true",
        "--attest=type=sbom",
        "--isolation=chroot",
        "--builder=mine",
        "--identity-label",
        "--compat-volumes",
        "--created-annotation",
        "--userns=keep-id",
        "--allow=device",
        "--call=outline",
        "--manifest=x",
        "--all-platforms",
        "--cpp-flag=x",
        "--hooks-dir=x",
        "--sign-by=x",
        "--runtime-flag=x",
        "--logsplit",
        "--cw=type=SNP",
        "--decryption-key=x",
        "--userns-uid-map=0:0:1",
        "--platform=linux/amd64,linux/arm64",
        "--policy=x",
        "--build-context=x",
        "--layer-label=x",
        "--inherit-annotations=false",
        "--no-hostname",
    ] {
        let refused = kitchen.build("FROM base\n", &[option]).expect_code(125);
        let said = refused.stderr();
        assert!(said.contains("Caused by: ") || said.contains("Hint: "), "{option}: {said}");
    }
    kitchen.file("more", "FROM base\n");
    kitchen
        .build("FROM base\n", &["-f", "Dockerfile", "-f", "more"])
        .expect_code(125)
        .stderr_has("more than once");
}

#[test]
fn what_is_said_may_go_to_a_file() {
    let kitchen = kitchen();
    let log = kitchen.world.directory().join("log");
    let shown = log.display().to_string();
    let quiet = kitchen.build("FROM base\nRUN echo from inside\n", &["--logfile", &shown]).expect_code(0);
    quiet.stderr_is("");
    let text = fs::read_to_string(log).expect("a file");
    assert!(text.contains("STEP 2/2: RUN echo from inside\nfrom inside\n"), "{text}");
    kitchen.build("FROM base\n", &["--logfile", "/nothing/x"]).expect_code(125).stderr_has("/nothing/x");
}

#[test]
fn ignored_files_stages_and_caches_are_chosen_by_options() {
    let kitchen = kitchen();
    kitchen.file("a", "a").file("b", "b").file("patterns", "b\n").file(".dockerignore", "a\n");
    let patterns = kitchen.context().join("patterns").display().to_string();
    kitchen.build("FROM base\nCOPY . /all\n", &["-q", "-t", "made", "--ignorefile", &patterns]).succeed();
    assert_eq!(kitchen.shell("ls /all | grep -x '[ab]'"), "a");

    let stages = "FROM base AS one\nRUN exit 3\nFROM base AS two\nRUN true\n";
    kitchen.build(stages, &["-q"]).succeed();
    kitchen.build(stages, &["--skip-unused-stages=false"]).expect_code(3);

    let uuids = "FROM base AS one\nRUN cat /proc/sys/kernel/random/uuid >/u\nFROM one AS two\nRUN cat /proc/sys/kernel/random/uuid >/v\n";
    let look = |options: &[&str]| {
        kitchen.build(uuids, &[&["-q", "-t", "made"], options].concat()).succeed();
        let both = kitchen.shell("cat /u /v");
        let (u, v) = both.split_once('\n').expect("two lines");
        (u.to_owned(), v.to_owned())
    };
    let first = look(&[]);
    let second = look(&["--no-cache-filter", "two"]);
    assert!(first.0 == second.0 && first.1 != second.1, "{first:?} {second:?}");
    assert_eq!(look(&[]), second);
    kitchen.build(uuids, &["--no-cache-filter", "three"]).expect_code(125).stderr_has("no stage");
}

#[test]
fn commands_get_what_the_build_was_given() {
    let kitchen = kitchen();
    let look = |options: &[&str], script: &str| {
        let dockerfile = format!("FROM base\nRUN {script}\n");
        kitchen.build(&dockerfile, &[&["-q", "--no-cache"], options].concat()).expect_code(0);
    };
    look(&["--cap-drop", "all"], "grep -q 'CapEff:.0000000000000000' /proc/self/status");
    look(&["--cap-add", "sys_admin"], "mount -t tmpfs none /tmp");
    look(&["--add-host", "one=1.2.3.4"], "grep -q '1.2.3.4.*one' /etc/hosts");
    look(
        &["--dns", "9.9.9.9", "--dns-search", "example.org", "--network", "private"],
        "grep -q example.org /etc/resolv.conf",
    );
    look(&["--shm-size", "1m"], "df -k /dev/shm | grep -q ' 1024 '");
    look(&["--ulimit", "nofile=77"], "test $(ulimit -n) = 77");
    look(&["--uts", "host"], "true");
    let volume = format!("{}:/brought:ro", kitchen.context().display());
    look(&["--volume", &volume], "grep -q FROM /brought/Dockerfile && ! touch /brought/x");
    let fed =
        kitchen.build("FROM base\nRUN read line && echo $line >/fed\n", &["-q", "-t", "made", "--stdin"]);
    fed.stdin("hello\n").expect_code(0);
    assert_eq!(kitchen.shell("cat /fed"), "hello");

    let insecure = "FROM base\nRUN --security=insecure mount -t tmpfs none /tmp\n";
    kitchen.build(insecure, &[]).expect_code(125).stderr_has("--allow security.insecure");
    kitchen.build(insecure, &["-q", "--allow", "security.insecure"]).succeed();
    kitchen
        .build("FROM base\nRUN mount -t tmpfs none /tmp\n", &["--allow", "security.insecure"])
        .expect_code(1);
}

#[test]
fn scripts_find_the_builder_that_they_ask_for() {
    let kitchen = kitchen();
    let buildx = |words: &[&str]| kitchen.world.sbx(["buildx"]).args(words);
    let version = buildx(&["version"]).succeed();
    assert!(version.starts_with("github.com/docker/buildx v0."), "{version}");
    buildx(&["ls"]).expect_code(0).stdout_has("default*").stdout_has("linux/");
    buildx(&["inspect", "--bootstrap"]).expect_code(0).stdout_has("Status:    running");
    buildx(&["use", "default"]).expect_code(0);
    buildx(&["use", "mine"]).expect_code(125).stderr_has("without a daemon");
    for words in
        [&["create", "--name", "mine", "--use"][..], &["rm", "mine"], &["stop"], &["bake", "-f", "x", "all"]]
    {
        buildx(words).expect_code(125).stderr_has("Hint: ");
    }
    kitchen.file("Dockerfile", "FROM base\nRUN echo x >/x\n");
    let context = kitchen.context().display().to_string();
    let words = ["build", "--load", "--network", "none", "--provenance=false", "-t", "made", &context];
    buildx(&words).expect_code(0);
    assert_eq!(kitchen.shell("cat /x"), "x");
    let used = buildx(&["du"]).expect_code(0).stdout();
    assert_eq!(used.lines().count(), 3, "{used}");
    buildx(&["prune", "-f", "--filter", "until=1h"]).expect_code(0);
    assert_eq!(buildx(&["du"]).succeed().lines().count(), 3);
    let whole = buildx(&["du", "--verbose"]).expect_code(0).stdout();
    assert_eq!(whole.matches("sha256:").count(), 1, "{whole}");
    assert_eq!(
        buildx(&["du", "--filter", "until=1h"]).succeed(),
        "ID   RECLAIMABLE   SIZE   MADE\nTotal: 0B"
    );
    for option in ["--keep-storage=1g", "--reserved-space=1g", "--max-used-space=1g", "--min-free-space=1g"] {
        buildx(&["prune", "-f", option]).expect_code(125).stderr_has("not trimmed to a size");
    }
    buildx(&["prune", "-af", "--verbose"]).expect_code(0).stdout_has("sha256:").stdout_has("Total reclaimed");
    assert_eq!(buildx(&["du"]).succeed(), "ID   RECLAIMABLE   SIZE   MADE\nTotal: 0B");
}
