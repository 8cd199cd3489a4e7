//! Changes of user: remembered by process, and no way back.

use super::{DRIVERS, says};
use crate::harness::{debian_rootfs, require, rootfs, sbx};

#[test]
fn useradd_and_su_work() {
    let script = r#"
        useradd -m -u 1234 -G mail joe; stat -c '%n %U:%G %a' /home/joe /home/joe/.profile
        su joe -c 'id; cd; pwd'; su - joe -c 'whoami; sh -c "id -u; id -ru"'
        setpriv --reuid joe --regid mail --init-groups id
        setpriv --reuid joe --regid joe --clear-groups id -G
        chroot --userspec=33:34 --groups=1,2,3 / id -G
        su -c 'id -u'; id -u
        userdel -r joe 2>/dev/null; ls -d /home/joe 2>/dev/null || echo gone
    "#;
    says(
        script,
        "/home/joe joe:joe 755\n/home/joe/.profile joe:joe 644\n\
         uid=1234(joe) gid=1234(joe) groups=1234(joe),8(mail)\n/home/joe\njoe\n1234\n1234\n\
         uid=1234(joe) gid=8(mail) groups=8(mail),1234(joe)\n1234\n34 1 2 3\n0\n0\ngone",
    );
}

#[test]
fn a_user_is_inherited_and_never_regained() {
    let script = r#"
        cat > /tmp/drop.pl <<'END'
        my ($groups, $b) = (pack("V2", 7, 8), "\0" x 64);
        syscall(116, 2, $groups) == 0 or die "setgroups $!";
        syscall(119, 33, 33, 33) == 0 or die "setresgid $!";
        syscall(117, 33, 33, 33) == 0 or die "setresuid $!";
        sub who { print "$_[0]: $< $> ", join(",", split(" ", $()), "\n" }
        $| = 1; who("self");
        for my $id (0, 34) {
            for my $call (105, 106) { print syscall($call, $id), $!{EPERM} ? " EPERM " : " $! "; }
        }
        print syscall(116, 0, 0), $!{EPERM} ? " EPERM\n" : " $!\n";
        print chown(5, 5, "/etc/passwd"), $!{EPERM} ? " EPERM\n" : " $!\n";
        my $null = "/tmp/null"; print syscall(133, $null, 0020644, 0x103), $!{EPERM} ? " EPERM\n" : " $!\n";
        system("perl", "-e", 'print "executed: $< $>\n"');
        # The parent ends first; what its child believes does not depend on it.
        my $pid = fork(); if ($pid == 0) { sleep 1 while getppid() != 1; who("orphan"); open(D, ">/tmp/done"); exit }
END
        perl /tmp/drop.pl; until [ -e /tmp/done ]; do sleep 0.1; done
        echo "other: $(id -u)"
    "#;
    says(
        script,
        "self: 33 33 33,7,8\n-1 EPERM -1 EPERM -1 EPERM -1 EPERM -1 EPERM\n0 EPERM\n-1 EPERM\nexecuted: 33 33\n\
         orphan: 33 33 33,7,8\nother: 0",
    );
}

#[test]
fn effective_and_saved_ids_come_and_go() {
    let script = r#"
        perl -e '
            $| = 1;
            sub ids { my ($r, $e, $s) = map { my $b = "\0" x 4; $b } 1..3; syscall(118, $r, $e, $s); join "/", map { unpack "V", $_ } $r, $e, $s }
            print ids(), "\n"; $> = 33; print ids(), "\n"; $> = 0; print ids(), "\n";
            syscall(117, -1, 33, 44); print ids(), " ", syscall(105, 44), " ", ids(), " ", syscall(105, 0), " ", ids(), "\n";
            print syscall(122, 5), " ", syscall(122, -1), "\n"; print syscall(113, 9, 9), " ", ids(), "\n";
        '
        bash -c 'ulimit -m 1000; ulimit -m; su nobody -s /bin/bash -c "ulimit -m 5; id -u; ulimit -m"'
    "#;
    says(
        script,
        "0/0/0\n0/33/0\n0/0/0\n0/33/44 0 0/44/44 0 0/0/44\n0 5\n0 9/9/9\nunlimited\n65534\nunlimited",
    );
}

#[test]
fn every_thread_of_a_process_has_its_user() {
    // The C library has each thread make the call; which of them comes first must not matter.
    require("gcc");
    let world = sbx();
    let source = world.file(
        "threads.c",
        r#"
        #define _GNU_SOURCE
        #include <pthread.h>
        #include <stdio.h>
        #include <unistd.h>
        #include <grp.h>
        static pthread_barrier_t before, after;
        static void *look(void *p) {
            pthread_barrier_wait(&before); pthread_barrier_wait(&after);
            return (void *)(long)(getuid() == 33 && getegid() == 34 && getgroups(0, NULL) == 1);
        }
        int main(void) {
            pthread_t t[16]; gid_t g = 5; long right = 0; void *r;
            pthread_barrier_init(&before, NULL, 17); pthread_barrier_init(&after, NULL, 17);
            for (int i = 0; i < 16; i++) pthread_create(&t[i], NULL, look, NULL);
            pthread_barrier_wait(&before);
            int a = setgroups(1, &g), b = setgid(34), c = setuid(33);
            printf("%d %d %d ", a, b, c);
            pthread_barrier_wait(&after);
            for (int i = 0; i < 16; i++) { pthread_join(t[i], &r); right += (long)r; }
            printf("%ld %d\n", right, setuid(0));
        }"#,
    );
    let program = world.work().join("threads");
    world.program("gcc").args(["-static", "-pthread", "-o"]).arg(&program).arg(&source).succeed();
    let volume = format!("{}:/threads:ro", program.display());
    world
        .run(["--rm", "--id-tier", "single", "--net", "none", "-v", &volume, "--rootfs"])
        .arg(rootfs())
        .arg("/threads")
        .expect_code(0)
        .stdout_is("0 0 0 16 -1\n");
}

#[test]
fn what_a_user_makes_is_the_users() {
    let script = r#"
        useradd -m joe -u 1000
        cat > /tmp/make.sh <<'END'
        cd; umask 027; mkdir made made/slash/; cd made; touch empty; echo hello > file; ln -s file link
        set -C; echo x > once; (echo y > once) 2>/dev/null || echo exists; set +C
        perl -e 'sysopen(F, "read-only", 0101, 0444) or die $!; print F "written\n" or die; close F'
        cat file read-only; : > file; ln -s target dangling; mkdir empty 2>/dev/null || echo in the way
        perl -MFcntl -e 'sysopen(F, "closed", O_CREAT|O_WRONLY) or die; print fcntl(F, F_GETFD, 0) & 1, "\n"'
        tar -cf t.tar file link; mkdir out; tar -xf t.tar -C out; mv file renamed; cp renamed copy
        ls -ln . out slash | awk '$3 ~ /^[0-9]/ && $9 { print $1, $3, $4, $9 }'
        echo x > /nowhere/at/all
END
        su joe -c 'sh /tmp/make.sh' 2>&1 || true
        mkdir /srv/shared; chown root:mail /srv/shared; chmod 2777 /srv/shared
        su joe -c 'touch /srv/shared/file; mkdir /srv/shared/dir'; touch /srv/root
        stat -c '%n %u:%g' /srv/shared/* /srv/root
    "#;
    says(
        script,
        "exists\nhello\nwritten\nin the way\n1\n-rw-r----- 1000 1000 closed\n-rw-r----- 1000 1000 copy\n\
         lrwxrwxrwx 1000 1000 dangling\n-rw-r----- 1000 1000 empty\nlrwxrwxrwx 1000 1000 link\n\
         -rw-r----- 1000 1000 once\ndrwxr-x--- 1000 1000 out\n-r--r----- 1000 1000 read-only\n\
         -rw-r----- 1000 1000 renamed\ndrwxr-x--- 1000 1000 slash\n-rw-r----- 1000 1000 t.tar\n\
         -rw-r----- 1000 1000 file\nlrwxrwxrwx 1000 1000 link\n\
         /tmp/make.sh: 8: cannot create /nowhere/at/all: Directory nonexistent\n\
         /srv/shared/dir 1000:8\n/srv/shared/file 1000:8\n/srv/root 0:0",
    );
}

#[test]
fn a_container_runs_as_a_user_who_is_not_mapped() {
    let script = "id; touch /tmp/x; stat -c %u:%g /tmp/x /etc/passwd; sh -c 'id -u'; chown 5 /tmp/x 2>&1; grep CapEff /proc/self/status";
    let said = "uid=33(www-data) gid=33(www-data) groups=33(www-data),50(staff)\n33:33\n0:0\n33\n\
                chown: changing ownership of '/tmp/x': Operation not permitted\nCapEff:\t0000000000000000";
    let variants: [&[&str]; 4] = [
        &[],
        &["--init"],
        &["--security-opt", "no-new-privileges"],
        &["--security-opt", "seccomp=unconfined"],
    ];
    for (driver, more) in
        variants.map(|more| (DRIVERS[0], more)).into_iter().chain([(DRIVERS[1], variants[0])])
    {
        let world = sbx();
        let run = world.run(["--rm", "--id-tier", "single", "--net", "none", "--storage-driver", driver]);
        let run = run.args(["--user", "www-data", "--group-add", "staff"]).args(more).arg("--rootfs");
        assert_eq!(run.arg(debian_rootfs()).args(["sh", "-c", script]).succeed(), said, "{driver} {more:?}");
    }
    let refused = sbx();
    let run = refused.run([
        "--rm",
        "--id-tier",
        "single",
        "--net",
        "none",
        "--user",
        "33",
        "--emulate-root",
        "never",
    ]);
    run.arg("--rootfs").arg(rootfs()).arg("true").expect_code(125).stderr_has("cannot run as uid 33");
}
