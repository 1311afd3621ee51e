# SPDX-License-Identifier: Apache-2.0
"""Cron schedules with time zones. Pure; read by `plan/indexes.py`."""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter

from lateen_api.rag_index import Schedule


def check(schedule: Schedule) -> None:
    """Raise ValueError, saying what is wrong, unless the schedule can be followed."""
    try:
        ZoneInfo(schedule.time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"spec.schedule.timeZone {schedule.time_zone!r} is not an IANA time zone") from error
    try:
        croniter(schedule.cron)
    except (CroniterError, ValueError) as error:
        raise ValueError(f"spec.schedule.cron {schedule.cron!r}: {error}") from error


def tick(schedule: Schedule, now: float, *, following: bool) -> float:
    """Unix time of the last tick at or before `now`, or of the next one after it."""
    iterator = croniter(schedule.cron, datetime.fromtimestamp(now, ZoneInfo(schedule.time_zone)))
    moment: datetime = iterator.get_next(datetime) if following else iterator.get_prev(datetime)
    return float(moment.timestamp())
