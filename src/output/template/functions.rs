//! The functions that docker adds to Go's own (`len`, `index`, `eq`, `println`, …).

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{FuncMap, Result, TemplateError, Value};

/// Spaces that `pad` adds at most on each side.
const MAX_PAD: i64 = 1024;

/// A name, its number of arguments, and what it does with them.
type Function = (&'static str, usize, fn(&[Value]) -> Result<Value>);

const FUNCTIONS: &[Function] = &[
    ("json", 1, |arguments| Ok(string(super::to_json(&arguments[0]).to_string()))),
    ("join", 2, |arguments| {
        let Value::List(items) = &arguments[0] else { return mismatch("a list", &arguments[0]) };
        let items: Vec<String> = items.iter().map(Value::to_string).collect();
        Ok(string(items.join(text(&arguments[1])?)))
    }),
    ("lower", 1, |arguments| Ok(string(text(&arguments[0])?.to_lowercase()))),
    ("upper", 1, |arguments| Ok(string(text(&arguments[0])?.to_uppercase()))),
    ("title", 1, |arguments| Ok(string(title(text(&arguments[0])?)))),
    ("split", 2, |arguments| {
        let (whole, separator) = (text(&arguments[0])?, text(&arguments[1])?);
        let parts: Vec<Value> = match separator {
            // Go splits into characters, without empty ends.
            "" => whole.chars().map(|c| string(c.to_string())).collect(),
            _ => whole.split(separator).map(|part| string(part.to_owned())).collect(),
        };
        Ok(Value::List(parts.into()))
    }),
    ("truncate", 2, |arguments| {
        let length = usize::try_from(number(&arguments[1])?).unwrap_or(0);
        Ok(string(text(&arguments[0])?.chars().take(length).collect()))
    }),
    ("pad", 3, |arguments| {
        let (text, before, after) = (text(&arguments[0])?, spaces(&arguments[1])?, spaces(&arguments[2])?);
        Ok(string(if text.is_empty() { String::new() } else { before + text + &after }))
    }),
];

pub(super) fn all() -> FuncMap {
    let mut all = FuncMap::new();
    for (name, count, function) in FUNCTIONS {
        let checked = |arguments: &[Value]| {
            if arguments.len() != *count {
                return Err(TemplateError::ArgCount {
                    name: (*name).to_owned(),
                    expected: *count,
                    got: arguments.len(),
                });
            }
            function(arguments)
        };
        all.insert((*name).to_owned(), Arc::new(checked));
    }
    all.insert("index".to_owned(), Arc::new(index));
    all.insert(super::shown::FUNCTION.to_owned(), Arc::new(super::shown::function));
    all
}

/// Go's own, but for what a map of texts, such as labels, does not have: Go knows the type and gives an empty text.
fn index(arguments: &[Value]) -> Result<Value> {
    let Some((whole, indices)) = arguments.split_first() else {
        return Err(TemplateError::ArgCount { name: "index".to_owned(), expected: 1, got: 0 });
    };
    indices.iter().try_fold(whole.clone(), |value, index| match (value.index(index)?, &value) {
        (Value::Nil, Value::Map(fields)) if fields.values().all(|field| field.as_str().is_some()) => {
            Ok(string(String::new()))
        }
        (found, _) => Ok(found),
    })
}

fn string(text: String) -> Value {
    Value::String(text.into())
}

fn text(value: &Value) -> Result<&str> {
    match value.as_str() {
        Some(text) => Ok(text),
        None => mismatch("a string", value),
    }
}

fn number(value: &Value) -> Result<i64> {
    match value.as_int() {
        Some(number) => Ok(number),
        None => mismatch("a number", value),
    }
}

fn spaces(count: &Value) -> Result<String> {
    Ok(" ".repeat(number(count)?.clamp(0, MAX_PAD) as usize))
}

fn mismatch<T>(expected: &'static str, value: &Value) -> Result<T> {
    Err(TemplateError::TypeMismatch { expected, got: value.type_name() })
}

fn title(text: &str) -> String {
    let mut before = ' ';
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if before.is_alphanumeric() || matches!(before, '_' | '\'') {
            titled.push(c);
        } else {
            titled.extend(c.to_uppercase());
        }
        before = c;
    }
    titled
}

/// JSON as template data. Numbers that fit are signed, so that they compare with the numbers of a template.
pub(super) fn from_json(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Uint(number),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect()),
        Json::Object(fields) => {
            let fields: BTreeMap<Arc<str>, Value> =
                fields.iter().map(|(name, value)| (name.as_str().into(), from_json(value))).collect();
            Value::Map(Arc::new(fields))
        }
    }
}
