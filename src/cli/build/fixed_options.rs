//! Options of podman and docker of which a build can honour some values alone.

use crate::error::{Error, Result};

/// What is always as it is here; hidden, for scripts write them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FixedOptions {
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    rm: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    force_rm: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    compress: Option<String>,
    #[arg(short = 'D', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    disable_compression: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    identity_label: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    created_annotation: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    compat_volumes: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    rewrite_timestamp: Option<String>,
    #[arg(long, value_name = "TYPE", hide = true)]
    isolation: Option<String>,
    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    provenance: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    sbom: Option<String>,
    #[arg(long, value_name = "ATTESTATION", hide = true)]
    attest: Option<String>,
    #[arg(long, value_name = "METHOD", hide = true)]
    call: Option<String>,
}

const YES: &[&str] = &["true", "1"];
const NO: &[&str] = &["false", "0"];
const BOTH: &[&str] = &["true", "1", "false", "0"];

impl FixedOptions {
    /// Whether docker's `--call=check` asks for a check.
    pub fn checks(&self) -> bool {
        self.call.as_deref() == Some("check")
    }

    /// # Errors
    /// A value cannot be honoured.
    pub fn check(&self) -> Result<()> {
        let rows: [(&str, &Option<String>, &[&str], &str); 14] = [
            ("--rm", &self.rm, YES, "a step's container is always removed"),
            ("--force-rm", &self.force_rm, YES, "a step's container is always removed"),
            // docker's: the context goes nowhere that would be far.
            ("--compress", &self.compress, BOTH, ""),
            (
                "--disable-compression",
                &self.disable_compression,
                YES,
                "layers lie in the store as they are, and are packed when they are pushed",
            ),
            (
                "--identity-label",
                &self.identity_label,
                NO,
                "an image says nothing of the program that built it, so that the same files are the same image",
            ),
            (
                "--created-annotation",
                &self.created_annotation,
                NO,
                "when an image was made is in its configuration; `--annotation` sets annotations",
            ),
            (
                "--compat-volumes",
                &self.compat_volumes,
                NO,
                "what a RUN changes below a VOLUME is kept, as BuildKit has it",
            ),
            (
                "--rewrite-timestamp",
                &self.rewrite_timestamp,
                YES,
                "with SOURCE_DATE_EPOCH no file of a new layer is younger than that",
            ),
            (
                "--isolation",
                &self.isolation,
                &["default", "oci", "rootless"],
                "each command runs in a sandbox of its own, and in no chroot beside the caller's own processes",
            ),
            ("--builder", &self.builder, &["default", ""], "there are no builders: sbx builds by itself"),
            ("--provenance", &self.provenance, NO, "attestations are not written"),
            ("--sbom", &self.sbom, NO, "attestations are not written"),
            ("--attest", &self.attest, &[], "attestations are not written"),
            ("--call", &self.call, &["build", "check"], "a Dockerfile is built or checked"),
        ];
        for (flag, value, taken, reason) in rows {
            let Some(value) = value else { continue };
            // docker's and podman's long words of attestations.
            let disabled = value.split(',').any(|field| field == "disabled=true");
            if !taken.contains(&value.as_str()) && !disabled {
                return Err(Error::new(format!("cannot honour `{flag}={}`", value.escape_debug()))
                    .because(reason)
                    .hint(format!("leave out `{flag}`")));
            }
        }
        Ok(())
    }
}
