"""Every knob, with its meaning and the value the paper's training has.

A config file changes some of these and the command line others:
`--config=configs/synthetic.py --config.batch_size=4`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # Seed of the initial weights, the order of the images and their augmentation.
    config.seed = 0

    # The network: a name of eal_icnet_jax.models.MODELS, the image's channels (colour images are
    # turned to grey for 1, grey ones repeated for 3), and what its class takes beside them, set in
    # a config file: `with config.unlocked(): config.model.options.block_2_dilations = (4, 8)`.
    # It has one output per label of the dataset.
    config.model = ConfigDict()
    config.model.name = "eal_icnet"
    config.model.in_channels = 1
    config.model.options = ConfigDict()
    # Computation in "float32" or "bfloat16"; parameters, statistics and loss are float32 always.
    config.model.dtype = "float32"
    # Start from these weights: a checkpoint directory, trained or converted from PyTorch.
    config.model.checkpoint = ""

    config.dataset = ConfigDict()
    # A folder of datasets/, and one of its builder configs ("" for its first).
    config.dataset.name = "ic_synthetic"
    config.dataset.config = ""
    # Where prepared datasets lie; "" is TFDS's own place, $TFDS_DATA_DIR or ~/tensorflow_datasets.
    config.dataset.data_dir = ""
    # Prepare the dataset when it is missing: ic_synthetic is drawn, hy5syn downloaded, and all but
    # ic_synthetic are read from manual_dir where that is set, a folder that each dataset's README
    # describes.
    config.dataset.prepare = True
    config.dataset.manual_dir = ""
    # Train and validate on these datasets instead, such as ("omc", "hy5syn/grid"), and only test on
    # the one above; manual_dir then holds a folder for each, of its name.
    config.dataset.train_on = ()
    # What to train, validate and test on: TFDS splits or slices of them, such as "train[:100]".
    config.dataset.splits = ConfigDict()
    config.dataset.splits.train = "train"
    config.dataset.splits.validation = "validation"
    config.dataset.splits.test = "test"
    # The features that hold the masks, one output of the network each.
    config.dataset.labels = ("label",)
    # Train on random squares of this many pixels; 0 trains on whole images.
    config.dataset.crop_size = 0

    # Random changes to training images; labels follow the first two.
    config.augmentation = ConfigDict()
    config.augmentation.flip = False
    config.augmentation.rotate = False  # by quarter turns; images must be square
    config.augmentation.brightness = 0.0  # added, up to this much of the range, up or down
    config.augmentation.contrast = 0.0  # scaled about the mean, by up to this much, up or down

    # Images per step over all devices, and passes over the training split.
    config.batch_size = 1
    config.epochs = 30
    # Adam's learning rate, constant.
    config.learning_rate = 1e-3
    # Gradients of a larger global norm are scaled down to this one before Adam; 0 leaves all as
    # they are.
    config.gradient_clip_norm = 0.0

    # Loss: bce_weight * binary cross-entropy + dice_weight * Dice loss.
    config.loss = ConfigDict()
    config.loss.bce_weight = 0.5
    config.loss.dice_weight = 0.5
    config.loss.epsilon = 1e-6

    # Stop after this many epochs in a row whose validation loss is not min_delta below the best.
    config.early_stopping = ConfigDict()
    config.early_stopping.patience = 5
    config.early_stopping.min_delta = 1e-7

    config.evaluation = ConfigDict()
    # Images of one size that go through the network together.
    config.evaluation.batch_size = 1
    # A pixel is foreground from this probability up.
    config.evaluation.threshold = 0.5
    # How many of the worst and of the best images get a picture.
    config.evaluation.pictures = 4

    # Processes that read, decode and augment images; 0 does it in threads of the main process.
    config.workers = 0
    # Batches that wait on the device.
    config.prefetch = 2
    # Steps between lines of progress, and between checkpoints beside those after each epoch
    # (0 for none).
    config.log_every_steps = 20
    config.checkpoint_every_steps = 0

    return config.lock()
