//! Who the container's users are: tiers, `--userns`, `--user`, explicit maps, groups.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::harness::{Sbx, rootfs, sbx, shim_binary};

/// The caller's name, user ID and primary group ID.
fn caller() -> (String, u32, u32) {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let user =
        nix::unistd::User::from_uid(uid).expect("a user database").expect("the test's user has a name");
    (user.name, uid.as_raw(), gid.as_raw())
}

/// The first subordinate ID and their count.
fn range() -> (u32, u32) {
    let (name, uid, _) = caller();
    let text = std::fs::read_to_string("/etc/subuid").expect("/etc/subuid");
    let entry = text
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == name || fields[0] == uid.to_string())
        .expect("the test's user has a subordinate range: run `scripts/test` as root once");
    (entry[1].parse().expect("a number"), entry[2].parse().expect("a number"))
}

/// Standard output of a shell in a container without network.
fn shell(world: &Sbx, options: &[&str], script: &str) -> String {
    shell_in(world, rootfs(), options, script)
}

fn shell_in(world: &Sbx, root: &Path, options: &[&str], script: &str) -> String {
    let run = world.run(["--rm", "--net", "none"]).args(options).arg("--rootfs").arg(root);
    run.args(["sh", "-c", script]).succeed()
}

/// A root whose account files know nobody with the caller's numbers, whatever these are.
fn rootfs_without_the_caller(world: &Sbx) -> PathBuf {
    let (_, uid, gid) = caller();
    let root = world.own_rootfs();
    for (file, number) in [("etc/passwd", uid), ("etc/group", gid)] {
        let path = root.join(file);
        let text = std::fs::read_to_string(&path).expect("an account file");
        let others = text.lines().filter(|line| line.split(':').nth(2) != Some(&number.to_string()));
        std::fs::write(path, others.map(|line| format!("{line}\n")).collect::<String>()).expect("written");
    }
    root
}

/// `uid_map` as the container sees it, a line each.
fn map(world: &Sbx, options: &[&str]) -> Vec<String> {
    lines(&shell(world, options, "cat /proc/self/uid_map"))
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn volume(world: &Sbx) -> String {
    format!("{}:/v", world.work().display())
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (metadata.uid(), metadata.gid())
}

/// It must fail before anything is started: no container, no process, nothing in the store.
#[track_caller]
fn refused(world: &Sbx, options: &[&str], because: &str) -> String {
    let run = world.run(["--rm", "--net", "none"]).args(options).arg("--rootfs").arg(rootfs());
    let finished = run.arg("true").expect_code(125).stdout_is("").stderr_has(because);
    world.assert_clean();
    finished.stderr()
}

#[test]
fn root_inside_is_the_caller_and_the_others_are_subordinate() {
    let world = sbx();
    let (_, uid, _) = caller();
    let (first, count) = range();
    let expected = [format!("0 {uid} 1"), format!("1 {first} {count}")];
    assert_eq!(map(&world, &[]), expected);
    assert_eq!(map(&world, &["--id-tier", "range"]), expected);
    assert_eq!(map(&world, &["--userns", "host"]), expected);
    assert_eq!(shell(&world, &[], "id -u; id -g; echo $HOME; whoami"), "0\n0\n/root\nroot");
}

#[test]
fn files_of_the_containers_users_are_those_of_subordinate_ids_outside() {
    let world = sbx();
    let (_, uid, gid) = caller();
    let volume = volume(&world);
    shell(&world, &["-v", &volume], "touch /v/root /v/user && chown 1000:50 /v/user");
    assert_eq!(owner(&world.work().join("root")), (uid, gid));
    let host = owner(&world.work().join("user"));
    assert_eq!(host.0, range().0 + 999);
    assert_eq!(shell(&world, &["-v", &volume], "stat -c %u:%g /v/user"), "1000:50");
}

#[test]
fn the_single_tier_maps_the_caller_alone() {
    let world = sbx();
    let (_, uid, _) = caller();
    assert_eq!(map(&world, &["--id-tier", "single"]), [format!("0 {uid} 1")]);
    let script = "cat /proc/self/setgroups; touch /tmp/mine && stat -c %u /tmp/mine";
    assert_eq!(shell(&world, &["--id-tier", "single"], script), "deny\n0");
    assert_eq!(map(&world, &["--id-tier", "single", "--userns", "keep-id"]), [format!("{uid} {uid} 1")]);
    let keep = shell(&world, &["--id-tier", "single", "--userns", "keep-id:uid=7,gid=8"], "id -u; id -g");
    assert_eq!(keep, "7\n8");
    let said = refused(&world, &["--id-tier", "single", "--userns", "nomap"], "no ID but the caller's own");
    assert!(said.contains("single tier"), "{said}");
    let real = ["--id-tier", "single", "--emulate-root", "never", "--user", "user"];
    refused(&world, &real, "cannot run as uid 1000");
}

#[test]
fn a_tier_that_is_not_to_be_had_is_refused_with_the_reason() {
    let world = sbx();
    let said = refused(&world, &["--id-tier", "root"], "cannot take the root tier");
    assert!(said.contains("has no CAP_SETUID"), "{said}");
    world.run(["--id-tier", "best", "host", "true"]).expect_code(125).stderr_has("range, root, single");
}

#[test]
fn keep_id_is_the_caller_inside_with_its_name_and_its_files() {
    let world = sbx();
    let (name, uid, gid) = caller();
    let volume = volume(&world);
    let options = ["--userns", "keep-id", "-v", &volume, "-w", "/v"];
    let root = rootfs_without_the_caller(&world);
    let script = "id -u; id -g; whoami; id -gn; touch mine; stat -c %u:%g mine; echo $HOME; echo ~";
    assert_eq!(
        lines(&shell_in(&world, &root, &options, script)),
        [&uid.to_string(), &gid.to_string(), &name, &name, &format!("{uid}:{gid}"), "/v", "/v"]
    );
    assert_eq!(owner(&world.work().join("mine")), (uid, gid));
    let entry = shell_in(&world, &root, &options, &format!("grep ^{name}: /etc/passwd"));
    assert_eq!(entry, format!("{name}:*:{uid}:{gid}:container user:/v:/bin/sh"));
    assert!(map(&world, &options).contains(&format!("{uid} 0 1")), "nested in the canonical namespace");
}

#[test]
fn keep_id_takes_other_numbers_for_the_caller() {
    let world = sbx();
    let (_, uid, gid) = caller();
    let volume = volume(&world);
    let options = ["--userns", "keep-id:uid=200,gid=210", "-v", &volume, "-w", "/v"];
    assert_eq!(shell(&world, &options, "id -u; id -g; touch f; stat -c %u:%g f"), "200\n210\n200:210");
    assert_eq!(owner(&world.work().join("f")), (uid, gid));
    // --user chooses somebody else under the same map.
    let root = ["--userns", "keep-id:uid=200,gid=210", "-v", &volume, "--user", "root"];
    assert_eq!(
        shell(&world, &root, "id -u; stat -c %u:%g /v/f; touch /etc/made && echo made"),
        "0\n200:210\nmade"
    );
}

#[test]
fn a_home_that_is_mounted_is_the_home() {
    let world = sbx();
    world.file("here", "x");
    let home = world.home();
    let volume = format!("{0}:{0}", home.display());
    let root = rootfs_without_the_caller(&world);
    assert_eq!(
        shell_in(&world, &root, &["--userns", "keep-id", "-v", &volume], "echo $HOME"),
        home.display().to_string()
    );
}

#[test]
fn the_account_is_added_where_the_root_is_read_only_or_the_callers_own_directory() {
    let world = sbx();
    let (name, ..) = caller();
    let options = ["--userns", "keep-id", "--read-only"];
    let own = rootfs_without_the_caller(&world);
    let script = "whoami; ls -a /dev | grep -c sbx || true";
    assert_eq!(shell_in(&world, &own, &options, script), format!("{name}\n0"));
    let before = std::fs::read(own.join("etc/passwd")).expect("a passwd file");
    let run = world.run(["--rm", "--net", "none", "--userns", "keep-id", "--rootfs-rw"]).arg(&own);
    assert_eq!(run.arg("whoami").succeed(), name);
    assert_eq!(std::fs::read(own.join("etc/passwd")).expect("a passwd file"), before);
}

#[test]
fn a_passwd_file_that_is_mounted_is_left_alone() {
    let world = sbx();
    let file = world.file("passwd", "root:x:0:0:root:/root:/bin/sh\n");
    let volume = format!("{}:/etc/passwd", file.display());
    assert_eq!(shell(&world, &["--userns", "keep-id", "-v", &volume], "wc -l </etc/passwd"), "1");
    assert_eq!(std::fs::read_to_string(file).expect("the file"), "root:x:0:0:root:/root:/bin/sh\n");
}

#[test]
fn passwd_false_leaves_the_account_files_alone() {
    let world = sbx();
    let run = world.run(["--rm", "--net", "none", "--userns", "keep-id", "--passwd=false", "--rootfs"]);
    let root = rootfs_without_the_caller(&world);
    run.arg(root).args(["sh", "-c", "echo $HOME; whoami"]).expect_code(1).stdout_is("/\n");
}

#[test]
fn an_unknown_number_gets_a_line_of_its_own() {
    let world = sbx();
    assert_eq!(
        shell(&world, &["--user", "4321"], "whoami; id -gn; tail -n1 /etc/passwd"),
        "4321\nroot\n4321:*:4321:0:container user:/:/bin/sh"
    );
}

#[test]
fn the_image_host_has_a_home_for_its_user() {
    let world = sbx();
    let (name, ..) = caller();
    let script = "whoami; cd && touch file && stat -c '%a %U' . && [ -z \"$(ls ~root 2>/dev/null)\" ]";
    let run = world.run(["--rm", "--net", "none", "--userns", "keep-id", "host", "sh", "-c", script]);
    assert_eq!(run.succeed(), format!("{name}\n700 {name}"));
}

#[test]
fn auto_gives_each_container_ids_of_its_own() {
    let world = sbx();
    let volume = volume(&world);
    let script = "cat /proc/self/uid_map; stat -c %u /v; echo ready; cat >/dev/null";
    let run =
        world.run(["--rm", "-i", "--net", "none", "--userns", "auto:size=500", "-v", &volume, "--rootfs"]);
    let mut first =
        run.arg(rootfs()).args(["sh", "-c", script]).stdin_from(std::process::Stdio::piped()).spawn();
    first.wait_for_stdout("ready");
    let there = lines(&first.stdout_now());
    assert_eq!(there[..2], ["0 1 500", "65534"], "the caller's files are nobody's");
    assert_eq!(map(&world, &["--userns", "auto"]), ["0 501 1024"]);
    // Neither does a container of another kind take a block away.
    assert_eq!(map(&world, &["--userns", "keep-id"]).len(), 3);
    first.close_stdin();
    let _ = first.finish().code_is(0);
    assert_eq!(map(&world, &["--userns", "auto"]), ["0 1 1024"]);
    refused(&world, &["--userns", "auto:size=4000000000"], "no 4000000000 consecutive");
}

#[test]
fn nomap_leaves_the_caller_out() {
    let world = sbx();
    let (_, count) = range();
    let volume = volume(&world);
    world.file("secret", "x");
    std::fs::set_permissions(
        world.work().join("secret"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("a mode");
    let script = "cat /proc/self/uid_map; stat -c %u /v/secret; cat /v/secret 2>&1; touch /tmp/x";
    let seen = lines(&shell(&world, &["--userns", "nomap", "-v", &volume], script));
    assert_eq!(seen, [&format!("0 1 {count}"), "65534", "cat: can't open '/v/secret': Permission denied"]);
}

#[test]
fn image_user_makes_the_images_user_the_caller() {
    let world = sbx();
    let (_, uid, gid) = caller();
    let volume = volume(&world);
    let options = ["--userns", "image-user", "--user", "user", "-v", &volume, "-w", "/v"];
    assert_eq!(shell(&world, &options, "id -u; echo $HOME; touch f; stat -c %U f"), "1000\n/home/user\nuser");
    assert_eq!(owner(&world.work().join("f")), (uid, gid));
    assert_eq!(shell(&world, &["--userns", "image-user"], "id -u"), "0");
}

#[test]
fn a_container_shares_the_user_namespace_of_another() {
    let world = sbx();
    for userns in ["host", "keep-id", "auto"] {
        let run =
            world.run(["--rm", "-i", "--net", "none", "--name", "first", "--userns", userns, "--rootfs"]);
        let script = "readlink /proc/self/ns/user; echo ready; cat >/dev/null";
        let mut first =
            run.arg(rootfs()).args(["sh", "-c", script]).stdin_from(std::process::Stdio::piped()).spawn();
        first.wait_for_stdout("ready");
        let namespace = lines(&first.stdout_now())[0].clone();
        let joined = ["--userns", "container:first"];
        let script = "readlink /proc/self/ns/user";
        assert_eq!(shell(&world, &[&joined[..], &["--user", "0:0"]].concat(), script), namespace, "{userns}");
        first.close_stdin();
        let _ = first.finish().code_is(0);
    }
    refused(&world, &["--userns", "container:first"], "no container with the name or ID `first`");
}

#[test]
fn user_namespaces_by_path_are_joined_or_refused_with_the_reason() {
    let world = sbx();
    let script = "echo $$; exec sleep 1000";
    let mut other = world.program("unshare").args(["--user", "--map-root-user", "sh", "-c", script]).spawn();
    other.wait_for_stdout("\n");
    let path = format!("ns:/proc/{}/ns/user", other.stdout_now().trim());
    let (_, uid, _) = caller();
    assert_eq!(map(&world, &["--userns", &path]), [format!("0 {uid} 1")]);
    other.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = other.finish().code_is(137);
    refused(&world, &["--userns", "ns:/proc/self/ns/user"], "the one that sbx runs in");
    refused(&world, &["--userns", "ns:/proc/self/ns/net"], "a namespace of another kind");
    refused(&world, &["--userns", "ns:/proc/1/ns/user"], "Permission denied");
    refused(&world, &["--userns", "ns:/etc/passwd"], "the file is no namespace");
}

#[test]
fn users_are_names_or_numbers_of_the_containers_own_files() {
    let world = sbx();
    let id = |user| shell(&world, &["--user", user], "id -u; id -g; id -G; echo $HOME");
    assert_eq!(id("user"), "1000\n1000\n1000 50\n/home/user");
    assert_eq!(id("1000"), "1000\n1000\n1000 50\n/home/user");
    assert_eq!(id("user:staff"), "1000\n50\n50\n/home/user");
    assert_eq!(id("4321:77"), "4321\n77\n77\n/");
    refused(&world, &["--user", "nosuch"], "unable to find user nosuch");
    refused(&world, &["--user", "user:nosuch"], "unable to find group nosuch");
    let said = refused(&world, &["--user", "70000"], "cannot run as uid 70000");
    assert!(said.contains("not mapped into the container, which has 0, 1-65536"), "{said}");
    refused(&world, &["--user", "1000:70000"], "cannot run as gid 70000");
}

#[test]
fn groups_are_added() {
    let world = sbx();
    let options = ["--user", "user", "--group-add", "www-data", "--group-add", "555"];
    assert_eq!(shell(&world, &options, "id -G"), "1000 33 50 555");
    refused(&world, &["--group-add", "70000"], "cannot run as gid 70000");
    refused(&world, &["--group-add", "keep-groups", "--group-add", "5"], "together with other groups");
}

#[test]
fn explicit_maps_are_taken_line_by_line() {
    let world = sbx();
    let (first, _) = range();
    let (_, uid, _) = caller();
    assert_eq!(map(&world, &["--uidmap", "0:1:10", "--uidmap", "1000:0:1"]), ["0 1 10", "1000 0 1"]);
    let host = ["--uidmap", &format!("0:@{uid}:1"), "--uidmap", &format!("1:@{first}:5")];
    assert_eq!(map(&world, &host), ["0 0 1", "1 1 5"]);
    let volume = volume(&world);
    let moved = ["--uidmap", "0:1:10", "--uidmap", "1000:0:1", "-v", &volume];
    assert_eq!(shell(&world, &moved, "stat -c %u:%g /v"), "1000:1000", "--gidmap follows --uidmap");
}

#[test]
fn a_map_without_root_works() {
    let world = sbx();
    let (_, uid, gid) = caller();
    let volume = volume(&world);
    let options = ["--uidmap", "1000:0:1", "--user", "1000:1000", "-v", &volume, "--tmpfs", "/t"];
    let script = "id -u; mkdir /t/d && touch /v/f && stat -c %u /t/d /v/f; whoami";
    assert_eq!(shell(&world, &options, script), "1000\n1000\n1000\nuser");
    assert_eq!(owner(&world.work().join("f")), (uid, gid));
    let single = [&options[..], &["--id-tier", "single"]].concat();
    assert_eq!(shell(&world, &single, script), "1000\n1000\n1000\nuser");
    refused(&world, &["--uidmap", "1000:0:1"], "cannot run as uid 0");
}

#[test]
fn bad_maps_are_refused_before_anything_starts() {
    let world = sbx();
    let five: Vec<String> = (0..6).map(|n| format!("--uidmap={n}:{n}:1")).collect();
    let six: Vec<&str> = five.iter().map(String::as_str).collect();
    refused(&world, &six, "at most 5 lines");
    refused(&world, &["--uidmap", "0:0:10", "--uidmap", "5:20:10"], "map the same ID inside");
    refused(&world, &["--uidmap", "0:1:10", "--uidmap", "50:5:10"], "the same ID outside");
    refused(&world, &["--uidmap", "0:@0:1"], "neither the caller's own nor subordinate");
    refused(&world, &["--gidmap", "0:65530:1000"], "asks for ID");
    refused(&world, &["--uidmap", "0:1:5", "--userns", "keep-id"], "together with `--uidmap`");
    for text in ["1", "a:b:c", "0:0:0", "0:0:-1", "4294967295:0:1", "0:0:4294967296", "0:0:1:1"] {
        world
            .run(["--uidmap", text, "host", "true"])
            .expect_code(125)
            .stderr_has("cannot use the ID mapping");
    }
    for text in ["nosuch", "keep-id:uid=x", "auto:size=0", "container:", "ns:relative", "host:x"] {
        world.run(["--userns", text, "host", "true"]).expect_code(125).stderr_has("cannot use `--userns");
    }
    assert!(!world.store().join("containers").exists(), "nothing was made");
}

#[test]
fn a_map_is_written_once() {
    let world = sbx();
    for options in
        [&[][..], &["--userns", "keep-id", "--user", "root"], &["--id-tier", "single"], &["--privileged"]]
    {
        let script = "cat /proc/self/uid_map >/tmp/before; \
            for f in uid_map gid_map; do sh -c \"echo 0 0 1 >/proc/self/$f\" 2>/dev/null && echo $f; done; \
            cmp /proc/self/uid_map /tmp/before && echo same";
        assert_eq!(shell(&world, options, script), "same", "{options:?}");
    }
}

#[test]
fn one_start_of_the_own_helper_writes_what_the_systems_two_write() {
    let directory = shim_binary().parent().expect("a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(directory).chain(std::env::split_paths(&path));
    // What sbx takes by itself depends on where the helper is installed.
    let plain = sbx();
    let own = sbx().env("PATH", std::env::join_paths(path).expect("a PATH"));
    let info = own.sbx(["info", "--format", "json"]).expect_code(0).stdout();
    assert!(info.contains("\"shim\""), "{info}");
    let script = "cat /proc/self/uid_map /proc/self/gid_map";
    assert_eq!(shell(&own, &[], script), written_by_the_systems_two(&plain, script));
    for options in [&[][..], &["--userns", "keep-id"]] {
        assert_eq!(shell(&own, options, script), shell(&plain, options, script));
    }
}

/// What a script says in a user namespace to which newuidmap(1) and newgidmap(1) gave the caller and its ranges.
fn written_by_the_systems_two(world: &Sbx, script: &str) -> String {
    let (name, uid, gid) = caller();
    let script = format!("echo $$ ready; read -r go; {script}");
    let unshare = world.program("unshare").args(["--user", "sh", "-c", &script]);
    let mut waiting = unshare.stdin_from(Stdio::piped()).spawn();
    waiting.wait_for_stdout("ready\n");
    let pid = waiting.stdout_now().split(' ').next().expect("a number").to_owned();
    for (helper, own, option) in [("newuidmap", uid, &[][..]), ("newgidmap", gid, &["-g"])] {
        // `0: NAME FIRST COUNT`
        let range = world.program("getsubids").args(option).arg(&name).succeed();
        let words: Vec<&str> = range.lines().next().expect("a range").split(' ').collect();
        let own = own.to_string();
        world.program(helper).args([&pid, "0", &own, "1", "1", words[2], words[3]]).expect_code(0);
    }
    waiting.stdin().write_all(b"go\n").expect("it reads");
    let said = waiting.finish().code_is(0).stdout();
    said.split_once("ready\n").expect("it said so").1.trim_end().to_owned()
}

#[test]
fn a_refusal_on_a_bind_mount_is_explained_by_the_map() {
    let world = sbx();
    let (first, _) = range();
    let script = world.script("cmd", "#!/bin/sh\n");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
    let volume = volume(&world);
    let explained = format!("container ID 1000 is host ID {}", first + 999);
    let run = |options: &[&str]| {
        let run = world.run(["--rm", "--net", "none", "-v", &volume, "--user", "user"]);
        run.args(options).arg("--rootfs").arg(rootfs())
    };
    run(&[]).arg("/v/cmd").expect_code(126).stderr_has(&explained).stderr_has("--userns image-user");
    run(&["-w", "/v"]).arg("./cmd").expect_code(126).stderr_has(&explained);
    run(&["--userns", "image-user"]).arg("/v/cmd").expect_code(0);
    let closed = world.work().join("closed");
    std::fs::create_dir(&closed).expect("a directory");
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
    let run = world.run([
        "--rm",
        "--net",
        "none",
        "-v",
        &volume,
        "-w",
        "/v/closed",
        "--userns",
        "nomap",
        "--rootfs",
    ]);
    run.arg(rootfs())
        .arg("true")
        .expect_code(126)
        .stderr_has("working directory `/v/closed`")
        .stderr_has(&format!("container ID 0 is host ID {first}"));
}

#[test]
fn what_keeps_the_helpers_from_working_is_named_before_the_attempt() {
    let world = sbx();
    let run = |options: &[&str]| {
        let sbx = crate::harness::sbx_binary();
        let run =
            world.program("setpriv").arg("--no-new-privs").arg(sbx).args(["run", "--rm", "--net", "none"]);
        run.args(options).arg("--rootfs").arg(rootfs()).args(["cat", "/proc/self/uid_map"])
    };
    let (_, uid, _) = caller();
    let stepped = run(&[]).expect_code(0).stderr_has("no_new_privs is set");
    assert_eq!(lines(&stepped.stdout()), [format!("0 {uid} 1")]);
    run(&["--id-tier", "range"])
        .expect_code(125)
        .stderr_has("cannot take the range tier")
        .stderr_has("no_new_privs is set")
        .stderr_has("NoNewPrivileges=yes");
    world.assert_clean();
}

#[test]
fn two_streams_in_one_file_do_not_overwrite_each_other() {
    let world = sbx();
    let path = world.file("log", "");
    let script = "for i in 1 2 3; do echo out$i; echo err$i >&2; done";
    let run = world.program("sh").args(["-c", "exec >\"$0\" 2>&1; \"$@\"; \"$@\""]).arg(&path);
    let run = run.arg(crate::harness::sbx_binary()).args(["run", "--rm", "--net", "none", "--rootfs"]);
    run.arg(rootfs()).args(["sh", "-c", script]).expect_code(0);
    let text = std::fs::read_to_string(&path).expect("the log");
    assert_eq!(text.lines().count(), 12, "{text:?}");
}
