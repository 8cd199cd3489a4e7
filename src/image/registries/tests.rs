use super::*;

fn read(texts: &[&str]) -> Registries {
    let mut all = Registries::default();
    for text in texts {
        all.override_with(file::parse(text, "test.conf").unwrap());
    }
    all
}

fn resolved(registries: &Registries, text: &str) -> Vec<String> {
    registries.resolve_short(text).unwrap().iter().map(ToString::to_string).collect()
}

fn places(registries: &Registries, text: &str) -> Vec<String> {
    let reference = Reference::parse(text).unwrap().or_latest();
    let shown = |place: Place| {
        format!("{}/{}{}", place.domain, place.path, if place.insecure { " insecure" } else { "" })
    };
    registries.places(&reference).unwrap().into_iter().map(shown).collect()
}

#[test]
fn without_configuration_names_are_dockers() {
    let none = Registries::default();
    assert_eq!(resolved(&none, "ubuntu"), ["docker.io/library/ubuntu:latest"]);
    assert_eq!(resolved(&none, "me/tool:1"), ["docker.io/me/tool:1"]);
    assert_eq!(places(&none, "quay.io/a"), ["quay.io/a"]);
}

#[test]
fn search_registries_are_tried_in_order_and_aliases_come_first() {
    let registries = read(&[
        "unqualified-search-registries = ['quay.io', 'docker.io', 'localhost:5000']\n[aliases]\nfedora = 'registry.fedoraproject.org/fedora'\nbusybox = 'a.io/b'",
        "[aliases]\nbusybox = ''",
    ]);
    assert_eq!(
        resolved(&registries, "busybox:1"),
        ["quay.io/busybox:1", "docker.io/library/busybox:1", "localhost:5000/busybox:1"]
    );
    assert_eq!(resolved(&registries, "fedora:40"), ["registry.fedoraproject.org/fedora:40"]);
    assert_eq!(resolved(&registries, "fedora/tools")[0], "quay.io/fedora/tools:latest");
    assert_eq!(resolved(&registries, "localhost/x"), ["localhost/x:latest"]);
    let digest = crate::image::digest::Digest::of(b"");
    assert_eq!(
        resolved(&registries, &format!("fedora@{digest}")),
        [format!("registry.fedoraproject.org/fedora@{digest}")]
    );
}

#[test]
fn an_ambiguous_name_is_refused_where_the_mode_says_so() {
    let registries =
        read(&["short-name-mode = 'enforcing'\nunqualified-search-registries = ['a.io', 'b.io']"]);
    let error = registries.resolve_short("x").unwrap_err();
    assert!(error.hints()[0].contains("`a.io/x` or `b.io/x`"), "{error}");
    // An image that is there may have any of the names.
    let names: Vec<String> = registries.candidates("x").unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a.io/x:latest", "b.io/x:latest"]);
    let one = read(&["short-name-mode = 'enforcing'\nunqualified-search-registries = ['a.io']"]);
    assert_eq!(resolved(&one, "x"), ["a.io/x:latest"]);
}

#[test]
fn mirrors_come_before_the_registry_itself() {
    let registries = read(&["
        [[registry]]
        location = 'docker.io'
        [[registry.mirror]]
        location = 'mirror.local:5000'
        insecure = true
        [[registry.mirror]]
        location = 'digests.local/hub'
        pull-from-mirror = 'digest-only'
        [[registry]]
        prefix = 'quay.io/org'
        location = 'inner.example.com/quay'
        [[registry]]
        prefix = '*.lab.example.com'
        insecure = true
        [[registry]]
        prefix = 'a.lab.example.com'
        location = 'b.lab.example.com'
    "]);
    assert_eq!(
        places(&registries, "ubuntu"),
        ["mirror.local:5000/library/ubuntu insecure", "docker.io/library/ubuntu"]
    );
    let pinned = format!("ubuntu@{}", crate::image::digest::Digest::of(b""));
    assert_eq!(
        places(&registries, &pinned),
        [
            "mirror.local:5000/library/ubuntu insecure",
            "digests.local/hub/library/ubuntu",
            "docker.io/library/ubuntu"
        ]
    );
    assert_eq!(places(&registries, "quay.io/org/x:1"), ["inner.example.com/quay/x"]);
    assert_eq!(places(&registries, "quay.io/other/x:1"), ["quay.io/other/x"]);
    assert_eq!(places(&registries, "z.lab.example.com/x"), ["z.lab.example.com/x insecure"]);
    assert_eq!(places(&registries, "a.lab.example.com/x"), ["b.lab.example.com/x"]);
    assert!(registries.is_insecure("z.lab.example.com").unwrap());
    let ubuntu = Reference::parse("ubuntu").unwrap();
    assert_eq!(registries.origin(&ubuntu).unwrap().domain, "docker.io");
}

#[test]
fn a_blocked_registry_is_refused_by_file_and_line() {
    let registries = read(&["\n[[registry]]\nlocation = 'evil.io'\nblocked = true\n"]);
    let error = registries.places(&Reference::parse("evil.io/x").unwrap()).unwrap_err().to_string();
    assert!(error.contains("blocked by line 2 of `test.conf`"), "{error}");
}

#[test]
fn a_later_file_overrides_an_earlier_one() {
    let registries = read(&[
        "[[registry]]\nlocation = 'a.io'\nblocked = true",
        "[[registry]]\nlocation = 'a.io'\ninsecure = true",
    ]);
    assert_eq!(places(&registries, "a.io/x"), ["a.io/x insecure"]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, line, part) in [
        ("\n\nx = ", 3, ""),
        ("unqualified-search-registries = [\n'ok.io',\n'no good']", 3, "no good"),
        ("\n[[registry]]\nprefix = 'a.io'", 2, "no location"),
        ("[[registry]]\nlocation = 'https://a.io'", 2, "scheme"),
        ("[[registry]]\nlocation = 'plain'", 2, "plain"),
        ("[[registry]]\nblocked = true", 1, "neither"),
        ("[[registry]]\nlocation = 'a.io'\ninsecure = 'yes'", 3, "boolean"),
        ("[registries.search]\nregistries = ['docker.io']", 1, "version 1"),
        ("short-name-mode = 'x'", 1, "x"),
        ("[aliases]\nx = 'y'", 2, "alias"),
        ("[aliases]\n'a.io/x' = 'a.io/y'", 2, "no short name"),
        (
            "[[registry]]\nlocation='a.io'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='b.io'\npull-from-mirror='tag-only'",
            6,
            "exclude",
        ),
    ] {
        let error = file::parse(text, "test.conf").unwrap_err().to_string();
        assert!(error.contains(&format!("line {line} of `test.conf`")), "{text:?}: {error}");
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn the_callers_main_file_leaves_the_systems_out() {
    let directory = tempfile::tempdir().unwrap();
    let (config, system) = (directory.path().join("config"), directory.path().join("etc/registries.conf"));
    let write = |path: &Path, registry: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("unqualified-search-registries = ['{registry}']")).unwrap();
    };
    let search = |named: Option<&Path>| Registries::read(named, Some(&config), &system).unwrap().search;
    assert!(search(None).is_empty());
    write(&system, "system.io");
    assert_eq!(search(None), ["system.io"]);
    write(&system.with_extension("conf.d").join("9.conf"), "drop-in.io");
    write(&system.with_extension("conf.d").join("ignored.txt"), "ignored.io");
    assert_eq!(search(None), ["drop-in.io"]);
    write(&config.join("containers/registries.conf"), "own.io");
    assert_eq!(search(None), ["own.io"]);
    write(&config.join("containers/registries.conf.d/1.conf"), "own-drop-in.io");
    assert_eq!(search(None), ["own-drop-in.io"]);
    let named = directory.path().join("named.conf");
    assert!(Registries::read(Some(&named), Some(&config), &system).is_err());
    write(&named, "named.io");
    fs::remove_dir_all(config.join("containers/registries.conf.d")).unwrap();
    fs::remove_dir_all(system.with_extension("conf.d")).unwrap();
    assert_eq!(search(Some(&named)), ["named.io"]);
}
