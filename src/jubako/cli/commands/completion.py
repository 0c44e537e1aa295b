"""`jubako completion SHELL`: print the script that teaches a shell to complete our commands."""

from __future__ import annotations

from jubako.cli.completion_scripts import SCRIPTS
from jubako.cli.flags import Argument, Command, Values
from jubako.errors import UsageError

COMMAND = Command(
    "completion",
    "print the completion script for a shell",
    arguments=(Argument("SHELL", "shell", help="bash, zsh or fish", choices=tuple(SCRIPTS)),),
    description="""
        The script completes commands, flags and their values, and the names of containers and images as they are now.
    """,
    examples=(
        (
            "Bash.",
            "echo 'source <(jubako completion bash)' >> ~/.bashrc",
        ),
        ("Zsh: into a directory of $fpath.", "jubako completion zsh > ~/.zfunc/_jubako"),
        ("Fish.", "jubako completion fish > ~/.config/fish/completions/jubako.fish"),
    ),
)


def run(values: Values) -> int:
    script = SCRIPTS.get(values.shell)
    if script is None:
        raise UsageError("completion", values.shell, reason="unknown shell", hint=f"there are {', '.join(SCRIPTS)}")
    print(script, end="")
    return 0
