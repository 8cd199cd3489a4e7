//! Where one ID is mapped, owners and users are emulated: what programs believe, and what they may not reach.

mod hostile;
mod life;
mod packages;
mod users;

use crate::harness::{Sbx, debian_rootfs, rootfs, sbx};

const DRIVERS: [&str; 2] = ["overlay", "fuse-overlayfs"];

fn in_debian(world: &Sbx, driver: &str, script: &str) -> String {
    world
        .run(["--rm", "--id-tier", "single", "--net", "none", "--storage-driver", driver, "--rootfs"])
        .arg(debian_rootfs())
        .args(["sh", "-euc", script])
        .succeed()
}

/// Asserts what a script says on both drivers.
#[track_caller]
fn says(script: &str, expected: &str) {
    for driver in DRIVERS {
        let said = in_debian(&sbx(), driver, script);
        assert_eq!(said.trim_end(), expected.trim(), "{driver}");
    }
}

#[test]
fn every_kind_of_file_has_the_owner_that_it_was_given() {
    let script = r#"
        cd /srv
        touch file; mkdir dir; ln -s nowhere link; mkfifo fifo
        perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un("socket")) or die $!'
        chown -h 33:42 file dir link fifo socket
        chown :7 file
        stat -c '%n %u:%g %F' file dir link fifo socket
        mv link moved; ln file hard
        ls -ln moved hard | awk '{ print $3, $4, $9 }'
        rm moved; ln -s x moved; stat -c '%n %u:%g' moved
        rm file hard; touch file; stat -c '%n %u:%g' file
        chown root:root dir; stat -c '%n %u:%g' dir
    "#;
    says(
        script,
        "file 33:7 regular empty file\ndir 33:42 directory\nlink 33:42 symbolic link\nfifo 33:42 fifo\n\
         socket 33:42 socket\n33 7 hard\n33 42 moved\nmoved 0:0\nfile 0:0\ndir 0:0",
    );
}

#[test]
fn devices_are_recorded_as_empty_files() {
    let script = r#"
        umask 027
        mknod /srv/sda b 8 1; mknod /srv/tty c 4 300; chown 0:6 /srv/sda; chmod 660 /srv/sda
        stat -c '%F %t:%T %u:%g %a' /srv/sda /srv/tty
        mknod /srv/sda b 8 1 2>&1 || true
        mknod /none/sda b 8 1 2>&1 || true
        mknod /srv/white c 0 0 2>/dev/null && stat -c %F /srv/white || echo refused
        tar -cf - -C /srv sda tty | tar -tvf - | awk '{ print $1, $2, $3 }'
        cat /srv/sda
    "#;
    for driver in DRIVERS {
        let said = in_debian(&sbx(), driver, script);
        let said: Vec<&str> =
            said.lines().filter(|line| !line.contains("refused") && !line.contains("white")).collect();
        assert_eq!(
            said.iter().filter(|line| **line != "character special file").copied().collect::<Vec<_>>(),
            [
                "block special file 8:1 0:6 660",
                "character special file 4:12c 0:0 640",
                "mknod: /srv/sda: File exists",
                "mknod: /none/sda: No such file or directory",
                "brw-rw---- root/disk 8,1",
                "crw-r----- root/root 4,300",
            ],
            "{driver}"
        );
    }
}

#[test]
fn copies_and_archives_keep_owners() {
    let script = r#"
        cd /srv; mkdir -p tree/a
        for id in 1 2 3 33 1000 65534 4294967294; do
            echo $id > tree/a/$id; ln -s $id tree/a/l$id; chown -h $id:$id tree/a/$id tree/a/l$id
        done
        chown -R --from=33:33 34:35 tree
        chown 8:9 tree tree/a; chmod 2775 tree/a; chmod 4755 tree/a/1
        list() { (cd $1 && find . -exec stat -c '%n %u:%g %a %F' {} + | sort); }
        list tree > before
        cp -a tree copy; list copy | diff before - && echo copied
        tar -cf tree.tar tree; mkdir out; tar -xpf tree.tar -C out; list out/tree | diff before - && echo unpacked
        grep -c . before; grep -E '/(l?33|a|1) ' before
        install -o games -g 60 -m 4750 before installed; stat -c '%u:%g %a' installed
        chown 6 installed; stat -c '%u:%g %a' installed
    "#;
    says(
        script,
        "copied\nunpacked\n16\n./a 8:9 2775 directory\n./a/1 1:1 4755 regular file\n./a/33 34:35 644 regular file\n\
         ./a/l33 34:35 777 symbolic link\n5:60 4750\n6:60 750",
    );
}

#[test]
fn paths_mean_what_they_mean_to_the_program() {
    let script = r#"
        mkdir -p /srv/a/b /srv/root/srv/a; touch /srv/a/file /srv/root/srv/a/file
        ln -s /srv/a /srv/absolute; ln -s ../a/file /srv/a/up; ln -s /proc/self/cwd/file /srv/a/magic
        cd /srv/a/b
        chown 11 ../file; stat -c %u ../file /srv/absolute/file /srv/absolute/../a/up
        chroot /srv/root /nothing 2>/dev/null || true
        perl -e 'chroot("/srv/root") or die; chdir("/srv/a"); chown(12, -1, "../a/file") == 1 or die $!;
                 chown(13, -1, "/srv/a") == 1 or die $!;
                 print join(" ", map { (stat($_))[4] } "/srv/a/file", "file", "../a", "/srv"), "\n"'
        stat -c %u /srv/root/srv/a/file /srv/root/srv/a /srv/a/file
        cd /srv/a; stat -Lc %u magic /proc/self/cwd/file /proc/thread-self/cwd
        stat -Lc %u /dev/fd/5 /proc/self/fd/5 /dev/stdin 5<file <file
        chown 15 /dev/stdin <file; stat -c %u /proc/self/cwd/../a/file
        perl -e 'open(F, "<", "file"); chown(14, 15, *F) == 1 or die $!; print join(":", (stat(F))[4,5]), "\n"'
        cd /srv/a/; stat -c %u file/ 2>/dev/null || echo no directory; stat -c '%u %F' ./b/ up
        perl -e 'chown(1, 1, "") and die; print "$!\n"; chown(1, 1, "a" x 5000) and die; print "$!\n";
                 my $root = "/"; print syscall(92, 1, 1, 1), " $!\n"; print syscall(4, $root, 1), " $!\n";
                 print syscall(5, 77, 1), " $!\n"'
    "#;
    says(
        script,
        "11\n11\n0\n12 12 13 0\n12\n13\n11\n0\n11\n0\n11\n11\n11\n15\n14:15\nno directory\n0 directory\n0 symbolic link\n\
         No such file or directory\nFile name too long\n-1 Bad address\n-1 Bad address\n-1 Bad file descriptor",
    );
}

#[test]
fn attributes_and_permissions_stay_the_kernels() {
    let script = r#"
        cp /bin/true /srv/tool; chown 33 /srv/tool; chmod 6755 /srv/tool; stat -c '%u %a' /srv/tool
        setcap cap_net_raw+ep /srv/tool; getcap /srv/tool; chown 34 /srv/tool; stat -c '%u %a' /srv/tool; getcap /srv/tool
        chmod 0 /srv/tool; chown 35 /srv/tool; stat -c '%u %a' /srv/tool
        mkdir /srv/closed; chmod 0 /srv/closed; chown 36 /srv/closed; stat -c '%u %a' /srv/closed
        chown 5 /proc/self/status 2>/dev/null && echo done || echo refused
    "#;
    says(script, "33 6755\n/srv/tool cap_net_raw=ep\n34 755\n35 0\n36 0\nrefused");
}

#[test]
fn programs_of_32_bits_are_answered_too() {
    crate::harness::require("gcc");
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let world = sbx();
    // A 64-bit program may call the 32-bit table; its pointers have to be short ones.
    let source = world.file(
        "calls.c",
        r#"
        #include <stdio.h>
        static char path[] = "/srv/file";
        static unsigned char buffer[256];
        static unsigned ids[3];
        static long call(long n, long a, long b, long c) {
            long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory"); return (int)r;
        }
        int main(void) {
            printf("%ld ", call(212, (long)path, 70000, -1));
            printf("%ld ", call(195, (long)path, (long)buffer, 0));
            printf("%u:%u %o %llu\n", *(unsigned *)(buffer + 24), *(unsigned *)(buffer + 28), *(unsigned *)(buffer + 16),
                   *(unsigned long long *)(buffer + 44));
            printf("%ld ", call(16, (long)path, 33, 0xffff));
            call(195, (long)path, (long)buffer, 0);
            printf("%u\n", *(unsigned *)(buffer + 24));
            long set = call(208, -1, 5, -1);
            printf("%ld %ld %ld %ld ", set, call(199, 0, 0, 0), call(201, 0, 0, 0), call(24, 0, 0, 0));
            call(209, (long)&ids[0], (long)&ids[1], (long)&ids[2]);
            printf("%u %u %u\n", ids[0], ids[1], ids[2]);
        }"#,
    );
    let program = world.work().join("calls");
    world.program("gcc").args(["-static", "-no-pie", "-o"]).arg(&program).arg(&source).succeed();
    let said = world
        .run(["--rm", "--id-tier", "single", "--net", "none", "-v"])
        .arg(format!("{}:/calls:ro", program.display()))
        .arg("--rootfs")
        .arg(rootfs())
        .args(["sh", "-c", "echo 12345 > /srv/file; /calls"])
        .succeed();
    assert_eq!(said, "0 0 70000:0 100644 6\n0 33\n0 0 5 0 0 5 0");
}

#[test]
fn it_is_there_where_it_is_needed_and_nowhere_else() {
    let world = sbx();
    let script = "touch /tmp/x && chown 5 /tmp/x && stat -c %u /tmp/x";
    let run =
        |options: &[&str], image: &[&str]| world.run(["--rm", "--net", "none"]).args(options).args(image);
    let root = rootfs().to_str().expect("UTF-8");
    let directory = ["--rootfs", root, "sh", "-c", script];
    let host = ["host", "sh", "-c", script];
    let single = ["--id-tier", "single"];
    run(&single, &directory).expect_code(0).stdout_is("5\n").stderr_is("");
    run(&["--id-tier", "single", "--emulate-root", "never"], &directory)
        .expect_code(1)
        .stderr_has("Invalid argument");
    run(&single, &host).expect_code(1).stderr_has("Invalid argument");
    run(&["--id-tier", "single", "--emulate-root", "always"], &host).expect_code(0).stdout_is("5\n");
    run(&["--emulate-root", "always"], &directory).expect_code(125).stderr_has("more than one ID is mapped");
    run(&["--id-tier", "single", "--userns", "keep-id:uid=7,gid=8", "--emulate-root", "always"], &directory)
        .expect_code(125)
        .stderr_has("0 is not mapped");
    // The filters of the container stay in force.
    run(&["--id-tier", "single", "--cap-drop", "CHOWN"], &directory)
        .expect_code(1)
        .stderr_has("not permitted");
    run(&["--id-tier", "single", "--security-opt", "seccomp=unconfined"], &directory)
        .expect_code(0)
        .stdout_is("5\n");
    run(&["--id-tier", "single", "--security-opt", "no-new-privileges"], &directory)
        .expect_code(0)
        .stdout_is("5\n");
    run(&["--id-tier", "single", "--init"], &directory).expect_code(0).stdout_is("5\n");
    let profile = world.file(
        "profile.json",
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["fchownat", "chown", "lchown", "fchown"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30}]}"#,
    );
    let profile = format!("seccomp={}", profile.display());
    run(&["--id-tier", "single", "--security-opt", &profile], &directory)
        .expect_code(1)
        .stderr_has("Read-only file system");
}

#[test]
fn a_volume_of_the_host_keeps_owners_for_the_next_container() {
    let world = sbx();
    let volume = format!("{}:/data", world.work().display());
    let run = |script: &str| {
        world
            .run(["--rm", "--id-tier", "single", "--net", "none", "-v", &volume, "--rootfs"])
            .arg(rootfs())
            .args(["sh", "-c", script])
            .succeed()
    };
    run("touch /data/file && chown 33:44 /data/file && mkdir /data/dir && chown 5 /data/dir");
    assert_eq!(run("stat -c %u:%g /data/file /data/dir"), "33:44\n5:0");
    let file = world.work().join("file");
    let said = world
        .program("getfattr")
        .args(["--absolute-names", "--only-values", "-n", "user.containers.override_stat"])
        .arg(&file);
    assert_eq!(said.succeed(), "33:44:0644:file");
}
