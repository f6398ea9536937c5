"""Mix into a Hugging Face trainer: logs the loss of reasoning (`t`) and responses (`r_out`) apart.

`class MyTrainer(LossByKind, Trainer)`, with `Collator(kinds=True)`. Each process logs its own.
"""

from __future__ import annotations

from typing import Any

import torch

NAMES = {1: "loss_t", 3: "loss_r_out"}


class LossByKind:
    _sums: Any = None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, **given: Any
    ) -> Any:
        kinds = inputs.pop("kinds")  # no argument of the model
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **given)  # type: ignore[misc]
        with torch.no_grad():
            labels = inputs["labels"][:, 1:]
            trained = labels != -100
            each = torch.nn.functional.cross_entropy(
                outputs.logits[:, :-1][trained].float(), labels[trained], reduction="none"
            )
            kind = kinds[:, 1:][trained]
            found = [(each[kind == k].sum(), (kind == k).sum()) for k in NAMES]
            sums = torch.stack([torch.stack([s, n.to(s.dtype)]) for s, n in found])
            self._sums = sums if self._sums is None else self._sums + sums
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **given: Any) -> None:
        if self._sums is not None:
            for name, (total, tokens) in zip(NAMES.values(), self._sums.tolist(), strict=True):
                logs |= {name: total / tokens} if tokens else {}
            self._sums = None
        super().log(logs, *args, **given)  # type: ignore[misc]
