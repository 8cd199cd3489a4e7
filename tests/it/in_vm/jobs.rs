//! In the control group of a job, as Slurm's plugin cgroup/v2 makes it: the job counts, limits and ends what is in there.

use super::{Account, world};
use crate::harness::rootfs;

#[test]
fn a_limit_holds_within_the_job_and_takes_nothing_out_of_it() {
    let world = world();
    let run = format!("sbx run --rm --quiet --net none --rootfs {}", rootfs().display());
    // Systemd could be asked, and would make a scope beside the job.
    let script = format!(
        "own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup) job=$own/job_7/step_batch
         mkdir -p $job; echo $$ >$job/cgroup.procs
         for place in $own $own/job_7; do echo +memory +pids >$place/cgroup.subtree_control; done
         sbx info --format \"{{{{.host.cgroupManager}}}}\"
         {run} -m 64m cat /sys/fs/cgroup/memory.max
         {run} -m 64m --cgroupns host cat /proc/self/cgroup | grep -c ^0::${{job#/sys/fs/cgroup}}/sbx-
         {run} --cgroupns host cat /proc/self/cgroup | grep -c ^0::${{job#/sys/fs/cgroup}}/supervisor/sbx-
         chmod a-w $job $job/supervisor $own/job_7
         export SLURM_JOB_ID=7
         {run} -m 64m true || echo $?
         {run} echo runs"
    );
    let script = world.file("script", script).display().to_string();
    let scope = "exec systemd-run --user --scope --quiet --property=Delegate=yes sh -ec \". $0\"";
    let job =
        Account::own().sh(&world, scope).arg(&script).env("XDG_DATA_HOME", world.directory().join("data"));
    job.expect_code(0)
        .stdout_is("cgroupfs\n67108864\n1\n1\n125\nruns\n")
        .stderr_has("cannot limit the container (memory)")
        .stderr_has("ask Slurm for limits of the job");
}
