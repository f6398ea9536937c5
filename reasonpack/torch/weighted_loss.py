"""The weighted loss: the sum of loss times weight over tokens, over the sum of the step's weights.

class WeightedTrainer(WeightedLoss, Trainer): ...        or SFTTrainer

sum of loss_weights[k] * loss[k]   over trained tokens
────────────────────────────────
sum of loss_weights[k]             over all batches of the step, on all processes
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from reasonpack.errors import UsageError
from reasonpack.rows.sample import IGNORE


def weighted_loss(
    logits: torch.Tensor, labels: torch.Tensor, loss_weights: torch.Tensor
) -> torch.Tensor:
    """Return the sum of the losses of tokens, each times its weight.

    Args:
        logits: [B, T, V].
        labels: i64[B, T], unshifted.
        loss_weights: f32[B, T], unshifted too.

    Raises:
        UsageError: they have other shapes.

    >>> logits, labels = torch.zeros(1, 3, 8), torch.tensor([[-100, 5, 2]])
    >>> weights = torch.tensor([[0.0, 0.5, 1.5]])
    >>> round(weighted_loss(logits, labels, weights).item() / torch.tensor(8.0).log().item(), 6)
    2.0
    """
    shapes = [tuple(getattr(each, "shape", ())) for each in (logits, labels, loss_weights)]
    if len(shapes[0]) != 3 or not shapes[0][:2] == shapes[1] == shapes[2]:
        what = f"logits, labels and loss_weights of shapes {', '.join(map(str, shapes))}"
        fix = "pass outputs.logits, and labels and weights of the batch as the collator made them"
        raise UsageError("weighted_loss", what, "[B, T, V], [B, T] and [B, T]", fix)
    targets = labels[:, 1:].flatten()
    losses = cross_entropy(
        logits[:, :-1].flatten(0, 1), targets, ignore_index=IGNORE, reduction="none"
    )
    return (losses * loss_weights[:, 1:].flatten().to(losses.dtype)).sum()


class WeightedLoss:
    """A mixin that makes a trainer of transformers or TRL apply `loss_weights`; the first base.

    The collator must pass the weights on: `Collator(loss_weights=True)`.
    """

    accelerator: Any
    args: Any
    loss_is_scaled_for_ga = True
    """The divisor already covers all batches of a step, so the trainer must not scale again."""
    model_accepts_loss_kwargs: bool

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """Return the batches of a step, and the sum of their weights over all processes."""
        self.model_accepts_loss_kwargs = True  # else older transformers (5.16) scale again
        batches, _ = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        own = [batch["loss_weights"].sum().to(self.accelerator.device) for batch in batches]
        return batches, self.accelerator.gather(torch.stack(own).sum()).sum() if own else None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of one batch, as its share of the loss of the step.

        Raises:
            UsageError: the trainer was told to compute another loss.
        """
        self._check_loss()
        labels, weights = inputs["labels"], inputs["loss_weights"]
        applied = ("labels", "loss_weights")
        outputs = model(**{name: value for name, value in inputs.items() if name not in applied})
        loss = weighted_loss(outputs.logits, labels, weights)
        if num_items_in_batch is None:
            loss = loss / weights.sum()
        else:  # gradients are averaged over the processes
            loss = loss / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _check_loss(self) -> None:
        told = {
            "label_smoothing_factor": getattr(self.args, "label_smoothing_factor", 0),
            "compute_loss_func": getattr(self, "compute_loss_func", None),
            'loss_type="dft"': getattr(self.args, "loss_type", None) == "dft",
        }
        if others := [name for name, is_told in told.items() if is_told]:
            fix = "leave it out, or compute the loss with weighted_loss()"
            raise UsageError("WeightedLoss", ", ".join(others), "cross entropy alone", fix)
