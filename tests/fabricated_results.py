"""Results made up so that their statistics are known in closed form."""

import pandas as pd

from elf.results.columns import KEY_COLUMNS

NETWORKS = ["convnet-w128-d3-bn", "resnet18-in", "resnet18-bn", "vgg11-in", "vgg11-bn"]
ALIGNED = "convnet-w128-d3-in"
ABOUT = {"title": "Table 5", "scale": "smoke", "stand_ins": "CIFAR-10 is stood in for by digits", "seeds": 5}

STEPS = [-2, -1, 0, 1, 2]
"""Times a step d: population standard deviation sqrt(2) d, sample standard deviation sqrt(2.5) d."""


def cell(method="dm", network="resnet18-in", objective="task", **changes) -> dict:
    """Return the key of a cell; changes replace or add columns."""
    elf = objective.startswith("elf")
    key = {
        "paper_dataset": "cifar10",
        "dataset": "digits",
        "method": method,
        "distill_network": None if method == "random" else "convnet-w16-d3-in",
        "ipc": 10,
        "synthetic_variant": None,
        "paper_eval_network": network,
        "eval_network": network,
        "objective": objective,
        "distance": "ce" if elf else None,
        "lambda_front": 1.0 if elf else None,
        "lambda_rear": 1.0 if elf else None,
        "variant": "official" if elf else None,
        "temperature": 4.0 if objective == "kd" else None,
        "kd_weight": 1.0 if objective == "kd" else None,
        "teacher_network": None if objective == "task" else "convnet-w64-d3-in",
        "teacher_epoch": None if objective == "task" else 30,
        "lr": 0.01,
        "epochs": 30,
        "batch_size": 256,
        "precision": "float32",
        "batch_norm_splits": 1,
        "training_variant": None,
        "aligned": False,
    }
    return key | changes


def seeds(key: dict, accuracies, first_seed=0) -> list[dict]:
    """Return a row of results for each accuracy; None is a seed that is missing."""
    return [
        {column: key.get(column) for column in KEY_COLUMNS}
        | {
            "seed": first_seed + index,
            "accuracy": accuracy,
            "train_seconds": 1.5,
            "peak_memory_bytes": 3 * 2**20,
            "dataset_id": "dataset-0",
            "synthetic_set_id": "synthetic-1",
            "teacher_id": None if key["objective"] == "task" else "teacher-2",
            "features_id": None if key["objective"] == "task" else "features-3",
            "code_id": "code-4",
            "device": "cpu",
        }
        for index, accuracy in enumerate(accuracies)
        if accuracy is not None
    ]


def spread(mean: float, step: float, order=1) -> list[float]:
    """Return five accuracies around a mean; order -1 turns them round over the seeds."""
    return [mean + order * factor * step for factor in STEPS]


def frames(entries) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the cells and the results of (key, accuracies) pairs; no accuracies is a cell that was not run."""
    rows = [row for key, accuracies in entries for row in seeds(key, accuracies)]
    columns = list(seeds(cell(), [0.0])[0])
    return pd.DataFrame([key for key, _ in entries]), pd.DataFrame(rows, columns=columns)
