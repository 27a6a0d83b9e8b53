"""Where truth comes from and when."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipelines.config.base import ClassName, Config, LabelSource, Name


class LabelingFunction(Config):
    """Votes on events: 1, 0, or null where it abstains."""

    sql: str | None = Field(None, description="expression over the columns of events")
    python: str | None = Field(
        None, pattern=r"^[\w.]+:\w+$", description="module:function; takes a pyarrow Table of events, gives an array"
    )

    @model_validator(mode="after")
    def _one_language(self) -> LabelingFunction:
        if (self.sql is None) == (self.python is None):
            raise ValueError("a labeling function has one of sql and python")
        return self


class Weak(Config):
    """Weak supervision: many rough functions vote, and their combination labels (Huyen, ch. 4)."""

    functions: dict[Name, LabelingFunction] = Field(min_length=1)
    combine: Literal["majority", "dawid_skene"] = Field(
        "dawid_skene", description="how votes become a label: by majority, or by how reliable each function is"
    )
    min_confidence: float = Field(0.6, ge=0.5, le=1, description="below it an event stays without a label")


class Hand(Config):
    """Labels that people are asked for in Airflow's UI."""

    question: str = Field(min_length=1, description="what they are asked about each event")
    batch: int = Field(10, ge=1, le=100, description="events asked about in one run")
    choose: Literal["random", "uncertainty", "margin", "disagreement"] = Field(
        "uncertainty", description="which events: any, or those that the champion or the candidates are least sure of"
    )
    annotators: int = Field(1, ge=1, le=9, description="people who are asked about each event")
    combine: Literal["majority", "dawid_skene"] = Field(
        "majority", description="how answers become a label: by majority, or by how reliable each person is"
    )
    show: list[str] = Field([], description="columns that help them to answer; empty: the features")
    answer_within_hours: int = Field(72, ge=1, description="then the run goes on with the answers it has")
    seed: int = Field(0, description="decides among events that are as unsure")


class SelfTraining(Config):
    """A model labels what it is sure of, and learns from that (scikit-learn's SelfTrainingClassifier)."""

    candidate: str = Field(description="one of training.candidates")
    threshold: float = Field(0.95, gt=0.5, le=1, description="probability of a class at which its label is taken")
    max_iterations: int = Field(5, ge=1, description="rounds of labelling and learning, at most")


class Labels(Config):
    """Where truth comes from and when."""

    delay_days: int = Field(0, ge=0, description="days between a label's own known_time and its arrival here")
    description: str = Field("", description="what a label means, for the model card")
    unit: str = Field("", description="of a regression's label, such as minute or degF; another one is told by it")
    classes: list[ClassName] = Field(
        [], description="task multiclass: the names that labels.sql gives, in the order of the scores"
    )
    maturity_days: int | None = Field(
        None,
        ge=0,
        description="days after its end from which a partition is learnt from; null: delay_days, "
        "and longer where labels of earlier partitions took longer",
    )
    after_maturity: Literal["leave_out", "negative"] = Field(
        "leave_out", description="what an event is that has no label by then: unlabelled is not negative, unless it is"
    )
    use: list[LabelSource] = Field(
        ["hand", "natural"], min_length=1, description="sources to learn from, the most trusted first"
    )
    weigh_by_confidence: bool = Field(False, description="a training row weighs by its label's confidence")
    hand: Hand | None = None
    weak: Weak | None = None
    self_training: SelfTraining | None = None

    @model_validator(mode="after")
    def _declared(self) -> Labels:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a class is named twice")
        if len(set(self.use)) != len(self.use):
            raise ValueError("use: a source is named twice")
        for source, section in (("weak", "weak"), ("self_trained", "self_training")):
            if source in self.use and getattr(self, section) is None:
                raise ValueError(f"use: {source} needs labels.{section}")
        if self.maturity_days is not None and self.maturity_days < self.delay_days:
            raise ValueError(f"maturity_days ({self.maturity_days}) ends before labels arrive ({self.delay_days} days)")
        return self

    @property
    def are_made(self) -> bool:
        """Whether there are labels that do not come by themselves: from functions, people or a model."""
        return bool(self.weak or self.hand or self.self_training)

    @property
    def mature_after_days(self) -> int:
        return self.delay_days if self.maturity_days is None else self.maturity_days
