"""Early stopping follows the released training script."""

from eal_icnet_jax.training.early_stopping import EarlyStopping


def test_a_gain_below_min_delta_keeps_new_weights_and_counts_towards_stopping():
    stopping = EarlyStopping()
    for step, loss in enumerate([0.5, 0.4, 0.39999, 0.45, 0.3], 1):
        stopping.update(loss, step, 1e-3)
    assert (stopping.best_loss, stopping.best_step) == (0.3, 5)
    assert stopping.epochs_without_gain == 0
    stopping.update(0.3, 6, 1e-3)
    stopping.update(0.2999, 7, 1e-3)
    assert (stopping.best_step, stopping.epochs_without_gain) == (7, 2)


def test_a_forgotten_best_is_replaced_by_the_next_epoch():
    stopping = EarlyStopping()
    stopping.update(0.1, 1, 0.0)
    stopping.forget_best()
    assert stopping.best_step is None
    stopping.update(0.2, 2, 0.0)
    assert (stopping.best_loss, stopping.best_step) == (0.2, 2)
    assert stopping.epochs_without_gain == 1
