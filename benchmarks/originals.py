"""The baselines' PyTorch originals, loaded from clones of their repositories.

One folder holds the clones: EAL-ICNet (github.com/chndaz), pytorch-FCN-easiest-demo (bat67),
HRNet-Semantic-Segmentation (HRNet) and segmentation_models.pytorch (qubvel-org). Packages that they
import but do not need for a forward pass need not be installed.
"""

import importlib
import pathlib
import sys
import types

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def _stand_in(name: str, **attributes):
    """Register an empty module with these attributes if the module is not installed."""
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(attributes)


def _bare_package(name: str, folder: pathlib.Path):
    """Register a package whose modules can be imported without running its `__init__`."""
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(folder)]


def _eal_icnet_loader(file: str, cls: str):
    def load(folder: pathlib.Path) -> nn.Module:
        root = folder / "EAL-ICNet"
        _stand_in("torchsummary", summary=None)
        _stand_in("IPython", embed=None)
        _bare_package("segmentation", root)
        _bare_package("segmentation.light_Net", root / "light_Net")
        module = importlib.import_module(f"segmentation.light_Net.{file}")
        return getattr(module, cls)(1, 1)

    return load


class _VGG(nn.Module):
    """Stand-in for torchvision's VGG with the parts that FCN.py uses."""

    def __init__(self, features):
        super().__init__()
        self.features, self.classifier = features, nn.Identity()


def _load_fcn(folder: pathlib.Path) -> nn.Module:
    _stand_in("torchvision", models=None)
    _stand_in("torchvision.models.vgg", VGG=_VGG)
    sys.path.insert(0, str(folder / "pytorch-FCN-easiest-demo"))
    fcn = importlib.import_module("FCN")
    encoder = fcn.VGGNet(pretrained=False, requires_grad=True, remove_fc=True)
    stem = encoder.features[0]
    encoder.features[0] = nn.Conv2d(1, stem.out_channels, 3, padding=1)
    return fcn.FCNs(encoder, 1)


class _Attributes(dict):
    """A dictionary whose keys are also attributes."""

    __getattr__ = dict.__getitem__


class _HRNet(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        y = self.network(x)
        return functional.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)


def _hrnet_loader(width: int):
    def load(folder: pathlib.Path) -> nn.Module:
        vars(np).setdefault("int", int)  # a name that newer NumPy no longer has
        _bare_package("hrnet_models", folder / "HRNet-Semantic-Segmentation/lib/models")
        module = importlib.import_module("hrnet_models.seg_hrnet")
        extra = {
            "STAGE1": {"NUM_CHANNELS": [64], "BLOCK": "BOTTLENECK", "NUM_BLOCKS": [4]},
            "FINAL_CONV_KERNEL": 1,
        }
        for stage, modules in ((2, 1), (3, 4), (4, 3)):
            extra[f"STAGE{stage}"] = {
                "NUM_MODULES": modules,
                "NUM_BRANCHES": stage,
                "NUM_BLOCKS": [4] * stage,
                "NUM_CHANNELS": [width << k for k in range(stage)],
                "BLOCK": "BASIC",
                "FUSE_METHOD": "SUM",
            }
        config = _Attributes(
            MODEL=_Attributes(EXTRA=_Attributes(extra), ALIGN_CORNERS=True),
            DATASET=_Attributes(NUM_CLASSES=1),
        )
        network = module.HighResolutionNet(config)
        network.conv1 = nn.Conv2d(1, 64, 3, stride=2, padding=1, bias=False)
        return _HRNet(network)

    return load


class _EncoderDecoder(nn.Module):
    def __init__(self, encoder, decoder, head):
        super().__init__()
        self.encoder, self.decoder, self.segmentation_head = encoder, decoder, head

    def forward(self, x):
        return self.segmentation_head(self.decoder(self.encoder(x)))


def _smp_loader(network: str, cls: str):
    def load(folder: pathlib.Path) -> nn.Module:
        root = folder / "segmentation_models.pytorch/segmentation_models_pytorch"
        smp = "segmentation_models_pytorch"
        for name in ("", ".base", ".encoders", ".decoders", f".decoders.{network}"):
            _bare_package(smp + name, root / name.replace(".", "/").lstrip("/"))
        efficientnet = importlib.import_module(f"{smp}.encoders.efficientnet")
        decoder = importlib.import_module(f"{smp}.decoders.{network}.decoder")
        heads = importlib.import_module(f"{smp}.base.heads")
        parameters = efficientnet.efficient_net_encoders["efficientnet-b0"]["params"]
        encoder = efficientnet.EfficientNetEncoder(depth=5, **parameters)
        encoder.set_in_channels(1, pretrained=False)
        widths = (256, 128, 64, 32, 16)
        return _EncoderDecoder(
            encoder,
            getattr(decoder, cls)(encoder.out_channels, widths, 5),
            heads.SegmentationHead(widths[-1], 1),
        )

    return load


ORIGINALS = {
    "irdpnet": _eal_icnet_loader("IRDP", "IRDPNet"),
    "edanet": _eal_icnet_loader("EDANet", "EDANet"),
    "contextnet": _eal_icnet_loader("ContextNet", "ContextNet"),
    "esnet": _eal_icnet_loader("ESNet", "ESNet"),
    "letnet": _eal_icnet_loader("LETNet", "LETNet"),
    "unet": _eal_icnet_loader("UNet", "UNet"),
    "fcn": _load_fcn,
    "hrnet_w18": _hrnet_loader(18),
    "hrnet_w48": _hrnet_loader(48),
    "manet": _smp_loader("manet", "MAnetDecoder"),
    "unetplusplus": _smp_loader("unetplusplus", "UnetPlusPlusDecoder"),
}
"""By our name: function from the folder to the network for one channel and one class."""


def load(name: str, folder: pathlib.Path, weights: dict[str, torch.Tensor]) -> nn.Module:
    """Return an original with weights, in evaluation mode.

    Args:
      name: a key of `ORIGINALS`.
      folder: folder that holds the clones.
      weights: state_dict of the network.
    """
    model = ORIGINALS[name](folder)
    target = model.network if isinstance(model, _HRNet) else model
    target.load_state_dict(weights)
    return model.eval()
