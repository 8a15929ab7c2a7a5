"""The model card: what a model is, what it was made from, how well it does and what is not known, in one page.

A card is text in sections, the same in Markdown and HTML. No number in it is written by hand: all come from the run.

Source:
    The questions are those of Mitchell et al. 2019, Model Cards for Model Reporting. doi:10.1145/3287560.3287596
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpi_unet.exporting.bundle_metadata import intended_use, words_of
from mpi_unet.exporting.facts import ModelFacts, input_words
from mpi_unet.files import write_text
from mpi_unet.inference.model import TrainedModel
from mpi_unet.report.content import absent_metrics, best_baseline, result_groups
from mpi_unet.report.limits import limits
from mpi_unet.report.page import render
from mpi_unet.report.wording import count, headline, number, reader_words, split_words

__all__ = ["Card", "Section", "as_markdown", "model_card", "write_card"]


@dataclass(frozen=True)
class Section:
    """One section of a card; what is empty is left out.

    Attributes:
        title: Its heading.
        text: Paragraphs.
        facts: Terms and what they are.
        table: Rows; the first one is the head.
        items: A list.
        commands: Lines for a terminal.
    """

    title: str
    text: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    items: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """A model card.

    Attributes:
        title: Name of the model.
        warnings: What has to be known before anything else.
        lead: The main result in one sentence.
        sections: The rest.
    """

    title: str
    warnings: tuple[str, ...]
    lead: str
    sections: tuple[Section, ...]


def model_card(
    facts: ModelFacts,
    model: TrainedModel,
    *,
    use: Section,
    postprocessing: Sequence[str],
    files: Mapping[str, str],
) -> Card:
    """The card of a model.

    Args:
        facts: What the run says.
        model: The networks.
        use: How the files of this export are used.
        postprocessing: What happens to probabilities, in sentences.
        files: Name to SHA-256 of the files that hold weights.
    """
    summary, design = facts.summary, facts.design
    what, images = words_of(model)
    known = model.domain
    warnings = [intended_use(facts)]
    if design.get("leakage_allowed"):
        warnings.append("Patients were on both sides of the split: the scores say nothing about new patients.")
    networks = f"{len(model.networks)} networks, one a fold, whose probabilities are averaged"
    sections = [
        Section(
            "What it does",
            (f"It outlines {what} in {images} of SPECT myocardial perfusion studies.",),
            facts=(
                ("Networks", networks if len(model.networks) > 1 else "one network"),
                ("Architecture", _architecture(facts)),
                ("Answer", f"probability of the outline in each voxel; LV from {model.threshold:g} on"),
            ),
        ),
        use,
        Section("What images must be like", facts=(*input_words(model, facts.intensities), *_treatment(facts))),
        Section("What happens to the answer", tuple(postprocessing)),
        Section(
            "What it has learnt from",
            facts=(
                ("Cohort", f"{known.cohort}; {facts.source}"),
                ("Licence of the images", facts.licence),
                ("Size", f"{known.num_cases} cases of {known.num_patients} patients"),
                ("Outlines", f"{what}, by {reader_words(design)}; {_outline_words(model)}"),
                ("Division", split_words(design)),
                *((term.capitalize(), text) for term, text in facts.recipe.items()),
            ),
        ),
        _scores(facts),
    ]
    if facts.agreement:
        said = facts.agreement.get("conclusion") or {}
        title = "Beside simulated readers" if facts.is_simulated else "Beside human readers"
        sections.append(Section(title, (str(said.get("text") or "no conclusion was drawn"),)))
    sections += [
        Section("What these numbers do not show", items=tuple(limits(_with_agreement(facts)))),
        Section(
            "Files of weights", table=(("file", "SHA-256"), *((name, digest) for name, digest in sorted(files.items())))
        ),
        Section("Made by", facts=tuple(_origin(facts, model))),
    ]
    return Card(model.name, tuple(warnings), headline(summary), tuple(sections))


def write_card(card: Card, markdown: Path, html: Path) -> None:
    """Write a card in both forms."""
    write_text(markdown, as_markdown(card))
    write_text(html, render("card.html.jinja", card=card))


def as_markdown(card: Card) -> str:
    r"""A card in Markdown.

    Example:
        >>> print(as_markdown(Card("m", ("Careful.",), "Dice 1.", (Section("Use", facts=(("a|b", "c"),)),))))
        # m
        <BLANKLINE>
        > **Careful.**
        <BLANKLINE>
        Dice 1.
        <BLANKLINE>
        ## Use
        <BLANKLINE>
        | | |
        |---|---|
        | a\|b | c |
        <BLANKLINE>
    """
    blocks = [f"# {card.title}", *(f"> **{warning}**" for warning in card.warnings), card.lead]
    for section in card.sections:
        blocks += [f"## {section.title}", *section.text]
        if section.facts:
            blocks.append(_table([("", ""), *section.facts]))
        if section.table:
            blocks.append(_table(section.table))
        if section.items:
            blocks.append("\n".join(f"- {item}" for item in section.items))
        if section.commands:
            blocks.append("\n".join(("```", *section.commands, "```")))
    return "\n\n".join(blocks) + "\n"


# --- Private helpers --------------------------------------------------------------------------------------------------


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [[_cell(cell) for cell in row] for row in rows]
    lines = ["| " + " | ".join(head) + " |" if any(head) else "|" + " |" * len(head), "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _architecture(facts: ModelFacts) -> str:
    target = str(facts.stored.model["_target_"])
    parameters = facts.design.get("parameters")
    counted = f", {parameters:,} parameters each" if parameters else ""
    return f"{target}, {facts.stored.model.get('spatial_dims', 2)}-D{counted}"


def _treatment(facts: ModelFacts) -> list[tuple[str, str]]:
    """The transforms of every image, in their order, with their arguments."""
    steps = []
    for given in facts.stored.deterministic.values():
        if given:
            words = ", ".join(f"{key}={value}" for key, value in given.items() if key not in ("_target_", "keys"))
            steps.append(f"{str(given['_target_']).rpartition('.')[2]}({words})")
    return [("Done to every image", ", then ".join(steps) or "nothing")]


def _outline_words(model: TrainedModel) -> str:
    outlines = model.domain.outlines
    unit = {"mm2": "mm2 a view"}.get(outlines.unit, outlines.unit)
    low, high = outlines.size
    return f"{low:,.3g} to {high:,.3g} {unit}"


def _scores(facts: ModelFacts) -> Section:
    rows: list[tuple[str, ...]] = [("score", "mean", "95 % interval", "median", "patients")]
    for group in result_groups(facts.summary):
        for row in group["rows"]:
            cells = row["cells"]
            label = f"{row['label']} ({cells['unit']})" if cells["unit"] else row["label"]
            rows.append((label, cells["mean"], cells["ci95"], cells["median"], cells["n"]))
    baseline = best_baseline(facts.summary, "dice")
    beside = f" The best trivial rule has a Dice of {number(baseline[1])}: {baseline[0]}." if baseline else ""
    return Section(
        "How well it does",
        (
            "Out of fold: each patient was outlined by a network that had not seen them. The mean of all networks, "
            f"which is what this model answers with, has no unseen patient in this cohort and was not scored.{beside}",
            *absent_metrics(facts.summary),
        ),
        table=tuple(rows),
    )


def _with_agreement(facts: ModelFacts) -> dict[str, Any]:
    return {**facts.summary, "agreement": "agreement.json"} if facts.agreement else dict(facts.summary)


def _origin(facts: ModelFacts, model: TrainedModel) -> list[tuple[str, str]]:
    environment = facts.environment
    names = ("mpi_unet", "torch", "monai", "numpy")
    versions = ", ".join(f"{name} {environment[name]}" for name in names if environment.get(name))
    return [
        ("Run", model.name),
        ("Trained", str(environment.get("finished") or "not stated")),
        ("Versions", versions or "not stated"),
        ("Folds", f"{len(model.networks)} of {count(facts.design.get('num_folds'))}"),
        ("Fingerprint of the cohort", str(environment.get("cohort_fingerprint") or "not stated")[:12]),
    ]
