"""Columns of the files that hold accuracies."""

import pyarrow

SHARD = pyarrow.schema(
    [
        ("seed", pyarrow.int64()),
        ("accuracy", pyarrow.float64()),  # fraction of the test set
        ("train_seconds", pyarrow.float64()),
        ("peak_memory_bytes", pyarrow.int64()),
        ("dataset_id", pyarrow.string()),
        ("synthetic_set_id", pyarrow.string()),
        ("features_id", pyarrow.string()),
        ("teacher_id", pyarrow.string()),
        ("device", pyarrow.string()),
        ("code_id", pyarrow.string()),
    ]
)
"""One row a seed of one evaluation; what the evaluation is stands in the file's manifest."""

MEASURED = ("train_seconds", "peak_memory_bytes")
"""Columns that differ each time the same result is made."""

RESULTS = pyarrow.schema(
    [
        ("scale", pyarrow.string()),
        ("dataset", pyarrow.string()),
        ("data_source", pyarrow.string()),
        ("method", pyarrow.string()),
        ("distill_network", pyarrow.string()),
        ("ipc", pyarrow.int64()),
        ("distill_seed", pyarrow.int64()),
        ("eval_network", pyarrow.string()),
        ("objective", pyarrow.string()),
        ("distance", pyarrow.string()),
        ("lambda_front", pyarrow.float64()),
        ("lambda_rear", pyarrow.float64()),
        ("teacher_network", pyarrow.string()),
        ("teacher_epoch", pyarrow.int64()),
        ("lr", pyarrow.float64()),
        ("epochs", pyarrow.int64()),
        *SHARD,
        ("shard", pyarrow.string()),
    ]
)
"""One row a seed of every evaluation, with every column needed to filter and join without parsing a name."""
