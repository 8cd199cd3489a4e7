//! Terminals and descriptors that are handed over.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::json;

use super::{Bundle, wait_for};
use crate::harness::sbx;

/// The text and the descriptor that the next one brings who connects, if anything.
pub(super) fn receive(listener: &UnixListener) -> (Vec<u8>, Option<OwnedFd>) {
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut text = vec![0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        &stream,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("a message");
    text.truncate(received.bytes);
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    stream.read_to_end(&mut text).expect("the rest");
    (text, descriptor)
}

#[test]
fn the_terminal_goes_to_the_console_socket() {
    let world = sbx();
    let socket = world.work().join("console");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let bundle =
        Bundle::new(&world, "tty; test -c /dev/console && stty size; read x; echo got $x; sleep 0.1")
            .set("/process/terminal", json!(true))
            .set("/process/consoleSize", json!({ "height": 33, "width": 44 }));
    let create = bundle.behind("create", "a").arg("--console-socket").arg(&socket).spawn();
    let (_, master) = receive(&listener);
    create.finish().code_is(0);
    world.sbx(["oci", "start", "a"]).succeed();
    let mut terminal = File::from(master.expect("a descriptor"));
    terminal.write_all(b"word\n").expect("written");
    let mut seen = Vec::new();
    // EIO at the end of a terminal.
    let _ = terminal.read_to_end(&mut seen);
    let seen = String::from_utf8_lossy(&seen).into_owned();
    for text in ["/dev/pts/0", "33 44", "got word"] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
    wait_for(&world, "a", "stopped");
    world.sbx(["oci", "delete", "a"]).succeed();
}

#[test]
fn without_anybody_who_takes_it_there_is_no_terminal() {
    let world = sbx();
    let bundle = Bundle::new(&world, "tty").set("/process/terminal", json!(true));
    bundle.verb("create", "a").expect_code(1).stderr_has("--console-socket");
    bundle.verb("run", "a").arg("--detach").expect_code(1).stderr_has("--console-socket");
    let nobody = bundle.verb("create", "a").args(["--console-socket", "/no/such/socket"]);
    nobody.stdin("").expect_code(1).stderr_has("/no/such/socket");
    world.sbx(["oci", "state", "a"]).expect_code(1);
    let plain = Bundle::new(&world, "true");
    plain.verb("create", "a").args(["--console-socket", "/x"]).expect_code(1).stderr_has("no terminal");
    let mut pty = world.pty(["oci", "run", "--bundle", bundle.directory.to_str().expect("UTF-8"), "a"]);
    pty.expect("/dev/pts/0");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn descriptors_are_handed_on_and_no_others() {
    let world = sbx();
    let bundle = Bundle::new(&world, "cat <&3; cat <&4; ls /proc/self/fd | wc -l");
    let script = format!(
        "exec 3<{} 4<{}; exec \"$@\"",
        world.file("three", "3\n").display(),
        world.file("four", "4\n").display()
    );
    let binary = crate::harness::sbx_binary();
    let run = world.program("sh").args(["-c", &script, "sh"]).arg(&binary);
    let run = run.args(["oci", "run", "--preserve-fds", "2", "--bundle"]).arg(&bundle.directory).arg("a");
    // The standard streams, the two, and the directory that ls reads.
    run.expect_code(0).stdout_is("3\n4\n6\n");
    bundle.verb("run", "a").args(["--preserve-fds", "40"]).expect_code(1).stderr_has("is not open");
}
