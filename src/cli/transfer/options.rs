//! Options that several of the verbs have.

use std::path::PathBuf;

use crate::container::duration;
use crate::error::{Error, Result};
use crate::identity::Tier;
use crate::image::auth::Credentials;
use crate::image::platform::Wanted;
use crate::registry;

/// How registries are reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RegistryOptions {
    /// Whether https is required and certificates are verified; default: what registries.conf says
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set, help_heading = "Registry")]
    pub tls_verify: Option<bool>,
    /// Credentials for the registry
    #[arg(long, value_name = "USER[:PASSWORD]", help_heading = "Registry")]
    pub creds: Option<String>,
    /// Read credentials from this file
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    pub authfile: Option<PathBuf>,
    /// Read certificates from this directory: `*.crt`, `*.cert` and `*.key`
    #[arg(long, value_name = "DIR", help_heading = "Registry")]
    pub cert_dir: Option<PathBuf>,
    /// How often a request is tried again
    #[arg(long, value_name = "N", help_heading = "Registry")]
    pub retry: Option<u32>,
    /// How long to wait before the first of those: `2s`
    #[arg(long, value_name = "TIME", help_heading = "Registry")]
    pub retry_delay: Option<String>,
}

impl RegistryOptions {
    /// # Errors
    /// A value is not understood.
    pub fn resolve(&self) -> Result<registry::Options> {
        let delay =
            self.retry_delay.as_deref().map(|text| duration::parse("--retry-delay", text)).transpose()?;
        if let Some(file) = &self.authfile {
            let failed = || format!("cannot use `--authfile {}`", file.display());
            file.metadata().map_err(|error| {
                Error::new(failed()).because(error).hint("`sbx login --authfile FILE` makes one")
            })?;
        }
        Ok(registry::Options {
            tls_verify: self.tls_verify,
            credentials: self.creds.as_deref().map(Credentials::parse),
            authfile: self.authfile.clone(),
            cert_dir: self.cert_dir.clone(),
            retries: self.retry,
            retry_delay: delay,
            stalled: None,
        })
    }
}

/// Which of an image's platforms is meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PlatformOptions {
    /// Platform of the image; default: this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with_all = ["os", "arch", "variant"], help_heading = "Platform")]
    pub platform: Vec<String>,
    /// Operating system of the image
    #[arg(long, value_name = "OS", help_heading = "Platform")]
    pub os: Option<String>,
    /// Architecture of the image
    #[arg(long, value_name = "ARCH", help_heading = "Platform")]
    pub arch: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT", help_heading = "Platform")]
    pub variant: Option<String>,
}

impl PlatformOptions {
    /// For a command that would make something for each of them.
    ///
    /// # Errors
    /// There are several platforms.
    pub fn resolve_only(&self) -> Result<Wanted> {
        match self.platform.as_slice() {
            [] | [_] => self.resolve(),
            several => several.join(",").parse(),
        }
    }

    /// # Errors
    /// The platform is not understood.
    pub fn resolve(&self) -> Result<Wanted> {
        Wanted::from_options(
            self.platform.last().map(String::as_str),
            self.os.as_deref(),
            self.arch.as_deref(),
            self.variant.as_deref(),
        )
    }
}

/// Where the IDs of an image's files come from.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct TierOption {
    /// Unpack for this source of IDs: range, root or single; default: the best there is
    #[arg(long, value_name = "TIER")]
    pub id_tier: Option<Tier>,
}

/// docker's switch for signatures of its own kind, which sbx does not verify.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct TrustOption {
    /// Accepted for docker's sake: no content trust is ever asked for
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set, hide = true)]
    pub disable_content_trust: Option<bool>,
}

impl TrustOption {
    /// # Errors
    /// Signatures are asked for.
    pub fn check(self) -> Result<()> {
        match self.disable_content_trust {
            Some(false) => Err(Error::new("cannot verify content trust")
                .because("`--disable-content-trust=false` asks for signatures of docker's Notary, which sbx does not know")
                .hint("name the image by its digest: `NAME@sha256:…`")),
            _ => Ok(()),
        }
    }
}

/// A name in a registry, without skopeo's word for that.
///
/// # Errors
/// Another of skopeo's words: those are for `load` and `save`.
pub fn registry_name(text: &str) -> Result<String> {
    if let Some(name) = text.strip_prefix("docker://") {
        return Ok(name.to_owned());
    }
    if let Some((scheme @ ("http" | "https"), name)) = text.split_once("://") {
        let error = Error::new(format!("cannot use `{text}` as the name of an image"))
            .because(format!("the name begins with the registry's, without `{scheme}://`"));
        return Err(error.hint(match scheme {
            "http" => format!("write `{name}`, with `--tls-verify=false` where the registry needs that"),
            _ => format!("write `{name}`"),
        }));
    }
    const OTHERS: &[&str] =
        &["docker-archive", "oci-archive", "oci", "dir", "docker-daemon", "containers-storage", "sif"];
    match text.split_once(':') {
        Some((word, path)) if OTHERS.contains(&word) && path.starts_with(['/', '.']) => {
            Err(Error::new(format!("cannot use `{text}` as the name of an image in a registry"))
                .because(format!("`{word}:` names a place on this machine"))
                .hint(format!("`sbx load -i {path}` reads it, `sbx save -o {path}` writes it")))
        }
        _ => Ok(text.to_owned()),
    }
}
