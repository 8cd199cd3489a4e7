//! Git repositories as ADD and contexts name them (Dockerfile reference, "Adding files from a Git repository").

use super::step::GitSource;

/// Reads a repository's address; none: it is something else.
///
/// # Errors
/// It is a repository, but what is after `#` or `?` is not understood.
pub fn read(text: &str) -> Result<Option<GitSource>, String> {
    let (address, fragment) = match text.split_once('#') {
        Some((address, fragment)) => (address, Some(fragment)),
        None => (text, None),
    };
    let (address, query) = match address.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (address, None),
    };
    if !is_repository(address) {
        return Ok(None);
    }
    let (mut reference, mut directory) = match fragment.map(|fragment| fragment.split_once(':')) {
        None => (None, None),
        Some(None) => (fragment, None),
        Some(Some((reference, directory))) => (Some(reference), Some(directory)),
    };
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let slot = match key {
            "ref" | "branch" | "tag" | "commit" => &mut reference,
            "subdir" => &mut directory,
            _ => return Err(format!("`{}` of a git repository is not known", key.escape_debug())),
        };
        if slot.replace(value).is_some() {
            return Err(format!("`{key}` of a git repository is there twice"));
        }
    }
    let some = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let (reference, directory) = (some(reference), some(directory));
    // git would take either for an option.
    if reference.as_ref().is_some_and(|reference| reference.starts_with('-')) {
        return Err("a git reference does not begin with `-`".to_owned());
    }
    if directory.as_ref().is_some_and(|directory| directory.split('/').any(|part| part == "..")) {
        return Err("the directory of a git repository does not lead out of it".to_owned());
    }
    let url = match address.strip_prefix("github.com/") {
        Some(rest) => format!("https://github.com/{rest}"),
        None => address.to_owned(),
    };
    Ok(Some(GitSource { url, reference, directory }))
}

fn is_repository(address: &str) -> bool {
    let has = |scheme| address.strip_prefix(scheme).is_some_and(|rest: &str| !rest.is_empty());
    if has("git://") || has("ssh://") || has("github.com/") {
        return true;
    }
    if has("http://") || has("https://") {
        return address.trim_end_matches('/').ends_with(".git");
    }
    // USER@HOST:PATH
    let Some((user, rest)) = address.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let plain = |c: char, others: &str| c.is_ascii_alphanumeric() || others.contains(c);
    !user.is_empty()
        && user.chars().all(|c| plain(c, "-_"))
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.chars().all(|c| plain(c, "-._"))
        && !path.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_files_and_downloads() {
        for (text, parts) in [
            ("https://a/b.git", Some(("https://a/b.git", None, None))),
            ("https://a/b.git#v1:docs", Some(("https://a/b.git", Some("v1"), Some("docs")))),
            ("https://a/b.git#:docs", Some(("https://a/b.git", None, Some("docs")))),
            ("https://a/b.git?ref=v1&subdir=d", Some(("https://a/b.git", Some("v1"), Some("d")))),
            ("git@a.b:c/d.git#x", Some(("git@a.b:c/d.git", Some("x"), None))),
            ("ssh://git@a/b", Some(("ssh://git@a/b", None, None))),
            ("git://a/b#x", Some(("git://a/b", Some("x"), None))),
            ("github.com/a/b", Some(("https://github.com/a/b", None, None))),
            ("https://a/b.tar.gz", None),
            ("https://a/b.tar.gz#x.git", None),
            ("https://a/b.git.tar", None),
            ("a/b.git", None),
            ("a@b", None),
            ("dir@x/y:z", None),
            ("--upload-pack=x@y:z", None),
            ("git@-oProxy:x", None),
            ("x", None),
        ] {
            let found = read(text).unwrap();
            let found = found.as_ref().map(|source| {
                (source.url.as_str(), source.reference.as_deref(), source.directory.as_deref())
            });
            assert_eq!(found, parts, "{text}");
        }
        for text in
            ["https://a/b.git#-x", "https://a/b.git#x:../y", "https://a/b.git?x=1", "https://a/b.git?ref=a#b"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
