"""The protocol: bytes to messages and back, shared by client and node. PURE.

``messages`` says what is said, ``codec`` how it looks in frames, ``pipe`` how frames travel on a stream;
``docs/protocol.md`` is the contract.
"""
