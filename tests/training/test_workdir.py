"""A work directory belongs to one run and to one process at a time."""

import json
import shutil

import pytest

from eal_icnet_jax.system import files
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training.trainer import Trainer
from eal_icnet_jax.training.workdir import Workdir
from tests import small_config


@pytest.fixture
def config(data_dir):
    return small_config.on(data_dir)


def test_a_damaged_config_file_is_reported(config, tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match=r"config\.json is damaged .* use a new --workdir"):
        Workdir(tmp_path, config)


def test_a_run_with_another_config_is_refused_and_the_workdir_is_unlocked(config, workdir_copy):
    config.seed = 1
    with pytest.raises(UserError, match=r"another config, seed \(0 there, 1 here\)"):
        Workdir(workdir_copy, config)
    config.seed = 0
    Workdir(workdir_copy, config).release()


def test_knobs_that_change_no_figure_may_change(config, workdir_copy):
    config.epochs, config.workers, config.log_every_steps = 9, 2, 7
    config.evaluation.threshold, config.dataset.data_dir = 0.4, "elsewhere"
    Workdir(workdir_copy, config).release()


def test_a_second_trainer_in_one_workdir_is_refused_and_writes_nothing(config, tmp_path):
    held = files.lock(tmp_path / ".lock", "")
    with pytest.raises(UserError, match="in use: another training writes it; wait for that"):
        Trainer(config, tmp_path)
    assert not (tmp_path / "config.json").exists()
    held.release()
    Workdir(tmp_path, config).release()


def test_a_workdir_that_cannot_be_made_is_reported(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        Workdir(tmp_path / "file" / "run", config)
    with pytest.raises(UserError, match="no --workdir: name a folder"):
        Workdir(None, config)


def test_data_that_changed_by_one_bit_are_not_trained_on(data_dir, workdir_copy, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(data_dir, data)
    record = next(data.rglob("*train.array_record*"))
    content = bytearray(record.read_bytes())
    content[len(content) // 2] ^= 1
    record.write_bytes(content)
    with pytest.raises(UserError, match=r"ic_synthetic/tiny/1\.0\.0 is not what the run in"):
        Trainer(small_config.on(data), workdir_copy)


def test_records_after_the_resumed_step_are_removed(config, workdir_copy):
    """Records of a killed run, and its last line, which is cut off."""
    path = workdir_copy / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 25, "loss": 0.5}\n{"step": 26, "lo')
    opened = Workdir(workdir_copy, config)
    try:
        opened.open_logs(step=8)
        assert [r["step"] for r in opened.records()][-1] == 8
        assert any("epoch" in record for record in opened.records() if record["step"] == 8)
        opened.open_logs(step=8, epoch_end_is_pending=True)
        assert not any("epoch" in record for record in opened.records() if record["step"] == 8)
        opened.log(9, {"loss": 0.125})
    finally:
        opened.close_logs()
        opened.release()
    assert json.loads(path.read_text().splitlines()[-1]) == {"step": 9, "loss": 0.125}
