"""Makes a filter with libseccomp of a profile in docker's format, the way runc does.

Reads {"profile": ..., "capabilities": [...], "architecture": "amd64"} and prints the program in hexadecimal.
"""
import json
import sys
import tempfile

try:
    import seccomp
except ImportError:
    sys.exit("libseccomp's Python module is missing (Debian: python3-seccomp)")

request = json.load(sys.stdin)
profile, capabilities = request["profile"], request["capabilities"]
native = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64", "riscv64": "SCMP_ARCH_RISCV64"}[request["architecture"]]


def action(word, errno):
    name = word.removeprefix("SCMP_ACT_")
    if name in ("ERRNO", "TRACE"):
        return getattr(seccomp, name)(1 if errno is None else errno)
    return getattr(seccomp, {"KILL_THREAD": "KILL"}.get(name, name))


def applies(rule):
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    wanted, unwanted = includes.get("arches"), excludes.get("arches") or []
    return (
        all(cap in capabilities for cap in includes.get("caps") or [])
        and (not wanted or request["architecture"] in wanted)
        and not any(cap in capabilities for cap in excludes.get("caps") or [])
        and request["architecture"] not in unwanted
    )


default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
program = seccomp.SyscallFilter(default)
program.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
names = profile.get("architectures") or []
for entry in profile.get("archMap") or []:
    if entry["architecture"] == native:
        names = entry["subArchitectures"] or []
for name in names:
    architecture = getattr(seccomp.Arch, name.removeprefix("SCMP_ARCH_"))
    if not program.exist_arch(architecture):
        program.add_arch(architecture)

for rule in filter(applies, profile["syscalls"]):
    decided = action(rule["action"], rule.get("errnoRet"))
    if decided == default:
        continue
    arguments = [
        seccomp.Arg(arg["index"], getattr(seccomp, arg["op"].removeprefix("SCMP_CMP_")), arg["value"], arg.get("valueTwo") or 0)
        for arg in rule.get("args") or []
    ]
    for call in rule["names"]:
        try:
            program.add_rule(decided, call, *arguments)
        except (ValueError, RuntimeError, OSError) as error:
            # A call that libseccomp does not know, or one that an earlier rule has decided.
            print(f"{call}: {error}", file=sys.stderr)

with tempfile.TemporaryFile() as file:
    program.export_bpf(file)
    file.seek(0)
    print(file.read().hex())
