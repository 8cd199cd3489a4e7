//! The name that sbx is called by. As `podman` or `docker` (a symlink) it speaks as that program does where programs
//! that drive it look: versions, the form of errors and of lists in JSON, exit codes.

use std::path::Path;
use std::sync::OnceLock;

use super::oci::engine;

/// podman's version whose command line sbx follows: the oldest that none of its clients takes for too old, since they
/// leave out what an older one lacks. podman-compose asks for 5.6.0 (`pull --policy`, `wait --condition=healthy`).
const PODMAN_VERSION: &str = "5.6.0";
/// docker's: the last one before 29, which changed the tables of `docker images`.
const DOCKER_VERSION: &str = "28.5.2";
/// The API of that docker, and the oldest it serves. sbx serves none: clients compare the numbers before they use an
/// option of the command line.
const DOCKER_API: (&str, &str) = ("1.51", "1.24");

/// Whose command line is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sbx,
    Podman,
    Docker,
    /// An OCI runtime: `sbx oci` without that word.
    Runtime,
}

/// By the name that this process was called by, and as a runtime also by its words.
pub(crate) fn current() -> Dialect {
    static CURRENT: OnceLock<Dialect> = OnceLock::new();
    *CURRENT.get_or_init(|| {
        let words: Vec<_> = std::env::args_os().collect();
        let called = words.first().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str());
        match Dialect::of(called.unwrap_or_default()) {
            Dialect::Sbx if engine::speaks(words.get(1..).unwrap_or_default()) => Dialect::Runtime,
            named => named,
        }
    })
}

/// The name of a runtime that this process was called by.
pub(crate) fn name_of_runtime() -> Option<String> {
    let called = std::env::args_os().next()?;
    let name = Path::new(&called).file_name()?.to_str()?;
    (Dialect::of(name) == Dialect::Runtime).then(|| name.to_owned())
}

/// `sbx oci` by the name that the caller knows it by.
pub(crate) fn in_own_name(text: &str) -> String {
    match name_of_runtime() {
        Some(name) => text.replace("sbx oci", &name),
        None => text.to_owned(),
    }
}

impl Dialect {
    fn of(name: &str) -> Self {
        match name {
            "podman" => Self::Podman,
            "docker" => Self::Docker,
            "runc" | "crun" | "sbx-oci" => Self::Runtime,
            _ => Self::Sbx,
        }
    }

    /// What `--version` prints. The last word is a version of podman's for podman-compose, which takes it for that
    /// and leaves out what that version lacks; devcontainers reads from the word `podman` that IDs can be kept.
    pub(crate) fn short_version(self) -> String {
        let own = env!("CARGO_PKG_VERSION");
        match self {
            Self::Sbx => format!("sbx {own}, with the command line of podman {PODMAN_VERSION}"),
            Self::Podman => format!("podman version {PODMAN_VERSION}"),
            // docker puts its commit there.
            Self::Docker => format!("Docker version {DOCKER_VERSION}, build sbx-{own}"),
            // podman shows it, and containerd looks for the last line.
            Self::Runtime => format!("sbx-oci version {own}\nspec: {}", crate::oci::config::VERSION),
        }
    }

    /// The version that `version` tells.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Sbx | Self::Runtime => env!("CARGO_PKG_VERSION"),
            Self::Podman => PODMAN_VERSION,
            Self::Docker => DOCKER_VERSION,
        }
    }

    /// The version of the API, and the oldest one. podman has its own version there.
    pub(crate) fn api_version(self) -> (&'static str, &'static str) {
        match self {
            Self::Sbx | Self::Docker | Self::Runtime => DOCKER_API,
            Self::Podman => (PODMAN_VERSION, "4.0.0"),
        }
    }

    /// The text of an error in the program's shape.
    pub(crate) fn report(self, report: &str) -> String {
        match report.strip_prefix("Error: ") {
            Some(rest) if self == Self::Docker => format!("Error response from daemon: {rest}"),
            _ if self == Self::Runtime => in_own_name(report),
            _ => report.to_owned(),
        }
    }

    /// The exit code of a command that failed. docker has 125 for those that run a container alone.
    pub(crate) fn exit_code(self, code: u8, runs_a_container: bool) -> u8 {
        match code {
            2 | 125 if self == Self::Docker && !runs_a_container => 1,
            code => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_the_version_is_a_version_to_programs_that_look_there() {
        for name in ["sbx", "podman"] {
            let version = Dialect::of(name).short_version();
            assert_eq!(version.split(' ').next_back(), Some(PODMAN_VERSION), "{version}");
        }
        assert!(Dialect::of("docker").short_version().starts_with("Docker version 28."));
        assert_eq!(Dialect::of("sbx-test"), Dialect::Sbx);
    }

    #[test]
    fn docker_has_its_own_codes_and_prefix() {
        let docker = Dialect::Docker;
        assert_eq!((docker.exit_code(125, false), docker.exit_code(125, true)), (1, 125));
        assert_eq!((docker.exit_code(127, false), Dialect::Podman.exit_code(125, false)), (127, 125));
        assert_eq!(
            docker.report("Error: it is.\nHint: x.\n"),
            "Error response from daemon: it is.\nHint: x.\n"
        );
        assert_eq!(Dialect::Podman.report("Error: it is.\n"), "Error: it is.\n");
    }
}
