//! One layer for each instruction that changes files, with what differs and nothing else: the same on both drivers, with
//! a range of IDs and with one.

use super::blobs::listing;
use super::{Kitchen, kitchen};
use crate::harness::require;

/// How the layers below RUN are stacked, and where the IDs come from.
#[derive(Clone, Copy)]
struct Way(&'static str, &'static str);

impl Way {
    fn options(self) -> [&'static str; 4] {
        if self.0 == "fuse-overlayfs" {
            require("fuse-overlayfs");
        }
        ["--storage-driver", self.0, "--id-tier", self.1]
    }

    /// Builds the image `made`, and lists what is in its layers.
    fn layers(self, kitchen: &Kitchen, dockerfile: &str, options: &[&str]) -> Vec<Vec<String>> {
        let all: Vec<&str> =
            self.options().iter().chain(options).copied().chain(["-q", "-t", "made"]).collect();
        kitchen.build(dockerfile, &all).succeed();
        kitchen.listings("made")
    }
}

/// One test for each driver and each way to have IDs.
macro_rules! every_way {
    ($($name:ident)*) => {
        $(mod $name {
            use super::Way;

            #[test]
            fn overlay() {
                super::statements::$name(Way("overlay", "range"));
            }

            #[test]
            fn fuse_overlayfs() {
                super::statements::$name(Way("fuse-overlayfs", "range"));
            }

            #[test]
            fn overlay_with_one_id() {
                super::statements::$name(Way("overlay", "single"));
            }

            #[test]
            fn fuse_overlayfs_with_one_id() {
                super::statements::$name(Way("fuse-overlayfs", "single"));
            }
        })*
    };
}

every_way! {
    a_layer_has_what_was_made
    what_is_as_it_was_before_makes_no_layer
    a_file_that_changed_brings_its_directories_and_nothing_else
    what_is_removed_is_marked_and_what_comes_in_its_place_hides_it
    hard_links_hold_in_a_layer_and_to_files_of_lower_ones
    attributes_belong_to_the_layer
    mounts_leave_no_trace
    an_empty_stage_gets_no_mount_points
}

/// The lines without their layer's number, as a text.
#[track_caller]
fn are(found: &[Vec<String>], wanted: &[&[&str]]) {
    assert_eq!(found, wanted, "found: {found:#?}");
}

mod statements {
    use super::*;

    pub fn a_layer_has_what_was_made(way: Way) {
        let found = way.layers(
            &kitchen(),
            "FROM base\n\
             RUN mkdir -m 2711 /d && echo x >/d/x && chown -R 12:34 /d && ln -s x /d/l && chown -h 5:6 /d/l && \
             mkfifo -m 600 /d/p && chown 0:0 /d/p && chmod 2711 /d && chmod 4755 /d/x && echo x >/tmp/gone && rm /tmp/gone\n\
             WORKDIR /w/sub\nWORKDIR /w\nENV A=1\nUSER user\nWORKDIR own\n",
            &[],
        );
        are(
            &found,
            &[
                &["d 2711 12:34 d", "l 777 5:6 d/l -> x", "p 600 0:0 d/p", "- 4755 12:34 d/x"],
                &["d 755 0:0 w", "d 755 0:0 w/sub"],
                &["d 755 0:0 w", "d 755 1000:1000 w/own"],
            ],
        );
    }

    /// Opening for writing, changing and changing back, the same owner again, the same times: no change. A new time is one,
    /// but not of a directory, whose time is that of its last entry.
    pub fn what_is_as_it_was_before_makes_no_layer(way: Way) {
        let kitchen = kitchen();
        let found = way.layers(
            &kitchen,
            "FROM base\n\
             RUN mkdir -p /w/d && echo one >/w/one && touch -d '2001-02-03 04:05:06' /w/one && ln -s one /w/l\n\
             RUN : >>/w/one; chmod 600 /w/one; chmod 644 /w/one; chown -R root:root /w; touch -r /w/one /w/d; \
             echo x >/w/d/x; rm /w/d/x; echo one >/w/new; mv /w/new /w/one; touch -d '2001-02-03 04:05:06' /w/one; ln -sfn one /w/l\n\
             RUN echo two >/w/one && touch -d '2001-02-03 04:05:06' /w/one\n\
             RUN touch /w/one\n\
             RUN touch /w/d; true\n",
            &[],
        );
        are(
            &found,
            &[
                &["d 755 0:0 w", "d 755 0:0 w/d", "l 777 0:0 w/l -> one", "- 644 0:0 w/one"],
                &["d 755 0:0 w", "- 644 0:0 w/one"],
                &["d 755 0:0 w", "- 644 0:0 w/one"],
            ],
        );
        assert_eq!(kitchen.shell("cat /w/one /w/l"), "two\ntwo");
    }

    pub fn a_file_that_changed_brings_its_directories_and_nothing_else(way: Way) {
        let found = way.layers(
            &kitchen(),
            "FROM base\n\
             RUN mkdir -p /a/b/c /a/other && chmod 700 /a/b && chown 7:8 /a && touch /a/f /a/b/f /a/b/c/f /a/other/f\n\
             RUN echo more >>/a/b/f\n\
             RUN chmod 750 /a/b\n\
             RUN chown 9:9 /a/b/c/f\n\
             COPY Dockerfile /a/b/new/\n",
            &[],
        );
        are(
            &found,
            &[
                &[
                    "d 755 7:8 a",
                    "d 700 0:0 a/b",
                    "d 755 0:0 a/b/c",
                    "- 644 0:0 a/b/c/f",
                    "- 644 0:0 a/b/f",
                    "- 644 0:0 a/f",
                    "d 755 0:0 a/other",
                    "- 644 0:0 a/other/f",
                ],
                &["d 755 7:8 a", "d 700 0:0 a/b", "- 644 0:0 a/b/f"],
                &["d 755 7:8 a", "d 750 0:0 a/b"],
                &["d 755 7:8 a", "d 750 0:0 a/b", "d 755 0:0 a/b/c", "- 644 9:9 a/b/c/f"],
                &["d 755 7:8 a", "d 750 0:0 a/b", "d 755 0:0 a/b/new", "- 644 0:0 a/b/new/Dockerfile"],
            ],
        );
    }

    pub fn what_is_removed_is_marked_and_what_comes_in_its_place_hides_it(way: Way) {
        let kitchen = kitchen();
        let found = way.layers(
            &kitchen,
            "FROM base\n\
             RUN mkdir -p /w/full/in/deep /w/tree/x /w/empty && echo 1 >/w/full/in/deep/f && echo 1 >/w/full/f && echo 1 >/w/file && echo 1 >/w/tree/x/f\n\
             RUN rm -r /w/tree && rm /w/file && mkdir /w/short && rmdir /w/short && rmdir /w/empty && mkdir /w/empty\n\
             RUN rm -r /w/full && mkdir -p /w/full/in && echo 2 >/w/full/new\n\
             RUN chmod 700 /w/full && chown 3:3 /w/full/in\n\
             RUN rm -r /w/full && echo 3 >/w/full && mkdir /w/tree /w/file && echo 3 >/w/file/f\n",
            &[],
        );
        are(
            &found[1..],
            &[
                &["d 755 0:0 w", "- 0 0:0 w/.wh.file", "- 0 0:0 w/.wh.tree"],
                &[
                    "d 755 0:0 w",
                    "d 755 0:0 w/full",
                    "- 0 0:0 w/full/.wh..wh..opq",
                    "d 755 0:0 w/full/in",
                    "- 644 0:0 w/full/new",
                ],
                &["d 755 0:0 w", "d 700 0:0 w/full", "d 755 3:3 w/full/in"],
                &[
                    "d 755 0:0 w",
                    "d 755 0:0 w/file",
                    "- 644 0:0 w/file/f",
                    "- 644 0:0 w/full",
                    "d 755 0:0 w/tree",
                ],
            ],
        );
        assert_eq!(kitchen.shell("cd /w; find . -type f | sort | xargs cat; ls -A /w/tree"), "3\n3");
    }

    pub fn hard_links_hold_in_a_layer_and_to_files_of_lower_ones(way: Way) {
        let kitchen = kitchen();
        let mut found = way.layers(
            &kitchen,
            "FROM base\n\
             RUN mkdir /w && echo x >/w/one && ln /w/one /w/two && chown 4:5 /w/two\n\
             RUN ln /w/one /three && echo y >/w/y && ln /w/y /w/z && rm /w/y\n\
             RUN echo more >>/three\n",
            &[],
        );
        // Which of the older names is copied up along is the driver's matter.
        found[1].iter_mut().for_each(|line| *line = line.replace("w/two -> three", "w/one -> three"));
        are(
            &found,
            &[
                &["d 755 0:0 w", "- 644 4:5 w/one", "h 644 4:5 w/two -> w/one"],
                &["- 644 4:5 three", "d 755 0:0 w", "h 644 4:5 w/one -> three", "- 644 0:0 w/z"],
                &["- 644 4:5 three"],
            ],
        );
    }

    pub fn attributes_belong_to_the_layer(way: Way) {
        for program in ["setfattr", "setcap"] {
            require(program);
        }
        // The programs of the host, with its libraries.
        let tools = "L=$(echo /mnt/lib/*-linux-gnu); run() { $L/ld-linux*.so.? --library-path $L /mnt/$@; }";
        let dockerfile = format!(
            "FROM base\n\
             RUN mkdir /w /w/d && echo x >/w/x && echo y >/w/y\n\
             RUN {tools}; run bin/setfattr -n user.one -v a=b /w/x && run bin/setfattr -n user.dir -v 1 /w/d\n\
             RUN {tools}; run bin/setfattr -x user.one /w/x && run bin/setfattr -n user.two -v 2 /w/x && run bin/setfattr -x user.two /w/x && chmod 700 /w/d\n\
             RUN {tools}; run bin/setfattr -n user.two -v 2 /w/x && run bin/setfattr -x user.two /w/x\n\
             RUN {tools}; run sbin/setcap cap_net_raw+ep /w/y\n\
             RUN chown 3:3 /w/d\n"
        );
        let found = way.layers(&kitchen(), &dockerfile, &["--volume", "/usr:/mnt:ro"]);
        are(
            &found[1..],
            &[
                &["d 755 0:0 w", "d 755 0:0 w/d user.dir=1", "- 644 0:0 w/x user.one=a=b"],
                &["d 755 0:0 w", "d 700 0:0 w/d user.dir=1", "- 644 0:0 w/x"],
                &[
                    "d 755 0:0 w",
                    "- 644 0:0 w/y security.capability=\\x01\\x00\\x00\\x02\\x00 \\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00",
                ],
                &["d 755 0:0 w", "d 700 3:3 w/d user.dir=1"],
            ],
        );
    }

    pub fn mounts_leave_no_trace(way: Way) {
        let kitchen = kitchen();
        kitchen.file("secret", "s");
        let secret = format!("id=s,src={}", kitchen.context().join("secret").display());
        let found = way.layers(
            &kitchen,
            "FROM base\n\
             RUN ln -s /cache /link\n\
             RUN echo x >>/etc/hosts; echo x >>/etc/resolv.conf; echo x >>/etc/hostname; touch /dev/shm/x /dev/x; true\n\
             RUN --mount=type=secret,id=s --mount=type=secret,id=s,target=/new/deep/s --mount=type=tmpfs,target=/t/mp \
             --mount=type=cache,target=/link/deep/er --mount=target=/context,rw --mount=type=cache,target=/srv \
             touch /context/x /link/deep/er/x /t/mp/x /srv/x && cat /run/secrets/s /new/deep/s >/dev/null\n\
             RUN <<E\necho here >/here\nE\n\
             RUN --mount=type=cache,target=/root/.cache/deep touch /root/.cache/deep/x /root/.cache/own\n",
            &["--secret", &secret],
        );
        let touched = found[2].iter().filter(|line| !line.ends_with(" root"));
        assert_eq!(found.len(), 3, "{found:#?}");
        are(&found[..2], &[&["l 777 0:0 link -> /cache"], &["- 644 0:0 here"]]);
        assert_eq!(
            touched.collect::<Vec<_>>(),
            ["d 755 0:0 root/.cache", "- 644 0:0 root/.cache/own"],
            "{found:#?}"
        );
    }

    /// There is neither /etc nor /dev, and a command needs both.
    pub fn an_empty_stage_gets_no_mount_points(way: Way) {
        let kitchen = kitchen();
        let options: Vec<&str> = way.options().into_iter().chain(["-q", "-t", "made"]).collect();
        kitchen
            .build(
                "FROM scratch\nCOPY --from=base /bin /bin\nRUN --mount=type=cache,target=/c echo x >/x\nRUN <<E\ntrue\nE\n",
                &options,
            )
            .succeed();
        let archives = kitchen.archives_of("made");
        assert_eq!(archives.len(), 2);
        assert_eq!(listing(&archives[1]), ["- 644 0:0 x"]);
    }
}

#[test]
fn names_that_would_remove_files_of_lower_layers_are_refused() {
    let kitchen = kitchen();
    let options = ["--storage-driver", "overlay"];
    kitchen
        .build("FROM base\nRUN mkdir /d && echo x >/d/.wh.passwd\n", &options)
        .expect_code(125)
        .stderr_has(".wh.")
        .stderr_has("Dockerfile:2");
}

#[test]
fn all_ways_make_the_same_archive() {
    let kitchen = kitchen();
    kitchen.file("d/f", "x");
    let dockerfile = "FROM base\nCOPY --chown=5:6 d /d\nRUN mkdir -p /w/x && echo 1 >/w/x/f && ln -s f /w/l && chown -R 7:8 /w\n\
                      RUN rm -r /w/x && mkdir /w/x && echo 2 >/w/x/g && ln /w/x/g /w/h && rm /etc/group && chmod 700 /w\n";
    let archives: Vec<Vec<Vec<u8>>> = [
        ("overlay", "range"),
        ("fuse-overlayfs", "range"),
        ("overlay", "single"),
        ("fuse-overlayfs", "single"),
    ]
    .into_iter()
    .map(|(driver, tier)| {
        let way = Way(driver, tier);
        way.layers(&kitchen, dockerfile, &["--timestamp", "1700000000"]);
        kitchen.archives("made")
    })
    .collect();
    assert_eq!(archives[0].len(), 3);
    for others in &archives[1..] {
        let texts =
            |archives: &[Vec<u8>]| archives.iter().map(|archive| listing(archive)).collect::<Vec<_>>();
        assert_eq!(texts(others), texts(&archives[0]));
        assert!(others == &archives[0], "the bytes differ");
    }
}
