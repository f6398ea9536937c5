"""DPO on rows with `chosen` and `rejected` answers; onepass rows hold both beside their prompt.

    collator = replace(collator_for(model, layout=rows.layout), call_role=True, loss_weights=True)
    loss = dpo_loss(model, reference, collator(rows), beta=0.1)

Call `prepare_model` on both models. Each chosen answer is compared with each rejected one of its
`sample_id`, if both are in the batch: npass rows have to be gathered by it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy, logsigmoid

CHOSEN, REJECTED = 1, 2
OURS = ("labels", "preference_labels", "calls", "groups", "call_role", "loss_weights")


def dpo_loss(model: Any, reference: Any, batch: dict[str, Any], *, beta: float) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name not in OURS}
    target, rejected, call, group, role, _ = (batch[name][:, 1:].flatten() for name in OURS)
    target = torch.where(rejected == -100, target, rejected)
    trained = target != -100

    def log_probability(model: Any) -> torch.Tensor:
        logits = model(**inputs).logits[:, :-1].flatten(0, 1)[trained]
        return -cross_entropy(logits, target[trained], reduction="none")

    with torch.no_grad():
        before = log_probability(reference)
    gained = log_probability(model) - before
    calls, place = call[trained].unique(return_inverse=True)
    sums = gained.new_zeros(len(calls)).index_add(0, place, gained)
    role, group = (torch.zeros_like(calls).scatter(0, place, x[trained]) for x in (role, group))
    pairs = (role[:, None] == CHOSEN) & (role == REJECTED) & (group[:, None] == group)
    return -logsigmoid(beta * (sums[:, None] - sums))[pairs].mean()
