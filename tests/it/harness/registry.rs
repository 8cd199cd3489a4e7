//! A real registry for one test: Debian's docker-registry on a free port of loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::{self, JoinHandle};

use sbx::image::digest::Digest;
use sbx::image::documents::media_type;
use serde_json::json;
use tempfile::TempDir;

use super::command::marked;
use super::http::{Message, exchange};
use super::prerequisites::{require, scratch};
use super::tokens::TokenServer;
use super::world::next_mark;

/// What the registry asks of its clients.
#[derive(Default)]
pub struct Builder {
    tls: bool,
    self_signed: bool,
    client_certificates: bool,
    auth: Option<(String, String)>,
    tokens: bool,
    sends_to: Option<String>,
}

/// A registry that runs until it is dropped; its blobs are in a directory of its own.
pub struct Registry {
    child: Child,
    address: String,
    directory: TempDir,
    log: Option<JoinHandle<()>>,
    tokens: Option<TokenServer>,
}

impl Builder {
    /// https, with a certificate for 127.0.0.1 and localhost of a certificate authority of its own.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// https, with a certificate that signed itself as an authority does: [`Registry::certificate`].
    #[must_use]
    pub fn self_signed(mut self) -> Self {
        self.tls = true;
        self.self_signed = true;
        self
    }

    /// https, and only with a certificate of the same authority: [`Registry::client_certificate`].
    #[must_use]
    pub fn client_certificates(mut self) -> Self {
        self.tls = true;
        self.client_certificates = true;
        self
    }

    /// Basic authorization (htpasswd).
    #[must_use]
    pub fn auth(mut self, user: &str, password: &str) -> Self {
        self.auth = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Bearer tokens of a token server, which wants the user and password of [`Builder::auth`] for all but pulls
    /// from repositories below `public/`.
    #[must_use]
    pub fn tokens(mut self) -> Self {
        self.tokens = true;
        self
    }

    /// The URL that it sends uploads on to.
    #[must_use]
    pub fn sends_to(mut self, url: &str) -> Self {
        self.sends_to = Some(url.to_owned());
        self
    }

    pub fn start(self) -> Registry {
        let directory =
            tempfile::Builder::new().prefix("t.").tempdir_in(scratch()).expect("cannot make a directory");
        let place = directory.path();
        let mut command = marked(next_mark(), require("setpriv").as_os_str());
        // A test run that is killed takes its registries along.
        command.args(["--pdeathsig", "KILL"]).arg(require("docker-registry")).arg("serve");
        fs::create_dir(place.join("data")).expect("cannot make a directory");
        let mut config = json!({
            "version": 0.1,
            "log": { "level": "info" },
            "storage": { "filesystem": { "rootdirectory": place.join("data") }, "delete": { "enabled": true } },
            "http": { "addr": "127.0.0.1:0" },
        });
        if let Some(url) = &self.sends_to {
            config["http"]["host"] = json!(url);
        }
        if self.tls {
            make_certificates(place, self.self_signed);
            config["http"]["tls"] =
                json!({ "certificate": place.join("server.crt"), "key": place.join("server.key") });
            if self.client_certificates {
                config["http"]["tls"]["clientcas"] = json!([place.join("ca.crt")]);
            }
        }
        let tokens = self.tokens.then(|| TokenServer::start(place, self.auth.clone()));
        if let Some(tokens) = &tokens {
            config["auth"] = json!({ "token": {
                "realm": format!("http://{}/token", tokens.address()),
                "service": TokenServer::SERVICE,
                "issuer": TokenServer::ISSUER,
                "rootcertbundle": tokens.certificate(),
            }});
        } else if let Some((user, password)) = &self.auth {
            fs::write(place.join("htpasswd"), format!("{user}:{}\n", bcrypt(password))).expect("a file");
            config["auth"] = json!({ "htpasswd": { "realm": "tests", "path": place.join("htpasswd") } });
        }
        // YAML holds JSON.
        fs::write(place.join("config.yml"), config.to_string()).expect("cannot write a file");
        command.arg(place.join("config.yml"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("cannot start docker-registry");
        let stderr = child.stderr.take().expect("standard error is piped");
        let (address, log) = listening(stderr, &place.join("log"));
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("docker-registry does not listen:\n{}", read_log(place));
        };
        Registry { child, address, directory, log: Some(log), tokens }
    }
}

impl Registry {
    /// http, open to everybody, with deletion.
    pub fn start() -> Self {
        Self::builder().start()
    }

    pub fn with_tls() -> Self {
        Self::builder().tls().start()
    }

    pub fn with_auth(user: &str, password: &str) -> Self {
        Self::builder().auth(user, password).start()
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `127.0.0.1:PORT`, as it stands at the beginning of a reference.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where docker-registry keeps its blobs.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The certificate of the authority that signed the registry's.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// The registry's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.crt")
    }

    /// A certificate for clients, and its key.
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        (self.directory.path().join("client.crt"), self.directory.path().join("client.key"))
    }

    pub fn tokens(&self) -> &TokenServer {
        self.tokens.as_ref().expect("Builder::tokens() was not called")
    }

    /// What the registry wrote so far, its access log included.
    pub fn log(&self) -> String {
        read_log(self.directory.path())
    }

    /// Puts a blob where nothing is asked of clients.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let begun = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), None, b"");
        assert_eq!(begun.status(), 202, "{begun:?}");
        let location = begun.get("Location").expect("an upload has a place");
        let target = location.trim_start_matches("http://").trim_start_matches(self.address());
        let put = self.send("PUT", &format!("{target}&digest={digest}"), None, bytes);
        assert_eq!(put.status(), 201, "{put:?}");
        digest
    }

    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        let put = self.send("PUT", &format!("/v2/{repository}/manifests/{tag}"), Some(media_type), bytes);
        assert_eq!(put.status(), 201, "{}", String::from_utf8_lossy(&put.body));
        Digest::of(bytes)
    }

    /// An image of one layer with the file `hello`, for the platform linux/amd64; returns its manifest's digest.
    pub fn put_image(&self, repository: &str, tag: &str) -> Digest {
        let mut header = tar::Header::new_ustar();
        header.set_size(6);
        header.set_mode(0o644);
        let mut layer = tar::Builder::new(Vec::new());
        layer.append_data(&mut header, "hello", &b"world\n"[..]).expect("a tar entry in memory");
        let layer = layer.into_inner().expect("a tar in memory");
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Cmd": ["/hello"] },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
            "history": [{ "created_by": "a test" }],
        })
        .to_string();
        let config_digest = self.put_blob(repository, config.as_bytes());
        let layer_digest = self.put_blob(repository, &layer);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": { "mediaType": media_type::OCI_CONFIG, "digest": config_digest, "size": config.len() },
            "layers": [{ "mediaType": media_type::OCI_LAYER, "digest": layer_digest, "size": layer.len() }],
        });
        self.put_manifest(repository, tag, media_type::OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    fn send(&self, method: &str, target: &str, media_type: Option<&str>, body: &[u8]) -> Message {
        let mut request = Message {
            start: format!("{method} {target} HTTP/1.1"),
            headers: vec![("Host".to_owned(), self.address.clone())],
            body: body.to_owned(),
        };
        if let Some(media_type) = media_type {
            request = request.header("Content-Type", media_type);
        }
        exchange(&self.address, &request).expect("the registry does not answer")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
    }
}

/// The address in the line that says so, and the thread that keeps writing what else is said.
fn listening(stderr: ChildStderr, log: &Path) -> (Option<String>, JoinHandle<()>) {
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let mut log = fs::File::create(log).expect("cannot make the registry's log");
    let mut address = None;
    for line in lines.by_ref() {
        write_line(&mut log, &line);
        if let Some((_, rest)) = line.split_once("listening on ") {
            let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).unwrap_or(rest.len());
            address = Some(rest[..end].to_owned());
            break;
        }
    }
    (address, thread::spawn(move || lines.for_each(|line| write_line(&mut log, &line))))
}

fn write_line(log: &mut fs::File, line: &str) {
    use std::io::Write;
    // Its directory may be gone before the registry is.
    let _ = writeln!(log, "{line}");
}

fn read_log(directory: &Path) -> String {
    fs::read_to_string(directory.join("log")).unwrap_or_default()
}

/// perl is there on every Debian, and its crypt is the C library's, which knows bcrypt.
fn bcrypt(password: &str) -> String {
    let program = r#"print crypt($ARGV[0], '$2b$04$' . 'abcdefghijklmnopqrstuu')"#;
    let output = Command::new(require("perl")).args(["-e", program, password]).output().expect("perl starts");
    let hash = String::from_utf8(output.stdout).expect("a hash is ASCII");
    assert!(hash.starts_with("$2b$"), "crypt(3) does not know bcrypt: {hash:?}");
    hash
}

/// ca.crt, and server.crt and client.crt signed by it, each with its key; or server.crt alone, signed by itself.
fn make_certificates(directory: &Path, self_signed: bool) {
    if self_signed {
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
        let subject = "/CN=itself";
        openssl(directory, &["req", "-x509", "-subj", subject, "-days", "2", "-addext", names], "server");
        return;
    }
    openssl(directory, &["req", "-x509", "-subj", "/CN=authority of a test", "-days", "2"], "ca");
    for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        let subject = format!("/CN={name} of a test");
        let names = "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost";
        let usage = format!("extendedKeyUsage={usage}");
        let signed = ["req", "-x509", "-subj", &subject, "-days", "2", "-CA", "ca.crt", "-CAkey", "ca.key"];
        let extensions =
            ["-addext", names, "-addext", &usage, "-addext", "basicConstraints=critical,CA:FALSE"];
        openssl(directory, &[&signed[..], &extensions].concat(), name);
    }
}

fn openssl(directory: &Path, args: &[&str], name: &str) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"];
    let output = Command::new(require("openssl"))
        .args(args)
        .args(key)
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
        .current_dir(directory)
        .output()
        .expect("openssl starts");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(registry: &Registry, target: &str) -> Message {
        registry.send("GET", target, None, b"")
    }

    #[test]
    fn an_image_that_was_put_is_there_and_the_registry_ends() {
        let registry = Registry::start();
        let digest = registry.put_image("a/b", "1");
        let request =
            Message { start: format!("GET /v2/a/b/manifests/{digest} HTTP/1.1"), ..Message::default() }
                .header("Host", registry.address())
                .header("Accept", media_type::OCI_MANIFEST);
        let found = exchange(registry.address(), &request).expect("an answer");
        assert_eq!(Digest::of(&found.body), digest);
        let (address, pid) = (registry.address().to_owned(), registry.child.id());
        drop(registry);
        assert!(std::net::TcpStream::connect(address).is_err());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_password_is_wanted() {
        let registry = Registry::with_auth("me", "secret");
        assert_eq!(get(&registry, "/v2/").status(), 401);
        let request = Message {
            start: "GET /v2/ HTTP/1.1".to_owned(),
            headers: vec![("Host".to_owned(), registry.address().to_owned())],
            body: Vec::new(),
        }
        .header("Authorization", "Basic bWU6c2VjcmV0");
        assert_eq!(exchange(registry.address(), &request).expect("an answer").status(), 200);
    }

    #[test]
    fn the_certificate_is_for_loopback() {
        let registry = Registry::with_tls();
        let argv = ["s_client", "-verify_return_error", "-verify_ip", "127.0.0.1", "-connect"];
        let output = Command::new(require("openssl"))
            .args(argv)
            .arg(registry.address())
            .arg("-CAfile")
            .arg(registry.ca())
            .stdin(Stdio::null())
            .output()
            .expect("openssl starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
