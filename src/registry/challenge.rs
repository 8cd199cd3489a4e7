//! What a registry asks of who asks: the header WWW-Authenticate (RFC 9110, 11.6.1; distribution project, token
//! authentication).

use std::collections::BTreeMap;

/// Parameters that are taken of one challenge; no registry sends more than four.
const MOST: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    /// A token of this server for this service.
    Bearer {
        realm: String,
        service: String,
    },
}

/// The challenges of one header that sbx can answer, in order.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    for (scheme, parameters) in split(header) {
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" => {
                if let Some(realm) = parameters.get("realm").filter(|realm| !realm.is_empty()) {
                    let service = parameters.get("service").cloned().unwrap_or_default();
                    found.push(Challenge::Bearer { realm: realm.clone(), service });
                }
            }
            _ => {}
        }
    }
    found
}

/// Schemes with their parameters; what does not fit ends the list.
fn split(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut challenges: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start_matches([' ', '\t']);
        if word.is_empty() {
            break;
        }
        match after.strip_prefix('=') {
            // `name=value`, but not the padding of `Negotiate token68==`.
            Some(value) if !value.starts_with('=') => {
                let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = challenges.last_mut()
                    && parameters.len() < MOST
                {
                    parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                rest = after;
            }
            Some(padding) => rest = padding.trim_start_matches('='),
            None => {
                challenges.push((word.to_owned(), BTreeMap::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    challenges
}

/// A token or a quoted string, and what follows.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: &str) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.to_owned() }
    }

    #[test]
    fn challenges_are_told_apart() {
        for (header, wanted) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#,
                vec![bearer("https://auth.docker.io/token", "registry.docker.io")],
            ),
            (r#"Basic realm="tests""#, vec![Challenge::Basic]),
            (r#"basic"#, vec![Challenge::Basic]),
            (
                r#"Negotiate YWJj==, Basic realm="a, \"b\"", BEARER Realm = x , service=y"#,
                vec![Challenge::Basic, bearer("x", "y")],
            ),
            (r#"Bearer error="invalid_token""#, vec![]),
            (r#"Bearer realm="open"#, vec![bearer("open", "")]),
            ("", vec![]),
            (",,=", vec![]),
        ] {
            assert_eq!(parse(header), wanted, "{header}");
        }
    }
}
