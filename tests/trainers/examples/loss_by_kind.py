"""Mix into a Hugging Face trainer: logs the loss of reasoning (`t`) and responses (`r_out`) apart.

`class MyTrainer(LossByKind, Trainer)`, with `Collator(kinds=True)`: `loss_t`, `loss_r_out` beside
`loss`, and `eval_loss_t`, `eval_loss_r_out` beside `eval_loss`. Each process logs its own.
"""

from __future__ import annotations

from typing import Any

import torch

NAMES = {1: "t", 3: "r_out"}


class LossByKind:
    @property
    def sums(self) -> dict[bool, Any]:
        """Losses and tokens of each kind since the last log; of training by True, else by False."""
        found: dict[bool, Any] = vars(self).setdefault("_sums", {})
        return found

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
            self.sums[model.training] = sums + self.sums.get(model.training, 0)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **given: Any) -> None:
        for key in [key for key in logs if key.endswith("loss") and key != "train_loss"]:
            sums = self.sums.pop(key == "loss", None)
            by_kind = [] if sums is None else zip(NAMES.values(), sums.tolist(), strict=True)
            for name, (total, tokens) in by_kind:
                logs |= {f"{key}_{name}": total / tokens} if tokens else {}
        super().log(logs, *args, **given)  # type: ignore[misc]
