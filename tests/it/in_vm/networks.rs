//! Bridge networks, and a kernel that has no rules for them.

mod on_uml {
    use crate::harness::rootfs;
    use crate::in_vm::world;

    #[test]
    fn a_kernel_without_nftables_is_named_and_other_networks_do_without() {
        let world = world();
        world.sbx(["network", "create", "shop"]).expect_code(0);
        let run = |network: &str| {
            let run = world.run(["--rm", "--quiet", "--net", network, "--rootfs"]).arg(rootfs());
            run.args(["ls", "/sys/class/net"])
        };
        let refused = run("shop").expect_code(125).stderr_has("packet filter of the bridge networks");
        refused.stderr_has("the kernel lacks a part of nftables").stderr_has("CONFIG_NF_TABLES_INET");
        run("slirp4netns").expect_code(0).stdout_has("tap0");
        world.assert_clean();
    }
}
