"""The baselines' PyTorch originals, out of clones of their repositories.

A folder holds the clones: EAL-ICNet (github.com/chndaz), pytorch-FCN-easiest-demo (bat67),
HRNet-Semantic-Segmentation (HRNet) and segmentation_models.pytorch (qubvel-org). What they import
beside torch and do not need for a forward pass may be absent.
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
    """A module in place of one that is not installed."""
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(attributes)


def _bare_package(name: str, folder: pathlib.Path):
    """A package whose modules can be imported without what its `__init__` imports."""
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(folder)]


def _of_eal_icnet(file: str, cls: str):
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
    """What FCN.py takes of torchvision's class."""

    def __init__(self, features):
        super().__init__()
        self.features, self.classifier = features, nn.Identity()


def _fcn(folder: pathlib.Path) -> nn.Module:
    _stand_in("torchvision", models=None)
    _stand_in("torchvision.models.vgg", VGG=_VGG)
    sys.path.insert(0, str(folder / "pytorch-FCN-easiest-demo"))
    fcn = importlib.import_module("FCN")
    encoder = fcn.VGGNet(pretrained=False, requires_grad=True, remove_fc=True)
    stem = encoder.features[0]
    encoder.features[0] = nn.Conv2d(1, stem.out_channels, 3, padding=1)
    return fcn.FCNs(encoder, 1)


class _Attributes(dict):
    """A dict whose keys are attributes too."""

    __getattr__ = dict.__getitem__


class _HRNet(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        y = self.network(x)
        return functional.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)


def _hrnet(width: int):
    def load(folder: pathlib.Path) -> nn.Module:
        vars(np).setdefault("int", int)  # a name that NumPy has dropped since
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


def _of_smp(network: str, cls: str):
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
    "irdpnet": _of_eal_icnet("IRDP", "IRDPNet"),
    "edanet": _of_eal_icnet("EDANet", "EDANet"),
    "contextnet": _of_eal_icnet("ContextNet", "ContextNet"),
    "esnet": _of_eal_icnet("ESNet", "ESNet"),
    "letnet": _of_eal_icnet("LETNet", "LETNet"),
    "unet": _of_eal_icnet("UNet", "UNet"),
    "fcn": _fcn,
    "hrnet_w18": _hrnet(18),
    "hrnet_w48": _hrnet(48),
    "manet": _of_smp("manet", "MAnetDecoder"),
    "unetplusplus": _of_smp("unetplusplus", "UnetPlusPlusDecoder"),
}
"""By our name: a function of the folder to the network for one channel and one class."""


def load(name: str, folder: pathlib.Path, weights: dict[str, torch.Tensor]) -> nn.Module:
    """An original with weights, in evaluation mode."""
    model = ORIGINALS[name](folder)
    target = model.network if isinstance(model, _HRNet) else model
    target.load_state_dict(weights)
    return model.eval()
