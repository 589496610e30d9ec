"""Every knob with its meaning. The values are those of the paper's training.

A config file changes some of them, and the command line others:
`--config=configs/synthetic.py --config.batch_size=4`.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # Seed of the initial weights, the order of the images and their augmentation.
    config.seed = 0

    # Network: a name from eal_icnet_jax.models.MODELS.
    config.model = ConfigDict()
    config.model.name = "eal_icnet"
    # Channels of the images: 1 turns colour images to grey, 3 repeats grey images.
    config.model.in_channels = 1
    # Further arguments of the network's class. A config file sets them, for example with
    # `with config.unlocked(): config.model.options.block_2_dilations = (4, 8)`.
    config.model.options = ConfigDict()
    # Type of the computation, "float32" or "bfloat16". Parameters, statistics and loss are always
    # float32.
    config.model.dtype = "float32"
    # Checkpoint directory of the initial weights, trained here or converted from PyTorch; "" starts
    # from random weights.
    config.model.checkpoint = ""

    # Form of the images that the network takes. Its checkpoints carry it, and `predict` and
    # `evaluate` bring images into it.
    config.preprocessing = ConfigDict()
    # Percentiles of an image's levels that become black and white, such as (0.5, 99.5), decided
    # once per image; () leaves the levels, or takes what config.model.checkpoint carries.
    config.preprocessing.stretch = ()
    # Typical width in pixels of the wires, to which `predict --scale=auto` magnifies images, and
    # training its crops, by the wires of the first label. Validation and test then look at the
    # middle of each image in the same way, and `predict` at windows of config.dataset.crop_size,
    # which must be set. 0 leaves the images' size, or takes what config.model.checkpoint carries.
    config.preprocessing.wire_width = 0.0

    config.dataset = ConfigDict()
    # A folder of datasets/, and one of its builder configs ("" for the first one).
    config.dataset.name = "ic_synthetic"
    config.dataset.config = ""
    # Folder of the prepared datasets; "" is the default of TFDS, $TFDS_DATA_DIR or
    # ~/tensorflow_datasets.
    config.dataset.data_dir = ""
    # Whether to prepare the dataset if it is missing. ic_synthetic is drawn. The others are read
    # from manual_dir, a folder that each dataset's README describes; without one, hy5syn is
    # downloaded. The photographs of ic_synthetic also show the layouts whose masks lie there.
    config.dataset.prepare = True
    config.dataset.manual_dir = ""
    # Train and validate on these datasets instead, for example ("omc", "hy5syn/grid"), and only
    # test on the dataset above. Then manual_dir holds a folder for each, with its name.
    config.dataset.train_on = ()
    # How often each training image is used in an epoch, with other random changes each time.
    config.dataset.views = 1
    # Drawn images that are trained on beside, such as "ic_synthetic/few_optical_photographs", and
    # their part of the training images; "" for none.
    config.dataset.mixed = ""
    config.dataset.mixed_fraction = 0.5
    # TFDS splits to train, validate and test on, or slices of them such as "train[:100]".
    config.dataset.splits = ConfigDict()
    config.dataset.splits.train = "train"
    config.dataset.splits.validation = "validation"
    config.dataset.splits.test = "test"
    # Features that hold the masks. The network has one output for each.
    config.dataset.labels = ("label",)
    # Level of white of the images of 16 bits that a dataset is prepared from, such as 4095 for 12
    # bits; 0 takes what the files state, or else what all of them together show.
    config.dataset.white = 0
    # Level of the label's pixels that do not count, in the files that a dataset is prepared from;
    # -1 for none. A folder ignore/ beside image/ and label/ says the same with masks.
    config.dataset.ignore_value = -1
    # Whether a split may be used in which a label has no foreground at all, so that its figures say
    # nothing.
    config.dataset.allow_empty_labels = False
    # Side in pixels of the random squares to train on; 0 trains on whole images.
    config.dataset.crop_size = 0

    # Random changes of the training images. Labels are flipped and rotated with their images.
    config.augmentation = ConfigDict()
    config.augmentation.flip = False  # along each axis with probability 1/2
    config.augmentation.rotate = False  # by a multiple of 90 degrees; images must be square
    config.augmentation.brightness = 0.0  # largest value, of a range of 1, added or subtracted
    config.augmentation.contrast = 0.0  # largest fraction of scaling about the mean, up or down
    # Random views of crops: magnified by a factor from the first to the second, below 1 shrunk, on
    # top of config.preprocessing.wire_width, and turned by an angle of up to this many degrees;
    # what lies beyond the image is mirrored.
    config.augmentation.scale = (1.0, 1.0)
    config.augmentation.angle = 0.0
    config.augmentation.colour = 0.0  # largest fraction by which each channel is scaled
    config.augmentation.gamma = 1.0  # largest exponent of the values, or its inverse
    config.augmentation.blur = 0.0  # largest standard deviation in pixels
    config.augmentation.noise = 0.0  # largest standard deviation, of a range of 1
    config.augmentation.jpeg = 0  # lowest quality; 0 for no JPEG
    config.augmentation.cutout = 0.0  # largest side of a grey square, relative to the image's

    # Images per step over all devices, and number of passes over the training split.
    config.batch_size = 1
    config.epochs = 30
    # Learning rate of Adam: it rises linearly over the first `warmup_steps`, and stays constant or
    # falls to 0 along a cosine until the last step.
    config.learning_rate = 1e-3
    config.schedule = ConfigDict()
    config.schedule.warmup_steps = 0
    config.schedule.decay = "constant"  # or "cosine"
    # Factor per step of the exponential moving average of weights and batch statistics, such as
    # 0.999, which then is validated and saved; 0 keeps the weights themselves.
    config.average_decay = 0.0
    # Largest global norm of the gradients; larger ones are scaled down. 0 means no clipping.
    config.gradient_clip_norm = 0.0

    # Loss: bce_weight * binary cross-entropy + dice_weight * Dice loss + cldice_weight * clDice
    # loss, which compares centre lines and so counts broken and joined wires.
    config.loss = ConfigDict()
    config.loss.bce_weight = 0.5
    config.loss.dice_weight = 0.5
    config.loss.cldice_weight = 0.0
    # Weight of the foreground in the cross-entropy: a number, or "balanced", so that in the
    # training split foreground and background weigh the same, each label for itself.
    config.loss.positive_weight = config_dict.placeholder(object)
    config.loss.positive_weight = 1.0
    # Weights of false positives and false negatives in the Dice loss, which other weights than 0.5
    # make a Tversky loss: the larger the second, the fewer vias are missed.
    config.loss.false_positive_weight = 0.5
    config.loss.false_negative_weight = 0.5
    # Whether the Dice loss is that of each label by itself, averaged: for labels of unequal area.
    config.loss.per_label = False
    config.loss.epsilon = 1e-6

    # Training stops after `patience` consecutive epochs whose validation loss is not more than
    # min_delta below the best one.
    config.early_stopping = ConfigDict()
    config.early_stopping.patience = 5
    config.early_stopping.min_delta = 1e-7

    config.evaluation = ConfigDict()
    # Images of one size that are predicted together.
    config.evaluation.batch_size = 1
    # Probability from which a pixel is foreground.
    config.evaluation.threshold = 0.5
    # Number of the worst and of the best images that get a picture.
    config.evaluation.pictures = 4

    # Processes that read, decode and augment images; 0 uses threads of the main process.
    config.workers = 0
    # Batches that are transferred to the devices ahead of the one in use.
    config.prefetch = 2
    # Steps between lines of progress.
    config.log_every_steps = 20
    # Steps between checkpoints, besides the checkpoint after each epoch; 0 means only the latter.
    config.checkpoint_every_steps = 0

    return config.lock()
