"""What every specification shares: frozen, strict, and with one canonical text."""

import json

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen, validated description of all that determines an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    def canonical(self) -> str:
        """Return the specification as JSON with sorted keys and every value explicit.

        Two equal specifications give the same text, whatever the order of the keys they came from.
        """
        return canonical_json(self.model_dump(mode="json"))


def canonical_json(value) -> str:
    """Return JSON text that depends on the value alone: sorted keys, no spare white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
