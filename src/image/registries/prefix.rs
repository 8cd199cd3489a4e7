//! The prefixes of containers-registries.conf(5).

/// How many bytes of the whole name (`quay.io/a/b:1`) the prefix matches. `*.example.com` matches every host below
/// example.com; every other prefix ends where a part of the name does.
pub fn matched(prefix: &str, name: &str) -> Option<usize> {
    let length = match prefix.strip_prefix('*') {
        Some(domain) => {
            let host = &name[..name.find('/').unwrap_or(name.len())];
            let below = host.find(domain).filter(|at| *at > 0)?;
            // The last place in the host where the domain stands is its end.
            let end = host.rfind(domain).unwrap_or(below) + domain.len();
            return ends_a_part(&name[end..]).then_some(end);
        }
        None => prefix.len(),
    };
    (name.starts_with(prefix) && ends_a_part(&name[length..])).then_some(length)
}

fn ends_a_part(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['/', ':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_part_ends() {
        for (prefix, name, wanted) in [
            ("quay.io", "quay.io/a:1", Some("quay.io")),
            ("quay.io/a", "quay.io/a:1", Some("quay.io/a")),
            ("quay.io/a:1", "quay.io/a:1", Some("quay.io/a:1")),
            ("quay.io/a", "quay.io/ab", None),
            ("quay.io", "quay.io:5000/a", Some("quay.io")),
            ("quay", "quay.io/a", None),
            ("*.example.com", "a.b.example.com/x", Some("a.b.example.com")),
            ("*.example.com", "a.example.com:5000/x", Some("a.example.com")),
            ("*.example.com", "example.com/x", None),
            ("*.example.com", "a.example.com.evil/x", None),
            ("*.example.com", "evil.io/a.example.com", None),
        ] {
            let found = matched(prefix, name).map(|length| &name[..length]);
            assert_eq!(found, wanted, "{prefix} {name}");
        }
    }
}
