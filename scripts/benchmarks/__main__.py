"""``scripts/bench``: arguments, rounds, progress.

Exit status: 0 everything was measured, whether the goals are reached or not; 1 something could not be; 2 wrong
arguments; 130 interrupted.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

import command_line
from benchmarks import experiments, machine, server
from benchmarks.cpu_time import Profile
from benchmarks.experiment import QUICK, Bench, Experiment, Scale
from benchmarks.machine import MIB, BenchError
from benchmarks.results import Result, table
from imagefs.cli.sizes import Size

NAMES = [experiment.name for experiment in experiments.ALL]


class _Experiments(click.ParamType[tuple[Experiment, ...]]):
    name = "NAME,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Experiment, ...]:
        names = str(value).split(",")
        for name in names:
            if name not in NAMES:
                self.fail(f"there is no {name!r}, only {', '.join(NAMES)}.", param, ctx)
        return tuple(experiment for experiment in experiments.ALL if experiment.name in names)


@click.command("bench", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--rounds", type=click.IntRange(1), help="How often everything is measured. Default: 5, quick 2."
)
@click.option(
    "--only", type=_Experiments(), default=",".join(NAMES), help=f"Some experiments of {', '.join(NAMES)}."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("bench-results.json"),
    show_default=True,
    help="Where all values are written.",
)
@click.option("--size", "whole_bytes", type=Size(MIB, 1 << 40), help="Of the large image. Default: 1G.")
@click.option("--quick", is_flag=True, help="Small sizes, to see that it works; the goals are not for these.")
@click.option(
    "--profile", is_flag=True, help="Also tell where the CPU time went, for whole images and random reads."
)
@click.option(
    "--dir",
    "parent_dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where caches and images are put meanwhile, all on one filesystem. Default: $TMPDIR.",
)
def bench(
    rounds: int | None,
    only: tuple[Experiment, ...],
    json_file: Path,
    whole_bytes: int | None,
    quick: bool,
    profile: bool,
    parent_dir: Path | None,
) -> int:
    """Measure imagefs side by side with other programs, and print a table of ratios."""
    machine.require()
    scale = QUICK if quick else Scale()
    if whole_bytes is not None:
        scale = replace(scale, whole_bytes=whole_bytes)
    profiles: list[Profile] | None = [] if profile else None
    began = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="imagefs-bench-", dir=parent_dir) as name:
        scratch = Path(name).resolve()
        _say("Making the images ...")
        contents = server.fill(scratch / "account", experiments.wanted_by(only, scale))
        with server.serving(scratch / "account", contents) as running:
            results = _run(only, rounds or (2 if quick else 5), Bench(running, scratch, scale, profiles))
    _write_json(json_file, began, scale, results, profiles or [])
    _print(results, profiles or [], is_full_scale=scale == Scale())
    return int(any(result.failure for result in results))


def _run(chosen: Sequence[Experiment], rounds: int, bench: Bench) -> list[Result]:
    results = []
    for number, experiment in enumerate(chosen, 1):
        values = []
        try:
            for round_number in range(1, rounds + 1):
                prefix = f"[{number}/{len(chosen)}] {experiment.name}, round {round_number} of {rounds}"
                _say(f"{prefix} ...")
                values.append(experiment.round(bench))
                _say(f"{prefix}: " + "; ".join(f"{name} {value:.4g}" for name, value in values[-1].items()))
            results += [Result.of(experiment.name, goal, values) for goal in experiment.goals]
        except (BenchError, OSError) as error:
            _say(f"{experiment.name} failed: {error}")
            results += [Result(experiment.name, goal, failure=str(error)) for goal in experiment.goals]
    return results


def _write_json(
    path: Path, began: str, scale: Scale, results: Sequence[Result], profiles: Sequence[Profile]
) -> None:
    document = {
        "began": began,
        "machine": machine.description(),
        "scale": {name: getattr(scale, name) for name in scale.__slots__},
        "results": [result.as_dict() for result in results],
        "profiles": [profile.as_dict() for profile in profiles],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    _say(f"All values are in {path}.")


def _print(results: Sequence[Result], profiles: Sequence[Profile], *, is_full_scale: bool) -> None:
    on = machine.description()
    print(f"{on['cpu']}, {on['cpus']} CPUs, Linux {on['kernel']}, Python {on['python']}, {on['rclone']}")
    if not is_full_scale:
        print("Not at the scale that the goals are for.")
    print(f"\n{table(results)}")
    if profiles:
        print("\nWhere the CPU time went:")
    for profile in profiles:
        print("\n".join(profile.lines()))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(command_line.run(bench, "scripts/bench"))
