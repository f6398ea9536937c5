"""ms-swift encodes every dataset itself; this template hands on the token ids that it finds.

    swift sft --external_plugins ms_swift_plugin.py --template token_ids \
        --cached_dataset DIR --max_length N …

DIR is what `pretokenized(…, lengths=True).save_to_disk(DIR)` wrote.
"""

from __future__ import annotations

from typing import Any

from swift.template import Template, TemplateMeta, register_template


class TokenIds(Template):
    def encode(
        self, inputs: Any, return_template_inputs: bool = False, return_length: bool = False
    ) -> dict[str, Any]:
        size = len(inputs["input_ids"])
        return {
            "input_ids": list(inputs["input_ids"]),
            "labels": list(inputs["labels"]),
            "length": size,
            "lengths": [size],
        }


register_template(
    TemplateMeta("token_ids", prefix=[], prompt=["{{QUERY}}"], chat_sep=None, template_cls=TokenIds)
)
