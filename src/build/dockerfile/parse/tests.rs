use super::*;
use crate::build::dockerfile::ast::{Command, Healthcheck, Origin, Word};

fn parsed(text: &str) -> Dockerfile {
    parse("Dockerfile", text.to_owned()).unwrap_or_else(|error| panic!("{text}: {}", error.report()))
}

/// The one instruction after a FROM.
fn one(line: &str) -> Body {
    let mut file = parsed(&format!("FROM a\n{line}\n"));
    assert_eq!(file.stages[0].instructions.len(), 1, "{line}");
    file.stages[0].instructions.remove(0).body
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

fn command(command: &Command) -> (bool, Vec<&str>) {
    match command {
        Command::Shell(line) => (true, vec![&line.text]),
        Command::Exec(words) => (false, texts(words)),
    }
}

#[test]
fn directives_stand_in_the_first_lines_alone() {
    for (text, syntax, escape, check) in [
        ("# syntax=a/b:1\n# escape=`\n#check=skip=all\nFROM a", Some("a/b:1"), '`', Some("skip=all")),
        ("#  Escape = ` \nFROM a", None, '`', None),
        ("\u{feff}# syntax=a\nFROM a", Some("a"), '\\', None),
        ("# comment\n# escape=`\nFROM a", None, '\\', None),
        ("\n# escape=`\nFROM a", None, '\\', None),
        ("FROM a\n# escape=`", None, '\\', None),
        ("# unknown=x\n# escape=`\nFROM a", None, '\\', None),
        ("# syntax=a=b\nFROM a", Some("a=b"), '\\', None),
        ("# syntax=\nFROM a", None, '\\', None),
    ] {
        let directives = parsed(text).directives;
        let word = |word: &Option<Word>| word.as_ref().map(|word| word.text.clone());
        assert_eq!(word(&directives.syntax).as_deref(), syntax, "{text}");
        assert_eq!(directives.escape, escape, "{text}");
        assert_eq!(word(&directives.check).as_deref(), check, "{text}");
    }
}

#[test]
fn from_has_an_image_a_platform_and_a_name() {
    let file = parsed("FROM --platform=$P a:1@sha256:2 As Base\nfrom scratch\n");
    let from = &file.stages[0].from;
    assert_eq!(from.platform.as_ref().unwrap().text, "$P");
    assert_eq!(from.image.text, "a:1@sha256:2");
    let name = from.name.as_ref().unwrap();
    assert_eq!((name.keyword.text.as_str(), name.name.text.as_str()), ("As", "Base"));
    assert_eq!((file.stages[1].keyword.text.as_str(), file.stages.len()), ("from", 2));
    assert_eq!(file.source.slice(file.stages[0].span), "FROM --platform=$P a:1@sha256:2 As Base");
}

#[test]
fn commands_are_arrays_or_lines() {
    for (line, shell, words) in [
        ("CMD [\"a\", \"b c\"]", false, &["a", "b c"][..]),
        ("CMD [\"a\", \\\n  \"b\"]", false, &["a", "b"]),
        ("CMD a  b", true, &["a  b"]),
        ("cmd ['a']", true, &["['a']"]),
        ("CMD [ -f /x ] && y", true, &["[ -f /x ] && y"]),
        ("CMD []", false, &[]),
        ("CMD", true, &[""]),
        ("CMD -- --a", true, &["--a"]),
    ] {
        let Body::Cmd(found) = one(line) else { panic!("{line}") };
        assert_eq!(command(&found), (shell, words.to_vec()), "{line}");
    }
    let Body::Entrypoint(found) = one("ENTRYPOINT [\"a\"]") else { panic!() };
    assert_eq!(command(&found), (false, vec!["a"]));
    let Body::Shell(words) = one("SHELL [\"/bin/bash\", \"-c\"]") else { panic!() };
    assert_eq!(texts(&words), ["/bin/bash", "-c"]);
}

#[test]
fn run_has_flags_a_command_and_here_documents() {
    let Body::Run(run) =
        one("RUN --mount=type=cache,target=/c --network=none --mount=target=/x \\\n  make --all")
    else {
        panic!()
    };
    assert_eq!(texts(&run.mounts), ["type=cache,target=/c", "target=/x"]);
    assert_eq!(run.network.unwrap().text, "none");
    assert_eq!(command(&run.command), (true, vec!["make --all"]));

    let Body::Run(run) = one("RUN cat <<A 3<<-\"B\" > /x\na $V\nA\n\tb\n\tB") else { panic!() };
    assert_eq!(command(&run.command), (true, vec!["cat <<A 3<<-\"B\" > /x"]));
    let [first, second] = &run.files[..] else { panic!("{:?}", run.files) };
    assert_eq!((first.name.as_str(), first.expand, first.content.as_str()), ("A", true, "a $V\n"));
    assert_eq!((second.name.as_str(), second.expand, second.lines().as_str()), ("B", false, "b\n"));
    assert_eq!((second.descriptor, second.strip_tabs), (Some(3), true));

    let Body::Run(run) = one("RUN [\"echo\", \"<<EOF\"]") else { panic!() };
    assert!(run.files.is_empty());
    let Body::Run(run) = one("RUN echo a \\\n# comment\n\n  && b") else { panic!() };
    assert_eq!(command(&run.command), (true, vec!["echo a   && b"]));
}

#[test]
fn copy_and_add_have_sources_and_a_destination() {
    let Body::Copy(copy) = one(
        "COPY --from=b --chown=1:2 --chmod=0755 --link --parents=false --exclude=*.a --exclude=*.b x y /z/",
    ) else {
        panic!()
    };
    assert_eq!(copy.from.unwrap().text, "b");
    assert_eq!((copy.chown.unwrap().text, copy.chmod.unwrap().text), ("1:2".to_owned(), "0755".to_owned()));
    assert_eq!((copy.link, copy.parents), (true, false));
    assert_eq!(texts(&copy.exclude), ["*.a", "*.b"]);
    let paths: Vec<_> = copy
        .sources
        .iter()
        .map(|source| match source {
            Origin::Path(word) => word.text.as_str(),
            Origin::File(document) => document.name.as_str(),
        })
        .collect();
    assert_eq!((paths, copy.destination.text.as_str()), (vec!["x", "y"], "/z/"));

    let Body::Copy(copy) = one("COPY [\"a b\", \"/c d/\"]") else { panic!() };
    assert_eq!(copy.destination.text, "/c d/");

    let Body::Add(add) =
        one("ADD --checksum=sha256:0 --keep-git-dir --unpack=false x <<a.txt \"q\" /z\n1\na.txt")
    else {
        panic!()
    };
    assert_eq!(
        (add.keep_git_dir, add.unpack, add.checksum.unwrap().text.as_str()),
        (true, Some(false), "sha256:0")
    );
    let [Origin::Path(_), Origin::File(file), Origin::Path(quoted)] = &add.sources[..] else { panic!() };
    assert_eq!((file.content.as_str(), quoted.text.as_str()), ("1\n", "\"q\""));
}

#[test]
fn env_label_and_arg_have_pairs() {
    for (line, pairs) in [
        (
            "ENV A=b C=\"d e\" F=g\\ h",
            &[("A", "b", false), ("C", "\"d e\"", false), ("F", "g\\ h", false)][..],
        ),
        ("ENV A b  c=d ", &[("A", "b  c=d", true)]),
        ("ENV A=", &[("A", "", false)]),
        ("ENV A=b=c", &[("A", "b=c", false)]),
        ("ENV \\\n A=b \\\n C=d", &[("A", "b", false), ("C", "d", false)]),
    ] {
        let Body::Env(found) = one(line) else { panic!("{line}") };
        let found: Vec<_> = found
            .iter()
            .map(|pair| (pair.name.text.as_str(), pair.value.text.as_str(), pair.legacy))
            .collect();
        assert_eq!(found, pairs, "{line}");
    }
    let Body::Label(found) = one("LABEL \"a.b\"=\"c\\\n d\"") else { panic!() };
    assert_eq!((found[0].name.text.as_str(), found[0].value.text.as_str()), ("\"a.b\"", "\"c d\""));
    let Body::Arg(found) = one("ARG A B= C=d") else { panic!() };
    let found: Vec<_> = found
        .iter()
        .map(|arg| (arg.name.text.as_str(), arg.default.as_ref().map(|word| word.text.as_str())))
        .collect();
    assert_eq!(found, [("A", None), ("B", Some("")), ("C", Some("d"))]);
}

#[test]
fn the_rest_takes_words_or_the_whole_line() {
    let Body::Expose(ports) = one("EXPOSE 80 8000-8010/udp") else { panic!() };
    assert_eq!(texts(&ports), ["80", "8000-8010/udp"]);
    let Body::Volume(paths) = one("VOLUME /a /b") else { panic!() };
    assert_eq!(texts(&paths), ["/a", "/b"]);
    let Body::Volume(paths) = one("VOLUME [\"/a b\"]") else { panic!() };
    assert_eq!(texts(&paths), ["/a b"]);
    let Body::Workdir(path) = one("WORKDIR /a b ") else { panic!() };
    assert_eq!(path.text, "/a b");
    let Body::User(user) = one("USER a:b") else { panic!() };
    assert_eq!(user.text, "a:b");
    let Body::StopSignal(signal) = one("STOPSIGNAL 9") else { panic!() };
    assert_eq!(signal.text, "9");
    let Body::Maintainer(name) = one("MAINTAINER A <b@c>") else { panic!() };
    assert_eq!(name.text, "A <b@c>");
    assert!(matches!(one("HEALTHCHECK none"), Body::Healthcheck(Healthcheck::None)));
    let Body::Healthcheck(Healthcheck::Check { interval, retries, command: found, .. }) =
        one("HEALTHCHECK --interval=5s --retries=3 \\\n CMD curl -f x")
    else {
        panic!()
    };
    assert_eq!((interval.unwrap().text, retries.unwrap().text), ("5s".to_owned(), "3".to_owned()));
    assert_eq!(command(&found), (true, vec!["curl -f x"]));
}

#[test]
fn a_trigger_is_kept_as_text_and_read() {
    let Body::OnBuild(trigger) = one("ONBUILD  RUN cat <<E\n a\nE") else { panic!() };
    assert_eq!(trigger.trigger, "RUN cat <<E\n a\nE");
    assert!(matches!(trigger.instruction.body, Body::Run(_)));
    let again = super::trigger("base", &trigger.trigger).unwrap();
    let Body::Run(run) = &again.body else { panic!() };
    assert_eq!(run.files[0].content, " a\n");
    assert_eq!(again.foreign.unwrap().name(), "ONBUILD of base");
    for text in ["", "FROM a", "ONBUILD RUN a", "MAINTAINER a", "RUN a\nRUN b", "NO x"] {
        assert!(super::trigger("base", text).is_err(), "{text}");
    }
}

#[test]
fn places_are_those_of_the_file() {
    let file = parsed("# c\nFROM a AS b\nCOPY --from=b \\\n  é src \\\n  dst\nRUN <<E\nx\nE\n");
    let copy = &file.stages[0].instructions[0];
    let Body::Copy(transfer) = &copy.body else { panic!() };
    let Origin::Path(source) = &transfer.sources[1] else { panic!() };
    let place = file.source.place(source.span.start);
    assert_eq!((place.line, place.column, file.source.slice(source.span)), (4, 5, "src"));
    assert_eq!(file.source.place(transfer.destination.span.start).line, 5);
    assert_eq!(file.source.slice(transfer.from.as_ref().unwrap().span), "b");
    assert_eq!(copy.text, "COPY --from=b   é src   dst");
    assert_eq!(file.source.slice(file.stages[0].instructions[1].span), "RUN <<E\nx\n");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, place, part) in [
        ("FROM a\nRNU x", "2:1", "no instruction `RNU`"),
        ("FROM a\nRUN x \\\n  y\n&& z", "4:1", "no instruction `&&`"),
        ("RUN x", "1:1", "before the first FROM"),
        ("", "1:1", "no FROM"),
        ("# only\n", "2:1", "no FROM"),
        ("ARG x\n", "2:1", "no FROM"),
        ("FROM", "1:1", "needs an image"),
        ("FROM a b", "1:6", "nothing else"),
        ("FROM a AS", "1:6", "nothing else"),
        ("FROM a AS 1b", "1:11", "no name"),
        ("FROM a AS b/c", "1:11", "no name"),
        ("FROM --platfrom=x a", "1:6", "no flag `--platfrom`"),
        ("FROM --platform a", "1:6", "needs a value"),
        ("FROM a\nCOPY --from=a --from=b x y", "2:15", "twice"),
        ("FROM a\nCOPY --link=x a b", "2:6", "`true` or `false`"),
        ("FROM a\nCOPY --frm=x a b", "2:6", "no flag `--frm`"),
        ("FROM a\nCOPY --from=$X a b", "2:13", "no variables"),
        ("FROM a\nCOPY a", "2:6", "a source and a destination"),
        ("FROM a\nCOPY", "2:1", "a source and a destination"),
        ("FROM a\nCOPY a <<b\nb", "2:8", "no destination"),
        ("FROM a\nCOPY --chmod=9 a b", "2:14", "no mode"),
        ("FROM a\nCOPY [\"a\", 1]", "2:6", "strings alone"),
        ("FROM a\nCMD --x y", "2:5", "no flag `--x`"),
        ("FROM a\nRUN", "2:1", "needs a command"),
        ("FROM a\nRUN []", "2:5", "needs a command"),
        ("FROM a\nRUN <<E\nx", "2:1", "has no end"),
        ("FROM a\nRUN --mount=type=x,target=/ y", "2:13", "type `x`"),
        ("FROM a\nRUN --network=x y", "2:15", "`default`, `none` or `host`"),
        ("FROM a\nRUN --security=x y", "2:16", "`sandbox` or `insecure`"),
        ("FROM a\nRUN --device=x y", "2:5", "CDI"),
        ("FROM a\nENV", "2:1", "NAME=VALUE"),
        ("FROM a\nENV a", "2:5", "needs a value"),
        ("FROM a\nENV a=b c", "2:9", "no `=`"),
        ("FROM a\nENV =b", "2:5", "no name"),
        ("FROM a\nARG", "2:1", "a name"),
        ("FROM a\nARG =b", "2:5", "no name"),
        ("FROM a\nLABEL a", "2:7", "needs a value"),
        ("FROM a\nSHELL /bin/sh -c", "2:7", "JSON array"),
        ("FROM a\nSHELL []", "2:7", "JSON array"),
        ("FROM a\nEXPOSE", "2:1", "needs an argument"),
        ("FROM a\nVOLUME []", "2:8", "needs an argument"),
        ("FROM a\nVOLUME [\"\"]", "2:8", "is a path"),
        ("FROM a\nUSER", "2:1", "needs an argument"),
        ("FROM a\nHEALTHCHECK", "2:1", "`NONE` or `CMD`"),
        ("FROM a\nHEALTHCHECK NONE x", "2:18", "no arguments"),
        ("FROM a\nHEALTHCHECK CMD", "2:13", "needs a command"),
        ("FROM a\nHEALTHCHECK --interval=x CMD y", "2:24", "no span"),
        ("FROM a\nHEALTHCHECK --interval=1us CMD y", "2:24", "at least 1ms"),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD y", "2:23", "a number"),
        ("FROM a\nHEALTHCHECK foo", "2:13", "`NONE` or `CMD`"),
        ("FROM a\nONBUILD", "2:1", "needs an instruction"),
        ("FROM a\nONBUILD ONBUILD RUN x", "2:9", "no trigger"),
        ("FROM a\nONBUILD FROM x", "2:9", "no trigger"),
        ("FROM a\nONBUILD RNU x", "2:9", "no instruction"),
        ("# escape=x\nFROM a", "1:10", "escape character"),
        ("# escape=`\n# escape=`\nFROM a", "2:10", "twice"),
    ] {
        let error = parse("Dockerfile", text.to_owned()).expect_err(text);
        let first = error.message().lines().next().unwrap().to_owned();
        assert!(first.starts_with(&format!("Dockerfile:{place}: ")), "{text:?}: {first}");
        assert!(first.contains(part), "{text:?}: {first}");
        assert!(error.message().contains('^'), "{text:?}");
    }
    let hints = |text: &str| parse("x", text.to_owned()).unwrap_err().hints().join("\n");
    assert!(hints("FROM a\nRNU x").contains("`RUN`"));
    assert!(hints("FROM a\nCOPY --chwon=a b c").contains("`--chown`"));
    assert!(hints("FROM a\n&& z").contains("end of the line before"));
}

#[test]
fn hostile_files_are_refused_at_little_cost() {
    let text = |text: String| parse("x", text).map(drop).map_err(|error| error.to_string());
    assert!(text(format!("FROM a\n{}RUN x", "ONBUILD ".repeat(500_000))).is_err());
    assert!(
        text(format!("FROM a\n{}", "RUN x\n".repeat(limits::INSTRUCTIONS + 1)))
            .unwrap_err()
            .contains("65536")
    );
    assert!(text("FROM a\n".repeat(limits::STAGES + 1)).unwrap_err().contains("1000 stages"));
    assert!(text(format!("FROM a\nRUN [{}", "[".repeat(1 << 19))).is_ok());
    for (line, part) in [
        (format!("RUN [{}", "[".repeat(1 << 20)), "1024 KiB"),
        (format!("COPY {}/", "a ".repeat(1 << 20)), "65536 words"),
        (format!("ENV {}", "a=b ".repeat(1 << 20)), "65536 words"),
        (format!("RUN {}", "<<A ".repeat(1 << 20)), "1000 here-documents"),
        (format!("RUN --mount={} y", "x,".repeat(1 << 20)), "64 KiB"),
    ] {
        assert!(text(format!("FROM a\n{line}\n")).unwrap_err().contains(part), "{part}");
    }
    assert!(text(format!("FROM a\n{}", "x".repeat(1 << 20))).unwrap_err().len() < 1000);
    assert!(text(format!("FROM a\nRUN x{}", " \\\n".repeat(1 << 20))).is_ok());
    let endless = std::io::repeat(b'#');
    assert!(super::read("x", endless).unwrap_err().to_string().contains("16 MiB"));
    assert!(super::read("x", &b"FROM a\n# \xff\nRUN echo \xe9"[..]).is_ok());
}
