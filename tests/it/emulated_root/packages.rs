//! What the emulation is there for: Debian's own tools for packages.

use std::fs;

use crate::harness::{Message, Server, debian_rootfs, sbx};

/// A package whose archive has owners, and whose script makes a user and gives it files.
const BUILD: &str = r#"
    cd /srv; mkdir -p p/DEBIAN p/usr/lib/owned p/var/lib/owned
    printf '%s\n' 'Package: owned' 'Version: 1.0' 'Architecture: all' 'Maintainer: Tests <tests@example.org>' \
        'Description: a package whose files have owners' > p/DEBIAN/control
    printf '%s\n' '#!/bin/sh' 'set -e' '[ "$1" = configure ] || exit 0' 'groupadd --system --gid 990 owned' \
        'useradd --system --uid 990 --gid owned --home-dir /var/lib/owned --shell /usr/sbin/nologin owned' \
        'chown -R owned:owned /var/lib/owned' 'chown -h owned:owned /usr/lib/owned/later' > p/DEBIAN/postinst
    chmod 755 p/DEBIAN/postinst
    echo data > p/var/lib/owned/data; echo tool > p/usr/lib/owned/tool
    ln -s tool p/usr/lib/owned/link; ln -s tool p/usr/lib/owned/later
    chown games:staff p/usr/lib/owned/tool; chmod 2755 p/usr/lib/owned/tool
    chown -h man:mail p/usr/lib/owned/link
    dpkg-deb -Zgzip -b p /out/owned_1.0_all.deb >/dev/null
    cd /out
    { dpkg-deb -f owned_1.0_all.deb
      echo Filename: ./owned_1.0_all.deb
      echo Size: $(stat -c %s owned_1.0_all.deb)
      echo SHA256: $(sha256sum owned_1.0_all.deb | cut -d' ' -f1)
    } > Packages
    dpkg-deb -c owned_1.0_all.deb | awk '/owned.*[^\/]$/ { print $1, $2, $6 }' | sort
"#;

const INSTALL: &str = r#"
    rm -rf /etc/apt/sources.list.d/*
    echo "deb [trusted=yes] $ARCHIVE ./" > /etc/apt/sources.list
    apt-get -q update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -qy install owned >/dev/null 2>&1
    stat -c '%n %U:%G %a' /var/lib/owned /var/lib/owned/data /usr/lib/owned/*
    dpkg -V owned; echo verified $?
    su -s /bin/sh owned -c 'id -un; id -g'
    stat -c '%U' /var/lib/apt/lists/partial
    apt-get -qy purge owned >/dev/null 2>&1; ls -d /var/lib/owned /usr/lib/owned 2>/dev/null || echo purged
"#;

const INSTALLED: &str = "\
/var/lib/owned owned:owned 755
/var/lib/owned/data owned:owned 644
/usr/lib/owned/later owned:owned 777
/usr/lib/owned/link man:mail 777
/usr/lib/owned/tool games:staff 2755
verified 0
owned
990
_apt
purged
";

#[test]
fn apt_get_installs_a_package_whose_files_have_owners() {
    let world = sbx();
    let volume = format!("{}:/out", world.work().display());
    let built = world
        .run(["--rm", "--id-tier", "single", "--net", "none", "-v", &volume, "--rootfs"])
        .arg(debian_rootfs())
        .args(["sh", "-euc", BUILD])
        .succeed();
    assert_eq!(
        built,
        "-rw-r--r-- root/root ./var/lib/owned/data\n-rwxr-sr-x games/staff ./usr/lib/owned/tool\n\
         lrwxrwxrwx man/mail ./usr/lib/owned/link\nlrwxrwxrwx root/root ./usr/lib/owned/later"
    );
    let archive = world.work();
    let server = Server::answering(move |request: &Message| {
        let name = request.target().trim_start_matches(['/', '.']);
        match fs::read(archive.join(name)) {
            Ok(file) if !name.is_empty() => Message::answer(200, file),
            _ => Message::answer(404, "no such file"),
        }
    });
    let ways: [&[&str]; 3] = [
        &["--id-tier", "single", "--storage-driver", "overlay"],
        &["--id-tier", "single", "--storage-driver", "fuse-overlayfs"],
        // The same without any emulation, so that the test states what a real root sees.
        &["--id-tier", "range"],
    ];
    for way in ways {
        let said = world
            .run(["--rm", "--net", "host", "-e", &format!("ARCHIVE=http://{}", server.address())])
            .args(way)
            .arg("--rootfs")
            .arg(debian_rootfs())
            .args(["sh", "-euc", INSTALL])
            .succeed();
        assert_eq!(said, INSTALLED.trim_end(), "{way:?}");
    }
}
