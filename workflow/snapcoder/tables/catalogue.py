"""Every declared table, by name."""

from snapcoder.storage.tables import TableSchema
from snapcoder.tables import corpus, crosscoder, evolution, features, phases, snapshot_features, snapshots, sweep, tasks

TABLES: dict[str, TableSchema] = {
    schema.name: schema
    for room in (corpus, snapshots, crosscoder, sweep, snapshot_features, evolution, phases, tasks, features)
    for schema in room.ALL
}
