"""The progress of a training: a bar on a terminal, lines in a log file."""

import sys
import time

from tqdm import tqdm


class Progress:
    """The loss, the speed and the time left, and a line for each epoch, on standard output.

    Args:
      steps: of the whole training.
      first_step: from which the run goes on.
      batch_size: images of a step.
      hidden: whether nothing is shown, as in all but the first of several processes.
    """

    def __init__(self, steps: int, first_step: int, batch_size: int, hidden: bool = False):
        self._batch_size, self._hidden = batch_size, hidden
        self._bar = tqdm(
            total=steps, initial=first_step, file=sys.stdout, dynamic_ncols=True, leave=False,
            bar_format="{desc} |{bar}| {remaining} left", mininterval=0,
            disable=hidden or not sys.stdout.isatty(),
        )  # fmt: skip
        self._steps = steps
        self._mark = first_step, time.perf_counter()

    def restart(self, step: int):
        """Leave what happened since the last report out of the speed: compilation, validation."""
        self._mark = step, time.perf_counter()

    def report(self, step: int, epoch: str, loss: float) -> float:
        """Show the state after a step; return the images per second since the last report."""
        now = time.perf_counter()
        steps, seconds = step - self._mark[0], now - self._mark[1]
        self._mark = step, now
        speed = steps * self._batch_size / seconds
        text = f"epoch {epoch}  step {step}/{self._steps}  loss {loss:.4f}  {speed:.1f} images/s"
        if self._bar.disable:
            left = (self._steps - step) * seconds / steps
            self.line(f"{text}  {tqdm.format_interval(left)} left")
        else:
            self._bar.set_description_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        return speed

    def line(self, text: str):
        """Print a line above the bar."""
        if not self._hidden:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def close(self):
        """Remove the bar."""
        self._bar.close()
