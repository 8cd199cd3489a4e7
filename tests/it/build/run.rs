//! RUN: a command, and the layer of what it changes.

use super::kitchen;

#[test]
fn what_a_command_changes_is_a_layer_with_owners_and_removals() {
    let kitchen = kitchen();
    kitchen.made(
        "FROM base\nRUN echo x >/x && chown 1234:5678 /x && chmod 4711 /x && ln -s x /l && rm /etc/group\nRUN true\nRUN test -u /x && test ! -e /etc/group && rm -r /var/www && mkdir /var/www\n",
    );
    assert_eq!(
        kitchen.shell("stat -c '%a %u:%g' /x; readlink /l; ls -A /var/www; ls /etc/group 2>&1"),
        "4711 1234:5678\nx\nls: /etc/group: No such file or directory"
    );
    // The base's, and two of the three: one has changed nothing.
    assert_eq!(kitchen.layers("made"), 3);
}

#[test]
fn a_single_id_builds_the_same_image() {
    let kitchen = kitchen();
    kitchen
        .build(
            "FROM base\nCOPY --chown=12:34 Dockerfile /f\nRUN echo x >/x && chown 5:6 /x /f\n",
            &["-q", "-t", "made", "--id-tier", "single"],
        )
        .succeed();
    for tier in ["single", "range"] {
        let words = ["--rm", "--net", "none", "--id-tier", tier, "made", "stat", "-c", "%u:%g", "/x", "/f"];
        assert_eq!(kitchen.world.run(words).succeed(), "5:6\n5:6", "{tier}");
    }
}

#[test]
fn a_command_sees_arguments_variables_user_and_directory() {
    let kitchen = kitchen();
    kitchen
        .build(
            "FROM base\nARG A=1\nARG B\nENV C=3\nUSER user\nWORKDIR /tmp\nSHELL [\"/bin/sh\", \"-ec\"]\n\
             RUN echo $A$B$C $(id -un) $PWD >/tmp/seen\nRUN [\"sh\", \"-c\", \"echo $HOME >/tmp/home\"]\n",
            &["-q", "-t", "made", "--build-arg", "B=2"],
        )
        .succeed();
    assert_eq!(kitchen.shell("cat /tmp/seen"), "123 user /tmp");
    assert!(!kitchen.inspect("made", "{{json .Config.Env}}").contains("A=1"));
}

#[test]
fn here_documents_are_scripts() {
    let kitchen = kitchen();
    kitchen.made("FROM base\nRUN <<E\necho one >/f\necho two >>/f\nE\nRUN <<E\n#!/bin/cat\nthree\nE\nRUN cat <<E >/g\n$((1+1))\nE\n");
    assert_eq!(kitchen.shell("cat /f /g; ls /run/sbx-build 2>/dev/null"), "one\ntwo\n2");
}

#[test]
fn the_output_is_on_standard_error_and_the_code_is_the_commands() {
    let kitchen = kitchen();
    let finished = kitchen.build("FROM base\nRUN echo seen; echo err >&2\n", &[]).expect_code(0);
    assert!(finished.stderr().contains("seen\n") && finished.stderr().contains("err\n"));
    assert!(!finished.stdout().contains("seen"));
    for options in [&[][..], &["-q"]] {
        let finished = kitchen
            .build("FROM base\nLABEL a=b\nRUN echo last words; \\\n  exit 7\n", options)
            .expect_code(7);
        let said = finished.stderr();
        assert!(
            said.contains("last words")
                && said.contains("Dockerfile:3:1: ")
                && said.contains("RUN echo last"),
            "{said}"
        );
        assert!(said.contains("exit code 7"), "{said}");
    }
    kitchen.world.sbx(["ps", "-aq"]).expect_code(0).stdout_is("");
}

#[test]
fn the_network_is_the_builds_or_the_instructions() {
    let kitchen = kitchen();
    let dockerfile = "FROM base\nRUN ls /sys/class/net >/none\nRUN --network=host ls /sys/class/net >/host\n";
    kitchen.build(dockerfile, &["-q", "-t", "made", "--allow", "network.host"]).succeed();
    assert_eq!(kitchen.shell("cat /none"), "lo");
    let host: Vec<String> = std::fs::read_dir("/sys/class/net")
        .expect("interfaces")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(kitchen.shell("cat /host").lines().count(), host.len());
    kitchen.build(dockerfile, &[]).expect_code(125).stderr_has("--allow network.host");
    kitchen.build(dockerfile, &["-q", "--network", "host"]).succeed();
    kitchen
        .build("FROM base\nRUN --security=insecure true\n", &[])
        .expect_code(125)
        .stderr_has("--allow security.insecure");
}

#[test]
fn arguments_of_buildkit_name_the_host_and_the_space_of_caches() {
    let kitchen = kitchen();
    let build = |space: &str| {
        let (host, space) = ("BUILDKIT_SANDBOX_HOSTNAME=kiln", format!("BUILDKIT_CACHE_MOUNT_NS={space}"));
        let options = ["-q", "-t", "made", "--no-cache", "--build-arg", host, "--build-arg", &space];
        let dockerfile = "FROM base\nRUN --mount=type=cache,target=/c hostname >/f; ls /c >>/f; touch /c/x\n";
        kitchen.build(dockerfile, &options).succeed();
        kitchen.shell("cat /f")
    };
    assert_eq!(build("one"), "kiln");
    assert_eq!(build("one"), "kiln\nx");
    assert_eq!(build("two"), "kiln");
}
