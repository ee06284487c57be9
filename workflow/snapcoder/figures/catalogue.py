"""Every figure: its name, title, the tables that it is drawn from, and a caption that defines what it shows.

Names do not depend on data: the workflow reads them to know which files there will be. This module draws nothing, so
that the workflow and the report can read it without loading matplotlib.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One figure: `section` is the part of the report that shows it; `tables` names the tables it is drawn from.

    `part` names the optional part of a study that it belongs to; empty: every study has it.
    """

    name: str
    section: str
    title: str
    caption: str
    tables: tuple[str, ...]
    part: str = ""


_AXIS = "Log axes place step 0 at 0.5; small ticks are snapshots."
_BANDS = "Bands are 95% bootstrap intervals over documents."

CATALOGUE: tuple[Figure, ...] = (
    Figure(
        "phases",
        "phases",
        "From n-gram statistics to features",
        "Loss: mean negative log-likelihood on held-out text, with the cross-entropies of smoothed unigram, bigram "
        "and trigram models (counted on training text) on the same tokens. KL(n-gram ‖ model): per context, the mean "
        "over tokens of the divergence to that token's prediction; marginal, the divergence to the prediction "
        "averaged over all contexts (unigram) or over contexts that end in the same token (bigram). Information used "
        "from the context: entropy of the average prediction minus mean entropy of predictions (whole context); the "
        "same with averages per current token (beyond the current token). Dashed lines: phase boundaries from "
        "segmenting these metrics (the lowest panel: feature metrics) on log steps; grey bands: 95% interval of a "
        "boundary; dotted lines: where a cut would lie that one continuous process explains as well; labels: by rule "
        f"(docs/definitions.md). {_BANDS} {_AXIS}",
        ("phase_metrics", "phase_segments", "ngram_entropy"),
    ),
    Figure(
        "phases_linear",
        "phases",
        "The same on a linear axis",
        "The curves of the figure before on linear steps: here a phase takes the room that it takes in training. Log "
        "axes stretch the beginning; a claim about phases should survive this view. Boundaries are those of the linear clock.",
        ("phase_metrics", "phase_segments", "ngram_entropy"),
    ),
    Figure(
        "ngram_text",
        "phases",
        "The model as an n-gram model",
        "Excess loss: the model's loss on text sampled from a unigram, a bigram and a trigram model minus the loss of that "
        "n-gram model on the same tokens (0: the model is that n-gram model; bands: bootstrap over sequences). "
        "Jensen–Shannon divergence between prediction and n-gram model after the same tokens, mean over held-out tokens "
        "(at most log 2). Lower left: R² of the held-out tokens' log-probabilities regressed on those of the three n-gram "
        "models; share of tokens where the model and the nearest of the three (in total variation) have the same first "
        "guess; share where the nearest is the trigram; mean distance to the nearest. Zipf slope: of log probability on "
        "log rank over the upper half of the ranks, each weighted 1/rank, of the prediction averaged over contexts. "
        f"{_BANDS} {_AXIS}",
        ("phase_metrics",),
    ),
    Figure(
        "token_class_loss",
        "phases",
        "Which tokens are learnt first, and where the model passes the trigram",
        "Mean loss on held-out tokens of each class (left), with a diamond and a bar (95% interval) where it has come "
        "halfway from its first to its lowest value; loss of the trigram model on the same tokens minus the model's "
        "(right; cut below −2, above 0 the model is better). Classes are defined by rule (docs/definitions.md; "
        "frequency: bands of the training text, its most frequent tokens first; position: tokens of the sequence before); "
        f"those with fewer than 100 scored tokens are left out. {_BANDS} {_AXIS}",
        ("token_class_loss", "token_classes"),
    ),
    Figure(
        "boundaries",
        "phases",
        "Phase boundaries on four clocks",
        "Where metrics are cut when snapshots weigh as much as the stretch of log steps, linear steps, tokens or loss that "
        "they stand for. A point lies between the last snapshot before a boundary and the first after it; a bar spans the "
        "95% interval, at least that gap. Filled: one continuous process is rejected (p < 0.05, the larger of two "
        "permutation tests); open: it is not, so the cut is no phase boundary. Beside each row: levels or straight "
        "lines, whichever BIC prefers; K segments and the share of bootstrap draws that prefer as many; p. No point: one "
        f"segment. {_AXIS}",
        ("phase_segments",),
    ),
    Figure(
        "onset_histogram",
        "features",
        "When features appear",
        "Above: onsets by norm, the first of several consecutive snapshots with a decoder norm of at least α of the "
        "feature's own maximum; known only up to the interval between two snapshots, which bars span. Below: the "
        "censored distribution of onsets of all live features (Turnbull's estimate) by each kind of evidence, times "
        "the number of features and divided by the width of the interval, in decades of steps (left) or in hundreds of "
        "steps (right); grey: bootstrap 95% interval over features of the first kind. Dotted: as many onsets at a "
        "constant rate along this axis; dashed: a constant chance of every feature still to come. Wide intervals "
        f"collect more onsets: read rates beside counts. {_AXIS}",
        ("feature_timing", "snapshots", "onset_distribution"),
    ),
    Figure(
        "sensitivity",
        "features",
        "What onsets depend on",
        "Above: onsets by norm computed again with other thresholds (present: norm at least α of its own maximum; an "
        "onset: m snapshots in a row) and from every second or third snapshot, with the first and the last; the study's "
        "own choice in red. Bars: the interval of the strongest excess over a constant rate per decade; points: median "
        "onset. Same class: share of live features; rank correlation: over features dated by both. Below: explained "
        "variance of raw activations on held-out rows when a snapshot's decoder is replaced, the code being the same: by "
        "the line in log step between its neighbours' decoders, by the nearer neighbour's, by the line between the first "
        "and the last snapshot's, or by as many principal components of its own activations as features are active. Center "
        f"and scale are the snapshot's own. {_BANDS} {_AXIS}",
        ("threshold_sensitivity", "snapshot_sensitivity", "heldout_snapshots", "onset_distribution"),
    ),
    Figure(
        "lifetime_histogram",
        "features",
        "How long features live",
        "Lifetime: snapshots at which the decoder norm is at least α of the feature's own maximum, counted in "
        "snapshots (left) and as the span of log10 steps that they cover (right; step 0 at 0.5). Dead features are "
        "left out.",
        ("feature_timing", "snapshots"),
    ),
    Figure(
        "norm_trajectories",
        "features",
        "Histories by class",
        "Decoder norm in snapshot-normalised units, divided by the feature's own maximum over snapshots. Thin lines: "
        "up to 24 features spread evenly over the class; thick line and band: median and quartiles of the whole "
        f"class. Classes are defined by rule (docs/definitions.md). {_AXIS}",
        ("feature_trajectory", "feature_timing"),
    ),
    Figure(
        "norm_heatmap",
        "features",
        "Every feature's norm over training",
        "One row per live feature, one column per snapshot: decoder norm divided by the feature's own maximum. Rows "
        "are sorted by class, then by the snapshot of the peak, then by onset. A norm is not presence: compare the "
        "firing rates.",
        ("feature_trajectory", "feature_timing"),
    ),
    Figure(
        "rate_heatmap",
        "features",
        "Every feature's firing rate over training",
        "The same rows in the same order: share of cached tokens on which the feature fires at that snapshot, divided"
        " by the feature's own maximum over snapshots.",
        ("feature_trajectory", "feature_timing"),
    ),
    Figure(
        "presence_evidence",
        "features",
        "Presence: the norm beside other evidence",
        "Upper left: share of live features that each evidence calls present. Norm: at least α of its own maximum; fires: at "
        "least the rate floor; regression: significant after token permutations (FDR within the snapshot) and √R² at least α "
        "of its maximum; probe: the interval of the AUROC of a linear probe for the feature's tokens lies above the bound; "
        "latent scaling: amplitude in the error plus the own contribution, along its best direction, at least α of its value "
        "at the peak; combined: docs/definitions.md. Upper right: features that the dictionary calls absent at a snapshot. "
        "Confirmed: no evidence puts them there; decoupled: other features cover them; shrinkage: the signal is in the error, "
        "the decoder too small. Lower left: norm against AUROC, all live features and snapshots; line: median; ρ: median over "
        "features of Spearman's correlation over snapshots, with its distribution-free 95% interval. Lower right: "
        f"verdicts on the onset that the norm gives. {_AXIS}",
        ("feature_presence", "feature_onsets"),
    ),
    Figure(
        "rotation_rate",
        "directions",
        "When directions turn",
        "Top left: median angle between a feature's decoder directions at neighbouring snapshots, over features that fire "
        "at both, without the part that estimation alone makes (dotted: with it), per decade of steps. Top right: the "
        "same as −2 ln cos, the squared angle when small: it adds up where directions wander rather than turn steadily, "
        "so that short intervals look no faster. Orange: after the best orthogonal map between the two snapshots' "
        "decoders (Procrustes), which takes out a rotation common to all features. Bars: 95% bootstrap intervals over "
        "features; grey band: that of the place of fastest turning. Bottom left: median cosine to the direction at the "
        "last snapshot. Bottom right: share of the turn that the common rotation explains; below 0, its estimate costs "
        f"more than it explains. {_AXIS}",
        ("rotation_intervals", "turning_points", "rotation_summary"),
    ),
    Figure(
        "cosine_matrix",
        "directions",
        "Directions at all pairs of snapshots",
        "Median cosine of decoder directions over the features alive at both snapshots; the same after the best "
        "orthogonal map between the decoders; and linear CKA of the raw activations on the same tokens. Two blocks "
        "along the diagonal would be one turning point; dashed: the best split into two blocks, which smooth drift has, "
        "too. White is zero.",
        ("rotation_summary", "turning_points"),
    ),
    Figure(
        "dimensionality",
        "directions",
        "How many dimensions features fill",
        "Top left: Σ D_i / d with D_i = ‖W_i‖² / Σ_j (Ŵ_i·W_j)², beside random directions with the same norms, "
        "isotropic or drawn with the covariance of that snapshot's activations (mean and 95% of draws). Top right: the rate "
        "less each null, with 95% intervals over features and draws. A dip that both curves show is more than norms and "
        "spectrum make. Bottom left: the rate over alive features, and without the direction of the mean activation, the "
        "activations' first principal direction, or the decoder's own. Bottom right: participation ratio (Σλ)²/Σλ² of "
        "the covariance of the raw activations (band: bootstrap over documents) and of the decoder, as shares of d, and "
        f"the variance share of the first principal direction. {_AXIS}",
        ("dimensionality",),
    ),
    Figure(
        "complexity_onset",
        "features",
        "Complexity and type against onset",
        "Rule-based complexity (1 one token … 5 wide context; docs/definitions.md) against the end of the onset "
        "interval, for features whose onset lies between two snapshots. Points are jittered; the line joins the mean "
        "complexity of onsets with three features or more. ρ: Spearman's correlation of onset by norm and complexity with "
        "BCa 95% interval over features and two-sided permutation p, corrected over the family; all: with the "
        "features of the first snapshot, which are not drawn. Right: onsets by type of feature (ticks), with the median and its "
        f"distribution-free 95% interval where n > 5. {_AXIS}",
        ("feature_timing", "complexity", "snapshots", "order_tests"),
    ),
    Figure(
        "context_window",
        "features",
        "How many tokens of context features need",
        "Tokens of context needed: the shortest suffix of a feature's strongest contexts, its own token counted, that keeps "
        "90% (context.share) of its activation when the snapshots are run on it alone; median over a few contexts. "
        "Left: against the end of the onset interval, for features whose onset lies between two snapshots; points are "
        "jittered, orange: median and quartiles of onsets with three features or more. ρ: Spearman's correlation with "
        "BCa 95% interval and corrected two-sided permutation p, plain and with the ranks of firing rate and norm held fixed. "
        f"Right: share of the features of a type for which so many tokens are enough. {_AXIS}",
        ("context_length", "feature_timing", "complexity", "snapshots", "order_tests"),
    ),
    Figure(
        "formation",
        "features",
        "When features form in the activations",
        "How alike a feature's strongest rows are: mean cosine of the centred activations between its rows in one half "
        "of the documents and its rows in the other; no decoder and no norm. Left: minus the same for rows with the same "
        "tokens, chosen at random; grey: rows chosen along random directions of the same activations, from the median "
        "to the 95% quantile. Middle: minus the same for random rows, the control of SAE-Track: tokens alone make "
        "rows alike before any training. Lines and bands: medians and quartiles over the features of a class. Right: the "
        "end of the onset interval by formation (left panel; by the rule of the norm) against that by norm, emergent "
        f"features; areas show numbers of features. {_AXIS}",
        ("feature_formation", "formation_onset", "feature_timing"),
    ),
    Figure(
        "task_performance",
        "tasks",
        "What the model can do, and since when",
        "Share of examples with logit(right) > logit(wrong), with bootstrap 95% intervals over examples; dashed: "
        "guessing between the two answers. Filled points: the whole interval of the accuracy lies above chance and "
        f"that of the logit difference above 0. The title names the snapshot from which this holds to the end. {_AXIS}",
        ("task_performance",),
    ),
    Figure(
        "attribution",
        "tasks",
        "Which features carry a task",
        "Integrated-gradients attribution to the task's logit difference (from the patch prefix to the clean one; "
        "summed over positions, averaged over examples) of the 15 features with the largest absolute attribution at "
        "any snapshot, ordered by the snapshot where that happens. Red helps the right answer. Grey: not among the "
        "features kept at that snapshot. Only snapshots that can do the task are attributed. Up to four tasks, "
        "acquired ones first.",
        ("attribution", "task_performance"),
    ),
    Figure(
        "attribution_truth",
        "tasks",
        "Attribution against exact effects",
        "Each point is a feature: its attribution (integrated gradients from the patch prefix, as elsewhere) against how much "
        "the mean logit difference falls when this feature alone takes its patch value, at the acquired snapshot with the "
        "highest accuracy. Blue: the strongest by attribution; grey: others, most of them drawn at random. Dashed: equality. "
        "r and slope (of attribution on exact effect) are over all points; r held out compares with effects on examples that "
        "ranked no feature: where it is low, the ranking tells of its own examples only. Up to six tasks.",
        ("attribution", "attribution_quality", "task_performance"),
    ),
    Figure(
        "ablation",
        "tasks",
        "How few features matter",
        "Left (disrupt): the top-k features take the value that they have on the patch prefix. Right (restore): all "
        "features but the top k do. The mean logit difference on examples that did not rank the features. Lines: features "
        "ranked by absolute attribution at that snapshot, band: bootstrap 95% interval at the last snapshot shown. Bars: "
        "range over draws of as many features at random, and of features in the same deciles of decoder norm and firing "
        "rate as the top k but none of them, at the last snapshot (dash: mean). All: the whole dictionary; the "
        "reconstruction error keeps its clean value throughout.",
        ("ablation_curves", "task_performance"),
    ),
    Figure(
        "ablation_baselines",
        "tasks",
        "Features beside neurons, and three kinds of ablation",
        "All units but the first k are ablated. Left, at the task's last snapshot: share of the effect, (m(k) − m(0))/(m(all) "
        "− m(0)), for features of the dictionary, coordinates of the residual stream (neurons) and principal directions of its "
        "activations, each ranked by absolute attribution with the same gradients, and for features by decoder norm; ablated "
        "units take their patch value. Middle: mean logit difference, features by attribution, when ablated ones take their "
        "value on the patch prefix (resample), their mean over cached rows, or zero. Right: the number of units at which one "
        "half is reached (dashed on the left), with bootstrap 95% intervals; final ranking: the order of the last attributed "
        "base snapshot. No point where the effect is below 3 standard errors. There are more features than neurons, and "
        "features leave an error term that stays clean: all of them need not move the metric as far.",
        ("ablation_curves", "ablation_summary", "task_performance"),
    ),
    Figure(
        "task_carriers",
        "tasks",
        "Since when the features of a task are there",
        "Carriers (among the largest absolute attributions at some snapshot), the twelve with the largest mean share of the "
        "task's attribution, up to four tasks. Bars: the interval in which the feature's lasting presence begins, by "
        "combined evidence; a bar from the left edge: perhaps there from the start. Grey band: acquisition of the task, its "
        "95% interval or the snapshots around it. Colours: whether all places in both intervals put the onset before, or "
        "after, the acquisition. Diamonds: centroid of the feature's attribution over the snapshots that can do the task "
        f"(RelIE), which cannot lie before the first of them. {_AXIS}",
        ("attribution_report", "task_feature_timing", "task_performance"),
    ),
    Figure(
        "task_relie",
        "tasks",
        "When features do their work for a task",
        "The same carriers, in the order of their centroid: absolute attribution at each snapshot that can do the task, as "
        "a share of the feature's own sum over these snapshots (RelIE, left); the same of the decoder norm (RelDec, right), "
        "which knows nothing of the task. Circles: the feature with the largest absolute attribution at the snapshot, where "
        "it is among those shown; filled where it is clearly ahead of a rival (p < 0.05, corrected), open where it is not.",
        ("relie", "attribution_report", "handover", "task_performance"),
    ),
    Figure(
        "reconstruction",
        "dictionary",
        "How well the dictionary reconstructs each snapshot",
        "Explained variance 1 − Σ‖x−x̂‖²/Σ‖x−x̄‖² on held-out rows in normalised units, pooled over rows, and as the "
        "mean of per-row ratios. L0: mean number of active features per token. Diamonds: snapshots added through an "
        f"extension. {_AXIS}",
        ("recon_metrics", "extension_metrics"),
    ),
    Figure(
        "recovered_loss",
        "dictionary",
        "What the dictionary keeps of what the model uses",
        "Held-out text read with something else in place of the activations after the block: the dictionary's reconstruction "
        "(its error dropped), their mean, or zero. Recovered: (loss of the ablation − loss of the reconstruction) / (loss of "
        "the ablation − loss of the model itself). Below: the same with each task's mean logit difference, from the patch "
        "prefix's activations (0) to the clean prefix's (1), up to eight tasks that are acquired at the end (bars: 95% over clusters "
        "of examples). Shares are left out where the denominator is below 3 of its standard errors: early on there is little "
        f"that could be lost. {_BANDS} {_AXIS}",
        ("reconstruction_loss", "task_reconstruction", "task_performance"),
    ),
    Figure(
        "crosscoder_training",
        "dictionary",
        "Training of the dictionary",
        "Held-out explained variance and active features per token, one line per snapshot (dark: late), and the share"
        " of features that did not fire since the row before, over crosscoder training steps. The first panel should "
        "have levelled off: late and short-lived features are learnt last.",
        ("crosscoder_training",),
    ),
    Figure(
        "pareto",
        "dictionary",
        "Reconstruction against sparsity",
        "Left: explained variance of held-out rows and L0, both pooled over all base snapshots, one line per arm and "
        "dictionary size F, labelled with the sparsity setting at its largest or smallest F. Points are means over seeds, bars span "
        "the lowest and highest seed (no interval of confidence). A line joins its front; a cross is dominated: another "
        "point of the same arm and size explains as much with as few active features. The grey stairs are the front of "
        "all points. Right: open marks are sparse autoencoders (SAEs), one for each of a few snapshots, trained by the "
        "same code with the same F; filled marks are the crosscoders at just these snapshots; both are means over "
        "them (+: a dominated SAE). Below: the crosscoders at their middle sparsity, snapshot by snapshot; open marks, the same snapshot's "
        "SAEs at equal L0 (linear in log L0 between SAEs of the same arm, F and seed; none where the crosscoder's L0 "
        "lies more than 5% outside theirs). An SAE serves its own snapshot only, so the crosscoder may lose a little "
        f"and still describe all of them with one code. {_AXIS}",
        ("sweep_metrics",),
        part="sweep",
    ),
    Figure(
        "controls",
        "dictionary",
        "What holds with one thing changed",
        "Top left: classes of live features in the study and in each control, with Wilson 95% intervals. Top right: when "
        "landmarks of training come in models of another seed or learning-rate warm-up; dotted: where the warm-ups end. "
        "Bottom left: how well each feature is found again in dictionaries of other seeds; dashed, the 95th percentile of "
        "the best match after turning the other dictionary at random. Bottom right: median cosine of directions to the "
        "final ones, in the shared dictionary and in sparse autoencoders of single snapshots, and between the two. "
        f"{_AXIS}",
        ("control_statistics", "warmup_control", "seed_stability", "feature_stability", "sae_series_check"),
        part="controls",
    ),
    Figure(
        "training",
        "dictionary",
        "Training of the language model",
        "Loss of each training batch, learning rate, and gradient norm before clipping; coloured: median over steps "
        "within 7%. Grey lines mark the snapshots. Transitions inside the warm-up may be facts about the schedule. "
        f"{_AXIS}",
        ("training_log", "snapshots"),
    ),
)

FIGURES: tuple[str, ...] = tuple(figure.name for figure in CATALOGUE)


def figures_of(part: str = "", *, of_tasks: bool | None = None) -> tuple[Figure, ...]:
    """Return the figures that every study has, or those of one optional part.

    of_tasks: only those about tasks (True), or only the others (False); they are drawn by a step each, because tasks are
    the last to be done.
    """
    chosen = (figure for figure in CATALOGUE if figure.part == part)
    return tuple(figure for figure in chosen if of_tasks is None or (figure.section == "tasks") == of_tasks)


def tables_of(figures: tuple[Figure, ...]) -> frozenset[str]:
    """Return the names of the tables that figures are drawn from."""
    return frozenset(name for figure in figures for name in figure.tables)
