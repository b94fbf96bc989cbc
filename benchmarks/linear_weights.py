"""Trains the models that come with the package, and the demonstration calibration.

    TOCSIN_DATA=FOLDER python benchmarks/linear_weights.py OUT [TASK...]

The same data and the same versions of NumPy and SciPy on the same platform give the same digests.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tocsin
from tocsin.evaluation.scoring import score, trajectories
from tocsin.evaluation.texts import Texts, read_texts
from tocsin.model import Signal
from tocsin.stream.steps import StepDefinition
from tocsin.verifiers.linear import ENDING
from tocsin.verifiers.linear.model_file import load
from tocsin.verifiers.linear.training import held_out
from tocsin.verifiers.linear.verifier import LinearVerifier

HOLD_OUT = 0.2
STEPS = "sentence"

CATEGORIES = {
    # JailbreakBench, by behaviour asked for
    "Harassment/Discrimination": "harassment",
    "Malware/Hacking": "illegal_activity",  # MLCommons S14, code interpreter abuse
    "Physical harm": "violence",
    "Economic harm": "illegal_activity",  # gambling, pyramid schemes, bribery: S2
    "Fraud/Deception": "illegal_activity",
    "Government decision-making": "illegal_activity",  # forged documents, tampered votes: S2
    "Disinformation": "disinformation",
    "Sexual/Adult content": "sexual",
    "Privacy": "sensitive_data",  # S7
    "Expert advice": "expert_advice",
    # DiaSafety, by how a chatbot's reply fails its user
    "Offending User": "harassment",
    "Biased Opinion": "harassment",  # S10 asks for hate; these are slurs and stereotypes
    "Toxicity Agreement": "harassment",
    "Risk Ignorance": "self_harm",  # waves aside an illness, a danger or despair
    "Unauthorized Expertise": "expert_advice",
}
"""From the data's own categories to ours."""

TASKS: dict[str, dict[str, Any]] = {
    "harmful_answer": {
        "files": {
            "jailbreakbench": "MIT, JailbreakBench (Chao et al. 2024)",
            "xstest": "CC-BY-4.0, XSTest (Roettger et al. 2024)",
            "diasafety": "Apache-2.0, DiaSafety (Sun et al. 2022)",
        },
        "notes": "Is an answer harmful: does it help with something harmful that was asked for, or "
        "offend, endanger or mislead its reader? Learned on jailbroken and refused answers, on "
        "answers to harmless prompts that sound dangerous, and on replies of chatbots. A fifth of "
        "the groups is held out for the demonstration calibration.",
        "options": [
            *("--bits", "17", "--hold-out", str(HOLD_OUT), "--over-refusal", "prompt_unsafe=0"),
            *(word for pair in CATEGORIES.items() for word in ("--category", "=".join(pair))),
        ],
    },
    "injected_agent": {
        "files": {
            "agentdojo": "MIT, AgentDojo (Debenedetti et al. 2024)",
            "assebench_security": "Apache-2.0, ASSEBench (Luo et al. 2025)",
        },
        "notes": "Does an agent act against its user, above all because a tool's result told it "
        "to? Reads what the agent saw beside what it wrote. AgentDojo has five worlds of tasks and "
        "one wording of its attacks for most runs: others may look different.",
        "options": ["--observations", "--steps", "turn"],
    },
    "reasoning_error": {
        "files": {
            "bigbench_mistake": "Apache-2.0, BIG-Bench Mistake (Tyen et al. 2024)",
            "gsm8k_solutions": "MIT, GSM8K (Cobbe et al. 2021)",
        },
        "notes": "Is there a mistake in a chain of thought? **Weak**: n-grams do not calculate. It "
        "knows formats and habits that go with mistakes, and on solutions of word problems it is "
        "little better than chance. Use it as one member of a combination, or a reward model.",
        "options": ["--steps", "line"],
    },
}


MANIFEST = "MANIFEST.json"

DEMONSTRATION = """# A demonstration calibration of {name}

**This is no guarantee for your traffic.** It was made to try things out, on {n} trajectories of
research data in {groups} groups that the model was not trained on: a mixture of jailbroken answers,
answers to harmless prompts and replies of chatbots, in the shares that these data sets happen to
have. What it promises, it promises for more of the same mixture, and for nothing else. Calibrate on
your own labelled traffic before you rely on an alarm.

Steps are sentences, one trajectory a group counts, false alarms are bounded, delta is 0.1.

| epsilon | safe trajectories | power | false alarms, same data |
|---|---|---|---|
{rows}

Data: JailbreakBench (MIT), XSTest (CC-BY-4.0), DiaSafety (Apache-2.0).
"""


def main() -> None:
    """Train what is asked for, all by default."""
    out = Path(sys.argv[1])
    folder = Path(os.environ["TOCSIN_DATA"])
    for name in sys.argv[2:] or list(TASKS):
        train(name, folder, out)
    if "harmful_answer" in (sys.argv[2:] or TASKS):
        demonstrate("harmful_answer", folder, out)
    write_manifest(out)


def train(name: str, folder: Path, out: Path) -> None:
    """Run `tocsin train` for one task."""
    task = TASKS[name]
    words = [sys.executable, "-m", "tocsin", "train"]
    words += [str(folder / f"{file}.parquet") for file in task["files"]]
    words += ["--out", str(out / f"{name}{ENDING}"), "--card", str(out / f"{name}.md")]
    words += ["--task", name, "--notes", task["notes"]]
    words += [word for licence in task["files"].values() for word in ("--licence", licence)]
    options = task["options"]
    steps = [] if "--steps" in options else ["--steps", STEPS]
    subprocess.run([*words, *options, *steps], check=True)


def demonstrate(name: str, folder: Path, out: Path) -> None:
    """Calibrate on the groups that were held out of training."""
    model = load(out / f"{name}{ENDING}")
    steps = StepDefinition.parse(STEPS)
    verifier = LinearVerifier(model, f"linear:{name}", steps)
    columns: dict[str, list[Any]] = {
        key: [] for key in ("trajectory_id", "step", "score", "label", "group", "tokens")
    }
    for file in TASKS[name]["files"]:
        texts = read_texts(folder / f"{file}.parquet")
        _score(verifier, texts, steps, file, columns)
    calibration = tocsin.calibrate(
        tocsin.from_columns(**columns),
        epsilon=(0.05, 0.1),
        signal=Signal(
            verifier=verifier.declares.name,
            verifier_version=verifier.declares.version,
            step_definition=STEPS,
        ),
    )
    tocsin.save(calibration, out / f"{name}.calibration.json")
    rows = [
        f"| {c.epsilon:g} | {c.member.n} | {c.member.power:.3f} | {c.member.false_alarms:.3f} |"
        for c in calibration.certificates
    ]
    words = DEMONSTRATION.format(
        name=name, n=calibration.data.n, groups=calibration.data.n_groups, rows="\n".join(rows)
    )
    (out / f"{name}.calibration.md").write_text(words, encoding="utf-8")


def write_manifest(out: Path) -> None:
    """Write the SHA-256 of each file."""
    names = sorted(p.name for p in out.iterdir() if p.suffix in {ENDING, ".md", ".json"})
    listed = {
        name: hashlib.sha256((out / name).read_bytes()).hexdigest()
        for name in names
        if name != MANIFEST
    }
    (out / MANIFEST).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def _score(
    verifier: LinearVerifier,
    texts: Texts,
    steps: StepDefinition,
    file: str,
    columns: dict[str, list[Any]],
) -> None:
    if texts.label is None or texts.group is None:
        sys.exit(f"{file} lacks label or group")
    for number, trajectory in enumerate(trajectories(texts, steps)):
        first = int(texts.starts[number])
        group = str(texts.group[first])
        if not held_out(group, HOLD_OUT, 0):
            continue
        values = score(verifier, trajectory).values
        count = len(values)
        columns["trajectory_id"] += [f"{file}/{texts.trajectory_id[first]}"] * count
        columns["step"] += range(1, count + 1)
        columns["score"] += [np.nan if value is None else value for value in values]
        columns["label"] += [int(texts.label[first])] * count
        columns["group"] += [f"{file}/{group}"] * count
        columns["tokens"] += [max(1, (p.end - p.start) // 4) for p in trajectory.pieces]


if __name__ == "__main__":
    main()
