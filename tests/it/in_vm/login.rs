//! A login session, as ssh gives it: its control group is not delegated.

use std::fs;

use serde_json::json;

use super::{Account, world};
use crate::oci::Bundle;

const SESSION: &str = "0::/user.slice/user-1000.slice/session-";

#[test]
fn nothing_is_delegated_to_a_login_session_and_a_scope_mends_that() {
    let world = world();
    let own = fs::read_to_string("/proc/self/cgroup").expect("the control group of this process");
    assert!(own.starts_with(SESSION), "{own}");
    let account = Account::own();
    let containers = "sbx run -d --quiet --net none --name web host sleep 999 >/dev/null; trap 'sbx rm -f -t 0 web >/dev/null' EXIT;";
    let pause = format!("{containers} sbx pause web");
    // Without the manager's address there is nobody to ask for more.
    let alone =
        account.sh(&world, &pause).env_remove("XDG_RUNTIME_DIR").env_remove("DBUS_SESSION_BUS_ADDRESS");
    alone
        .expect_code(125)
        .stderr_has("has no control group of its own")
        .stderr_has("systemd-run --user --scope");
    let scope =
        account.sh(&world, "exec systemd-run --user --scope --quiet --property=Delegate=yes sh -ec \"$0\"");
    scope.arg(&pause).expect_code(0).stdout_is("web\n");
}

#[test]
fn a_limit_holds_in_a_login_session_too() {
    let world = world();
    let script =
        "sbx run --rm --quiet --net none -m 64m host cat /sys/fs/cgroup/memory.max; cat /proc/self/cgroup";
    let said = Account::own().sh(&world, script).expect_code(0).stdout();
    assert!(said.starts_with(&format!("67108864\n{SESSION}")), "{said}");
}

#[test]
fn a_bundle_with_limits_is_run_and_entered_from_a_login_session() {
    let world = world();
    let bundle =
        Bundle::new(&world, "exec sleep 999").set("/linux/resources", json!({ "pids": { "limit": 20 } }));
    bundle.behind("create", "web").expect_code(0);
    world.sbx(["oci", "start", "web"]).succeed();
    // Who is not in the container's control group sees another path.
    let exec = world.sbx(["oci", "exec", "web", "sh", "-c", "cat /proc/self/cgroup /sys/fs/cgroup/pids.max"]);
    exec.expect_code(0).stdout_is("0::/\n20\n");
    world.sbx(["oci", "delete", "--force", "web"]).succeed();
    let alone = bundle.run().env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nobody");
    alone
        .expect_code(1)
        .stderr_has("cannot set `pids.max` of the container's control group")
        .stderr_has("not delegated to you");
}
