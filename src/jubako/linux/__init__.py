"""One thin, typed module per kernel interface: a call returns, or raises `OSError` naming itself and its subject."""
