"""``scripts/mutants``: arguments, progress, the table.

Exit status: 0 every bug is caught; 1 one survived, or could not be planted; 2 wrong arguments; 130 interrupted.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import click

import command_line
from mutation import bugs_above, bugs_account, bugs_below, bugs_content
from mutation.bug import Bug
from mutation.planting import Unfit, copy_of_the_tree, fails, is_caught, misplaced

ALL = (*bugs_below.BUGS, *bugs_content.BUGS, *bugs_account.BUGS, *bugs_above.BUGS)


@click.command("mutants", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, metavar="NAME", help="Plant this one; can be given more than once.")
@click.option("--list", "only_list", is_flag=True, help="Show what would be planted, and run nothing.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="So many at a time.")
def mutants(only: tuple[str, ...], only_list: bool, jobs: int) -> int:
    """Plant bugs in a copy of the tree, and show that the tests find them."""
    names = {bug.name for bug in ALL}
    unknown = sorted(set(only) - names)
    if unknown:
        raise click.BadParameter(f"there is no {', '.join(unknown)}", param_hint="--only")
    chosen = tuple(bug for bug in ALL if not only or bug.name in only)
    if only_list:
        for bug in chosen:
            click.echo(_line(bug, ""))
    problems = misplaced(chosen)
    for problem in problems:
        click.echo(problem, err=True)
    if only_list or problems:
        return int(bool(problems))
    _require_sound(chosen)
    return _run(chosen, jobs)


def _require_sound(bugs: tuple[Bug, ...]) -> None:
    """The tests pass without any bug, or their failures would tell nothing."""
    with copy_of_the_tree() as top:
        if fails(top, *sorted({bug.test_id for bug in bugs})):
            raise click.ClickException("a test fails without any bug: run scripts/test first")


def _run(bugs: tuple[Bug, ...], jobs: int) -> int:
    survived, unfit = 0, 0

    def verdict_on(bug: Bug) -> str:
        try:
            return "caught" if is_caught(bug) else "SURVIVED"
        except Unfit as error:
            return f"UNFIT: {error}"

    with ThreadPoolExecutor(jobs) as pool:
        for bug, verdict in zip(bugs, pool.map(verdict_on, bugs), strict=True):
            click.echo(_line(bug, verdict))
            survived += verdict == "SURVIVED"
            unfit += verdict.startswith("UNFIT")
    click.echo(f"{len(bugs)} bugs planted, {len(bugs) - survived - unfit} caught, {survived} survived")
    return int(bool(survived or unfit))


def _line(bug: Bug, verdict: str) -> str:
    return f"{bug.name:<45} {bug.file:<36} {bug.test_id:<70} {verdict}".rstrip()


if __name__ == "__main__":
    sys.exit(command_line.run(mutants, "scripts/mutants"))
