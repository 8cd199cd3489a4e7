//! cibuildwheel's OCIContainer: a shell in a container, driven over its standard input.

use crate::harness::{images, sbx_by_all_names};

/// What builds of wheels do with it; `host_tree` is a directory of the host with `data` and `deep/below`.
const SCRIPT: &str = r#"
import pathlib, sys
from cibuildwheel.oci_container import OCIContainer, OCIContainerEngineConfig, OCIPlatform

engine, image, host_tree = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
inside = pathlib.PurePosixPath("/project")
OCIContainer.UTILITY_PYTHON = "/usr/bin/python3"
config = OCIContainerEngineConfig(engine)
with OCIContainer(image=image, oci_platform=OCIPlatform.native(), cwd=inside, engine=config) as container:
    name = container.name
    assert container.call(["echo", "two  words"], capture_output=True) == "two  words\n"
    assert container.call(["pwd"], capture_output=True) == "/project\n"
    assert container.call(["printenv", "X"], env={"X": "a b"}, capture_output=True) == "a b\n"
    assert container.get_environment()["container"]
    container.copy_into(host_tree / "data", inside / "data")
    container.copy_into(host_tree, inside / "tree")
    assert (host_tree / "data").read_bytes() == bytes(range(256)) * 4096
    container.call(["cmp", "data", "tree/data"])
    found = container.glob(inside / "tree", "*")
    assert sorted(str(path) for path in found) == ["/project/tree/data", "/project/tree/deep"]
    assert container.call(["stat", "-c", "%u:%g", "tree/deep/below"], capture_output=True) == "0:0\n"
    out = host_tree.parent / "out"
    out.mkdir()
    container.copy_out(inside / "tree", out)
    assert (out / "data").read_bytes() == (host_tree / "data").read_bytes()
    assert (out / "deep" / "below").read_text() == "x"
    assert container.call(["cat", "/host/etc/hostname"], capture_output=True) == open("/etc/hostname").read()
    # It is asked for from the directory of this name on the host.
    container.cwd = None
    assert container.debug_info()
print("built in", name)
"#;

#[test]
fn a_shell_is_driven_over_its_standard_input() {
    for engine in ["podman", "docker"] {
        let world = sbx_by_all_names();
        world.put_image(&images().python(), "docker.io/library/builder:latest");
        let script = world.file("build.py", SCRIPT);
        let data: Vec<u8> = (0..=255).cycle().take(256 * 4096).collect();
        world.file("tree/data", data);
        world.file("tree/deep/below", "x");
        let tree = world.work().join("tree");
        let built = world.client("python").arg(script).args([engine, "docker.io/library/builder:latest"]);
        let built = built.arg(tree).timeout(std::time::Duration::from_secs(120)).expect_code(0);
        let said = built.stdout_has(&format!("+ {engine} version")).stdout_has("built in cibuildwheel-");
        assert!(!said.stderr().contains("Failed to remove"), "{}", said.stderr());
        assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
        world.assert_clean();
    }
}
