//! The same Dockerfile and the same time are the same image, wherever and by whomever it is built.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{Kitchen, kitchen};
use crate::harness::images;

/// Owners, hard links, attributes, removals, special modes, and what two stages hand on.
pub const DOCKERFILE: &str = "FROM services AS one
ARG SOURCE_DATE_EPOCH
WORKDIR /w
COPY --chown=1:2 d /d
RUN mkdir /made && echo a >/made/a && ln /made/a /made/hard && chown 3:4 /made/a && chmod 4755 /made/a && python3 -c 'import os; os.setxattr(\"/made/a\", \"user.note\", b\"1\")'
RUN ln -s a /made/soft && mkfifo /made/pipe && chown -R 5:6 /home/user && rm /etc/group
FROM services
ARG SOURCE_DATE_EPOCH
COPY --from=one /made /made
COPY --from=one --link --chown=1000 --chmod=700 /d /d
ADD d/f /added
RUN echo $SOURCE_DATE_EPOCH >/epoch
RUN mkdir -p /opt/x && for i in $(seq 50); do echo $i >/opt/x/$i; done && chown 7:8 /opt/x/1* && rm -r /opt/x/2*
RUN rm -r /opt/x && mkdir /opt/x && touch /opt/x/new
";

fn fresh(time: &str) -> Kitchen {
    let kitchen = kitchen();
    kitchen.world.put_image(&images().services(), "docker.io/library/services:latest");
    kitchen.file("d/f", "x").file("d/deep/g", "y").file(".dockerignore", "Dockerfile\n");
    // What a checkout brings along: times and owners, but not modes.
    let touched = std::process::Command::new("touch")
        .args(["-d", time])
        .args([kitchen.context().join("d/f"), kitchen.context().join("d")])
        .status();
    assert!(touched.expect("touch starts").success());
    kitchen
}

/// The ID, the manifest's digest, and the bytes of the whole image in an archive.
fn made(kitchen: &Kitchen, options: &[&str]) -> (String, String, Vec<u8>) {
    let (archive, told) =
        (kitchen.world.directory().join("made.tar"), kitchen.world.directory().join("told.json"));
    let output = format!("type=oci,dest={}", archive.display());
    let told_to = told.display().to_string();
    let all = [&["-q", "-t", "made", "-o", &output, "--metadata-file", &told_to], options].concat();
    let id = kitchen.build(DOCKERFILE, &all).succeed();
    let told: Value = serde_json::from_slice(&fs::read(told).expect("a file")).expect("JSON");
    let digest = told["containerimage.digest"].as_str().expect("a digest").to_owned();
    (id, digest, fs::read(archive).expect("an archive"))
}

#[test]
fn roots_and_ids_make_no_difference() {
    let (mut ids, mut digests, mut archives) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (tier, time, jobs) in [("range", "2001-01-01", "2"), ("single", "2011-11-11", "1")] {
        let kitchen = fresh(time);
        let options = ["--id-tier", tier, "--jobs", jobs, "--timestamp", "1000000000"];
        let (id, digest, archive) = made(&kitchen, &options);
        ids.insert(id);
        digests.insert(digest);
        archives.insert(archive);
    }
    assert_eq!((ids.len(), digests.len(), archives.len()), (1, 1, 1), "{ids:?} {digests:?}");
}

#[test]
fn the_epoch_may_be_a_variable_an_argument_or_an_option() {
    let kitchen = fresh("2001-01-01");
    let argument = made(&kitchen, &["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000000000"]);
    let option = made(&kitchen, &["--no-cache", "--source-date-epoch", "1000000000"]);
    let told = kitchen.world.directory().join("id");
    let variable = kitchen
        .build(DOCKERFILE, &["-q", "--no-cache", "-t", "made", "--iidfile", &told.display().to_string()])
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .succeed();
    assert_eq!((&argument.0, &argument.1), (&option.0, &option.1));
    assert_eq!(variable, argument.0);
    assert_eq!(fs::read_to_string(told).expect("a file"), format!("sha256:{variable}"));
    // No file is younger; older ones stay as they are, and commands know it.
    assert_eq!(kitchen.shell("cat /epoch; stat -c %Y /opt/x/new /d/f"), "1000000000\n1000000000\n978307200");
    assert_eq!(kitchen.inspect("made", "{{.Created}}").trim(), "2001-09-09T01:46:40Z");
    assert_eq!(kitchen.shell("stat -c '%u:%g %a %h' /made/a; ls /opt/x"), "3:4 4755 2\nnew");
    let script = "python3 -c 'import os; print(os.listxattr(\"/made/hard\"))'";
    assert_eq!(kitchen.shell(script), "['user.note']");

    let exactly = kitchen.build(DOCKERFILE, &["-q", "-t", "made", "--timestamp", "86400"]).succeed();
    assert_eq!(kitchen.inspect(exactly.trim(), "{{.Created}}").trim(), "1970-01-02T00:00:00Z");
    assert_eq!(kitchen.shell("stat -c %Y /d/f /epoch /made/a | sort -u"), "86400");
    for wrong in ["x", "1.5"] {
        kitchen
            .build(DOCKERFILE, &["--build-arg", &format!("SOURCE_DATE_EPOCH={wrong}")])
            .expect_code(125)
            .stderr_has("SOURCE_DATE_EPOCH");
    }
}

mod as_root {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::as_root::{User, ranges};
    use crate::harness::require_root;

    /// Root, a user, and the same user on a machine that gives nobody subordinate IDs.
    #[test]
    fn users_make_no_difference() {
        require_root();
        let kitchen = fresh("2001-01-01");
        kitchen.file("Dockerfile", DOCKERFILE);
        let readable =
            std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(kitchen.context()).status();
        assert!(readable.expect("chmod starts").success());
        let (own, _, _) = made(&kitchen, &["--timestamp", "1000000000"]);
        let user = User::of(&kitchen.world);
        let archive = kitchen.file("services.tar", "").context().join("services.tar");
        kitchen.world.sbx(["save", "-q", "-o"]).arg(&archive).arg("services").expect_code(0);
        fs::set_permissions(&archive, fs::Permissions::from_mode(0o644)).expect("a mode");
        kitchen.file(".dockerignore", "Dockerfile\nservices.tar\n");
        let nobody = ranges(&kitchen.world, "");
        let mut ids = BTreeSet::from([own]);
        for (script, tier) in [("", "range"), (nobody.as_str(), "single")] {
            let sbx = |words: &[&str]| {
                let root = user.home.join(tier).display().to_string();
                let privileges = ["--init-groups"];
                user.sbx(&kitchen.world, script, &privileges).args(["--root", &root]).args(words)
            };
            sbx(&["load", "-q", "-i", &archive.display().to_string()]).expect_code(0);
            let info = sbx(&["info", "--format", "json"]).expect_code(0).stdout();
            assert!(info.contains(tier), "{tier}: {info}");
            let context = kitchen.context().display().to_string();
            let words = ["build", "--network", "none", "-q", "--timestamp", "1000000000", &context];
            ids.insert(sbx(&words).expect_code(0).stdout().trim().to_owned());
            sbx(&["system", "reset", "-f"]).finish().stdout();
        }
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
}
