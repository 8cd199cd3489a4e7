//! `sbx volume` and its verbs.

use serde_json::{Value, json};

use super::{directory, keep, names, shell};
use crate::harness::{Sbx, sbx};

fn inspect(world: &Sbx, name: &str) -> Value {
    let text = world.sbx(["volume", "inspect", name]).succeed();
    let all: Value = serde_json::from_str(&text).expect("JSON");
    all[0].clone()
}

#[test]
fn a_volume_is_made_shown_and_removed() {
    let world = sbx();
    assert_eq!(world.sbx(["volume", "ls"]).succeed(), "DRIVER   VOLUME NAME");
    assert!(!world.store().exists(), "looking makes nothing");
    world
        .sbx(["volume", "create", "--label", "app=web", "--label", "plain", "data"])
        .expect_code(0)
        .stdout_is("data\n");
    let random = world.sbx(["volume", "create"]).succeed();
    assert!(random.len() == 64 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{random}");
    world.sbx(["volume", "rm", &random]).expect_code(0).stdout_is(&format!("{random}\n"));
    assert_eq!(world.sbx(["volume", "ls"]).succeed(), "DRIVER   VOLUME NAME\nlocal    data");
    let shown = inspect(&world, "data");
    let mountpoint = directory(&world, "data").join("_data");
    assert_eq!(shown["Mountpoint"], json!(mountpoint));
    assert!(mountpoint.is_dir());
    assert_eq!(shown["Labels"], json!({"app": "web", "plain": ""}));
    for (field, value) in [("Name", "data"), ("Driver", "local"), ("Scope", "local")] {
        assert_eq!(shown[field], value);
    }
    assert_eq!((&shown["Options"], &shown["Anonymous"]), (&json!({}), &json!(false)));
    let made = shown["CreatedAt"].as_str().expect("a time");
    assert!(made.starts_with("20") && made.ends_with('Z'), "{made}");
    assert_eq!(
        world.sbx(["volume", "inspect", "-f", "{{.Name}} {{.Labels.app}}", "data"]).succeed(),
        "data web"
    );
    assert_eq!(world.sbx(["inspect", "--type", "volume", "-f", "{{.Driver}}", "data"]).succeed(), "local");
    assert_eq!(world.sbx(["inspect", "-f", "{{.Name}}", "data"]).succeed(), "data");
    world.sbx(["volume", "exists", "data"]).expect_code(0);
    world.sbx(["volume", "rm", "data"]).expect_code(0).stdout_is("data\n");
    world.sbx(["volume", "exists", "data"]).expect_code(1).stderr_is("");
    assert!(!directory(&world, "data").exists());
}

#[test]
fn making_a_volume_again_changes_nothing() {
    let world = sbx();
    world.sbx(["volume", "create", "--label", "a=1", "data"]).succeed();
    shell(&world, &["-v", "data:/d"], "echo kept >/d/f").succeed();
    world.sbx(["volume", "create", "data"]).expect_code(0).stdout_is("data\n");
    world.sbx(["volume", "create", "--label", "a=1", "data"]).expect_code(0);
    world.sbx(["volume", "create", "--label", "a=2", "data"]).expect_code(125).stderr_has("other labels");
    world.sbx(["volume", "create", "-o", "type=tmpfs", "data"]).expect_code(125).stderr_has("other options");
    world
        .called("podman", &["volume", "create", "data"])
        .expect_code(125)
        .stderr_has("there is one of that name");
    world.called("podman", &["volume", "create", "--ignore", "data"]).expect_code(0).stdout_is("data\n");
    world.sbx(["volume", "create", "--ignore", "--label", "a=2", "data"]).expect_code(0).stdout_is("data\n");
    assert_eq!(inspect(&world, "data")["Labels"], json!({"a": "1"}));
    assert_eq!(shell(&world, &["-v", "data:/d"], "cat /d/f").succeed(), "kept");
}

#[test]
fn removing_tells_what_is_missing_from_what_is_in_use() {
    let world = sbx();
    keep(&world, &["--name", "web", "-v", "used:/d"], "true").succeed();
    world.sbx(["volume", "create", "free"]).succeed();
    let id = world.sbx(["ps", "-aq", "--no-trunc"]).succeed();
    world.sbx(["volume", "rm", "none"]).expect_code(1).stderr_has("no such volume `none`");
    // The gravest of several, and what can go goes.
    let ended = world.sbx(["volume", "rm", "none", "used", "free"]).expect_code(2).stdout_is("free\n");
    let ended = ended.stderr_has(&format!("volume is in use - [{id}]"));
    assert!(ended.stderr().contains("no such volume `none`") && ended.stderr().contains("sbx rm web"));
    world.sbx(["volume", "rm", "-f", "none"]).expect_code(0).stdout_is("").stderr_is("");
    world.sbx(["volume", "rm", "-f", "used"]).expect_code(2).stdout_is("");
    world.sbx(["volume", "rm", "../data"]).expect_code(1);
    world
        .sbx(["volume", "inspect", "none"])
        .expect_code(125)
        .stdout_is("[]\n")
        .stderr_has("no such volume `none`");
    world.sbx(["rm", "web"]).succeed();
    world.sbx(["volume", "rm", "--all"]).expect_code(0).stdout_is("used\n");
}

#[test]
fn a_listing_is_filtered_and_formatted() {
    let world = sbx();
    world.sbx(["volume", "create", "--label", "app=web", "web_data"]).succeed();
    world.sbx(["volume", "create", "--label", "app=db", "db_data"]).succeed();
    keep(&world, &["--name", "cc", "-v", "/anonymous", "-v", "db_data:/d"], "true").succeed();
    let filtered = |filters: &[&str]| {
        let flags = filters.iter().flat_map(|filter| ["--filter", filter]);
        world.sbx(["volume", "ls", "--noheading", "--format", "{{.Name}}"]).args(flags).succeed()
    };
    assert_eq!(filtered(&["label=app=web"]), "web_data");
    assert_eq!(filtered(&["label=app", "dangling=true"]), "web_data");
    assert_eq!(filtered(&["label=app"]), "db_data\nweb_data");
    assert_eq!(filtered(&["name=^db"]), "db_data");
    assert_eq!(filtered(&["anonymous=true"]).len(), 64);
    assert_eq!(filtered(&["dangling=false"]).lines().count(), 2);
    world.sbx(["volume", "ls", "--filter", "colour=red"]).expect_code(125).stderr_has("dangling");
    assert_eq!(world.sbx(["volume", "ls", "-n", "-f", "name=web"]).succeed(), "local   web_data");
    let table = ["volume", "ls", "-f", "name=web", "--format", "table {{.Name}}\t{{.Scope}}"];
    assert_eq!(world.sbx(table).succeed(), "VOLUME NAME   SCOPE\nweb_data      local");
    assert_eq!(world.sbx(table).arg("-n").succeed(), "web_data      local");
    let json: Value =
        serde_json::from_str(&world.sbx(["volume", "ls", "--format", "json", "-f", "name=^db"]).succeed())
            .expect("JSON");
    assert_eq!((&json[0]["Name"], &json[0]["MountCount"]), (&json!("db_data"), &json!(1)));
    world.sbx(["rm", "-v", "cc"]).succeed();
}

#[test]
fn a_prune_asks_and_takes_anonymous_ones_alone() {
    let world = sbx();
    keep(&world, &["--name", "gone", "-v", "/a", "-v", "named:/n"], "echo 12345 >/a/f").succeed();
    keep(&world, &["--name", "stays", "-v", "/a"], "true").succeed();
    world.sbx(["rm", "gone"]).succeed();
    assert_eq!(names(&world).len(), 3);
    let asked = world.sbx(["volume", "prune"]).stdin("n\n").expect_code(0).stdout_is("");
    assert!(asked.stderr().contains(
        "WARNING! This will remove all anonymous local volumes not used by at least one container."
    ));
    assert_eq!(names(&world).len(), 3);
    let pruned = world.sbx(["volume", "prune"]).stdin("y\n").expect_code(0).stdout();
    let lines: Vec<&str> = pruned.lines().collect();
    assert!(lines[0] == "Deleted Volumes:" && lines[1].len() == 64, "{pruned}");
    assert_eq!(lines[2..], ["", "Total reclaimed space: 6B"]);
    world.sbx(["volume", "prune", "-f"]).expect_code(0).stdout_is("Total reclaimed space: 0B\n");
    world.sbx(["volume", "create", "--label", "keep", "labelled"]).succeed();
    world
        .sbx(["volume", "prune", "-af", "--filter", "label!=keep"])
        .expect_code(0)
        .stdout_has("Deleted Volumes:\nnamed\n");
    assert_eq!(names(&world).len(), 2);
    world.sbx(["rm", "-v", "stays"]).succeed();
    assert_eq!(names(&world), ["labelled"]);
}

#[test]
fn the_whole_system_counts_and_prunes_volumes_too() {
    let world = sbx();
    keep(&world, &["--name", "cc", "-v", "/a", "-v", "named:/n"], "echo 12345 >/a/f; echo 1 >/n/f").succeed();
    world.sbx(["volume", "create", "free"]).succeed();
    let row = |format: &str| {
        let all = world.sbx(["system", "df", "--format", &format!("{{{{.Type}}}} {format}")]).succeed();
        all.lines().find_map(|line| line.strip_prefix("Local Volumes ")).expect("a row").to_owned()
    };
    assert_eq!(row("{{.Total}} {{.Active}} {{.Size}} {{.Reclaimable}}"), "3 2 8B 0B (0%)");
    let verbose = world.sbx(["system", "df", "-v"]).succeed();
    assert!(verbose.lines().any(|line| line.split_whitespace().eq(["named", "1", "2B"])), "{verbose}");
    let pruned = world.sbx(["system", "prune", "-f", "--volumes"]).expect_code(0).stdout();
    assert!(pruned.contains("Deleted Containers:") && pruned.contains("Deleted Volumes:"), "{pruned}");
    assert_eq!(names(&world), ["free", "named"]);
    assert_eq!(row("{{.Total}} {{.Active}} {{.RawReclaimable}}"), "2 0 2");
}

#[test]
fn what_takes_root_or_has_no_meaning_says_so() {
    let world = sbx();
    for (words, said) in [
        (&["create", "-d", "nfs", "x"][..], "the driver is `local`"),
        (&["create", "-o", "type=nfs", "-o", "device=:/x", "x"], "takes root"),
        (&["create", "a/b"], "there is a `/`"),
        (&["create", ".part"], "it begins with `.`"),
        (&["mount", "x"], "without being mounted"),
        (&["unmount", "x"], "without being mounted"),
        (&["reload"], "plugins"),
        (&["update", "--availability", "active"], "cluster"),
        (&["nosuch"], "`sbx volume --help`"),
    ] {
        world.sbx(["volume"]).args(words).expect_code(125).stderr_has(said).stdout_is("");
    }
    assert!(names(&world).is_empty());
}

#[test]
fn what_happens_to_volumes_is_an_event() {
    let world = sbx();
    world.sbx(["volume", "create", "--label", "app=web", "data"]).succeed();
    keep(&world, &["--name=cc", "-v=named:/n", "-v=/a"], "true").succeed();
    world.sbx(["rm", "-v", "cc"]).succeed();
    world.sbx(["volume", "rm", "data"]).succeed();
    let flags =
        ["events", "--stream=false", "--since=1h", "--filter=type=volume", "--format={{.Status}} {{.Name}}"];
    let told = world.sbx(flags).succeed();
    let lines: Vec<&str> = told.lines().map(|line| line.get(..13).unwrap_or(line)).collect();
    let anonymous = names_of(&told);
    let (made, gone) = (format!("create {}", &anonymous[..6]), format!("remove {}", &anonymous[..6]));
    // The two of the container are made in the order of their names.
    let mut middle = [lines[1], lines[2]];
    middle.sort_unstable();
    let mut wanted = ["create named", made.as_str()];
    wanted.sort_unstable();
    assert_eq!(
        middle.map(|line| line.split_at(12.min(line.len())).0),
        wanted.map(|line| line.split_at(12.min(line.len())).0),
        "{told}"
    );
    assert_eq!((lines[0], lines[4]), ("create data", "remove data"), "{told}");
    assert!(lines[3].starts_with(&gone), "{told}");
}

/// The random name in a list of events.
fn names_of(told: &str) -> String {
    let word = told.split_whitespace().find(|word| word.len() == 64);
    word.expect("an anonymous volume").to_owned()
}
