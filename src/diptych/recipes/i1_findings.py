"""The findings of i1 (arXiv 2606.11289) one by one: the paper's numbers, ours where they were run, whether they agree.

`diptych train i1 --stage findings` writes the page, findings.md, from the reports that the ablations left in runs/; what was
not run is said to be not run. docs/i1_findings.md is the same page of the reports in docs/results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diptych.files import read_json, write_bytes

FLOOR = 0.1
"""A benchmark on which neither arm comes this far says nothing about either; set before any ablation was judged."""
Says = Literal["better", "worse", "equivalent"]
Verdict = Literal["agree", "disagree", "undecided", "not run"]


@dataclass(frozen=True)
class Claim:
    """One thing the paper says of an arm against the baseline of a study.

    Args:
        study: name of our ablation.
        arm: of it; held against its baseline.
        metric: ours.
        says: what the paper's numbers say of the arm.
    """

    study: str
    arm: str
    metric: str
    says: Says


@dataclass(frozen=True)
class Finding:
    """A finding.

    Args:
        name: F1 to F10.
        title: in few words.
        published: the numbers, DPG / PRISM / LongText unless said; ~ = read off a figure.
        claims: what of it our ablations can say something about.
        limits: where our small version differs in kind.
    """

    name: str
    title: str
    published: str
    claims: tuple[Claim, ...]
    limits: str = ""


FINDINGS = (
    Finding(
        "F1",
        "The text encoder matters; larger is not better",
        "T5Gemma-2B 84.66 / 56.4 / .211, T5Gemma-9B 83.02 / 55.2 / .138, T5Gemma2-1B 84.24 / 56.2 / .263, "
        "Qwen3-VL-4B 82.07 / 52.9 / .071, Qwen3-4B 81.17 / 51.4 / .055, FG-CLIP 2 76.07 / 43.3 / .010",
        (
            Claim("text_encoder", "minilm-words", "micro_geneval", "worse"),
            Claim("text_encoder", "minilm-sentence", "micro_longtext", "worse"),
        ),
        "One encoder read at three depths: we ask whether context and one state a token are needed, not which family is best.",
    ),
    Finding(
        "F2",
        "A transformer block between text encoder and network is the largest cheap gain, and one or two are enough",
        "cross-attention: MLP 84.66 / 56.4 / .211, 1 block 86.33 / 58.7 / .414, 2 blocks ~86.36 / 60.0 / .451, "
        "3 blocks ~86.21 / 60.2 / .492",
        (
            Claim("adapter", "1-block", "flow_error", "better"),
            Claim("adapter", "1-block", "micro_geneval", "better"),
            Claim("adapter", "1-block", "micro_longtext", "better"),
            Claim("adapter", "3-block", "micro_geneval", "better"),
        ),
    ),
    Finding(
        "F3",
        "AdaLN can go: 18 to 30 % fewer parameters at about no loss; time alone is better than time and text",
        "cross-attention: both 84.66 / 56.4 / .211, time only 85.98 / 57.5 / .391, text only 82.58 / 54.7 / .185, "
        "none 84.99 / 57.4 / .351",
        (
            Claim("adaln", "time", "flow_error", "better"),
            Claim("adaln", "text", "flow_error", "worse"),
            Claim("adaln", "none", "flow_error", "equivalent"),
            Claim("adaln", "time", "micro_geneval", "better"),
            Claim("adaln", "text", "micro_geneval", "worse"),
            Claim("adaln", "none", "micro_geneval", "equivalent"),
        ),
    ),
    Finding(
        "F4",
        "Long skips help, less on DPG the wider the network",
        "two streams, width 1152: with ~86.82 / 58.3 / .439, without ~85.77 / 56.2 / .297; "
        "width 1728: with ~87.20 / 60.9 / .584, without ~87.14 / 59.3 / .535",
        (
            Claim("long_skip", "without", "flow_error", "worse"),
            Claim("long_skip", "without", "micro_geneval", "worse"),
            Claim("long_skip", "without", "micro_longtext", "worse"),
        ),
    ),
    Finding(
        "F5",
        "Two streams are best, cross-attention is last",
        "width 1152: cross-attention 84.66 / 56.4 / .211, single-stream 85.89 / 55.6 / .293, dual-stream 86.82 / 58.3 / .439",
        (
            Claim("backbone", "dual", "micro_geneval", "better"),
            Claim("backbone", "dual", "micro_longtext", "better"),
            Claim("backbone", "single", "micro_geneval", "better"),
        ),
        "Networks of one width, as in the paper: a stream more is more parameters.",
    ),
    Finding(
        "F6",
        "The captioner's generation matters more than its size",
        "ImageNet-22K alone: Qwen2-VL-2B ~78.65 / 45.9, Qwen2.5-VL-3B ~79.62 / 47.0, Qwen3-VL-2B ~82.80 / 51.6, "
        "Qwen3-VL-4B ~82.27 / 51.5, Qwen3-VL-30B-A3B ~83.72 / 50.8 (DPG / PRISM)",
        (
            Claim("captioner", "5%-wrong", "micro_geneval", "worse"),
            Claim("captioner", "30%-wrong", "micro_geneval", "worse"),
        ),
        "No VLM runs here: captions are made wrong on purpose, so this says what errors cost, not whose captions are best.",
    ),
    Finding(
        "F7",
        "60 % long captions do on rewritten prompts what 100 % do, and twice as well on short ones",
        "GenEval, ImageNet-22K alone, short prompt / repeated 4 times / rewritten: 0 % long .47 / .55 / .60, "
        "60 % .37 / .60 / .73, 100 % .17 / .48 / .73",
        (
            Claim("caption_length", "60%", "micro_geneval_rewritten", "equivalent"),
            Claim("caption_length", "60%", "micro_geneval", "better"),
            Claim("caption_length", "0%", "micro_geneval_rewritten", "worse"),
        ),
        "The rewriter is one that knows a fitting scene, the best there could be.",
    ),
    Finding(
        "F8",
        "Equal weights beat proportional ones; a cap between them writes best; each kind of picture brings something",
        "proportional 84.66 / 56.4 / .211, capped at 5.4 M ~84.96 / 57.5 / .415, equal ~85.14 / 58.2 / .335; "
        "no real 82.30 / 57.3 / .537, no synthetic 83.32 / 54.9 / .240, no text 84.75 / 54.0 / .017",
        (
            Claim("mixing", "equal", "flow_error", "better"),
            Claim("mixing", "equal", "micro_longtext", "better"),
            Claim("mixing", "capped", "micro_longtext", "better"),
            Claim("mixing", "no-text", "micro_longtext", "worse"),
            Claim("mixing", "no-real", "retrieval", "worse"),
        ),
        "Three sets instead of twelve, so a kind is one set.",
    ),
    Finding(
        "F9",
        "Far fewer different pictures do nearly as well; several captions a picture help where pictures are scarce",
        "pictures a set, all / 1.0 M / 0.4 M / 0.1 M: 85.56 / 85.34 / 84.67 / 84.71 DPG; ImageNet-22K alone at 0.1 M: "
        "~32.4 / 9.7 with one caption, ~48.3 / 21.0 with five (DPG / PRISM)",
        (
            Claim("repetition", "1/16", "micro_geneval", "equivalent"),
            Claim("repetition", "1/256", "micro_geneval", "worse"),
        ),
    ),
    Finding(
        "F10",
        "A stage at a higher resolution lifts text, whatever it sees",
        "256: 88.19 / 66.6 / .749; after 512: all 87.33 / 69.6 / .924, real only 87.82 / 70.4 / .900, "
        "synthetic only 87.03 / 70.4 / .916, text only 87.69 / 69.2 / .893",
        (
            Claim("resolution", "real-only", "micro_longtext", "equivalent"),
            Claim("resolution", "text-only", "micro_geneval", "equivalent"),
        ),
        "32 then 64 pixels; real pictures alone make a network forget to write at once here, as they are one set of emoji.",
    ),
)


def judged(claim: Claim, report: Mapping[str, Any] | None) -> tuple[Verdict, str]:
    """Whether a report agrees with a claim, and its number in words.

    A verdict of ours that is the claim's is "agree"; undecided stays undecided; anything else is "disagree". A report that
    could not judge recipes (fewer than five seeds) decides nothing, nor does a benchmark that no arm lifts off the floor.
    """
    if report is None:
        return "not run", ""
    cell = next((c for c in report["cells"] if (c["arm"], c["metric"]) == (claim.arm, claim.metric)), None)
    if cell is None or "delta" not in cell:
        return "not run", ""
    low, high = cell["interval"]
    words = f"{cell['value']:.3f}, {cell['delta']:+.3f} ({low:+.3f} to {high:+.3f})"
    if report["claim"] != "recipe":
        return "undecided", words + ", too few seeds for a claim about a recipe"
    if claim.metric != "flow_error" and max(cell["value"], cell["value"] - cell["delta"]) < FLOOR:
        return "undecided", words + ", both at the floor"
    if cell["verdict"] == "undecided":
        return "undecided", words
    return ("agree" if cell["verdict"] == claim.says else "disagree"), words


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a finding: the worst of its claims that were run; not run where none was."""
    order: tuple[Verdict, ...] = ("disagree", "undecided", "agree")
    worst: Verdict = "not run"
    for verdict in reversed(order):
        worst = verdict if verdict in verdicts else worst
    return worst


def page(runs: Path) -> str:
    """The page, from RUNS/i1-NAME/report.json."""
    reports = {}
    for study in {claim.study for finding in FINDINGS for claim in finding.claims}:
        path = runs / f"i1-{study.replace('_', '-')}" / "report.json"
        reports[study] = read_json(path) if path.is_file() else None
    lines = [
        "# What of i1's findings holds at small size",
        "",
        "Published numbers: DPG / PRISM / LongText unless said, of 0.6 to 2.8 billion parameters at 256 pixels; ~ = read off a "
        "figure. Ours: small networks on emoji, drawn shapes and written words at 64 pixels, how small stands with each; the "
        "value, its difference to the baseline and the 95 % interval over training seeds. So short a training says what learns "
        "faster, not what ends higher; flow error (lower is better) is what it can tell apart.",
        "",
        "| | finding | here |",
        "|---|---|---|",
    ]
    sections: list[str] = []
    for finding in FINDINGS:
        rows, verdicts = [], list[Verdict]()
        for claim in finding.claims:
            verdict, words = judged(claim, reports[claim.study])
            verdicts.append(verdict)
            said = {"better": "better than", "worse": "worse than", "equivalent": "as good as"}[claim.says]
            rows.append(f"| {claim.arm} is {said} the baseline | {claim.metric} | {words or '-'} | {verdict} |")
        lines.append(f"| {finding.name} | {finding.title} | **{together(verdicts)}** |")
        study = finding.claims[0].study
        sections += ["", f"## {finding.name}: {finding.title}", "", f"Published: {finding.published}.", ""]
        sections += [f"{finding.limits}", ""] if finding.limits else []
        report = reports[study]
        sections += [f"Ours: {report['question']}", ""] if report else []
        sections += ["| claim | metric | ours | |", "|---|---|---|---|", *rows, "", f"`diptych compare i1:{study} --size full`"]
    return "\n".join([*lines, *sections]) + "\n"


def write(out: Path, runs: Path) -> Path:
    """Write the page to out/findings.md."""
    write_bytes(out / "findings.md", page(runs).encode())
    return out / "findings.md"
