"""Delete videos that nobody wants any more, with their rows. What `vidrec prune` does."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidrec.tools.listing import ListedVideo
from vidrec.tools.query import Condition, Row, rank

DELETED, TO_BE_DELETED = "deleted", "to be deleted"

Rows = Sequence[tuple[Row, ListedVideo]]
"""Videos, and what is known of each by column, see `vidrec.tools.query`."""


def unwanted(
    rows: Rows,
    *,
    where: Iterable[Condition] = (),
    keep_best: int | None = None,
    per: Sequence[str] = (),
    older_than_s: float | None = None,
) -> list[ListedVideo]:
    """Return the videos that each of these lets go, of those that have a row in ``videos.csv``.

    Args:
        rows: the videos.
        where: none but those for which these hold.
        keep_best: all but this many with the highest return; of equal ones the first stays. A video without a return
            stays.
        per: this many for each value of these columns, or each combination of their values.
        older_than_s: those that were recorded longer ago, in seconds.
    """
    conditions = list(where)
    left = [(row, video) for row, video in rows if video.index is not None and all(holds(row) for holds in conditions)]
    if keep_best is not None:
        groups: dict[Any, list[tuple[Row, ListedVideo]]] = defaultdict(list)
        for row, video in left:
            if video.return_ is not None:
                groups[tuple(row[name] for name in per)].append((row, video))
        best_first = (sorted(group, key=lambda one: rank(one[0]["return"]), reverse=True) for group in groups.values())
        beyond = {video.path for group in best_first for _, video in group[keep_best:]}
        left = [(row, video) for row, video in left if video.path in beyond]
    return [video for _, video in left if older_than_s is None or video.age_s > older_than_s]


@dataclass(frozen=True)
class Pruned:
    """What became of a video that nobody wants: "deleted", "to be deleted", "kept: ..." or "failed: ..."."""

    video: ListedVideo
    outcome: str

    @property
    def failed(self) -> bool:
        return self.outcome.startswith("failed")


def prune(videos: Iterable[ListedVideo], *, dry_run: bool = False) -> Iterator[Pruned]:
    """Delete videos that have a row, and that, while nobody else writes their index; yield what became of each.

    Args:
        videos: as `unwanted` returned them.
        dry_run: change nothing, and yield what would be.
    """
    by_index: dict[Path, list[ListedVideo]] = defaultdict(list)
    for video in videos:
        assert video.index is not None
        by_index[video.index.path].append(video)
    for group in by_index.values():
        done = {} if dry_run else _delete(group)
        for video in group:
            yield Pruned(video, TO_BE_DELETED if dry_run else done[video.path])


def _delete(videos: Sequence[ListedVideo]) -> dict[Path, str]:
    """Delete videos of one index; return what became of each."""
    index = videos[0].index
    assert index is not None
    try:
        done = index.delete(video.row for video in videos if video.row is not None)
    except (OSError, csv.Error) as error:
        return {video.path: f"failed: {error}" for video in videos}
    outcomes = {}
    for video in videos:
        assert video.row is not None
        if (file := video.row["file"]) not in done:
            outcomes[video.path] = "kept: its row has changed"
        else:
            outcomes[video.path] = DELETED if done[file] is None else f"failed: {done[file]}"
    return outcomes
