"""Names for containers that got none: an adjective and a dish or its lacquerware, as easy to tell apart as to type."""

from __future__ import annotations

import os

_ADJECTIVES = (
    "amber", "bold", "brave", "bright", "brisk", "calm", "clever", "cosy", "crisp", "deft", "eager", "early", "fair",
    "fine", "fresh", "gentle", "glad", "golden", "happy", "honest", "humble", "keen", "kind", "lively", "lucid",
    "merry", "mild", "neat", "nimble", "noble", "plain", "proud", "quick", "quiet", "rapid", "ready", "sharp",
    "shiny", "silent", "sincere", "smooth", "snug", "solid", "spry", "steady", "sunny", "swift", "tidy", "tranquil",
    "vivid", "warm", "witty",
)  # fmt: skip
_NOUNS = (
    "adzuki", "bento", "chawan", "daikon", "dango", "dashi", "donburi", "edamame", "furoshiki", "gobo", "gohan",
    "hashi", "kaiseki", "kamaboko", "katsuo", "kinako", "kombu", "konbu", "kuro", "maki", "makie", "matcha", "mirin",
    "miso", "mochi", "natto", "nori", "ochazuke", "oden", "onigiri", "ponzu", "raden", "ramen", "renkon", "sansho",
    "sencha", "shiitake", "shiso", "soba", "takuan", "tamago", "tansu", "tofu", "udon", "umeboshi", "urushi",
    "wakame", "warabi", "yokan", "yuzu",
)  # fmt: skip


def random_name(attempt: int = 0) -> str:
    """A name such as `quiet_soba`; from the third attempt on with a number, since many are taken."""
    noise = os.urandom(6)
    name = f"{_ADJECTIVES[noise[0] % len(_ADJECTIVES)]}_{_NOUNS[noise[1] % len(_NOUNS)]}"
    return name if attempt < 2 else f"{name}{int.from_bytes(noise[2:5], 'big') % 10 ** min(attempt, 6)}"
