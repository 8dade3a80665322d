"""Alembic's entry: the engine comes from whoever migrates, the schema from relay.store."""

from alembic import context

from relay.store.schema import metadata

given = context.config.attributes.get("connection")  # a restore: its transaction, its commit
if given is not None:
    context.configure(connection=given, target_metadata=metadata)
    context.run_migrations()
else:
    with context.config.attributes["engine"].connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=False)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
