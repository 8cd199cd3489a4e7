//! What a container may try against the process that answers it.

use std::fs;
use std::path::Path;

use crate::harness::{Finished, Sbx, require, rootfs, sbx};

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

#[test]
fn no_path_leads_out_of_the_root() {
    let world = sbx();
    let victim = victim(&world);
    let script = format!(
        "V={victim}; ln -s $V /abs; ln -s ../../../../../../..$V /rel; ln -s /proc/1/root$V /magic
         ln -s /proc/self/cwd/../..$V /cwd
         for p in $V /abs /rel /magic /cwd ../../../../../..$V /proc/self/root/../../..$V /proc/1/cwd/../../..$V; do
             chown 5 $p 2>/dev/null && echo chowned $p; stat -L $p >/dev/null 2>&1 && echo found $p
         done
         mknod /rel/../made b 8 1 2>/dev/null && echo made
         cd /; chroot / chown 5 ..$V 2>/dev/null && echo out; echo tried",
        victim = victim.display()
    );
    run(&world, &[], &script).stdout_is("tried\n");
    is_untouched(&world, &victim);
}

#[test]
fn a_path_that_changes_while_it_is_looked_at_leads_nowhere_else() {
    let world = sbx();
    let victim = victim(&world);
    let home = world.home();
    let script = format!(
        "mkdir -p /a/d{home} /srv/b; echo x > /a/d/victim; echo y > /a/d{home}/victim
         (while [ ! -e /stop ]; do
              mv /a/d /a/e; ln -s ../../../../../../..{home} /a/d; rm /a/d; mv /a/e /a/d
          done) &
         i=0; while [ $i -lt 300 ]; do
             chown $i /a/d/victim; chown $i /a/d/../d{home}/victim
             cd /a/d && chown $i ../../..{home}/victim; cd /; i=$((i+1))
         done 2>/dev/null
         touch /stop; wait; echo done",
        home = home.display()
    );
    run(&world, &[], &script).stdout_is("done\n");
    is_untouched(&world, &victim);
    is_untouched(&world, &home);
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
