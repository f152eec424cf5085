"""
Readable random names for versions that were given none: ``calm_otter_42``.

Random and not counted: two loggers that count up meet at every number, and each collision costs a round trip (200
writers took 19,227 puts in a trial). With 409,600 names two of 200 versions of a model collide once in 20 times, and
the loser draws again.
"""

from __future__ import annotations

import secrets


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ADJECTIVES = _words("""
    able agile amber apt bold brave breezy bright brisk calm candid clear clever cool crisp curious deft eager
    early easy fair fine fleet fond frank fresh gentle glad golden good grand happy hardy honest humble jolly
    keen kind lively loyal lucid lucky mellow merry mild modest neat nimble noble plain polite proud quick
    quiet rapid ready sharp silver sincere sober steady sunny swift tidy
""")
_NOUNS = _words("""
    acorn alder anchor apple aspen badger beacon birch bison brook canyon cedar cliff cloud comet coral crane
    cricket delta dove eagle ember falcon fern finch fjord forest fox glacier grove harbor hawk hazel heron
    island jasper lark lemur lily lynx maple meadow moon oak ocean orchid osprey otter owl panda pebble pine
    plover quartz raven reef river robin sparrow spruce stone thistle willow wren
""")


def random_version_name() -> str:
    """
    Return a name that most likely no version has.

    >>> adjective, noun, number = random_version_name().split("_")
    >>> len(number)
    2
    """
    return f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_NOUNS)}_{secrets.randbelow(100):02}"
