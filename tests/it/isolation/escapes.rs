//! Ways out that others have found, each tried from inside.

use std::process::Stdio;

use super::super::harness::{sbx, sbx_binary};
use super::{rootfs, run, run_on_host_image};

#[test]
fn above_the_root_is_the_root() {
    let world = sbx();
    let script = "cd / && stat -c %i / /.. /../../.. /proc/1/root/.. /proc/1/cwd/.. . .. | sort -u | wc -l; cd ../../..; pwd";
    assert_eq!(run(&world, &[], script).succeed(), "1\n/");
}

#[test]
fn the_table_of_mounts_names_no_path_of_the_host() {
    let world = sbx();
    for flags in [&[][..], &["--read-only", "--tmpfs", "/mnt"], &["--init", "--user", "1000"]] {
        let shown = run(&world, flags, "cat /proc/self/mountinfo").succeed();
        // A root without a layer of its own is bound from where it lies.
        let bare = flags.contains(&"--read-only");
        for line in shown.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (root, point) = (fields[3], fields[4]);
            // The three generated files are bound from the container's own directory.
            let generated = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"].contains(&point);
            let kernel = point == "/proc"
                || point.starts_with("/proc/")
                || point.starts_with("/dev/")
                || point.starts_with("/sys/");
            assert!(root == "/" || generated || kernel || bare && point == "/", "{line}");
            let host = world.directory().to_str().expect("a plain name");
            assert!(generated || !line.contains(host), "{line}");
        }
        let parents: Vec<&str> = shown.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        let ids: Vec<&str> = shown.lines().filter_map(|line| line.split(' ').next()).collect();
        let outside = parents.iter().filter(|parent| !ids.contains(parent)).count();
        assert_eq!(outside, 1, "more than the root hangs on something unseen: {shown}");
    }
}

#[test]
fn no_link_of_proc_leads_to_the_old_root() {
    let world = sbx();
    let secret = world.file("secret", "hunter2");
    let script = format!(
        "for process in /proc/[0-9]* /proc/self /proc/thread-self; do
            for link in root cwd root/.. cwd/..; do cat $process/$link{0} 2>/dev/null; done
            for fd in $process/fd/*; do cat $fd/{0} $fd{0} 2>/dev/null; done
        done; cat {0} 2>/dev/null; echo end",
        secret.display()
    );
    for flags in [&[][..], &["--init"], &["--privileged"], &["--privileged", "--init"], &["--pid", "host"]] {
        let finished = run(&world, flags, &script).stdin("").expect_code(0);
        let _ = finished.stdout_is("end\n");
    }
}

/// Runs in the image `host`, with every capability and no filter; prints what worked. FILE exists outside only.
const ATTEMPTS: &str = r#"
import ctypes, ctypes.util, os, sys
libc = ctypes.CDLL(None, use_errno=True)
secret = sys.argv[1]
def reached(how):
    for base in ('', '.'):
        if os.path.exists(base + secret):
            print('reached by', how)

def child(attempt):
    pid = os.fork()
    if pid == 0:
        try:
            attempt()
        except OSError:
            pass
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)

def chroot_and_climb():
    outside = os.open('/', os.O_RDONLY)
    os.mkdir('/tmp/cell')
    os.chroot('/tmp/cell')
    os.fchdir(outside)
    for _ in range(64):
        os.chdir('..')
    os.chroot('.')
    reached('chroot')

def climb_in_a_new_mount_namespace():
    libc.unshare(0x00020000)
    os.chdir('/')
    for _ in range(64):
        os.chdir('..')
    reached('unshare')

def take_the_root_off():
    libc.unshare(0x00020000)
    libc.umount2(b'/', 2)
    os.chdir('/')
    reached('umount')

class Handle(ctypes.Structure):
    _fields_ = [('size', ctypes.c_uint), ('kind', ctypes.c_int), ('ino', ctypes.c_uint32), ('generation', ctypes.c_uint32)]

def open_by_handle():
    for path in ('/etc/hosts', '/etc/hostname', '/'):
        mount = os.open(path, os.O_RDONLY)
        # The root of ext4 is inode 2, of xfs 128, of btrfs 256.
        for inode in (2, 128, 256):
            handle = Handle(8, 1, inode, 0)
            fd = libc.open_by_handle_at(mount, ctypes.byref(handle), os.O_RDONLY)
            if fd >= 0:
                print('a handle of inode', inode, 'by', path, os.listdir(fd)[:5])

def enter_the_hosts_namespaces():
    for kind in ('mnt', 'user', 'pid', 'net'):
        for pid in os.listdir('/proc'):
            if pid.isdigit():
                fd = os.open('/proc/%s/ns/%s' % (pid, kind), os.O_RDONLY)
                libc.setns(fd, 0)
    reached('setns')

def disks():
    for number in (os.makedev(8, 0), os.makedev(254, 0), os.makedev(1, 1)):
        try:
            os.mknod('/tmp/disk', 0o60600 if number != os.makedev(1, 1) else 0o20600, number)
            print('made a device', number)
        except PermissionError:
            pass
    for disk in ('/dev/sda', '/dev/vda', '/dev/nvme0n1', '/dev/mem', '/dev/port'):
        try:
            os.open(disk, os.O_RDONLY)
            print('opened', disk)
        except (FileNotFoundError, PermissionError):
            pass

def settings_of_the_kernel():
    for path in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/sys/kernel/uevent_helper',
                 '/proc/sys/fs/binfmt_misc/register', '/proc/sysrq-trigger', '/proc/kcore', '/proc/kmsg',
                 '/sys/fs/cgroup/release_agent', '/sys/kernel/security/apparmor/.load'):
        # What hides a file is /dev/null, which anybody may write to.
        if os.path.exists(path) and os.stat(path).st_rdev == os.makedev(1, 3):
            continue
        for mode in ('r+b', 'ab', 'wb'):
            try:
                open(path, mode)
                print('may write', path)
            except OSError:
                pass

for attempt in (chroot_and_climb, climb_in_a_new_mount_namespace, take_the_root_off, open_by_handle,
                enter_the_hosts_namespaces, disks, settings_of_the_kernel):
    child(attempt)
print('end')
"#;

#[test]
fn the_known_ways_out_are_closed_even_with_every_capability() {
    let world = sbx();
    let secret = world.file("secret", "hunter2");
    let secret = secret.to_str().expect("a plain name");
    // What exists inside is found, so that finding nothing means something.
    let known = run_on_host_image(&world, &["--privileged"], &["python3", "-c", ATTEMPTS, "/etc/passwd"]);
    let _ = known.expect_code(0).stdout_has("reached by chroot").stdout_has("reached by unshare");
    for flags in [&["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"][..], &["--privileged"]] {
        let finished = run_on_host_image(&world, flags, &["python3", "-c", ATTEMPTS, secret]).expect_code(0);
        // The caller's own nodes are there with `--privileged`; what may be done with them is up to their modes.
        let _ = finished.stdout_is("end\n");
    }
}

#[test]
fn the_log_of_the_kernel_is_closed() {
    let world = sbx();
    let everything = &["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
    for flags in [&[][..], &["--cap-add", "SYSLOG"], everything, &["--privileged"]] {
        let script = "dmesg >/dev/null 2>&1 && echo dmesg; dmesg -c >/dev/null 2>&1 && echo cleared
                      head -c 1 /proc/kmsg 2>/dev/null; dd if=/dev/kmsg bs=8k count=1 >/dev/null 2>&1 && echo device
                      echo end";
        let device = ["if=/dev/kmsg", "of=/dev/null", "bs=8k", "count=1"];
        let reads_device = || world.program("dd").args(device).finish().code() == 0;
        // Where kernel.dmesg_restrict is 0 anybody may read it who may call syslog(2), or sees the host's /dev/kmsg.
        let open = world.program("dmesg").finish().code() == 0;
        let shown = run(&world, flags, script).succeed();
        let by_call = if open && !flags.is_empty() { "dmesg\n" } else { "" };
        let by_device = match flags {
            // A message comes whole or, into less room, not at all (EINVAL).
            ["--privileged"] if reads_device() => "device\n",
            _ => "",
        };
        assert_eq!(shown, format!("{by_call}{by_device}end"), "{flags:?}");
    }
}

/// A key of the caller in a session keyring of the caller's; then a container is asked for it.
const KEYS: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
keyctl, add_key = int(sys.argv[1]), int(sys.argv[2])
libc.syscall.restype = ctypes.c_long
assert libc.syscall(keyctl, 1, 0) > 0, 'no session keyring is to be had'
key = libc.syscall(add_key, b'user', b'sbx-test', b'hunter2', 7, -3)
assert key > 0, 'no key is to be had'
read = '''
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
text = ctypes.create_string_buffer(64)
found = libc.syscall(%d, 10, -3, b'user', b'sbx-test', 0)
print('search', 'found' if found > 0 else 'nothing')
print('read', text.value.decode() if libc.syscall(%d, 11, %d, text, 64) > 0 else 'nothing')
''' % (keyctl, keyctl, key)
os.execvp(sys.argv[3], sys.argv[3:] + ['python3', '-c', read])
"#;

#[test]
fn keys_of_the_caller_cannot_be_read_inside() {
    let world = sbx();
    let (keyctl, add_key) = (libc::SYS_keyctl.to_string(), libc::SYS_add_key.to_string());
    let with = |command: &[&str]| {
        let run = world.program("python3").args(["-c", KEYS, &keyctl, &add_key]);
        run.args(command.iter().copied()).succeed()
    };
    assert_eq!(with(&["env"]), "search found\nread hunter2");
    let binary = sbx_binary();
    let binary = binary.to_str().expect("a plain name");
    let container = [binary, "run", "--rm", "--net", "none", "--security-opt", "seccomp=unconfined", "host"];
    assert_eq!(with(&container), "search nothing\nread nothing");
}

#[test]
fn without_a_terminal_of_its_own_a_container_has_none() {
    let world = sbx();
    let root = rootfs().to_str().expect("a plain name");
    let script = "(echo typed >/dev/tty) 2>/dev/null && echo a terminal; test -t 0 && echo stdin; test -t 1 && echo stdout; echo end";
    for flag in ["--init", "-i"] {
        let mut pty = world.pty(["run", "--rm", flag, "--net", "none", "--rootfs", root, "sh", "-c", script]);
        assert_eq!(pty.finish(), 0, "{}", pty.screen());
        assert_eq!(pty.screen(), "end\r\n", "{flag}");
    }
    let passed = ["run", "--rm", "--log-driver", "passthrough", "--net", "none", "--rootfs", root, "true"];
    let mut pty = world.pty(passed);
    assert_eq!(pty.finish(), 125);
    assert!(pty.screen().contains("could type into the terminal of its caller"), "{}", pty.screen());
}

#[test]
fn a_container_types_into_its_own_terminal_alone() {
    let world = sbx();
    let python = format!(
        "import fcntl\nfor c in 'touch {}/typed\\n':\n try: fcntl.ioctl(0, 0x5412, c.encode())\n except OSError: pass\nprint('tried')",
        world.work().display()
    );
    let script = format!(
        "'{}' run --rm -it --net none host python3 -c \"$0\"; stty -echo; echo back; read -t 1 line; echo \"got:$line:\"",
        sbx_binary().display()
    );
    let mut pty = super::super::harness::Pty::start(
        &world,
        &["bash".into(), "-c".into(), script.into(), python.into()],
    );
    pty.expect("tried");
    pty.expect("back");
    pty.expect("got::");
    let _ = pty.finish();
    assert!(!world.work().join("typed").exists());
}

/// A container that may trace its own processes waits for one that is just being set up: up to the moment when it
/// enters its root, that process stands in the host's.
#[test]
fn a_container_cannot_look_into_one_that_joins_it() {
    let world = sbx();
    let secret = world.file("secret", "hunter2");
    let script = format!(
        "echo ready; while ! read -t 0 line; do
            for process in /proc/[0-9]*; do test -e $process/root{0} && cat $process/root{0}; done
        done 2>/dev/null; echo end",
        secret.display()
    );
    let flags = ["-i", "--name", "web", "--privileged"];
    let mut web = run(&world, &flags, &script).stdin_from(Stdio::piped()).spawn();
    web.wait_for_stdout("ready\n");
    for _ in 0..6 {
        run(&world, &["--pid", "container:web", "--oom-score-adj", "300"], "cat /proc/self/oom_score_adj")
            .expect_code(0)
            .stdout_is("300\n");
    }
    web.close_stdin();
    web.finish().stdout_is("ready\nend\n");
}
