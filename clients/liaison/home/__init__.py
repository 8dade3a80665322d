"""What stays on this machine: keys under a passphrase, and a database that tells nothing of what is in it."""
