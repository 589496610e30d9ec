"""Early stopping on the validation loss, as in the released training script."""

import dataclasses
import math


@dataclasses.dataclass
class EarlyStopping:
    """Stops when the validation loss no longer falls.

    An epoch resets the patience if its loss is more than `min_delta` below that of the last epoch
    that did. An epoch's weights are the best if its loss is lower than every earlier one.
    """

    reference_loss: float = math.inf
    epochs_without_gain: int = 0
    best_loss: float = math.inf
    best_step: int | None = None

    def update(self, loss: float, step: int, min_delta: float):
        """Take the validation loss after a step."""
        if loss < self.best_loss:
            self.best_loss, self.best_step = loss, step
        if self.reference_loss - loss > min_delta:
            self.reference_loss, self.epochs_without_gain = loss, 0
        else:
            self.epochs_without_gain += 1

    def forget_best(self):
        """Let the best of the epochs that follow be the best."""
        self.best_step, self.best_loss = None, math.inf
