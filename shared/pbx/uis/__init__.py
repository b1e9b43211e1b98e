"""UIS, CoMagic and CallGear: notifications and route questions in, JSON-RPC 2.0 out."""
