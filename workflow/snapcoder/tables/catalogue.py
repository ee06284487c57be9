"""Every declared table, by name."""

from snapcoder.storage.tables import TableSchema
from snapcoder.tables import (
    ablation,
    attribution,
    behaviour,
    controls,
    corpus,
    crosscoder,
    directions,
    evolution,
    features,
    order,
    phases,
    presence,
    report,
    snapshot_features,
    snapshots,
    sweep,
    tasks,
    timing,
)

TABLES: dict[str, TableSchema] = {
    schema.name: schema
    for room in (
        corpus,
        snapshots,
        crosscoder,
        sweep,
        controls,
        snapshot_features,
        evolution,
        directions,
        timing,
        presence,
        order,
        phases,
        behaviour,
        tasks,
        ablation,
        attribution,
        features,
        report,
    )
    for schema in room.ALL
}
