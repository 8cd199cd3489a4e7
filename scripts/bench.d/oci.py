"""What is measured of bundles: sbx, crun and runc run the same one."""

import measure
from cases import Case

RUN = "sbx oci run, bundle"


def runs(world, bundle):
    """What every runtime needs to run the bundle and to leave nothing of it."""
    def case(label, argv, environment=None, peer=None):
        return Case(label, "", [*argv, "run", "--bundle", bundle, "sbx-bench-oci"], environment, peer)
    return [
        case(RUN, [world.sbx, "oci"], world.sbx_environment),
        case("crun run, bundle", ["crun"], peer=RUN),
        case("runc run, bundle", ["runc"], peer=RUN),
    ]


def measured(world, number):
    """(cases, {case: milliseconds}, {case: why not})."""
    timed = runs(world, world.bundle)
    left_out = measure.try_each(timed)
    # That it was the bundle's command which ended with 0.
    for case, failing in zip(timed, runs(world, world.bundle + "-false"), strict=True):
        if case not in left_out:
            try:
                with measure.deadline(case):
                    measure.run_once(failing, wanted=1)
            except measure.Failure as failure:
                left_out[case] = str(failure)
    return timed, measure.interleaved([case for case in timed if case not in left_out], number), left_out
