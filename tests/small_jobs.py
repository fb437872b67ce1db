"""Commands of the compute stages on a few digits and networks of width 4."""

from pathlib import Path

from conftest import PROJECT

from elf.cli import main
from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec, Objective
from elf.specs.expert import ExpertRecipe, ExpertSpec
from elf.specs.features import FeaturesSpec
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec
from elf.specs.training import FrepoRecipe, TrainingRecipe
from elf.study.config_reading import load_settings

NETWORK, BATCH_NORM, FREPO = "convnet-w4-d3-in", "convnet-w4-d3-bn", "frepoconv-w2-bn"
CLASSES, TRAIN_PER_CLASS, TEST_PER_CLASS, IPC = 10, 12, 3, 2
EXPERTS, EXPERT_EPOCHS = 2, (0, 1, 2)
TEACHER_EPOCHS, TEACHER_PASSES = (0, 2), 3
SET = "random-ipc2-seed0"


class SmallJobs:
    """Commands that find their inputs in a folder.

    Parameters
    ----------
    folder : Path
        Where :meth:`make_inputs` leaves a dataset, experts, a synthetic set, a teacher and its features.
    device : str
        Where the commands compute.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder = folder
        self._device = device
        self._recipes = load_settings(PROJECT / "config", "smoke").recipes

    def make_inputs(self) -> None:
        """Run the commands whose files the others read."""
        folder = self.folder
        for command in (
            self.prepare_dataset(folder / "dataset.safetensors"),
            *(self.train_expert(folder / f"expert{index}.safetensors", index) for index in range(EXPERTS)),
            self.distill(folder / "set.safetensors", "random", None),
            self.train_teacher(folder / "training.safetensors"),
        ):
            assert main(command) == 0
        training, teacher = f"{folder}/training.safetensors", f"{folder}/teacher.safetensors"
        assert main(["keep-checkpoint", "--training", training, "--epoch", "2", "--out", teacher]) == 0
        assert main(self.extract_features(folder / "features.safetensors")) == 0

    def prepare_dataset(self, out: Path) -> list[str]:
        """Return the command that prepares the digits."""
        spec = DatasetSpec(
            **{"name": "digits", "source": "digits", "side": 32, "normalisation": "digits"},
            train_per_class=TRAIN_PER_CLASS,
            test_per_class=TEST_PER_CLASS,
        )
        files = {"data_folder": "absent", "images": out, "card": out.with_suffix(".json")}
        return self._command("prepare-dataset", spec, **files)

    def train_expert(self, out: Path, index: int = 0) -> list[str]:
        """Return the command that trains an expert."""
        recipe = ExpertRecipe(**self.values("expert") | {"epochs": 3, "batch_size": 50})
        spec = ExpertSpec(dataset="digits", network=NETWORK, index=index, epochs=EXPERT_EPOCHS, recipe=recipe)
        return self._command("train-expert", spec, dataset=self.dataset, expert=out)

    def train_teacher(self, out: Path) -> list[str]:
        """Return the command that trains a teacher."""
        recipe = TrainingRecipe(**self.values("teacher") | {"epochs": TEACHER_PASSES, "batch_size": 50})
        spec = TeacherSpec(dataset="digits", network=NETWORK, seed=0, recipe=recipe)
        kept = ["--epochs", *map(str, TEACHER_EPOCHS)]
        return [*self._command("train-teacher", spec, dataset=self.dataset, training=out), *kept]

    def distill(self, out: Path, method: str, network: str | None, changes: dict | None = None) -> list[str]:
        """Return the command that makes a synthetic set, with changes of the recipe."""
        recipe = self.values(method)
        assert not set(changes or {}) - set(recipe)
        recipe |= changes or {}
        spec = SyntheticSpec(
            **{"dataset": "digits", "method": method, "module": method.replace("-", "_"), "network": network},
            **{"ipc": IPC, "seed": 0, "recipe": recipe},
        )
        count = int(recipe.get("experts", 0))
        experts = ["--experts", *(f"{self.folder}/expert{index}.safetensors" for index in range(count))]
        return [*self._command("distill", spec, dataset=self.dataset, images=out), *experts]

    def extract_features(self, out: Path) -> list[str]:
        """Return the command that shows the synthetic set to the teacher."""
        spec = FeaturesSpec(dataset="digits", synthetic_set=SET, teacher_network=NETWORK, teacher_epoch=2)
        files = {"images": self.folder / "set.safetensors", "teacher": self.folder / "teacher.safetensors"}
        return self._command("extract-features", spec, **files, features=out)

    def evaluate(self, out: Path, objective: dict, recipe: dict, seeds: tuple[int, ...] = (0, 1)) -> list[str]:
        """Return the command that evaluates the synthetic set, with changes of the recipe."""
        told = Objective(**objective)
        own = "frepo-evaluation" if told.name == "frepo" else "evaluation"
        protocol = (FrepoRecipe if told.name == "frepo" else TrainingRecipe)(**self.values(own) | recipe)
        spec = EvaluationSpec(
            **{"dataset": "digits", "synthetic_set": SET, "network": NETWORK, "objective": told, "recipe": protocol},
            **({"teacher_network": NETWORK, "teacher_epoch": 2} if told.needs_teacher else {}),
            seeds=seeds,
        )
        files = {"images": self.folder / "set.safetensors", "dataset": self.dataset, "shard": out}
        features = ["--features", f"{self.folder}/features.safetensors"] if told.needs_teacher else []
        return [*self._command("evaluate", spec, **files), *features]

    @property
    def dataset(self) -> Path:
        """The prepared dataset."""
        return self.folder / "dataset.safetensors"

    def values(self, recipe: str) -> dict:
        """Return the values of a recipe at the scale smoke."""
        return {key: entry.value for key, entry in self._recipes[recipe].values.items()}

    def _command(self, stage: str, spec, **files) -> list[str]:
        told = [stage, "--settings", spec.canonical(), "--device", self._device]
        return told + [word for name, file in files.items() for word in (f"--{name.replace('_', '-')}", str(file))]
