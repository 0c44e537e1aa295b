"""What is said to the first process of a container that was created and waits: through the socket `SOCKET` in the
container's state directory, one word a connection."""

from __future__ import annotations

SOCKET = "start"
START = b"start"
"""Go on and become the program; what fails comes back as a message, and the end of the connection is success."""
NAMESPACES = b"namespaces"
"""Hand out your namespaces: their types, separated by commas, come with a descriptor each; and wait on."""
