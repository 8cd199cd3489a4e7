//! What the environment and the caller's files say about the way to a registry.

use std::fs;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::{Message, Registry, Server, require, sbx};

/// A proxy that leads wherever it is told to `backend`, and what it was told.
fn proxy_to(backend: &str, password: Option<&'static str>) -> (Server, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (list, backend) = (asked.clone(), backend.to_owned());
    let server = Server::start(move |request, stream| {
        list.lock().expect("no panic").push(request.start.clone());
        if password.is_some_and(|wanted| request.get("Proxy-Authorization") != Some(wanted)) {
            let _ = Message::answer(407, "").write(stream, 0);
            return;
        }
        use std::io::Write;
        let Ok(server) = TcpStream::connect(&backend) else { return };
        if stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").is_err() {
            return;
        }
        let (Ok(mut from), Ok(mut to)) = (stream.try_clone(), server.try_clone()) else { return };
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut &server, stream);
    });
    (server, asked)
}

#[test]
fn a_proxy_leads_to_the_registry() {
    let (world, registry) = (sbx(), Registry::with_tls());
    let (proxy, asked) = proxy_to(registry.address(), Some("Basic bWU6c2VjcmV0"));
    let url = format!("http://me:secret@{}", proxy.address());
    let login = ["login", "--tls-verify=false", "-u", "a", "--password-stdin", "registry.example:5000"];
    world.sbx(login).stdin("b").env("HTTPS_PROXY", &url).expect_code(0).stdout_is("Login Succeeded!\n");
    assert_eq!(asked.lock().expect("no panic")[0], "CONNECT registry.example:5000 HTTP/1.1");

    let before = asked.lock().expect("no panic").len();
    let refused = format!("http://{}", proxy.address());
    world.sbx(login).stdin("b").env("https_proxy", &refused).expect_code(125).stderr_has("the proxy refuses");
    let direct = [("https_proxy", url.as_str()), ("no_proxy", "registry.example")];
    let direct = direct.iter().fold(world.sbx(login).stdin("b"), |run, (name, value)| run.env(name, value));
    direct.expect_code(125).stderr_has("no address is known for the host `registry.example`");
    assert!(asked.lock().expect("no panic").len() > before);
    world
        .sbx(login)
        .stdin("b")
        .env("https_proxy", "ftp://me:secret@x")
        .expect_code(125)
        .stderr_has("cannot use the proxy of the variable `https_proxy`");
}

#[test]
fn certificates_are_found_where_podman_and_openssl_look() {
    let (world, registry) = (sbx(), Registry::with_tls());
    let login = ["login", "--tls-verify", "-u", "a", "--password-stdin", registry.address()];
    let refused = world.sbx(login).stdin("b").expect_code(125);
    refused.stderr_has("nobody whom this machine trusts").stderr_has("certs.d");
    world.sbx(login).stdin("b").env("SSL_CERT_FILE", registry.ca()).expect_code(0);
    let directory = world.home().join(".config/containers/certs.d").join(registry.address());
    fs::create_dir_all(&directory).expect("a directory");
    fs::copy(registry.ca(), directory.join("ca.crt")).expect("a copy");
    world.sbx(login).stdin("b").expect_code(0);
}

#[test]
fn skopeo_and_sbx_read_each_others_logins() {
    require("skopeo");
    let (world, registry) = (sbx(), Registry::with_auth("me", "secret"));
    let address = registry.address();
    world.sbx(["login", "-u", "me", "--password-stdin", address]).stdin("secret").expect_code(0);
    let login = world.program("skopeo").args(["login", "--get-login", address]).expect_code(0);
    login.stdout_is("me\n");
    world.program("skopeo").args(["logout", address]).expect_code(0);
    world.sbx(["login", "--get-login", address]).expect_code(125);
    world
        .program("skopeo")
        .args(["login", "--tls-verify=false", "-u", "me", "--password-stdin", address])
        .stdin("secret")
        .expect_code(0);
    world.sbx(["login", "--get-login", address]).expect_code(0).stdout_is("me\n");
    world.sbx(["logout", address]).expect_code(0);
    let gone = world.program("skopeo").args(["login", "--get-login", address]).finish();
    assert_ne!(gone.code(), 0, "{}", gone.stdout());
}

#[test]
fn an_insecure_registry_is_spoken_to_over_http_and_others_are_not() {
    let registry = Registry::start();
    let (proxy, _asked) = proxy_to(registry.address(), None);
    let world = sbx().env("https_proxy", format!("http://{}", proxy.address()));
    let world = world.env("http_proxy", format!("http://{}", proxy.address()));
    let login = ["login", "-u", "a", "--password-stdin", "registry.example:5000"];
    world.sbx(login).stdin("b").expect_code(125).stderr_has("speaks http").stderr_has("insecure = true");
    let config =
        world.file("registries.conf", "[[registry]]\nlocation = 'registry.example:5000'\ninsecure = true");
    world.sbx(login).stdin("b").env("CONTAINERS_REGISTRIES_CONF", &config).expect_code(0);
}
