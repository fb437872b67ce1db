"""Columns of an evaluation shard: kept apart, because evaluations depend on them and on nothing else here."""

import pyarrow

SHARD = pyarrow.schema(
    [
        ("seed", pyarrow.int64()),
        ("accuracy", pyarrow.float64()),  # fraction of the test set
        ("train_seconds", pyarrow.float64()),  # test included; of seeds that were trained at once, equal shares
        ("peak_memory_bytes", pyarrow.int64()),  # of seeds that were trained at once, that of all of them
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
