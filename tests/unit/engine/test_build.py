"""A request in docker's words becomes the OCI document that was meant, or one clear error."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jubako
from jubako.engine.build import build_request, build_spec
from jubako.engine.extras import ContainerExtras, Context, HostsFiles, Join, RootSource
from jubako.engine.options import RunOptions
from jubako.errors import JubakoError, NotFoundError
from jubako.image.model import ImageConfig
from jubako.plan.capabilities import DEFAULT as DEFAULT_CAPABILITIES
from jubako.record import replace
from jubako.spec.check import check
from jubako.spec.defaults import DEFAULT_PATH, MASKED_PATHS, READONLY_PATHS
from jubako.spec.dump import dump
from jubako.spec.load import load
from jubako.spec.resources import Cpu, Memory, Pids, Resources
from jubako.spec.types import Mount, Namespace, Spec, TimeOffset, User

CONTEXT = Context("0123456789abcdef" * 4, "/", (("TERM", "screen"), ("SECRET", "x"), ("LANG", "C")), "thishost")
IMAGE = ImageConfig(
    env=("PATH=/img", "A=1"), cmd=("serve", "--port"), entrypoint=("/entry",), working_dir="/app/", user="web"
)
PLAIN = ImageConfig(cmd=("sh",))


def spec(config: ImageConfig | None = PLAIN, context: Context = CONTEXT, **options: Any) -> Spec:
    return build_spec(RunOptions(**{"image": "busybox", **options}), config, context)


def extras(config: ImageConfig | None = PLAIN, **options: Any) -> ContainerExtras:
    return build_request(RunOptions(**{"image": "busybox", **options}), config, CONTEXT).extras


def environment(**options: Any) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in spec(**options).process.env)


def refusal(config: ImageConfig = PLAIN, **options: Any) -> str:
    with pytest.raises(JubakoError) as caught:
        spec(config, **options)
    assert caught.value.exit_code == 125
    return str(caught.value)


def mount_at(built: Spec, target: str) -> Mount | None:
    return next((mount for mount in built.mounts if mount.destination == target), None)


# --- the document as a whole


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"image": "host", "command": ("ls",)},
        {"privileged": True, "tty": True, "read_only": True},
        {"volume": ("/:/host:ro",), "tmpfs": ("/t",), "ulimit": ("core=0",), "time_offset": ("boottime=5",)},
        {"pid": "host", "ipc": "host", "uts": "host", "network": ("host",), "cgroupns": "host", "userns": "host"},
        {"memory": "1g", "cpus": "1.5", "sysctl": ("net.ipv4.ip_forward=1",), "annotation": ("a=b",)},
    ],
)
def test_what_is_built_is_a_valid_document_that_reads_back_as_itself(options: dict[str, Any]) -> None:
    built = spec(**options)
    check(built)
    assert load(dump(built)) == built


def test_the_builder_loads_nothing_heavy() -> None:
    heavy = {"typing", "dataclasses", "collections", "re", "json", "enum", "argparse", "pathlib", "functools", "signal"}
    trial = (
        "import sys; sys.path.append(sys.argv[1]); from jubako.engine import build, extras; import jubako.spec.load;"
        "build.build_spec(build.RunOptions(image='host', volume=('.:/src',)), None, extras.read_context('abc'));"
        "print(*sys.modules)"
    )
    source = str(Path(jubako.__file__).parents[1])
    done = subprocess.run((sys.executable, "-I", "-S", "-c", trial, source), capture_output=True, text=True, check=True)
    assert not heavy.intersection(done.stdout.split())


# --- command

COMMANDS: list[tuple[ImageConfig, dict[str, Any], tuple[str, ...]]] = [
    (IMAGE, {}, ("/entry", "serve", "--port")),
    (IMAGE, {"command": ("x", "y")}, ("/entry", "x", "y")),
    (IMAGE, {"entrypoint": "/mine"}, ("/mine",)),
    (IMAGE, {"entrypoint": "/mine", "command": ("x",)}, ("/mine", "x")),
    (IMAGE, {"entrypoint": '["/mine", "-v"]', "command": ("x",)}, ("/mine", "-v", "x")),
    (IMAGE, {"entrypoint": "", "command": ("x",)}, ("x",)),
    (IMAGE, {"entrypoint": ""}, ("serve", "--port")),
    (IMAGE, {"entrypoint": "[", "command": ("a", "]")}, ("[", "a", "]")),
    (PLAIN, {"command": ("--", "x")}, ("--", "x")),
    (PLAIN, {"image": "host", "command": ("--", "x")}, ("x",)),
    (PLAIN, {"image": "host:rw", "command": ("--", "--")}, ("--",)),
    (ImageConfig(), {"image": "host"}, ("/bin/sh",)),
]


@pytest.mark.parametrize(("config", "options", "args"), COMMANDS)
def test_entrypoint_and_command_are_merged_as_docker_does(
    config: ImageConfig, options: dict[str, Any], args: tuple[str, ...]
) -> None:
    assert spec(config, **options).process.args == args


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "scratch"}, "run scratch: there is no command to run"),
        ({"command": ("",)}, "run busybox: the command's name is empty"),
        ({"command": ("a", "b\0")}, "an argument cannot hold a NUL character"),
        ({"entrypoint": "[1]"}, "read --entrypoint '[1]': must be an array of strings"),
        ({"entrypoint": "[nonsense"}, "read --entrypoint '[nonsense': not a JSON array"),
    ],
)
def test_a_command_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    assert message in refusal(ImageConfig(), **options)


# --- environment


def test_a_container_gets_path_container_and_hostname_and_nothing_of_the_callers() -> None:
    assert environment() == {"PATH": DEFAULT_PATH, "container": "jubako", "HOSTNAME": "0123456789ab"}


def test_the_image_overrides_defaults_files_override_the_image_and_flags_override_all(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=2\nB=2\n")
    built = dict(
        entry.split("=", 1) for entry in spec(IMAGE, env_file=(str(tmp_path / "env"),), env=("B=3", "LANG")).process.env
    )
    assert built["PATH"] == "/img"
    assert (built["A"], built["B"], built["LANG"]) == ("2", "3", "C")


def test_each_name_stands_once() -> None:
    names = [entry.split("=")[0] for entry in spec(IMAGE, env=("PATH=/x", "A=9")).process.env]
    assert len(names) == len(set(names))


def test_a_terminal_is_the_callers_kind_unless_the_image_or_a_flag_says_otherwise() -> None:
    assert environment(tty=True)["TERM"] == "screen"
    assert environment(tty=True, context=replace(CONTEXT, env=()))["TERM"] == "xterm"
    assert environment(tty=True, env=("TERM=vt100",))["TERM"] == "vt100"
    assert "TERM" not in environment()


def test_the_callers_environment_comes_along_only_when_asked_and_below_all_else() -> None:
    built = environment(env_host=True)
    assert built["SECRET"] == "x"
    assert built["PATH"] == DEFAULT_PATH


def test_variables_can_be_taken_away_but_not_those_of_the_flags() -> None:
    assert environment(unsetenv=("HOSTNAME", "container")) == {"PATH": DEFAULT_PATH}
    assert environment(unsetenv_all=True, env=("A=1",)) == {"A": "1"}


# --- user, directory, limits


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", User(umask=0o022)),
        ("5", User(5, 0, 0o022, (), "5")),
        ("5:6", User(5, 6, 0o022, (), "5:6")),
        ("bob:staff", User(0, 0, 0o022, (), "bob:staff")),
        ("bob:6", User(0, 6, 0o022, (), "bob:6")),
    ],
)
def test_a_user_is_passed_through_with_what_its_numbers_say(user: str, expected: User) -> None:
    assert spec(user=user).process.user == expected


def test_the_images_user_holds_unless_another_is_named() -> None:
    assert spec(IMAGE).process.user.username == "web"
    assert spec(IMAGE, user="root").process.user.username == "root"


def test_groups_are_numbers_in_the_document_and_names_beside_it() -> None:
    options = {"group_add": ("5", "audio", "5", "6")}
    assert spec(**options).process.user.additional_gids == (5, 6)
    assert extras(**options).groups == ("audio",)


@pytest.mark.parametrize(
    ("image", "workdir", "cwd"),
    [
        (IMAGE, "", "/app"),
        (IMAGE, "/x//y/../z/", "/x/z"),
        (PLAIN, "", "/"),
        (replace(PLAIN, working_dir="rel"), "", "/rel"),
    ],
)
def test_the_working_directory_is_the_flags_the_images_or_the_root(image: ImageConfig, workdir: str, cwd: str) -> None:
    assert spec(image, workdir=workdir).process.cwd == cwd


def test_a_umask_is_octal() -> None:
    assert spec(umask="077").process.user.umask == 0o077


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"workdir": "src"}, "read --workdir 'src': must be an absolute path in the container"),
    ({"umask": "8"}, "read --umask '8': '8' is not an octal mode of at most 777"),
    ({"umask": "1777"}, "is not an octal mode of at most 777"),
    ({"oom_score_adj": 1001}, "read --oom-score-adj '1001': must lie between -1000 and 1000"),
    ({"stop_signal": "FOO"}, "read --stop-signal 'FOO': there is no such signal"),
    ({"stop_timeout": -1}, "read --stop-timeout '-1': must not be negative"),
    ({"preserve_fds": -1}, "read --preserve-fds '-1': must not be negative"),
    ({"cap_add": ("NET_RWA",)}, "NET_RWA"),
    ({"ulimit": ("x=1",)}, "read --ulimit 'x=1': there is no limit 'x'"),
    ({"hostname": "a b"}, "read --hostname 'a b': a name cannot hold spaces or control characters"),
    ({"hostname": "a" * 65}, "is longer than 64 bytes"),
    ({"hostname": "x", "uts": "host"}, "read --hostname 'x': needs a UTS namespace of the container's own"),
    ({"domainname": "x", "uts": "container:web"}, "read --domainname 'x': needs a UTS namespace"),
    ({"pid": "hots"}, "read --pid 'hots': there is no such mode"),
    ({"pid": "host", "ns": ("pid=private",)}, "combine --pid and --ns for the pid namespace"),
    ({"userns": "bogus"}, "'bogus'"),
    ({"userns": "ns:x"}, "read --userns 'ns:x': the path 'x' must be absolute"),
    ({"time_offset": ("boottime=1",), "ns": ("time=host",)}, "for the time namespace"),
    ({"propagation": "up"}, "read --propagation 'up': there is no such mode"),
    ({"cgroups": "split"}, "read --cgroups 'split': must be enabled or disabled"),
    ({"restart": "always"}, "read --restart 'always': restarting is not supported yet"),
    ({"restart": "sometimes"}, "read --restart 'sometimes': there is no such policy"),
    ({"restart": "always:3"}, "only on-failure takes a number"),
    ({"restart": "on-failure", "rm": True}, "combine --restart and --rm on-failure"),
    ({"annotation": ("a",)}, "read --annotation 'a': must be of the form KEY=VALUE"),
    ({"label": ("=a",)}, "read --label '=a': a label must have a name"),
    ({"shm_size": "big"}, "read --shm-size 'big': 'big' is not a size"),
    ({"sysctl": ("kernel.panic=1",)}, "read --sysctl 'kernel.panic=1': belongs to the whole machine"),
    ({"sysctl": ("net/../kernel/panic=1",)}, "belongs to the whole machine"),
    ({"sysctl": ("net.ipv4.ip_forward=1",), "network": ("host",)}, "needs a network namespace of the container's own"),
    ({"add_host": ("web",)}, "read --add-host 'web': must be NAME:ADDRESS"),
    ({"add_host": ("web:one",)}, "read --add-host 'web:one': 'one' is not an IP address"),
    ({"add_host": ("web\nevil:1.2.3.4",)}, "must be NAME:ADDRESS"),
    ({"add_host": ("web:1.2.3.4",), "no_hosts": True}, "combine --add-host and --no-hosts"),
    ({"dns": ("one",)}, "read --dns 'one': is not an IP address"),
    ({"dns": ("none", "1.1.1.1")}, "read --dns 'none': cannot stand beside an address"),
    ({"dns_search": ("a b",)}, "read --dns-search 'a b': must be one word"),
    ({"memory": "lots"}, "read --memory 'lots': 'lots' is not a size"),
    ({"memory_swap": "1g"}, "read --memory-swap '1g': needs --memory"),
    ({"memory": "2g", "memory_swap": "1g"}, "read --memory-swap '1g': is below --memory 2g"),
    ({"cpus": "many"}, "read --cpus 'many': must be a number"),
    ({"cpus": "."}, "read --cpus '.': must be a number"),
    ({"cpu_shares": 1}, "read --cpu-shares '1': must lie between 2 and 262144"),
    ({"cpu_period": 5}, "read --cpu-period '5': must lie between 1000 and 1000000"),
    ({"cpu_quota": 5}, "read --cpu-quota '5': must lie between 1000 and"),
    ({"cpuset_cpus": "0-"}, "read --cpuset-cpus '0-': must be numbers and ranges"),
    ({"cpuset_mems": "3-1"}, "read --cpuset-mems '3-1': must be numbers and ranges"),
    ({"pids_limit": -2}, "read --pids-limit '-2': must lie between -1 and"),
    ({"storage": "zfs"}, "read --storage 'zfs': there is no such storage"),
    ({"attach": ("stdlog",)}, "read --attach 'stdlog': there is no such stream"),
    ({"cgroup_parent": "/a/../b"}, "read --cgroup-parent '/a/../b': must not contain '..'"),
    ({"cpus": "0.001"}, "read --cpus '0.001': must be at least 0.01"),
    ({"cpus": "1", "cpu_quota": 5000}, "read --cpus '1': cannot stand beside --cpu-quota"),
    ({"env_file": ("/nowhere/env",)}, "read --env-file /nowhere/env: No such file or directory (ENOENT)"),
    ({"volume": ("/nowhere/at/all:/x",)}, "use source of --volume /nowhere/at/all: No such file or directory (ENOENT)"),
    ({"mount": ("type=bind,src=/nowhere,dst=/x",)}, "use source of --mount /nowhere: No such file or directory"),
    ({"volume": ("/etc/passwd:/x:O",)}, "/etc/passwd is not a directory"),
    ({"volume": ("/etc:/x", "/usr:/x/")}, "mount twice on /x: two flags name the same target"),
    ({"volume": ("/etc:/x",), "tmpfs": ("/x",)}, "mount twice on /x"),
    ({"device": ("/dev/nowhere",)}, "use device /dev/nowhere: No such file or directory (ENOENT)"),
    ({"device": ("/etc/passwd",)}, "read --device '/etc/passwd': /etc/passwd is not a device"),
    ({"rootfs": "/"}, "combine --rootfs and an image busybox"),
    ({"image": ""}, "run: no image was named"),
    ({"image": "", "rootfs": "/nowhere"}, "use root file system /nowhere: No such file or directory (ENOENT)"),
    ({"image": "", "rootfs": "/etc/passwd"}, "use root file system /etc/passwd: not a directory"),
    ({"image": "", "rootfs": "/usr:rw"}, "use root file system /usr:rw: No such file or directory (ENOENT)\n  hint:"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_a_request_that_cannot_be_is_refused_with_flag_value_and_reason(options: dict[str, Any], message: str) -> None:
    assert message in refusal(**options)


# --- root file system and mounts


@pytest.mark.parametrize(
    ("options", "root"),
    [
        ({"image": "busybox"}, RootSource("image", "", "busybox")),
        ({"image": "host"}, RootSource("host", "/", "host")),
        ({"image": "host:rw"}, RootSource("host:rw", "/", "host:rw")),
        ({"image": "", "rootfs": "/usr"}, RootSource("directory", "/usr")),
        ({"image": "", "rootfs": "/usr/:O"}, RootSource("overlay", "/usr")),
        ({"image": "", "rootfs": "usr"}, RootSource("directory", "/usr")),
    ],
)
def test_the_root_file_system_is_an_image_a_directory_or_the_host(options: dict[str, Any], root: RootSource) -> None:
    assert extras(**options).root == root


def test_a_missing_root_file_system_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        spec(image="", rootfs="/nowhere")


def test_mounts_go_from_shallow_to_deep_whatever_the_order_of_the_flags() -> None:
    built = spec(volume=("/usr:/a/b/c", "/usr:/z"), tmpfs=("/a",), mount=("type=bind,src=/etc,dst=/a/b",))
    depths = [mount.destination.count("/") for mount in built.mounts]
    assert depths == sorted(depths)
    order = [mount.destination for mount in built.mounts]
    assert order.index("/a") < order.index("/a/b") < order.index("/a/b/c")
    assert order.index("/proc") < order.index("/dev") < order.index("/dev/shm")


def test_a_mount_of_the_users_takes_the_place_of_a_default() -> None:
    built = spec(tmpfs=("/dev/shm:size=1m",), volume=("/proc:/proc",))
    assert [mount.destination for mount in built.mounts].count("/dev/shm") == 1
    shm, proc = mount_at(built, "/dev/shm"), mount_at(built, "/proc")
    assert shm is not None
    assert "size=1048576" in shm.options
    assert proc is not None
    assert proc.type == "bind"


def test_a_mount_on_dev_takes_the_place_of_the_defaults_below_it() -> None:
    below = [mount.destination for mount in spec(volume=("/dev:/dev",)).mounts if mount.destination.startswith("/dev")]
    assert below == ["/dev"]


def test_a_read_only_root_keeps_the_usual_places_writable_unless_not_wanted() -> None:
    built = spec(read_only=True, volume=("/usr:/run",))
    assert built.root.readonly
    run, tmp = mount_at(built, "/run"), mount_at(built, "/tmp")
    assert run is not None
    assert run.type == "bind"
    assert tmp is not None
    assert tmp.type == "tmpfs"
    assert mount_at(spec(read_only=True, read_only_tmpfs=False), "/tmp") is None
    assert mount_at(spec(), "/tmp") is None


def test_shared_memory_has_the_size_that_was_asked_for() -> None:
    shm = mount_at(spec(shm_size="1g"), "/dev/shm")
    assert shm is not None
    assert "size=1073741824" in shm.options


def test_shared_memory_follows_the_ipc_namespace() -> None:
    assert mount_at(spec(ipc="none"), "/dev/shm") is None
    shared = mount_at(spec(ipc="host"), "/dev/shm")
    assert shared is not None
    assert (shared.type, shared.source) == ("bind", "/dev/shm")


def test_a_device_is_bound_from_the_host() -> None:
    device = mount_at(spec(device=("/dev/null:/dev/nothing",)), "/dev/nothing")
    assert device is not None
    assert (device.type, device.source) == ("bind", "/dev/null")


def test_proc_gets_the_options_that_were_asked_for() -> None:
    proc = mount_at(spec(security_opt=("proc-opts=hidepid=2",)), "/proc")
    assert proc is not None
    assert proc.options[-1] == "hidepid=2"


# --- security


def test_by_default_nothing_is_gained_and_what_leaks_is_masked() -> None:
    built = spec()
    assert built.process.no_new_privileges
    assert built.process.capabilities is not None
    assert built.process.capabilities.bounding == DEFAULT_CAPABILITIES
    assert built.process.capabilities.ambient == ()
    assert set(MASKED_PATHS) <= set(built.linux.masked_paths)
    assert built.linux.readonly_paths == READONLY_PATHS
    assert extras().seccomp == "default"


def test_another_user_than_root_starts_without_effective_capabilities_but_those_added() -> None:
    sets = spec(user="1000", cap_add=("net_raw",)).process.capabilities
    assert sets is not None
    assert sets.effective == sets.ambient == ("CAP_NET_RAW",)
    assert "CAP_CHOWN" in sets.bounding


def test_privileged_lifts_the_filter_the_masks_and_the_capabilities() -> None:
    built = spec(privileged=True, context=replace(CONTEXT, last_cap=40))
    assert built.process.capabilities is not None
    assert len(built.process.capabilities.effective) == 41
    assert (built.linux.masked_paths, built.linux.readonly_paths) == ((), ())
    assert not built.process.no_new_privileges
    assert extras(privileged=True).seccomp == "unconfined"
    for target in ("/sys", "/sys/fs/cgroup"):
        mount = mount_at(built, target)
        assert mount is not None
        assert "ro" not in mount.options


def test_privileged_leaves_what_was_said_besides() -> None:
    options = {"privileged": True, "security_opt": ("no-new-privileges", "seccomp=/p.json"), "cap_drop": ("sys_admin",)}
    built = spec(**options)
    assert built.process.no_new_privileges
    assert built.process.capabilities is not None
    assert "CAP_SYS_ADMIN" not in built.process.capabilities.bounding
    assert extras(**options).seccomp == "/p.json"


def test_paths_are_masked_and_unmasked_by_name() -> None:
    built = spec(security_opt=("mask=/etc/secret", "unmask=/proc/kcore:/proc/sys"))
    assert "/etc/secret" in built.linux.masked_paths
    assert "/proc/kcore" not in built.linux.masked_paths
    assert "/proc/sys" not in built.linux.readonly_paths
    assert spec(security_opt=("unmask=ALL",)).linux.masked_paths == ()


def test_a_seccomp_profile_counts_from_the_callers_directory() -> None:
    request = build_request(
        RunOptions(image="host", security_opt=("seccomp=p.json",)), None, replace(CONTEXT, directory="/home/me")
    )
    assert request.extras.seccomp == "/home/me/p.json"


# --- namespaces


def test_every_namespace_is_the_containers_own() -> None:
    assert [one.type for one in spec().linux.namespaces] == [
        "user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"pid": "host"}, "pid"),
        ({"ipc": "host"}, "ipc"),
        ({"uts": "host"}, "uts"),
        ({"network": ("host",)}, "network"),
        ({"cgroupns": "host"}, "cgroup"),
        ({"userns": "host"}, "user"),
        ({"ns": ("net=host",)}, "network"),
    ],
)
def test_the_hosts_namespace_is_not_in_the_list(options: dict[str, Any], kind: str) -> None:
    assert kind not in [one.type for one in spec(**options).linux.namespaces]


def test_a_namespace_is_joined_by_its_path() -> None:
    assert Namespace("network", "/run/netns/x") in spec(network=("ns:/run/netns/x",)).linux.namespaces
    assert Namespace("user", "/proc/1/ns/user") in spec(userns="ns:/proc/1/ns/user").linux.namespaces


def test_another_containers_namespace_is_named_beside_the_document() -> None:
    options = {"network": ("container:web",), "pid": "container:db", "userns": "container:web"}
    assert set(extras(**options).joins) == {Join("network", "web"), Join("pid", "db"), Join("user", "web")}
    assert Namespace("network") in spec(**options).linux.namespaces


def test_moved_clocks_come_with_a_time_namespace() -> None:
    built = spec(time_offset=("monotonic=5",))
    assert Namespace("time") in built.linux.namespaces
    assert built.linux.time_offsets == (TimeOffset("monotonic", 5),)
    assert Namespace("time") in spec(ns=("time=private",)).linux.namespaces


def test_the_host_name_is_the_ids_beginning_unless_named() -> None:
    assert spec().hostname == "0123456789ab"
    assert spec(hostname="web").hostname == "web"
    assert spec(uts="host").hostname == ""
    assert environment(uts="host")["HOSTNAME"] == "thishost"


# --- what stands beside the document


def test_labels_of_the_image_files_and_flags_add_up(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a=file\nb=file\n")
    image = replace(PLAIN, labels=(("a", "image"), ("c", "image")))
    found = dict(extras(image, label_file=(str(tmp_path / "labels"),), label=("b=flag", "d")).labels)
    assert found == {"a": "file", "b": "flag", "c": "image", "d": ""}


def test_the_stop_signal_is_the_flags_the_images_or_term() -> None:
    assert extras().stop_signal == 15
    assert extras(replace(PLAIN, stop_signal="SIGQUIT")).stop_signal == 3
    assert extras(replace(PLAIN, stop_signal="SIGQUIT"), stop_signal="int").stop_signal == 2
    assert (extras().stop_timeout, extras(stop_timeout=0).stop_timeout) == (10, 0)


def test_names_and_resolvers_are_read() -> None:
    found = extras(
        add_host=("web;www:10.0.0.1", "six:[fe80::1]", "gw:host-gateway"),
        dns=("1.1.1.1", "2606::1"),
        dns_search=("a.b",),
        dns_option=("ndots:1",),
    ).hosts
    assert found == HostsFiles(
        added=(("10.0.0.1", ("web", "www")), ("fe80::1", ("six",)), ("host-gateway", ("gw",))),
        dns=("1.1.1.1", "2606::1"),
        search=("a.b",),
        options=("ndots:1",),
    )
    assert extras(dns=("none",), no_hosts=True).hosts == HostsFiles(keep_hosts=True, keep_resolv_conf=True)


def test_limits_become_resources() -> None:
    assert spec().linux.resources is None
    asked = spec(memory="1g", memory_swap="-1", cpus="1.5", pids_limit=100, cpuset_cpus="0-1").linux.resources
    assert asked == Resources(
        memory=Memory(limit=1 << 30, swap=-1), cpu=Cpu(quota=150_000, period=100_000, cpus="0-1"), pids=Pids(100)
    )


def test_no_pids_limit_is_spelled_zero_or_minus_one() -> None:
    for limit in (0, -1):
        assert spec(pids_limit=limit).linux.resources == Resources(pids=Pids(-1))


def test_a_source_that_only_the_containers_root_may_see_is_left_to_the_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.stat", closed)
    source = mount_at(spec(volume=("/closed/x:/x",)), "/x")
    monkeypatch.undo()
    assert source is not None
    assert source.source == "/closed/x"


def test_id_maps_and_the_rest_are_handed_on() -> None:
    found = extras(uidmap=("0:0:1",), gidmap=("0:0:2",), userns="", init=True, no_pivot=True, cgroups="disabled")
    assert (found.uidmap, found.gidmap) == (("0:0:1",), ("0:0:2",))
    assert found.init
    assert found.no_pivot
    assert not found.cgroups
    assert extras(userns="keep-id:uid=5").userns.uid == 5
