//! sbx called by the names `podman` and `docker`.

use serde_json::Value;

use crate::harness::{Sbx, image, rootfs, sbx_by_all_names};

fn kept(world: &Sbx, name: &str) {
    let options = ["--net=none", "--name", name, "--label=a=b", "--label=c=d", "--rootfs"];
    world.run(options).arg(rootfs()).args(["sh", "-c", "exit 3"]).expect_code(3);
}

#[test]
fn the_version_is_that_of_the_program_whose_name_it_has() {
    let world = sbx_by_all_names();
    let podman = world.called("podman", &["--version"]).succeed();
    let number = podman.strip_prefix("podman version ").expect("podman's words").to_owned();
    assert!(number.starts_with("5."), "{podman}");
    // As podman-compose asks.
    assert_eq!(world.called("podman", &["--version", ""]).succeed(), podman);
    assert_eq!(world.called("podman", &["version", "-f", "{{.Client.Version}}"]).succeed(), number);
    let own = world.called("sbx", &["--version", ""]).succeed();
    assert!(own.starts_with("sbx ") && own.ends_with(&format!(" podman {number}")), "{own}");

    let docker = world.called("docker", &["-v"]).succeed();
    let number = world.called("docker", &["version", "--format", "{{.Server.Version}}"]).succeed();
    assert!(docker.starts_with(&format!("Docker version {number}, build ")), "{docker}");
    let json = world.called("docker", &["version", "-f", "{{json .}}"]).succeed();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    for side in ["Client", "Server"] {
        let api = json[side]["ApiVersion"].as_str().expect("an API version");
        assert!(api.split_once('.').is_some_and(|(_, minor)| minor.parse::<u32>().expect("a number") >= 41));
    }
}

#[test]
fn failures_look_as_that_program_s() {
    let world = sbx_by_all_names();
    for (name, code, words) in
        [("podman", 1, "Error: "), ("docker", 1, "Error response from daemon: "), ("sbx", 1, "Error: ")]
    {
        let said = world.called(name, &["rm", "nothing"]).expect_code(code).stderr();
        assert!(said.starts_with(words), "{name}: {said}");
    }
    for (name, code) in [("podman", 125), ("docker", 1)] {
        let missing = world.called(name, &["inspect", "nothing"]).expect_code(code).stdout_is("[]\n");
        missing.stderr_has("no such object: \"nothing\"");
    }
    world.called("docker", &["run", "--rootfs", "/nowhere", "true"]).expect_code(125);
}

#[test]
fn lists_in_json_are_those_of_that_program() {
    let world = sbx_by_all_names();
    kept(&world, "first");
    kept(&world, "second");
    let list = ["ps", "-a", "--format", "json"];
    let podman: Value = serde_json::from_str(&world.called("podman", &list).succeed()).expect("an array");
    let podman = podman.as_array().expect("an array");
    assert_eq!(podman.len(), 2);
    assert_eq!(podman[0]["Names"], serde_json::json!(["second"]));
    assert_eq!(podman[0]["Labels"], serde_json::json!({ "a": "b", "c": "d" }));
    assert_eq!((podman[1]["State"].as_str(), podman[1]["ExitCode"].as_i64()), (Some("exited"), Some(3)));
    assert_eq!(podman[1]["Id"].as_str().map(str::len), Some(64));

    for format in ["json", "{{json .}}"] {
        let docker = world.called("docker", &["ps", "-a", "--format", format]).succeed();
        let rows: Vec<Value> =
            docker.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
        assert_eq!(rows.len(), 2, "{docker}");
        assert_eq!((rows[1]["Names"].as_str(), rows[1]["Labels"].as_str()), (Some("first"), Some("a=b,c=d")));
        assert_eq!(rows[1]["Command"], "\"sh -c exit 3\"");
    }
    assert_eq!(world.called("docker", &["inspect", "-f", "{{.Name}}", "first"]).succeed(), "/first");
    assert_eq!(world.called("podman", &["inspect", "-f", "{{.Name}}", "first"]).succeed(), "first");
}

#[test]
fn images_in_json_are_an_object_a_line_to_docker() {
    let world = sbx_by_all_names();
    image().runnable().load(&world, "tool:1");
    let line = world.called("docker", &["images", "--format", "json"]).succeed();
    let row: Value = serde_json::from_str(&line).expect("an object");
    assert_eq!((row["Repository"].as_str(), row["Tag"].as_str()), (Some("tool"), Some("1")));
    let all = world.called("podman", &["images", "--format", "json"]).succeed();
    assert!(serde_json::from_str::<Value>(&all).expect("JSON").is_array(), "{all}");
    // cross looks for the word.
    assert!(world.called("sbx", &["--help"]).succeed().contains("podman"));
}

#[test]
fn what_clients_ask_of_the_host_and_of_images_is_there() {
    let world = sbx_by_all_names();
    assert_eq!(
        world.called("podman", &["info", "-f", "{{.Host.Security.SELinuxEnabled}}"]).succeed(),
        "false"
    );
    world.called("docker", &["info", "-f", "{{.Runtimes.nvidia}}"]).expect_code(0);
    image().runnable().load(&world, "tool");
    let platform =
        world.called("podman", &["image", "inspect", "tool", "--format", "{{.Os}}/{{.Architecture}}"]);
    assert!(platform.succeed().starts_with("linux/"));
    world.called("podman", &["image", "inspect", "nothing", "--format", "{{.Os}}"]).expect_code(125);
}

#[test]
fn what_clients_put_on_the_line_of_run_is_honoured() {
    let world = sbx_by_all_names();
    let run = |options: &[&str], script: &str| {
        let fixed = ["run", "--rm", "--net=none", "--sig-proxy=false"];
        let run = world.called("podman", &fixed).args(options).arg("--rootfs").arg(rootfs());
        run.args(["sh", "-c", script]).finish()
    };
    let script = "echo out; echo error >&2; exit 4";
    run(&["-a", "STDOUT", "-a", "STDERR"], script).code_is(4).stdout_is("out\n").stderr_is("error\n");
    run(&["-a", "stdout"], script).code_is(4).stdout_is("out\n").stderr_is("");
    run(&["--attach=STDERR"], script).code_is(4).stdout_is("").stderr_is("error\n");
    run(&["-a", "stderr"], "sleep 0; exit 0").code_is(0).stdout_is("");
    run(&["-a", "stdin"], "true").code_is(125).stderr_has("add `-i`");
    run(&["-a", "somewhere"], "true").code_is(125).stderr_has("stdin, stdout, stderr");
    run(&["--security-opt", "label=disable", "--init", "--annotation", "a=b"], "true").code_is(0);
}

#[test]
fn a_container_takes_the_place_of_another() {
    let world = sbx_by_all_names();
    let run = |options: &[&str], script: &str| {
        let run = world.called("podman", &["run", "--net=none"]).args(options).arg("--rootfs").arg(rootfs());
        run.args(["sh", "-c", script])
    };
    let first = run(&["-d", "--name=web", "--stop-timeout=0"], "sleep 1000").expect_code(0).stdout();
    run(&["-d", "--name=web"], "true").expect_code(125).stderr_has("already in use");
    let second = run(&["--name=web", "--replace"], "exit 5").expect_code(5);
    second.stderr_is("");
    let left =
        world.sbx(["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.ExitCode}}"]).succeed();
    assert!(left.ends_with(" web 5") && !left.contains(first.trim()) && left.lines().count() == 1, "{left}");
    run(&["--replace"], "true").expect_code(125);
    world.sbx(["rm", "web"]).succeed();
    run(&["--rm", "--name=web", "--replace"], "true").expect_code(0);
}

/// As cross builds its images: with the flags of docker's buildx, and the image has to be in the store afterwards.
#[test]
fn images_are_built_with_the_flags_of_docker() {
    let world = sbx_by_all_names();
    image().runnable().load(&world, "base");
    world.file(
        "Dockerfile.cross",
        "ARG CROSS_BASE_IMAGE\nFROM $CROSS_BASE_IMAGE\nARG WHO\nENV WHO=$WHO\nCOPY marker /\n",
    );
    world.file("marker", "x");
    for (name, verb) in [
        ("docker", &["buildx", "build"][..]),
        ("docker", &["build"]),
        ("podman", &["build"]),
        ("docker", &["image", "build"]),
    ] {
        let common =
            ["--progress", "plain", "--network", "none", "--platform", "linux/amd64", "--pull=false"];
        let cross = [
            "--label",
            "org.cross-rs.for-cross-target=x",
            "--tag",
            "cross:1",
            "--build-arg",
            "CROSS_BASE_IMAGE=base",
            "--build-arg",
            "WHO=me",
            "--file",
            "Dockerfile.cross",
            "--output",
            "type=docker",
            ".",
        ];
        let built = world.called(name, verb).args(common).args(cross).expect_code(0).stdout();
        let id = world.called(name, &["image", "inspect", "--format", "{{.Id}}", "cross:1"]).succeed();
        assert!(built.trim().ends_with(id.trim_start_matches("sha256:")), "{name} {verb:?}: {built} {id}");
        assert_eq!(
            world.run(["--rm", "--net", "none", "cross:1", "sh", "-c", "cat /marker; echo $WHO"]).succeed(),
            "xme"
        );
        world.sbx(["rmi", "cross:1"]).expect_code(0);
    }
}
