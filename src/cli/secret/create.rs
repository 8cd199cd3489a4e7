//! `sbx secret create`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Read};

use crate::cli::Global;
use crate::error::{Error, Result, Step};
use crate::events::Action;
use crate::output::print;
use crate::secret::LARGEST;

/// Keep a secret
///
/// Its data is that of a file, of standard input, or of a variable, at most 512 000 bytes. Only you can read it, and
/// who can read your files: it is not encrypted. The ID is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx secret create key ./key.pem
  pass show db | sbx secret create --replace db-password -
  sbx secret create --env token GITHUB_TOKEN")]
pub struct CreateArgs {
    /// How it is kept: in a file
    #[arg(short, long, value_name = "DRIVER", default_value = "file", value_parser = ["file"], hide_possible_values = true)]
    driver: String,
    /// The last word is the name of a variable that holds the data
    #[arg(long)]
    env: bool,
    /// Set a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Give one of this name the new data; containers that were made with the old keep that
    #[arg(long)]
    replace: bool,
    /// The name; up to 253 bytes, without `,`, `/` and `=`
    name: String,
    /// A file, `-` for standard input, or, with `--env`, a variable
    #[arg(value_name = "FILE|-")]
    source: String,
}

pub fn execute(args: &CreateArgs, global: &Global) -> Result<u8> {
    let labels = labels(&args.label)?;
    let data = if args.env { variable(&args.source)? } else { read(&args.source)? };
    let (secrets, store) = super::secrets(global)?;
    crate::host::paths::create_store(&store)?;
    let secret = secrets.create(&args.name, labels, data, args.replace)?;
    super::record(&store, Action::Create, &secret);
    print::line(&secret.id)?;
    Ok(0)
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(Error::new(format!("cannot use `--label {text}`")).hint("write KEY=VALUE"));
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}

fn variable(name: &str) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os(name).ok_or_else(|| {
        Error::new(format!("cannot take the secret from the variable `{}`", name.escape_debug()))
            .because("it is not set")
    })?;
    Ok(value.into_vec())
}

fn read(source: &str) -> Result<Vec<u8>> {
    let what = || match source {
        "-" => "cannot read the secret from standard input".to_owned(),
        path => format!("cannot read the secret from `{path}`"),
    };
    let input: Box<dyn Read> = match source {
        "-" if std::io::stdin().is_terminal() => {
            return Err(
                Error::new("cannot read a secret from a terminal").hint("name a file, or lead a pipe here")
            );
        }
        "-" => Box::new(std::io::stdin()),
        path => Box::new(File::open(path).step(what)?),
    };
    let mut data = Vec::new();
    // A byte more shows that it is too long.
    input.take(LARGEST + 1).read_to_end(&mut data).step(what)?;
    Ok(data)
}
