//! `sbx history`, `sbx image history`

use serde_json::{Value, json};

use super::list::{created_at, created_since};
use super::{Stores, missing};
use crate::cli::Global;
use crate::container::size;
use crate::error::Result;
use crate::image::history::{self, Step};
use crate::image::store::Image;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};
use crate::output::{print, width};
use crate::sys::time::Utc;

/// More of a command makes the table wide, not clear.
const LONGEST_COMMAND: usize = 45;
/// Steps whose images were never stored.
const MISSING: &str = "<missing>";

const TITLES: Titles<'_> =
    &[("ID", "IMAGE"), ("CreatedSince", "CREATED"), ("CreatedAt", "CREATED AT"), ("CreatedBy", "CREATED BY")];

/// Show how an image was made
///
/// The last step first. Fields for templates: ID, Created, CreatedSince, CreatedAt, CreatedBy, Size, Comment, Tags.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx history debian:12
  sbx history --no-trunc --format '{{.Size}}\\t{{.CreatedBy}}' debian:12
  sbx history -H=false debian:12")]
pub struct HistoryArgs {
    /// Print `json`, or what a Go template makes of each step
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print sizes and times for people; else bytes and RFC 3339
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Print whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Print IDs alone
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// A name or ID
    image: String,
}

pub fn execute(args: &HistoryArgs, global: &Global) -> Result<u8> {
    let text = args.format.as_deref().filter(|text| !text.is_empty());
    let format = text.map(Format::parse).transpose()?;
    let stores = Stores::of(global)?;
    let image = stores.images.find(&args.image)?.ok_or_else(|| missing(&args.image))?;
    let steps = history::of(&stores.images, &image);
    let now = Utc::now().seconds();
    let rows: Vec<Value> =
        steps.iter().enumerate().map(|(at, step)| row(&image, at, step, now, args)).collect();
    let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    print::text(&match (format, text.map(str::trim)) {
        (Some(format), Some("json")) => {
            let whole = |(at, step): (usize, &Step)| document(&image, at, step);
            format.list(&steps.iter().enumerate().map(whole).collect::<Vec<_>>(), TITLES)?
        }
        (Some(format), _) => format.list(&rows, TITLES)?,
        _ if args.quiet => rows.iter().map(|row| cell(row, "ID") + "\n").collect(),
        _ => {
            let mut table = Table::new(["image", "created", "created by", "size", "comment"]);
            for row in &rows {
                table.push(["ID", "Created", "CreatedBy", "Size", "Comment"].map(|field| cell(row, field)));
            }
            table.render()
        }
    })?;
    Ok(0)
}

fn row(image: &Image, at: usize, step: &Step, now: u64, args: &HistoryArgs) -> Value {
    let id = match (at, args.no_trunc) {
        (0, true) => image.id.as_str(),
        (0, false) => image.id.short(),
        _ => MISSING,
    };
    let command = step.created_by.replace('\t', " ");
    let command = if args.no_trunc { command } else { width::shorten(&command, LONGEST_COMMAND) };
    let at_time = step.created.map_or_else(|| "N/A".to_owned(), |time| time.to_string());
    let at_utc = created_at(step.created);
    let since = created_since(step.created, now);
    json!({
        "ID": id,
        "Created": if args.human { &since } else { &at_time },
        "CreatedSince": since,
        "CreatedAt": if args.human { &at_utc } else { &at_time },
        "CreatedBy": command,
        "Size": if args.human { size::decimal(step.size) } else { step.size.to_string() },
        "Comment": step.comment,
        "Tags": tags(image, at),
    })
}

/// podman's JSON.
fn document(image: &Image, at: usize, step: &Step) -> Value {
    json!({
        "id": if at == 0 { image.id.hex() } else { MISSING },
        "created": step.created.map(|time| time.to_string()),
        "createdBy": step.created_by,
        "size": step.size,
        "comment": step.comment,
        "emptyLayer": step.empty,
        "tags": tags(image, at),
    })
}

fn tags(image: &Image, at: usize) -> Vec<String> {
    if at == 0 { image.names.iter().map(|name| name.familiar()).collect() } else { Vec::new() }
}
