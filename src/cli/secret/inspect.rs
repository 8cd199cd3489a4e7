//! `sbx secret inspect`

use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::failures::{Failures, MISSING};
use crate::error::{Error, Result, Step};
use crate::output::print;
use crate::output::template::Format;
use crate::secret::{Secret, missing};

/// Show all that is known of secrets, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx secret inspect key
  sbx secret inspect --showsecret -f '{{.SecretData}}' key")]
pub struct InspectArgs {
    /// Print `json`, or what a Go template makes of each
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print as text for people
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
    /// Show the data, too
    #[arg(long)]
    showsecret: bool,
    /// Names or IDs
    #[arg(required = true, value_name = "SECRET")]
    secrets: Vec<String>,
}

pub fn execute(args: &InspectArgs, global: &Global) -> Result<u8> {
    let text = args.format.as_deref().map(str::trim).filter(|text| !text.is_empty() && *text != "json");
    let format = text.map(Format::parse).transpose()?;
    let (secrets, _) = super::secrets(global)?;
    let mut failures = Failures::default();
    let mut found = Vec::new();
    for word in &args.secrets {
        match secrets.find(word) {
            Ok(Some(secret)) => found.push(document(&secret, args.showsecret)?),
            Ok(None) => failures.add(missing(word).exit_code(MISSING)),
            Err(error) => failures.add(error),
        }
    }
    print::text(&match format {
        Some(format) => format.list(&found, &[])?,
        None if args.pretty => found.iter().map(pretty).collect(),
        None => serde_json::to_string_pretty(&found).step(|| "cannot print JSON")? + "\n",
    })?;
    failures.finish()
}

fn document(secret: &Secret, with_data: bool) -> Result<Value> {
    let mut document = json!({
        "ID": secret.id,
        "CreatedAt": secret.created,
        "UpdatedAt": secret.updated,
        "Spec": {
            "Name": secret.name,
            "Driver": { "Name": "file", "Options": {} },
            "Labels": secret.labels,
        },
    });
    if with_data {
        let text = String::from_utf8(secret.data.clone()).map_err(|_| {
            Error::new(format!("cannot show the secret `{}`", secret.name)).because("it is not UTF-8").hint(
                format!(
                    "write it out in a container: `sbx run --rm --secret {} host cat /run/secrets/{}`",
                    secret.name, secret.name
                ),
            )
        })?;
        document["SecretData"] = json!(text);
    }
    Ok(document)
}

fn pretty(document: &Value) -> String {
    let text = |place: &str| document.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut lines = vec![
        ("ID:", text("/ID")),
        ("Name:", text("/Spec/Name")),
        ("Driver:", text("/Spec/Driver/Name")),
        ("Created at:", text("/CreatedAt")),
        ("Updated at:", text("/UpdatedAt")),
    ];
    if document.get("SecretData").is_some() {
        lines.push(("Secret:", text("/SecretData")));
    }
    let mut text: String = lines
        .into_iter()
        .map(|(title, value)| format!("{title:<20}{}\n", crate::output::harmless::line(&value)))
        .collect();
    let labels = document.pointer("/Spec/Labels").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in labels {
        let value = value.as_str().unwrap_or_default();
        text.push_str(&format!(
            "{:<20}{}\n",
            "Label:",
            crate::output::harmless::line(&format!("{name}={value}"))
        ));
    }
    text + "\n"
}
