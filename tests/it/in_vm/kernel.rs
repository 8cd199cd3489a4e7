//! A kernel that was built without something.

mod on_uml {
    use crate::harness::rootfs;
    use crate::in_vm::world;

    #[test]
    fn kinds_of_namespaces_that_are_not_in_it_are_named() {
        assert!(!std::path::Path::new("/proc/self/ns/time").exists());
        let world = world();
        let run = |options: &[&str]| {
            let run = world.run(["--rm", "--net", "none"]).args(options.iter().copied());
            run.arg("--rootfs").arg(rootfs()).arg("true").finish()
        };
        let refused = run(&["--timens", "private"]).code_is(125);
        refused.stderr_has("none of these kinds: time").stderr_has("CONFIG_TIME_NS");
        run(&["--timens", "host"]).code_is(0).stderr_is("");
        world.assert_clean();
    }
}
