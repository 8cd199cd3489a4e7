//! `sbx inspect`, `history`, `image tree`, `image diff`, `system df`

use serde_json::{Value, json};

use crate::harness::{MadeImage, Sbx, image, sbx};

/// Two images: the upper one changes, adds and deletes.
fn base() -> MadeImage {
    image().layer(|tar| {
        tar.directory("etc");
        tar.file("etc/kept", "1");
        tar.file("etc/changed", "1");
        tar.directory("gone");
        tar.file("gone/a", "1");
        tar.directory("cleared");
        tar.file("cleared/old", "1");
    })
}

fn upper() -> MadeImage {
    base().layer(|tar| {
        tar.file("etc/changed", "22");
        tar.file("etc/new", "x".repeat(3000));
        tar.whiteout("gone");
        tar.directory("cleared");
        tar.file("cleared/.wh..wh..opq", "");
        tar.file("cleared/new", "1");
    })
}

fn document(world: &Sbx, words: &[&str]) -> Value {
    serde_json::from_str(&world.sbx(words).succeed()).expect("JSON")
}

#[test]
fn an_image_is_shown_with_the_fields_of_docker() {
    let world = sbx();
    let made =
        upper().with("Cmd", json!(["a", "b"])).with("Env", json!(["X=1"])).with("Labels", json!({"l": "v"}));
    let id = made.load(&world, "tool:1");
    world.sbx(["tag", "tool:1", "quay.io/x/tool:2"]).succeed();
    let text = world.sbx(["image", "inspect", "tool:1"]).succeed();
    assert!(text.starts_with("[\n    {\n        \""), "four columns: {text}");
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    let shown = &shown[0];
    assert_eq!(shown["Id"], format!("sha256:{id}"));
    assert_eq!(shown["RepoTags"], json!(["tool:1", "quay.io/x/tool:2"]));
    assert_eq!(shown["Created"], "2024-02-03T04:05:06Z");
    assert_eq!((&shown["Config"]["Cmd"], &shown["Config"]["Env"]), (&json!(["a", "b"]), &json!(["X=1"])));
    assert_eq!((&shown["Os"], &shown["RootFS"]["Type"]), (&json!("linux"), &json!("layers")));
    let (layers, chain) = (&shown["RootFS"]["Layers"], &shown["RootFS"]["ChainIDs"]);
    assert_eq!((layers.as_array().map(Vec::len), &chain[0]), (Some(2), &layers[0]));
    assert_ne!(chain[1], layers[1]);
    let lower = shown["GraphDriver"]["Data"]["LowerDir"].as_str().expect("paths");
    let topmost = lower.split(':').next().expect("one");
    assert_eq!(std::fs::read(format!("{topmost}/etc/changed")).expect("an unpacked file"), b"22");
    assert_eq!(world.sbx(["inspect", &id[..8]]).succeed() + "\n", text + "\n");
    let format = "{{.Config.Cmd}} {{json .Config.Labels}} {{if .Config.Healthcheck}}checked{{else}}unchecked{{end}} {{len .RootFS.Layers}}";
    assert_eq!(world.sbx(["inspect", "-f", format, "tool:1"]).succeed(), "[a b] {\"l\":\"v\"} unchecked 2");
    // What the image does not set is empty, and no error.
    image().layer(|tar| tar.file("a", "1")).load(&world, "bare");
    let format = "{{index .Config.Labels \"x\"}}|{{join .Config.Entrypoint \" \"}}|{{len .Config.ExposedPorts}}|{{.Config.OnBuild}}";
    assert_eq!(world.sbx(["inspect", "-f", format, "bare"]).succeed(), "||0|[]");
    let shown: Value = serde_json::from_str(&world.sbx(["inspect", "bare"]).succeed()).expect("JSON");
    assert!(shown[0]["Config"].get("Labels").is_none(), "{shown}");
}

#[test]
fn what_is_missing_is_told_after_what_is_there() {
    let world = sbx();
    world
        .sbx(["inspect", "nothing"])
        .expect_code(125)
        .stdout_is("[]\n")
        .stderr_has("no such object: \"nothing\"");
    world.sbx(["network", "create", "shop"]).succeed();
    world.sbx(["pod", "create", "--infra=false", "--share=", "site"]).succeed();
    for (word, kind, other, template) in [
        ("shop", "network", "pod", "{{.Name}} {{.Driver}}"),
        ("site", "pod", "network", "{{.Name}} {{.NumContainers}}"),
    ] {
        let shown = world.sbx(["inspect", "--format", template, word]).succeed();
        assert_eq!(shown, if kind == "pod" { "site 0" } else { "shop bridge" });
        assert_eq!(world.sbx(["inspect", "--format", template, "--type", kind, word]).succeed(), shown);
        let refused = world.sbx(["inspect", "--type", other, word]).expect_code(125);
        refused.stderr_has(&format!("there is no {other} of that name"));
    }
    image().layer(|tar| tar.file("a", "1")).load(&world, "a");
    let found = world.sbx(["inspect", "nothing", "a"]).expect_code(125).stderr_has("nothing");
    let shown: Value = serde_json::from_str(&found.stdout()).expect("JSON");
    assert_eq!(shown.as_array().map(Vec::len), Some(1));
    world.sbx(["inspect", "--type", "container", "a"]).expect_code(125).stdout_is("[]\n");
    world.sbx(["inspect", "-f", "{{", "a"]).expect_code(125);
}

#[test]
fn a_container_goes_before_an_image_of_its_name() {
    let world = sbx();
    let id = image().runnable().load(&world, "both");
    let run =
        ["run", "--name=both", "--net=none", "-e", "A=1", "-v", "/usr:/mnt:ro", "both", "sh", "-c", "exit 3"];
    world.sbx(run).expect_code(3);
    let shown = &document(&world, &["inspect", "-s", "both"])[0];
    assert_eq!((&shown["Name"], &shown["ImageName"]), (&json!("both"), &json!("both")));
    assert_eq!(shown["Image"], format!("sha256:{id}"));
    assert_eq!((&shown["State"]["Status"], &shown["State"]["ExitCode"]), (&json!("exited"), &json!(3)));
    assert_eq!((&shown["Path"], &shown["Args"]), (&json!("sh"), &json!(["-c", "exit 3"])));
    assert!(shown["Config"]["Env"].as_array().is_some_and(|env| env.contains(&json!("A=1"))), "{shown}");
    assert_eq!(
        (&shown["Mounts"][0]["Destination"], &shown["Mounts"][0]["RW"]),
        (&json!("/mnt"), &json!(false))
    );
    assert_eq!(
        (&shown["HostConfig"]["NetworkMode"], &shown["HostConfig"]["AutoRemove"]),
        (&json!("none"), &json!(false))
    );
    assert!(shown["SizeRw"].is_u64(), "{shown}");
    assert_eq!(
        world.sbx(["inspect", "--type=image", "-f", "{{.Id}}", "both"]).succeed(),
        format!("sha256:{id}")
    );
    assert_eq!(world.sbx(["images", "-f", "containers=true", "-q"]).succeed(), id[..12]);
    world.sbx(["rm", "both"]).succeed();
}

#[test]
fn the_history_has_a_line_for_each_step() {
    let world = sbx();
    let id = upper().load(&world, "tool");
    let listed = world.sbx(["history", "tool"]).succeed();
    let lines: Vec<&str> = listed.lines().collect();
    assert!(
        lines[0].starts_with("IMAGE") && lines[0].contains("CREATED BY") && lines[0].ends_with("COMMENT"),
        "{listed}"
    );
    assert!(
        lines[1].starts_with(&id[..12]) && lines[1].contains("step 1") && lines[1].contains("kB"),
        "{listed}"
    );
    assert!(lines[2].starts_with("<missing>") && lines[2].contains("step 0"), "{listed}");
    let format = "{{.CreatedBy}} {{.Size}} {{.CreatedAt}} {{.ID}}";
    let exact = world.sbx(["history", "-H=false", "--no-trunc", "--format", format, "tool"]).succeed();
    assert_eq!(exact.lines().next(), Some(format!("step 1 3003 2024-02-03T04:05:06Z sha256:{id}").as_str()));
    assert_eq!(world.sbx(["image", "history", "-q", "tool"]).succeed(), format!("{}\n<missing>", &id[..12]));
    assert_eq!(document(&world, &["history", "--format", "json", "tool"])[0]["size"], 3003);
}

#[test]
fn the_tree_shows_layers_and_who_stands_on_them() {
    let world = sbx();
    base().load(&world, "base");
    upper().load(&world, "upper");
    let tree = world.sbx(["image", "tree", "upper"]).succeed();
    assert!(tree.contains("Tags:     [upper:latest]\n"), "{tree}");
    let lines: Vec<&str> = tree.lines().filter(|line| line.contains("──")).collect();
    assert!(lines[0].starts_with("├── ID: ") && lines[0].ends_with("Top Layer of: [base:latest]"), "{tree}");
    assert!(lines[1].starts_with("└── ID: ") && lines[1].ends_with("Top Layer of: [upper:latest]"), "{tree}");
    let required = world.sbx(["image", "tree", "--whatrequires", "base"]).succeed();
    let last: Vec<&str> = required.lines().rev().take(2).collect();
    assert!(last[1].starts_with("└── ID: ") && last[1].ends_with("[base:latest]"), "{required}");
    assert!(last[0].starts_with("    └── ID: ") && last[0].ends_with("[upper:latest]"), "{required}");
}

#[test]
fn the_difference_is_that_of_the_topmost_layer_or_to_another_image() {
    let world = sbx();
    base().load(&world, "base");
    upper().load(&world, "upper");
    let expected = "C /cleared\nA /cleared/new\nD /cleared/old\nC /etc\nC /etc/changed\nA /etc/new\nD /gone";
    assert_eq!(world.sbx(["image", "diff", "upper"]).succeed(), expected);
    assert_eq!(world.sbx(["image", "diff", "upper", "base"]).succeed(), expected);
    let back = world.sbx(["image", "diff", "base", "upper"]).succeed();
    assert!(
        back.contains("D /etc/new") && back.contains("A /gone/a") && back.contains("C /etc/changed"),
        "{back}"
    );
    assert_eq!(world.sbx(["image", "diff", "base", "base"]).succeed(), "");
    let shown = document(&world, &["image", "diff", "--format=json", "upper"]);
    assert_eq!(shown["deleted"], json!(["/cleared/old", "/gone"]));
    world.sbx(["image", "diff", "nothing"]).expect_code(125).stderr_has("there is no image");
    assert!(!world.sbx(["system", "df", "--format", "{{.Type}}:{{.Total}}"]).succeed().contains("Orphans:1"));
}

#[test]
fn what_the_store_takes_is_counted_once() {
    let world = sbx();
    base().load(&world, "base");
    upper().runnable().load(&world, "upper");
    world.sbx(["run", "--net=none", "--name=web", "upper", "sh", "-c", "echo 12345 >/f"]).expect_code(0);
    let table = world.sbx(["system", "df"]).succeed();
    assert_eq!(
        table.lines().next(),
        Some("TYPE            TOTAL   ACTIVE   SIZE     RECLAIMABLE"),
        "{table}"
    );
    let format = "{{.Type}} {{.TotalCount}} {{.Active}} {{.RawSize}} {{.RawReclaimable}}";
    let rows = world.sbx(["system", "df", "--format", format]).succeed();
    let rows: Vec<Vec<&str>> = rows.lines().map(|line| line.rsplitn(5, ' ').collect()).collect();
    let (images, containers) = (&rows[0], &rows[1]);
    assert_eq!((images[4], images[3], images[2]), ("Images", "2", "1"));
    let (size, reclaimable): (u64, u64) =
        (images[1].parse().expect("bytes"), images[0].parse().expect("bytes"));
    assert!(reclaimable > 0 && reclaimable < size / 2, "the layer of both is in use: {rows:?}");
    assert_eq!((containers[4], containers[3], containers[2], containers[0]), ("Containers", "1", "0", "6"));
    assert_eq!(rows[3][..4], ["0", "0", "0", "0"], "no orphans");
    let verbose = world.sbx(["system", "df", "-v"]).succeed();
    for part in
        ["Images space usage:", "SHARED SIZE", "Containers space usage:", "web", "Local Volumes space usage:"]
    {
        assert!(verbose.contains(part), "{part}: {verbose}");
    }
    let on_disk = |path: &str| walk(&world.store().join(path));
    assert!(size.abs_diff(on_disk("oci/blobs") + on_disk("layers")) < 4096, "{size}");
    world.sbx(["rm", "web"]).succeed();
}

fn walk(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => walk(&entry.path()),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    };
    entries.map(size).sum()
}

#[test]
fn the_store_is_told_by_info() {
    let world = sbx();
    image().layer(|tar| tar.file("a", "1")).load(&world, "a:1");
    world.sbx(["tag", "a:1", "a:2"]).succeed();
    let info = document(&world, &["info", "--format", "json"]);
    assert_eq!(info["store"]["imageStore"]["number"], 1);
    assert_eq!(info["store"]["imagePath"], world.store().join("oci").display().to_string());
    assert_eq!(
        world.sbx(["info", "--format", "{{.Images}} {{.Driver}}"]).succeed().split(' ').next(),
        Some("1")
    );
}
