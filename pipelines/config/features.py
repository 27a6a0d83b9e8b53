"""What the model sees beside the columns of events."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema, model_validator

from pipelines.config.base import Config, Name

# `all` is written out before a problem is checked.
_LIST_OR_ALL = {"anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"const": "all"}]}


class History(Config):
    """A feature over the past of the same group, as known at the event's cut-off."""

    by: list[str] = Field(description="columns that form the group; none: all events")
    of: str = Field("label", description="label, or the column of events that is aggregated")
    function: Literal["mean", "sum", "count", "min", "max", "std", "last", "distinct", "time_since"] = Field(
        "mean", description="std is the sample's; distinct counts values; time_since gives days since the last event"
    )
    window_days: int = Field(ge=1, description="how far back events count, in days before the cut-off")
    unit: str = Field("", description="what a value counts, for the feature schema and the model card")
    description: str = Field("", description="what it means, for the feature schema and the model card")
    owner: str = Field("", description="who answers for it; empty: the problem's owner")


class Cross(Config):
    """A category made of several columns' values."""

    of: list[str] = Field(min_length=2, description="columns; a missing value among them gives a missing value")
    description: str = Field("", description="what it means, for the feature schema and the model card")
    owner: str = Field("", description="who answers for it; empty: the problem's owner")


ROUNDS = ("hour", "day", "week", "month", "quarter", "year")
"""From the shortest to the longest."""


class DatetimePart(Config):
    """A part of a time, in the problem's time zone; or how long before the cut-off it was."""

    of: str = Field("event_time", description="event_time, cutoff_time or a timestamp column")
    part: Literal["minute", "hour", "weekday", "day", "week", "month", "quarter", "year", "age"] = Field(
        description="weekday: 1 is Monday; hour has its minutes as a fraction; age: days from then to the cut-off, "
        "with a fraction, below 0 of what is still to come"
    )
    cyclical: bool = Field(
        False, description="two features, <name>_sin and <name>_cos, in which the last is next to the first"
    )
    description: str = Field("", description="what it means, for the feature schema and the model card")
    owner: str = Field("", description="who answers for it; empty: the problem's owner")

    @model_validator(mode="after")
    def _goes_round(self) -> DatetimePart:
        if self.cyclical and self.part in ("year", "age"):
            raise ValueError(f"cyclical: {'a year' if self.part == 'year' else 'an age'} does not come again")
        if (self.of, self.part) == ("cutoff_time", "age"):
            raise ValueError("of: the cut-off is 0 days before the cut-off, of each event")
        return self

    def is_of_calendar(self, every: str) -> bool:
        """Whether the partition that an event lies in tells it already: of the event's own time, and of a round that
        takes longer than a partition.

        >>> weekday = DatetimePart(part="weekday")
        >>> weekday.is_of_calendar("day"), weekday.is_of_calendar("week")
        (True, False)
        """
        rounds = {"minute": "hour", "hour": "day", "weekday": "week", "day": "month"}
        is_own = self.of in ("event_time", "cutoff_time") and self.part != "age"
        if not is_own or every == "delivery":
            return False
        longest = rounds.get(self.part, "year")
        return ROUNDS.index(every) < ROUNDS.index(longest)


class Features(Config):
    """What a model sees of an event."""

    columns: Annotated[list[str], WithJsonSchema(_LIST_OR_ALL)] = Field(
        min_length=1,
        description="event columns that the model sees. all: those that are no timestamps and not known only later",
    )
    exclude: list[str] = Field([], exclude=True, description="columns that `all` leaves out")
    history: dict[Name, History] = Field({}, description="features over the past of a group")
    crosses: dict[Name, Cross] = Field({}, description="features of several columns")
    datetime: dict[Name, DatetimePart] = Field({}, description="features out of times")
