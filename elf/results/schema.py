"""Columns of ``results.parquet``."""

import pyarrow

from elf.specs.shard import SHARD

RESULTS = pyarrow.schema(
    [
        ("scale", pyarrow.string()),
        ("dataset", pyarrow.string()),
        ("data_source", pyarrow.string()),
        ("method", pyarrow.string()),
        ("synthetic_variant", pyarrow.string()),
        ("distill_network", pyarrow.string()),
        ("ipc", pyarrow.int64()),
        ("distill_seed", pyarrow.int64()),
        ("eval_network", pyarrow.string()),
        ("objective", pyarrow.string()),
        ("distance", pyarrow.string()),
        ("lambda_front", pyarrow.float64()),
        ("lambda_rear", pyarrow.float64()),
        ("variant", pyarrow.string()),
        ("temperature", pyarrow.float64()),
        ("kd_weight", pyarrow.float64()),
        ("teacher_network", pyarrow.string()),
        ("teacher_epoch", pyarrow.int64()),
        ("lr", pyarrow.float64()),
        ("epochs", pyarrow.int64()),
        ("batch_size", pyarrow.int64()),
        ("precision", pyarrow.string()),
        ("batch_norm_splits", pyarrow.int64()),
        ("training_variant", pyarrow.string()),
        ("labels", pyarrow.string()),
        *SHARD,
        ("shard", pyarrow.string()),
    ]
)
"""One row a seed of every evaluation, with every column needed to filter and join without parsing a name."""
