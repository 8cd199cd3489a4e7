//! `sbx oci state`

use crate::container::user::passwd_entries;
use crate::error::{Result, Step};
use crate::oci::state::{Container, Root, Status};
use crate::output::print;

/// Show the state of a container as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci state web")]
pub struct StateArgs {
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
}

pub fn execute(args: &StateArgs, root: &Root) -> Result<u8> {
    let text = serde_json::to_string_pretty(&document(&root.find(&args.id)?)).step(|| "cannot write JSON")?;
    print::line(&text)?;
    Ok(0)
}

/// What the specification asks for, and what runc adds.
pub(super) fn document(container: &Container) -> serde_json::Value {
    let state = &container.state;
    let status = container.status();
    // One that is just being made may have none yet.
    let annotations = container.spec().map(|spec| spec.annotations).unwrap_or_default();
    let pid = match status {
        Status::Stopped => 0,
        _ => state.init.map_or(0, |init| init.pid),
    };
    let mut document = serde_json::json!({
        "ociVersion": crate::oci::config::VERSION,
        "id": state.id,
        "pid": pid,
        "status": status.name(),
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created,
        "owner": owner(state.owner),
    });
    if !annotations.is_empty() {
        document["annotations"] = serde_json::json!(annotations);
    }
    document
}

/// The name of a user in /etc/passwd, or the number in runc's form.
pub(super) fn owner(user: u32) -> String {
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    let entry = passwd_entries(&passwd).find(|entry| entry.uid == user);
    entry.map_or_else(|| format!("#{user}"), |entry| String::from_utf8_lossy(entry.name).into_owned())
}
