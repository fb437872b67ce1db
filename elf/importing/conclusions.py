"""What an import concluded about files that do not say themselves what they hold."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conclusion:
    """One finding and what it rests on.

    Attributes
    ----------
    subject : str
        What it is about, for example ``"layout"``.
    finding : str
        For example ``"NHWC"``.
    reason : str
        The values, shapes or names that led to it.
    """

    subject: str
    finding: str
    reason: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.finding} ({self.reason})"

    def as_dict(self) -> dict[str, str]:
        """Return it as what a manifest holds."""
        return {"subject": self.subject, "finding": self.finding, "reason": self.reason}
