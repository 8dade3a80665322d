"""Other systems doing as much of the same work as they do: a durable 4 KiB message to one recipient, and its fetch."""
