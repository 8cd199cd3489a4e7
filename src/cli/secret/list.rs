//! `sbx secret ls`

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::container::duration::ago;
use crate::error::{Error, Result};
use crate::output::print;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};
use crate::secret::Secret;

const TITLES: Titles<'_> = &[("CreatedAt", "CREATED"), ("UpdatedAt", "UPDATED")];

/// List secrets
///
/// Fields for templates: ID, Name, Driver, CreatedAt, UpdatedAt, Labels.
#[derive(Debug, clap::Args)]
#[command(after_help = "Filters (`--filter KEY=VALUE`, again for more): id, label, name.

Examples:
  sbx secret ls
  sbx secret ls --filter name=db -q
  sbx secret ls --format '{{.Name}}\\t{{.UpdatedAt}}'")]
pub struct ListArgs {
    /// List only secrets that fit
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print `json`, or what a Go template makes of each secret
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Leave out the heading
    #[arg(short, long, visible_alias = "no-heading")]
    noheading: bool,
    /// Print IDs alone
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
}

pub fn execute(args: &ListArgs, global: &Global) -> Result<u8> {
    let format = args.format.as_deref().filter(|text| !text.is_empty()).map(Format::parse).transpose()?;
    let filters = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
    let mut listed = super::secrets(global)?.0.list()?;
    listed.retain(|secret| fits(&filters, secret));
    let rows: Vec<Value> = listed.iter().map(row).collect();
    print::text(&match format {
        Some(format) => format.list(&rows, TITLES)?,
        None if args.quiet => listed.iter().map(|secret| format!("{}\n", secret.id)).collect(),
        None => table(&rows, args.noheading),
    })?;
    Ok(0)
}

fn row(secret: &Secret) -> Value {
    let now = Timestamp::now().as_second().unsigned_abs();
    let since = |time: &str| {
        let then = time.parse::<Timestamp>().map_or(now, |time| time.as_second().unsigned_abs());
        ago(then, now)
    };
    json!({
        "ID": secret.id,
        "Name": secret.name,
        "Driver": "file",
        "CreatedAt": since(&secret.created),
        "UpdatedAt": since(&secret.updated),
        "Labels": secret.labels,
    })
}

fn table(rows: &[Value], bare: bool) -> String {
    const COLUMNS: [&str; 5] = ["ID", "Name", "Driver", "CreatedAt", "UpdatedAt"];
    let mut table = match bare {
        true => Table::without_header(),
        false => Table::new(["ID", "NAME", "DRIVER", "CREATED", "UPDATED"]),
    };
    for row in rows {
        table.push(COLUMNS.map(|column| row[column].as_str().unwrap_or_default()));
    }
    table.render()
}

enum Filter {
    Id(String),
    Name(String),
    Label(String, Option<String>),
}

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::new(format!("cannot filter by `{}`", text.escape_debug()));
        let (key, value) = text.split_once('=').ok_or_else(|| wrong().because("it is not `KEY=VALUE`"))?;
        match key {
            "id" => Ok(Self::Id(value.to_owned())),
            "name" => Ok(Self::Name(value.to_owned())),
            "label" => Ok(match value.split_once('=') {
                Some((name, wanted)) => Self::Label(name.to_owned(), Some(wanted.to_owned())),
                None => Self::Label(value.to_owned(), None),
            }),
            _ => Err(wrong().hint("there are: id, label, name")),
        }
    }
}

/// Of the IDs and of the names one has to fit, of the labels all.
fn fits(filters: &[Filter], secret: &Secret) -> bool {
    let any = |fits: &dyn Fn(&Filter) -> Option<bool>| {
        let mut answers = filters.iter().filter_map(fits).peekable();
        answers.peek().is_none() || answers.any(|fits| fits)
    };
    any(&|filter| match filter {
        Filter::Id(id) => Some(secret.id.starts_with(id.as_str())),
        _ => None,
    }) && any(&|filter| match filter {
        Filter::Name(name) => Some(secret.name.contains(name.as_str())),
        _ => None,
    }) && filters.iter().all(|filter| match filter {
        Filter::Label(name, wanted) => {
            secret.labels.get(name).is_some_and(|found| wanted.as_ref().is_none_or(|wanted| wanted == found))
        }
        _ => true,
    })
}
