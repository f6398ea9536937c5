"""Lines that repeat each other are decoded as each is by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reasonpack.errors import RecordError
from reasonpack.records import repeated_items, strict_json
from reasonpack.records.repeated_items import RepeatedItems

ELEMENTS = [
    *('{"role": "user", "content": "a, ]}"}', '{"role":"user","content":"\\u00e9 \\" \\\\"}'),
    *("7", "77", "{", "", "[" * 97 + "]" * 97, '{"role": "user", "content": "\\ud800"}'),
    *('{"a": 1, "a": 2}', '{"n": 1.50}', '{"n": NaN}', '{"deep": [[{"x": null}]]}', "-1", "1.0"),
]
FORMS = [
    *('{"messages": %s}', '{"id": %s, "messages": [{"a": 1}]}', '{"request": {"messages": %s}}'),
    *('{"input": %s, "prompt": [{"b": 1}]}', '{"request": {"body": {"input" : %s }}, "id": 1}'),
    *('{"prompt_ids": %s, "messages": [{"a": 1}]}', '{"prompt_token_ids": %s, "id": 1}'),
    *('{"messages": %s, "request": {"messages": [{"a": 1}]}, "id": 1, "id": 2}', "[%s]"),
    *('{"request": {"messages": %s}, "messages": %s}', '{"prompt_ids": %s, "messages": %s}'),
    *('{"messages": %s, "request": {"messages": %s}}', '{"messages": "%s", "input": %s}'),
    '{"prompt_ids": [17041e-317], "messages": %s}',
]


def outcome(decode: Any, line: bytes) -> tuple[str, Any]:
    try:
        value = decode(line)
    except RecordError as error:
        return str(error), None
    return repr(value), value


@pytest.mark.long
@pytest.mark.parametrize("head", [5, 256])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lines_are_decoded_as_by_themselves(
    head: int, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeated_items, "HEAD", head)  # of few bytes, it is found elsewhere, too
    lines, before = RepeatedItems(), (list[str](), list[str]())
    good = st.sampled_from(data.draw(st.sampled_from([ELEMENTS[:2], ELEMENTS[2:4]])))
    forms = st.sampled_from(data.draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=2)))
    for _ in range(4):
        form, texts = data.draw(forms), list[str]()
        for number in range(form.count("%s")):
            kept = data.draw(st.integers(0, len(before[number])))
            more = data.draw(st.lists(good | good | good | st.sampled_from(ELEMENTS), max_size=3))
            before[number][kept:] = more
            between = data.draw(st.sampled_from([",", ", ", " ,\t"]))
            end = data.draw(st.sampled_from(["]", " ]"]))
            texts.append("[" + between.join(before[number]) + end)
        line = (form % (*texts,)).encode()
        assert outcome(lines.decode, line)[0] == outcome(strict_json.decode_line, line)[0]


def test_what_is_repeated_is_the_same_object() -> None:
    """Of two agents that log in turn, too, and where the history is rewritten further on."""
    lines = RepeatedItems()
    one, other = ([{"content": f"{who} {n}" * 99} for n in range(4)] for who in "ab")

    def decoded(items: list[Any]) -> list[Any]:
        found = lines.decode(json.dumps({"id": 1, "request": {"messages": items}}).encode())
        return list(found["request"]["messages"])

    first, second = decoded(one[:2]), decoded(other[:2])
    again, rewritten = decoded(one), decoded([*other[:2], {"content": "new"}, *other[3:]])
    assert all(map(lambda a, b: a is b, first, again))
    assert all(map(lambda a, b: a is b, second, rewritten))
    assert decoded([*one[:1], *other])[0] is first[0]


def test_ids_that_go_on_are_an_array_too() -> None:
    lines, arrays = RepeatedItems(), list[Any]()
    read = [[5, 6], [5, 67], [5, 6, 7, 8], [5], [5, 6, 2**31 - 1], [1], [1, 2], [1, 2, 3], [1, 2]]
    for ids in read:
        (found,) = lines.decode(json.dumps({"prompt_ids": ids}).encode()).values()
        assert found == ids
        arrays.append(getattr(found, "array", None))
    assert arrays[0] is arrays[5] is None
    known = [
        (ids, each.tolist()) for ids, each in zip(read, arrays, strict=True) if each is not None
    ]
    assert all(ids == array for ids, array in known)
    assert ([5, 6, 7, 8], [5, 6, 7, 8]) in known
    for ids in ([5, -1], [5, 6, 2**31], [5, 6, True]):
        (found,) = lines.decode(json.dumps({"prompt_ids": ids}).encode()).values()
        assert (found, type(found)) == (ids, list)


def test_a_line_that_goes_on_is_decoded_where_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = strict_json.decode
    monkeypatch.setattr(strict_json, "decode", lambda line: seen.append(len(line)) or real(line))
    lines, items = RepeatedItems(), [{"role": "user", "content": "x" * 1_000}] * 20
    for count in [*range(1, 21), 20]:
        for name, value in (("messages", items[:count]), ("prompt_ids", list(range(count * 500)))):
            line = json.dumps({name: value, "id": count}).encode()
            assert lines.decode(line) == {name: value, "id": count}
    assert max(seen[2:]) < 4_000
