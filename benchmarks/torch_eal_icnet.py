"""EAL-ICNet in PyTorch, with which the benchmarks compare ours.

Written from the paper's wiring, with the parameter names of the released checkpoints. The
benchmarks' tests compare it with the golden figures.
"""

import torch
from torch import nn
from torch.nn import functional


class BNPReLU(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.bn = nn.BatchNorm2d(features, eps=1e-3)
        self.acti = nn.PReLU(features)

    def forward(self, x):
        return self.acti(self.bn(x))


class Conv(nn.Module):
    """A bias-free convolution that keeps the size, then BNPReLU if `activated`."""

    def __init__(self, inputs, outputs, kernel=(3, 3), *, stride=1, dilation=(1, 1), groups=1,
                 activated=True):  # fmt: skip
        super().__init__()
        padding = tuple(d * (k // 2) for d, k in zip(dilation, kernel, strict=True))
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding, dilation, groups=groups, bias=False
        )
        self.bn_prelu = BNPReLU(outputs) if activated else nn.Identity()

    def forward(self, x):
        return self.bn_prelu(self.conv(x))


class DABModule(nn.Module):
    def __init__(self, features, d):
        super().__init__()
        half = features // 2
        self.bn_relu_1 = BNPReLU(features)
        self.conv3x3 = Conv(features, half)
        self.dconv3x1 = Conv(half, half, (3, 1), groups=half)
        self.dconv1x3 = Conv(half, half, (1, 3), groups=half)
        self.ddconv3x1 = Conv(half, half, (3, 1), dilation=(d, 1), groups=half)
        self.ddconv1x3 = Conv(half, half, (1, 3), dilation=(1, d), groups=half)
        self.bn_relu_2 = BNPReLU(half)
        self.conv1x1 = Conv(half, features, (1, 1), activated=False)

    def forward(self, x):
        y = self.conv3x3(self.bn_relu_1(x))
        y = self.dconv1x3(self.dconv3x1(y)) + self.ddconv1x3(self.ddconv3x1(y))
        return self.conv1x1(self.bn_relu_2(y)) + x


class Downsample(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.pools = inputs < outputs
        width = outputs - inputs if self.pools else outputs
        self.conv3x3 = Conv(inputs, width, stride=2, activated=False)
        self.bn_prelu = BNPReLU(outputs)

    def forward(self, x):
        y = self.conv3x3(x)
        if self.pools:
            y = torch.cat([y, functional.max_pool2d(x, 2)], 1)
        return self.bn_prelu(y)


class TSSA(nn.Module):
    def __init__(self, features, heads):
        super().__init__()
        self.heads = heads
        self.temp = nn.Parameter(torch.ones(heads, 1))
        self.qkv = nn.Linear(features, features, bias=False)
        self.to_out = nn.Sequential(nn.Linear(features, features))

    def forward(self, x):
        batch, channels, height, width = x.shape
        w = self.qkv(x.flatten(2).transpose(1, 2))
        w = w.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        energy = functional.normalize(w, dim=-2).square().sum(-1)
        membership = torch.softmax(energy * self.temp, dim=1)
        share = membership / (membership.sum(-1, keepdim=True) + 1e-8)
        dots = share.unsqueeze(-2) @ w.square()
        out = -(w * membership.unsqueeze(-1)) / (1 + dots)
        out = self.to_out(out.transpose(1, 2).flatten(2))
        return out.transpose(1, 2).reshape(batch, channels, height, width)


class PositionAttention(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.query_conv = nn.Conv2d(features, features // 8, 1)
        self.key_conv = nn.Conv2d(features, features // 8, 1)
        self.value_conv = nn.Conv2d(features, features, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        query, key, value = (
            conv(x).flatten(2) for conv in (self.query_conv, self.key_conv, self.value_conv)
        )
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        return self.gamma * (value @ weights.transpose(1, 2)).view_as(x) + x


class EALICNet(nn.Module):
    """Images `[B, in_channels, H, W]` to logits `[B, classes, H, W]`; H, W are multiples of 8."""

    def __init__(self, in_channels=1, classes=1):
        super().__init__()
        self.init_conv = nn.Sequential(Conv(in_channels, 32, stride=2), Conv(32, 32), Conv(32, 32))
        self.bn_prelu_1 = BNPReLU(32 + in_channels)
        self.downsample_1 = Downsample(32 + in_channels, 64)
        self.DAB_Block_1 = self._block(1, 64, (2, 2, 2))
        self.bn_prelu_2 = BNPReLU(128 + in_channels)
        self.downsample_2 = Downsample(128 + in_channels, 128)
        self.DAB_Block_2 = self._block(2, 128, (4, 4, 8, 8, 16, 16))
        self.AttentionTSSA = TSSA(128, 8)
        self.PAM = PositionAttention(128)
        self.bn_prelu_3 = BNPReLU(256 + in_channels)
        self.classifier = nn.Sequential(Conv(256 + in_channels, classes, (1, 1), activated=False))

    @staticmethod
    def _block(number, features, dilations):
        block = nn.Sequential()
        for k, dilation in enumerate(dilations):
            block.add_module(f"DAB_Module_{number}_{k}", DABModule(features, dilation))
        return block

    def forward(self, image):
        half = functional.avg_pool2d(image, 3, 2, 1)
        quarter = functional.avg_pool2d(half, 3, 2, 1)
        eighth = functional.avg_pool2d(quarter, 3, 2, 1)
        x = self.bn_prelu_1(torch.cat([self.init_conv(image), half], 1))
        entry = self.downsample_1(x)
        x = self.bn_prelu_2(torch.cat([self.DAB_Block_1(entry), entry, quarter], 1))
        entry = self.downsample_2(x)
        x = self.DAB_Block_2(entry) + self.PAM(entry) + self.AttentionTSSA(entry)
        x = self.bn_prelu_3(torch.cat([x, entry, eighth], 1))
        logits = self.classifier(x)
        return functional.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)
