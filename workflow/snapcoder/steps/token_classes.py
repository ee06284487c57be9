"""Step `token_classes`: loss curves of classes of tokens, and when each class is learnt."""

import pandas as pd

from snapcoder.job import Job
from snapcoder.phases.class_losses import class_losses
from snapcoder.storage.tables import read_table, write_table
from snapcoder.study.analysis import BehaviourSettings
from snapcoder.tables.behaviour import TOKEN_CLASS_CONTRASTS, TOKEN_CLASS_LOSS, TOKEN_CLASSES


def token_classes(job: Job) -> None:
    """Write the tables token_class_loss, token_classes and token_class_contrasts."""
    settings = job.section("behaviour", BehaviourSettings)
    sums = pd.concat([read_table(path) for path in job.paths("sums")], ignore_index=True)
    losses, moments, contrasts = class_losses(sums, bootstrap=settings.bootstrap, seed=settings.seed)
    write_table(job.output("losses"), losses, TOKEN_CLASS_LOSS, job.core)
    write_table(job.output("classes"), moments, TOKEN_CLASSES, job.core)
    write_table(job.output("contrasts"), contrasts, TOKEN_CLASS_CONTRASTS, job.core)
