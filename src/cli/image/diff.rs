//! `sbx image diff`

use serde_json::{Value, json};

use super::{Stores, missing};
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::image::difference::{self, Change};
use crate::image::store::Image;
use crate::output::print;

/// Show what the topmost layer of an image changes
///
/// Or, with a second image, what the first has that the second has not. `A` was added, `C` changed, `D` deleted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx image diff tool:1.2
  sbx image diff tool:1.2 debian:12
  sbx image diff --format json tool:1.2")]
pub struct DiffArgs {
    /// Print `json`
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// A name or ID
    image: String,
    /// The image to compare with
    #[arg(value_name = "BASE")]
    base: Option<String>,
}

pub fn execute(args: &DiffArgs, global: &Global) -> Result<u8> {
    let stores = Stores::of(global)?;
    let lease = stores.images.lease()?;
    let find = |word: &str| -> Result<Image> {
        let image = stores.images.find(word)?.ok_or_else(|| missing(word))?;
        // Another command may remove it while its layers are read.
        image.document.layers.iter().try_for_each(|layer| lease.add(&layer.digest))?;
        Ok(image)
    };
    let image = find(&args.image)?;
    let base = args.base.as_deref().map(find).transpose()?;
    if image.document.layers.is_empty() {
        return Err(
            Error::new(format!("cannot tell what `{}` changes", args.image)).because("it has no layers")
        );
    }
    let changes = difference::between(&stores.images, &image, base.as_ref())?;
    print::text(&if args.format.is_some() { document(&changes) } else { lines(&changes) })?;
    Ok(0)
}

fn lines(changes: &[(Change, Vec<u8>)]) -> String {
    let line = |(change, path): &(Change, Vec<u8>)| {
        let letter = match change {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Deleted => 'D',
        };
        format!("{letter} {}\n", shown(path))
    };
    changes.iter().map(line).collect()
}

fn document(changes: &[(Change, Vec<u8>)]) -> String {
    let of = |wanted: Change| -> Vec<String> {
        let those = changes.iter().filter(|(change, _)| *change == wanted);
        those.map(|(_, path)| String::from_utf8_lossy(path).into_owned()).collect()
    };
    let mut document = serde_json::Map::new();
    for (key, change) in
        [("added", Change::Added), ("changed", Change::Changed), ("deleted", Change::Deleted)]
    {
        let paths = of(change);
        if !paths.is_empty() {
            document.insert(key.to_owned(), json!(paths));
        }
    }
    Value::Object(document).to_string() + "\n"
}

/// Names of an archive could command the reader's terminal.
fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
