"""What a person sees: tables and sentences on stdout."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from scalesearch.analysis.metrics import chance_text
from scalesearch.results.records import DONE, FAILED, TrialRecord
from scalesearch.runtime.text import plural
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.coefficients import Coefficients
from scalesearch.scaling.cost.count import Complexity
from scalesearch.scaling.family import FamilyMember, ScalingRule, rounding_note
from scalesearch.scaling.feasible import Candidate
from scalesearch.scaling.simplex import NAMES
from scalesearch.search.plan.design import Plan, halvings, planned_size, reaching
from scalesearch.search.plan.parts import Part
from scalesearch.search.plan.timing import DEVICE, predicted_seconds
from scalesearch.study.sections import Study

if TYPE_CHECKING:
    import pandas as pd

    from scalesearch.analysis.validation import Validation
    from scalesearch.results.load import Run

LEADERS = 5
_COLUMNS = (
    "± seed: standard deviation of the seeds. best?: chance of being the best, in brackets where the seeds rule it out."
)
# Columns of a terminal below which tables leave out what the others imply.
WIDE = 105


def console() -> Console:
    """Standard output; wide enough for the tables where it is no terminal."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=140)


def quantity(value: float) -> str:
    """A count with three digits and its unit: 385.8 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 5 min, 3.2 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def network(spec: ArchitectureSpec) -> str:
    """A network in one line: depths, stage widths, resolution."""
    depths = "-".join(map(str, spec.depths))
    widths = "-".join(str(stage.width) for stage in spec.stages)
    return f"{depths} × {widths} at {spec.resolution} px"


def trial_result(record: TrialRecord, metric: str = "val_loss", heading: str = "") -> str:
    """What a trial gave, in one line: its metric (called `heading`), or why it has none."""
    failure = record.failure
    if failure is None:
        return f"{heading or metric} {record.mean(metric):.4f}"
    return f"pruned {failure.reason}" if failure.kind == "pruned" else f"failed ({failure.kind}: {failure.reason})"


def _describe(made: Plan) -> str:
    """The baseline and its budget in one sentence."""
    cost = made.baseline_complexity
    return (
        f"{made.baseline.name}: {quantity(cost.macs)} macs, {quantity(cost.params)} parameters, "
        f"{quantity(cost.activations)} activations; {network(made.baseline.spec)}"
    )


def show_plan_head(parts: Sequence[tuple[Part, Plan]]) -> None:
    """The baseline, and two sentences a search of the study."""
    out = console()
    out.print(_describe(parts[0][1]), soft_wrap=True)
    for part, made in parts:
        if part.label:
            out.print(f"[bold]{part.label}[/]")
        for sentence in (_counts(part.study, made), _time(part.study, made)):
            out.print(sentence, soft_wrap=True)
        if corners := "" if part.rung else _corners(part.study, made):
            out.print(corners, soft_wrap=True)


def show_plan(parts: Sequence[tuple[Part, Plan]]) -> None:
    """The plan, and the candidates of each level as a table."""
    show_plan_head(parts)
    out = console()
    out.print("nominal: α·β²·γ² as asked for, before rounding; all else: of the network as it is")
    for part, made in parts:
        if made.trials and not part.rung:
            candidates = [trial.candidate for trial in made.trials]
            out.print(_candidates_table(candidates, part.study.design.nominal, out.width))


def _counts(study: Study, made: Plan) -> str:
    """How many networks were counted, how many cost the budget, how many would be trained."""
    if study.design.nominal:
        back = made.feasible - len(made.trials)
        return (
            f"{made.counted:,} grid points, {made.feasible} with a nominal product within {_percent(made.tolerance)} "
            f"of {made.budget:g}; {len(made.distinct)} distinct networks"
            + (f" ({back} points round back to the baseline)" if back else "")
        )
    planned = f"{len(made.trials)} of them planned ({study.design.kind})" if made.trials else "chosen as it goes (tpe)"
    sample = "" if made.counted == made.combinations else f" (a sample of {made.combinations:,})"
    alike = f" ({made.computed:,} without resolutions of the same maps)" if made.computed < made.feasible else ""
    return (
        f"{made.counted:,} networks counted{sample}; {made.feasible:,} cost {made.budget:g} × the baseline "
        f"within {_percent(made.tolerance)}{alike}; {planned}"
    )


def _time(study: Study, made: Plan) -> str:
    """How many trainings, and how long they should take."""
    planned = made.distinct
    seeds = plural(study.seeds, "seed")
    if study.race and study.seeds > 1:
        seeds = f"1 to {seeds} (a race)"
    epochs = plural(study.training.epochs, "epoch")
    trainings = f"{plural(planned_size(study, made), 'candidate')} × {seeds} × {epochs}"
    if study.prune:
        trainings = f"at most {trainings}, the lesser half pruned {plural(halvings(study, made), 'time')} on the way"
    if not planned:
        return trainings
    seconds = predicted_seconds(study, [trial.candidate for trial in planned])
    if seconds is None:
        return f"{trainings}; no time is predicted where `data.train` is 0 (all that is left)"
    if study.race:
        once = predicted_seconds(study.model_copy(update={"seeds": 1}), [trial.candidate for trial in planned])
        span = dict.fromkeys((duration(once or 0.0), duration(seconds)))
        return f"{trainings}: about {' to '.join(span)} on {DEVICE}"
    return f"{trainings}: about {duration(seconds)} on {DEVICE}"


def _corners(study: Study, made: Plan) -> str:
    """What a design that does not come near all corners leaves open, and how it would reach them."""
    if not made.unreached:
        return ""
    tolerance = reaching(study, made)
    cure = "no tolerance up to 0.1 changes that" if tolerance is None else f"--tolerance {tolerance:g} reaches them all"
    corners = " or ".join(f"all {name}" for name in made.unreached)
    return f"No candidate is near {corners}: an optimum there would be an extrapolation ({cure})"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _candidates_table(candidates: Sequence[Candidate], nominal: bool, width: int) -> Table:
    """Realised multipliers and shares; in a nominal grid the multipliers of its points."""
    rows = [
        {
            **multipliers(candidate.nominal if nominal else candidate.coefficients),
            **_shares(candidate.shares.values),
            "nominal": f"{candidate.nominal.product:.3f}×",
            "real cost": f"{candidate.macs_ratio:.3f}×",
            "macs": quantity(candidate.complexity.macs),
            "params": quantity(candidate.complexity.params),
            "network": network(candidate.spec),
        }
        for candidate in candidates
    ]
    return table(rows, width, ("depth", "width", "res.", "macs"))


def table(rows: Sequence[Mapping[str, str]], width: int, wide_only: Collection[str]) -> Table:
    """Rows of equal keys as a table: numbers to the right, `network` last; `wide_only` go where `width` is small."""
    grid = Table(box=None, pad_edge=False)
    headings = [heading for heading in rows[0] if width >= WIDE or heading not in wide_only]
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == "network" else "right", no_wrap=heading != "network")
    for row in rows:
        grid.add_row(*(row[heading] for heading in headings))
    return grid


def multipliers(coefficients: Coefficients) -> dict[str, str]:
    """α, β and γ as cells of a table."""
    values = (coefficients.alpha, coefficients.beta, coefficients.gamma)
    return {name: f"{value:.3f}" for name, value in zip("αβγ", values, strict=True)}


def _shares(values: Sequence[float]) -> dict[str, str]:
    return {name: f"{value:.2f}" for name, value in zip(("depth", "width", "res."), values, strict=True)}


def show_count(name: str, spec: ArchitectureSpec, cost: Complexity, base: Complexity) -> None:
    """The cost of one network."""
    out = console()
    out.print(f"{name}: {network(spec)}", soft_wrap=True)
    out.print(
        f"macs {cost.macs:,} ({cost.macs / base.macs:.3f}× the baseline), params {cost.params:,}, "
        f"activations {cost.activations:,}",
        soft_wrap=True,
    )


def show_family(rule: ScalingRule, members: Sequence[FamilyMember]) -> None:
    """The family as a table: multipliers, network, exact cost beside the nominal one."""
    rows = [
        {
            "φ": f"{member.phi:g}",
            "depth ×": f"{member.coefficients.alpha:.3f}",
            "width ×": f"{member.coefficients.beta:.3f}",
            "resolution ×": f"{member.coefficients.gamma:.3f}",
            "nominal": f"{rule.budget**member.phi:.4g}×",
            "real cost": f"{member.macs_ratio:.4g}×",
            "macs": quantity(member.complexity.macs),
            "params": quantity(member.complexity.params),
            "network": network(member.spec),
        }
        for member in members
    ]
    out = console()
    out.print(table(rows, out.width, ("nominal", "macs", "params")))


def show_status(run: Run) -> None:
    """How far a run is: counts, leaders, and whether there is signal yet."""
    out = console()
    states = run.states
    out.print(
        f"{run.study.name}: {states['complete']} trials complete, "
        + (f"{states['pruned']} pruned, " if states["pruned"] else "")
        + f"{states['failed']} failed, {states['running']} running, {states['waiting']} waiting"
    )
    if run.has_result:
        out.print(_leaderboard(run, LEADERS, out.width))
        out.print(_COLUMNS, soft_wrap=True)
        if left := states["waiting"] + states["running"]:
            out.print(f"[yellow]So far, with {plural(left, 'more trial')} to be trained:[/]")
        out.print(run.choice.signal.verdict, soft_wrap=True)


def show_result(run: Run) -> None:
    """The candidates, the chosen coefficients and what they rest on, the family, and where the files are."""
    from scalesearch.analysis.tables import seeds_note

    out = console()
    left = run.states["waiting"] + run.states["running"]
    if left:
        out.print(f"[yellow]So far: {plural(left, 'more trial')} to be trained.[/]")
    if not run.has_result:
        out.print("No candidate finished, so nothing can be chosen.")
    else:
        out.print("\n[bold]Candidates[/], best first")
        out.print(_leaderboard(run, len(run.candidates), out.width))
        out.print(_COLUMNS, soft_wrap=True)
        if note := seeds_note(run.candidates):
            out.print(note, soft_wrap=True)
        rule, choice = run.rule, run.choice
        out.print("\n[bold]Signal[/]")
        out.print(choice.signal.verdict, soft_wrap=True)
        out.print("\n[bold]Choice[/]")
        depth, width, resolution = choice.shares.values
        out.print(
            f"depth ×{rule.alpha:.3f} (α), width ×{rule.beta:.3f} (β), resolution ×{rule.gamma:.3f} (γ): "
            f"{depth:.0%} of the budget to depth, {width:.0%} to width, {resolution:.0%} to resolution",
            soft_wrap=True,
        )
        out.print(choice.basis, soft_wrap=True)
        out.print(choice.certainty, soft_wrap=True)
        if not rule.resolved:
            out.print("[yellow]The choice is not resolved: treat it as a guess.[/]")
        if run.rungs:
            _show_schedule(run)
        near = run.nearest
        out.print(
            f"Nearest network that costs {rule.budget:g}× within {_percent(run.study.tolerance)}: {network(near.spec)} "
            f"({near.macs_ratio:.3f}×)",
            soft_wrap=True,
        )
        out.print("\n[bold]Family[/]")
        show_family(rule, run.family())
        out.print(rounding_note(rule), soft_wrap=True)
    for row in run.candidates[run.candidates["status"].eq(FAILED)].to_dict("records"):
        out.print(f"failed: {_network_of(row)}: {row['failure']}", soft_wrap=True)
    out.print(f"\nFiles in {run.folder}: {', '.join(path.name for path in run.files())}", soft_wrap=True)


def _show_schedule(run: Run) -> None:
    """The rungs against the whole schedule."""
    from scalesearch.analysis.schedule import readable

    out, rows = console(), readable(run.schedule)
    whole = plural(run.study.training.epochs, "epoch")
    out.print(f"\n[bold]Schedule[/]: the order of the candidates against that after {whole}")
    if rows:
        out.print(table(rows, out.width, ("candidates",)))
        out.print(run.schedule_warning, soft_wrap=True)


def show_validations(validations: Sequence[Validation], metric: str) -> None:
    """The rule against its rivals, one table and verdict a φ."""
    from scalesearch.analysis.validation import readable

    out = console()
    for one in validations:
        out.print(f"\n[bold]Validation at φ = {one.phi:g}[/], on the test split")
        out.print(table(readable(one.table, metric), out.width, (*NAMES, "macs ×")))
        out.print(one.verdict, soft_wrap=True)
        out.print(one.reading, soft_wrap=True)


def _leaderboard(run: Run, most: int, width: int) -> Table:
    good = run.candidates[run.candidates["status"].eq(DONE)].head(most)
    levels = good["phi"].nunique()
    rows = [
        {
            "": str(place),
            **({"φ": f"{row['phi']:g}"} if levels > 1 else {}),
            **multipliers(Coefficients(row["alpha"], row["beta"], row["gamma"])),
            **_shares([row[f"{name}_share"] for name in ("depth", "width", "resolution")]),
            "real cost": f"{row['macs_ratio']:.3f}×",
            "loss": f"{row['val_loss']:.4f}",
            "± seed": f"{row['val_loss_sd']:.4f}" if row["seeds"] > 1 else "",
            "accuracy": f"{row['val_accuracy']:.2%}",
            "best?": chance_text(row["chance"], row["tied"]),
            "network": _network_of(row),
        }
        for place, row in _places(good)
    ]
    return table(rows, width, ("depth", "width", "res.", "real cost"))


def _places(good: pd.DataFrame) -> Iterator[tuple[int, Mapping[Hashable, Any]]]:
    """The rows of candidates, best first, and each one's place in its level."""
    for place, row in zip(good.groupby("phi").cumcount() + 1, good.to_dict("records"), strict=True):
        yield int(place), row


def _network_of(row: Mapping[Hashable, Any]) -> str:
    """The network of a row of the candidates' table, as `network` writes it."""
    stages = str(row["widths"]).split()[1:-1]
    return f"{str(row['depths']).replace(' ', '-')} × {'-'.join(stages)} at {row['resolution']} px"
