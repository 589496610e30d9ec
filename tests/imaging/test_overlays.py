import numpy as np

from eal_icnet_jax.imaging import overlays

MASK = np.zeros((16, 20), bool)
MASK[4:12, 5:15] = True


def test_an_overlay_tints_a_mask_and_outlines_it():
    for channels in (1, 3):
        out = overlays.overlay(np.ones((16, 20, channels), np.float32), MASK)
        assert out.shape == (16, 20, 3) and out.dtype == np.uint8
        assert (out[~MASK] == 255).all()
        np.testing.assert_array_equal(out[4, 5], overlays.ORANGE)
        np.testing.assert_array_equal(out[8, 10], [165, 205, 228])  # 35 % blue over white


def test_outlines_have_a_colour_for_each_mask():
    image = np.full((16, 20, 1), 7, np.uint8)
    plain, marked = overlays.outlined(image, {"metal": MASK, "via": np.roll(MASK, 3, axis=0)})
    assert plain.shape == marked.shape == (16, 20, 3) and (plain == 7).all()
    np.testing.assert_array_equal(marked[4, 5], overlays.ORANGE)
    np.testing.assert_array_equal(marked[14, 5], overlays.SKY_BLUE)
    assert (marked[0] == 7).all()
