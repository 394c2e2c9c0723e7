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
    "bay": dict(size=64, channels=4, stem=(32, 64, 128, 192), blocks=3, outputs=1),
    "fire": dict(size=192, channels=3, stem=(24, 48, 96, 128), blocks=5, outputs=2),
}
# Dimension and blocks of nets with random weights (`export.py --params NAME`): cost only.
SIZES = {"5m": (192, 12), "22m": (384, 12), "86m": (768, 12), "1b": (1408, 42)}
# The teacher, and the big fire net: EfficientNet-Lite2 with ImageNet weights (Apache-2.0), fine-tuned.
TEACHER = "efficientnet-lite2"
BIG_SIZE = {"bay": 128, "fire": 256}


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

    def features(self, image):
        x = self.stem(image).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x).mean(1)

    def forward(self, image):
        return self.head(self.features(image))

    def grow(self, weights):
        """Goes on from a net of this shape with as many blocks or fewer; the new ones begin by doing next to nothing."""
        missing, unknown = self.load_state_dict(weights, strict=False)
        if unknown or not all(key.startswith("blocks.") for key in missing):
            raise ValueError(f"weights of another shape: {unknown or missing}")


class Control(nn.Module):
    """A plain residual CNN of equal cost: the stem, then 3x3 convolutions where the blocks were."""

    def __init__(self, size, channels, stem, blocks, outputs):
        super().__init__()
        dim = stem[-1]
        self.stem = Stem(channels, stem)
        # A block costs 12 dim^2 a token (plus attention), a 3x3 convolution 9 dim^2.
        count = round(blocks * 12 / 9)
        self.convs = nn.ModuleList(nn.Conv2d(dim, dim, 3, 1, 1, bias=False) for _ in range(count))
        self.norms = nn.ModuleList(nn.BatchNorm2d(dim) for _ in range(count))
        self.head = nn.Linear(dim, outputs)

    def features(self, image):
        x = self.stem(image)
        for conv, norm in zip(self.convs, self.norms):
            x = x + torch.relu(norm(conv(x)))
        return x.mean((2, 3))

    def forward(self, image):
        return self.head(self.features(image))


class Teacher(nn.Module):
    """EfficientNet-Lite with our heads. Takes the gateway's normalisation, and RGB only."""

    def __init__(self, task, weights=None):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        size, outputs = BIG_SIZE[task], SHAPES[task]["outputs"]
        self.body = EfficientNet.from_name(TEACHER, num_classes=1000, image_size=size)
        if weights:
            known = torch.load(weights, map_location="cpu")
            self.body.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in known.items()})
        self.head = nn.Linear(self.body._fc.in_features, outputs)
        self.body._fc = nn.Identity()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, image):
        # The published weights take -1 to 1, the gateway gives -2 to 2.
        return self.body.extract_features(image[:, :3] * 0.5).mean((2, 3))

    def forward(self, image):
        return self.head(nn.functional.dropout(self.features(image), 0.2, self.training))

    def layers(self):
        """Parameters from the first to the last, each with its share of the rate: the first know most already."""
        body, steps = self.body, len(self.body._blocks) + 2
        parts = [[body._conv_stem, body._bn0], *([b] for b in body._blocks), [body._conv_head, body._bn1], [self.head]]
        groups = [[p for part in those for p in part.parameters()] for those in parts]
        return [(group, 0.94 ** (steps - i)) for i, group in enumerate(groups)]


def build(task):
    return Net(**SHAPES[task])


def fold_norms(net):
    """A copy in evaluation mode whose BatchNorms are folded into the convolutions."""
    net = copy.deepcopy(net).eval()
    net.stem.convs = nn.ModuleList(fuse_conv_bn_eval(c, n) for c, n in zip(net.stem.convs, net.stem.norms))
    net.stem.norms = nn.ModuleList(nn.Identity() for _ in net.stem.norms)
    return net


def folded_teacher(teacher):
    """A copy of a teacher in evaluation mode, its BatchNorms folded into the convolutions."""
    teacher = copy.deepcopy(teacher).eval()
    pairs = [(teacher.body, "_conv_stem", "_bn0"), (teacher.body, "_conv_head", "_bn1")]
    for block in teacher.body._blocks:
        pairs += [(block, "_expand_conv", "_bn0"), (block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for owner, conv, norm in pairs:
        if hasattr(owner, conv):
            setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
            setattr(owner, norm, nn.Identity())
    return teacher


def count_params(net):
    return sum(p.numel() for p in net.parameters())


def of_size(name):
    """The shape of a net with this many parameters, 224 px."""
    dim, blocks = SIZES[name]
    return dict(size=224, channels=3, stem=(32, 64, 128, dim), blocks=blocks, outputs=2)


def count_mflop(s):
    """Millions of floating point operations of one forward of a shape; a multiply-add counts as two."""
    size, wide, macs = s["size"], [s["channels"], *s["stem"]], 0
    for a, b in zip(wide, wide[1:]):
        size //= 2
        macs += 9 * a * b * size * size
    tokens, dim = size * size, wide[-1]
    macs += s["blocks"] * (12 * dim * dim * tokens + 2 * tokens * tokens * dim)
    return round(2 * macs / 1e6, 1)
