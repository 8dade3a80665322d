"""What an operator does to the database beside serving it: back up, restore, check."""
