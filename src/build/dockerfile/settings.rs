//! What a build was given that decides what a Dockerfile means, and the arguments that every Dockerfile knows.

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{Body, Dockerfile};
use super::complaint::Complaint;
use super::expand::{Syntax, expand};
use super::limits;
use crate::image::platform::Wanted;
use crate::image::reference::Reference;

/// Proxies may be given without an ARG, and leave no trace in image, history and cache (Dockerfile reference,
/// "Predefined ARGs").
pub const PREDEFINED: [&str; 10] = [
    "ALL_PROXY",
    "FTP_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "ftp_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The name of a context as it is compared: what names the same image is the same (`alpine`, `docker.io/library/alpine`,
/// `alpine:latest`), as docker has it.
pub fn context_name(name: &str) -> String {
    match Reference::parse(name) {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar.strip_suffix(":latest").map_or(familiar.clone(), str::to_owned)
        }
        // The name of a stage.
        Err(_) => name.to_ascii_lowercase(),
    }
}

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--build-arg`, names and values.
    pub arguments: BTreeMap<String, String>,
    /// `--target`: a stage's name or number.
    pub target: Option<String>,
    /// Whether stages before the target are built that it does not need.
    pub all_stages: bool,
    /// The names of `--build-context`, as [`context_name`] has them.
    pub contexts: BTreeSet<String>,
    /// `--platform`, else the machine's own.
    pub platform: Wanted,
    /// The machine's own.
    pub build_platform: Wanted,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            arguments: BTreeMap::new(),
            target: None,
            all_stages: false,
            contexts: BTreeSet::new(),
            platform: Wanted::host(),
            build_platform: Wanted::host(),
        }
    }
}

/// The arguments of the global scope: those before the first FROM, and those of the platform.
#[derive(Debug, Clone, Default)]
pub struct Globals {
    values: BTreeMap<String, String>,
    /// Declared before the first FROM, with or without a value.
    pub declared: BTreeSet<String>,
    /// Names of the platform's arguments.
    pub platform: BTreeSet<&'static str>,
}

impl Globals {
    /// # Errors
    /// A default value is not understood.
    pub fn read(dockerfile: &Dockerfile, settings: &Settings) -> Result<Self, Complaint> {
        Self::given(dockerfile, settings, &settings.arguments)
    }

    /// As [`Self::read`], with nothing given by `--build-arg`: what the defaults alone make.
    ///
    /// # Errors
    /// A default value is not understood.
    pub fn of_defaults(dockerfile: &Dockerfile, settings: &Settings) -> Result<Self, Complaint> {
        Self::given(dockerfile, settings, &BTreeMap::new())
    }

    fn given(
        dockerfile: &Dockerfile,
        settings: &Settings,
        given: &BTreeMap<String, String>,
    ) -> Result<Self, Complaint> {
        let mut globals = Self::default();
        for (name, value) in platform_arguments(settings) {
            globals.platform.insert(name);
            globals.values.insert(name.to_owned(), given.get(name).cloned().unwrap_or(value));
        }
        let syntax = Syntax::word(dockerfile.directives.escape);
        let mut size = 0;
        for instruction in &dockerfile.globals {
            let Body::Arg(arguments) = &instruction.body else { continue };
            for argument in arguments {
                let name = globals.expand(&argument.name.text, syntax, argument.name.span)?;
                let value = match (given.get(&name), &argument.default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(word)) => Some(globals.expand(&word.text, syntax, word.span)?),
                    (None, None) => None,
                };
                size += name.len() + value.as_ref().map_or(0, String::len);
                if size > limits::ENVIRONMENT {
                    let what = format!("the arguments hold more than {} MiB", limits::ENVIRONMENT >> 20);
                    return Err(Complaint::new(instruction.span, what));
                }
                globals.declared.insert(name.clone());
                globals.values.extend(value.map(|value| (name, value)));
            }
        }
        Ok(globals)
    }

    fn expand(&self, text: &str, syntax: Syntax, span: super::source::Span) -> Result<String, Complaint> {
        let expanded = expand(text, syntax, |name| self.get(name));
        expanded.map(|expanded| expanded.text).map_err(|why| Complaint::new(span, why))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str).chain(self.declared.iter().map(String::as_str))
    }
}

/// `TARGETPLATFORM` and its kin (Dockerfile reference, "Automatic platform ARGs in the global scope").
fn platform_arguments(settings: &Settings) -> Vec<(&'static str, String)> {
    let (build, target) = (&settings.build_platform, &settings.platform);
    let variant = |wanted: &Wanted| wanted.variant.clone().unwrap_or_default();
    vec![
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(build)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", settings.target.clone().unwrap_or_else(|| "default".to_owned())),
    ]
}
