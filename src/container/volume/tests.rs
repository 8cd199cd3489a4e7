use super::super::spec::{Bind, MountFlags, Origin, Propagation, VolumeMount};
use super::*;

fn context() -> Context<'static> {
    Context { cwd: Path::new("/home/here"), root: Path::new("/nonexistent") }
}

fn bind(source: &str) -> Bind {
    Bind {
        source: source.into(),
        recursive: true,
        propagation: Propagation::Private,
        recursive_propagation: true,
        chown: false,
        overlay: false,
        idmap: false,
    }
}

fn mount(target: &str, bind: Bind) -> Mount {
    Mount { target: target.into(), flags: MountFlags::default(), kind: MountKind::Bind(bind) }
}

fn short(text: &str) -> Mount {
    parse_volume(text, context()).unwrap()
}

fn long(text: &str) -> Mount {
    parse_mount(text, context()).unwrap()
}

#[test]
fn volumes_bind_a_source_on_a_target() {
    assert_eq!(short("/a:/b"), mount("/b", bind("/a")));
    assert_eq!(short(".:/src"), mount("/src", bind("/home/here")));
    assert_eq!(short("./x//y/:/src/"), mount("/src", bind("/home/here/x/y")));
    assert_eq!(short("..:/src"), mount("/src", bind("/home/here/..")));
    assert_eq!(short("../o:/src"), mount("/src", bind("/home/here/../o")));
    assert_eq!(short(".hidden:/src"), mount("/src", bind("/home/here/.hidden")));
    assert_eq!(short("/a:/b/../c").target, Path::new("/b/../c"));
    assert_eq!(short("/:/host"), mount("/host", bind("/")));
}

#[test]
fn options_of_volumes() {
    assert!(short("/a:/b:ro").flags.read_only);
    assert!(!short("/a:/b:rw").flags.read_only);
    assert!(short("/a:/b:ro,ro").flags.read_only);
    let flags = short("/a:/b:noexec,nosuid,nodev").flags;
    assert!(flags.no_exec && flags.no_suid && flags.no_dev);
    assert_eq!(short("/a:/b:exec,suid,dev").flags, MountFlags::default());
    assert_eq!(short("/a:/b:z"), mount("/b", bind("/a")));
    assert_eq!(short("/a:/b:Z"), mount("/b", bind("/a")));
    assert_eq!(short("/a:/b:O"), mount("/b", Bind { overlay: true, ..bind("/a") }));
    assert_eq!(short("/a:/b:U,idmap"), mount("/b", Bind { chown: true, idmap: true, ..bind("/a") }));
    assert_eq!(short("/a:/b:bind"), mount("/b", Bind { recursive: false, ..bind("/a") }));
    for (word, propagation, recursive_propagation) in [
        ("private", Propagation::Private, false),
        ("rprivate", Propagation::Private, true),
        ("slave", Propagation::Slave, false),
        ("rslave", Propagation::Slave, true),
        ("shared", Propagation::Shared, false),
        ("rshared", Propagation::Shared, true),
        ("unbindable", Propagation::Unbindable, false),
        ("runbindable", Propagation::Unbindable, true),
    ] {
        let expected = mount("/b", Bind { propagation, recursive_propagation, ..bind("/a") });
        assert_eq!(short(&format!("/a:/b:{word}")), expected, "{word}");
        assert_eq!(long(&format!("type=bind,src=/a,dst=/b,bind-propagation={word}")), expected, "{word}");
    }
}

#[test]
fn wrong_volumes_are_refused_by_part() {
    for (text, cause) in [
        ("", "the target is missing"),
        ("name", "the target is missing"),
        ("na$me:/x", "there is a `$`"),
        ("/", "is the container's root"),
        ("a/b:/x", "write `./a/b`"),
        ("~/a:/x", "`$HOME`"),
        (":/x", "the source is empty"),
        ("/a:", "the target is empty"),
        ("/a::ro", "the target is empty"),
        ("/a:b", "the target `b` is not an absolute path"),
        ("/a:/", "is the container's root"),
        ("/a:/b/..", "is the container's root"),
        ("/a:/../..", "is the container's root"),
        ("/a:/b:", "an option is empty"),
        ("/a:/b:ro,", "an option is empty"),
        ("/a:/b:ro:x", "`x` is one part too many"),
        ("/a:/b:RO", "`RO` is not an option"),
        ("/a:/b:ro,rw", "`ro` and `rw` contradict"),
        ("/a:/b:exec,noexec", "`exec` and `noexec` contradict"),
        ("/a:/b:bind,rbind", "`bind` and `rbind` contradict"),
        ("/a:/b:shared,rprivate", "`shared` and `rprivate` contradict"),
        ("/a:/b:shared,rshared", "contradict"),
        ("/a:/b:z,Z", "`z` and `Z` contradict"),
        ("/a:/b:O,idmap", "together"),
        ("/a:/b:O,ro", "leave one out"),
        ("/a:/b:O,upperdir=/x", "always thrown away"),
        ("/a:/b:nocopy", "about volumes"),
        ("/a:/b:copy", "about volumes"),
        ("v:/b:nocopy,copy", "contradict"),
        ("/a\0:/b", "the source contains a NUL byte"),
        ("/a:/b\0", "the target contains a NUL byte"),
    ] {
        let error = parse_volume(text, context()).unwrap_err();
        assert!(error.message().contains("--volume") && error.message().contains(text), "{error}");
        assert!(error.causes()[0].contains(cause), "{text}: {error}");
        assert_eq!(error.code(), 125);
    }
    let long_path = format!("/{}:/b", "a".repeat(5000));
    assert!(parse_volume(&long_path, context()).unwrap_err().causes()[0].contains("4095"));
}

#[test]
fn labels_are_refused_where_selinux_is() {
    let root = tempfile::tempdir().unwrap();
    let context = Context { root: root.path(), ..context() };
    for (directory, file) in [("sys/fs/selinux", "enforce"), ("etc/selinux", "config")] {
        assert!(
            parse_volume("/a:/b:z", context).is_ok(),
            "one of the two alone is there without SELinux, too"
        );
        std::fs::create_dir_all(root.path().join(directory)).unwrap();
        std::fs::write(root.path().join(directory).join(file), "1").unwrap();
    }
    for text in ["/a:/b:z", "/a:/b:Z"] {
        assert!(parse_volume(text, context).unwrap_err().causes()[0].contains("SELinux"));
    }
    for relabel in ["shared", "private"] {
        let text = format!("type=bind,src=/a,dst=/b,relabel={relabel}");
        assert!(parse_mount(&text, context).unwrap_err().causes()[0].contains("SELinux"));
    }
    assert!(parse_volume("/a:/b:ro", context).is_ok());
}

#[test]
fn mounts_say_the_same_in_keys() {
    assert_eq!(long("type=bind,src=/a,dst=/b"), short("/a:/b"));
    assert_eq!(long("target=/b,type=bind,source=./a"), short("./a:/b"));
    assert_eq!(long("type=bind,source=/a,destination=/b,readonly"), short("/a:/b:ro"));
    assert_eq!(long("type=bind,src=/a,dst=/b,ro=true"), short("/a:/b:ro"));
    assert_eq!(long("type=bind,src=/a,dst=/b,readonly=false"), short("/a:/b"));
    assert_eq!(long("type=bind,src=/a,dst=/b,rw=0"), short("/a:/b:ro"));
    assert_eq!(long("type=bind,src=/a,dst=/b,bind-nonrecursive"), short("/a:/b:bind"));
    assert_eq!(long("type=bind,src=/a,dst=/b,bind-nonrecursive=false"), short("/a:/b"));
    assert_eq!(long("type=bind,src=/a,dst=/b,U"), short("/a:/b:U"));
    assert_eq!(long("type=bind,src=/a,dst=/b,chown=true"), short("/a:/b:U"));
    assert_eq!(long("type=bind,src=/a,dst=/b,idmap,noexec"), short("/a:/b:idmap,noexec"));
    assert_eq!(long("type=bind,src=/a,dst=/b,relabel=shared"), short("/a:/b"));
    assert_eq!(long(r#"type=bind,"src=/a,b:c",dst=/b"#), mount("/b", bind("/a,b:c")));
    assert_eq!(long("type=devpts,dst=/p").kind, MountKind::Devpts);
    assert!(!long("type=devpts,dst=/p").flags.no_dev);
    assert_eq!(long("type=mqueue,dst=/q").kind, MountKind::Mqueue);
    assert_eq!(long("type=proc,dst=/q").kind, MountKind::Proc);
    assert!(long("type=sysfs,dst=/q,ro").flags.read_only);
    assert_eq!(long("type=cgroup,dst=/q").kind, MountKind::Cgroup);
}

fn volume(target: &str, name: Option<&str>) -> Mount {
    let volume = VolumeMount {
        name: name.unwrap_or_default().to_owned(),
        origin: if name.is_some() { Origin::Named } else { Origin::Anonymous },
        ..anonymous()
    };
    Mount { target: target.into(), flags: MountFlags::default(), kind: MountKind::Volume(volume) }
}

fn of(mount: Mount) -> VolumeMount {
    match mount.kind {
        MountKind::Volume(volume) => volume,
        other => panic!("{other:?} is no volume"),
    }
}

#[test]
fn volumes_have_a_name_or_get_one() {
    assert_eq!(short("data:/x"), volume("/x", Some("data")));
    assert_eq!(short("/x"), volume("/x", None));
    assert_eq!(long("type=volume,src=data,dst=/x"), volume("/x", Some("data")));
    assert_eq!(long("source=data,target=/x"), volume("/x", Some("data")));
    assert_eq!(long("type=volume,dst=/x"), volume("/x", None));
    assert_eq!(long("type=volume,source=,destination=/x"), volume("/x", None));
    assert!(short("data:/x:ro").flags.read_only && short("data:/x:noexec").flags.no_exec);
    for (text, copy) in
        [("data:/x", true), ("data:/x:copy", true), ("data:/x:nocopy", false), ("data:/x:O", false)]
    {
        assert_eq!(of(short(text)).copy, copy, "{text}");
    }
    for (field, copy) in [("volume-nocopy", false), ("nocopy=true", false), ("volume-nocopy=false", true)] {
        assert_eq!(of(long(&format!("type=volume,src=d,dst=/x,{field}"))).copy, copy, "{field}");
    }
    assert!(of(short("data:/x:U")).bind.chown && of(long("type=volume,src=d,dst=/x,U")).bind.chown);
    let full = of(long(
        "type=volume,src=d,dst=/x,subpath=a/b,volume-label=k=v,volume-opt=type=tmpfs,volume-driver=local",
    ));
    assert_eq!(full.subpath.as_deref(), Some(Path::new("a/b")));
    assert_eq!((full.labels["k"].as_str(), full.options["type"].as_str()), ("v", "tmpfs"));
}

#[test]
fn wrong_mounts_are_refused_by_field() {
    for (text, cause) in [
        ("", "a field is empty"),
        ("type=bind,,src=/a,dst=/b", "a field is empty"),
        ("src=/a,dst=/b", "`type` is missing"),
        ("type", "`type` needs a value"),
        ("type=bind,src=/a", "`target` is missing"),
        ("type=bind,dst=/a", "`source` is missing"),
        ("type=bind,src=,dst=/a", "the source is empty"),
        ("type=bind,src=/a,dst=", "the target is empty"),
        ("type=bind,src=x,dst=/b", "the name of a volume"),
        ("type=bind,src=/a,dst=/b,foo", "`foo` is not known"),
        ("type=bind,src=/a,dst=/b,foo=1", "`foo=1` is not known"),
        ("type=bind,src=/a,dst=/b,ro=maybe", "`ro=maybe`: true and false"),
        ("type=bind,src=/a,dst=/b,ro,rw", "contradict"),
        ("type=bind,src=/a,dst=/b,noexec=true", "`noexec=true` is not known"),
        ("type=bind,type=tmpfs,dst=/b", "`type=bind` and `type=tmpfs` contradict"),
        ("type=bind,src=/a,source=/c,dst=/b", "contradict"),
        ("type=bind,src=/a,dst=/b,bind-propagation=up", "`bind-propagation=up`"),
        ("type=bind,src=/a,dst=/b,bind-propagation", "needs a value"),
        ("type=bind,src=/a,dst=/b,relabel=x", "`relabel=x`"),
        ("type=bind,src=/a,dst=/b,idmap=uids=0-1-2", "write `idmap`"),
        ("type=bind,src=/a,dst=/b,tmpfs-size=1m", "belongs to type=tmpfs"),
        ("type=bind,src=/a,dst=/b,volume-nocopy", "belongs to type=volume"),
        ("type=bind,src=/a,dst=/b,nocopy", "belongs to type=volume"),
        ("type=tmpfs,dst=/b,volume-subpath=x", "belongs to type=volume"),
        ("type=tmpfs,src=/a,dst=/b", "`source=/a` belongs to type=bind"),
        ("type=tmpfs,dst=/b,U", "`U` belongs to type=bind"),
        ("type=mqueue,dst=/b,tmpfs-mode=700", "belongs to type=tmpfs"),
        ("type=tmpfs,dst=/b,tmpfs-size", "needs a value"),
        ("type=tmpfs,dst=/b,tmpfs-size=x", "`tmpfs-size=x`"),
        ("type=tmpfs,dst=/b,tmpcopyup=1", "takes no value"),
        ("type=volume,src=/a,dst=/b", "it begins with `/`"),
        ("type=volume", "`target` is missing"),
        ("type=volume,src=v,dst=/b,volume-subpath", "needs a value"),
        ("type=volume,src=v,dst=/b,volume-subpath=/x", "not relative"),
        ("type=volume,src=v,dst=/b,volume-subpath=a/../../x", "leads out"),
        ("type=volume,src=v,dst=/b,volume-driver=nfs", "the driver `nfs`"),
        ("type=volume,src=v,dst=/b,volume-opt=type=nfs", "takes root"),
        ("type=volume,src=v,dst=/b,volume-colour=x", "is not known"),
        ("type=volume,src=v,dst=/b,bind-propagation=shared", "belongs to type=bind"),
        ("type=volume,src=v,dst=/b,tmpfs-size=1m", "belongs to type=tmpfs"),
        ("type=image,src=x,dst=/b", "type `image` is not there yet"),
        ("type=ramfs,dst=/b", "type=tmpfs"),
        ("type=ext4,src=/dev/sda,dst=/b", "without root"),
        ("type=zfs,dst=/b", "type `zfs` is not known"),
        (r#"type=bind,src="/a",dst=/b"#, "quotes go around the whole field"),
        (r#"type=bind,"src=/a"#, "never closed"),
    ] {
        let error = parse_mount(text, context()).unwrap_err();
        assert!(error.message().contains("--mount") && error.message().contains(text), "{error}");
        assert!(error.causes()[0].contains(cause), "{text}: {error}");
    }
}

#[test]
fn tmpfs_has_dockers_defaults() {
    let plain = parse_tmpfs("/run").unwrap();
    assert_eq!(plain.target, Path::new("/run"));
    assert_eq!(plain.flags, MountFlags { read_only: false, no_exec: true, no_suid: true, no_dev: true });
    assert_eq!(plain.kind, MountKind::Tmpfs { size: None, mode: None, copy_up: true });
    assert_eq!(long("type=tmpfs,dst=/run"), plain);
    let full = parse_tmpfs("/run:size=64m,mode=1777,ro,exec,suid,dev,notmpcopyup").unwrap();
    assert_eq!(full.flags, MountFlags { read_only: true, ..MountFlags::default() });
    assert_eq!(full.kind, MountKind::Tmpfs { size: Some(64 << 20), mode: Some(0o1777), copy_up: false });
    assert_eq!(long("type=tmpfs,dst=/run,tmpfs-size=64m,tmpfs-mode=1777,ro,exec,suid,dev,notmpcopyup"), full);
}

#[test]
fn wrong_tmpfs_is_refused_by_part() {
    for (text, cause) in [
        ("", "the target is empty"),
        ("run", "not an absolute path"),
        ("/", "root"),
        ("/run:", "an option is empty"),
        ("/run:size=", "`size=`"),
        ("/run:size=50%", "`size=50%`"),
        ("/run:size=0", "no size"),
        ("/run:size=1m,size=2m", "contradict"),
        ("/run:mode=888", "`mode=888` is not an octal mode"),
        ("/run:mode=+7", "octal"),
        ("/run:mode=17777", "octal"),
        ("/run:mode=", "octal"),
        ("/run:rw,ro", "contradict"),
        ("/run:tmpcopyup,notmpcopyup", "contradict"),
        ("/run:nr_inodes=5", "`nr_inodes=5` is not an option"),
        ("/run:ro:rw", "`ro:rw` is not an option"),
    ] {
        let error = parse_tmpfs(text).unwrap_err();
        assert!(error.message().contains("--tmpfs"), "{error}");
        assert!(error.causes()[0].contains(cause), "{text}: {error}");
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn parents_are_mounted_first() {
    let mounts = parse_all(
        &strings(&["/x:/a/b/c", "/x:/z"]),
        &strings(&["type=tmpfs,dst=/a"]),
        &strings(&["/a/b"]),
        context(),
    )
    .unwrap();
    let targets: Vec<_> = mounts.iter().map(|mount| mount.target.to_str().unwrap()).collect();
    assert_eq!(targets, ["/z", "/a", "/a/b", "/a/b/c"]);
}

#[test]
fn one_target_takes_one_mount() {
    for (volumes, tmpfs) in
        [(vec!["/x:/a", "/y:/a"], vec![]), (vec!["/x:/a"], vec!["/a/"]), (vec!["/x:/a"], vec!["/b/../a"])]
    {
        let error = parse_all(&strings(&volumes), &[], &strings(&tmpfs), context()).unwrap_err();
        assert!(error.causes()[0].contains("same target"), "{error}");
    }
}

#[test]
fn sources_must_exist() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().to_str().unwrap();
    check_source(&short(&format!("{here}:/b"))).unwrap();
    check_source(&parse_tmpfs("/b").unwrap()).unwrap();
    let error = check_source(&short(&format!("{here}/no:/b"))).unwrap_err();
    assert_eq!(error.causes(), ["No such file or directory"]);
    assert!(error.hints()[0].contains(&format!("mkdir -p '{here}/no'")), "{error}");
    std::fs::write(directory.path().join("file"), "").unwrap();
    check_source(&short(&format!("{here}/file:/b"))).unwrap();
    assert!(check_source(&short(&format!("{here}/file:/b:O"))).is_err());
}
