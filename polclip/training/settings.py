"""How long, how fast and over what a model is trained."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """Batches, rates and lengths of training; config.yaml says why each has its value."""

    start_from: str | None  # the experiment whose model training starts from
    tasks: Sequence[str]  # textual and visual, or one of them for an ablation
    epochs: int
    max_steps: int | None  # None: all of the epochs
    words: int  # textual instances a step, at most
    glosses: int  # distinct ones a step, at most
    pictures: int  # distinct ones a step, at most
    pictures_per_sense: int
    phrases: int  # of senses with pictures, beside the words of a step
    own_candidates: bool  # a word is compared with its own candidate senses alone, not with all of the step
    sense_table: bool  # words are compared with stored vectors of all their candidates, refreshed at every look
    pictures_every: int  # with a sense table, steps from one with phrases and pictures to the next
    learning_rate: float  # of what starts from nothing: generators and fusion
    pretrained_learning_rate: float  # of what starts from the towers
    context_learning_rate: float  # of a pair's text tower for words in context
    rise: float  # share of the training in which the rates rise
    weight_decay: float
    clip_norm: float
    average: float | None  # of the weights' moving average, what a step leaves of it; None: the weights themselves
    accumulate: int  # steps whose gradients are added before the optimizer's
    precision: str  # no | bf16 | fp16
    dev_every: int  # steps between two looks at the dev sets
    dev_instances: int  # at most so many of each dev set are looked at
    patience: int | None  # looks without a better score before training stops; None: it goes on to the end
    save_minutes: float  # between two saves of the state that a killed training goes on from
    tensorboard: bool


@dataclass(frozen=True)
class AlignmentSettings:
    """How the heads over two unimodal towers are trained (none of it applies to a CLIP)."""

    epochs: int
    batch: int  # pictures a step
    learning_rate: float  # of the image head; the peak of a one-cycle schedule
    text_learning_rate: float
    weight_decay: float
    temperature: float  # where the learned one starts
    hidden: int
    channel_dropout: float
    dropout: float
    members: int  # image heads that are trained side by side and averaged
    sense_weight: float  # of the concept that a picture gets from the training senses
    word_epochs: int  # passes over the textual corpus that train the word head afterwards
    word_batch: int
    word_learning_rate: float
