"""Every declared table, by name."""

from snapcoder.storage.tables import TableSchema
from snapcoder.tables import behaviour, corpus, crosscoder, evolution, features, phases, snapshots, sweep, tasks

TABLES: dict[str, TableSchema] = {
    schema.name: schema
    for room in (corpus, snapshots, crosscoder, sweep, evolution, phases, behaviour, tasks, features)
    for schema in room.ALL
}
