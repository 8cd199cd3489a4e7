//! The rules by name.

/// A rule, under BuildKit's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::upper_case_acronyms, reason = "the names are BuildKit's")]
pub enum Rule {
    ConsistentInstructionCasing,
    CopyIgnoredFile,
    DuplicateStageName,
    ExposeInvalidFormat,
    ExposeProtoCasing,
    FromAsCasing,
    FromPlatformFlagConstDisallowed,
    InvalidDefaultArgInFrom,
    JSONArgsRecommended,
    LegacyKeyValueFormat,
    MaintainerDeprecated,
    MultipleInstructionsDisallowed,
    NoEmptyContinuation,
    RedundantTargetPlatform,
    ReservedStageName,
    SecretsUsedInArgOrEnv,
    StageNameCasing,
    UndefinedArgInFrom,
    UndefinedVar,
    WorkdirRelativePath,
}

impl Rule {
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => "ConsistentInstructionCasing",
            Self::CopyIgnoredFile => "CopyIgnoredFile",
            Self::DuplicateStageName => "DuplicateStageName",
            Self::ExposeInvalidFormat => "ExposeInvalidFormat",
            Self::ExposeProtoCasing => "ExposeProtoCasing",
            Self::FromAsCasing => "FromAsCasing",
            Self::FromPlatformFlagConstDisallowed => "FromPlatformFlagConstDisallowed",
            Self::InvalidDefaultArgInFrom => "InvalidDefaultArgInFrom",
            Self::JSONArgsRecommended => "JSONArgsRecommended",
            Self::LegacyKeyValueFormat => "LegacyKeyValueFormat",
            Self::MaintainerDeprecated => "MaintainerDeprecated",
            Self::MultipleInstructionsDisallowed => "MultipleInstructionsDisallowed",
            Self::NoEmptyContinuation => "NoEmptyContinuation",
            Self::RedundantTargetPlatform => "RedundantTargetPlatform",
            Self::ReservedStageName => "ReservedStageName",
            Self::SecretsUsedInArgOrEnv => "SecretsUsedInArgOrEnv",
            Self::StageNameCasing => "StageNameCasing",
            Self::UndefinedArgInFrom => "UndefinedArgInFrom",
            Self::UndefinedVar => "UndefinedVar",
            Self::WorkdirRelativePath => "WorkdirRelativePath",
        }
    }

    /// What it asks for, in one line.
    pub fn description(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => "All instructions should be written in the same case",
            Self::CopyIgnoredFile => "COPY and ADD should not name what the ignore file leaves out",
            Self::DuplicateStageName => "Names of stages should be unique",
            Self::ExposeInvalidFormat => "EXPOSE names ports of the container alone",
            Self::ExposeProtoCasing => "The protocol in EXPOSE should be lowercase",
            Self::FromAsCasing => "`AS` should have the case of its `FROM`",
            Self::FromPlatformFlagConstDisallowed => "The platform of FROM should not be fixed",
            Self::InvalidDefaultArgInFrom => "The defaults of ARG should make a name of an image in FROM",
            Self::JSONArgsRecommended => "CMD and ENTRYPOINT should be JSON arrays, so that signals arrive",
            Self::LegacyKeyValueFormat => "`NAME VALUE` is the old form of `NAME=VALUE`",
            Self::MaintainerDeprecated => "A label should name the author, not MAINTAINER",
            Self::MultipleInstructionsDisallowed => "Of several such instructions only the last counts",
            Self::NoEmptyContinuation => "An empty line inside of an instruction is going to be an error",
            Self::RedundantTargetPlatform => "The platform is the target's by default",
            Self::ReservedStageName => "The name means something else in `--from`",
            Self::SecretsUsedInArgOrEnv => "ARG and ENV stay in the image; secrets should not",
            Self::StageNameCasing => "Names of stages should be lowercase",
            Self::UndefinedArgInFrom => "FROM knows the ARGs before it alone",
            Self::UndefinedVar => "Variables should be set before they are used",
            Self::WorkdirRelativePath => "The first WORKDIR should be absolute",
        }
    }
}

/// Whether a name sounds like a secret: one of these words stands between underscores, and `public` does not.
pub fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 11] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "secrets",
        "token",
    ];
    let lower = name.to_ascii_lowercase();
    let mut parts = lower.split('_');
    parts.any(|part| WORDS.contains(&part)) && !lower.split('_').any(|part| part == "public")
}
