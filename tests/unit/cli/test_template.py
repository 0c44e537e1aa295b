"""`--format` reads Go templates as docker's users write them."""

from __future__ import annotations

import pytest

from jubako.cli.template import Template, text_of
from jubako.errors import UsageError

CONTAINER = {
    "ID": "0123456789ab",
    "Names": "web",
    "Labels": "a=b",
    "LabelMap": {"a": "b"},
    "State": {"Running": True, "Pid": 42, "Error": ""},
    "Mounts": [{"Source": "/a", "Destination": "/b"}, {"Source": "/c", "Destination": "/d"}],
    "Config": {"Cmd": ["sh", "-c"], "Env": []},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.ID}} {{.Names}}", "0123456789ab web"),
        ("{{ .ID }}", "0123456789ab"),
        (r"{{.ID}}\t{{.Names}}\n", "0123456789ab\tweb\n"),
        ("{{.State.Pid}}", "42"),
        ("{{.State.Running}}", "true"),
        ("{{.state.pid}}", "42"),
        ("{{json .State}}", '{"Running":true,"Pid":42,"Error":""}'),
        ("{{json .Config.Cmd}}", '["sh","-c"]'),
        ("{{.Config.Cmd}}", "[sh -c]"),
        ("{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}", "/a:/b /c:/d "),
        ("{{range .Config.Env}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Error}}bad{{else if .State.Running}}good{{end}}", "good"),
        ("{{with .State}}{{.Pid}}{{end}}", "42"),
        ("{{range .Mounts}}{{$.ID}} {{end}}", "0123456789ab 0123456789ab "),
        ('{{join .Config.Cmd ","}}', "sh,-c"),
        ("{{.Names | upper}}", "WEB"),
        ('{{printf "%-6s|%d" .Names .State.Pid}}', "web   |42"),
        ('{{printf "%v" .State.Running}}', "true"),
        ("{{len .Mounts}}", "2"),
        ("{{(index .Mounts 1).Source}}", "/c"),
        ("{{(index .Config.Cmd 0) | upper}}", "SH"),
        ('{{index .LabelMap "a"}}', "b"),
        ('{{.Label "a"}}', "b"),
        ('{{if eq .Names "web"}}yes{{end}}', "yes"),
        ('{{if and .State.Running (ne .Names "db")}}yes{{end}}', "yes"),
        ("a {{- .Names -}} b", "awebb"),
        ("{{/* nothing */}}x", "x"),
        ("no braces", "no braces"),
        ("{{println .ID}}", "0123456789ab\n"),
        ("{{truncate .ID 4}}", "0123"),
    ],
)
def test_a_template_is_filled_as_docker_fills_it(template, text):
    assert Template(template).fill(CONTAINER) == text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{.ID", "do not match"),
        ("{{if .ID}}x", "has no {{end}}"),
        ("{{end}}", "without a beginning"),
        ("{{}}", "an empty pair of braces"),
        ("{{.ID |}}", "an empty pair of braces or an empty pipe"),
        ("{{nonsense .ID}}", "there is no function 'nonsense'"),
        ("{{(json .ID}}", "parentheses"),
        ("{{json .ID)}}", "parentheses"),
        ("{{~}}", "is not understood"),
    ],
)
def test_a_malformed_template_is_refused_with_examples(template, reason):
    with pytest.raises(UsageError) as caught:
        Template(template)
    assert reason in str(caught.value)
    assert "{{.ID}}" in caught.value.hint


def test_a_field_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(UsageError) as caught:
        Template("{{.Nmae}}").fill(CONTAINER)
    assert "there is no such field" in str(caught.value)
    assert "Names" in caught.value.hint


def test_a_function_given_nonsense_is_an_error_of_the_user():
    for template in ("{{len .State.Pid}}", "{{join .State.Pid}}", "{{index .Mounts 7}}"):
        with pytest.raises(UsageError):
            Template(template).fill(CONTAINER)


def test_values_are_printed_as_go_prints_them():
    assert text_of({"b": 1, "a": [True, None]}) == "map[a:[true <no value>] b:1]"
