"""Alembic's entry: the engine comes from whoever migrates, the schema from relay.store."""

from alembic import context

from relay.store.schema import metadata

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=False)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
