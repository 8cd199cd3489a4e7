//! Just as much of URLs as registries need (RFC 3986).

use ureq::http::Uri;

/// `a=b&c=d`, with everything escaped that is no letter, digit or one of `-._~`.
pub fn query(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| format!("{}={}", escape(name), escape(value));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

pub fn with_query(url: &str, fields: &[(&str, &str)]) -> String {
    if fields.is_empty() {
        return url.to_owned();
    }
    let between = match url.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{url}{between}{}", query(fields))
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The bytes that a text with `%XX` means.
pub fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

/// What a Location of the answer to `base` means. None where it is no http or https URL.
pub fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?.as_str());
    let whole = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let uri: Uri = whole.parse().ok()?;
    // A user name in it would go to whoever is named behind it.
    let plain = !uri.authority()?.as_str().contains('@');
    (matches!(uri.scheme_str(), Some("http" | "https")) && plain && !uri.host()?.is_empty()).then_some(uri)
}

/// Scheme, host and port: whom a password is for.
pub fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// The target of `rel="next"` in a header Link (RFC 8288).
pub fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let parameters = after.split('<').next().unwrap_or_default();
        if parameters.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim() == "rel" && value.trim().trim_matches('"') == "next"
        }) {
            return Some(target);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base: Uri = "https://a.io:5000/v2/x/blobs/uploads/?a=b".parse().unwrap();
        for (location, wanted) in [
            ("http://b.io/y", Some("http://b.io/y")),
            ("//b.io/y", Some("https://b.io/y")),
            ("/v2/y?z=1", Some("https://a.io:5000/v2/y?z=1")),
            ("uuid?state=1", Some("https://a.io:5000/v2/x/blobs/uploads/uuid?state=1")),
            ("?n=1", Some("https://a.io:5000/v2/x/blobs/uploads/?n=1")),
            ("file:///etc/passwd", None),
            ("https://me:secret@b.io/", None),
            ("https://", None),
            ("/a b", None),
        ] {
            let found = resolve(&base, location).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), wanted, "{location}");
        }
    }

    #[test]
    fn an_origin_has_a_scheme_a_host_and_a_port() {
        for (a, b, same) in [
            ("https://a.io/x", "https://A.io:443/y", true),
            ("https://a.io/", "http://a.io/", false),
            ("https://a.io/", "https://a.io:444/", false),
            ("https://a.io/", "https://b.io/", false),
        ] {
            assert_eq!(same_origin(&a.parse().unwrap(), &b.parse().unwrap()), same, "{a} {b}");
        }
    }

    #[test]
    fn the_next_page_is_found() {
        for (header, wanted) in [
            (r#"</v2/x/tags/list?last=a&n=2>; rel="next""#, Some("/v2/x/tags/list?last=a&n=2")),
            (r#"<a>; rel="prev", <b>; title="c"; rel=next"#, Some("b")),
            (r#"<a>; rel="prev""#, None),
            ("<a", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), wanted, "{header}");
        }
    }

    #[test]
    fn queries_are_escaped_and_appended() {
        assert_eq!(with_query("http://a/t", &[("q", "a b&c")]), "http://a/t?q=a%20b%26c");
        assert_eq!(with_query("http://a/t?x=1", &[("y", "2")]), "http://a/t?x=1&y=2");
        assert_eq!(with_query("http://a/t?", &[("y", "2")]), "http://a/t?y=2");
        assert_eq!(with_query("http://a/t", &[]), "http://a/t");
    }
}
