//! `sbx search`

use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::transfer::options::RegistryOptions;
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use crate::output::print;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};
use crate::registry::{Client, Hit};

const LIMIT: usize = 25;
const MOST: usize = 100;
/// More of a description makes the table wide, not clear.
const LONGEST_DESCRIPTION: usize = 45;
const TITLES: Titles<'_> = &[];

/// Search registries for images
///
/// All search registries of registries.conf are asked, docker.io where there are none; a term `REGISTRY/WORD` asks
/// that one alone. Fields for templates: Index, Name, Description, Stars, Official, Automated; with `--list-tags`
/// Name and Tag.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx search debian
  sbx search --filter is-official --limit 5 python
  sbx search --list-tags debian
  sbx search localhost:5000/tool")]
pub struct SearchArgs {
    /// Keep only what fits: `stars=N`, `is-official[=BOOL]`, `is-automated[=BOOL]`
    #[arg(short, long, value_name = "KEY[=VALUE]", conflicts_with = "list_tags")]
    filter: Vec<String>,
    /// Most results of each registry; 25 where tags are not listed
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// List the tags of the repository TERM
    #[arg(long)]
    list_tags: bool,
    /// Print whole descriptions
    #[arg(long)]
    no_trunc: bool,
    /// Print `json`, or what a Go template makes of each result
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    #[command(flatten)]
    registry: RegistryOptions,
    /// What to search for
    #[arg(value_name = "TERM")]
    term: String,
}

pub fn execute(args: &SearchArgs, _: &Global) -> Result<u8> {
    let format = args.format.as_deref().filter(|text| !text.is_empty()).map(Format::parse).transpose()?;
    let filter = Filter::parse(&args.filter)?;
    let client = Client::new(args.registry.resolve()?)?;
    if args.list_tags {
        return list_tags(&client, args, format.as_ref());
    }
    let limit = args.limit.unwrap_or(LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(Error::new(format!("cannot use `--limit {limit}`")).hint("it is a number from 1 to 100"));
    }
    let (registries, word) = match args.term.split_once('/') {
        Some((registry, word)) if !Reference::is_short(&args.term) => (vec![registry.to_owned()], word),
        _ => (client.registries().search().into_iter().map(str::to_owned).collect(), args.term.as_str()),
    };
    if args.term.is_empty() {
        return Err(Error::new("cannot search for nothing")
            .hint("name a part of the image's name: `sbx search debian`"));
    }
    let mut rows = Vec::new();
    let mut failed = None;
    for registry in registries {
        match client.search(&registry, word, limit) {
            Ok(hits) => {
                let kept = hits.iter().filter(|hit| filter.keeps(hit));
                rows.extend(kept.map(|hit| row(&registry, hit, args.no_trunc)));
            }
            // What the others have is worth showing.
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure.error) {
                    log::error!("{earlier}");
                }
            }
        }
    }
    print::text(&match &format {
        Some(format) => format.list(&rows, TITLES)?,
        None if rows.is_empty() && failed.is_some() => String::new(),
        None => table(&rows),
    })?;
    failed.map_or(Ok(0), Err)
}

fn list_tags(client: &Client, args: &SearchArgs, format: Option<&Format>) -> Result<u8> {
    let candidates = client.registries().resolve_short(&args.term)?;
    let mut found = None;
    for candidate in candidates {
        match client.tags(&candidate, args.limit) {
            Ok(tags) => {
                found = Some(Ok((candidate, tags)));
                break;
            }
            Err(failure) => found = Some(Err(failure.error)),
        }
    }
    let (reference, tags) = found.unwrap_or_else(|| Err(Error::new("there is no registry to ask")))?;
    let name = reference.familiar_repository();
    let rows: Vec<Value> = tags.iter().map(|tag| json!({ "Name": name, "Tag": tag })).collect();
    print::text(&match format {
        Some(format) => format.list(&rows, TITLES)?,
        None => {
            let mut table = Table::new(["name", "tag"]);
            for tag in &tags {
                table.push([name.as_str(), tag.as_str()]);
            }
            table.render()
        }
    })?;
    Ok(0)
}

fn row(registry: &str, hit: &Hit, whole: bool) -> Value {
    let name = if registry == "docker.io" { hit.name.clone() } else { format!("{registry}/{}", hit.name) };
    // A description may have lines; a table has none in a cell.
    let description = hit.description.split_whitespace().collect::<Vec<_>>().join(" ");
    let mark = |is: bool| if is { "[OK]" } else { "" };
    json!({
        "Index": registry,
        "Name": name,
        "Description": if whole { description } else { shorter(&description) },
        "Stars": hit.stars,
        "Official": mark(hit.official),
        "Automated": mark(hit.automated),
    })
}

fn shorter(text: &str) -> String {
    if text.chars().count() <= LONGEST_DESCRIPTION {
        return text.to_owned();
    }
    text.chars().take(LONGEST_DESCRIPTION - 1).chain(['…']).collect()
}

fn table(rows: &[Value]) -> String {
    let mut table = Table::new(["name", "description", "stars", "official"]);
    for row in rows {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        table.push([text("Name"), text("Description"), row["Stars"].to_string(), text("Official")]);
    }
    table.render()
}

/// `--filter`
#[derive(Debug, Default)]
struct Filter {
    stars: u64,
    official: Option<bool>,
    automated: Option<bool>,
}

impl Filter {
    fn parse(words: &[String]) -> Result<Self> {
        let mut filter = Self::default();
        for word in words {
            let refused = || Error::new(format!("cannot use `--filter {word}`"));
            let (key, value) = word.split_once('=').unwrap_or((word, "true"));
            let truth = || {
                value
                    .parse::<bool>()
                    .map(Some)
                    .map_err(|_| refused().because("it is neither `true` nor `false`"))
            };
            match key {
                "stars" => {
                    filter.stars =
                        value.parse().map_err(|_| refused().because("the stars are a whole number"))?;
                }
                "is-official" => filter.official = truth()?,
                "is-automated" => filter.automated = truth()?,
                _ => return Err(refused().hint("there are: stars, is-official, is-automated")),
            }
        }
        Ok(filter)
    }

    fn keeps(&self, hit: &Hit) -> bool {
        hit.stars >= self.stars
            && self.official.is_none_or(|official| hit.official == official)
            && self.automated.is_none_or(|automated| hit.automated == automated)
    }
}
