"""Options of repack have no defaults."""

from __future__ import annotations

import dataclasses

from reasonpack.cli.repack import command as repack
from reasonpack.datasets.options import Options


def test_repack_has_no_default_for_what_may_stay_as_it_was() -> None:
    given = repack.make_context("repack", ["DIR", "--output", "out"]).params
    names = {each.name for each in dataclasses.fields(Options)} & given.keys()
    assert len(names) == 10
    assert {given[name] for name in names} == {None, ()}
