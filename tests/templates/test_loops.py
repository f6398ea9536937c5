"""A rendering with a memo is the rendering without, whatever the template does.

Templates are put together at random from what real ones do with their loops, and from what
would go wrong if the memo looked at less: what stands beside a message, at the start or the
end of the list; what a namespace held before; what a macro reads.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonpack.errors import RecordError, TemplateError
from reasonpack.templates import loop_facts
from reasonpack.templates.loop_facts import EACH, Site
from reasonpack.templates.loops import Memo, _Space
from reasonpack.templates.template import ChatTemplate

pytestmark = pytest.mark.long

Json = dict[str, Any]

HEAD = """
{%- macro show(m) %}<{{ m.role }}{{ ns.count }}{{ add_generation_prompt }}>{% endmacro %}
{%- macro stands_at(at) %}{{ (messages[at] or {}).role }}{% endmacro %}
{%- set at = 1 %}
{%- macro note(m) %}{% set ns.noted = m.content %}{% endmacro %}
{%- set ns = namespace(count=0, last=-1, found=false, noted='') %}
{%- set own = namespace(text='') %}
{%- set size = messages|length %}
{%- set rest = messages[1:] %}
{%- set flag = messages|length > 3 %}
{%- set one = 1 if flag else true %}
{%- set last_request = namespace(place=-1) %}
{%- for m in messages %}
{%- if m.role == 'user' %}{% set last_request.place = loop.index0 %}{% endif %}
{%- endfor %}
"""
TOOLS = [{"role": "f", "content": "x"}, {"role": "g", "content": "y"}]
TAIL = "|{{ ns.count }},{{ ns.last }},{{ ns.found }},{{ ns.noted }},{{ own.text }}"
LISTS = ["messages", "messages[::-1]", "rest", "rest[::-1]", "messages[:-1]", "tools or []"]
PARTS = [
    "{{ m.role }}:{{ m.content }};",
    "{% if loop.first %}F{% endif %}",
    "{% if loop.last %}L{% endif %}",
    "{{ loop.index }}",
    "{{ loop.index0 % 2 }}",
    "{{ loop.revindex }}",
    "{{ loop.length - loop.index0 }}",
    "{% if loop.index0 > ns.last %}A{% else %}B{% endif %}",
    "{% if loop.index0 + 1 == size %}E{% endif %}",
    "{% if ns.last < loop.index %}A{% endif %}",
    "{% if loop.index0 - 2 == ns.last %}A{% endif %}",
    "{% if loop.index + 1 >= ns.last %}A{% endif %}",
    "{% if ns.last <= loop.index0 < ns.last + 2 %}A{% endif %}",
    "{% if loop.index0 + ns.last > ns.last %}A{% endif %}",
    "{% if loop.index0 > ns.last - 2 %}A{% endif %}",
    "{% if loop.index0 > last_request.place %}A{% endif %}",
    "{% if last_request.place <= loop.index + 1 %}{{ m.role }}{% endif %}",
    "{% if loop.index0 > size %}A{% elif loop.index0 > ns.last %}{{ ns.last + 1 }}{% endif %}",
    "{% if 1 < loop.index0 < size - 2 %}M{% endif %}",
    "{% if messages[loop.index0 - 1].role == 'user' %}P{% endif %}",
    "{% if (messages[loop.index0 + 1] or m).role == 'user' %}N{% endif %}",
    "{% if not loop.last and (messages[loop.index0 + 2] or m).role == 'tool' %}T{% endif %}",
    "{{ (messages[loop.index0 - 2] or m).content }}",
    "{{ messages[-1].role }}",
    "{{ (messages[2] or m).role }}",
    "{{ messages[size - 2].role }}",
    "{{ messages[ns.last].role }}",
    "{{ loop.previtem.role if loop.previtem is defined }}",
    "{{ loop.nextitem.role if loop.nextitem is defined }}",
    "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}",
    "{% if m.role == 'user' %}{% set ns.found = true %}{% endif %}",
    "{% if m.role == 'tool' %}{% set ns.found = false %}{% endif %}",
    "{% if ns.found %}f{% endif %}",
    "{% set ns.count = ns.count + 1 %}",
    "{% set ns.noted = m.content %}",
    "{% set ns.noted = '' %}",
    "{{ ns.count }}",
    "{% set own.text = own.text ~ m.role[0] %}",
    "{{ show(m) }}",
    "{{ note(m) }}",
    "{{ stands_at(loop.index0) }}{{ stands_at(3) }}",
    "{% set at = m.role|length - 4 %}{% if loop.index0 > at %}A{% endif %}",
    "{% if size == m.content %}{% elif one != size %}{{ m.role }}{% endif %}",
    "{% set text = m.content %}{{ text | trim }}",
    "{% if m.role == 'user' %}{% set text = 'x' %}{% endif %}{{ text }}",
    "{{ one }}",
    "{{ flag }}",
    "{{ add_generation_prompt }}",
    "{{ enable_thinking }}",
    "{% for c in m.content %}{{ loop.index }}{{ c if loop.last }}{% endfor %}",
    "{% for o in messages[loop.index:] %}{{ o.role[0] }}{% endfor %}",
    "{% for o in messages %}{% if loop.last %}{% break %}{% endif %}{{ o.role }}{% endfor %}",
    "{% if m.content == 'stop' %}{% break %}{% endif %}",
    "{% if m.content == 'skip' %}{% continue %}{% endif %}",
    "{% generation %}{{ m.content }}{{ loop.index }}{% endgeneration %}",
    "{% with k = loop.index0 %}{{ k }}{% endwith %}",
    "{% set block %}{{ m.role }}{{ loop.last }}{% endset %}{{ block }}",
    "{% filter upper %}{{ m.role }}{{ ns.last }}{% endfilter %}",
    "{{ tools | tojson }}",
    "{{ loop.cycle('a', 'b') }}",
    "{% if ns.missing is defined %}D{% endif %}{% set ns.missing = m.role %}",
]


def behind(over: str, noted: str) -> str:
    """Look at what stands behind a message, and note something of it."""
    loop = f"{{% for o in {over} %}}{{% if {noted} %}}{{% set t.b = none %}}{{% endif %}}"
    loop += "{% endfor %}"
    return f"{{% set t = namespace(a=0, b=0) %}}{loop}{{{{ t.a }}}}{{{{ t.b }}}}{{{{ t.c }}}}"


ONE, TRUE = "{% set t.a = 1 %}", "{% set t.a = true %}"
PARTS += [
    behind("messages[loop.index:]", f"o.role == 'user' %}}{TRUE}{{% elif o.role == 'tool'"),
    behind("messages[loop.index0 + 2:]", f"o.content|trim == 'two' %}}{ONE}{{% elif o.content"),
    behind("rest[loop.index0:]", f"'h' in o.content %}}{ONE}{{% elif not o.content"),
]
texts = st.sampled_from(["hi", "stop", "skip", "", " two "])
roles = st.sampled_from(["user", "assistant", "tool", "system"])
messages = st.lists(
    st.builds(lambda role, content: {"role": role, "content": content}, roles, texts),
    min_size=1,
    max_size=9,
)


@st.composite
def templates(draw: st.DrawFn) -> str:
    loops = draw(
        st.lists(
            st.tuples(
                st.sampled_from(LISTS), st.lists(st.sampled_from(PARTS), min_size=1, max_size=5)
            ),
            min_size=1,
            max_size=3,
        )
    )
    written = [
        f"[{{% for m in {over} %}}{''.join(parts)}{{% endfor %}}]{{% set text = 'o' %}}"
        for over, parts in loops
    ]
    return HEAD + "".join(written) + TAIL


def beginnings(
    template: ChatTemplate,
    chat: Sequence[Json],
    memo: Memo | None,
    *first: int,
    said: list[Any] | None = None,
) -> list[str]:
    """Render longer and longer beginnings of a chat, as views do, and then shorter ones."""

    def rendered(stop: int, prompt: bool) -> str:
        variables = {"enable_thinking": True}
        try:
            text = template.render(
                chat[:stop],
                tools=TOOLS,
                kwargs=variables,
                add_generation_prompt=prompt,
                memo=memo,
            )
        except RecordError as error:
            return f"{type(error).__name__}: {error}"
        if memo and said is not None:
            said.append([memo.written.of(message) for message in range(len(chat))])
        return text

    stops = [*first, *range(1, len(chat) + 1), *range(len(chat), 0, -2)]
    return [rendered(stop, prompt) for stop in stops for prompt in (True, False)]


def differs(source: str, *chats: Sequence[Json]) -> bool:
    """Tell whether one of some chats is rendered otherwise with a memo that remembers.

    Or whether other texts are said to be of a message.
    """
    template = ChatTemplate.compile(source, name="random")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reasonpack.templates.template.find_sites", lambda *_: ())
        untouched = ChatTemplate.compile(source, name="random")
    return any(_differs(template, untouched, chat) for chat in chats)


def _differs(template: ChatTemplate, untouched: ChatTemplate, chat: Sequence[Json]) -> bool:
    said: tuple[list[Any], list[Any]] = [], []
    memos = Memo(template.sites, [*chat, *TOOLS]), Memo((), [*chat, *TOOLS])
    one, other = (
        beginnings(template, chat, memo, len(chat), said=each)
        for memo, each in zip(memos, said, strict=True)
    )
    return not one == other == beginnings(untouched, chat, None, len(chat)) or said[0] != said[1]


@given(source=templates(), chat=messages)
@settings(max_examples=150)
def test_random_templates(source: str, chat: list[Json]) -> None:
    assert not differs(source, chat)


@given(source=templates(), chat=messages, data=st.data())
@settings(max_examples=60)
def test_a_conversation_may_go_on_otherwise(
    source: str, chat: list[Json], data: st.DataObject
) -> None:
    template = ChatTemplate.compile(source, name="random")
    memo = Memo(template.sites, [*chat, *TOOLS])
    for more in data.draw(st.lists(messages, min_size=2, max_size=4)):
        beginning = chat[: data.draw(st.integers(0, len(chat)))]
        chat = [*beginning, *copy.deepcopy(more)]
        memo.set_items(chat)
        assert beginnings(template, chat, memo) == beginnings(template, chat, None)


def test_nothing_is_known_of_a_message_in_the_place_of_another() -> None:
    source = (
        "{% for m in messages %}{% set t = namespace(x=false) %}"
        "{% for o in messages[loop.index:] %}{% if o.role == 'user' %}{% set t.x = true %}"
        "{% endif %}{% endfor %}{{ m.content }}{{ t.x }}{% endfor %}"
    )
    template = ChatTemplate.compile(source, name="is a request behind")
    chat = [{"role": role, "content": role[0]} for role in ("user", "assistant", "user", "user")]
    memo = Memo(template.sites, chat)
    other = [*chat[:2], {"role": "tool", "content": "t"}, {"role": "assistant", "content": "b"}]
    for changed in (chat, other, [*other, chat[3]], chat[:1]):
        memo.set_items(changed)
        assert template.render(changed, memo=memo) == template.render(changed)


def test_nothing_is_known_of_a_message_that_has_the_identity_of_another() -> None:
    template = ChatTemplate.compile("{% for m in messages %}{{ m.content }}{% endfor %}", name="id")
    memo = Memo(template.sites, [])
    for number in range(9):
        chat = [{"role": "user", "content": str(number)}]
        memo.set_items(chat)
        assert template.render(chat, memo=memo) == str(number)
        memo.set_items([])
        del chat  # the next one may get its place in memory


def test_of_ever_new_texts_few_are_kept() -> None:
    template = ChatTemplate.compile(
        "{% for m in messages %}{{ loop.revindex }}{% endfor %}",
        name="from the end",
    )
    chat = [{"role": "user"} for _ in range(40)]
    memo = Memo(template.sites, chat)
    beginnings(template, chat, memo)
    kept = sum(map(len, memo._done.values()))
    assert memo.runs > 20 * 40
    assert kept < 10 * 40


def test_all_parts_alone() -> None:
    """Also says which of them the memo makes nothing of."""
    roles = ["system", "user", "assistant", "tool", "assistant", "user", "user"]
    chat = [{"role": role, "content": "ab"[number % 2]} for number, role in enumerate(roles)]
    left_alone = []
    for part in PARTS:
        for over in ("messages", "messages[::-1]", "messages[-2:]"):
            source = f"{HEAD}{{% for m in {over} %}}{part}{{% endfor %}}{TAIL}"
            assert not differs(source, chat), (over, part)
        if len(ChatTemplate.compile(source, name="part").sites) < 2:  # one is in the head
            left_alone.append(part)
    assert left_alone == [part for part in PARTS if "'s" in part or "cycle" in part]


# --- what a loop may not be taken for ---------------------------------------------------------


M = "{% for m in messages %}"
E = "{% endfor %}"
KEEP = "{% set ns = namespace(kept=none, x=0, y=0, size=messages|length) %}"
BEHIND = f"{M}{{% set t = namespace(x=0) %}}{{% for o in messages[loop.index:] %}}"
TRAPS = {
    "an inner loop's condition reads the outer loop": (
        f"{M}{{% for c in m.content if loop.last %}}{{{{ c }}}}{E}{E}"
    ),
    "break behind a variable named loop": (
        f"{M}{{% with loop = 1 %}}{{% break %}}{{% endwith %}}{E}"
    ),
    "a macro reads a variable named loop": (
        "{% set loop = messages|length %}{% macro f() %}{{ loop }}{% endmacro %}"
        f"{M}{{{{ f() }}}}{E}"
    ),
    "a macro calls a macro named loop": (
        "{% macro loop() %}{{ messages|length }}{% endmacro %}"
        f"{{% macro f() %}}{{{{ loop() }}}}{{% endmacro %}}{M}{{{{ f() }}}}{E}"
    ),
    "a macro reads a variable named kwargs": (
        "{% set kwargs = messages|length %}{% macro f() %}{% if false %}{% set kwargs = 1 %}"
        f"{{% endif %}}{{{{ kwargs }}}}{{% endmacro %}}{M}{{{{ f() }}}}{E}"
    ),
    "an item named caller": "{% for caller in messages %}{{ caller.role }}{% endfor %}",
    "one namespace with two names": (
        "{% set namespace = cycler(namespace(a=1)).next %}{% set one = namespace() %}"
        f"{{% set two = namespace() %}}{M}{{{{ two.a }}}}{{% set one.a = m.role %}}{E}"
    ),
    "one namespace with two names, of which one is a number": (
        f"{KEEP}{{% set two = ns %}}{{% for m in messages[::-1] %}}"
        f"{{% if two.x < 1 %}}A{{% endif %}}"
        f"{{% if m.role == 'tool' %}}{{% set ns.x = 9 %}}{{% endif %}}{E}"
    ),
    "a namespace holds itself": (
        f"{KEEP}{{% set ns.kept = ns %}}{M}{{{{ ns.kept.x }}}}{{% set ns.x = 1 %}}{E}"
    ),
    "a namespace holds a macro that reads it": (
        f"{KEEP}{{% macro f() %}}{{{{ ns.x }}}}{{% endmacro %}}{{% set ns.kept = f %}}"
        f"{M}{{{{ ns.kept() }}}}{{% set ns.x = 1 %}}{E}"
    ),
    "a block is given to a macro": (
        "{% macro f() %}{{ caller(varargs, kwargs) }}{% endmacro %}"
        f"{M}{{% call(x, y) f(loop.last, a=loop.first) %}}{{{{ x }}}}{{{{ y }}}}"
        f"{{{{ loop.revindex }}}}{{% endcall %}}{E}"
    ),
    "items that are named as what Jinja gives to macros": (
        "{% macro f() %}{{ caller(varargs[0]) }}{% endmacro %}{% for varargs in messages %}"
        f"{{% call(kwargs) f(loop.last) %}}{{{{ kwargs }}}}{{{{ varargs.role }}}}{{% endcall %}}{E}"
    ),
    "a block of the template is written in the loop": (
        f"{{% block b %}}{{{{ messages|length }}}}{{% endblock %}}{M}{{{{ self.b() }}}}{E}"
    ),
    "a variable named self": f"{{% set self = messages|length %}}{M}{{{{ self }}}}{E}",
    "a variable is set behind the loop": (
        f"{M}{{{{ enable_thinking }}}}{E}{{% set enable_thinking = 3 %}}"
    ),
    "a variable is set in the body, behind a loop": (
        f"{M}{{% for c in 'ab' %}}{{{{ add_generation_prompt }}}}{E}"
        f"{{% set add_generation_prompt = 1 %}}{E}"
    ),
    "a generator is kept": (
        f"{KEEP}{M}{{% set ns.kept = m.content|map('upper') %}}{E}"
        f"{{% for c in ns.kept %}}{{{{ c }}}}{E}"
    ),
    "a joiner is kept": f"{KEEP}{M}{{% set ns.kept = joiner(',') %}}{E}{{{{ ns.kept() }}}}",
    "a cycler is kept": (
        f"{KEEP}{M}{{% if loop.first %}}{{% set ns.kept = cycler(1, 2, 3) %}}{{% endif %}}"
        f"{{{{ ns.kept.next() }}}}{E}{{{{ ns.kept.next() }}}}"
    ),
    "a macro is kept": (
        f"{KEEP}{{% set ns.size = 0 %}}{{% macro f() %}}{{{{ ns.size }}}}{{% endmacro %}}"
        f"{M}{{% if loop.first %}}{{% set ns.kept = f %}}{{% endif %}}{E}"
        "{% set ns.size = messages[-1].role %}{{ ns.kept() }}"
    ),
    "a block is called behind the loop": (
        f"{KEEP}{{% macro keep() %}}{{% if not ns.kept %}}{{% set ns.kept = caller %}}{{% endif %}}"
        f"{{% endmacro %}}{M}{{% call keep() %}}{{{{ loop.index }}}}{{% endcall %}}{E}"
        "{{ ns.kept() }}"
    ),
    "a block is called behind the loop, from kwargs": (
        f"{KEEP}{{% macro keep() %}}{{% if not ns.kept %}}{{% set ns.kept = kwargs.caller %}}"
        f"{{% endif %}}{{% endmacro %}}{M}{{% call keep() %}}{{{{ loop.index }}}}{{% endcall %}}{E}"
        "{{ ns.kept() }}"
    ),
    "a recursive loop is called behind the loop": (
        f"{KEEP}{M}{{% for x in [1] recursive %}}{{% if not ns.kept %}}{{% set ns.kept = loop %}}"
        f"{{% endif %}}{{{{ m.role }}}}{E}{E}{{{{ ns.kept([1]) }}}}"
    ),
    "a recursive loop, behind a text": (f"x{{% for m in messages recursive %}}{{{{ m.role }}}}{E}"),
    "equal messages": f"{M}{{{{ messages[-1] == messages[0] }}}}{E}",
    "messages beside are equal": f"{M}{{{{ loop.nextitem == messages[0] }}}}{E}",
    "a whole number, or not": (
        f"{{% set x = 1 if messages|length > 3 else 1.0 %}}{M}{{{{ x + 1 }}}}{E}"
    ),
    "the body fails for an item": (
        f"{M}{{{{ m.role }}}}{{% if m.content == 'x' and loop.last %}}"
        f"{{{{ raise_exception('no') }}}}{{% endif %}}{E}"
    ),
    "the body fails after it has set something": (
        f"{KEEP}{M}{{% set ns.x = loop.index %}}{{{{ ns.x }}}}"
        f"{{% if loop.last and m.content == 'x' %}}{{{{ missing.role }}}}{{% endif %}}{E}"
        "{{ ns.x }}"
    ),
    "a loop in a condition, behind one that is left alone": (
        f"{{% for m in messages if m.role %}}{{{{ m.role }}}}{E}"
        f"{{% if messages|length > 2 %}}<{M}{{{{ m.content }}}}{E}>{{% endif %}}{M}.{E}"
    ),
    "a loop that reads nothing of its items": f"{M}{{% for c in 'ab' %}}{{{{ c }}}}{E}{E}",
    "what is behind fails": (
        f"{BEHIND}{{% if o.content == 'x' and o.a.b %}}{{% set t.x = 1 %}}{{% else %}}"
        f"{{% set t.x = 2 %}}{{% endif %}}{E}{{{{ t.x }}}}{E}"
    ),
    "what is behind is noted in no namespace": (
        f"{{% set t = 1 %}}{M}{{% for o in messages[loop.index:] %}}{{% if o.role == 'tool' %}}"
        f"{{% set u.x = 1 %}}{{% endif %}}{E}{{{{ m.role }}}}{E}"
    ),
    "what is behind is counted from the end": (
        f"{M}{{% set t = namespace(x=0) %}}{{% for o in messages[loop.index0 - 2:] %}}"
        f"{{% if o.role == 'tool' %}}{{% set t.x = 1 %}}{{% endif %}}{E}{{{{ t.x }}}}{E}"
    ),
    "what is behind a variable is counted from the end": (
        f"{{% set k = -2 if messages|length > 2 else 0 %}}{M}{{% set t = namespace(x=0) %}}"
        f"{{% for o in messages[k:] %}}{{% if o.role == 'tool' %}}{{% set t.x = 1 %}}{{% endif %}}"
        f"{E}{{{{ t.x }}}}{E}"
    ),
    "what is noted is no constant": f"{BEHIND}{{% set t.x = o.content %}}{E}{{{{ t.x }}}}{E}",
    "what is noted depends on the place behind": (
        f"{BEHIND}{{% if loop.first and o.role == 'user' %}}{{% set t.x = 1 %}}{{% endif %}}{E}"
        f"{{{{ t.x }}}}{E}"
    ),
    "what is noted depends on the item itself": (
        f"{BEHIND}{{% if o.role == m.role %}}{{% set t.x = 1 %}}{{% endif %}}{E}{{{{ t.x }}}}{E}"
    ),
    "what is noted depends on a variable": (
        f"{BEHIND}{{% if enable_thinking and o.role == 'tool' %}}{{% set t.x = 1 %}}{{% endif %}}"
        f"{E}{{{{ t.x }}}}{E}"
    ),
    "what is noted depends on what was noted": (
        f"{BEHIND}{{% if not t.x %}}{{% set t.x = 1 %}}{{% endif %}}{E}{{{{ t.x }}}}{E}"
    ),
    "two things are noted of what is behind": (
        f"{BEHIND}{{% if o.role == 'tool' %}}{{% set t.x = 1 %}}{{% endif %}}{E}{{{{ t.x }}}}"
        f"{{% for o in messages[loop.index:] %}}{{% if o.content == 'x' %}}{{% set t.x = 2 %}}"
        f"{{% endif %}}{E}{{{{ t.x }}}}{E}"
    ),
    "what is behind is written out": f"{BEHIND}{{{{ o.role }}}}{E}{E}",
    "what is noted goes into the template's namespace": (
        f"{KEEP}{M}{{% for o in messages[loop.index:] %}}{{% if o.role == 'user' %}}"
        f"{{% set ns.x = 1 %}}{{% endif %}}{E}{E}{{{{ ns.x }}}}"
    ),
    "a variable as the item behind": (
        f"{BEHIND}{{% set o = m %}}{{% if o.role == 'user' %}}{{% set t.x = 1 %}}{{% endif %}}{E}"
        f"{{{{ t.x }}}}{E}"
    ),
    "true and one are noted": (
        f"{BEHIND}{{% if o.content == 'ab' %}}{{% set t.x = true %}}{{% elif o.content == 'cde' %}}"
        f"{{% set t.x = 1 %}}{{% endif %}}{E}{{{{ t.x }}}}{E}"
    ),
    "a generator fails at a later item": (
        "{% for x in [1, 'a']|map('abs') %}{{ raise_exception('first') }}{% endfor %}"
    ),
    "a generator is read in its loop": (
        "{% set them = messages|map(attribute='role') %}"
        "{% for m in them %}{{ m }},{{ them|first }};{% endfor %}"
    ),
    "a condition of the loop": (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    ),
    "what is shown instead of no item": "{% for m in messages[2:] %}m{% else %}none{% endfor %}",
    "an inner loop without items reads the outer loop": (
        f"{M}{{% for c in [] %}}{{% else %}}{{{{ loop.last }}}}{E}{E}"
    ),
    "an inner loop's variable is named as an outer one": (
        f"{{% set x = 0 %}}{M}{{% for x in [1, 2] %}}{{{{ messages[x].role }}}}{E}{E}"
    ),
    "a macro's default": (
        f"{{% macro f(n=messages|length) %}}{{{{ n }}}}{{% endmacro %}}{M}{{{{ f() }}}}{E}"
    ),
    "a macro's name is set": (
        "{% macro f() %}a{% endmacro %}{% if messages|length > 2 %}{% set f = joiner(',') %}"
        f"{{% endif %}}{M}{{{{ f() }}}}{E}"
    ),
    "a namespace is set under another name": (
        f"{KEEP}{{% set also = ns %}}{{% for m in messages[-2:] %}}{{{{ ns.x }}}}"
        f"{{% set also.x = 1 %}}{E}"
    ),
    "a namespace holds the message that stands in its place": (
        "{% set x = messages[0] %}{% if messages|length > 2 %}{% set x = namespace(content=x) %}"
        f"{{% endif %}}{M}{{{{ x.content }}}}{E}"
    ),
    "the item behind": f"{M}{{{{ messages[loop.index0 + 1] }}}}{E}",
    "the place from the end, and the last": f"{M}{{{{ loop.revindex }}}}{{{{ loop.last }}}}{E}",
    "the length, from the end": "{% for m in messages[::-1] %}{{ loop.length }}{% endfor %}",
    "a difference that goes with the length": (
        "{% for m in messages[::-1] %}{{ 0 - loop.index0 - loop.length }}{% endfor %}"
    ),
    "a difference that goes with the place": (
        "{% for m in messages[::-1] %}{{ loop.length + loop.length - loop.revindex }}{% endfor %}"
    ),
    "two lists of which one grows": (
        "{% for t in tools %}{% if loop.length == messages|length %}E{% endif %}{% endfor %}"
    ),
    "which value it was that is undefined": (
        f"{KEEP}{{% set ns.x = messages[0].a if messages|length > 2 else b %}}"
        f"{M}{{% if loop.first %}}{{% set ns.y = ns.x %}}{{% endif %}}{E}{{{{ ns.y.z }}}}"
    ),
    "which of equal texts it is": (
        f"{KEEP}{{% set ns.x = messages[-1].content %}}{M}{{{{ m.content is sameas ns.x }}}}{E}"
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_traps(trap: str) -> None:
    same = "".join(["a", "b"])
    texts = ["ab", "cde", same, "x", "cde", "ab", same]
    roles = ["user", "assistant", "tool", "user", "assistant", "user", "assistant"]
    chat = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    assert not differs(TRAPS[trap], chat)


def test_a_variable_may_be_named_as_the_memo() -> None:
    template = ChatTemplate.compile(f"{M}{{{{ m.role }}}}{E}", name="named")
    chat = [{"role": "user", "content": ""}]
    memo = Memo(template.sites, chat)
    for each in (memo, None):
        assert template.render(chat, kwargs={EACH: 1}, memo=each) == "user"
    with pytest.raises(TemplateError):
        ChatTemplate.compile(f"{{{{ messages|{EACH} }}}}", name="named")


# --- faults that must show ------------------------------------------------------------------------


def any_differs(parts: Sequence[str], over: str) -> bool:
    source = f"{HEAD}{{% for m in {over} %}}{''.join(parts)}{{% endfor %}}{TAIL}"
    chats: list[list[Json]] = []
    for seed in range(40):
        draw = random.Random(seed)
        roles = [draw.choice(["user", "assistant", "tool"]) for _ in range(8)]
        chats.append([{"role": role, "content": draw.choice(["a", "b"])} for role in roles])
    return differs(source, *chats)


FORWARD, BACKWARD = "messages", "messages[::-1]"
REST = (
    "{% set t = namespace(x=0) %}{% for o in messages[loop.index:] %}{% if o.role == 'user' %}"
    "{% set t.x = 1 %}{% endif %}{% endfor %}{{ t.x }}"
)
STANDS_BEFORE = "{{ messages[loop.index0 - 1].role }}"
BEHIND_REQUEST = "{% if loop.index0 > last_request.place %}A{% endif %}"
FACT, VISIT, FIND, READ = Site._fact, Site._visit, Site.__init__, Memo._read


def instead(kind: type[jinja2.nodes.Node], code: str) -> Callable[..., str]:
    """Write this for a fact of a kind."""

    def fact(site: Site, node: jinja2.nodes.Node, own: bool) -> str:
        found = FACT(site, node, own)
        return code if isinstance(node, kind) else found

    return fact


def one_meaning(site: Site, node: jinja2.nodes.Node, *, own: bool) -> None:
    """Take a name for what it is outside."""
    site._variables = site._varying
    VISIT(site, node, own=own)


def no_items(site: Site, *parts: Any) -> None:
    """Take all items for the same."""
    FIND(site, *parts)
    site.keys = lambda n, *_: [0] * n


def first_behind(memo: Memo, context: Any, name: str, attribute: Any, what: Any) -> Any:
    """Return the place of the first message for which a condition holds."""
    found = READ(memo, context, name, attribute, what)
    if isinstance(what, str) or found < 0:
        return found
    return next(at for at, each in enumerate(context.resolve(name)) if what(each))


def no_state(memo: Memo, _: Any, number: int) -> Any:
    """Take what was done for what the body does, whatever it reads."""
    return memo._done.setdefault(number, {})


def any_list(_: Memo, items: Any) -> Any:
    """Take each list for one of the conversation's messages, in their order."""
    return range(len(items)), [*map(id, items)]


def set_if_other(space: _Space, attribute: str, value: Any) -> None:
    """Note what is set to something else."""
    if space.get(attribute) is not value:
        space.sets[space.name, attribute] = value
    dict.__setitem__(space, attribute, value)


FAULTS: dict[str, tuple[str, Any, str, list[str]]] = {
    "the last item is taken over": (
        "facts._LOOP",
        {**loop_facts._LOOP, "last": "(i <= 0)"},
        FORWARD,
        ["{% if loop.last %}L{% endif %}"],
    ),
    "nothing is beside an item": (
        "facts.Site._fact",
        instead(jinja2.nodes.Getitem, "0"),
        FORWARD,
        [STANDS_BEFORE],
    ),
    "what stands before the first does not count": (
        "facts.Site._fact",
        instead(jinja2.nodes.Getitem, "items[i - 1] if i else None"),
        FORWARD,
        [STANDS_BEFORE],
    ),
    "a name of the body is one of outside": (
        "facts.Site._visit",
        one_meaning,
        BACKWARD,
        ["{% set at = m.role|length - 4 %}{% if loop.index0 > at %}A{% endif %}"],
    ),
    "an argument of a macro is a variable of outside": (
        "facts.Site._visit",
        one_meaning,
        FORWARD,
        ["{{ stands_at(3) }}"],
    ),
    "what is set is not seen": (
        "loops._Space.__setitem__",
        dict.__setitem__,
        FORWARD,
        ["{% set ns.count = ns.count + 1 %}"],
    ),
    "what is set to what it was is not seen": (
        "loops._Space.__setitem__",
        set_if_other,
        "messages[-2:]",
        ["{% if m.role == 'user' %}{% set ns.found = true %}{% endif %}"],
    ),
    "namespaces do not count": (
        "loops.Memo._done_now",
        no_state,
        BACKWARD,
        ["{% set ns.count = ns.count + 1 %}{{ ns.count }}"],
    ),
    "what was set before is not set": (
        "loops._set_again",
        lambda *_: None,
        FORWARD,
        ["{% set ns.count = ns.count + 1 %}"],
    ),
    "variables do not count": ("loops.Memo._value", lambda *_: (), FORWARD, ["{{ flag }}"]),
    "true is one": ("loops.Memo._value", lambda _, value, *__: (value,), FORWARD, ["{{ one }}"]),
    "what is compared with does not count": (
        "facts.Site._fact",
        instead(jinja2.nodes.Compare, "0"),
        FORWARD,
        ["{% if loop.index0 > size - 3 %}A{% endif %}"],
    ),
    "numbers do not count": (
        "facts.Site._fact",
        instead(jinja2.nodes.Getattr, "0"),
        FORWARD,
        ["{{ loop.revindex }}"],
    ),
    "a comparison with what is equal is one with what is less": (
        "facts.operators",
        {**loop_facts.operators, "eq": "<="},
        FORWARD,
        ["{% if loop.index0 == last_request.place %}A{% endif %}"],
    ),
    "other items are the same": ("facts.Site.__init__", no_items, BACKWARD, ["{{ m.content }}"]),
    "what stands behind does not count": (
        "facts.Site._fact",
        instead(jinja2.nodes.For, "0 < 1"),
        FORWARD,
        [REST],
    ),
    "the first that stands behind counts": ("loops.Memo._read", first_behind, FORWARD, [REST]),
    "an object is known that is none of the conversation": (
        "loops.Memo._places_and_ids",
        any_list,
        "[{'size': messages|length}]",
        ["{{ m.size }}"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, planted, over, parts = FAULTS[fault]
    assert not any_differs(parts, over)
    module = "loop_facts" if name.startswith("facts.") else "loops"
    name = f"reasonpack.templates.{module}.{name.partition('.')[2]}"
    monkeypatch.setattr(name, planted)
    assert any_differs(parts, over)


# --- what it is for -------------------------------------------------------------------------------


LAST_REQUEST = """
{%- set ns = namespace(open=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set place = (messages|length - 1) - loop.index0 %}
    {%- if ns.open and message.role == 'user' %}
        {%- set ns.open = false %}
        {%- set ns.last = place %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {{- message.role }}
    {%- if message.role == 'assistant' and (loop.last or loop.index0 > ns.last) %}
        {{- '<think>' ~ message.reasoning_content ~ '</think>' }}
    {%- endif %}
    {{- message.content }}
    {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '.' }}{% endif %}
{%- endfor %}
"""
"""Reasoning is shown behind the last request, which is looked for from the end."""


@pytest.mark.parametrize("turns", [1, 20])
def test_a_message_is_rendered_a_few_times(turns: int) -> None:
    """However long the conversation: last, in its turn, and in a turn that is over."""
    template = ChatTemplate.compile(LAST_REQUEST, name="last request")
    chat: list[Json] = []
    for _ in range(turns):
        chat.append({"role": "user", "content": "U"})
        for _ in range(20 // turns):
            chat.append({"role": "assistant", "content": "A", "reasoning_content": "R"})
            chat.append({"role": "tool", "content": "T"})
    memo = Memo(template.sites, chat)
    assert beginnings(template, chat, memo) == beginnings(template, chat, None)
    assert len(template.sites) == 2
    assert memo.runs <= 6 * len(chat)


def test_looking_for_an_answer_behind_runs_few_bodies() -> None:
    """As gpt-oss does: reasoning is shown until there is an answer without a call."""
    source = (
        "{% for m in messages %}{% set t = namespace(x=false) %}"
        "{% for o in messages[loop.index:] %}{% if o.role == 'assistant' and not o.calls %}"
        "{% set t.x = true %}{% endif %}{% endfor %}"
        "{{ m.role }}{{ '' if t.x else m.reasoning }}{% endfor %}"
    )
    template = ChatTemplate.compile(source, name="an answer behind")
    call = {"role": "assistant", "reasoning": "R", "calls": [1]}
    chat = [{"role": "user", "content": "U"}, *([call, {"role": "tool"}] * 20)]
    chat = [dict(message) for message in chat] + [{"role": "assistant", "content": "A"}]
    memo = Memo(template.sites, chat)
    assert beginnings(template, chat, memo) == beginnings(template, chat, None)
    assert memo.runs <= 3 * len(chat)


def test_a_variable_of_which_no_number_is_made_may_be_a_text() -> None:
    """As the content of Qwen3.5, which its system message sets for the whole template."""
    source = (
        "{% set content = messages[0].content %}{% for m in messages %}"
        "{% set content = m.content|trim %}{% if content == 'x' or content|length == 2 %}!"
        "{% endif %}{{ m.role }}{% endfor %}"
    )
    template = ChatTemplate.compile(source, name="content")
    chat = [{"role": "user", "content": "ab"} for _ in range(9)]
    memo = Memo(template.sites, chat)
    assert beginnings(template, chat, memo) == beginnings(template, chat, None)
    assert memo.runs == len(chat)


def test_a_namespace_that_is_something_else_is_not_understood() -> None:
    """A dict may stand where the template says namespace, depending on the messages."""
    source = (
        "{% if messages|length > 2 %}{% set ns = {'a': 1} %}"
        "{% else %}{% set ns = namespace(a=2) %}{% endif %}"
        "{% for m in messages %}{{ ns.a }}{% endfor %}"
    )
    chat = [{"role": "user", "content": str(number)} for number in range(5)]
    assert not differs(source, chat)
