"""Evidence packages: collected by who was a party or may audit, verified by anybody, offline."""
