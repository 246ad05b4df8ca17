from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scalesearch.models.ops.base import Name
from scalesearch.models.ops.select import named
from scalesearch.training.packing import Packing, pack_on_host

TREE = {
    "a": {"kernel": jnp.arange(6.0).reshape(2, 3)},
    "b": {"bias": jnp.array([10.0, 11.0])},
    "c": {"kernel": jnp.arange(20.0, 28.0).reshape(2, 2, 2), "scale": jnp.array([30.0])},
}


@pytest.mark.parametrize("name", ["kernels", "shift"])
def test_there_and_back(name: Name) -> None:
    packing = Packing(TREE, named(name))
    packed = packing.pack(TREE)
    np.testing.assert_array_equal(packed.kernels, [*range(6), *range(20, 28)])
    np.testing.assert_array_equal(packed.vectors, [10, 11, 30])
    jax.tree.map(np.testing.assert_array_equal, pack_on_host(jax.tree.map(np.asarray, TREE)), packed)
    back = packing.unpack(packed)
    jax.tree.map(np.testing.assert_array_equal, back, TREE)
    assert jax.tree.structure(back) == jax.tree.structure(TREE)


@pytest.mark.parametrize("name", ["kernels", "shift"])
def test_template_may_be_abstract_and_a_group_empty(name: Name) -> None:
    packing = Packing(jax.eval_shape(lambda: {"bias": jnp.zeros(2)}), named(name))
    packed = packing.pack({"bias": jnp.array([1.0, 2.0])})
    assert packed.kernels.shape == (0,)
    np.testing.assert_array_equal(packing.unpack(packed)["bias"], [1, 2])
