"""The table of networks."""

import subprocess
import sys


def test_the_table_of_networks_is_available_without_jax():
    """A command lists the networks in its help without loading JAX."""
    code = (
        "import sys; from eal_icnet_jax import models; assert 'eal_icnet' in models.MODELS; "
        "assert 'create_model' in dir(models); assert not {'jax', 'flax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
