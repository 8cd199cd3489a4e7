//! What is shown to a command alone stays out of everything that a build leaves: layers, documents, records, logs.

use std::fs;
use std::time::{Duration, Instant};

use super::{Kitchen, kitchen};

/// A word that is nowhere else.
fn canary() -> String {
    let word = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel's random words");
    format!("canary-{}", word.trim())
}

/// The files of the store, the runtime directory and the home that hold the word, by paths in the test's directory.
pub fn places(kitchen: &Kitchen, word: &str) -> Vec<String> {
    let world = &kitchen.world;
    let directories = [world.store(), world.runtime(), world.home()];
    // Layers have files that the caller may not read.
    let found = world.sbx(["unshare", "grep", "-rlaF", word]).args(directories).finish();
    assert!(found.code() < 2, "grep: {}", found.stderr());
    let prefix = format!("{}/", world.directory().display());
    found.stdout().lines().map(|line| line.trim_start_matches(&prefix).to_owned()).collect()
}

#[test]
fn secrets_and_arguments_are_in_no_file_of_the_store() {
    let kitchen = kitchen();
    let [file, variable, argument, proxy] = std::array::from_fn(|_| canary());
    let source = kitchen.world.directory().join("secret");
    fs::write(&source, &file).expect("cannot write");
    let dockerfile = "FROM base\nARG TOKEN\nENV KEPT=1\n\
         RUN --mount=type=secret,id=f --mount=type=secret,id=f,target=/at/s,mode=0444 --mount=type=secret,id=f,env=F \
         --mount=type=secret,id=v --mount=type=secret,id=v,env=V <<E\n\
         grep -q canary /run/secrets/f && grep -q canary /at/s && test \"$F\" = \"$(cat /at/s)\" && test \"$V\" = \"$(cat /run/secrets/v)\"\n\
         test -n \"$TOKEN\" && test -n \"$HTTP_PROXY\" || exit 1\n\
         cat /run/secrets/v; cp /run/secrets/f /dev/shm/; echo done >/done\nE\n\
         RUN --mount=type=secret,id=v,env=V sh -c 'test -n \"$V\" && echo more >>/done'\n";
    let secret = format!("id=f,src={}", source.display());
    let options = [
        "-t",
        "made",
        "--secret",
        &secret,
        "--secret",
        "id=v,env=SECRET",
        "--build-arg",
        &format!("TOKEN={argument}"),
        "--build-arg",
        &format!("HTTP_PROXY=http://user:{proxy}@127.0.0.1:1"),
        "--log-level",
        "debug",
    ];
    let finished = kitchen.build(dockerfile, &options).env("SECRET", &variable).expect_code(0);
    assert_eq!(
        kitchen.shell("cat /done; ls -A /run/secrets /at 2>/dev/null; env | grep -c canary"),
        "done\nmore\n0"
    );
    for word in [&file, &variable, &argument, &proxy] {
        assert_eq!(places(&kitchen, word), [""; 0], "{word}");
        // The command has shown the one itself.
        assert_eq!(finished.stderr().contains(word.as_str()), *word == variable, "{}", finished.stderr());
    }
    // Those of images that were built from archives, too.
    for archive in kitchen.archives("made") {
        let text = String::from_utf8_lossy(&archive);
        assert!(!text.contains("canary-"), "a layer has one");
    }
    // The search finds what is there.
    assert_ne!(places(&kitchen, "KEPT=1"), [""; 0]);
}

#[test]
fn caches_and_bind_mounts_are_in_no_layer_of_an_image() {
    let kitchen = kitchen();
    let [cached, bound, mounted] = std::array::from_fn(|_| canary());
    kitchen.file("bound", &bound);
    let volume = kitchen.world.directory().join("volume");
    fs::create_dir(&volume).expect("cannot make a directory");
    fs::write(volume.join("f"), &mounted).expect("cannot write");
    let option = format!("{}:/volume", volume.display());
    let dockerfile = format!(
        "FROM base\nRUN --mount=type=cache,target=/c --mount=target=/b,rw --mount=type=tmpfs,target=/t \
         cat /b/bound >/t/f && echo canary | sed s/canary/{cached}/ >/c/f && cat /volume/f >/b/new && echo x >/x\n"
    );
    kitchen.build(&dockerfile, &["-q", "-t", "made", "--volume", &option]).succeed();
    assert_eq!(kitchen.listings("made"), [["- 644 0:0 x"]]);
    // A cache lies in its directory, and what was bound in the layer that was mounted, until they are pruned.
    let found = places(&kitchen, &cached);
    assert!(found.iter().any(|place| place.contains("build/caches/")), "{found:?}");
    assert_eq!(places(&kitchen, &mounted), [""; 0]);
    let images = kitchen.world.sbx(["save", "made"]).expect_code(0);
    let saved = String::from_utf8_lossy(images.stdout_bytes()).into_owned();
    for word in [&bound, &mounted] {
        assert!(!saved.contains(word.as_str()), "{word}");
    }
    kitchen.world.sbx(["builder", "prune", "-af"]).expect_code(0);
    assert_eq!(places(&kitchen, &bound), [""; 0]);
    kitchen.world.sbx(["rmi", "made"]).expect_code(0);
    assert_eq!(places(&kitchen, &cached), [""; 0]);
}

#[test]
fn a_secret_is_in_no_file_while_it_is_used_and_a_killed_build_leaves_none() {
    let mut kitchen = kitchen();
    let [file, variable] = std::array::from_fn(|_| canary());
    let signal = kitchen.world.directory().join("signal");
    fs::create_dir(&signal).expect("cannot make a directory");
    let source = kitchen.world.directory().join("secret");
    fs::write(&source, &file).expect("cannot write");
    let option = format!("{}:/signal", signal.display());
    let secret = format!("id=f,src={}", source.display());
    kitchen.world.allow_leftovers();
    let build = kitchen
        .build(
            "FROM base\nRUN --mount=type=secret,id=f --mount=type=secret,id=v,env=V touch /signal/on; exec sleep 100\n",
            &["--volume", &option, "--secret", &secret, "--secret", "id=v,env=SECRET"],
        )
        .env("SECRET", &variable)
        .spawn();
    let until = Instant::now() + Duration::from_secs(30);
    while !signal.join("on").exists() {
        assert!(Instant::now() < until, "the command does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let in_store = |word: &str| {
        places(&kitchen, word).into_iter().filter(|place| !place.starts_with("run/")).collect::<Vec<_>>()
    };
    assert_eq!(in_store(&variable), [""; 0]);
    assert_eq!(in_store(&file), [""; 0]);
    assert_ne!(places(&kitchen, &file), [""; 0], "where the command reads it");
    build.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = build.finish();
    kitchen.build("FROM base\nRUN true\n", &["-q"]).expect_code(0);
    assert_eq!(places(&kitchen, &file), [""; 0]);
    assert_eq!(places(&kitchen, &variable), [""; 0]);
}
