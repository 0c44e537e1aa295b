"""The tests' world: who runs the command, what it runs on, and the proof that nothing stays behind.

`account` says as whom commands run, `command` and `terminal` run the installed `jubako`, `rootfs` and `archives` make
what containers start from, `traces` compares the machine before and after, `reaper` keeps lost processes in sight,
`cgroup` delegates a control group, and `programs` names what a test needs of the system.
Fixtures for all of it are in `tests/conftest.py`.
"""
