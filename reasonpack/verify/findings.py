"""The findings of a check: violations, each with a code.

RP208 data/train-00000-of-00001.parquet: row 3, sample 'x', message 1, token 17: position …
code  file                               where in it                             what
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from msgspec import Struct, field

CODES: Mapping[str, str] = {
    # the files
    "RP001": "there is no manifest, or it is not JSON",
    "RP002": "the manifest is of an unknown format version",
    "RP003": "the manifest lacks a field, or one has a value that it cannot have",
    "RP004": "a shard that the manifest names is missing",
    "RP005": "there is a shard that the manifest does not name",
    "RP006": "a shard does not have the size in bytes that the manifest names",
    "RP007": "a shard does not have the SHA-256 that the manifest names",
    "RP008": "a shard is not a whole Parquet file or Arrow stream",
    "RP009": "a shard does not have the number of rows that the manifest names",
    "RP010": "a shard does not have the number of tokens that the manifest names",
    "RP011": "a receipt is missing, damaged, or belongs to no shard",
    "RP012": "a receipt names another plan or shard than the manifest",
    "RP013": "a receipt's counts are not what its shard holds",
    "RP014": "the manifest's counts are not the sums over its shards",
    "RP015": "a line of rejects.jsonl is not a reject",
    "RP016": "rejects.jsonl does not hold the rejects that the manifest counts",
    "RP017": "a content hash is not that of the rows",
    "RP018": "a file of rejects in receipts is not the one that its receipt names",
    "RP019": "a file in data or receipts is neither a shard nor a receipt",
    "RP020": "a link leads out of the dataset",
    "RP021": "the dataset card's configs are not those of the shards",
    "RP022": "plan.json is missing, altered, or not that of the manifest",
    "RP023": "the dataset card contradicts the manifest",
    # the Arrow schema
    "RP101": "columns are missing, unknown, in another order or of another type",
    "RP102": "the schema allows nulls in a column",
    "RP103": "a column holds a null",
    "RP104": "the schema's metadata is not the manifest's",
    "RP105": "a row group is larger than a reader may expect",
    "RP106": "the schema's metadata requires a column that is not known here",
    # the rows
    "RP201": "token columns are not all of the row's length, or empty (rule 1)",
    "RP202": "segments do not tile the row (rule 2)",
    "RP203": "segment columns differ in length (rule 2)",
    "RP204": "samples do not tile the row, or do not have an id each (rule 3)",
    "RP205": "a sample begins inside a segment (rule 3)",
    "RP206": "a segment is visible to too few or too many tokens (rule 5)",
    "RP207": "the intervals of two segments cross (rule 5)",
    "RP208": "a position is not the number of tokens seen (rule 6)",
    "RP209": "a label is neither -100 nor its token (rule 7)",
    "RP210": "the first token of a sample is trained (rule 7)",
    "RP211": "a trained token does not follow the token that predicts it (rule 8)",
    "RP212": "a token is trained twice after the same prefix (rule 9)",
    "RP213": "a token id is negative",
    "RP214": "a segment is of an unknown kind",
    "RP215": "a segment's message is less than -1",
    "RP216": "an optional column has another length than the row's tokens, segments or calls",
    "RP217": "a weight is not positive where a token is trained, or not 0 where it is not",
    "RP218": "a log probability or an advantage is out of range, or is not 0 where it is no target",
    "RP219": "a preference label is not that of a rejected answer",
    "RP220": "a call has no sample, is out of order or repeated, or has a wrong role or reward",
    "RP221": "a segment names no call although it must, or one that it cannot belong to",
    "RP222": "a row, or a position in it, is beyond the limits of the dataset",
    "RP223": "a token of a conversation weighs more than one before it in the same message",
    # the source
    "RP301": "the tokenizer is not the dataset's",
    "RP302": "the chat template is not the dataset's",
    "RP303": "the number of inputs is not the dataset's",
    "RP304": "a record is neither packed nor rejected",
    "RP305": "a sample has no record in the input",
    "RP306": "a line of rejects.jsonl has no record in the input",
    "RP307": "a record was rejected for a reason that does not apply to it",
    "RP308": "a record was packed, but its views cannot be built",
    "RP309": "the tokens of a conversation are not those of its views, at their positions",
    "RP310": "the trained tokens of a conversation are not those of its views",
    "RP311": "the manifest's counts are not those of the source",
    "RP312": "the kinds or messages of tokens are not those of the views",
    "RP313": "the manifest names another stop token than the model's files or the template",
    "RP314": "a message was left out as too long and is not, or its reason or length is wrong",
    "RP315": "a conversation is in another split than it belongs in",
    "RP316": "the weights of a conversation are not those of its records and the options",
    "RP317": "a trained token of a call has another value or call than was logged",
    "RP318": "shuffled rows are not in the order of the seed",
}
"""All violations that the check can report."""
FIXES: Mapping[str, str] = {
    "RP0": "repeat the pack command, which finds and replaces what was altered; if the dataset is "
    "a copy, copy it again",
    "RP002": "use the version of reasonpack that the manifest names",
    "RP005": "remove the file, or move it out of data",
    "RP011": "repeat the pack command, and remove a receipt that belongs to no shard; if the "
    "dataset is a copy, copy it again",
    "RP019": "remove the file, or move it out of data and receipts",
    "RP020": "put the file itself in the place of the link",
    "RP022": "pack again with --overwrite; if the dataset is a copy, copy it again",
    "RP1": "another program wrote the shard, or wrote it anew; repeat the pack command",
    "RP106": "use a newer version of reasonpack",
    "RP2": "do not train on these rows; if the shards are as pack wrote them (no RP007), it is a "
    "fault in reasonpack: report the row (`reasonpack inspect DIR --row N --boundaries`)",
    "RP3": "name the inputs that were packed, as they were then; if you did, pack again with "
    "--overwrite",
    "RP301": "name the tokenizer that it was packed with: --tokenizer",
    "RP302": "put the template back that it was packed with: in the file of --chat-template, or in "
    "the directory of the tokenizer, which --tokenizer names",
}
"""How to mend a violation, by its code or by a prefix of the code."""


def fix_of(code: str) -> str:
    """Return how to mend a violation, by the longest entry of `FIXES` that its code begins with.

    >>> fix_of("RP005")
    'remove the file, or move it out of data'
    """
    return FIXES[max((each for each in FIXES if code.startswith(each)), key=len)]


LONGEST = 200
"""How many characters of an id or a value are shown."""
KEPT = 100
"""How many violations are described; all are counted."""


class Finding(Struct, frozen=True):
    """One violation.

    Attributes:
        code: one of `CODES`.
        file: path within the dataset, or of an input; may be `file:line`.
        what: what was found and what was expected.
        row: counted over all shards from 0, as `reasonpack inspect` does.
        sample: the conversation's id.
        message: index in the conversation.
        token: offset in the row.

    >>> print(Finding("RP209", "data/a.parquet", "label 5, expected -100 or 7", row=0, token=3))
    RP209 data/a.parquet: row 0, token 3: label 5, expected -100 or 7
    """

    code: str
    file: str
    what: str
    row: int | None = None
    sample: str | None = None
    message: int | None = None
    token: int | None = None

    def __str__(self) -> str:
        sample = None
        if self.sample is not None:  # an id can be of any length
            sample = repr(self.sample[:LONGEST]) + "…" * (len(self.sample) > LONGEST)
        places = {"row": self.row, "sample": sample, "message": self.message, "token": self.token}
        place = ", ".join(f"{name} {value}" for name, value in places.items() if value is not None)
        return f"{self.code} {self.file}: {f'{place}: ' if place else ''}{self.what}"


class Findings(Struct):
    """What a check found, and how much it checked.

    Attributes:
        counts: number of violations by code.
        listed: the first `KEPT` violations.
        warnings: oddities that break no rule.
        checked: how many shards, rows, tokens … were checked.
        unchecked: by reason, how many records could not be checked, and the place of the first.
        taken: what was taken from the dataset as it is, and so was not checked.
        of_calls: the records of the source are calls.
    """

    counts: dict[str, int] = field(default_factory=dict)
    listed: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    unchecked: dict[str, tuple[int, str]] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    of_calls: bool = False

    def leave_unchecked(self, reason: str, where: str) -> None:
        """Count a record that cannot be checked."""
        number, first = self.unchecked.get(reason, (0, where))
        self.unchecked[reason] = (number + 1, first)

    def add(self, finding: Finding) -> None:
        """Count a violation, and keep it if it is among the first `KEPT`."""
        self.counts[finding.code] = self.counts.get(finding.code, 0) + 1
        if len(self.listed) < KEPT:
            self.listed.append(finding)

    def report(
        self, code: str, file: str, what: str, row: int | None = None, sample: str | None = None
    ) -> None:
        """Add a violation."""
        self.add(Finding(code, file, what, row, sample))

    def compare(
        self, code: str, file: str, name: str, found: object, expected: object, by: str = ""
    ) -> None:
        """Report `found`, the value of `name`, unless it is the expected one, which `by` explains.

        >>> findings = Findings()
        >>> findings.compare("RP006", "a.parquet", "bytes", 1000, 1001, "as in the manifest")
        >>> print(findings.listed[0])
        RP006 a.parquet: bytes 1,000, expected 1,001 as in the manifest
        """
        if found != expected:
            one, two = _shown(found, expected)
            self.report(code, file, f"{name} {one}, expected {two} {by}".rstrip())

    def count(self, what: str, number: int = 1) -> None:
        """Add to one of the counts in `checked`."""
        self.checked[what] = self.checked.get(what, 0) + number

    @property
    def total(self) -> int:
        """Number of violations."""
        return sum(self.counts.values())


def _shown(found: object, expected: object) -> list[str]:
    """Return two values as text; of long texts the part where they begin to differ.

    >>> _shown(1000, True)
    ['1,000', 'True']
    """
    texts = [f"{value:,}" if type(value) is int else repr(value) for value in (found, expected)]
    if max(map(len, texts)) <= LONGEST:
        return texts
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False))
    begin = max(0, sum(1 for _ in same) - LONGEST // 2)
    parts = [text[begin : begin + LONGEST] for text in texts]
    return [f"{'…' * (begin > 0)}{part}" for part in parts]
