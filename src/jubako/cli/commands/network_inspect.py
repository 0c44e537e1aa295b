"""`jubako network inspect`: everything known of networks, and who is on them."""

from __future__ import annotations

from jubako.cli.flags import SOME, Argument, Command, Values
from jubako.cli.output import INSPECT_FORMAT_FLAG, print_details

COMMAND = Command(
    "network inspect",
    "show everything known of bridge networks, and the containers on them",
    flags=(INSPECT_FORMAT_FLAG,),
    arguments=(Argument("NETWORK", "networks", SOME, completes="bridge-network"),),
    examples=(("Its first subnet.", "jubako network inspect -f '{{(index .subnets 0).subnet}}' back"),),
)


def run(values: Values) -> int:
    from jubako.engine.networks import inspect_network
    from jubako.paths import find_paths

    return print_details(values, values.networks, lambda name: inspect_network(find_paths(), name))
