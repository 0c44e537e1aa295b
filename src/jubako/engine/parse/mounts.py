"""`-v`, `--mount`, `--tmpfs` and `--device`: each becomes one `spec.types.Mount`.

The grammars are docker's and podman's; options come out as mount(8) and the OCI document have them. A bind is
recursive and private unless asked otherwise. `O` (a throw-away layer) becomes a mount of type `overlay` whose source is
the directory below: where its upper layer lives is the engine's to choose. Nothing here looks at the file system,
except to resolve a relative path.
"""

from __future__ import annotations

from jubako.engine.parse.paths import parse_source, parse_target
from jubako.engine.parse.sizes import is_digits, parse_bool, parse_number, parse_octal, parse_size, refuse
from jubako.spec.types import Mount

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable")
# Pairs of options of which one may stand.
_EITHER = (
    ("ro", "rw"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("bind", "rbind"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
    ("relatime", "norelatime"),
)
_FLAGS = (*(option for pair in _EITHER for option in pair), "strictatime")
# Relabelling and caching mean nothing without SELinux and a virtual machine: accepted by docker everywhere, too.
_WITHOUT_EFFECT = ("z", "Z", "cached", "delegated", "consistent", "default", "nocopy")
_NO_VOLUMES = "named volumes are not supported yet"


def parse_volume(value: str, directory: str) -> Mount:
    """`-v SOURCE:TARGET[:OPTIONS]`; a relative source (`.`, `./x`, `../x`) counts from `directory`."""
    parts = value.split(":")
    if len(parts) > 3:
        raise refuse("volume", value, "there are more than two colons", "a path with a colon needs --mount")
    if len(parts) == 1:
        parse_target(value, "volume", value)
        raise refuse(
            "volume", value, "anonymous volumes are not supported yet", "give a path as SOURCE:TARGET, or use --tmpfs"
        )
    source, target = parts[0], parse_target(parts[1], "volume", value)
    if source and not source.startswith(("/", "./", "../")) and source not in (".", ".."):
        raise refuse("volume", value, _NO_VOLUMES, f"give a path: {'./' + source if '/' in source else '/' + source}")
    path = parse_source(source, directory, "volume", value)
    options = parts[2].split(",") if len(parts) == 3 else []
    return _bind(path, target, options, "volume", value)


def parse_tmpfs(value: str) -> Mount:
    """`--tmpfs TARGET[:OPTIONS]`."""
    target, _, rest = value.partition(":")
    return _tmpfs(parse_target(target, "tmpfs", value), rest.split(",") if rest else [], "tmpfs", value)


def parse_mount(value: str, directory: str) -> Mount:
    """`--mount type=...,source=...,target=...,OPTIONS`, a line of CSV as docker reads it."""
    kind, source, target = "volume", "", ""
    options: list[str] = []
    for field in split_fields(value):
        key, equals, argument = field.partition("=")
        key = key.lower()
        if key == "type":
            kind = argument
        elif key in ("source", "src"):
            source = argument
        elif key in ("target", "destination", "dst"):
            target = argument
        elif key in ("readonly", "ro", "rw"):
            said = parse_bool(argument, "mount", value) if equals else True
            options.append("ro" if said == (key != "rw") else "rw")
        elif key == "bind-propagation":
            if argument not in PROPAGATIONS:
                raise refuse("mount", value, f"{argument!r} is no propagation", f"one of {', '.join(PROPAGATIONS)}")
            options.append(argument)
        elif key in ("bind-nonrecursive", "bind-recursive"):
            options.extend(_recursion(key, argument if equals else "true", value))
        elif key in ("tmpfs-size", "tmpfs-mode"):
            options.append(f"{key[6:]}={argument}")
        elif key not in ("relabel", "consistency", "notmpcopyup"):
            options.append(field)
    if kind == "volume":
        raise refuse("mount", value, _NO_VOLUMES, "say type=bind and give a path, or type=tmpfs")
    parsed = parse_target(target, "mount", value)
    if kind == "bind":
        return _bind(parse_source(source, directory, "mount", value), parsed, options, "mount", value)
    if source and kind in ("tmpfs", "devpts", "mqueue"):
        raise refuse("mount", value, f"type {kind} has no source")
    if kind == "tmpfs":
        return _tmpfs(parsed, options, "mount", value)
    if kind == "devpts":
        return _devpts(parsed, options, value)
    if kind == "mqueue":
        _check_flags(options, "mount", value)
        return Mount(parsed, "mqueue", "mqueue", ("nosuid", "nodev", "noexec", *options))
    raise refuse("mount", value, f"there is no type {kind!r}", "bind, tmpfs, devpts or mqueue")


def parse_device(value: str) -> Mount:
    """`--device SOURCE[:TARGET][:rwm]`: the host's node itself, since a user namespace cannot make one."""
    parts = value.split(":")
    source = parts[0]
    if not source.startswith("/") and "=" in source:
        raise refuse("device", value, "devices of the Container Device Interface are not supported")
    if not source.startswith("/") or len(parts) > 3:
        raise refuse("device", value, "must be SOURCE[:TARGET][:rwm] with an absolute SOURCE")
    permissions = "rwm"
    if len(parts) > 1 and not parts[-1].startswith("/"):
        permissions = parts.pop()
    if not permissions or any(letter not in "rwm" or permissions.count(letter) > 1 for letter in permissions):
        raise refuse("device", value, f"permissions {permissions!r} must be some of r, w and m")
    if "r" not in permissions or "w" not in permissions:
        raise refuse(
            "device",
            value,
            "without a device controller, access cannot be narrowed to reading or writing",
            "leave the permissions out; the file's own mode on the host still holds",
        )
    target = parse_target(parts[1] if len(parts) > 1 else source, "device", value)
    path = parse_source(source, "/", "device", value)
    return Mount(target, "bind", path, ("rbind", "rprivate", "nosuid", "noexec", "dev", "rw"))


def split_fields(text: str) -> list[str]:
    """One line of CSV, as docker's `--mount` has it: fields between commas, in double quotes if they hold a comma."""
    fields: list[str] = []
    field, quoted, position = "", False, 0
    while position < len(text):
        character = text[position]
        if character == '"' and quoted and text[position + 1 : position + 2] == '"':
            field, position = field + '"', position + 1
        elif character == '"' and (quoted or not field):
            quoted = not quoted
        elif character == "," and not quoted:
            fields.append(field)
            field = ""
        else:
            field += character
        position += 1
    if quoted:
        raise refuse("mount", text, "a double quote is not closed")
    return [*fields, field]


def _bind(source: str, target: str, options: list[str], flag: str, value: str) -> Mount:
    kept = [option for option in options if option and option not in _WITHOUT_EFFECT]
    if "O" in kept:
        kept.remove("O")
        if any(option in ("ro", "rw", "U", "idmap") or option in PROPAGATIONS for option in kept):
            raise refuse(flag, value, "O makes a throw-away layer: writable, private, and with the owners as they are")
        _check_flags(kept, flag, value)
        return Mount(target, "overlay", source, tuple(kept))
    for option in kept:
        if option in ("U", "chown") or option.startswith(("U=", "chown=")):
            raise refuse(
                flag, value, "jubako does not change the owners of your files", "use --userns keep-id, or chown them"
            )
        if option == "idmap" or option.startswith("idmap="):
            raise refuse(flag, value, "id-mapped binds are not supported yet", "use --userns keep-id")
    _check_flags([option for option in kept if option not in PROPAGATIONS], flag, value)
    spread = [option for option in kept if option in PROPAGATIONS]
    if len(spread) > 1:
        raise refuse(flag, value, f"{' and '.join(spread)} exclude one another")
    first = () if "bind" in kept or "rbind" in kept else ("rbind",)
    last = () if spread else ("rprivate",)
    return Mount(target, "bind", source, (*first, *kept, *last))


def _tmpfs(target: str, options: list[str], flag: str, value: str) -> Mount:
    settings: dict[str, str] = {}
    flags: list[str] = []
    for option in options:
        key, equals, argument = option.partition("=")
        if key == "size" and equals:
            percent = argument.removesuffix("%")
            is_share = percent != argument and is_digits(percent)
            settings[key] = argument if is_share else str(parse_size(argument, flag, value))
        elif key == "mode" and equals:
            settings[key] = f"{parse_octal(argument, flag, value=value):o}"
        elif key in ("uid", "gid") and equals:
            settings[key] = str(parse_number(argument, flag, 0, 0xFFFFFFFE, value))
        elif key in ("nr_inodes", "nr_blocks") and equals:
            settings[key] = str(parse_size(argument, flag, value))
        elif option and option not in ("notmpcopyup", "rprivate", "private"):
            flags.append(option)
    _check_flags(flags, flag, value)
    # docker's and podman's manuals agree on these defaults.
    safe = [off for off, on in (("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")) if on not in flags]
    settings.setdefault("mode", "1777")
    kept = [option for option in flags if option not in safe]
    return Mount(target, "tmpfs", "tmpfs", (*safe, *kept, *(f"{key}={text}" for key, text in settings.items())))


def _devpts(target: str, options: list[str], value: str) -> Mount:
    settings = {"ptmxmode": "0666", "mode": "0620"}
    flags: list[str] = []
    for option in options:
        key, equals, argument = option.partition("=")
        if key in ("mode", "ptmxmode") and equals:
            settings[key] = f"{parse_octal(argument, 'mount', 0o777, value):04o}"
        elif key in ("uid", "gid", "max") and equals:
            settings[key] = str(parse_number(argument, "mount", 0, 0xFFFFFFFE, value))
        else:
            flags.append(option)
    _check_flags(flags, "mount", value)
    texts = (f"{key}={text}" for key, text in settings.items())
    return Mount(target, "devpts", "devpts", ("nosuid", "noexec", "newinstance", *flags, *texts))


def _recursion(key: str, argument: str, value: str) -> tuple[str, ...]:
    if key == "bind-nonrecursive":
        return ("bind",) if parse_bool(argument, "mount", value) else ("rbind",)
    if argument == "disabled":
        return ("bind",)
    if argument in ("enabled", "true"):
        return ("rbind",)
    raise refuse("mount", value, f"bind-recursive={argument} is not supported", "enabled or disabled")


def _check_flags(options: list[str], flag: str, value: str) -> None:
    for option in options:
        if option not in _FLAGS:
            raise refuse(flag, value, f"there is no option {option!r}", f"see `jubako run --help`, --{flag}")
    for one, other in _EITHER:
        if one in options and other in options:
            raise refuse(flag, value, f"{one} and {other} exclude one another")
