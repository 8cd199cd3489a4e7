//! `sbx pod inspect`

use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::failures::{Failures, MISSING};
use crate::error::{Result, Step};
use crate::output::print;
use crate::output::template::Format;
use crate::pod::{self, Pod};

/// Show all that is known of pods, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pod inspect site
  sbx pod inspect -f '{{.State}} {{.NumContainers}}' site")]
pub struct InspectArgs {
    /// Print `json`, or what a Go template makes of each
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Names or IDs
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
}

pub fn execute(args: &InspectArgs, global: &Global) -> Result<u8> {
    let text = args.format.as_deref().map(str::trim).filter(|text| !text.is_empty() && *text != "json");
    let format = text.map(Format::parse).transpose()?;
    let place = Place::of(global)?;
    let mut failures = Failures::default();
    let mut found = Vec::new();
    for word in &args.pods {
        match document(&place, word) {
            Ok(Some(pod)) => found.push(pod),
            Ok(None) => failures.add(pod::missing(word).exit_code(MISSING)),
            Err(error) => failures.add(error),
        }
    }
    print::text(&match format {
        Some(format) => format.list(&found, &[])?,
        None => serde_json::to_string_pretty(&found).step(|| "cannot print JSON")? + "\n",
    })?;
    failures.finish()
}

/// What is known of one; none: it is not there.
///
/// # Errors
/// The pods cannot be read, or the word means several.
pub(crate) fn document(place: &Place, word: &str) -> Result<Option<Value>> {
    Ok(super::pods(place).find(word)?.map(|pod| of(place, &pod)))
}

/// podman's fields (podman-pod-inspect(1)).
fn of(place: &Place, pod: &Pod) -> Value {
    let members = pod::members(&place.store, pod);
    let container = |member: &crate::container::list::Listed| {
        json!({
            "Id": member.id,
            "Name": member.spec.as_ref().map(|spec| spec.name.as_str()).unwrap_or_default(),
            "State": member.status.name(),
        })
    };
    json!({
        "Id": pod.id,
        "Name": pod.name,
        "Created": pod.created,
        "State": pod::state(&members),
        "Labels": pod.labels,
        "CgroupParent": pod.cgroup_parent.as_deref().unwrap_or_default(),
        "CreateInfra": false,
        "InfraContainerID": "",
        "SharedNamespaces": [],
        "NumContainers": members.len(),
        "Containers": members.iter().map(container).collect::<Vec<_>>(),
    })
}
