"""A door on this machine for a system that cannot do cryptography: it speaks HTTP and JSON, `Client` does the rest.

The rules:
  - the loopback address only; whoever comes has the secret, and is no browser (`door.py`);
  - one thread has the client, and everybody waits for a turn (`turn.py`);
  - what is sent has a key of the caller's, and is sealed once under it, whatever is asked again (`keyed.py`);
  - a webhook rings and says nothing: what there is to read is asked for here (`webhook.py`).
"""
