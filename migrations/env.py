"""Alembic's entry: the engine comes from whoever migrates, the schema from relay.store."""

from alembic import context

from relay.store.schema import metadata

given = context.config.attributes.get("connection")  # a restore: its transaction, its commit
if given is not None:
    context.configure(connection=given, target_metadata=metadata)
    context.run_migrations()
else:
    with context.config.attributes["engine"].connect() as connection:
        if connection.dialect.name == "postgresql":
            # A migration waits behind no long look, and nobody waits behind it: whoever serves goes on serving.
            connection.exec_driver_sql("SET lock_timeout = '3s'")
            # One at a time; held until this connection is closed.
            connection.exec_driver_sql("SELECT pg_advisory_lock(4774)")
            connection.commit()  # both are the session's; a migration may take several transactions of its own
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=False)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
        connection.invalidate()  # closes it: neither the lock nor the setting goes back into the pool
