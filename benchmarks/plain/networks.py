"""ConvNet, VGG11 and ResNet18 for images of side 32, as the published scripts build them."""

from torch import Tensor, nn

VGG11 = [64, "pool", 128, "pool", 256, 256, "pool", 512, "split", 512, "pool", 512, 512, "pool"]


def build(name: str, classes: int) -> nn.Module:
    """Return a new network, such as ``convnet-w128-d3-in``, ``vgg11-bn`` or ``resnet18-in``.

    Its parameters come in the same order as those of :func:`elf.networks.building.build_network`.
    """
    family, *sizes, norm = name.split("-")
    if family == "convnet":
        return ConvNet(int(sizes[0][1:]), int(sizes[1][1:]), norm, classes)
    return {"vgg11": Vgg, "resnet18": ResNet}[family](norm, classes)


def normalisation(norm: str, channels: int) -> nn.Module:
    return nn.GroupNorm(channels, channels, affine=True) if norm == "in" else nn.BatchNorm2d(channels)


class Split(nn.Module):
    """A front that gives features, and a rear that gives logits."""

    front: nn.Module
    rear: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        return self.rear(self.front(images))


class ConvNet(Split):
    def __init__(self, width: int, depth: int, norm: str, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [nn.Conv2d(width if index else 3, width, 3, padding=1), normalisation(norm, width)]
            layers += [nn.ReLU(inplace=True), nn.AvgPool2d(2, 2)]
        self.front = nn.Sequential(*layers)
        self.rear = nn.Sequential(nn.Flatten(), nn.Linear(width * (32 >> depth) ** 2, classes))


class Vgg(Split):
    def __init__(self, norm: str, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for entry in VGG11:
            if entry == "split":
                front, layers = layers, []
            elif entry == "pool":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, entry, 3, padding=1), normalisation(norm, entry), nn.ReLU(inplace=True)]
                channels = entry
        self.front = nn.Sequential(*front)
        self.rear = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, classes))


class Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = normalisation(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = normalisation(norm, channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            convolution = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, normalisation(norm, channels))

    def forward(self, maps: Tensor) -> Tensor:
        result = self.norm2(self.conv2(self.norm1(self.conv1(maps)).relu()))
        return (result + self.shortcut(maps)).relu()


class ResNet(Split):
    def __init__(self, norm: str, classes: int) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), normalisation(norm, 64), nn.ReLU()]
        blocks = [
            Block(channels_in, channels, stride if position == 0 else 1, norm)
            for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2))
            for position, channels_in in enumerate((channels if stride == 1 else channels // 2, channels))
        ]
        self.front = nn.Sequential(*stem, *blocks[:7])
        self.rear = nn.Sequential(*blocks[7:], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))
