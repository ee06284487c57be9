"""Every declared table, by name."""

from snapcoder.storage.tables import TableSchema
from snapcoder.tables import corpus, crosscoder, evolution, features, order, phases, snapshots, sweep, tasks

TABLES: dict[str, TableSchema] = {
    schema.name: schema
    for room in (corpus, snapshots, crosscoder, sweep, evolution, order, phases, tasks, features)
    for schema in room.ALL
}
