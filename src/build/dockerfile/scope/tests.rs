use super::*;
use crate::build::dockerfile::parse::parse;
use crate::build::dockerfile::step::{GitSource, Mount, MountKind};

type Environment = Vec<(String, String)>;

/// The steps of the last stage, on a base with one variable, and what RUN would see after them.
fn steps(text: &str, given: &[(&str, &str)]) -> Result<(Vec<Step>, Environment)> {
    let dockerfile = parse("Dockerfile", text.to_owned())?;
    let arguments = given.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let settings = Settings { arguments, ..Settings::default() };
    let frame = Frame::new(&dockerfile, &settings)?;
    let mut scope = Scope::on_image(&frame, ["BASE=base"]);
    let stage = dockerfile.stages.last().unwrap();
    let steps = stage.instructions.iter().map(|each| scope.step(each)).collect::<Result<Vec<Step>>>()?;
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let environment = scope.run_environment().into_iter().map(owned).collect();
    Ok((steps, environment))
}

fn last(lines: &str) -> Step {
    steps(&format!("FROM a\n{lines}\n"), &[])
        .unwrap_or_else(|error| panic!("{lines}: {error}"))
        .0
        .pop()
        .unwrap()
}

/// What RUN sees after these lines, `NAME=VALUE`.
fn seen(text: &str, given: &[(&str, &str)]) -> Vec<String> {
    let (_, environment) = steps(text, given).unwrap_or_else(|error| panic!("{text}: {error}"));
    environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn arguments_and_variables_by_precedence() {
    for (text, given, environment) in [
        // A default, what is given, and nothing of either.
        ("FROM a\nARG V=1", &[][..], &["V=1", "BASE=base"][..]),
        ("FROM a\nARG V=1", &[("V", "2")], &["V=2", "BASE=base"]),
        ("FROM a\nARG V", &[], &["BASE=base"]),
        ("FROM a\nARG V", &[("V", "")], &["V=", "BASE=base"]),
        ("FROM a\nARG V=1\nARG V=2", &[], &["V=2", "BASE=base"]),
        // Nobody asked for it.
        ("FROM a\nENV X=$V", &[("V", "2")], &["BASE=base", "X="]),
        // The global scope has to be asked, too.
        ("ARG V=g\nFROM a\nENV X=$V", &[], &["BASE=base", "X="]),
        ("ARG V=g\nFROM a\nARG V", &[], &["V=g", "BASE=base"]),
        ("ARG V=g\nFROM a\nARG V=l", &[], &["V=l", "BASE=base"]),
        ("ARG V=g\nFROM a\nARG V=l", &[("V", "b")], &["V=b", "BASE=base"]),
        ("ARG V\nFROM a\nARG V", &[("V", "b")], &["V=b", "BASE=base"]),
        // ENV overrides ARG, before and after it, and a base's ENV does so as well.
        ("FROM a\nARG V=1\nENV V=2", &[], &["BASE=base", "V=2"]),
        ("FROM a\nENV V=2\nARG V=1", &[("V", "3")], &["BASE=base", "V=2"]),
        ("FROM a\nARG BASE=x", &[], &["BASE=base"]),
        ("FROM a\nARG V=1\nENV V=${V:-d}", &[], &["BASE=base", "V=1"]),
        ("FROM a\nARG V\nENV V=${V:-d}", &[], &["BASE=base", "V=d"]),
        // All of one instruction see what was before it.
        ("FROM a\nENV A=hello\nENV A=bye B=$A\nENV C=$A", &[], &["BASE=base", "A=bye", "B=hello", "C=bye"]),
        ("FROM a\nENV BASE=$BASE:x", &[], &["BASE=base:x"]),
        ("FROM a\nENV N$BASE=1", &[], &["BASE=base", "Nbase=1"]),
        // Proxies need no ARG.
        ("FROM a", &[("HTTP_PROXY", "p"), ("OTHER", "o")], &["HTTP_PROXY=p", "BASE=base"]),
        ("FROM a\nARG HTTP_PROXY", &[("HTTP_PROXY", "p")], &["HTTP_PROXY=p", "BASE=base"]),
        ("FROM a\nENV X=$HTTP_PROXY", &[("HTTP_PROXY", "p")], &["HTTP_PROXY=p", "BASE=base", "X=p"]),
        ("FROM a\nENV http_proxy=own", &[("http_proxy", "p")], &["BASE=base", "http_proxy=own"]),
        // An image without a PATH has docker's.
        (
            "FROM a\nENV P=/x:$PATH",
            &[],
            &["BASE=base", "P=/x:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        ),
        // Quotes and escapes.
        (
            "FROM a\nENV A='$BASE' B=\"$BASE x\" C=a\\ b D=\\$BASE",
            &[],
            &["BASE=base", "A=$BASE", "B=base x", "C=a b", "D=$BASE"],
        ),
        ("FROM a\nENV A it's \"$BASE\"'", &[], &["BASE=base", "A=its \"$BASE\""]),
        ("# escape=`\nFROM a\nENV A=c:\\$BASE B=`$BASE", &[], &["BASE=base", "A=c:\\base", "B=$BASE"]),
    ] {
        assert_eq!(seen(text, given), environment, "{text}");
    }
}

#[test]
fn platforms_are_arguments_of_the_global_scope() {
    let own = Settings::default().platform;
    let declared = seen("FROM a\nARG TARGETPLATFORM\nARG TARGETARCH\nARG TARGETSTAGE", &[]);
    assert_eq!(declared[0], format!("TARGETPLATFORM={own}"));
    assert_eq!(declared[1], format!("TARGETARCH={}", own.architecture));
    assert_eq!(declared[2], "TARGETSTAGE=default");
    assert_eq!(seen("FROM a\nENV X=$TARGETPLATFORM", &[]), ["BASE=base", "X="]);
}

#[test]
fn a_stage_on_a_stage_inherits_its_arguments() {
    let dockerfile = parse("x", "FROM a AS x\nARG V=1\nENV E=2\nFROM x\nENV F=$V$E\n".to_owned()).unwrap();
    let settings = Settings::default();
    let frame = Frame::new(&dockerfile, &settings).unwrap();
    let mut scope = Scope::on_image(&frame, []);
    for instruction in &dockerfile.stages[0].instructions {
        scope.step(instruction).unwrap();
    }
    let mut child = scope.child();
    let step = child.step(&dockerfile.stages[1].instructions[0]).unwrap();
    assert_eq!(step, Step::Env(vec![("F".to_owned(), "12".to_owned())]));
}

#[test]
fn instructions_that_expand_and_those_that_do_not() {
    let text = |text: &str| text.to_owned();
    for (lines, step) in [
        ("USER $BASE:$BASE", Step::User(text("base:base"))),
        ("WORKDIR /a/$BASE b", Step::Workdir(text("/a/base b"))),
        ("WORKDIR \"/a b\"", Step::Workdir(text("/a b"))),
        ("STOPSIGNAL ${X:-SIGQUIT}", Step::StopSignal(text("SIGQUIT"))),
        ("VOLUME /$BASE [x]", Step::Volume(vec![text("/base"), text("[x]")])),
        ("VOLUME [\"/$BASE\"]", Step::Volume(vec![text("/base")])),
        (
            "ENV P=\"80 81\"\nEXPOSE $P/udp 90-91",
            Step::Expose(vec![text("80/tcp"), text("81/udp"), text("90/tcp"), text("91/tcp")]),
        ),
        (
            "LABEL a.$BASE=\"x $BASE\" b='$BASE'",
            Step::Label(vec![(text("a.base"), text("x base")), (text("b"), text("$BASE"))]),
        ),
        ("CMD echo $BASE", Step::Cmd(CommandLine::Shell(text("echo $BASE")))),
        ("CMD [\"$BASE\"]", Step::Cmd(CommandLine::Exec(vec![text("$BASE")]))),
        ("ENTRYPOINT [\"$BASE\"]", Step::Entrypoint(CommandLine::Exec(vec![text("$BASE")]))),
        ("SHELL [\"$BASE\"]", Step::Shell(vec![text("$BASE")])),
        ("ONBUILD ENV A=$BASE", Step::OnBuild(text("ENV A=$BASE"))),
        ("MAINTAINER $BASE", Step::Maintainer(text("$BASE"))),
    ] {
        assert_eq!(last(lines), step, "{lines}");
    }
    let Step::Run(run) = last("RUN --mount=type=cache,target=/$BASE,id=$BASE echo $BASE") else { panic!() };
    assert_eq!(run.program, Program::Shell(text("echo $BASE")));
    let Mount { kind: MountKind::Cache { id, .. }, target, .. } = &run.mounts[0] else { panic!() };
    assert_eq!((id.as_str(), target.as_deref()), ("base", Some("/base")));
    let Step::Healthcheck(Healthcheck::Check { command, interval, retries, .. }) =
        last("HEALTHCHECK --interval=1m30s --retries=0 CMD [\"$BASE\"]")
    else {
        panic!()
    };
    assert_eq!(command, CommandLine::Exec(vec![text("$BASE")]));
    assert_eq!((interval, retries), (Some(std::time::Duration::from_secs(90)), None));
}

#[test]
fn here_documents_become_scripts_and_files() {
    let program = |lines: &str| match last(lines) {
        Step::Run(run) => run.program,
        other => panic!("{other:?}"),
    };
    let shell = |text: &str| Program::Shell(text.to_owned());
    assert_eq!(program("RUN <<E\na $BASE\nE"), shell("a $BASE\n"));
    assert_eq!(program("RUN <<-E\n\ta\n\t\tb\n\tE"), shell("a\nb\n"));
    assert_eq!(program("RUN cat <<E > /x\na\nE"), shell("cat <<E > /x\na\nE"));
    assert_eq!(
        program("RUN <<A cat && <<-B cat\na\nA\n\tb\n\tB"),
        shell("<<A cat && <<-B cat\na\nA\n\tb\nB")
    );
    let script = Program::Script { name: "E".to_owned(), content: "#!/bin/x\ny\n".to_owned() };
    assert_eq!(program("RUN <<E\n#!/bin/x\ny\nE"), script);
    assert_eq!(program("RUN <<-E\n#!/bin/x\n\ty\nE"), script);
    assert_eq!(program("RUN cat <<E\n#!/bin/x\nE"), shell("cat <<E\n#!/bin/x\nE"));

    let file = |lines: &str| match last(lines) {
        Step::Copy(copy) => copy.files[0].content.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(file("COPY <<E /x\n\"$BASE\" it's \\$BASE\nE"), "\"base\" it's $BASE\n");
    assert_eq!(file("COPY <<\"E\" /x\n$BASE \\$\nE"), "$BASE \\$\n");
    assert_eq!(file("COPY <<-E /x\n\t$BASE\n\tE"), "base\n");
    assert_eq!(file("COPY <<E /x\nE"), "");
}

#[test]
fn copy_and_add_know_where_from() {
    let Step::Copy(copy) =
        last("COPY --from=0 --chown=$BASE --chmod=${X:-u+x} --exclude=*.$BASE a$BASE [b] /x/")
    else {
        panic!()
    };
    assert_eq!(copy.from, From::Stage(0));
    assert_eq!(copy.sources, ["abase", "[b]"]);
    assert_eq!(copy.attributes.chown.as_deref(), Some("base"));
    assert_eq!(copy.attributes.chmod.unwrap().apply(0o600, false), 0o700);
    assert_eq!(copy.attributes.exclude, ["*.base"]);
    let from = |lines: &str| match last(lines) {
        Step::Copy(copy) => copy.from,
        other => panic!("{other:?}"),
    };
    assert_eq!(from("COPY a b"), From::Context);
    assert_eq!(from("COPY --from=nginx:1 a b"), From::Named("nginx:1".to_owned()));
    assert_eq!(from("COPY --from=scratch a b"), From::Scratch);

    let Step::Add(add) = last("ADD --keep-git-dir a https://x/y.tar https://x/y.git#v1 /z/") else {
        panic!()
    };
    let git =
        GitSource { url: "https://x/y.git".to_owned(), reference: Some("v1".to_owned()), directory: None };
    assert_eq!(
        add.sources,
        [AddSource::Path("a".to_owned()), AddSource::Url("https://x/y.tar".to_owned()), AddSource::Git(git)]
    );
    assert!(add.keep_git_dir);
}

#[test]
fn what_is_wrong_once_variables_are_known() {
    let sum = "0".repeat(64);
    for (lines, place, part) in [
        ("COPY a b /c", "2:10", "need a directory"),
        ("COPY <<A <<B /c\nA\nB", "2:14", "need a directory"),
        ("COPY $X /c", "2:6", "may not be empty"),
        ("COPY \"a b\" /c", "2:6", "double quote"),
        ("COPY https://x/y /c", "2:6", "files of the context"),
        ("COPY --chmod=$BASE a b", "2:14", "no mode"),
        ("ADD --checksum=sha256:00 https://x/y /c", "2:16", "64 hexadecimal"),
        ("ADD --checksum=md5:00 https://x/y /c", "2:16", "sha256"),
        (&format!("ADD --checksum=sha256:{sum} x /c"), "2:16", "on the network"),
        ("STOPSIGNAL nosuch", "2:12", "no signal"),
        ("EXPOSE 80/x", "2:8", "no port"),
        ("EXPOSE 70000", "2:8", "no port"),
        ("EXPOSE 1-65535 1-65535/udp 1-65535/sctp 1", "2:41", "more ports"),
        ("ENV A=\"${X:?give it}\"", "2:7", "`X`: give it"),
        ("ENV A=$X\"", "2:7", "double quote"),
        ("LABEL $X=y", "2:7", "may not be empty"),
        ("RUN --mount=type=$BASE,target=/x y", "2:13", "type `base`"),
        ("RUN --mount=type=cache,target=$X y", "2:13", "needs a `target`"),
    ] {
        let error = steps(&format!("FROM a\n{lines}\n"), &[]).expect_err(lines);
        let first = error.message().lines().next().unwrap().to_owned();
        assert!(first.starts_with(&format!("Dockerfile:{place}: ")), "{lines}: {first}");
        assert!(first.contains(part), "{lines}: {first}");
    }
}

#[test]
fn what_nobody_has_set_is_noted() {
    let dockerfile = parse("x", "FROM a\nARG D\nENV A=$D$N B=${M:-$O} C=$M\nRUN $R\n".to_owned()).unwrap();
    let settings = Settings::default();
    let frame = Frame::new(&dockerfile, &settings).unwrap();
    let mut scope = Scope::on_image(&frame, []);
    for instruction in &dockerfile.stages[0].instructions {
        scope.step(instruction).unwrap();
    }
    let names: Vec<String> = scope.take_missing().into_iter().map(|missing| missing.name).collect();
    assert_eq!(names, ["N", "O", "M"]);
}

#[test]
fn doubling_a_variable_ends_early() {
    let mut text = "FROM a\nENV A=xxxxxxxxxxxxxxxx\n".to_owned();
    text.push_str(&"ENV A=$A$A\n".repeat(64));
    assert!(steps(&text, &[]).unwrap_err().message().contains("1 MiB"));
    let mut text = format!("FROM a\nENV A={}\n", "x".repeat(1 << 19));
    for index in 0..1000 {
        text.push_str(&format!("ENV B{index}=$A\n"));
    }
    assert!(steps(&text, &[]).unwrap_err().message().contains("1 MiB"));
    let mut text = format!("FROM a\nENV A={}\n", "x".repeat(1 << 19));
    text.push_str(&"LABEL a=$A\n".repeat(1000));
    assert!(steps(&text, &[]).unwrap_err().message().contains("256 MiB"));
}
