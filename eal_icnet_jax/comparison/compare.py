"""A comparison from its config to its tables, plots and page."""

import os
import pathlib
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from eal_icnet_jax.comparison import page, results
from eal_icnet_jax.comparison.contenders import choose_contenders
from eal_icnet_jax.comparison.measurement import measure_all, prediction_folder
from eal_icnet_jax.comparison.plan import Plan
from eal_icnet_jax.comparison.table import Comparison, terminal_table
from eal_icnet_jax.comparison.trials import train_missing
from eal_icnet_jax.system.errors import UserError, os_error_cause
from eal_icnet_jax.system.files import MADE_BY, check_report_replaceable, write_atomically

MEASURED = "measured.json"
"""Name of the file of speed and memory."""


def _no_report(_: str):
    pass


def compare(
    config: ConfigDict,
    names: Sequence[str],
    trials: int,
    workdir: str | os.PathLike | None,
    report: Callable[[str], None] = _no_report,
    dry_run: bool = False,
    force: bool = False,
):
    """Train what is missing, measure speed and memory, and write the comparison into the workdir.

    Args:
      config: of all trials, apart from seed and network.
      names: of networks, of ablations, or "all" or "ablations". The others are compared with the
        first one.
      trials: number of trainings of each network.
      workdir: folder of the comparison. A comparison that was stopped goes on from there.
      report: is called with text for the user: the plan, each trial, the table.
      dry_run: whether to report the plan and do nothing else.
      force: whether files that another program wrote are replaced.

    Raises:
      UserError: an argument is wrong, a file of another program would be replaced, or some trials
        failed; the others are compared.
      Interrupted: SIGTERM or SIGINT arrived.
    """
    if not workdir:
        raise UserError("no --workdir: name a folder for the trials and the tables")
    folder = pathlib.Path(workdir).expanduser()
    contenders = choose_contenders(config, list(names), trials, folder)
    if dry_run:
        config = config.copy_and_resolve_references()
        config.dataset.prepare = False
    plan = Plan(config, contenders)
    text = plan.text()
    report(text)
    if dry_run:
        return
    check_report_replaceable(folder, ("plan.txt", MEASURED, *page.FILES), force)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the workdir {folder} cannot be written: {os_error_cause(error)}; name another"
        ) from error
    write_atomically(folder / "plan.txt", f"{text}\nwritten by {MADE_BY.decode()}\n")
    failed = train_missing(plan, report)
    measured = measure_all(plan, folder / MEASURED, report)
    if rows := results.read_rows(plan, measured):
        notes = results.notes(plan, measured, rows)
        masks = {c.name: prediction_folder(c) for c in contenders if c.name in measured["models"]}
        labels = list(config.dataset.labels)
        page.write_comparison(folder, Comparison(rows, notes, labels, plan.shown, masks))
        report(f"\n{terminal_table(rows)}\ntables, plot and page in {folder}")
    if failed:
        raise UserError(f"{', '.join(failed)} failed: run the same command again to try them again")
