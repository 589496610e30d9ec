"""A training that is killed many times ends as an undisturbed one."""

import collections
import json
import random
import signal
import time

import pytest

from tests import cli, trainings

KILLS = 50
ARGUMENTS = (
    "--config.epochs=60", "--config.checkpoint_every_steps=3", "--config.log_every_steps=1",
    "--config.early_stopping.patience=1000",
)  # fmt: skip


@pytest.mark.soak
def test_fifty_kills_end_in_the_same_parameters(small_training, tmp_path, figures):
    """SIGKILL at random moments: at the start, in steps, while checkpoints are written."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    result = cli.run("main", *small_training, *ARGUMENTS, f"--workdir={undisturbed}")
    assert result.returncode == 0, result.stderr
    last = trainings.steps(undisturbed)[-1]
    rng = random.Random(0)
    phases: collections.Counter = collections.Counter()
    lost, kills, before = [], 0, 0
    while kills < KILLS:
        process = trainings.Process("main", *small_training, *ARGUMENTS, f"--workdir={killed}")
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, 8))
            phase = "start"
        else:
            assert process.wait_for(r"step \d+/\d+"), process.text
            time.sleep(rng.uniform(0, 1.2))
            phase = "steps"
        process.signal(signal.SIGKILL)
        if process.end() != -signal.SIGKILL:
            break  # the training has ended
        kills += 1
        saved = trainings.steps(killed)[-1:] or [0]
        seen = [json.loads(line)["step"] for line in complete_lines(killed)]
        if phase == "steps":
            if list((killed / "checkpoints").glob("*.orbax-checkpoint-tmp*")):
                phase = "while a checkpoint was written"
            lost.append(max(seen, default=0) - saved[0])
        phases[phase] += 1
        assert saved[0] >= before, "a checkpoint has disappeared"
        before = saved[0]
    assert kills == KILLS, f"the training ended after {kills} kills: make it longer"
    result = cli.run("main", *small_training, *ARGUMENTS, f"--workdir={killed}")
    assert result.returncode == 0, result.stderr
    trainings.assert_same_end(killed, undisturbed, last)
    assert max(lost) <= 6, lost  # one is being written, three steps after the one before
    figures.update(kills=kills, steps=last, moments=dict(phases), most_steps_lost=max(lost))


def complete_lines(workdir):
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return text.splitlines(keepends=False) if text.endswith("\n") else text.splitlines()[:-1]
