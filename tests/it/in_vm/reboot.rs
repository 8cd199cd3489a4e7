//! What is there again after the machine was down, and what is not. Between the two modules it boots.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Account, world};

/// Lasts over the reboot: the identity of the boot before it.
fn boot_before() -> PathBuf {
    let kept = std::env::var_os("SBX_TEST_KEPT").expect("a directory that lasts: run `scripts/vm-test`");
    Path::new(&kept).join("boot")
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the identity of this boot")
}

mod before {
    use super::*;

    #[test]
    fn containers_are_put_under_units() {
        let world = world();
        let account = Account::own();
        let create = "create() { name=$1; shift; sbx create --quiet --net none --name $name \"$@\" host \
            sh -c 'echo up >>/data/ups; trap \"exit 0\" TERM; sleep 9999 & wait' >/dev/null; }";
        let script = format!(
            "{create}
            create always --restart always -v always:/data
            create unless --restart unless-stopped -v unless:/data
            create stopped --restart unless-stopped -v stopped:/data
            create never -v never:/data
            create unit -v unit:/data
            mkdir -p ~/.config/systemd/user
            cd ~/.config/systemd/user
            sbx generate systemd --all --files
            sbx generate systemd --name --files unit
            systemctl --user daemon-reload
            systemctl --user enable --quiet --now sbx-restart container-unit
            sbx stop stopped >/dev/null
            systemd-run --user --quiet --service-type=oneshot --remain-after-exit --unit=by-hand sbx start never
            sbx ps --format '{{{{.Names}}}}' | sort | tr '\\n' ' '"
        );
        let said = account.sh(&world, &script).expect_code(0).stdout();
        assert!(said.ends_with("always never unit unless "), "{said}");
        fs::write(boot_before(), boot()).expect("a note for after the reboot");
    }
}

mod after {
    use super::*;

    #[test]
    fn units_bring_back_what_should_run() {
        let world = world();
        let account = Account::own();
        assert_ne!(fs::read_to_string(boot_before()).expect("the note from before"), boot());
        let states = "systemctl --user start sbx-restart
            systemctl --user is-active sbx-restart container-unit
            sbx wait --condition=running unit >/dev/null
            sbx ps -a --format '{{.Names}} {{.State}}' | sort
            for name in always unless unit stopped never; do
                sbx run --rm --quiet --net none -v $name:/data host wc -l /data/ups | cut -d' ' -f1
            done";
        account.sh(&world, states).expect_code(0).stdout_is(
            "active\nactive\nalways running\nnever exited\nstopped exited\nunit running\nunless running\n2\n2\n2\n1\n1\n",
        );
        // They are whole: one can work in them, stop them and be sure that they stay so.
        let works = "sbx exec always cat /data/ups
            systemctl --user stop container-unit sbx-restart
            sbx ps --format '{{.Names}} {{.State}}'
            systemctl --user disable sbx-restart container-unit 2>/dev/null
            sbx rm -f -a >/dev/null && sbx volume prune -f -a >/dev/null
            rm ~/.config/systemd/user/*.service; systemctl --user daemon-reload";
        account.sh(&world, works).expect_code(0).stdout_is("up\nup\n");
    }
}
