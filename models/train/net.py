"""The one network family: convolutional stem -> tokens -> pre-norm attention -> mean pool -> linear.

Owns the shapes of the nets and nothing else. The dimension is a multiple of 64 and a head is 64
wide, because the fast kernel of the gateway covers exactly this family. Attention is written out in
plain operations, so that the exported graph holds only MatMul, Softmax and element-wise nodes.
"""
import copy
import math

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

HEAD = 64

SHAPES = {
    "bay": dict(size=64, channels=4, stem=(32, 64, 128, 128), blocks=2, outputs=1),
    "fire": dict(size=160, channels=3, stem=(24, 48, 96, 128), blocks=3, outputs=2),
}


class Stem(nn.Module):
    """Four 3x3 convolutions of stride 2, so one token covers 16x16 pixels."""

    def __init__(self, channels, widths):
        super().__init__()
        wide = [channels, *widths]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1, bias=False) for a, b in zip(wide, wide[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms):
            x = torch.relu(norm(conv(x)))
        return x


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.heads = dim // HEAD
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def attend(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, HEAD).permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-2, -1) * HEAD**-0.5, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, d))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Net(nn.Module):
    def __init__(self, size, channels, stem, blocks, outputs):
        super().__init__()
        dim, tokens = stem[-1], (size // 16) ** 2
        self.stem = Stem(channels, stem)
        self.position = nn.Parameter(torch.randn(1, tokens, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.head = nn.Linear(dim, outputs)
        for block in self.blocks:
            nn.init.normal_(block.proj.weight, std=0.02 / math.sqrt(2 * blocks))
            nn.init.normal_(block.down.weight, std=0.02 / math.sqrt(2 * blocks))

    def forward(self, image):
        x = self.stem(image).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def build(task):
    return Net(**SHAPES[task])


def fold_norms(net):
    """A copy in evaluation mode whose BatchNorms are folded into the convolutions."""
    net = copy.deepcopy(net).eval()
    net.stem.convs = nn.ModuleList(fuse_conv_bn_eval(c, n) for c, n in zip(net.stem.convs, net.stem.norms))
    net.stem.norms = nn.ModuleList(nn.Identity() for _ in net.stem.norms)
    return net


def count_params(net):
    return sum(p.numel() for p in net.parameters())


def count_mflop(task):
    """Millions of floating point operations of one forward; a multiply-add counts as two."""
    s = SHAPES[task]
    size, wide, macs = s["size"], [s["channels"], *s["stem"]], 0
    for a, b in zip(wide, wide[1:]):
        size //= 2
        macs += 9 * a * b * size * size
    tokens, dim = size * size, wide[-1]
    macs += s["blocks"] * (12 * dim * dim * tokens + 2 * tokens * tokens * dim)
    return round(2 * macs / 1e6, 1)
