//! `sbx pod ps`

use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::container::Place;
use crate::container::duration::ago;
use crate::container::label::{self, LabelFilter};
use crate::container::store::short;
use crate::error::{Error, Result};
use crate::output::print;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};
use crate::pod::{self, Pod};
use crate::sys::time::Utc;

const TITLES: Titles<'_> =
    &[("Id", "POD ID"), ("ID", "POD ID"), ("NumberOfContainers", "# OF CONTAINERS"), ("InfraId", "INFRA ID")];

/// List pods
///
/// Fields for templates: Id, Name, Status, Created, NumberOfContainers, Containers, Labels, InfraId.
#[derive(Debug, clap::Args)]
#[command(after_help = "Filters (`--filter KEY=VALUE`, again for more): id, label, name, status.

Examples:
  sbx pod ps
  sbx pod ps --filter status=running -q")]
pub struct ListArgs {
    /// List only pods that fit
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print `json`, or what a Go template makes of each pod
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Leave out the heading
    #[arg(short, long, visible_alias = "no-heading")]
    noheading: bool,
    /// Print IDs alone
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
}

pub fn execute(args: &ListArgs, global: &Global) -> Result<u8> {
    let format = args.format.as_deref().filter(|text| !text.is_empty()).map(Format::parse).transpose()?;
    let filters = Filters::parse(&args.filter)?;
    let place = Place::of(global)?;
    let mut rows = Vec::new();
    for pod in super::pods(&place).list()? {
        let members = pod::members(&place.store, &pod);
        let state = pod::state(&members);
        if filters.fit(&pod, state) {
            rows.push(row(&pod, state, &members, args.no_trunc || args.format.as_deref() == Some("json")));
        }
    }
    print::text(&match format {
        Some(format) => format.list(&rows, TITLES)?,
        None if args.quiet => rows.iter().map(|row| cell(row, "Id") + "\n").collect(),
        None => table(&rows, args.noheading),
    })?;
    Ok(0)
}

fn row(pod: &Pod, state: &str, members: &[crate::container::list::Listed], whole: bool) -> Value {
    let container = |member: &crate::container::list::Listed| {
        json!({
            "Id": member.id,
            "Names": member.spec.as_ref().map(|spec| spec.name.as_str()).unwrap_or_default(),
            "Status": member.status.name(),
        })
    };
    let id = if whole { &pod.id } else { short(&pod.id) };
    json!({
        "Id": id,
        "ID": id,
        "Name": pod.name,
        "Status": state,
        "Created": ago(pod.created.seconds(), Utc::now().seconds()),
        "CreatedAt": pod.created,
        "InfraId": "",
        "Labels": pod.labels,
        "NumberOfContainers": members.len(),
        "Containers": members.iter().map(container).collect::<Vec<_>>(),
    })
}

fn cell(row: &Value, field: &str) -> String {
    match &row[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn table(rows: &[Value], bare: bool) -> String {
    const COLUMNS: [&str; 6] = ["Id", "Name", "Status", "Created", "InfraId", "NumberOfContainers"];
    let mut table = match bare {
        true => Table::without_header(),
        false => Table::new(["POD ID", "NAME", "STATUS", "CREATED", "INFRA ID", "# OF CONTAINERS"]),
    };
    for row in rows {
        table.push(COLUMNS.map(|column| cell(row, column)));
    }
    table.render()
}

/// Different keys all have to hold; of the same key one, but of labels all.
#[derive(Default)]
struct Filters {
    ids: Vec<String>,
    names: Vec<String>,
    states: Vec<String>,
    labels: Vec<LabelFilter>,
}

impl Filters {
    fn parse(texts: &[String]) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let wrong = || Error::new(format!("cannot filter by `{}`", text.escape_debug()));
            let (key, value) =
                text.split_once('=').ok_or_else(|| wrong().because("it is not `KEY=VALUE`"))?;
            match key {
                "id" => filters.ids.push(value.to_owned()),
                "name" => filters.names.push(value.to_owned()),
                "status" => filters.states.push(value.to_ascii_lowercase()),
                "label" => filters.labels.push(LabelFilter::new(value, true)),
                _ => return Err(wrong().hint("there are: id, label, name, status")),
            }
        }
        Ok(filters)
    }

    fn fit(&self, pod: &Pod, state: &str) -> bool {
        let any = |wanted: &[String], fits: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| fits(wanted))
        };
        any(&self.ids, &|id| pod.id.starts_with(id))
            && any(&self.names, &|name| pod.name.contains(name))
            && any(&self.states, &|wanted| state.eq_ignore_ascii_case(wanted))
            && label::all_fit(&self.labels, |key| pod.labels.get(key).map(String::as_str))
    }
}
