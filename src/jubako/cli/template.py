r"""Go templates, as far as `docker … --format` is used: fields, pipelines, `if`, `range`, `with`, and docker's
functions.

Follows Go's text/template and docker's additions (`json`, `join`, `upper`, `lower`, `title`, `split`, `pad`,
`truncate`, `println`). As with docker, `\t` and `\n` in the text become a tab and a line end. What is not understood
is an error, never printed as is.
"""

from __future__ import annotations

import re

from jubako import jsontext
from jubako.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<number>-?\d+)|(?P<sign>[|()])|(?P<word>[$A-Za-z_.][\w.$]*))"""
)
_ESCAPES = {"\\t": "\t", "\\n": "\n", '\\"': '"', "\\\\": "\\"}


class Template:
    """A parsed template. Raises `UsageError` when the text is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        pieces = re.split(r"\{\{(.*?)\}\}", text.replace("\\t", "\t").replace("\\n", "\n"), flags=re.DOTALL)
        self._pieces = _trimmed(pieces)
        self._position = 0
        self._body, end = self._parse_body()
        if end:
            raise self._wrong(f"{{{{{end}}}}} without a beginning")

    def fill(self, data: Any) -> str:
        """The text for `data` (a mapping)."""
        parts: list[str] = []
        _run(self._body, data, data, parts)
        return "".join(parts)

    def _wrong(self, reason: str) -> UsageError:
        hint = "examples: '{{.ID}}', '{{json .}}', '{{range .Mounts}}{{.Source}}{{end}}', 'table {{.ID}}\\t{{.Names}}'"
        return UsageError("read the template", repr(self.text), reason=reason, hint=hint)

    def _parse_body(self) -> tuple[list[Any], str]:
        """The nodes up to the matching `end` or `else`, and that word."""
        nodes: list[Any] = []
        while self._position < len(self._pieces):
            piece = self._pieces[self._position]
            is_action = self._position % 2 == 1
            self._position += 1
            if not is_action:
                if "{{" in piece or "}}" in piece:
                    raise self._wrong("'{{' and '}}' do not match")
                nodes.append(piece)
                continue
            action = piece.strip()
            word = action.split(None, 1)[0] if action else ""
            if action.startswith("/*"):
                continue
            if word in ("end", "else"):
                return nodes, action
            if word in ("if", "range", "with"):
                nodes.append(self._parse_block(word, action[len(word) :]))
            else:
                nodes.append(("print", self._parse_pipeline(action)))
        return nodes, ""

    def _parse_block(self, word: str, condition: str) -> tuple[Any, ...]:
        pipeline = self._parse_pipeline(condition)
        body, end = self._parse_body()
        otherwise: list[Any] = []
        if end == "else":
            otherwise, end = self._parse_body()
        elif end.startswith("else "):
            nested = end[5:].strip()
            if not nested.startswith("if "):
                raise self._wrong(f"{{{{{end}}}}} is not understood")
            return (word, pipeline, body, [self._parse_block("if", nested[2:])])
        if end != "end":
            raise self._wrong(f"{{{{{word}}}}} has no {{{{end}}}}")
        return (word, pipeline, body, otherwise)

    def _parse_pipeline(self, text: str) -> list[Any]:
        tokens: list[tuple[str, str]] = []
        position, stripped = 0, text.strip()
        while position < len(stripped):
            match = _TOKEN.match(stripped, position)
            if match is None:
                raise self._wrong(f"{stripped[position:]!r} is not understood")
            assert match.lastgroup is not None
            kind, found = match.lastgroup, match.group(match.lastgroup)
            joined = match.start(kind) == position and tokens and tokens[-1] == ("sign", ")")
            tokens.append(("member" if joined and found[0] == "." else kind, found))
            position = match.end()
        tokens.reverse()  # so that the next one is popped
        pipeline = self._parse_commands(tokens)
        if tokens:
            raise self._wrong("the parentheses do not match")
        return pipeline

    def _parse_commands(self, tokens: list[tuple[str, str]]) -> list[Any]:
        commands: list[Any] = [[]]
        while tokens:
            kind, text = tokens[-1]
            if text == ")" and kind == "sign":
                break
            tokens.pop()
            if kind == "sign" and text == "|":
                commands.append([])
            elif kind == "sign":
                commands[-1].append(("pipeline", self._parse_commands(tokens)))
                if not tokens:
                    raise self._wrong("the parentheses do not match")
                tokens.pop()
                if tokens and tokens[-1][0] == "member":  # (index .Mounts 0).Source
                    commands[-1].append(("member", (commands[-1].pop(), tokens.pop()[1])))
            elif kind == "string":
                commands[-1].append(("value", _unquoted(text)))
            elif kind == "number":
                commands[-1].append(("value", int(text)))
            elif text in ("true", "false", "nil"):
                commands[-1].append(("value", {"true": True, "false": False, "nil": None}[text]))
            elif text[0] in ".$":
                commands[-1].append(("field", text))
            elif text in _FUNCTIONS and not commands[-1]:
                commands[-1].append(("function", text))
            else:
                known = ", ".join(sorted(_FUNCTIONS))
                raise self._wrong(f"there is no function {text!r} (there are {known}); a field begins with a dot")
        if not all(commands):
            raise self._wrong("an empty pair of braces or an empty pipe")
        return commands


def text_of(value: Any) -> str:
    """A value as Go prints it: `true`, `[a b]`, `map[k:v]`, nothing for what is not there."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{name}:{text_of(inner)}" for name, inner in sorted(value.items())) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(text_of(item) for item in value) + "]"
    return str(value)


def _trimmed(pieces: list[str]) -> list[str]:
    """`{{-` and `-}}` eat the blanks beside them."""
    for index in range(1, len(pieces), 2):
        if pieces[index].startswith("- "):
            pieces[index] = pieces[index][2:]
            pieces[index - 1] = pieces[index - 1].rstrip()
        if pieces[index].endswith(" -"):
            pieces[index] = pieces[index][:-2]
            pieces[index + 1] = pieces[index + 1].lstrip()
    return pieces


def _unquoted(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    return re.sub(r"\\.", lambda match: _ESCAPES.get(match.group(), match.group()), text[1:-1])


def _run(nodes: list[Any], here: Any, root: Any, parts: list[str]) -> None:
    for node in nodes:
        if isinstance(node, str):
            parts.append(node)
            continue
        kind, pipeline, *bodies = node
        value = _value_of(pipeline, here, root)
        if kind == "print":
            parts.append(text_of(value))
        elif kind == "range" and value:
            for item in value.values() if isinstance(value, dict) else value:
                _run(bodies[0], item, root, parts)
        elif value:
            _run(bodies[0], value if kind == "with" else here, root, parts)
        else:
            _run(bodies[1], here, root, parts)


def _value_of(pipeline: list[Any], here: Any, root: Any) -> Any:
    """Run the commands left to right, each getting the one before it as its last argument."""
    carried: list[Any] = []
    for command in pipeline:
        kind, text = command[0]
        arguments = [_operand(part, here, root) for part in command[1:]] + carried
        if kind == "function":
            try:
                carried = [_FUNCTIONS[text](*arguments)]
            except (TypeError, ValueError, AttributeError, LookupError) as error:
                raise UsageError("fill the template", text, reason=str(error)) from None
        else:
            value = _operand(command[0], here, root)
            if arguments and isinstance(value, dict) and isinstance(arguments[0], str):
                value = value.get(arguments[0], "")  # docker's {{.Label "name"}}
            carried = [value]
    return carried[0]


def _operand(part: tuple[str, Any], here: Any, root: Any) -> Any:
    kind, content = part
    if kind == "member":
        return _operand(("field", content[1]), _operand(content[0], here, root), root)
    if kind == "value":
        return content
    if kind == "pipeline":
        return _value_of(content, here, root)
    if kind == "function":
        return _FUNCTIONS[content]()
    value = root if content[0] == "$" else here
    for name in content.lstrip("$").split("."):
        if name:
            value = _field(value, name, content)
    return value


def _field(value: Any, name: str, path: str) -> Any:
    if isinstance(value, dict):
        try:
            return value[name]
        except KeyError:
            for key in value:  # Go's names and JSON's differ in case
                if key.lower() == name.lower():
                    return value[key]
            if name == "Label":
                return value.get("LabelMap", {})
            known = ", ".join(str(key) for key in value)
            raise UsageError(
                "fill the template", path, reason="there is no such field", hint=f"there are {known}"
            ) from None
    if value is None:
        return None
    raise UsageError("fill the template", path, reason=f"{text_of(value)} has no fields")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, dict) else value[key]
    return value


def _equal(value: Any, *others: Any) -> bool:
    return any(value == other for other in others)


def _and(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


def _printf(form: str, *values: Any) -> str:
    shown = tuple(
        text_of(value) if not isinstance(value, int) or isinstance(value, bool) else value for value in values
    )
    return re.sub(r"%([-0-9.]*)v", r"%\1s", form).replace("%q", '"%s"') % shown


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "json": jsontext.dumps,
    "join": lambda items, separator: separator.join(text_of(item) for item in items),
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "title": lambda text: text.title(),
    "split": lambda text, separator: text.split(separator),
    "pad": lambda text, before, after: " " * before + text + " " * after,
    "truncate": lambda text, length: text[:length],
    "println": lambda *values: " ".join(text_of(value) for value in values) + "\n",
    "print": lambda *values: "".join(text_of(value) for value in values),
    "printf": _printf,
    "len": len,
    "index": _index,
    "eq": _equal,
    "ne": lambda value, other: value != other,
    "lt": lambda value, other: value < other,
    "gt": lambda value, other: value > other,
    "le": lambda value, other: value <= other,
    "ge": lambda value, other: value >= other,
    "not": lambda value: not value,
    "and": _and,
    "or": _or,
}
