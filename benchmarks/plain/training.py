"""Evaluations, teachers and experts as the published scripts train them."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset
from torchvision import transforms

from elf.data.augmentation import augment
from elf.specs.training import TrainingRecipe


class Pictures(Dataset):
    """Pixels from 0 to 255, each picture turned into a normalised tensor when it is asked for, as torchvision does.

    Parameters
    ----------
    pixels : Tensor of uint8, shape (n, 3, side, side)
    labels : Tensor of int64, shape (n,)
    mean, std : tuple of 3 floats
    """

    def __init__(self, pixels: Tensor, labels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.pictures = pixels.permute(0, 2, 3, 1).numpy()
        self.labels = labels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pictures[index])), int(self.labels[index])


class Shuffled(Sampler):
    """A random order that is drawn from a generator as :func:`elf.training.protocol.train` draws it."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(self.count, generator=self.generator).tolist())


def elf_loss(network: nn.Module, images: Tensor, labels: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ELF loss with its default settings, and the logits."""
    student = network.front(images)
    logits, teacher_logits = network.rear(student), network.rear(features)
    loss = F.cross_entropy(logits, labels) + F.cross_entropy(student, features)
    return loss + F.cross_entropy(teacher_logits, labels), logits


def task_loss(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy and the logits."""
    logits = network(images)
    return F.cross_entropy(logits, labels), logits


def train(
    network: nn.Module,
    dataset: Dataset,
    recipe: TrainingRecipe,
    loss_of: Callable[..., tuple[Tensor, Tensor]],
    order_generator: torch.Generator,
    augmentation_generator: torch.Generator,
) -> None:
    """Train a network in place for all passes of a recipe at a constant rate."""
    sampler = Shuffled(len(dataset), order_generator)
    loader = DataLoader(dataset, batch_size=recipe.batch_size, sampler=sampler, num_workers=0)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    own = next(network.parameters())
    for _ in range(recipe.passes):
        network.train()
        losses, correct = 0.0, 0
        for images, labels, *targets in loader:
            images = augment(images.to(own.device, own.dtype), recipe.augmentation, augmentation_generator)
            labels = labels.long().to(own.device)
            loss, logits = loss_of(network, images, labels, *targets)
            losses += loss.item() * len(images)
            correct += np.sum(np.argmax(logits.cpu().detach().numpy(), axis=-1) == labels.cpu().numpy())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def tensors(images: Tensor, labels: Tensor, *targets: Tensor) -> TensorDataset:
    """Return a dataset of tensors, as the published evaluations and experts use."""
    return TensorDataset(images, labels, *targets)
