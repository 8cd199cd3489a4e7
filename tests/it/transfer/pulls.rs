//! `sbx pull`

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{has_shell, layers, partial, registry_of};
use crate::harness::{Fault, Faulty, images, sbx};

#[test]
fn an_image_is_pulled_and_its_name_printed() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let name = format!("{}/test/busybox:1", registry.address());
    let pulled = world.sbx(["pull", &name]).expect_code(0);
    assert_eq!(pulled.stdout(), format!("{name}\n"));
    for text in ["Trying to pull", "Pull complete", "Digest: sha256:", "Status: Downloaded newer image for"] {
        assert!(pulled.stderr().contains(text), "{text:?} is not in {}", pulled.stderr());
    }
    assert!(has_shell(&world));
    assert_eq!(partial(&world), Vec::<String>::new());
    world
        .sbx(["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .expect_code(0)
        .stdout_is(&format!("{name}\n"));
}

#[test]
fn quiet_says_the_name_alone() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let name = format!("{}/test/busybox:1", registry.address());
    assert_eq!(world.sbx(["pull", "-q", &name]).succeed(), name);
}

#[test]
fn an_unchanged_image_costs_one_request() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox_of("multi"), "test/busybox:1")]);
    let proxy = Faulty::before(registry.address(), |_, _| Fault::None);
    let name = format!("{}/test/busybox:1", proxy.address());
    // That it speaks http is known, and not asked for each time.
    let pull = ["pull", "--tls-verify=false", &name];
    world.sbx(pull).expect_code(0);
    let before = proxy.requests().len();
    world.sbx(pull).expect_code(0).stderr_has("Status: Image is up to date");
    assert_eq!(proxy.requests()[before..], ["HEAD /v2/test/busybox/manifests/1"]);
}

#[test]
fn a_shared_layer_is_fetched_once() {
    let world = sbx();
    let registry = registry_of(
        &world,
        &[(images().busybox(), "test/busybox:1"), (images().busybox_of("configured"), "test/other:1")],
    );
    let proxy = Faulty::before(registry.address(), |_, _| Fault::None);
    world.sbx(["pull", "-q", &format!("{}/test/busybox:1", proxy.address())]).expect_code(0);
    let before = proxy.count("GET /v2/test/busybox/blobs/");
    assert_eq!(before, 2, "a configuration and a layer: {:?}", proxy.requests());
    let second = world.sbx(["pull", &format!("{}/test/other:1", proxy.address())]).expect_code(0);
    assert!(second.stderr().contains("Already exists"), "{}", second.stderr());
    assert_eq!(proxy.count("GET /v2/test/other/blobs/"), 1, "the configuration: {:?}", proxy.requests());
}

#[test]
fn twenty_pulls_at_once_download_each_blob_once() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox_of("odd"), "test/busybox:1")]);
    // Slow enough that all of them meet.
    let proxy = Faulty::before(registry.address(), |request, _| {
        if request.target().contains("/blobs/") {
            std::thread::sleep(Duration::from_millis(100));
        }
        Fault::None
    });
    let name = format!("{}/test/busybox:1", proxy.address());
    let pulls: Vec<_> = (0..20).map(|_| world.sbx(["pull", "-q", &name]).spawn()).collect();
    for pull in pulls {
        pull.finish().code_is(0).stdout_is(&format!("{name}\n"));
    }
    let requests = proxy.requests();
    let mut fetched: Vec<&String> = requests.iter().filter(|line| line.contains("/blobs/")).collect();
    assert!(fetched.len() >= 3, "{fetched:?}");
    let all = fetched.len();
    fetched.sort();
    fetched.dedup();
    assert_eq!(all, fetched.len(), "a blob was fetched twice: {requests:?}");
    assert!(layers(&world).iter().all(|name| !name.starts_with('.')), "{:?}", layers(&world));
}

#[test]
fn a_pull_that_was_killed_goes_on_where_it_ended() {
    let mut world = sbx();
    world.allow_leftovers();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let ranges: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = ranges.clone();
    let proxy = Faulty::before(registry.address(), move |request, before| {
        if !request.target().contains("/blobs/") {
            return Fault::None;
        }
        if let Some(range) = request.get("Range") {
            seen.lock().unwrap().push(range.to_owned());
        }
        // The layer, not the configuration, which is shorter.
        if before == 0 { Fault::Stall(400_000, Duration::from_secs(20)) } else { Fault::None }
    });
    let name = format!("{}/test/busybox:1", proxy.address());
    let pull = world.sbx(["pull", &name]).spawn();
    let arrived = || {
        let directory = world.store().join("oci/partial");
        let sizes = fs::read_dir(directory).into_iter().flatten().flatten();
        sizes.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).max().unwrap_or(0)
    };
    while arrived() < 300_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    pull.signal(Signal::SIGKILL);
    pull.finish().code_is(137);
    let kept = arrived();
    world.sbx(["pull", "-q", &name]).expect_code(0);
    assert_eq!(*ranges.lock().unwrap(), [format!("bytes={kept}-")]);
    assert!(has_shell(&world));
    assert_eq!(partial(&world), Vec::<String>::new());
}

#[test]
fn an_interrupted_pull_ends_with_the_signal() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let proxy = Faulty::before(registry.address(), |request, _| {
        if request.target().contains("/blobs/") {
            return Fault::Stall(300, Duration::from_secs(20));
        }
        Fault::None
    });
    let name = format!("{}/test/busybox:1", proxy.address());
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let pull = world.sbx(["pull", &name]).spawn();
        let before = proxy.count("GET");
        while proxy.count("/blobs/") == 0 || proxy.count("GET") < before {
            std::thread::sleep(Duration::from_millis(5));
        }
        pull.signal(signal);
        let ended = pull.finish().code_is(code);
        assert!(ended.elapsed < Duration::from_secs(5), "{:?}", ended.elapsed);
    }
    world.assert_clean();
}

#[test]
fn a_layer_that_is_damaged_on_the_way_is_refused() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let proxy = Faulty::before(registry.address(), |request, _| {
        if request.target().contains("/blobs/") { Fault::Corrupt } else { Fault::None }
    });
    let name = format!("{}/test/busybox:1", proxy.address());
    let pull = world.sbx(["pull", &name]).expect_code(125);
    assert!(pull.stderr().contains("digest"), "{}", pull.stderr());
    assert_eq!((layers(&world), partial(&world)), (vec![], vec![]), "{}", pull.stderr());
    world.sbx(["images", "-q"]).expect_code(0).stdout_is("");
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    use serde_json::json;
    let world = sbx();
    let registry = registry_of(&world, &[]);
    let put = |bytes: &[u8]| {
        let digest = registry.put_blob("test/liar", bytes);
        json!({ "digest": digest, "size": bytes.len() })
    };
    let layer = vec![0_u8; 1024];
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": {
        "type": "layers", "diff_ids": [sbx::image::digest::Digest::of(b"something else")] } });
    let mut config = put(config.to_string().as_bytes());
    let mut layer = put(&layer);
    config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
    registry.put_manifest("test/liar", "1", kind, manifest.to_string().as_bytes());
    let name = format!("{}/test/liar:1", registry.address());
    let pull = world.sbx(["pull", &name]).expect_code(125);
    assert!(pull.stderr().contains("is not what the image's configuration says"), "{}", pull.stderr());
    assert_eq!(layers(&world), Vec::<String>::new());
}

#[test]
fn the_platform_is_chosen() {
    let world = sbx();
    let registry = registry_of(
        &world,
        &[(images().busybox_of("multi"), "test/multi:1"), (images().busybox_of("foreign"), "test/foreign:1")],
    );
    let architecture = |name: &str| {
        world.sbx(["image", "inspect", "--format", "{{.Architecture}}", name]).expect_code(0).stdout()
    };
    let multi = format!("{}/test/multi:1", registry.address());
    world.sbx(["pull", "-q", &multi]).expect_code(0);
    let own = architecture(&multi);
    let foreign = format!("{}/test/foreign:1", registry.address());
    world.sbx(["pull", &foreign]).expect_code(0).stderr_has("and this machine is");
    let other = architecture(&foreign);
    assert_ne!(own, other);
    world.sbx(["pull", "-q", "--platform", &format!("linux/{}", other.trim()), &multi]).expect_code(0);
    assert_eq!(architecture(&multi), other);
    world.sbx(["pull", "-q", &multi]).expect_code(0);
    assert_eq!(architecture(&multi), own);
    let refused = world.sbx(["pull", "--arch", own.trim(), &foreign]).expect_code(125);
    assert!(refused.stderr().contains("it is there for"), "{}", refused.stderr());
    let refused = world.sbx(["pull", "--platform", "linux/mips", &multi]).expect_code(125);
    assert!(refused.stderr().contains("it is there for"), "{}", refused.stderr());
}

#[test]
fn every_tag_is_pulled() {
    let world = sbx();
    let registry = registry_of(
        &world,
        &[
            (images().busybox(), "test/busybox:1"),
            (images().busybox_of("configured"), "test/busybox:2"),
            (images().busybox(), "test/other:3"),
        ],
    );
    let repository = format!("{}/test/busybox", registry.address());
    let pulled = world.sbx(["pull", "-q", "-a", &repository]).succeed();
    let mut names: Vec<&str> = pulled.lines().collect();
    names.sort_unstable();
    assert_eq!(names, [format!("{repository}:1"), format!("{repository}:2")]);
    world.sbx(["pull", "-a", &format!("{repository}:1")]).expect_code(125).stderr_has("it names one tag");
}

#[test]
fn one_that_is_missing_does_not_keep_the_others_away() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let (missing, there) =
        (format!("{}/test/nothing:1", registry.address()), format!("{}/test/busybox:1", registry.address()));
    let pulled = world.sbx(["pull", "-q", &missing, &there]).expect_code(125);
    assert_eq!(pulled.stdout(), format!("{there}\n"));
    assert!(pulled.stderr().contains("test/nothing"), "{}", pulled.stderr());
}

#[test]
fn a_policy_decides_whether_the_registry_is_asked() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let proxy = Faulty::before(registry.address(), |_, _| Fault::None);
    let name = format!("{}/test/busybox:1", proxy.address());
    world.sbx(["pull", "--policy", "never", &name]).expect_code(125).stderr_has("--pull never");
    assert_eq!(proxy.requests(), Vec::<String>::new());
    world.sbx(["pull", "--policy", "missing", &name]).expect_code(0).stdout_is(&format!("{name}\n"));
    let asked = proxy.requests().len();
    for policy in ["missing", "never"] {
        world.sbx(["pull", "--policy", policy, &name]).expect_code(0).stdout_is(&format!("{name}\n"));
    }
    assert_eq!(proxy.requests().len(), asked);
    drop((proxy, registry));
    world
        .sbx(["pull", "--policy", "newer", "--retry", "0", &name])
        .expect_code(0)
        .stderr_has("Warning: the image in the store");
    world.sbx(["pull", "--retry", "0", &name]).expect_code(125);
}

#[test]
fn a_digest_is_a_name() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let place = format!("{}/test/busybox", registry.address());
    let digest = super::inspected(&world, &format!("docker://{place}:1"), "{{.Digest}}");
    let name = format!("{place}@{digest}");
    assert_eq!(world.sbx(["pull", "-q", &name]).succeed(), name);
    world.sbx(["image", "exists", &name]).expect_code(0);
    let other = name.replace(&digest[digest.len() - 4..], "0000");
    world.sbx(["pull", "-q", &other]).expect_code(125);
}

#[test]
fn run_takes_the_options_of_registries_and_platforms() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox_of("multi"), "test/busybox:1")]);
    let name = format!("{}/test/busybox:1", registry.address());
    let run = |options: &[&str]| {
        world.run(["--rm", "--net", "none", "-q"]).args(options).arg(&name).args(["echo", "up"])
    };
    run(&["--tls-verify=true"]).expect_code(125).stderr_has("speaks http");
    run(&["--tls-verify=false", "--authfile", "/nosuch/auth.json"])
        .expect_code(125)
        .stderr_has("--authfile /nosuch/auth.json");
    run(&["--cert-dir", "/nosuch"]).expect_code(125).stderr_has("/nosuch");
    run(&["--arch", "nosuch"]).expect_code(125).stderr_has("linux/nosuch");
    run(&["--disable-content-trust=false"]).expect_code(125).stderr_has("content trust");
    run(&["--tls-verify=false", "--creds", "a:b", "--retry", "1"]).expect_code(0).stdout_is("up\n");
    // The one that is there is not for that platform.
    run(&["--pull", "never", "--arch", "s390x"]).expect_code(125).stderr_has("for another platform");
    let whole = format!("docker://{name}");
    world.run(["--rm", "--net", "none", &whole, "true"]).expect_code(0);
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://{name}");
        world.sbx(["pull", &url]).expect_code(125).stderr_has(&format!("write `{name}`"));
    }
}

#[test]
fn what_was_pulled_by_a_short_name_is_found_by_it() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "tool:1")]);
    let address = registry.address().to_owned();
    let search = format!("unqualified-search-registries = ['{address}', 'other.example']");
    let config = world.file("registries.conf", search);
    let world = world.env("CONTAINERS_REGISTRIES_CONF", &config);
    world.sbx(["pull", "-q", "tool:1"]).expect_code(0).stdout_is(&format!("{address}/tool:1\n"));
    // Nothing is asked of a registry any more.
    drop(registry);
    world.run(["--rm", "--net", "none", "tool:1", "echo", "up"]).expect_code(0).stdout_is("up\n");
    world
        .sbx(["inspect", "-f", "{{index .RepoTags 0}}", "tool:1"])
        .expect_code(0)
        .stdout_is(&format!("{address}/tool:1\n"));
    // A name of one's own goes before.
    world.sbx(["tag", "tool:1", "own"]).expect_code(0);
    world.sbx(["rmi", "tool:1"]).expect_code(0).stdout_has(&format!("Untagged: {address}/tool:1"));
    world.sbx(["image", "exists", "tool:1"]).expect_code(1);
    world.sbx(["image", "exists", "own"]).expect_code(0);
}
