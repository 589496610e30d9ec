"""The trials of a comparison, each in a process of its own."""

import json
import time
from collections.abc import Callable

from eal_icnet_jax.comparison.contenders import Contender, deciding_knobs
from eal_icnet_jax.comparison.memory import peak_bytes
from eal_icnet_jax.comparison.plan import Plan
from eal_icnet_jax.system import jax_settings
from eal_icnet_jax.system.child_process import ChildDied, ChildProcess
from eal_icnet_jax.system.command_process import set_up_process
from eal_icnet_jax.system.errors import Interrupted, UserError
from eal_icnet_jax.system.files import write_atomically
from eal_icnet_jax.system.signals import sigterm_raises
from eal_icnet_jax.system.terminal import report_error, warn
from eal_icnet_jax.training import runs


def run_trial(contender: Contender, k: int) -> str:
    """Train and evaluate trial `k` in a process of its own.

    Another command may have finished it in the same workdir; then its files stay as they are.

    Returns:
      The text of the evaluation; empty if the trial was finished already.

    Raises:
      UserError: it cannot be trained.
      Interrupted: SIGTERM arrived, and the trial is saved.
    """
    if contender.trial_result(k) is not None:
        return ""
    config, folder = contender.configs[k], contender.trial_folder(k)
    set_up_process()
    with sigterm_raises():
        start = time.perf_counter()
        jax_settings.configure(training=True)
        text = runs.train(config, str(folder))
        result = {
            "config": deciding_knobs(config),
            "seconds": time.perf_counter() - start,
            "peak_bytes": peak_bytes(),
        }
        write_atomically(folder / "trial.json", json.dumps(result, indent=1) + "\n")
    return text


def train_missing(plan: Plan, report: Callable[[str], None]) -> list[str]:
    """Train the missing trials one after another, and return the names of those that failed.

    Args:
      plan: of the comparison.
      report: is called with a line for each trial.

    Raises:
      Interrupted: SIGTERM or SIGINT arrived.
    """
    failed = []
    missing = plan.missing_trials()
    for number, (contender, k) in enumerate(missing, 1):
        report(f"\n[{number}/{len(missing)}] {contender.name}, trial {k + 1}")
        name = f"{contender.name} trial {k + 1}"
        try:
            # A process for each trial, which gives its devices back.
            with ChildProcess() as child:
                text = child.call_interruptibly(run_trial, contender, k)
        except (Interrupted, KeyboardInterrupt) as error:
            raise Interrupted(
                "the finished part of the trials is saved; run the same command again to go on"
            ) from error
        except (UserError, ChildDied) as error:
            warn(f"{name} failed, going on with the others: {error}")
            failed.append(name)
        except Exception as error:
            report_error(error)
            warn(f"{name} failed, going on with the others")
            failed.append(name)
        else:
            if text:
                report(text)
    return failed
