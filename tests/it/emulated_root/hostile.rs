//! What a container may try against the process that answers it.

use std::fs;
use std::path::Path;

use crate::harness::{Finished, Sbx, debian_rootfs, require, rootfs, sbx};

fn run(world: &Sbx, options: &[&str], script: &str) -> Finished {
    world
        .run(["--rm", "--id-tier", "single", "--net", "none"])
        .args(options)
        .arg("--rootfs")
        .arg(rootfs())
        .args(["sh", "-c", script])
        .expect_code(0)
}

/// A file of the caller's that the container does not have.
fn victim(world: &Sbx) -> std::path::PathBuf {
    let path = world.home().join("victim");
    fs::write(&path, "victim").expect("a file");
    path
}

#[track_caller]
fn is_untouched(world: &Sbx, path: &Path) {
    let said = world.program("getfattr").args(["-d", "-m", "-"]).arg(path).succeed();
    assert_eq!(said, "", "attributes of {}", path.display());
}

/// A program in Debian's perl, which calls the kernel without looking first.
fn perl(world: &Sbx, program: &str) -> Finished {
    let run = world.run(["--rm", "--id-tier", "single", "--net", "none", "--rootfs"]).arg(debian_rootfs());
    run.args(["perl", "-e", program]).expect_code(0)
}

#[test]
fn no_path_leads_out_of_the_root() {
    let world = sbx();
    let victim = victim(&world);
    // This one has an owner on record, which a container must not be told of.
    let known = world.home().join("known");
    fs::write(&known, "known").expect("a file");
    let record = ["-n", "user.containers.override_stat", "-v", "77:77:0644:file"];
    world.program("setfattr").args(record).arg(&known).succeed();
    let program = format!(
        "my $H = '{home}';
         symlink($H, '/abs'); symlink('../../../../../../../..'.$H, '/rel'); symlink('/proc/1/root'.$H, '/magic');
         symlink('/proc/self/cwd/../..'.$H, '/cwd'); mkdir '/srv/root'; symlink($H, '/srv/root/abs');
         sub attempt {{
             for my $d ($H, '/abs', '/rel', '/magic', '/cwd', '../../../../../..'.$H, '/proc/self/root/../../..'.$H,
                        '/proc/1/cwd/../../..'.$H, '/proc/self/cwd/../../..'.$H, '/dev/fd/0/..'.$H, 'abs') {{
                 print \"chowned $d\\n\" if chown(5, 5, \"$d/victim\");
                 print \"found $d\\n\" if stat(\"$d/known\") || lstat(\"$d/known\");
                 my $made = \"$d/made\"; print \"made $d\\n\" if syscall(133, $made, 0060644, 0x801) == 0;
             }}
         }}
         attempt(); chdir('/srv/root'); attempt(); chroot('/srv/root') or die; attempt(); chdir('/'); attempt();
         print 'tried'",
        home = world.home().display()
    );
    perl(&world, &program).stdout_is("tried");
    is_untouched(&world, &victim);
    assert!(!world.home().join("made").exists());
}

#[test]
fn a_path_that_changes_while_it_is_looked_at_leads_nowhere_else() {
    let world = sbx();
    let victim = victim(&world);
    let program = format!(
        "my $H = '{home}'; my $pid;
         mkdir '/a'; mkdir '/a/d'; my $p = '/a/d'; for (grep {{ $_ }} split '/', $H) {{ $p .= \"/$_\"; mkdir $p }}
         for ('/a/d/victim', \"/a/d$H/victim\") {{ open(F, '>', $_) or die; close F }}
         if (!($pid = fork())) {{
             for (;;) {{ rename('/a/d', '/a/e'); symlink('../../../../../../..'.$H, '/a/d'); unlink('/a/d'); rename('/a/e', '/a/d'); select(undef, undef, undef, 0.0005) }}
         }}
         my $hit = 0;
         for my $i (1..3000) {{
             $hit++ if chown($i, $i, '/a/d/victim'); $hit++ if chown($i, $i, \"/a/d/../d$H/victim\");
             if (chdir('/a/d')) {{ chown($i, $i, '../../../..'.$H.'/victim'); chown($i, $i, 'victim'); chdir('/') }}
         }}
         kill(9, $pid); print $hit > 10 ? 'done' : $hit",
        home = world.home().display()
    );
    perl(&world, &program).stdout_is("done");
    is_untouched(&world, &victim);
    is_untouched(&world, &world.home());
}

#[test]
fn what_is_read_only_or_anothers_stays_as_it_is() {
    let world = sbx();
    let victim = victim(&world);
    let volume = format!("{}:/ro:ro", world.home().display());
    let script = "ln -s /ro/victim /l; for f in /ro/victim /ro /dev/null /l; do chown 5 $f; done
                  mknod /ro/x b 1 1; stat -c %u /ro/victim";
    let said = run(&world, &["-v", &volume], script).stdout_is("0\n").stderr();
    assert_eq!(said.matches("Read-only file system").count(), 4, "{said}");
    assert_eq!(said.matches("/dev/null: Operation not permitted").count(), 1, "{said}");
    is_untouched(&world, &victim);
    is_untouched(&world, &world.home());
}

#[test]
fn callers_that_die_or_lie_do_no_harm() {
    let world = sbx();
    require("gcc");
    let source = world.file(
        "storm.c",
        r#"
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <pthread.h>
        #include <signal.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/mman.h>
        #include <sys/stat.h>
        #include <sys/syscall.h>
        #include <sys/wait.h>
        #include <unistd.h>
        static char *path;
        static void *flip(void *p) { for (;;) { strcpy(path, "/srv/a"); strcpy(path, "/nowhere/at/all"); } return p; }
        static void on(int s) { (void)s; }
        int main(void) {
            struct stat st;
            path = mmap(NULL, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            strcpy(path, "/srv/a");
            signal(SIGALRM, on);
            for (int round = 0; round < 60; round++) {
                pid_t p = fork();
                if (p == 0) {
                    pthread_t t; pthread_create(&t, NULL, flip, NULL);
                    ualarm(500, 500);
                    for (int i = 0;; i++) {
                        chown(path, i % 1000, -1); lstat(path, &st); syscall(SYS_chown, i * 4096L, 1, 1);
                        syscall(SYS_lstat, path, i * 4096L); syscall(SYS_setgroups, 65536, i * 4096L);
                        syscall(SYS_setgroups, -1L, path); syscall(SYS_getresuid, i, 4096, path);
                        syscall(SYS_fchownat, i, path, 1, 1, -1);
                        syscall(SYS_statx, i - 100, path, -1, -1, path + 2048);
                        syscall(SYS_setresuid, 0, 0, 0);
                    }
                }
                usleep(2000 + round * 100);
                kill(p, SIGKILL); waitpid(p, NULL, 0);
            }
            printf("%d\n", lstat("/srv/a", &st));
            return 0;
        }"#,
    );
    let program = world.work().join("storm");
    world.program("gcc").args(["-w", "-static", "-pthread", "-o"]).arg(&program).arg(&source).succeed();
    let volume = format!("{}:/storm:ro", program.display());
    let script = "touch /srv/a; /storm; chown 7 /srv/a; stat -c %u /srv/a; id -u";
    run(&world, &["-v", &volume], script).stdout_is("0\n7\n0\n").stderr_is("");
}

#[test]
fn many_callers_at_once_are_all_answered() {
    let script = "cd /srv
        for n in $(seq 40); do
            (i=1; while [ $i -le 20 ]; do touch $n.$i; chown $n:$i $n.$i; i=$((i+1)); done) &
        done; wait
        for f in *; do [ $(stat -c %u.%g $f) = $f ] || echo wrong $f; done; ls | wc -l";
    run(&sbx(), &[], script).stdout_is("800\n");
}

#[test]
fn nothing_is_made_outside_of_the_root() {
    let world = sbx();
    let home = world.home();
    // An emulated user's files are made by the server, and so are devices.
    let script = format!(
        "H={home}; ln -s $H /abs; ln -s ../../../../../../../..$H /rel; mkdir -p /in; chmod 777 /in
         for p in $H /abs /rel ../../../../../../..$H /proc/1/root$H /proc/self/cwd/../../..$H; do
             mknod $p/device b 8 1; su user -c \"cd /in; mkdir $p/d; echo > $p/f; ln -s x $p/l; mkdir -p $p/a/b\"
         done 2>/dev/null
         (while [ ! -e /stop ]; do mv /in /out; ln -s $H /in; rm /in; mv /out /in; done) 2>/dev/null &
         su user -c 'for i in $(seq 300); do mkdir /in/$i; echo > /in/f$i; done' 2>/dev/null
         touch /stop; wait; ls /in | wc -l",
        home = home.display()
    );
    let made: u32 = run(&world, &[], &script).stdout().trim().parse().expect("a number");
    assert!(made > 10, "{made}");
    let there: Vec<_> =
        fs::read_dir(&home).expect("a directory").flatten().map(|entry| entry.path()).collect();
    assert!(there.is_empty(), "{there:?}");
}

#[test]
fn a_file_system_that_the_container_serves_is_asked_while_its_server_asks() {
    require("fuse-overlayfs");
    let world = sbx();
    let script = "cd /t; mkdir l u w m; for i in $(seq 40); do echo > l/$i; done
        fuse-overlayfs -o lowerdir=l,upperdir=u,workdir=w m 2>/dev/null
        for j in $(seq 8); do (for i in $(seq 40); do stat m/$i; chown $i:$j m/$i; done) & done >/dev/null; wait
        for i in $(seq 40); do [ $(stat -c %u m/$i) = $i ] || echo wrong; done; umount m; echo done";
    world
        .run(["--rm", "--id-tier", "single", "--net", "none", "--emulate-root", "always", "--privileged"])
        .args(["--tmpfs", "/t", "host", "bash", "-c", script])
        .expect_code(0)
        .stdout_is("done\n");
}
