"""Every declared table, by name."""

from snapcoder.storage.tables import TableSchema
from snapcoder.tables import corpus, crosscoder, directions, evolution, features, phases, snapshots, sweep, tasks

TABLES: dict[str, TableSchema] = {
    schema.name: schema
    for room in (corpus, snapshots, crosscoder, sweep, evolution, directions, phases, tasks, features)
    for schema in room.ALL
}
