"""Between the requests and the database: lines by precedence, checks, and the one place where the logs grow."""
