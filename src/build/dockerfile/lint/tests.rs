use super::*;
use crate::build::dockerfile::parse::parse;

/// Rules and lines, with a base of one variable and an ignore file.
fn found(text: &str) -> Vec<(String, u32, String)> {
    let dockerfile = parse("Dockerfile", text.to_owned()).unwrap_or_else(|error| panic!("{error}"));
    let ignore = Ignore::read(".dockerignore", "hidden\n*.log\n!keep.log\n").unwrap();
    let environment = |image: &str| (image != "unknown").then(|| vec!["BASE=1".to_owned()]);
    let surroundings = Surroundings { environment: &environment, ignore: Some(&ignore) };
    let warnings =
        check(&dockerfile, &Settings::default(), &surroundings).unwrap_or_else(|error| panic!("{error}"));
    let line = |warning: &Warning| dockerfile.source.place(warning.span.start).line;
    warnings.iter().map(|each| (each.rule.name().to_owned(), line(each), each.message.clone())).collect()
}

#[test]
fn every_rule_is_found_and_not_found() {
    for (text, expected) in [
        ("FROM a AS base\nRUN x", &[][..]),
        // Cases.
        ("FROM a AS Base", &[("StageNameCasing", 1, "Stage name 'Base' should be lowercase")]),
        ("FROM a as x", &[("FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match")]),
        ("from a as x\nrun y", &[]),
        ("from a AS x\nrun y", &[("FromAsCasing", 1, "'AS' and 'from' keywords' casing do not match")]),
        (
            "FROM a\ncopy b c\nRUN x",
            &[(
                "ConsistentInstructionCasing",
                2,
                "Command 'copy' should match the case of the command majority (uppercase)",
            )],
        ),
        (
            "from a\ncopy b c\nRUN x",
            &[(
                "ConsistentInstructionCasing",
                3,
                "Command 'RUN' should match the case of the command majority (lowercase)",
            )],
        ),
        (
            "FROM a\nRun x",
            &[(
                "ConsistentInstructionCasing",
                2,
                "Command 'Run' should match the case of the command majority (uppercase)",
            )],
        ),
        // Stages.
        (
            "FROM a AS x\nFROM b AS X",
            &[("DuplicateStageName", 2, "Duplicate stage name 'X'"), ("StageNameCasing", 2, "'X'")],
        ),
        ("FROM a AS scratch", &[("ReservedStageName", 1, "'scratch' is reserved")]),
        ("FROM a AS context", &[("ReservedStageName", 1, "'context'")]),
        // FROM.
        ("ARG V=1\nFROM a:$V", &[]),
        (
            "ARG VERSION=1\nFROM a:${VERSOIN}",
            &[
                ("InvalidDefaultArgInFrom", 2, "ARG a:${VERSOIN} results in empty or invalid"),
                ("UndefinedArgInFrom", 2, "'VERSOIN' is not declared (did you mean VERSION?)"),
            ],
        ),
        ("ARG V\nFROM a:${V:-1}", &[]),
        ("ARG V\nFROM a:$V", &[("InvalidDefaultArgInFrom", 2, "a:$V")]),
        ("FROM --platform=$TARGETPLATFORM a", &[("RedundantTargetPlatform", 1, "$TARGETPLATFORM in FROM")]),
        ("FROM --platform=${TARGETPLATFORM} a", &[("RedundantTargetPlatform", 1, "redundant")]),
        ("FROM --platform=$BUILDPLATFORM a", &[]),
        (
            "FROM --platform=linux/amd64 a",
            &[("FromPlatformFlagConstDisallowed", 1, "constant value \"linux/amd64\"")],
        ),
        ("FROM --platform=linux/amd64 a AS b-amd64\nFROM b-${TARGETARCH:-amd64}", &[]),
        // Instructions.
        ("FROM a\nMAINTAINER x", &[("MaintainerDeprecated", 2, "in favor of using label")]),
        (
            "FROM a\nENV A b\nLABEL c d\nENV E=f",
            &[
                (
                    "LegacyKeyValueFormat",
                    2,
                    "\"ENV key=value\" should be used instead of legacy \"ENV key value\"",
                ),
                ("LegacyKeyValueFormat", 3, "\"LABEL key=value\""),
            ],
        ),
        ("FROM a\nRUN x \\\n\n\n  y", &[("NoEmptyContinuation", 3, "Empty continuation line")]),
        ("FROM a\nCMD x", &[("JSONArgsRecommended", 2, "for CMD to prevent")]),
        ("FROM a\nENTRYPOINT x", &[("JSONArgsRecommended", 2, "for ENTRYPOINT")]),
        ("FROM a\nCMD [\"x\"]\nENTRYPOINT [\"y\"]", &[]),
        ("FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD x", &[]),
        ("FROM a AS b\nSHELL [\"/bin/bash\", \"-c\"]\nFROM b\nCMD x", &[]),
        (
            "FROM a\nCMD [\"x\"]\nCMD [\"y\"]\nHEALTHCHECK NONE",
            &[("MultipleInstructionsDisallowed", 2, "Multiple CMD instructions")],
        ),
        ("FROM a AS b\nCMD [\"x\"]\nFROM b\nCMD [\"y\"]", &[]),
        ("FROM a\nWORKDIR x", &[("WorkdirRelativePath", 2, "\"x\"")]),
        ("FROM a\nWORKDIR /x\nWORKDIR y", &[]),
        ("FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y", &[]),
        ("FROM a\nWORKDIR ${BASE:+/x}", &[]),
        (
            "FROM a\nEXPOSE 80/TCP 127.0.0.1:80:80",
            &[("ExposeProtoCasing", 2, "'80/TCP'"), ("ExposeInvalidFormat", 2, "'127.0.0.1:80:80'")],
        ),
        // Variables.
        ("FROM a\nENV X=$BASE Y=$PATH\nENV Z=$X", &[]),
        (
            "FROM a\nARG HOMEDIR=/x\nWORKDIR $HOMEDRI/y",
            &[("UndefinedVar", 3, "Usage of undefined variable '$HOMEDRI' (did you mean $HOMEDIR?)")],
        ),
        ("FROM a\nARG V\nENV X=$V Y=${W:-x}", &[]),
        ("FROM unknown\nENV X=$ANY", &[]),
        ("FROM scratch\nCOPY x /$ANY", &[("UndefinedVar", 2, "'$ANY'")]),
        ("FROM a AS b\nENV V=1\nFROM b\nENV X=$V", &[]),
        (
            "FROM a\nARG API_TOKEN\nENV PASSWORD=x MONKEY=y\nARG PUBLIC_KEY",
            &[
                ("SecretsUsedInArgOrEnv", 2, "(ARG \"API_TOKEN\")"),
                ("SecretsUsedInArgOrEnv", 3, "(ENV \"PASSWORD\")"),
            ],
        ),
        // The ignore file.
        (
            "FROM a\nCOPY hidden x.log keep.log src /x/\nADD /hidden https://x/hidden /y/",
            &[
                ("CopyIgnoredFile", 2, "Attempting to Copy file \"hidden\""),
                ("CopyIgnoredFile", 2, "\"x.log\""),
                ("CopyIgnoredFile", 3, "Attempting to Add file \"/hidden\""),
            ],
        ),
        ("FROM a\nCOPY --from=b hidden /x", &[]),
        ("FROM a\nCOPY . /x", &[]),
        // What is asked for.
        ("# check=skip=StageNameCasing\nFROM a as B", &[("FromAsCasing", 2, "as")]),
        ("# check=skip=all\nFROM a as B\nMAINTAINER x", &[]),
    ] {
        let found = found(text);
        let short: Vec<(&str, u32)> = found.iter().map(|(rule, line, _)| (rule.as_str(), *line)).collect();
        let wanted: Vec<(&str, u32)> = expected.iter().map(|&(rule, line, _)| (rule, line)).collect();
        assert_eq!(short, wanted, "{text}\n{found:?}");
        for ((_, _, message), (_, _, part)) in found.iter().zip(expected) {
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}

#[test]
fn a_dockerfile_that_cannot_be_built_is_an_error() {
    let environment = |_: &str| None;
    let surroundings = Surroundings { environment: &environment, ignore: None };
    for text in ["FROM a\nEXPOSE x", "FROM a AS x\nCOPY --from=x a b", "# check=nosuch=1\nFROM a"] {
        let dockerfile = parse("Dockerfile", text.to_owned()).unwrap();
        assert!(check(&dockerfile, &Settings::default(), &surroundings).is_err(), "{text}");
    }
}
