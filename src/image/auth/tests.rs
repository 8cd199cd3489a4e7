use std::os::unix::fs::PermissionsExt;

use super::*;

fn password(user: &str, password: &str) -> Credentials {
    Credentials::Password { user: user.to_owned(), password: password.to_owned() }
}

fn store(files: &[&Path]) -> AuthStore {
    AuthStore {
        files: files.iter().map(|path| path.to_path_buf()).collect(),
        helpers: vec![FILES.to_owned()],
    }
}

#[test]
fn the_longest_name_decides() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("auth.json");
    let text = r#"{"auths":{
        "quay.io":{"auth":"YTph"},
        "quay.io/org":{"auth":"Yjpi"},
        "quay.io/org/name":{"auth":"Yzpj"},
        "https://index.docker.io/v1/":{"auth":"ZDpkOmQ="},
        "ghcr.io":{"auth":"eDo=","identitytoken":"refresh"},
        "empty.io":{}
    }}"#;
    std::fs::write(&path, text).unwrap();
    let store = store(&[&path]);
    for (repository, wanted) in [
        ("quay.io/org/name", Some(password("c", "c"))),
        ("quay.io/org/names", Some(password("b", "b"))),
        ("quay.io/organ/name", Some(password("a", "a"))),
        ("docker.io/library/ubuntu", Some(password("d", "d:d"))),
        ("ghcr.io/x", Some(Credentials::Token("refresh".to_owned()))),
        ("empty.io/x", None),
        ("quay.io.evil/org/name", None),
        ("notquay.io", None),
    ] {
        assert_eq!(store.get(repository).unwrap(), wanted, "{repository}");
    }
}

#[test]
fn the_first_file_that_knows_decides() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["1", "2"].map(|name| directory.path().join(name));
    std::fs::write(&first, "").unwrap();
    std::fs::write(&second, r#"{"auths":{"a.io":{"auth":"YTph"}}}"#).unwrap();
    let store = store(&[&first, &second]);
    assert_eq!(store.get("a.io/x").unwrap(), Some(password("a", "a")));
    store.put("a.io", &password("b", "b")).unwrap();
    assert_eq!(store.get("a.io/x").unwrap(), Some(password("b", "b")));
    assert!(store.remove("a.io").unwrap());
    assert!(!store.remove("a.io").unwrap());
    assert_eq!(store.elsewhere("a.io").unwrap(), Some(second.as_path()));
}

#[test]
fn what_is_not_known_stays_and_nobody_else_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real.json");
    let path = directory.path().join("auth.json");
    std::fs::write(&real, r#"{"HttpHeaders":{"X":"y"},"auths":{"https://b.io/v2/":{"auth":"YTph"}}}"#)
        .unwrap();
    std::os::unix::fs::symlink("real.json", &path).unwrap();
    let store = store(&[&path]);
    store.put("b.io", &password("me", "s:e")).unwrap();
    let text = std::fs::read_to_string(&real).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["HttpHeaders"]["X"], "y");
    assert_eq!(value["auths"].as_object().unwrap().len(), 1, "{text}");
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(store.get("b.io").unwrap(), Some(password("me", "s:e")));
    assert!(path.is_symlink());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    store.remove_all().unwrap();
    assert_eq!(store.get("b.io").unwrap(), None);
}

#[test]
fn a_damaged_file_is_named_with_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("auth.json");
    for (text, part) in [
        ("{\"auths\":\n{,", "line 2"),
        ("{\"auths\": []}", "`auths` is no object"),
        ("{\"auths\": {\"a.io\": {\"auth\": \"!\"}}}", "no base64"),
        ("{\"auths\": {\"a.io\": {\"auth\": \"YQ==\"}}}", "no `:`"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = store(&[&path]).get("a.io").unwrap_err().to_string();
        assert!(error.contains("auth.json") && error.contains(part), "{error}");
    }
}

#[test]
fn pasted_names_become_keys() {
    for (text, wanted) in [
        ("quay.io", "quay.io"),
        ("https://localhost:5000/", "localhost:5000"),
        ("quay.io/org/name", "quay.io/org/name"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("[::1]:5000", "[::1]:5000"),
    ] {
        assert_eq!(key(text).unwrap(), wanted);
    }
    for text in ["", "https://", "a b", "-x y", "a.io/UP", "a@b.io"] {
        assert!(key(text).is_err(), "{text}");
    }
}
