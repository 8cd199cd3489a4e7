//! `--format`: `json`, a Go template, or `table` and a Go template.

mod functions;
mod pieces;
mod shown;

use gotmpl::{MissingKey, TemplateError, Value as GoValue};
use serde_json::Value;

use super::table::Table;
use crate::error::{Error, Result, Step};
use pieces::Piece;

/// Longer templates are no one-liners any more.
const MAX_LENGTH: usize = 64 << 10;

/// Maps whose keys are the user's.
const OPEN_MAPS: &[&str] = &[".Labels", ".Annotations", ".Networks", ".Sysctls"];

/// A column's title where it is not the field's name in capitals: (`ID`, `CONTAINER ID`).
pub type Titles<'a> = &'a [(&'a str, &'a str)];

/// A `--format` that was read and is sound.
pub struct Format {
    text: String,
    kind: Kind,
}

enum Kind {
    Json,
    Lines(gotmpl::Template),
    Table(gotmpl::Template, Vec<Piece>),
}

impl Format {
    /// Reads the flag's text. Outside of `{{ }}` the escapes `\t`, `\n` and `\\` are interpreted.
    ///
    /// # Errors
    /// The template is unsound; the message has its place.
    pub fn parse(text: &str) -> Result<Self> {
        let kind = match text.trim() {
            "json" => Kind::Json,
            "table" => {
                return Err(wrong(text).because("a template is missing after `table`").hint(
                    "write `--format 'table {{.ID}}\\t{{.Name}}'`, or leave the flag out for the usual table",
                ));
            }
            trimmed => match trimmed.strip_prefix("table ") {
                Some(columns) => {
                    let pieces = pieces::split(columns.trim_start());
                    Kind::Table(compile(text, &pieces)?, pieces)
                }
                None => Kind::Lines(compile(text, &pieces::split(text))?),
            },
        };
        Ok(Self { text: text.to_owned(), kind })
    }

    /// Whether it is `json`.
    pub fn is_json(&self) -> bool {
        matches!(self.kind, Kind::Json)
    }

    /// Whether it is `{{json .}}`: docker's way to ask for all fields of each.
    pub fn is_whole_json(&self) -> bool {
        let inner = self.text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        inner.is_some_and(|inner| inner.split_whitespace().eq(["json", "."]))
    }

    /// Writes a list, a line for each row; `json` is one array of all.
    ///
    /// # Errors
    /// A row lacks a field that the template names.
    pub fn list(&self, rows: &[Value], titles: Titles<'_>) -> Result<String> {
        match &self.kind {
            Kind::Json => self.json(&rows),
            Kind::Lines(template) => rows.iter().map(|row| Ok(self.execute(template, row)? + "\n")).collect(),
            Kind::Table(template, pieces) => {
                let mut table = Table::new(pieces::titles(pieces, titles));
                self.fill(&mut table, template, rows)?;
                Ok(table.render())
            }
        }
    }

    /// A list without the heading of a table: `--noheading`.
    ///
    /// # Errors
    /// As [`Format::list`].
    pub fn list_without_heading(&self, rows: &[Value]) -> Result<String> {
        let Kind::Table(template, _) = &self.kind else { return self.list(rows, &[]) };
        let mut table = Table::without_header();
        self.fill(&mut table, template, rows)?;
        Ok(table.render())
    }

    fn fill(&self, table: &mut Table, template: &gotmpl::Template, rows: &[Value]) -> Result<()> {
        for row in rows {
            for line in self.execute(template, row)?.lines() {
                table.push(line.split('\t'));
            }
        }
        Ok(())
    }

    /// Writes one object, as `info` and `version` do.
    ///
    /// # Errors
    /// The object lacks a field that the template names.
    pub fn object(&self, object: &Value) -> Result<String> {
        match &self.kind {
            Kind::Json => self.json(object),
            _ => self.list(std::slice::from_ref(object), &[]),
        }
    }

    fn json(&self, value: &impl serde::Serialize) -> Result<String> {
        let text = serde_json::to_string_pretty(value)
            .step(|| format!("cannot print with `--format {}`", self.text))?;
        Ok(text + "\n")
    }

    fn execute(&self, template: &gotmpl::Template, row: &Value) -> Result<String> {
        let data = functions::from_json(row);
        template.execute_to_string(&data).or_else(|error| self.execute_again(error, row)).map_err(|error| {
            match error {
                TemplateError::MissingKey { key } => {
                    let error = wrong(&self.text).because(format!("there is no field `{key}`"));
                    match row.as_object() {
                        Some(fields) => {
                            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                            error.hint(format!("the fields are {}", names.join(", ")))
                        }
                        None => error,
                    }
                }
                error => wrong(&self.text).because(error),
            }
        })
    }

    /// What Go knows by types. The field of an ID is `ID` for templates and `Id` in JSON; and a label that is not there
    /// is no unknown field.
    fn execute_again(&self, error: TemplateError, row: &Value) -> Result<String, TemplateError> {
        let TemplateError::MissingKey { key } = &error else { return Err(error) };
        let pieces = || match &self.kind {
            Kind::Table(_, pieces) => pieces::split(&pieces.iter().map(Piece::text).collect::<String>()),
            _ => pieces::split(&self.text),
        };
        if key == "ID"
            && let (Some(id), None) = (row.get("Id"), row.get("ID"))
        {
            let mut row = row.clone();
            row["ID"] = id.clone();
            let data = functions::from_json(&row);
            return read(&pieces(), MissingKey::Error)?
                .execute_to_string(&data)
                .or_else(|error| self.execute_again(error, &row));
        }
        if OPEN_MAPS.iter().any(|map| self.text.contains(&format!("{map}.{key}"))) {
            return read(&pieces(), MissingKey::Invalid)?.execute_to_string(&functions::from_json(row));
        }
        Err(error)
    }
}

fn wrong(text: &str) -> Error {
    Error::new(format!("cannot print with `--format {text}`"))
}

fn compile(text: &str, pieces: &[Piece]) -> Result<gotmpl::Template> {
    if text.len() > MAX_LENGTH {
        return Err(
            Error::new("cannot print with the template of `--format`").because("it is longer than 64 KiB")
        );
    }
    pieces::check_depth(text).map_err(|cause| wrong(text).because(cause))?;
    pieces::check_ends(pieces).map_err(|cause| wrong(text).because(cause))?;
    read(pieces, MissingKey::Error).map_err(|error| {
        wrong(text)
            .because(error.to_string().trim_start_matches("template: "))
            .hint("write a Go template such as `{{.ID}}` or `{{json .}}`, or `json`")
    })
}

fn read(pieces: &[Piece], missing: MissingKey) -> Result<gotmpl::Template, TemplateError> {
    let source: String = pieces.iter().map(|piece| piece.printing(shown::FUNCTION)).collect();
    gotmpl::Template::new("")
        .missing_key(missing)
        .max_range_iters(1_000_000)
        .funcs(functions::all())
        .parse(&source)
}

/// A gotmpl value as JSON: what `{{json .X}}` prints.
fn to_json(value: &GoValue) -> Value {
    match value {
        GoValue::Bool(truth) => Value::from(*truth),
        GoValue::Int(number) => Value::from(*number),
        GoValue::Uint(number) => Value::from(*number),
        GoValue::Float(number) => Value::from(*number),
        GoValue::String(text) => Value::from(text.as_ref()),
        GoValue::List(items) => items.iter().map(to_json).collect(),
        GoValue::Map(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.to_string(), to_json(value))).collect())
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests;
