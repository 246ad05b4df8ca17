"""The screens of the command line: sentences and tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from scalesearch.baselines.efficientnet import Published
from scalesearch.data.resolve import with_sizes
from scalesearch.data.splits import Splits
from scalesearch.report.console import Output
from scalesearch.report.layout import fit, render
from scalesearch.report.views import networks, results
from scalesearch.report.views import plan as plans
from scalesearch.report.views.table import SHARE_KEYS, TRAINING_KEYS, Table, multipliers, network
from scalesearch.results.records import FAILED
from scalesearch.runtime.text import percent, plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.cost.count import Complexity
from scalesearch.scaling.explain import Explanation
from scalesearch.scaling.family import FamilyMember, cost_note, off_grid_note
from scalesearch.search.plan.design import Plan
from scalesearch.search.plan.parts import Part

if TYPE_CHECKING:
    from scalesearch.analysis.outcome import Outcome
    from scalesearch.analysis.validation import Validation
    from scalesearch.search.queue.activity import Activity
    from scalesearch.trained.evaluation import Evaluation
    from scalesearch.trained.result import TrainedModel

# Candidates that `status` lists.
LEADERS = 5
# Width of the tables in a file or a pipe.
_WIDTH_OF_FILES = 140
# Below this width `status` leaves out the multipliers, which the network implies.
_NARROW = 50
_PENDING = "yellow"

# The columns of each table on a terminal, in order.
_MULTIPLIERS = ("alpha", "beta", "gamma")
_RESULTS = ("val_loss", "val_loss_sd", "val_accuracy", "val_balanced_accuracy", "chance")
LEADERBOARD = ("rank", "phi", *_MULTIPLIERS, *SHARE_KEYS, "real_cost", *_RESULTS, "network")
_NARROW_LEADERBOARD = tuple(key for key in LEADERBOARD if key not in _MULTIPLIERS)
PLAN = (*_MULTIPLIERS, *SHARE_KEYS, "nominal", "real_cost", "macs_short", "params_short", "network")
FAMILY = (
    "phi", "depth_times", "width_times", "resolution_times", *SHARE_KEYS, "nominal", "real_cost", "macs_short",
    "params_short", *TRAINING_KEYS, "network",
)  # fmt: skip


def console() -> Console:
    """Standard output; wide enough for the tables if it is not a terminal."""
    out = Output(highlight=False)
    return out if out.is_terminal else Output(highlight=False, width=_WIDTH_OF_FILES)


class _Screen:
    """Prints sentences and tables; no text is read as markup."""

    def __init__(self, out: Console | None = None) -> None:
        self._console = out or console()

    @property
    def width(self) -> int:
        """Columns."""
        return self._console.width

    def say(self, text: str, style: str | None = None) -> None:
        """A sentence: a terminal wraps it between words, a file gets it as one line."""
        if text:
            self._console.print(text, style=style, markup=False, soft_wrap=not self._console.is_terminal)

    def title(self, title: str, rest: str = "") -> None:
        """The heading of what follows, below an empty line."""
        self._console.print(f"\n[bold]{title}[/]{rest}", soft_wrap=not self._console.is_terminal)

    def table(self, table: Table) -> None:
        """A table without its caption and notes, and what its headings mean; nothing if it has no rows."""
        if table.rows:
            table = fit(table, self._console.width)
            self._console.print(render(table, self._console.width))
            self.say(table.meanings)

    def files(self, files: Sequence[Path]) -> None:
        """The files of a folder that were written."""
        if files:
            self.say(f"\nFiles in {files[0].parent}: {', '.join(path.name for path in files)}")


_MOST_ROWS = 1000
"""Candidates that are shown of a plan."""


def show_plan_head(parts: Sequence[tuple[Part, Plan]], splits: Splits | None) -> None:
    """The data, the baseline, and for each search of the study what it would train and how long that takes."""
    screen = _Screen()
    if splits is not None:
        screen.say(plans.data(splits))
    screen.say(plans.baseline(parts[0][1]))
    screen.say(off_grid_note(parts[0][1].baseline))
    for place, (part, plan) in enumerate(parts):
        study = part.study if splits is None else with_sizes(part.study, splits)
        screen.say(part.label, "bold")
        screen.say(plans.counts(study, plan))
        screen.say(plans.trainings(study, plan, reference=place == 0))
        if not part.rung:
            for caution in plans.cautions(part.study, plan):
                screen.say(caution)
            if splits is not None:
                screen.say(plans.enlarged(plan, splits))


def show_plan(parts: Sequence[tuple[Part, Plan]], splits: Splits | None) -> None:
    """The plan, and the candidates of each level as a table; `splits` is None if the data were not looked at."""
    show_plan_head(parts, splits)
    screen = _Screen()
    screen.say("nominal: α·β²·γ² before rounding. All other columns describe the rounded network.")
    for part, plan in parts:
        if not part.rung:
            candidates = (trial.candidate for trial in plan.trials[:_MOST_ROWS])
            screen.table(networks.planned(candidates, part.study.design.nominal).select(*PLAN))
            if len(plan.trials) > _MOST_ROWS:
                screen.say(f"The first {_MOST_ROWS:,} of {len(plan.trials):,}; --json lists all.")


def show_count(name: str, spec: ArchitectureSpec, cost: Complexity, base: Complexity) -> None:
    """The cost of one network."""
    screen = _Screen()
    screen.say(f"{name}: {network(spec)}")
    screen.say(
        f"macs {cost.macs:,} ({cost.macs / base.macs:.3f}× the baseline), params {cost.params:,}, "
        f"activations {cost.activations:,}"
    )


def show_family(members: Iterable[FamilyMember], note: str = "") -> None:
    """The family as a table, and the `note` on it."""
    screen = _Screen()
    screen.table(networks.family(members).select(*FAMILY))
    screen.say(note)


def show_explanation(
    explained: Explanation, published: Sequence[Published], paragraphs: Iterable[Sequence[str]]
) -> None:
    """A family, what lies between its nominal and real cost, the published family if any, and `paragraphs` on them."""
    screen = _Screen()
    letters = ", ".join(
        f"{letter} = {value}" for letter, value in zip("αβγ", multipliers(explained.coefficients).values(), strict=True)
    )
    screen.say(f"{explained.baseline.name}, {letters}", "bold")
    members = [one.member for one in explained.members]
    screen.table(networks.family(members).select(*FAMILY).without("params_short"))
    screen.title("Between nominal and real cost", ": what each factor multiplies, and what was rounded")
    screen.table(networks.explanation(explained).without("nominal", "real_cost"))
    if published:
        table = networks.published(published)
        screen.title(
            table.caption,
            ": the φ at which the paper's α, β, γ give each multiplier, and what they give at the φ of equal nominal "
            "cost",
        )
        screen.table(table)
    for paragraph in paragraphs:
        screen.say("\n" + " ".join(paragraph))


def show_evaluation(name: str, evaluation: Evaluation, files: Sequence[Path] = ()) -> None:
    """How good the model called `name` is, and the `files` that were written."""
    from scalesearch.report.views import evaluation as views

    screen = _Screen()
    screen.say(f"{name}: {views.what(evaluation)}")
    screen.table(views.measures(evaluation))
    screen.files(files)


def show_status(outcome: Outcome, activity: Activity | None = None, out: Console | None = None) -> None:
    """How far a run is: counts, what its workers do, leaders, and whether there is a signal yet.

    Args:
        outcome: what the records say.
        activity: what goes on; None to leave it out.
        out: where to print; standard output if None.
    """
    screen, states = _Screen(out), outcome.states
    screen.say(
        f"{outcome.study.name}: {states['complete']} trials complete, "
        + (f"{states['pruned']} pruned, " if states["pruned"] else "")
        + f"{states['failed']} failed, {states['running']} running, {states['waiting']} waiting"
    )
    if activity is not None:
        _show_activity(screen, activity)
    if outcome.has_result:
        shown = results.leaderboard(outcome.candidates.head(LEADERS), baseline=outcome.baseline)
        if activity is not None:
            screen.title("Candidates", ", best first")
        screen.table(shown.select(*(LEADERBOARD if screen.width >= _NARROW else _NARROW_LEADERBOARD)))
        if outcome.trials_left:
            screen.say(f"So far, with {plural(outcome.trials_left, 'more trial')} to be trained:", _PENDING)
        screen.say(outcome.standing.answer)
        screen.say(outcome.choice.signal.verdict)


def _show_activity(screen: _Screen, activity: Activity) -> None:
    """Workers, throughput, time left, and what went wrong."""
    from scalesearch.report.views import activity as views

    if activity.running:
        screen.title("Workers")
        screen.table(views.workers(activity))
    for sentence in views.sentences(activity):
        screen.say(sentence)
    if activity.setbacks:
        table = views.setbacks(activity)
        screen.title(table.caption)
        screen.table(table)
        for note in table.notes:
            screen.say(note)


def show_result(outcome: Outcome, files: Sequence[Path]) -> None:
    """Any doubt, then candidates, signal, choice and family, failed trials, and the `files` of the folder."""
    from scalesearch.analysis.standing import SOUND
    from scalesearch.analysis.tables import seeds_note

    screen = _Screen()
    if outcome.trials_left:
        screen.say(f"So far: {plural(outcome.trials_left, 'more trial')} to be trained.", _PENDING)
    if not outcome.has_result:
        screen.say("No candidate finished, so nothing can be chosen.")
    else:
        sound = outcome.standing.state == SOUND
        screen.say("" if sound else outcome.standing.answer, _PENDING)
        screen.title("Candidates", ", best first")
        screen.table(results.leaderboard(outcome.candidates, baseline=outcome.baseline).select(*LEADERBOARD))
        screen.say(seeds_note(outcome.candidates))
        screen.say(outcome.standing.answer if sound else "")
    if outcome.has_rule:
        screen.title("Signal")
        screen.say(outcome.choice.signal.verdict)
        _show_choice(screen, outcome)
        if outcome.rungs:
            _show_schedule(screen, outcome)
        nearest = outcome.nearest
        screen.say(
            f"Nearest network that costs {outcome.rule.budget:g}× within {percent(outcome.study.tolerance)}: "
            f"{network(nearest.spec)} ({nearest.cost_ratio:.3f}×)"
        )
        screen.title("Family")
        members = outcome.family()
        show_family(members, cost_note(members, outcome.study.tolerance))
    failed = outcome.candidates[outcome.candidates["status"].eq(FAILED)]
    for row in failed.to_dict("records"):
        screen.say(f"failed: {results.network_of(row)}: {row['failure']}")
    screen.files(files)


def _show_choice(screen: _Screen, outcome: Outcome) -> None:
    """The rule and what it rests on."""
    rule, choice = outcome.rule, outcome.choice
    depth, width, resolution = (percent(share, 2) for share in choice.shares.values)
    screen.title("Choice")
    screen.say(
        f"depth ×{rule.alpha:.3f} (α), width ×{rule.beta:.3f} (β), resolution ×{rule.gamma:.3f} (γ): "
        f"{depth} of the budget to depth, {width} to width, {resolution} to resolution"
    )
    screen.say(choice.basis)
    screen.say(choice.certainty)
    if not rule.resolved:
        screen.say("The choice is not resolved: treat it as a guess.", _PENDING)


def _show_schedule(screen: _Screen, outcome: Outcome) -> None:
    """The rungs against the whole schedule."""
    whole = plural(outcome.study.training.epochs, "epoch")
    screen.title("Schedule", f": candidate order after fewer epochs, compared with {whole}")
    screen.table(results.schedule(outcome.schedule))
    screen.say(outcome.schedule_warning)


def show_validations(validations: Sequence[Validation], metric: str) -> None:
    """The rule against its rivals: one table and verdict for each φ."""
    screen = _Screen()
    for one in validations:
        screen.title(f"Validation at φ = {one.phi:g}", ", on the test split")
        table = results.validation(one, metric)
        screen.table(table)
        for note in table.notes:
            screen.say(note)


def show_trained(trained: TrainedModel) -> None:
    """The network, its best epoch, and the folder."""
    screen, best = _Screen(), trained.best
    accuracy = f"validation accuracy {percent(best.val_accuracy, 4)}"
    if best.val_balanced_accuracy is not None:
        accuracy += f" (balanced {percent(best.val_balanced_accuracy, 4)})"
    screen.say(f"{trained.card.name}: {network(trained.card.spec)}")
    screen.say(f"best epoch {best.epoch} of {len(trained.curves)}: {accuracy}, validation loss {best.val_loss:.4f}")
    screen.say(f"{trained.folder}: model.json, weights.safetensors, curves.csv, report.html")
