"""Which characters every program treats alike → which pieces a fast backend may encode.

A pre-tokenizer looks up the category of a character, NFC its combining class and its
decomposition, `(?i:...)` its case folding. Each program has tables of its own, made from
some version of Unicode: `tokenizers` 0.21 to 0.23 take categories from Unicode 14 to 16, and
normalize by Unicode 9; fast backends are newer in one and may be older in the other. Where
two tables differ, so do ids, in places that samples miss: two combining marks that only
one program sorts, an ideograph that only one takes for a letter.

A character is settled if no such table can differ on it, which means that it

  - is in Unicode 13, and in Unicode 9 if it is a combining mark or has a decomposition: some
    table lacks later characters, and characters that are not assigned yet may be later;
  - is in plane 0, or a mathematical letter or a picture of plane 1, or in the first block of
    plane 2: other characters are too rare to be worth a risk;
  - neither folds to a letter of ASCII without being one, nor has changed its category since.

Pieces with any other character go to the reference. They are rare. The check is skipped for
ASCII and costs about 3 ns a character otherwise.
"""

from __future__ import annotations

import functools
import re
import unicodedata

_MATHEMATICAL_LETTERS = range(0x1D400, 0x1D800)

# Every Python has the table of Unicode 3.2. These were assigned later, up to the versions above;
# ranges may include characters of Unicode 3.2.
_SINCE_UNICODE_3_2 = """
    221-377 37b-37f 3cf-52f 560-588 58d-58f 5a2-5c7 5ef 600-61c 61e-6ff 72d-72f 74d-77f 7c0-7fa
    7fe-82d 830-83e 840-85b 85e 860-86a 8a0-8b4 8b6-8c7 8d4-980 9bd 9ce 9fb-9fd a01-a03 a51
    a75-a76 a8c ae1-ae3 af0-af1 af9 b35 b44 b62-b63 b71-b77 bb6 bd0 be6-bfa c00 c34 c3d c58-c5a
    c62-c63 c77-c84 cbc-cbd ce2-ce3 cf1-cf2 d01-d04 d29-d3a d3d-d44 d4e-d4f d54-d63 d70-d7f
    de6-def e86-e89 e8c-ea0 ea8-eac ede-edf f6b-f6c f8c-f8f fce-fda 1022-109f 10c7 10cd 10f9-1247
    1287 12af 12cf 12ef-130f 131f-1347 135d-1360 1380-1399 13f5 13f8-13fd 1400-167f 16f1-16f8 17dd
    17f0-17f9 1878 18aa 18b0-18f5 1900-191e 1920-192b 1930-193b 1940 1944-196d 1970-1974 1980-19ab
    19b0-19c9 19d0-19da 19de-1a1b 1a1e-1a5e 1a60-1a7c 1a7f-1a89 1a90-1a99 1aa0-1aad 1ab0-1abe
    1b00-1b4b 1b50-1b7c 1b80-1bf3 1bfc-1c37 1c3b-1c49 1c4d-1c88 1c90-1cba 1cbd-1cc7 1cd0-1cf6
    1cf8-1cfa 1d00-1df5 1dfb-1eff 2053-2064 2066-2069 2090-209c 20b2-20bf 20eb-20f0 213b-218b
    23cf-23ff 24ff-2b73 2b76-2b95 2b97-2c2e 2c30-2c5e 2c60-2cf3 2cf9-2d25 2d27 2d2d 2d30-2d67
    2d6f-2d70 2d7f-2d96 2da0-2da6 2da8-2dae 2db0-2db6 2db8-2dbe 2dc0-2dc6 2dc8-2dce 2dd0-2dd6
    2dd8-2dde 2de0-2e52 312d-312f 31b8-31e3 321d-321e 3244-32cf 3377-9ffc a4d0-a62b a640-a6f7
    a700-a7bf a7c2-a7ca a7f5-a82b a830-a839 a840-a877 a880-a8c5 a8ce-a8d9 a8e0-a8fe a900-a953
    a95f-a97c a980-a9cd a9cf-a9d9 a9de-a9fe aa00-aa36 aa40-aa4d aa50-aa59 aa5c-aac2 aadb-aaf6
    ab01-ab06 ab09-ab0e ab11-ab16 ab20-ab26 ab28-ab2e ab30-ab68 ab6a-ab6b ab70-abed abf0-abf9
    d7b0-d7c6 d7cb-d7fb fa2e-fa6d fa70-fad9 fbb2-fbc1 fdfd fe10-fe19 fe24-fe48 1d4c1 1d6a4-1d6a5
    1d7ca-1d7cb 1f000-1f02b 1f030-1f093 1f0a0-1f0ae 1f0b1-1f0bf 1f0c1-1f0cf 1f0d1-1f0f5
    1f100-1f16b 1f16d-1f1ad 1f1e6-1f202 1f210-1f23b 1f240-1f248 1f250-1f251 1f260-1f265
    1f300-1f6d7 1f6e0-1f6ec 1f6f0-1f6fc 1f700-1f773 1f780-1f7d8 1f7e0-1f7eb 1f800-1f80b
    1f810-1f847 1f850-1f859 1f860-1f887 1f890-1f8ad 1f8b0-1f8b1 1f900-1f978 1f97a-1f9cb
    1f9cd-1fa53 1fa60-1fa6d 1fa70-1fa74 1fa78-1fa7a 1fa80-1fa86 1fa90-1faa8 1fab0-1fab6
    1fac0-1fac2 1fad0-1fad6 1fb00-1fb92 1fb94-1fbca 20000-2a6d6
"""

_VARYING = "\u017f\u212a\u0295"
"""Long s and the Kelvin sign fold to s and k; U+0295 is lower case in Unicode 16, but not later."""


def is_settled(text: str) -> bool:
    """Return whether all characters of a text are settled.

    >>> is_settled("Grüße, 世界 \U0001f600"), is_settled("\u017f"), is_settled("\U00030000")
    (True, False, False)
    """
    return text.isascii() or _unsettled_pattern().search(text) is None


def settled_of(text: str) -> str:
    """Return a text without its unsettled characters.

    >>> settled_of("a\u017fb")
    'ab'
    """
    return _unsettled_pattern().sub("", text)


@functools.cache
def _unsettled_pattern() -> re.Pattern[str]:
    """Compile a pattern that finds an unsettled character."""
    is_known = bytearray(0x30000)
    for codes in range(0x10000), _MATHEMATICAL_LETTERS:
        categories = map(unicodedata.ucd_3_2_0.category, map(chr, codes))
        is_known[codes.start : codes.stop] = [each not in {"Cn", "Cs"} for each in categories]
    for ends in _SINCE_UNICODE_3_2.split():
        first, _, last = ends.partition("-")
        start, stop = int(first, 16), int(last or first, 16) + 1
        is_known[start:stop] = b"\1" * (stop - start)
    for varying in _VARYING:
        is_known[ord(varying)] = 0
    known = (run.span() for run in re.finditer(b"\1+", is_known))
    ranges = [f"\\U{start:08x}-\\U{stop - 1:08x}" for start, stop in known]
    return re.compile(f"[^{''.join(ranges)}]")
