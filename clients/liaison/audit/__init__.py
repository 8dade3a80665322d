"""The access log as an auditor has it: pulled, verified, added up, and told to people and to other programs."""
