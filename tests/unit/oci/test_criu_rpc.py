"""The messages to and from criu; the bytes are those that criu's own rpc.proto gives with Google's compiler."""

from __future__ import annotations

import pytest

from jubako.oci import criu_rpc as rpc


def test_a_request_is_encoded_as_criu_reads_it():
    message = rpc.request(
        rpc.DUMP,
        [
            ("images_dir_fd", 7),
            ("pid", 70000),
            ("leave_running", True),
            ("shell_job", False),
            ("root", "/r"),
            ("ext_mnt", rpc.pair("/data", "/srv/ä")),
            ("inherit_fd", rpc.pair("pipe:[5]", 300)),
            ("manage_cgroups_mode", rpc.CGROUP_MODES["ignore"]),
        ],
    )
    assert message.hex() == (
        "08011232080710f0a20418016a022f72ba01100a052f6461746112072f7372762fc3a4da010d0a08706970653a5b355d10ac02900200"
    )


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (
            "080610012a150a1073657475702d6e616d65737061636573109221",
            rpc.Answer(rpc.NOTIFY, True, script="setup-namespaces", pid=4242),
        ),
        ("08021001220308ac02", rpc.Answer(rpc.RESTORE, True, pid=300)),
        ("080a10015206080410012001", rpc.Answer(rpc.VERSION, True, version=40101)),
        ("0809100142020801", rpc.Answer(rpc.FEATURE_CHECK, True, mem_track=True)),
        ("0801100038344a026e6f", rpc.Answer(rpc.DUMP, False, errno=52, text="no")),
    ],
)
def test_an_answer_is_understood(data: str, answer: rpc.Answer):
    assert rpc.read_answer(bytes.fromhex(data)) == answer


def test_fields_that_nobody_knows_are_passed_over():
    known = bytes.fromhex("08021001220308ac02")
    unknown = rpc.encode(((200, "new"), (201, 1 << 40))) + b"\xcd\x0c\1\2\3\4" + b"\xd1\x0c12345678"
    assert rpc.read_answer(unknown + known) == rpc.read_answer(known)


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\xff" * 12, b"\x0d\x01"])
def test_what_is_no_message_is_refused(data: bytes):
    with pytest.raises(ValueError, match=r"a (field|number) is"):
        rpc.decode(data)


def test_consent_and_refusal_differ():
    assert rpc.consent(True).hex() == "08061801"
    assert rpc.consent(False).hex() == "08061800"
