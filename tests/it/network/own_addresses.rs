//! What stands for the host's loopback interface is not reached by packets that no program sends.

use std::net::UdpSocket;
use std::time::Duration;

use crate::bridge::Place;
use crate::harness::sbx;

#[test]
fn no_raw_packet_reaches_the_hosts_loopback_by_way_of_slirp4netns() {
    let world = sbx();
    let place = Place::new(&world);
    world.file("own_addresses.py", include_str!("own_addresses.py"));
    let (four, six) = (UdpSocket::bind("127.0.0.1:0").expect("a port"), UdpSocket::bind("[::1]:0"));
    let sockets: Vec<UdpSocket> = [four].into_iter().chain(six).collect();
    for socket in &sockets {
        let port = socket.local_addr().expect("an address").port().to_string();
        for options in [&["--rm", "--net=slirp4netns"][..], &["--rm", "--net=slirp4netns", "--privileged"]] {
            place.run(options, &["python3", "/test/own_addresses.py", "tap0", &port]).expect_code(0);
        }
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let mut text = [0; 64];
        let heard =
            socket.recv(&mut text).map(|length| String::from_utf8_lossy(&text[..length]).into_owned());
        assert!(heard.is_err(), "{heard:?}");
    }
}
