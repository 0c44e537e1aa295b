"""Names of images, read and completed as docker does.

`busybox` means `docker.io/library/busybox:latest`. The grammar is that of the distribution project's *reference*
package: an optional domain with a port, lower-case path components, a tag, a digest. This module is on the start
path, so the grammar is checked by hand rather than with regular expressions.
"""

from __future__ import annotations

from jubako.errors import UsageError
from jubako.record import record

DEFAULT_DOMAIN = "docker.io"
OFFICIAL = "library"
DEFAULT_TAG = "latest"
MAX_NAME = 255
MAX_TAG = 128

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_LETTERS = _WORD - frozenset("_")
_HEX = frozenset("0123456789abcdef")
_DIGITS = frozenset("0123456789")


@record
class Reference:
    """A complete name: `domain/path`, with a tag, a digest or both. `str()` of it is what the store keeps."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """The name without tag and digest, `docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def short(self) -> str:
        """The form people type: `busybox:latest`, `foo/bar:1`, `localhost:5000/x:1`."""
        return self._with_suffix(self.short_repository)

    @property
    def short_repository(self) -> str:
        """`repository` without what docker fills in."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        prefix = OFFICIAL + "/"
        rest = self.path.removeprefix(prefix)
        return self.path if "/" in rest or rest == self.path else rest

    def __str__(self) -> str:
        return self._with_suffix(self.repository)

    def _with_suffix(self, name: str) -> str:
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """The complete reference that `text` means; `:latest` is added where neither tag nor digest is given.

    Raises `UsageError` saying which part is malformed.
    """
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _malformed(text, f"{digest!r} is not a digest (sha256: and 64 hexadecimal digits)")
    head, colon, tag = rest.rpartition(":")
    if colon and "/" not in tag:
        rest = head
        if not _is_tag(tag):
            raise _malformed(text, f"{tag!r} is not a tag (letters, digits, '_', '.', '-', at most {MAX_TAG})")
    else:
        tag = ""
    domain, path = _split_domain(rest)
    if not path:
        raise _malformed(text, "the name is empty")
    if not _is_domain(domain):
        raise _malformed(text, f"{domain!r} is not a host name with an optional port")
    for component in path.split("/"):
        if not _is_component(component):
            raise _malformed(text, _component_fault(component))
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise _malformed(text, f"the name is longer than {MAX_NAME} characters")
    if is_hex(path.removeprefix(OFFICIAL + "/"), 64) and domain == DEFAULT_DOMAIN:
        raise _malformed(text, "64 hexadecimal digits are an image id, not a name")
    if not tag and not digest:
        tag = DEFAULT_TAG
    return Reference(domain, path, tag, digest)


def is_digest(text: str) -> bool:
    """Whether `text` is a digest that jubako can verify: `sha256:` and 64 lower-case hexadecimal digits."""
    algorithm, _, value = text.partition(":")
    return algorithm == "sha256" and is_hex(value, 64)


def is_hex(text: str, length: int = 0) -> bool:
    """Whether `text` is lower-case hexadecimal (of exactly `length` digits, if given)."""
    return bool(text) and _HEX.issuperset(text) and (not length or len(text) == length)


def _split_domain(name: str) -> tuple[str, str]:
    """docker's rule: the first component is a domain when it could not be a path component or is `localhost`."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and path and "/" not in path:
        path = f"{OFFICIAL}/{path}"
    return domain, path


def _is_domain(domain: str) -> bool:
    if domain.startswith("["):
        host, _, port = domain.partition("]")
        if not port and not domain.endswith("]"):
            return False
        inside = host[1:]
        if not inside or not frozenset(inside) <= _HEX | frozenset("ABCDEF:"):
            return False
        return not port or (port[0] == ":" and _is_port(port[1:]))
    host, colon, port = domain.partition(":")
    if colon and not _is_port(port):
        return False
    return all(
        label and _LETTERS.issuperset(label.replace("-", "")) and label[0] != "-" and label[-1] != "-"
        for label in host.split(".")
    )


def _is_port(text: str) -> bool:
    return bool(text) and _DIGITS.issuperset(text)


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= MAX_TAG and text[0] in _WORD and (_WORD | frozenset(".-")).issuperset(text)


def _is_component(text: str) -> bool:
    """`[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*`."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    separator = ""
    for character in text:
        if character in _LOWER:
            if separator and separator not in (".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        elif character in "._-":
            separator += character
        else:
            return False
    return True


def _component_fault(component: str) -> str:
    if not component:
        return "a component of the name is empty"
    if component.lower() != component:
        return f"{component!r} has upper-case letters; a name is lower case"
    return f"{component!r} may hold only a-z, 0-9 and single '.', '_', '__' or '-' between them"


def _malformed(text: str, reason: str) -> UsageError:
    return UsageError("read image name", repr(text), reason=reason)
