"""Extract what a teacher gives for each synthetic image: its last feature map and its logits."""

import torch

from elf.artifacts.code import extract_features_code
from elf.artifacts.manifest import describe
from elf.artifacts.tensors import write_tensors
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.split import SplitNetwork
from elf.running.inputs import check_settings, read_synthetic_set, read_teacher
from elf.running.job import Job, arguments_of, parse_spec
from elf.specs.features import FeaturesSpec

BATCH = 256


@torch.inference_mode()
def extract_features(teacher: SplitNetwork, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the teacher's view of clean images (section 3.2 of the paper, F_i in Equations 6 and 7).

    The images are not augmented and the teacher is in evaluation mode, so that the features are constants.

    Parameters
    ----------
    teacher : SplitNetwork
    images : Tensor of shape (n, 3, side, side)
        In model-input space, on the teacher's device.

    Returns
    -------
    dict
        ``features`` of shape (n, C, H, W), which ELF uses, and ``logits`` of shape (n, classes), which plain
        logit distillation uses.
    """
    teacher.eval()
    features = torch.cat([teacher.front(part) for part in images.split(BATCH)])
    logits = torch.cat([teacher.rear(part) for part in features.split(BATCH)])
    return {"features": features, "logits": logits}


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of(
        "extract-features",
        __doc__,
        images="input: synthetic set",
        teacher="input: teacher checkpoint",
        features="output",
    )
    arguments = parser.parse_args(argv)
    spec = parse_spec(FeaturesSpec, arguments.settings)
    job = Job(arguments, extract_features_code(spec))
    images, _, synthetic_manifest = read_synthetic_set(arguments.images, job.device)
    state, teacher_manifest = read_teacher(arguments.teacher)
    check_settings(arguments.images, synthetic_manifest, dataset=spec.dataset)
    check_settings(
        arguments.teacher,
        teacher_manifest,
        dataset=spec.dataset,
        network=spec.teacher_network,
        epoch=spec.teacher_epoch,
    )
    teacher = build_network(
        spec.teacher_network,
        classes=teacher_manifest["spec"]["classes"],
        side=teacher_manifest["spec"]["side"],
        generator=generator(0, "overwritten by the checkpoint"),
    )
    teacher.load_state_dict(state)
    tensors = extract_features(teacher.to(job.device), images)
    manifest = describe(
        "features",
        spec.model_dump(mode="json"),
        inputs={"synthetic set": synthetic_manifest, "teacher": teacher_manifest},
        code=job.code,
        measured=job.measured(len(images)),
    )
    write_tensors(arguments.features, tensors, manifest)
