"""Days and dates of the Gregorian calendar, for any number that a guest may have written into its clock."""

from typing import Final

_DAYS_PER_ERA: Final = 146_097
_YEARS_PER_ERA: Final = 400
#: Days from 1 March of year 0 to 1 January 1970.
_UNIX_EPOCH: Final = 719_468
#: 1 January 1970 was a Thursday; days of the week count from Sunday, 0.
_WEEKDAY_AT_EPOCH: Final = 4


def days_of(year: int, month: int, day: int) -> int:
    """Days since 1 January 1970 of a date; a month or day beyond its range carries over."""
    # The year is counted from March, so that the leap day is its last.
    shifted = month - 3
    year, month = year + shifted // 12, shifted % 12
    era, year_of_era = divmod(year, _YEARS_PER_ERA)
    day_of_year = (153 * month + 2) // 5 + day - 1
    leap_days = year_of_era // 4 - year_of_era // 100
    return era * _DAYS_PER_ERA + year_of_era * 365 + leap_days + day_of_year - _UNIX_EPOCH


def date_of(days: int) -> tuple[int, int, int]:
    """Year, month (from 1) and day (from 1) of a number of days since 1 January 1970."""
    era, day_of_era = divmod(days + _UNIX_EPOCH, _DAYS_PER_ERA)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    year = era * _YEARS_PER_ERA + year_of_era
    return year + (month >= 10), (month + 2) % 12 + 1, day


def weekday_of(days: int) -> int:
    """The day of the week, 0 for Sunday."""
    return (days + _WEEKDAY_AT_EPOCH) % 7
