"""A template cannot take more time, memory or chance than it is given."""

from __future__ import annotations

import datetime
import mmap
import resource
import signal
import sys
import time

import pytest
from rendered import HELLO, compiled, rendered

from reasonpack.errors import RecordError, TemplateError
from reasonpack.templates import limits
from reasonpack.templates.template import ChatTemplate


def test_clock_needs_a_date() -> None:
    source = "{{ strftime_now('%d %b %Y') }}"
    with pytest.raises(TemplateError, match=r"reads the clock .* Fix: pass --date"):
        rendered(source)
    assert compiled(source, date=datetime.date(2026, 1, 2)).render(HELLO) == "02 Jan 2026"


@pytest.mark.parametrize("source", ["{{ [1, 2, 3] | random }}", "{{ lipsum() }}"])
def test_chance_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="draws at random"):
        rendered(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[-1].__subclasses__() }}",
        "{{ ''.__class__.__base__ }}",
        "{{ raise_exception.__globals__['Path'] }}",
        "{{ self.__init__.__globals__ }}",
        "{{ ('{0.__class__.__base__}').format(messages) }}",
        "{{ (messages | map(attribute='__class__') | list)[0].mro() }}",
    ],
)
def test_template_stays_in_the_sandbox(source: str) -> None:
    with pytest.raises((TemplateError, RecordError)) as caught:
        rendered(source)
    assert "unsafe" in str(caught.value) or "undefined" in str(caught.value)


@pytest.mark.parametrize(
    "source", ["{{ 'x' * 99999999 }}", "{{ 9 ** 9999 }}", "{{ [0] * 99999999 }}"]
)
def test_much_out_of_little_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="that is too large"):
        rendered(source)


ENDLESS = (
    "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)


def test_endless_template_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    template = compiled(ENDLESS)
    monkeypatch.setattr(limits, "SECONDS", 0.1)
    with pytest.raises(TemplateError, match=r"probe: took more than 0\.1 s"):
        template.render(HELLO)
    assert rendered("{{ messages[0].content }}") == "Hi"  # the timer is off again


def work(seconds: float) -> None:
    """Take so much time of the CPU."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_the_timer_of_a_block_before_bounds_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It rings once for nothing, outside of any block or inside one that has time left."""
    template = compiled("{{ messages[0].content }}")
    monkeypatch.setattr(limits, "SECONDS", 0.2)
    with limits.ready_for_bounds():
        assert template.render(HELLO) == "Hi"
        time.sleep(0.3)  # it rings here
        with limits.bounds("first"):
            work(0.1)
        with limits.bounds("second"):
            work(0.15)  # and here, too early for this one
        with limits.bounds("third"):
            time.sleep(0.5)  # while others use the CPU, no time of this one is over
        with (
            pytest.raises(TemplateError, match=r"endless: took more than 0\.2 s"),
            limits.bounds("endless"),
        ):
            work(9)  # too early once, and then in time
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_alarm_of_the_caller_is_his_again_after_each_block() -> None:
    """The handler is set once for many blocks; between them no timer runs and no limit holds."""
    template = compiled("{{ messages[0].content }}")
    before = signal.signal(signal.SIGALRM, ringing := lambda *_: None)
    free = resource.getrlimit(resource.RLIMIT_AS)
    try:
        with limits.catching_alarms():
            for _ in range(2):
                assert template.render(HELLO) == "Hi"
                assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
                assert resource.getrlimit(resource.RLIMIT_AS) == free
                assert signal.getsignal(signal.SIGALRM) is not ringing
        assert signal.getsignal(signal.SIGALRM) is ringing
        template.render(HELLO)
        assert signal.getsignal(signal.SIGALRM) is ringing
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit needs Linux")
def test_greedy_template_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    doubling = (
        "{% set ns = namespace(text='0123456789' * 100000) %}"
        "{% for _ in range(40) %}{% set ns.text = ns.text ~ ns.text %}{% endfor %}"
    )
    monkeypatch.setattr(limits, "HEADROOM", 256 << 20)
    with pytest.raises(TemplateError, match=r"took 0\.25 GiB more, expected a rendering"):
        rendered(doubling)
    monkeypatch.undo()
    assert len(bytearray(300 << 20)) == 300 << 20  # the limit is off again


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit needs Linux")
def test_memory_that_others_take_meanwhile_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADROOM", 256 << 20)
    with limits.bounds("before"):
        pass
    # Such as the stacks and heaps of threads that encode.
    with mmap.mmap(-1, 1 << 30), limits.bounds("after"):
        assert len(bytearray(100 << 20)) == 100 << 20


@pytest.mark.parametrize("method", ["messages[k](1)", "(messages | attr(k))(1)"])
def test_a_method_that_is_named_in_pieces_changes_nothing(method: str) -> None:
    source = (
        "{% set k = ['app', 'end'] | join %}{% set _ = " + method + " %}{{ messages | length }}"
    )
    template = ChatTemplate.compile(source, name="pieces")
    with pytest.raises(TemplateError, match="only reads its messages"):
        template.render(HELLO)
    assert len(HELLO) == 1
