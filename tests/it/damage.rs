//! A store that somebody or a crash has damaged: what can be put in order is, what may be dear to somebody
//! stays, and nothing outside of the store is ever touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::{Sbx, images, rootfs, sbx};

fn words(options: &[&str], command: &[&str]) -> Vec<PathBuf> {
    let options = options.iter().map(PathBuf::from);
    let root = [PathBuf::from("--rootfs"), rootfs().to_owned()];
    options.chain(root).chain(command.iter().map(PathBuf::from)).collect()
}

fn next_command(world: &Sbx) -> String {
    let said = world.run(words(&["--rm", "--net=none"], &["true"])).expect_code(0).stderr();
    without_monitors(world);
    said
}

/// Waits until the monitors have removed what nobody finds any more.
fn without_monitors(world: &Sbx) {
    let until = Instant::now() + Duration::from_secs(5);
    while world.leftovers().processes.iter().any(|process| {
        let name = fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
        name == "sbx-monitor\n"
    }) {
        assert!(Instant::now() < until, "a monitor stays:\n{}", world.leftovers());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes a container that is kept and has ended; its ID.
fn kept(world: &Sbx, name: &str) -> String {
    let name = format!("--name={name}");
    world
        .run(words(&["--net=none", &name], &["sh", "-c", "touch /x; mkdir /d; chown 33:33 /d /x"]))
        .succeed();
    let filter = name.trim_start_matches("--name=");
    let listed = world.sbx(["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}}"]).succeed();
    let line = listed.lines().find(|line| line.ends_with(&format!(" {filter}"))).expect("it is listed");
    line.split(' ').next().expect("an ID").to_owned()
}

/// Makes a container lost: its monitor and guard are killed, and its lock file stays.
fn lost(world: &Sbx, options: &[&str]) -> String {
    let mut running = world.run(words(options, &["sh", "-c", "echo up; sleep 1000"])).spawn();
    running.wait_for_stdout("up");
    for process in world.leftovers().processes {
        let name = fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
        if ["sbx-guard\n", "sbx-monitor\n"].contains(&name.as_str()) {
            let _ = kill(process.pid, Signal::SIGKILL);
        }
    }
    running.finish().code_is(125);
    let lock = fs::read_dir(world.store().join("running")).expect("a store").next().expect("a lock");
    lock.expect("an entry").file_name().into_string().expect("an ID")
}

/// A directory outside of the store with files under the names of a container's parts.
fn precious(world: &Sbx) -> PathBuf {
    let precious = world.directory().join("precious");
    for part in ["upper", "work", "merged", "mounts"] {
        fs::create_dir_all(precious.join(part)).expect("a directory");
        fs::write(precious.join(part).join("file"), "dear").expect("a file");
    }
    fs::write(precious.join("spec.json"), "dear").expect("a file");
    precious
}

fn assert_untouched(precious: &Path) {
    for file in ["upper/file", "work/file", "merged/file", "mounts/file", "spec.json"] {
        assert_eq!(fs::read_to_string(precious.join(file)).expect(file), "dear");
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn a_lock_file_of_another_boot_names_nobody() {
    let world = sbx();
    // A process of ours with the very number that the record has must live on.
    let bystander = world.program("sleep").arg("1000").spawn();
    let id = lost(&world, &["--rm", "--net=none"]);
    let path = world.store().join("running").join(&id);
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("it")).expect("JSON");
    let boot = record["boot_id"].as_str().expect("a boot").to_owned();
    let stat = fs::read_to_string(format!("/proc/{}/stat", bystander.pid())).expect("it runs");
    let start: u64 =
        stat.rsplit_once(") ").expect("a stat").1.split(' ').nth(19).expect("fields").parse().expect("it");
    record["init"] = serde_json::json!({ "pid": bystander.pid().as_raw(), "start": start });
    record["boot_id"] = boot.chars().rev().collect::<String>().into();
    fs::write(&path, record.to_string()).expect("a record");
    assert_eq!(next_command(&world), "");
    let alive = fs::read_to_string(format!("/proc/{}/stat", bystander.pid())).expect("it runs");
    assert!(!alive.contains(") Z "), "the next command killed a process of another boot");
    bystander.signal(Signal::SIGKILL);
    bystander.finish().code_is(137);
    world.assert_clean();
}

#[test]
fn a_container_that_ran_before_a_reboot_is_exited() {
    let world = sbx();
    let id = lost(&world, &["--name=old", "--net=none"]);
    let path = world.store().join("running").join(&id);
    let text = fs::read_to_string(&path).expect("a record").replacen("boot_id\":\"", "boot_id\":\"other", 1);
    fs::write(&path, text).expect("a record");
    let format = ["ps", "-a", "--format", "{{.Names}} {{.State}} {{.ExitCode}}"];
    assert_eq!(world.sbx(format).succeed(), "old exited 137");
    assert_eq!(next_command(&world), "");
    assert_eq!(world.sbx(format).succeed(), "old exited 137");
    assert_eq!(world.sbx(["rm", "old"]).succeed(), "old");
    world.assert_clean();
}

#[test]
fn torn_and_strange_lock_files_are_cleared_away() {
    for damage in ["empty", "torn", "garbage", "directory", "link", "dangling", "fifo", "huge"] {
        let world = sbx();
        let precious = precious(&world);
        let id = lost(&world, &["--rm", "--net=none"]);
        let path = world.store().join("running").join(&id);
        let text = fs::read(&path).expect("a record");
        fs::remove_file(&path).expect("removed");
        match damage {
            "empty" => fs::write(&path, ""),
            "torn" => fs::write(&path, &text[..text.len() / 2]),
            "garbage" => fs::write(&path, [0xff_u8, 0, 0x7b, 0x22].repeat(1000)),
            "directory" => fs::create_dir_all(path.join("deep")),
            "link" => symlink(precious.join("spec.json"), &path),
            "dangling" => symlink("/nonexistent", &path),
            "fifo" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).map_err(Into::into),
            _ => fs::File::create(&path).and_then(|file| file.set_len(1 << 40)),
        }
        .expect(damage);
        next_command(&world);
        assert_untouched(&precious);
        for part in ["running", "containers", "names"] {
            assert_eq!(entries(&world.store().join(part)), [] as [PathBuf; 0], "{damage}");
        }
    }
}

#[test]
fn a_removal_that_was_cut_short_is_finished() {
    for started in [true, false] {
        let world = sbx();
        let id = lost(&world, &["--rm", "--net=none", "--name=web"]);
        let store = world.store();
        if !started {
            fs::write(store.join("running").join(&id), "{}").expect("a record");
        }
        // As a monitor leaves it that is killed right after it has said that the container ended.
        fs::create_dir_all(store.join("removed")).expect("a directory");
        fs::rename(store.join("containers").join(&id), store.join("removed").join(&id)).expect("moved");
        assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
        world.sbx(["rm", "web"]).expect_code(1).stderr_has("no container with the name or ID");
        let again = world.run(words(&["--rm", "--net=none", "--name=web"], &["true"]));
        again.expect_code(0).stderr_is("");
        world.assert_clean();
        assert_eq!(entries(&store.join("names")), [] as [PathBuf; 0]);
    }
}

#[test]
fn entries_that_are_no_containers_are_left_alone() {
    let world = sbx();
    next_command(&world);
    let precious = precious(&world);
    for part in ["running", "containers"] {
        fs::write(world.store().join(part).join("notes.txt"), "x").expect("a file");
        symlink(&precious, world.store().join(part).join("link")).expect("a link");
        fs::create_dir(world.store().join(part).join("0".repeat(63))).expect("a directory");
    }
    assert_eq!(next_command(&world), "");
    assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
    assert_eq!(world.sbx(["rm", "-af"]).succeed(), "");
    assert_untouched(&precious);
    for part in ["running", "containers"] {
        assert_eq!(entries(&world.store().join(part)).len(), 3, "{part}");
    }
}

#[test]
fn no_removal_follows_a_container_that_is_a_link() {
    let world = sbx();
    let precious = precious(&world);
    let id = lost(&world, &["--rm", "--net=none", "--name=web"]);
    let directory = world.store().join("containers").join(&id);
    fs::rename(&directory, world.directory().join("moved")).expect("moved");
    // Even the spec is there to be found.
    fs::copy(world.directory().join("moved/spec.json"), precious.join("spec.json")).expect("a copy");
    symlink(&precious, &directory).expect("a link");
    next_command(&world);
    let _ = world.sbx(["rm", "-f", &id]).finish();
    fs::write(precious.join("spec.json"), "dear").expect("a file");
    assert_untouched(&precious);
    assert!(!directory.is_symlink(), "the link itself is the store's and goes");
}

#[test]
fn a_spec_that_speaks_of_another_container_removes_nothing_of_it() {
    let world = sbx();
    let (victim, liar) = (kept(&world, "victim"), kept(&world, "liar"));
    let directory = |id: &str| world.store().join("containers").join(id);
    fs::copy(directory(&victim).join("spec.json"), directory(&liar).join("spec.json")).expect("a copy");
    let listed = world.sbx(["ps", "-a", "--format", "{{.Names}}:{{.State}}"]).succeed();
    assert!(listed.contains("victim:exited") && listed.contains(":dead"), "{listed}");
    assert_eq!(world.sbx(["rm", &liar]).succeed(), liar);
    assert!(directory(&victim).join("upper/x").exists(), "the other container lost its files");
    assert_eq!(world.sbx(["rm", "victim"]).succeed(), "victim");
    world.assert_clean();
}

#[test]
fn a_damaged_spec_keeps_the_files_until_they_are_removed_by_request() {
    for damage in ["empty", "garbage", "link", "fifo", "escape"] {
        let world = sbx();
        let precious = precious(&world);
        let id = lost(&world, &["--name=web", "--net=none"]);
        let directory = world.store().join("containers").join(&id);
        let spec = directory.join("spec.json");
        let text = fs::read_to_string(&spec).expect("a spec");
        fs::remove_file(&spec).expect("removed");
        match damage {
            "empty" => fs::write(&spec, ""),
            "garbage" => fs::write(&spec, "[".repeat(100_000)),
            "link" => symlink(precious.join("spec.json"), &spec),
            "fifo" => nix::unistd::mkfifo(&spec, nix::sys::stat::Mode::S_IRWXU).map_err(Into::into),
            _ => fs::write(&spec, text.replace(&id, "../../../precious")),
        }
        .expect(damage);
        assert!(next_command(&world).starts_with("Warning: cannot "), "{damage}");
        assert_eq!(next_command(&world), "", "{damage}: it is told once");
        assert!(directory.join("upper").exists(), "{damage}: the files are gone");
        let listed = world.sbx(["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]).succeed();
        assert_eq!(listed, format!("{id} dead"), "{damage}");
        let told = world.sbx(["start", &id]).expect_code(125).stderr();
        for words in [directory.join("upper").display().to_string(), format!("sbx rm {}", &id[..12])] {
            assert!(told.contains(&words), "{damage}: {told}");
        }
        assert_eq!(world.sbx(["rm", &id]).succeed(), id, "{damage}");
        assert_untouched(&precious);
        world.assert_clean();
        assert_eq!(entries(&world.store().join("names")), [] as [PathBuf; 0], "{damage}");
    }
}

/// Small records, and what is known of a layer: each error names the file, and its hint is a command that mends it.
#[test]
fn a_damaged_record_is_told_with_a_command_that_mends_it() {
    let world = sbx();
    world.put_image(&images().busybox(), "busybox");
    world.sbx(["pod", "create", "--infra=false", "--share=", "site"]).succeed();
    world.sbx(["secret", "create", "key", "-"]).stdin("data").succeed();
    world.sbx(["network", "create", "shop"]).succeed();
    let on_image = ["run", "--rm", "--net=none", "busybox", "true"];
    world.sbx(on_image).expect_code(0);
    let layer = entries(&entries(&world.store().join("layers"))[0]);
    for (file, command, after) in [
        (world.store().join("pods/s.site"), &["pod", "rm", "site"][..], 1),
        (world.store().join("secrets/s.key"), &["secret", "rm", "key"], 1),
        (world.store().join("networks/s.shop"), &["network", "rm", "shop"], 1),
        (layer[0].join("facts.json"), &on_image, 0),
    ] {
        for damage in ["", "{\"na", "\u{1}\u{2}", "null"] {
            fs::write(&file, damage).expect("damage");
            let told = world.sbx(command).expect_code(125).stderr();
            assert!(told.contains(&file.display().to_string()), "{told}");
        }
        let told = world.sbx(command).expect_code(125).stderr();
        let hint =
            told.lines().find_map(|line| line.strip_prefix("Hint: ")).unwrap_or_else(|| panic!("{told}"));
        let mend = hint.split('`').nth(1).unwrap_or_else(|| panic!("{told}"));
        world.program("sh").args(["-c", mend]).expect_code(0);
        world.sbx(command).expect_code(after);
    }
}

#[test]
fn a_start_that_was_killed_does_not_cost_the_files_of_a_damaged_spec() {
    for record in ["", "{}", "garbage"] {
        let world = sbx();
        let id = kept(&world, "web");
        let directory = world.store().join("containers").join(&id);
        fs::write(directory.join("spec.json"), "{}").expect("damage");
        fs::write(world.store().join("running").join(&id), record).expect("a lock file");
        assert!(next_command(&world).starts_with("Warning: cannot "), "{record}");
        assert!(directory.join("upper/x").exists(), "{record}: the files are gone");
        assert_eq!(world.sbx(["ps", "-a", "--format", "{{.State}}"]).succeed(), "dead", "{record}");
        assert_eq!(world.sbx(["rm", &id]).succeed(), id, "{record}");
        world.assert_clean();
    }
}

#[test]
fn a_container_whose_end_is_illegible_has_ended() {
    let world = sbx();
    let id = kept(&world, "web");
    let directory = world.store().join("containers").join(&id);
    for damage in ["", "{\"exit", "null", "{\"exit_code\":\"0\"}"] {
        fs::write(directory.join("state.json"), damage).expect("damage");
        let listed = world.sbx(["ps", "-a", "--format", "{{.State}} {{.ExitCode}}"]).succeed();
        assert_eq!(listed, "exited 137", "{damage}");
    }
    world.sbx(["start", "-a", &id]).expect_code(0);
    assert_eq!(world.sbx(["rm", &id]).succeed(), id);
    world.assert_clean();
}

#[test]
fn what_a_killed_command_was_making_or_removing_is_never_shown_as_something_else() {
    for (record, spec, shown) in [
        ("", false, ""),
        ("{}", false, ""),
        (r#"{"removing":true}"#, false, ""),
        (r#"{"removing":true}"#, true, "removing"),
        ("", true, "created"),
    ] {
        let world = sbx();
        let id = kept(&world, "web");
        let directory = world.store().join("containers").join(&id);
        let whole = if record.starts_with("{\"") {
            let mut whole = serde_json::json!({
                "boot_id": "", "monitor": null, "guard": null, "init": null, "servers": [], "userns": 0,
                "started_at": null, "runtime": null,
            });
            whole["removing"] = true.into();
            whole.to_string()
        } else {
            record.to_owned()
        };
        fs::write(world.store().join("running").join(&id), whole).expect("a lock file");
        fs::remove_file(directory.join("state.json")).expect("it ran");
        if !spec {
            fs::remove_file(directory.join("spec.json")).expect("it had one");
        }
        let listed = || world.sbx(["ps", "-a", "--format", "{{.State}}"]).succeed();
        assert_eq!(listed(), shown, "{record}, {spec}");
        assert_eq!(next_command(&world), "", "{record}, {spec}");
        assert_eq!(listed(), if shown == "created" { shown } else { "" }, "{record}, {spec}");
        let _ = world.sbx(["rm", "web"]).finish();
        world.assert_clean();
        assert_eq!(entries(&world.store().join("names")), [] as [PathBuf; 0], "{record}, {spec}");
    }
}

#[test]
fn names_that_lead_to_nobody_can_be_taken() {
    let world = sbx();
    next_command(&world);
    let precious = precious(&world);
    let names = world.store().join("names");
    symlink("f".repeat(64), names.join("dangling")).expect("a link");
    symlink(&precious, names.join("elsewhere")).expect("a link");
    symlink("../../../precious", names.join("relative")).expect("a link");
    fs::write(names.join("file"), "x").expect("a file");
    fs::create_dir_all(names.join("directory/deep")).expect("a directory");
    nix::unistd::mkfifo(&names.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for name in ["dangling", "elsewhere", "relative", "file", "directory", "fifo"] {
        world.sbx(["rm", name]).expect_code(1).stderr_has("no container with the name or ID");
        let option = format!("--name={name}");
        world.run(words(&["--rm", "--net=none", &option], &["true"])).expect_code(0).stderr_is("");
    }
    assert_untouched(&precious);
    world.assert_clean();
    assert_eq!(entries(&names), [] as [PathBuf; 0]);
}

#[test]
fn a_container_whose_set_up_failed_never_ran_and_is_removed_with_rm() {
    let world = sbx();
    world.run(words(&["--net=none", "--name=never"], &["/no/such/command"])).expect_code(127);
    let shown = world.sbx(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).succeed();
    assert_eq!(shown, "never created");
    world.sbx(["rm", "never"]).succeed();
    world.run(words(&["--rm", "--net=none", "--name=never"], &["/no/such/command"])).expect_code(127);
    assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
    world.assert_clean();
    assert_eq!(entries(&world.store().join("names")), [] as [PathBuf; 0]);
}

/// A shell in a mount namespace of its own, with a store of 4 MiB in "$store"; `script` fills it.
fn on_a_small_disk(world: &Sbx, script: &str) {
    let store = world.directory().join("small");
    fs::create_dir(&store).expect("a directory");
    let shell = format!(
        "set -eu
        mount -t tmpfs -o size=4m,mode=755 none \"$store\"
        fill() {{ cat /dev/zero > \"$store/filler\" 2>/dev/null || true; }}
        left() {{ find \"$store/containers\" \"$store/running\" \"$store/names\" -mindepth 1; }}
        {script}"
    );
    let run =
        world.program("unshare").args(["--user", "--map-root-user", "--map-auto", "--mount", "sh", "-c"]);
    run.arg(shell)
        .env("store", &store)
        .env("SBX_ROOT", &store)
        .env("sbx", crate::harness::sbx_binary())
        .env("root", rootfs())
        .expect_code(0)
        .stdout_has("end of script");
}

#[test]
fn on_a_full_disk_containers_can_still_be_removed() {
    let world = sbx();
    on_a_small_disk(
        &world,
        "\"$sbx\" run --net none --name one --rootfs \"$root\" sh -c 'head -c 100000 /dev/zero > /x'
        fill
        \"$sbx\" run --rm --net none --rootfs \"$root\" true && exit 3
        \"$sbx\" ps -a --format '{{.Names}} {{.Status}}' | grep -q '^one Exited (0)'
        \"$sbx\" rm one
        test -z \"$(left)\"
        echo end of script",
    );
}

#[test]
fn a_full_disk_loses_neither_the_exit_code_nor_what_a_killed_monitor_left() {
    let world = sbx();
    on_a_small_disk(
        &world,
        "\"$sbx\" run --net none --name one --rootfs \"$root\" sh -c 'cat > /x < /dev/zero; exit 9' || test $? = 9
        \"$sbx\" ps -a --format '{{.Names}} {{.State}} {{.ExitCode}}' | grep -qx 'one exited 9'
        \"$sbx\" run --rm --net none --name two --rootfs \"$root\" true && exit 3
        \"$sbx\" rm one
        \"$sbx\" run --net none --name two --log-driver none --rootfs \"$root\" sleep 1000 & client=$!
        until \"$sbx\" ps | grep -q two; do sleep 0.01; done
        fill
        pkill -KILL -P $client
        wait $client && exit 4
        \"$sbx\" run --rm --net none --rootfs \"$root\" true 2>/dev/null && exit 5
        \"$sbx\" ps -a --format '{{.Names}} {{.State}} {{.ExitCode}}' | grep -qx 'two exited 137'
        \"$sbx\" rm two
        test -z \"$(left)\"
        echo end of script",
    );
}
