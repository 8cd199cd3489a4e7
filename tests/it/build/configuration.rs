//! Instructions that change nothing but the image's configuration.

use super::kitchen;

#[test]
fn every_instruction_of_the_configuration_ends_up_in_the_image() {
    let kitchen = kitchen();
    kitchen.made(
        "FROM base\nARG WHO=ada\nENV A=1 B=\"$WHO two\"\nLABEL of=$A\nUSER 7:8\nWORKDIR /w\nWORKDIR x\nEXPOSE 80 90-91/udp\n\
         VOLUME /v\nSTOPSIGNAL SIGQUIT\nHEALTHCHECK --interval=5s CMD true\nENTRYPOINT [\"echo\"]\nCMD [\"$A\", \"b\"]\n",
    );
    let config = kitchen.inspect("made", "{{json .Config}}");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["Entrypoint"], serde_json::json!(["echo"]));
    assert_eq!(config["Cmd"], serde_json::json!(["$A", "b"]));
    assert_eq!(config["User"], "7:8");
    assert_eq!(config["WorkingDir"], "/w/x");
    assert_eq!(config["Labels"]["of"], "1");
    assert_eq!(config["StopSignal"], "SIGQUIT");
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_u64);
    assert!(config["Volumes"]["/v"].is_object());
    let ports: Vec<&String> = config["ExposedPorts"].as_object().expect("ports").keys().collect();
    assert_eq!(ports, ["80/tcp", "90/udp", "91/udp"]);
    let env = config["Env"].to_string();
    assert!(env.contains("\"A=1\"") && env.contains("\"B=ada two\"") && !env.contains("WHO"), "{env}");
}

#[test]
fn the_id_is_the_last_line_of_standard_output_and_the_steps_are_beside_it() {
    let kitchen = kitchen();
    let file = kitchen.world.directory().join("id");
    let finished = kitchen
        .build(
            "FROM base\nLABEL a=b\n",
            &["-t", "one", "-t", "two:2", "--iidfile", file.to_str().expect("UTF-8")],
        )
        .expect_code(0);
    let id = finished.stdout();
    assert_eq!((id.trim().len(), id.lines().count()), (64, 1), "{id}");
    assert_eq!(std::fs::read_to_string(file).expect("a file"), format!("sha256:{}", id.trim()));
    let steps = finished.stderr();
    assert!(steps.contains("STEP 1/2: FROM base\nSTEP 2/2: LABEL a=b\n"), "{steps}");
    for name in ["one", "two:2"] {
        assert!(kitchen.inspect(name, "{{.Id}}").contains(id.trim()));
    }
    kitchen.build("FROM base\nLABEL a=b\n", &["-q"]).expect_code(0).stderr_is("");
}

#[test]
fn triggers_are_kept_and_carried_out_by_the_next_image() {
    let kitchen = kitchen();
    kitchen
        .build("FROM base\nONBUILD COPY f /f\nONBUILD RUN cat /f >/g\n", &["-q", "-t", "parent"])
        .succeed();
    kitchen.file("f", "hello\n");
    kitchen.made("FROM parent\nLABEL x=y\n");
    assert_eq!(kitchen.shell("cat /g"), "hello");
    assert_eq!(
        kitchen.inspect("made", "{{json .Config.OnBuild}}").trim().trim_matches(['[', ']', 'n', 'u', 'l']),
        ""
    );
    assert!(kitchen.inspect("parent", "{{json .Config.OnBuild}}").contains("COPY f /f"));
}

#[test]
fn a_dockerfile_comes_from_standard_input_without_a_context() {
    let kitchen = kitchen();
    let build = |text: &str| kitchen.world.sbx(["build", "-q", "-"]).stdin(text);
    build("FROM base\nCOPY <<E /f\nx\nE\n").expect_code(0);
    build("FROM base\nCOPY f /f\n").expect_code(125).stderr_has("there is no context");
}

#[test]
fn an_empty_user_is_none_and_an_empty_directory_the_one_before() {
    let kitchen = kitchen();
    kitchen.made("FROM base\nUSER user\nWORKDIR /tmp\nUSER $X\nWORKDIR $X\nRUN id -u >seen; pwd >>seen\n");
    assert_eq!(kitchen.shell("cat /tmp/seen"), "0\n/tmp");
    assert_eq!(kitchen.inspect("made", "{{.Config.User}}:{{.Config.WorkingDir}}").trim(), ":/tmp");
}

#[test]
fn one_platform_is_built_for() {
    let kitchen = kitchen();
    let build = |options: &[&str]| kitchen.build("FROM scratch\nLABEL a=b\n", options);
    for options in [
        &["--platform", "linux/arm64", "--platform", "linux/amd64"][..],
        &["--platform", "linux/arm64,linux/amd64"],
    ] {
        build(options).expect_code(125).stderr_has("one platform at a time");
    }
    build(&["--platform", "foo"])
        .expect_code(125)
        .stderr_has("neither an operating system nor an architecture");
    build(&["-q", "-t", "made", "--platform", "local"]).succeed();
    build(&["-q", "-t", "other"]).succeed();
    let platform = "{{.Os}}/{{.Architecture}}";
    assert_eq!(kitchen.inspect("made", platform), kitchen.inspect("other", platform));
}
